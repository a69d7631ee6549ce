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
    before = {c: graph.live(nodes[c].inputs) for c, _ in part_of.values()}
    new = Graph()
    number: dict[int, int] = {}

    def part(j: int, reader: int) -> int:
        c, start = part_of.get(j, (reader, 0))
        if c == reader or before[c][reader]:
            return number[j]
        for i in range(c + 1):
            if (i == c or before[c][i]) and i not in number:
                number[i] = new.copy(nodes[i], number)
        node, axis = nodes[j], nodes[c].attrs[0]
        return new.add(SLICE, (number[c],), (axis, start, node.type.shape[axis], 1), node.type, node.level)

    for i, node in enumerate(nodes):
        if i not in number:
            is_reader = node.op in (PRODUCT, TRANSPOSE)
            number[i] = new.copy(node, {j: part(j, i) for j in node.inputs} if is_reader else number)
    new.outputs = tuple(number[i] for i in graph.outputs)
    return new, [number[i] for i in range(len(nodes))]


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
