"""forward_concats: matmuls read rows that are also part of a concat from the concat, instead of gathering them again.

Input: a batched graph. Output: an equal graph, in which a matmul that reads rows of a pool which are also part of a
concat reads a slice of the concat. The loop that makes the concat reads rows in place, so each row is copied once, and
the concat is the only residual. Other readers of rows, such as elementwise ops, read them in place and do not change.

Invariants: results, types and levels are unchanged, bit for bit; a slice comes after all operands of its concat.
Cost: O(nodes × concats), once per signature.

    %0, %1 = rows(0), rows(1)        f32[m, 4]
    %2 = product(%0, A)                                %2 = concat(%0, %1)         f32[m, 8]
    %3 = concat(%0, %1)              f32[m, 8]    →    %3 = slice(%2, 0..4)        f32[m, 4]
    %4 = product(%3, B)                                %4 = product(%3, A)
                                                       %5 = product(%2, B)
"""

from __future__ import annotations

from collections.abc import Container

from ...base.types import Dim
from ...ir.graph import Graph
from ...ops.linalg import PRODUCT
from ...ops.movement import CONCAT, RESHAPE, SLICE, TRANSPOSE


def forward_concats(graph: Graph, concats: Container[int] | None = None) -> tuple[Graph, list[int]]:
    """The graph whose matmuls read parts of these concats (None: of all), and the new number of each old node."""
    nodes = graph.nodes
    part_of = _parts(graph, concats)
    before = {c: _ancestors(graph, c) for c, _ in part_of.values()}
    new = Graph()
    number = [-1] * len(nodes)

    def copy(i: int, inputs: tuple[int, ...]) -> None:
        node = nodes[i]
        number[i] = new.add(node.op, inputs, node.attrs, node.type, node.level)

    def part(j: int, reader: int) -> int:
        c, start = part_of.get(j, (reader, 0))
        if c == reader or reader in before[c]:
            return number[j]
        for i in [*before[c], c]:
            if number[i] < 0:
                copy(i, tuple(number[k] for k in nodes[i].inputs))
        node, axis = nodes[j], nodes[c].attrs[0]
        return new.add(SLICE, (number[c],), (axis, start, node.type.shape[axis], 1), node.type, node.level)

    for i, node in enumerate(nodes):
        if number[i] < 0:
            is_reader = node.op in (PRODUCT, TRANSPOSE)
            copy(i, tuple(part(j, i) if is_reader else number[j] for j in node.inputs))
    new.outputs = tuple(number[i] for i in graph.outputs)
    return new, number


def _parts(graph: Graph, concats: Container[int] | None) -> dict[int, tuple[int, int]]:
    """For rows that are part of a concat: the first such concat and their offset in it."""
    nodes = graph.nodes
    found: dict[int, tuple[int, int]] = {}
    for i, node in enumerate(nodes):
        if node.op is not CONCAT or (concats is not None and i not in concats):
            continue
        axis, shape = node.attrs[0], node.type.shape
        if not isinstance(shape[0], Dim) or axis == -len(shape):
            continue
        start = 0
        for j in node.inputs:
            source = nodes[nodes[j].inputs[0]] if nodes[j].op is RESHAPE else nodes[j]
            if source.kind == "rows":
                found.setdefault(j, (i, start))
            start += nodes[j].type.shape[axis]
    return found


def _ancestors(graph: Graph, i: int) -> list[int]:
    """The nodes that a node depends on, in order."""
    seen: set[int] = set()
    waiting = list(graph.nodes[i].inputs)
    while waiting:
        j = waiting.pop()
        if j not in seen:
            seen.add(j)
            waiting.extend(graph.nodes[j].inputs)
    return sorted(seen)
