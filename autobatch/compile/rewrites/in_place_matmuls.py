"""in_place_matmuls: batched matmuls, of one matrix for each node, that are read and written in pools.

Input: a batched graph, before it is fused, and which results are added to rows. Output: an equal graph, in which

    product(W, x), product(x, y)        →  stacked(W, x), stacked(x, y)        where a matrix is read in its pool
    product(W, concat(a, b))            →  stacked(W[:, :k], a, W[:, k:], b)   without the concat
    slice(product(W, x)) + product(…)   →  stacked(W[s], x, …)                 where the sum is added to rows
    product(gᵀ, xᵀ) over all columns    →  summed(g, x)
    segment sum of product(xᵀ, y)       →  segmented(x, y)                     without a product for each element

`stacked(x, w, u, v)` is x[b] w[b] + u[b] v[b] for each b; an operand may be one matrix for all. `summed(g, a, b)` is
Σ_b g[b] a[b]ᵀ beside Σ_b g[b] b[b]ᵀ. A matrix of n rows is n rows of its pool, nearly always contiguous,
so a matmul reads or writes it there, without a loop that copies it.

Invariants: results keep their order, types and values (within rounding: the terms of a sum are added in another order).
Cost: O(nodes), once per signature.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...base.types import Type
from ...ir.graph import Graph, Node
from ...ir.rewriter import Rewriter
from ...ops.declare import Op
from ...ops.elementwise import ADD
from ...ops.index import SCATTER_ADD
from ...ops.linalg import PRODUCT
from ...ops.movement import CONCAT, RESHAPE, SLICE, TRANSPOSE

COLUMNS = 16
"""Columns of matrices from which on their matmuls run one by one."""

ROWS = ("rows", "reverse")
"""Kinds of operand that come as rows of a pool."""

SWAPPED = (0, 2, 1)

STACKED = Op("stacked", "sum of products of stacked matrices: x, w, u, v → x[b] w[b] + u[b] v[b]")
SEGMENTED = Op("segmented", "x, y, segments → Σ x[e]ᵀ y[e] over the elements e of each node")
SUMMED = Op("summed", "sums of products of stacked matrices: g, a, b → Σ g[b] a[b]ᵀ beside Σ g[b] b[b]ᵀ")


def is_stack(type: Type) -> bool:
    """Whether a value is a matrix for each node, of several rows."""
    return type.ndim == 3 and type.has_dim and type.dtype.kind == "f" and type.shape[1] > 1


def is_in_pool(node: Node) -> bool:
    """Whether a node is a stack of matrices whose rows are in a pool."""
    return node.kind in ROWS and is_stack(node.type)


def concats_in_place(graph: Graph, results: Sequence[int]) -> set[int]:
    """Concats of matrices in pools that only matmuls with one shared matrix read: they are not computed."""
    nodes = graph.nodes
    found = {
        i
        for i, node in enumerate(nodes)
        if node.op is CONCAT
        and node.attrs[0] == -2
        and is_stack(node.type)
        and node.type.shape[2] >= COLUMNS
        and all(is_in_pool(nodes[j]) for j in node.inputs)
    }
    for node, live in zip(nodes, graph.live(), strict=True):
        for place, j in enumerate(node.inputs if live else ()):
            if node.op is not PRODUCT or place == 0 or nodes[node.inputs[0]].type.ndim != 2:
                found.discard(j)
    return found - set(results)


def read_in_place(graph: Graph) -> set[int]:
    """Stacks in pools that nothing reads but `stacked` and `summed`, after `matmuls_in_place`."""
    nodes = graph.nodes
    readers = graph.uses()

    def reads(i: int, j: int) -> bool:
        node = nodes[i]
        if node.op is TRANSPOSE and node.attrs[0] == SWAPPED:
            left = all(nodes[k].op is STACKED and i not in nodes[k].inputs[1::2] for k in readers[i])
            return left and i not in graph.outputs
        return node.op in (STACKED, SUMMED)

    stacks = {j for j, node in enumerate(nodes) if is_in_pool(node)} - set(graph.outputs)
    return {j for j in stacks if all(reads(i, j) for i in readers[j])}


def matmuls_in(graph: Graph, i: int) -> list[tuple[Any, ...]]:
    """(extents before the matrices, m, k, n) of the products (m, k) @ (k, n) that a node makes."""
    node = graph.nodes[i]
    shapes = [graph.nodes[j].type.shape for j in node.inputs]
    if node.op is PRODUCT:
        return [(node.type.shape[:-2], node.type.shape[-2], shapes[0][-1], node.type.shape[-1])]
    if node.op is STACKED:
        return [(node.type.shape[:1], node.type.shape[1], left[-1], node.type.shape[2]) for left in shapes[::2]]
    if node.op is SEGMENTED:  # over all nodes, whose elements those of the operands are
        return [((), node.type.shape[1], shapes[0][0] * shapes[0][1], node.type.shape[2])]
    if node.op is SUMMED:
        (lead, m, k), *parts = shapes
        return [((), m, lead * k, part[1]) for part in parts]
    return []


def matmuls_in_place(graph: Graph, accumulate: Sequence[bool]) -> Graph:
    """Rewrite the batched matmuls."""
    if not any(is_stack(node.type) for node in graph.nodes):
        return graph
    stacker = _Stacker(graph, accumulate)
    return stacker.run(lambda i: stacker.segmented(i) or stacker.stacked(i) or stacker.summed(i))


class _Stacker(Rewriter):
    def __init__(self, graph: Graph, accumulate: Sequence[bool]) -> None:
        super().__init__(graph)
        results = graph.outputs
        self.sums = {i for i, add in zip(results, accumulate, strict=True) if add and results.count(i) == 1}
        self.unmade = concats_in_place(graph, results)

    # Products of one matrix for each node.

    def stacked(self, i: int) -> int | None:
        """The node that makes a product, or a sum of products that goes to rows; None where node i stays as it is."""
        node = self.nodes[i]
        if not is_stack(node.type):
            return None
        if i in self.sums and not self.uses[i] and node.type.shape[2] >= COLUMNS:
            terms = self.terms(i)
        else:
            terms = self.product(i) if node.op is PRODUCT and self.is_in_place(i) else []
        inputs = [j for x, w in terms for j in (x, w)]
        return self.new.add(STACKED, tuple(inputs), (), node.type, node.level) if inputs else None

    def is_in_place(self, i: int) -> bool:
        """Whether a matmul reads a matrix in place; or a concat that is not computed."""
        x, w = self.nodes[i].inputs
        if self.nodes[x].op is TRANSPOSE and self.nodes[x].attrs[0] == SWAPPED:
            x = self.nodes[x].inputs[0]
        return is_in_pool(self.nodes[x]) or is_in_pool(self.nodes[w]) or w in self.unmade

    def product(self, i: int) -> list[tuple[int, int]]:
        """The terms of a product, if it is one of stacks."""
        x, w = self.nodes[i].inputs
        left, right = self.nodes[x].type, self.nodes[w].type
        if right.ndim != 3 or left.ndim not in (2, 3) or self.is_transposed(w):
            return []
        if right.shape[0] != self.nodes[i].type.shape[0] or (left.shape[0] != right.shape[0] and left.ndim == 3):
            return []
        if left.ndim == 2 and left.has_dim:
            return []
        if w not in self.unmade:
            return [(self.number[x], self.number[w])]
        found, start = [], 0
        for j in self.nodes[w].inputs:
            n = self.nodes[j].type.shape[1]
            found.append((self.part(self.number[x], -1, start, n), self.number[j]))
            start += n
        return found

    def is_transposed(self, i: int) -> bool:
        """Whether matrices are not row-major."""
        node = self.nodes[i]
        return node.op is TRANSPOSE and self.nodes[node.inputs[0]].type.shape[-1] > 1

    def part(self, x: int, axis: int, start: int, length: int) -> int:
        """A slice of a node of the new graph."""
        return self.apply(SLICE, x, attrs=(axis, start, length, 1), level=self.new.nodes[x].level)

    def terms(self, i: int) -> list[tuple[int, int]]:
        """The matmuls that a value is the sum of; [] for anything else."""
        node = self.nodes[i]
        if node.op is ADD and all(self.nodes[j].type is node.type and self.is_own(j) for j in node.inputs):
            parts = [self.terms(j) for j in node.inputs]
            return [term for part in parts for term in part] if all(parts) else []
        if node.op is PRODUCT:
            return self.product(i)
        if node.op is SLICE and node.attrs[0] == -2 and node.attrs[3] == 1:
            source = node.inputs[0]
            product = self.nodes[source]
            all_parts = all(self.nodes[u].op is SLICE and self.nodes[u].attrs[0] == -2 for u in self.uses[source])
            if product.op is PRODUCT and all_parts and source not in self.results:
                _, start, length, _ = node.attrs
                return [(self.part(x, -2, start, length), w) for x, w in self.product(source)]
        return []

    # Sums over the elements of each node.

    def segmented(self, i: int) -> int | None:
        """The node that makes the sum of products of the elements of each node; None for another."""
        node = self.nodes[i]
        if node.op is not SCATTER_ADD or self.nodes[node.inputs[1]].kind != "segments" or node.type.dtype.kind != "f":
            return None
        product, segments = node.inputs
        if self.nodes[product].op is not PRODUCT or not self.is_own(product) or self.nodes[product].type.ndim != 3:
            return None
        left, right = self.nodes[product].inputs
        flipped = self.nodes[left]
        if flipped.op is not TRANSPOSE or flipped.attrs[0] != SWAPPED or node.type.shape[-1] < COLUMNS:
            return None
        if self.nodes[right].type.ndim != 3 or self.nodes[right].type.shape[0] != flipped.type.shape[0]:
            return None
        operands = tuple(self.number[j] for j in (flipped.inputs[0], right, segments))
        return self.new.add(SEGMENTED, operands, (), node.type, node.level)

    # Sums over all nodes.

    def summed(self, i: int) -> int | None:
        """The node that makes a product over the columns of stacked matrices, Σ_b x[b] v[b]ᵀ; None for another."""
        node = self.nodes[i]
        if node.op is not PRODUCT or node.type.ndim != 2 or node.type.dtype.kind != "f":
            return None
        left, right = node.inputs
        flipped = self.nodes[left]
        x = self.stack(flipped.inputs[0]) if flipped.op is TRANSPOSE and flipped.attrs[0] == (1, 0) else -1
        v = self.stack(right)
        if x < 0 or v < 0 or self.nodes[v].type.shape[2] < COLUMNS:
            return None
        concat = self.nodes[v]
        is_joined = concat.op is CONCAT and concat.attrs[0] == -2
        parts = concat.inputs if is_joined and all(is_in_pool(self.nodes[j]) for j in concat.inputs) else (v,)
        return self.new.add(SUMMED, tuple(self.number[j] for j in (x, *parts)), (), node.type, node.level)

    def stack(self, i: int) -> int:
        """The stack f[n, m, p] whose columns, one below the other, are the rows of matrix i; -1 for another matrix."""
        node = self.nodes[i]
        transposed = self.nodes[node.inputs[0]] if node.op is RESHAPE else node
        if transposed.op is not TRANSPOSE or transposed.attrs[0] != SWAPPED:
            return -1
        n, p, m = transposed.type.shape
        return transposed.inputs[0] if node.type.shape == (n * p, m) else -1
