"""inlined: how an element of a node that is not in memory is computed from elements of its operands.

Input: a `Writer`, the node, the index of the element, and the name of a condition under which it is computed, or "".
Output: the name of the element. Cost: O(rank) lines of C a node.

    slice(x, -1, 3, 4, 2)   at [i, j]   →   x at [i, 3 + j * 2]
    concat(x, y)            at [i, j]   →   x at [i, j] where j < 4, else y at [i, j - 4]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...base.types import Dim, size_of
from ...ir.graph import Graph
from ...ops.index import ARANGE, BOUNDED, SCATTER_ADD, TAKE, lowest_index
from ...ops.movement import BROADCAST, CONCAT, RESHAPE, SLICE, TRANSPOSE, UNSLICE
from ...ops.random import NORMAL, UNIFORM
from .scalars import INT64, affine, c_type, literal

if TYPE_CHECKING:
    from .writer import Indices, Writer


FEW_ROWS = 4
"""Rows that are searched for each number of a table they are added to."""


def _reshape(w: Writer, i: int, where: Indices, guard: str) -> str:
    j = w.source(i)
    return w.element(j, w.reshaped(where, w.shape(i), w.shape(j)), guard)


def _transpose(w: Writer, i: int, where: Indices, guard: str) -> str:
    inner = [""] * len(where)
    for axis, k in zip(w.graph.nodes[i].attrs[0], where, strict=True):
        inner[axis] = k
    return w.element(w.source(i), tuple(inner), guard)


def _broadcast(w: Writer, i: int, where: Indices, guard: str) -> str:
    j = w.source(i)
    return w.element(j, w.broadcast(where, j), guard)


def _slice(w: Writer, i: int, where: Indices, guard: str) -> str:
    axis, start, _, step = w.graph.nodes[i].attrs
    inner = list(where)
    inner[axis] = w.index(f"{start} + {where[axis]} * {step}")
    return w.element(w.source(i), tuple(inner), guard)


def _unslice(w: Writer, i: int, where: Indices, guard: str) -> str:
    axis, start, length, step, _ = w.graph.nodes[i].attrs
    dtype = w.graph.nodes[i].type.dtype
    if length == 0:
        return literal(0, dtype)
    ahead = w.index(f"{where[axis]} - {start}" if step > 0 else f"{start} - {where[axis]}")
    part = w.index(f"{ahead} / {abs(step)}")
    inside = w.both(guard, f"{ahead} >= 0 && {part} < {length} && {part} * {abs(step)} == {ahead}")
    inner = list(where)
    inner[axis] = part
    x = w.element(w.source(i), tuple(inner), inside)
    return w.let(c_type(dtype), f"{inside} ? {x} : {literal(0, dtype)}", "x")


def _concat(w: Writer, i: int, where: Indices, guard: str) -> str:
    node = w.graph.nodes[i]
    axis = node.attrs[0]
    start, parts = 0, []
    for j in node.inputs:
        end = start + w.shape(j)[axis]
        inside = w.both(guard, f"{where[axis]} >= {start} && {where[axis]} < {end}")
        inner = list(where)
        inner[axis] = w.index(f"{where[axis]} - {start}")
        parts.append((inside, w.element(j, tuple(inner), inside)))
        start = end
    text = parts[-1][1]
    for inside, x in parts[-2::-1]:
        text = f"{inside} ? {x} : {text}"
    return w.let(c_type(node.type.dtype), f"({text})", "x")


def _take(w: Writer, i: int, where: Indices, guard: str) -> str:
    table, index = w.graph.nodes[i].inputs
    n_axes = len(w.shape(index))
    rows = w.shape(table)[0]
    if rows == 0:
        return literal(0, w.graph.nodes[i].type.dtype)
    if isinstance(rows, Dim):
        guard = w.both(guard, f"{w.extent(rows)} > 0")
    number = w.element(index, where[:n_axes], guard)
    row = w.index(f"ab_clipped({number}, {w.extent(rows)})")
    return w.element(table, (row, *where[n_axes:]), guard)


def _bounded(w: Writer, i: int, where: Indices, guard: str) -> str:
    x = w.element(w.source(i), where, guard)
    faults = w.pointer("device.faults", INT64, True)
    attrs = w.graph.nodes[i].attrs
    call = f"ab_bounded({x}, {attrs[0]}, {lowest_index(attrs)}, {faults})"
    return w.index(f"{guard} ? {call} : 0" if guard else call)


def _arange(w: Writer, i: int, where: Indices, guard: str) -> str:
    return where[0]


def _random(w: Writer, i: int, where: Indices, guard: str) -> str:
    node = w.graph.nodes[i]
    lead = len(node.type.shape) - len(node.attrs[0])
    stream, draw, *first = (w.element(j, w.broadcast(where[:lead], j), guard) for j in node.inputs)
    element = " + ".join([*first, w.flat(where[lead:], node.attrs[0])])
    kind = c_type(node.type.dtype)
    return w.let(kind, f"ab_{node.op.name}<{kind}>({stream}, {draw}, {element})", "x")


def is_inlined_scatter(graph: Graph, i: int) -> bool:
    """Whether a node is a `scatter_add` of a few rows into a table that each node has of its own."""
    node = graph.nodes[i]
    if node.op is not SCATTER_ADD:
        return False
    rows, lead = node.type.shape[0], (*graph.nodes[node.inputs[1]].type.shape, 1)[0]
    if not isinstance(rows, Dim) or not isinstance(lead, Dim) or rows.index != lead.index:
        return False
    return bool(size_of(graph.nodes[node.inputs[1]].type.shape).factor <= FEW_ROWS)


def _scatter(w: Writer, i: int, where: Indices, guard: str) -> str:
    values, index = w.graph.nodes[i].inputs
    dtype = w.graph.nodes[i].type.dtype
    count = size_of(w.shape(index)).factor
    node = w.index(f"ab_div({where[0]}, {w.shape(i)[0].factor})") if w.shape(i)[0].factor > 1 else where[0]
    total = ""
    for k in range(count):
        place = w.apart(w.index(affine(node, count, repr(k))), w.shape(index))
        inside = w.both(guard, f"{w.element(index, place, guard)} == {where[0]}")
        x = w.element(values, (*place, *where[1:]), inside)
        term = f"({inside} ? {x} : {literal(0, dtype)})"
        total = f"ab_add<{c_type(dtype)}>({total}, {term})" if total else term
    return w.let(c_type(dtype), total or literal(0, dtype), "x")


RULES = {
    RESHAPE.name: _reshape,
    TRANSPOSE.name: _transpose,
    BROADCAST.name: _broadcast,
    SLICE.name: _slice,
    UNSLICE.name: _unslice,
    CONCAT.name: _concat,
    TAKE.name: _take,
    BOUNDED.name: _bounded,
    ARANGE.name: _arange,
    SCATTER_ADD.name: _scatter,
    UNIFORM.name: _random,
    NORMAL.name: _random,
}
"""Name of an op → the rule for an element of it."""

INLINED = frozenset(RULES)
"""Names of the ops, beside the elementwise ones, whose elements can be computed where they are read."""
