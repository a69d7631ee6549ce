"""A kernel: everything compiled for one single graph, lazily, for the life of the process.

Signatures with equal graphs share a kernel, whichever parameters they read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..backends.transfer import DEVICES
from ..ir.graph import Graph
from ..ir.simplify import simplify
from ..ops.custom import CUSTOM
from .batch import batch
from .cuda.lower import CudaProgram, lower_cuda
from .host.driver import Program
from .host.indices import IndexPart, index_part
from .host.lower import lower, steps_of
from .rewrites.merge_matmuls import derive, merge_matmuls
from .rewrites.residuals import read_in_pools
from .split import Pieces, split
from .steps import Steps
from .text import graph_inputs


@dataclass(eq=False, kw_only=True)
class Kernel:
    """The batched code of one graph.

    trainable: shared operands that want gradients; constant: slots whose values have none
    expressions: what the "derived" operands of the pieces are, made of shared operands: graphs of one result
    requested: pieces that this process has run, or is about to
    """

    name: str
    graph: Graph
    trainable: frozenset[int]
    constant: frozenset[int] = frozenset()

    expressions: list[Graph] = field(init=False, default_factory=list)
    requested: set[str] = field(init=False, default_factory=set)
    _graphs: dict[tuple[str, bool], Graph] = field(init=False, default_factory=dict)
    _programs: dict[tuple[str, str, bool], Program] = field(init=False, default_factory=dict)
    _device_programs: dict[tuple[str, bool], CudaProgram] = field(init=False, default_factory=dict)
    _index_parts: dict[tuple[str, frozenset[int]], IndexPart] = field(init=False, default_factory=dict)

    @cached_property
    def batched(self) -> Graph:
        """The graph of a launch."""
        return merge_matmuls(simplify(batch(self.graph))[0].pruned())

    @cached_property
    def inference(self) -> Graph:
        """The same where nothing is differentiated."""
        is_custom = any(node.op is CUSTOM for node in self.batched.nodes)
        return simplify(self.batched, is_last=True)[0].pruned() if is_custom else self.batched

    @cached_property
    def pieces(self) -> Pieces:
        """Forward, backward and final graph, which on the host read matrices of nodes in their pools."""
        return read_in_pools(self.device_pieces)

    @cached_property
    def device_pieces(self) -> Pieces:
        """The same for a device, where every value read by a later piece is a residual."""
        return split(self.batched, self.trainable, self.constant)

    def graph_of(self, piece: str, on_device: bool = False) -> Graph:
        """The graph of a piece: "inference", "forward", "backward" or "final"."""
        found = self._graphs.get((piece, on_device))
        if found is None:
            pieces = self.inference if piece == "inference" else self.device_pieces if on_device else self.pieces
            whole = pieces if isinstance(pieces, Graph) else getattr(pieces, piece)
            found = self._graphs[piece, on_device] = derive(whole, self.expressions)
        return found

    def program(self, piece: str, backend: str, add: bool = True) -> Program:
        """The lowered piece; one that adds cotangents to rows, or one that stores them."""
        found = self._programs.get((piece, backend, add))
        if found is None:
            graph = self.graph_of(piece)
            found = lower(graph, f"{self.name}_{piece}", self.accumulates(piece, graph), backend, add)
            self._programs[piece, backend, add] = found
        return found

    def device_program(self, piece: str, add: bool = True) -> CudaProgram:
        """The piece lowered for a device."""
        found = self._device_programs.get((piece, add))
        if found is None:
            graph = self.graph_of(piece, on_device=True)
            found = lower_cuda(graph, f"{self.name}_{piece}", self.accumulates(piece, graph), add)
            self._device_programs[piece, add] = found
        return found

    def index_part(self, piece: str, slots: frozenset[int]) -> IndexPart:
        """The part of a piece that makes indices of what the host knows: data, lengths, and the rows of some slots."""
        found = self._index_parts.get((piece, slots))
        if found is None:
            pieces = self.device_pieces if piece == "forward" else None
            found = index_part(self.graph_of(piece, on_device=True), f"{self.name}_indices", slots, pieces)
            self._index_parts[piece, slots] = found
        return found

    def first_requests(self, *pieces: str) -> Iterator[tuple[Kernel, str]]:
        """The kernel with each of these pieces that has outputs and was not requested before."""
        for piece in pieces:
            if piece not in self.requested:
                self.requested.add(piece)
                if self.graph_of(piece).outputs:
                    yield self, piece

    def text(self, piece: str, backend: str) -> str:
        """The lowered piece, to read."""
        return (self.device_program(piece) if backend in DEVICES else self.program(piece, backend)).text

    def steps(self, piece: str, backend: str) -> Steps:
        """The calls and loops that the lowered piece makes, in order."""
        graph = self.graph_of(piece, backend in DEVICES)
        return steps_of(graph, self.accumulates(piece, graph), backend)

    def accumulates(self, piece: str, graph: Graph) -> tuple[bool, ...]:
        """Which results of the graph of a piece are added to rows: the cotangents of rows."""
        n_rows = len(self.device_pieces.slots) if piece == "backward" else 0
        return tuple(k < n_rows for k in range(len(graph.outputs)))

    def inputs(self, piece: str, on_device: bool = False) -> list[tuple[str, int]]:
        """What the piece reads, in order."""
        return graph_inputs(self.graph_of(piece, on_device))


_kernels: dict[Any, Kernel] = {}


def kernel_of(name: str, graph: Graph, trainable: frozenset[int], constant: frozenset[int] = frozenset()) -> Kernel:
    """The one kernel of this graph."""
    key = (graph.key(), trainable, constant)
    found = _kernels.get(key)
    if found is None:
        found = _kernels.setdefault(key, Kernel(name=name, graph=graph, trainable=trainable, constant=constant))
    return found
