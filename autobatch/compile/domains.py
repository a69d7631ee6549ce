"""domains: which nodes of a batched graph are parts of loops, and over which rows and columns each loop runs.

Input: a batched `Graph` and which results are added to rows. Output: `Domains`. Invariants: a node in a loop reads and
writes row i, column j of the loop's domain only. Cost: O(nodes × rank).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base.types import Dim, size_of
from ..ir.graph import Graph
from ..ops.elementwise import CAST, EQUAL, NOT_EQUAL, STOP_GRADIENT, WHERE
from ..ops.index import TAKE
from ..ops.movement import BROADCAST, CONCAT, RESHAPE, SLICE
from .rewrites.in_place_matmuls import ROWS
from .steps import Domain, Extent, gathered_concats, rows_domain, splits


def level_of(operand: tuple[Any, ...], shape: tuple[Any, ...], s: int) -> str | None:
    """How an operand that broadcasts to `shape` is read where that is split before axis s."""
    full = (1,) * (len(shape) - len(operand)) + operand
    all_rows, one_row = full[:s] == shape[:s], all(n == 1 for n in full[:s])
    all_columns, one_column = full[s:] == shape[s:], all(n == 1 for n in full[s:])
    if all_rows and one_column:
        return "row"
    if all_rows and all_columns:
        return "element"
    if one_row and one_column:
        return "cell"
    return "vector" if one_row and all_columns else None


@dataclass(slots=True)
class Flat:
    """A value as columns offset .. offset + width of the rows of an array; `rows` None: contiguous, any split."""

    base: int
    rows: Extent | None = None
    total: int = 0
    offset: int = 0
    width: int = 0
    through: int = -1
    base_rows: Extent | None = None
    in_pool: bool = False


_ARITHMETIC = frozenset(["add", "sub", "mul", "neg", "abs", "maximum", "minimum", "less", "less_equal"])


class Domains:
    """The choice for each node.

    fused: whether it is part of a loop; host: then the domain of the loop that makes it
    flat: how it is read in place
    """

    def __init__(self, graph: Graph, accumulate: Sequence[bool], reductions: bool) -> None:
        self.graph, self.nodes = graph, graph.nodes
        self.accumulate, self.reductions = accumulate, reductions
        n = len(graph.nodes)
        self.live = graph.live()
        self.gathered = gathered_concats(graph)[0]
        self.flat: list[Flat | None] = [None] * n
        self.fused = [False] * n
        self.host: list[Domain | None] = [None] * n
        self._group: list[int] = list(range(n))
        self._allowed: list[tuple[Domain, ...]] = [()] * n
        self._choose()

    def _scalar_rule(self, i: int) -> bool:
        node = self.nodes[i]
        types = [node.type, *(self.nodes[j].type for j in node.inputs)]
        if not node.type.has_dim:
            return False
        if node.op in (RESHAPE, BROADCAST, STOP_GRADIENT):
            return node.op is not RESHAPE or self.fused[node.inputs[0]]
        if node.op.batch != "elementwise" or not node.op.scalar:
            return False
        kinds = [t.dtype.kind for t in types]
        if node.op is CAST:
            return node.type.dtype.kind == "f" or (kinds[1] in "bi" and node.type.dtype == np.int64)
        if all(t.dtype in (np.float32, np.float64) for t in types[1:]) or node.op in (WHERE, EQUAL, NOT_EQUAL):
            return True
        return node.op.name in _ARITHMETIC and all(t.dtype == np.int64 for t in types[1:])

    def reduced(self, i: int) -> Domain | None:
        """The rows whose columns a node reduces, where a loop does that."""
        node = self.nodes[i]
        if not self.reductions or node.op.batch != "reduce":
            return None
        x, axes = self.nodes[node.inputs[0]].type, node.attrs[0]
        s = x.ndim - len(axes)
        is_last = sorted(axes) == list(range(-len(axes), 0))
        if s < 1 or not is_last or not x.has_dim or x.dtype.kind != "f":
            return None
        domain = Domain(size_of(x.shape[:s]), size_of(x.shape[s:]))
        return domain if domain.width > 1 else None

    def _domains(self, i: int) -> tuple[Domain, ...]:
        node = self.nodes[i]
        if reduced := self.reduced(i):
            return (Domain(reduced.rows, 1),)
        if not self._scalar_rule(i):
            return ()
        if node.op is RESHAPE:
            inside = set(self._allowed[self._root(node.inputs[0])])
            return tuple(d for _, d in splits(node.type.shape) if d in inside)
        found = []
        for s, domain in splits(node.type.shape):
            if all(level_of(self.nodes[j].type.shape, node.type.shape, s) for j in node.inputs):
                found.append(domain)
        for j in node.inputs:  # where an operand is already in rows, follow it
            flat = self.flat[j]
            if flat is not None and flat.rows is not None and self.nodes[j].type.shape == node.type.shape:
                same = [d for d in found if d == Domain(flat.rows, flat.width)]
                found = same or found
        return tuple(found)

    def _root(self, i: int) -> int:
        while self._group[i] != i:
            i = self._group[i]
        return i

    def _narrow(self, i: int, domains: tuple[Domain, ...]) -> None:
        root = self._root(i)
        self._allowed[root] = tuple(d for d in self._allowed[root] if d in domains) or self._allowed[root]

    def _choose(self) -> None:
        """Fill `fused`, `flat` and the domains."""
        for i, node in enumerate(self.nodes):
            if not self.live[i]:
                continue
            self.flat[i] = self._flatten(i)
            self._allowed[i] = self._domains(i)
            self.fused[i] = bool(self._allowed[i])
            if not self.fused[i]:
                continue
            self.flat[i] = Flat(i)
            for j in node.inputs:
                a, b = self._root(j), self._root(i)
                same = node.op is RESHAPE or self.nodes[j].type.shape == node.type.shape
                if self.fused[j] and same and a != b:
                    both = tuple(d for d in self._allowed[a] if d in self._allowed[b])
                    if both:
                        self._group[b], self._allowed[a] = a, both
        for i, node in enumerate(self.nodes):
            if self.live[i] and (columns := self.columns(i)):
                for j, (_, domain) in zip(node.inputs, columns, strict=True):
                    if self.fused[j]:
                        self._narrow(j, (domain,))
            elif self.fused[i] and (reduced := self.reduced(i)) and self.fused[node.inputs[0]]:
                self._narrow(node.inputs[0], (reduced,))
        for o, i in enumerate(self.graph.outputs):
            if self.fused[i] and self.accumulate[o]:
                self._narrow(i, (rows_domain(self.nodes[i].type),))
        for i, node in enumerate(self.nodes):
            if self.fused[i]:
                own = self.domain(i)
                hosts = {self.host[j] for j in node.inputs if self.is_inline(j, i) and not self.is_in_own(j)}
                self.host[i] = self.reduced(i) or (hosts.pop() if len(hosts) == 1 and own.width == 1 else own)

    def domain(self, i: int) -> Domain:
        """The domain of a fused node."""
        return self._allowed[self._root(i)][0]

    def columns(self, i: int) -> list[tuple[int, Domain]] | None:
        """For a concat along columns the first column and the domain of each part."""
        if self.nodes[i].op is not CONCAT or i in self.gathered:
            return None
        shape = self.nodes[i].type.shape
        at = self.nodes[i].attrs[0] + len(shape)
        if at < 1 or not isinstance(shape[0], Dim):
            return None
        start, found = 0, []
        for j in self.nodes[i].inputs:
            width = size_of(self.nodes[j].type.shape[at:])
            found.append((start, Domain(size_of(shape[:at]), width)))
            start += width
        return found

    def _flatten(self, i: int) -> Flat:
        """How a value not computed by a loop can be read in place."""
        node = self.nodes[i]
        if node.kind in ROWS:
            d = rows_domain(node.type)
            return Flat(i, d.rows, d.width, 0, d.width, -1, d.rows, True)
        if node.op not in (SLICE, RESHAPE, TAKE):
            return Flat(i)
        source = self.nodes[node.inputs[0]]
        x = self.flat[node.inputs[0]]
        shape = source.type.shape
        assert x is not None
        if node.op is RESHAPE:
            if x.rows is None or any(d == Domain(x.rows, x.width) for _, d in splits(node.type.shape)):
                return x
        elif node.op is SLICE and node.attrs[3] == 1:
            at = node.attrs[0] + len(shape)
            rows, total = size_of(shape[:at]), size_of(shape[at:])
            inner = size_of(shape[at + 1 :])
            if not isinstance(total, Dim):
                start, width = node.attrs[1] * inner, node.attrs[2] * inner
                if x.rows is None:
                    return Flat(x.base, rows, total, start, width, -1, rows)
                if x.rows == rows and x.width == total:
                    return Flat(x.base, rows, x.total, x.offset + start, width, x.through, x.base_rows, x.in_pool)
        elif node.op is TAKE and self.nodes[node.inputs[1]].kind in ("segments", "owners"):
            rows, ids = shape[0], self.nodes[node.inputs[1]].type.shape[0]
            width = size_of(shape[1:])
            if x.rows is None:
                return Flat(x.base, ids, width, 0, width, node.inputs[1], rows)
            if x.rows == rows and x.width == width and x.through < 0:
                return Flat(x.base, ids, x.total, x.offset, width, node.inputs[1], rows, x.in_pool)
        return Flat(i)

    def is_in_own(self, i: int) -> bool:
        """Whether the loop that makes a fused node has the node's own domain."""
        return self.host[i] == self.domain(i)

    def is_inline(self, j: int, i: int) -> bool:
        """Whether operand j has the layout of fused node i, row for row and column for column."""
        if not self.fused[j] or self.domain(j) != self.domain(i):
            return False
        return self.nodes[i].op is RESHAPE or self.nodes[j].type.shape == self.nodes[i].type.shape
