"""merge_matmuls: matmuls of one launch that share a sum or an operand → one matmul.

Input and output: a batched `Graph`. Weights are operands that are the same for all nodes.

    x @ A + h @ B          →  concat(x, h) @ concat(A, B)        the operands are gathered
    x @ A, x @ B           →  (x @ concat(A, B))[:, :a], […]     the results are parts of one

A launch of few rows is bound by reading its weights and by the call, and one matmul with a longer inner side runs
nearer to the peak than two with shorter ones; their residuals become one array. Weights that
are concatenated are computed once per run (see `derive`).

Invariants: the results keep their order, types and values (within rounding: the terms of a sum are added in another
order). Cost: O(nodes), once per signature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...base.types import Dim
from ...ir.graph import INPUT, Graph
from ...ir.rewriter import Rewriter
from ...ops.elementwise import ADD
from ...ops.linalg import PRODUCT
from ...ops.movement import CONCAT, SLICE, TRANSPOSE, VIEWS

COLUMNS = 8
"""Fewest columns of a matmul worth merging with another."""


def varying(graph: Graph) -> list[bool]:
    """Which nodes differ from node to node of a launch, or from launch to launch."""
    found: list[bool] = []
    for node in graph.nodes:
        own = node.kind not in ("", "shared", "derived") or any(isinstance(n, Dim) for n in node.type.shape)
        found.append(own or any(found[j] for j in node.inputs))
    return found


def merge_matmuls(graph: Graph) -> Graph:
    """Apply both rules: sums first, so that products that become equal in their left operand meet the second."""
    return _Merger(_Merger(graph).sums()).operands()


class _Merger(Rewriter):
    """The new graph has constant nodes first, so that they can be concatenated."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.varies = varying(graph)
        self.merged = False
        for i in range(len(graph.nodes)):
            if not self.varies[i]:
                self.copy(i)

    def finish(self, rule: Callable[[int], int | None]) -> Graph:
        """The new graph, or the old one where nothing was merged."""
        new = self.run(rule)
        return new.check() if self.merged else self.old

    def is_weighted(self, i: int) -> bool:
        """Whether a node is a matmul of rows with weights, wide enough."""
        node = self.nodes[i]
        if node.op is not PRODUCT or any(self.nodes[j].type.ndim != 2 for j in node.inputs):
            return False
        x, w = node.inputs
        return self.varies[x] and not self.varies[w] and self.nodes[w].type.shape[1] >= COLUMNS

    def side_by_side(self, operands: Sequence[int], axis: int) -> int:
        """The concat of nodes of the new graph; of transposes it is the transpose of the concat."""
        nodes = [self.new.nodes[i] for i in operands]
        if all(node.op is TRANSPOSE and node.attrs[0] == (1, 0) for node in nodes):
            inner = self.side_by_side([node.inputs[0] for node in nodes], -3 - axis)
            return self.apply(TRANSPOSE, inner, attrs=((1, 0),), level=nodes[0].level)
        return self.apply(CONCAT, *operands, attrs=(axis,), level=max(node.level for node in nodes))

    # x @ A + h @ B.

    def sums(self) -> Graph:
        """Merge the matmuls that are terms of one sum."""
        return self.finish(self.sum)

    def sum(self, i: int) -> int | None:
        """The matmul of all terms of sum i that are matmuls, and the other terms; None for anything else."""
        node, terms = self.nodes[i], self.terms(i)
        products = [j for j in terms if self.is_own(j) and self.is_weighted(j)]
        lefts = [self.nodes[j].inputs[0] for j in products]
        if len(products) < 2 or len(set(lefts)) < len(lefts):
            return None
        self.merged = True
        x = self.side_by_side([self.number[j] for j in lefts], -1)
        w = self.side_by_side([self.number[self.nodes[j].inputs[1]] for j in products], -2)
        total = self.new.add(PRODUCT, (x, w), (), node.type, node.level)
        for j in terms:
            if j not in products:
                total = self.new.add(ADD, (total, self.number[j]), (), node.type, node.level)
        return total

    def terms(self, i: int) -> list[int]:
        """The terms of a sum that is no part of a longer one; [] for anything else."""
        if self.nodes[i].op is not ADD:
            return []
        found: list[int] = []
        waiting = list(self.nodes[i].inputs[::-1])
        while waiting:
            j = waiting.pop()
            node = self.nodes[j]
            if node.op is ADD and self.is_own(j) and node.type is self.nodes[i].type:
                waiting.extend(node.inputs[::-1])
            else:
                found.append(j)
        return found

    # x @ A and x @ B.

    def operands(self) -> Graph:
        """Merge the matmuls that have their left operand in common."""
        groups: dict[int, list[int]] = {}
        for i, live in enumerate(self.old.live()):
            if live and self.varies[i] and self.is_weighted(i):
                groups.setdefault(self.nodes[i].inputs[0], []).append(i)
        mates = {i: group for group in groups.values() for i in group if len(group) > 1}
        return self.finish(lambda i: self.merge(i, mates[i]) if i in mates else None)

    def merge(self, i: int, group: list[int]) -> int:
        """The part of product i, the first of a group, of the group's matmul; the others become parts of it, too."""
        self.merged = True
        first = self.nodes[i]
        w = self.side_by_side([self.number[self.nodes[j].inputs[1]] for j in group], -1)
        whole = self.apply(PRODUCT, self.number[first.inputs[0]], w, level=first.level)
        start = 0
        for j in group:
            node = self.nodes[j]
            length = node.type.shape[1]
            self.number[j] = self.new.add(SLICE, (whole,), (-1, start, length, 1), node.type, node.level)
            start += length
        return self.number[i]


def derive(graph: Graph, known: list[Graph]) -> Graph:
    """Move out what depends on shared operands alone and is more than a view: it is computed once per run.

    The graph that is returned reads it as inputs of kind "derived": the number of its expression in `known`, to which
    new ones are added.
    """
    varies = varying(graph)
    reads_shared: list[bool] = []
    for node in graph.nodes:
        reads_shared.append(node.op is INPUT or any(reads_shared[j] for j in node.inputs))

    def expression(i: int) -> tuple[str, int] | None:
        op = graph.nodes[i].op
        if varies[i] or not reads_shared[i] or op is INPUT or op in VIEWS:
            return None
        found = graph.part([i], lambda _: None)
        keys = [other.key() for other in known]
        if found.key() not in keys:
            known.append(found)
            keys.append(found.key())
        return "derived", keys.index(found.key())

    return graph.part(graph.outputs, expression)
