"""vjp: a graph → the same graph continued by the cotangents of its operands. Works on single and batched graphs.

Input: a graph and the operands to differentiate. Output: a graph whose results are the cotangents of those operands;
it reads the cotangents of the old results as inputs of kind "cotangent".
Invariants: written in ops, so the result can be differentiated again; a cotangent has type and level of its value.
Cost: once per signature, a few ops for each op.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from ..base.errors import CompilerBug
from ..base.types import is_float
from ..ops.custom import CUSTOM
from ..ops.declare import apply
from ..ops.elementwise import ADD, STOP_GRADIENT
from ..ops.index import SCATTER_ADD
from ..ops.movement import SLICE, broadcast_to, concat, reshape
from ..ops.reduce import LIST_SUM, SPREAD, SUM
from .graph import CONST, INPUT, NODE, Graph
from .trace import Builder
from .tracers import Tracer


@dataclass(slots=True)
class Vjp:
    """The continued graph. Nodes below `n_forward` are those of the original; `cotangents` has None for zero."""

    graph: Graph
    n_forward: int
    cotangents: list[int | None]


def vjp(graph: Graph, wrt: Sequence[int]) -> Vjp:
    """Cotangents of the nodes `wrt` (inputs) given those of the results."""
    builder = Builder()
    forward: list[Tracer] = []
    for node in graph.nodes:
        forward.append(Tracer(builder, builder.graph.copy(node, range(len(graph.nodes)))))
    builder.graph.origins = dict(graph.origins)
    wanted = _depends(graph, wrt)
    sums = _Sums(builder, forward)
    for k, i in enumerate(graph.outputs):
        if wanted[i]:
            node = graph.nodes[i]
            sums.add(i, builder.input("cotangent", k, node.type, max(node.level, NODE)))
    for i in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[i]
        if not wanted[i] or node.op in (INPUT, CONST) or not sums.has(i):
            continue
        if node.op is SLICE and node.attrs[0] == -1 and node.attrs[3] == 1:
            sums.add_piece(node.inputs[0], node.attrs[1], node.attrs[2], sums.total(i))
            continue
        n_before = len(builder.graph.nodes)
        if node.op is CUSTOM:
            pairs = _given(builder, graph, i, sums.total(i))
        elif node.op.vjp is None:
            raise CompilerBug(f"{node.op} has no VJP\n{graph}")
        else:
            operands = tuple(forward[j] for j in node.inputs)
            parts = node.op.vjp(sums.total(i), forward[i], operands, node.attrs)
            pairs = list(zip(node.inputs, parts, strict=True))
        for j, part in pairs:
            if part is not None and wanted[j]:
                sums.add(j, part)
        if i in graph.origins:
            builder.graph.origins.update(dict.fromkeys(range(n_before, len(builder.graph.nodes)), graph.origins[i]))
    cotangents = [sums.total(i)._id if sums.has(i) else None for i in wrt]
    builder.graph.outputs = tuple(i for i in cotangents if i is not None)
    return Vjp(builder.graph, len(graph.nodes), cotangents)


def _given(builder: Builder, graph: Graph, i: int, cotangent: Tracer) -> list[tuple[int, Tracer]]:
    """What node i, a `CUSTOM`, says that cotangents are, by nodes: with the cotangent of its result put in."""
    _, held, *pairs = graph.nodes[i].inputs
    number = list(range(i))  # the nodes of the graph have the same numbers in what is built
    number[held] = cotangent._id
    changed = {held}
    for k in range(held + 1, i):
        node = graph.nodes[k]
        if changed.intersection(node.inputs):
            number[k] = builder.graph.copy(node, number)
            changed.add(k)
    return [(x, Tracer(builder, number[gx])) for x, gx in zip(pairs[::2], pairs[1::2], strict=True)]


def differentiable(graph: Graph, trainable: Container[int], constant: Container[int] = ()) -> list[int]:
    """The inputs of a graph that have cotangents: floating rows but for the `constant`, and the shared `trainable`."""

    def is_wanted(kind: str, k: int) -> bool:
        return k not in constant if kind == "rows" else kind == "shared" and k in trainable

    floats = [(i, node) for i, node in enumerate(graph.nodes) if node.is_input and is_float(node.type.dtype)]
    return [i for i, node in floats if is_wanted(*node.attrs)]


def sum_of_scatters(graph: Graph, i: int) -> list[tuple[int, int]] | None:
    """(row numbers, rows) of every leaf where node i is a sum of scatters to a table, else None."""
    leaves, stack = [], [i]
    while stack:
        node = graph.nodes[stack.pop()]
        if node.op is ADD or node.op is LIST_SUM:
            stack.extend(node.inputs[::-1])
        elif node.op is SCATTER_ADD and isinstance(node.attrs[0], int):
            rows, ids = node.inputs
            leaves.append((ids, rows))
        else:
            return None
    return leaves


def _depends(graph: Graph, wrt: Sequence[int]) -> list[bool]:
    wanted = [False] * len(graph.nodes)
    for i in wrt:
        wanted[i] = is_float(graph.nodes[i].type.dtype)
    for i, node in enumerate(graph.nodes):
        if node.inputs and is_float(node.type.dtype) and node.op is not STOP_GRADIENT:
            wanted[i] = any(wanted[j] for j in node.inputs)
    return wanted


class _Sums:
    """Incoming cotangents, brought to shape and level of their value, and summed."""

    def __init__(self, builder: Builder, forward: list[Tracer]) -> None:
        self.builder = builder
        self.forward = forward
        self.parts: dict[int, Any] = {}
        self.pieces: dict[int, list[tuple[int, int, Any]]] = {}

    def has(self, i: int) -> bool:
        return i in self.parts or i in self.pieces

    def add(self, i: int, part: Any) -> None:
        part = self.fit(part, self.forward[i])
        self.parts[i] = self.parts[i] + part if i in self.parts else part

    def add_piece(self, i: int, start: int, length: int, part: Any) -> None:
        pieces = self.pieces.setdefault(i, [])
        if any(start < s + n and s < start + length for s, n, _ in pieces):
            self.flush(i)
            pieces = self.pieces.setdefault(i, [])
        pieces.append((start, length, part))

    def flush(self, i: int) -> None:
        """Join the cotangents of disjoint slices of one value; zeros where there is none."""
        pieces = sorted(self.pieces.pop(i), key=lambda piece: piece[:2])
        value = self.forward[i]
        joined, at = [], 0
        for start, length, part in [*pieces, (value.shape[-1], 0, None)]:
            if start > at:
                zero = self.builder.constant(0, value.dtype)
                joined.append(broadcast_to(zero, (*value.shape[:-1], start - at)))
            if part is not None:
                joined.append(part)
            at = start + length
        self.add(i, concat(joined, -1))

    def total(self, i: int) -> Any:
        if i in self.pieces:
            self.flush(i)
        return self.parts[i]

    def fit(self, g: Any, value: Tracer) -> Any:
        """Sum a cotangent over what was broadcast, in level and in shape."""
        if not isinstance(g, Tracer):
            g = self.builder.constant(g, value.dtype)
        if g.level > NODE and value.level <= NODE:
            g = apply(LIST_SUM, (g,), (g.level,))
        elif g.level <= NODE < value.level:
            g = apply(SPREAD, (g,), (value.level,))
        elif NODE < value.level < g.level:
            g = apply(LIST_SUM, (g,), ((g.level, value.level),))
        elif NODE < g.level < value.level:
            g = apply(SPREAD, (g,), ((value.level, g.level),))
        extra = len(g.shape) - len(value.shape)
        if extra > 0:
            g = apply(SUM, (g,), (tuple(range(-len(g.shape), -len(value.shape))), False))
        repeated = tuple(
            axis
            for axis in range(-len(value.shape), 0)
            if -axis <= len(g.shape) and value.shape[axis] == 1 and g.shape[axis] != 1
        )
        if repeated:
            g = apply(SUM, (g,), (repeated, True))
        if g.shape != value.shape:
            ones = (1,) * (len(value.shape) - len(g.shape))
            g = broadcast_to(reshape(g, ones + g.shape), value.shape)
        return g.astype(value.dtype)
