"""A kernel: everything compiled for one single graph, made when first needed and kept for the process.

Signatures with equal graphs share a kernel, whichever parameters they read.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from ..backends.transfer import DEVICES
from ..ir.graph import Graph
from ..ir.simplify import simplify
from .batch import batch
from .cuda.lower import CudaProgram, lower_cuda
from .host.lower import Program, graph_inputs, lower, steps_of
from .rewrites.join import derive, join_products
from .split import Pieces, split
from .steps import Steps


class Kernel:
    """The batched code of one graph.

    `trainable` are the shared operands that want gradients, `constant` the slots whose values have none.
    """

    def __init__(
        self,
        name: str,
        graph: Graph,
        trainable: frozenset[int],
        constant: frozenset[int] = frozenset(),
        in_place: bool = False,
    ) -> None:
        self.name = name
        self.graph = graph
        self.trainable = trainable
        self.constant = constant
        self.in_place = in_place
        self._programs: dict[tuple[str, str, bool], Program] = {}
        self._device_programs: dict[tuple[str, bool], CudaProgram] = {}
        self._graphs: dict[str, Graph] = {}
        self.expressions: list[Graph] = []
        """What the "derived" operands of the pieces are, made of shared operands: graphs of one result."""

    @cached_property
    def batched(self) -> Graph:
        """The graph of a launch."""
        return join_products(simplify(batch(self.graph))[0].pruned())

    @cached_property
    def pieces(self) -> Pieces:
        """Forward, backward and final graph."""
        return split(self.batched, set(self.trainable), self.constant, self.in_place)

    @cached_property
    def on_host(self) -> Kernel:
        """The kernel whose pieces read more where it lies, in pools, which the programs of the host can."""
        found = Kernel(self.name, self.graph, self.trainable, self.constant, in_place=True)
        found.__dict__["batched"] = self.batched
        return found

    def on(self, backend: str) -> Kernel:
        """The kernel as it runs on a backend."""
        return self if backend in DEVICES else self.on_host

    def graph_of(self, piece: str) -> Graph:
        """The graph of a piece: "inference", "forward", "backward" or "final"."""
        found = self._graphs.get(piece)
        if found is None:
            whole = self.batched if piece == "inference" else getattr(self.pieces, piece)
            found = self._graphs[piece] = derive(whole, self.expressions)
        return found

    def program(self, piece: str, backend: str, add: bool = True) -> Program:
        """The lowered piece; one that adds cotangents to rows, or one that stores them."""
        found = self._programs.get((piece, backend, add))
        if found is None:
            graph = self.graph_of(piece)
            found = lower(graph, f"{self.name}_{piece}", self._accumulates(piece), backend, add)
            self._programs[piece, backend, add] = found
        return found

    def device_program(self, piece: str, add: bool = True) -> CudaProgram:
        """The piece lowered for a device."""
        found = self._device_programs.get((piece, add))
        if found is None:
            graph = self.graph_of(piece)
            found = lower_cuda(graph, f"{self.name}_{piece}", self._accumulates(piece), add)
            self._device_programs[piece, add] = found
        return found

    def text(self, piece: str, backend: str) -> str:
        """The lowered piece, to read."""
        return (self.device_program(piece) if backend in DEVICES else self.program(piece, backend)).text

    def steps(self, piece: str, backend: str) -> Steps:
        """The calls and loops that the lowered piece makes, in order."""
        return steps_of(self.graph_of(piece), self._accumulates(piece), backend)

    def _accumulates(self, piece: str) -> tuple[bool, ...]:
        """Which results are added to rows: the cotangents of rows."""
        n_rows = len(self.pieces.slots) if piece == "backward" else 0
        return tuple(k < n_rows for k in range(len(self.graph_of(piece).outputs)))

    def inputs(self, piece: str) -> list[tuple[str, int]]:
        """What the piece reads, in order."""
        return graph_inputs(self.graph_of(piece))


_kernels: dict[Any, Kernel] = {}


def kernel_of(name: str, graph: Graph, trainable: frozenset[int], constant: frozenset[int] = frozenset()) -> Kernel:
    """The one kernel of this graph."""
    key = (graph.key(), trainable, constant)
    found = _kernels.get(key)
    if found is None:
        found = _kernels.setdefault(key, Kernel(name, graph, trainable, constant))
    return found
