"""Fuse: which nodes of a batched graph become generated loops, and what is called in between.

Input: a batched `Graph` and which results are added to rows. Output: `Steps`, calls and loops in order. Invariants:
every value that a step reads was made by an earlier step; a loop runs over one domain, R rows of w columns, and the
nodes in it read and write row i, column j only. Cost: O(nodes × rank).

A value is seen as a matrix of R rows and w columns: the product of its leading extents, starting with the `Dim`, and
that of the others. Loops run in *stages*: a call has the stage of its latest operand, an elementwise node too; what a
loop stores can be read one stage later. So all loops of one stage and domain are one loop. Elementwise nodes are then
moved to the stage in which they are needed first.

    call   %2 = product(%0, %1)
    loop   m × 64: %4 = add(%2[:, 0:64], %3), %5 = tanh(%4) → result 0
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..graph import CONST, INPUT, Graph
from ..ops.elementwise import CAST, EQUAL, NOT_EQUAL, STOP_GRADIENT, WHERE
from ..ops.index import TAKE
from ..ops.movement import BROADCAST, CONCAT, RESHAPE, SLICE
from ..types import Dim, Type, size_of

Extent = Any  # int or Dim
NEVER = 1 << 30


@dataclass(frozen=True, slots=True)
class Domain:
    """R rows of w columns."""

    rows: Extent
    width: int

    def __str__(self) -> str:
        return f"{self.rows} × {self.width}"


@dataclass(frozen=True, slots=True)
class Read:
    """How a loop reads an operand.

    level: "element" (row i, column j), "row" (one number per row), "vector" (one per column), "cell" (one number)
    node: the array, of `rows` rows and `width` columns; or an input of kind "rows", whose row numbers are followed
    offset: first column; through: a node whose numbers select the row (-1: none)
    in_pool: the array is an input of kind "rows" that is read in its pool, not a copy of it
    """

    level: str
    node: int
    rows: Extent
    width: int
    offset: int = 0
    through: int = -1
    in_pool: bool = False

    def __str__(self) -> str:
        row = f"[%{self.through}]" if self.through >= 0 else ""
        return f"%{self.node}{row}{f'[{self.offset}:]' if self.offset else ''}"


@dataclass(frozen=True, slots=True)
class Store:
    """What a loop writes: a value of the loop, or what it reads, to a "node", an "output", or "add"-ed to one."""

    value: int | Read
    kind: str
    target: int
    width: int
    offset: int = 0

    def __str__(self) -> str:
        what = {"node": f"%{self.target}", "output": f"result {self.target}", "add": f"result {self.target} +="}
        return f"{self.value if isinstance(self.value, Read) else f'%{self.value}'} → {what[self.kind]}"


@dataclass(slots=True)
class Loop:
    """Elementwise nodes over one domain. `reads[i]` are the operands of node i: nodes of the loop, or reads."""

    stage: int
    domain: Domain
    nodes: list[int] = field(default_factory=list)
    reads: dict[int, tuple[int | Read, ...]] = field(default_factory=dict)
    stores: list[Store] = field(default_factory=list)


@dataclass(slots=True)
class Steps:
    """Calls (numbers of nodes) and loops in order; `order` is what runs."""

    graph: Graph
    order: list[int | Loop]

    def __str__(self) -> str:
        lines = []
        for step in self.order:
            if isinstance(step, int):
                lines.append(f"call  %{step} = {self.graph.nodes[step]}")
            else:
                lines.append(f"loop  {step.domain}")
                for i in step.nodes:
                    node = self.graph.nodes[i]
                    operands = ", ".join(str(r) if isinstance(r, Read) else f"%{r}" for r in step.reads[i])
                    lines.append(f"        %{i} = {node.op.name}({operands})")
                lines += [f"        {store}" for store in step.stores]
        return "\n".join(lines)


def rows_domain(type: Type) -> Domain:
    """How values of a batched type lie in a pool."""
    shape = type.shape
    if len(shape) <= 2:
        return Domain(shape[0], size_of(shape[1:]))
    return Domain(shape[0] * shape[1], size_of(shape[2:]))


def _splits(shape: tuple[Any, ...]) -> Iterator[tuple[int, Domain]]:
    for s in range(1, len(shape) + 1):
        yield s, Domain(size_of(shape[:s]), size_of(shape[s:]))


def _level(operand: tuple[Any, ...], shape: tuple[Any, ...], s: int) -> str | None:
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
class _Flat:
    """A value as columns offset .. offset + width of the rows of an array; `rows` None: contiguous, any split."""

    base: int
    rows: Extent = None
    total: int = 0
    offset: int = 0
    width: int = 0
    through: int = -1
    base_rows: Extent = None
    in_pool: bool = False


_ARITHMETIC = frozenset(["add", "sub", "mul", "neg", "abs", "maximum", "minimum", "less", "less_equal"])


class _Planner:
    def __init__(self, graph: Graph, accumulate: Sequence[bool]) -> None:
        self.graph = graph
        self.nodes = graph.nodes
        self.accumulate = accumulate
        n = len(graph.nodes)
        self.live = graph.live()
        self.flat: list[_Flat | None] = [None] * n
        self.group: list[int] = list(range(n))
        self.allowed: list[tuple[Domain, ...]] = [()] * n
        self.fused = [False] * n
        self.stage = [0] * n
        self.ready = [0] * n
        self.wanted: set[int] = set()
        self.loops: dict[tuple[int, Extent, int], Loop] = {}

    # Which nodes fuse, and over which domain.

    def _scalar_rule(self, i: int) -> bool:
        node = self.nodes[i]
        types = [node.type, *(self.nodes[j].type for j in node.inputs)]
        if not node.type.shape or not isinstance(node.type.shape[0], Dim):
            return False
        if node.op in (RESHAPE, BROADCAST, STOP_GRADIENT):
            return node.op is not RESHAPE or self.fused[node.inputs[0]]
        if node.op.batch != "elementwise" or not node.op.scalar:
            return False
        kinds = [t.dtype.kind for t in types]
        if node.op is CAST:
            return node.type.dtype.kind == "f" or (kinds[1] in "bi" and node.type.dtype == np.int64)
        if all(t.dtype in (np.float32, np.float64) for t in types) or node.op in (WHERE, EQUAL, NOT_EQUAL):
            return True
        return node.op.name in _ARITHMETIC and all(t.dtype == np.int64 for t in types[1:])

    def _domains(self, i: int) -> tuple[Domain, ...]:
        node = self.nodes[i]
        if not self._scalar_rule(i):
            return ()
        if node.op is RESHAPE:
            inside = set(self.allowed[self._root(node.inputs[0])])
            return tuple(d for _, d in _splits(node.type.shape) if d in inside)
        found = []
        for s, domain in _splits(node.type.shape):
            if all(_level(self.nodes[j].type.shape, node.type.shape, s) for j in node.inputs):
                found.append(domain)
        for j in node.inputs:  # where an operand already lies in rows, follow it
            flat = self.flat[j]
            if flat is not None and flat.rows is not None and self.nodes[j].type.shape == node.type.shape:
                same = [d for d in found if d == Domain(flat.rows, flat.width)]
                found = same or found
        return tuple(found)

    def _root(self, i: int) -> int:
        while self.group[i] != i:
            i = self.group[i]
        return i

    def _narrow(self, i: int, domains: tuple[Domain, ...]) -> None:
        root = self._root(i)
        self.allowed[root] = tuple(d for d in self.allowed[root] if d in domains) or self.allowed[root]

    def choose(self) -> None:
        """Fill `fused`, `flat` and the domains."""
        for i, node in enumerate(self.nodes):
            if not self.live[i]:
                continue
            self.flat[i] = self._flatten(i)
            self.allowed[i] = self._domains(i)
            self.fused[i] = bool(self.allowed[i])
            if not self.fused[i]:
                continue
            self.flat[i] = _Flat(i)
            for j in node.inputs:
                a, b = self._root(j), self._root(i)
                same = node.op is RESHAPE or self.nodes[j].type.shape == node.type.shape
                if self.fused[j] and same and a != b:
                    both = tuple(d for d in self.allowed[a] if d in self.allowed[b])
                    if both:
                        self.group[b], self.allowed[a] = a, both
        for i, node in enumerate(self.nodes):
            if self.live[i] and (columns := self._columns(i)):
                for j, (_, domain) in zip(node.inputs, columns, strict=True):
                    if self.fused[j]:
                        self._narrow(j, (domain,))
        for o, i in enumerate(self.graph.outputs):
            if self.fused[i] and self.accumulate[o]:
                self._narrow(i, (rows_domain(self.nodes[i].type),))

    def domain(self, i: int) -> Domain:
        """The domain of a fused node."""
        return self.allowed[self._root(i)][0]

    def _columns(self, i: int) -> list[tuple[int, Domain]] | None:
        """For a concat along columns the first column and the domain of each part."""
        if self.nodes[i].op is not CONCAT:
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

    def _flatten(self, i: int) -> _Flat:
        """How a value that is no loop's can be read in place."""
        node = self.nodes[i]
        if node.op is INPUT and node.attrs[0] == "rows":
            d = rows_domain(node.type)
            return _Flat(i, d.rows, d.width, 0, d.width, -1, d.rows, True)
        if node.op not in (SLICE, RESHAPE, TAKE):
            return _Flat(i)
        source = self.nodes[node.inputs[0]]
        x = self.flat[node.inputs[0]]
        shape = source.type.shape
        assert x is not None
        if node.op is RESHAPE:
            if x.rows is None or any(d == Domain(x.rows, x.width) for _, d in _splits(node.type.shape)):
                return x
        elif node.op is SLICE and node.attrs[3] == 1:
            at = node.attrs[0] + len(shape)
            rows, total = size_of(shape[:at]), size_of(shape[at:])
            inner = size_of(shape[at + 1:])
            if not isinstance(total, Dim):
                start, width = node.attrs[1] * inner, node.attrs[2] * inner
                if x.rows is None:
                    return _Flat(x.base, rows, total, start, width, -1, rows)
                if x.rows == rows and x.width == total:
                    return _Flat(x.base, rows, x.total, x.offset + start, width, x.through, x.base_rows, x.in_pool)
        elif node.op is TAKE and self.nodes[node.inputs[1]].attrs[:1] == ("segments",):
            rows, ids = shape[0], self.nodes[node.inputs[1]].type.shape[0]
            width = size_of(shape[1:])
            if x.rows is None:
                return _Flat(x.base, ids, width, 0, width, node.inputs[1], rows)
            if x.rows == rows and x.width == width and x.through < 0:
                return _Flat(x.base, ids, x.total, x.offset, width, node.inputs[1], rows, x.in_pool)
        return _Flat(i)

    # When each node runs.

    def _inline(self, j: int, i: int) -> bool:
        """Whether fused node i takes operand j as a value of its own loop."""
        if not self.fused[j] or self.domain(j) != self.domain(i):
            return False
        return self.nodes[i].op is RESHAPE or self.nodes[j].type.shape == self.nodes[i].type.shape

    def _same_loop(self, i: int) -> set[int]:
        """Operands of a node that may be values of the loop that makes the node, or a part of it."""
        node = self.nodes[i]
        if self.fused[i]:
            return {j for j in node.inputs if self._inline(j, i)}
        parts = zip(node.inputs, self._columns(i) or (), strict=False)
        return {j for j, (_, domain) in parts if self.fused[j] and self.domain(j) == domain}

    def number_stages(self) -> None:
        """Fill `stage` and `ready`, then move elementwise nodes to where they are needed first."""
        for i, node in enumerate(self.nodes):
            if not self.live[i]:
                continue
            here = self._same_loop(i)
            stage = max((self.stage[j] if j in here else self.ready[j] for j in node.inputs), default=0)
            self.stage[i] = stage
            self.ready[i] = stage + 1 if self.fused[i] or self._columns(i) else stage
        latest = [NEVER] * len(self.nodes)
        for i in range(len(self.nodes) - 1, -1, -1):
            node = self.nodes[i]
            if not self.live[i]:
                continue
            here = self._same_loop(i)
            if self.fused[i]:
                if latest[i] != NEVER and i not in self.graph.outputs:
                    self.stage[i] = max(self.stage[i], latest[i])
                self.ready[i] = self.stage[i] + 1
            for j in node.inputs:
                latest[j] = min(latest[j], self.stage[i] - (j not in here))

    # The loops.

    def _loop(self, stage: int, domain: Domain) -> Loop:
        return self.loops.setdefault((stage, domain.rows, domain.width), Loop(stage, domain))

    def read(self, j: int, domain: Domain, level: str) -> Read:
        """How a loop over `domain` reads node j."""
        x = self.flat[j]
        assert x is not None
        rows, width = {"element": (domain.rows, domain.width), "row": (domain.rows, 1),
                       "vector": (1, domain.width), "cell": (1, 1)}[level]
        if self.nodes[j].op is CONST:
            return Read("cell", j, 1, 1)
        if x.rows is not None and (x.rows != rows or x.width != width):
            x = _Flat(j)
        if not x.in_pool:
            self.wanted.add(x.base)
        if x.through >= 0:
            self.wanted.add(x.through)
        if x.rows is None:
            return Read(level, x.base, rows, width)
        return Read(level, x.base, x.base_rows, x.total, x.offset, x.through, x.in_pool)

    def build(self) -> Steps:
        """Make the loops, add what they read, put all in order."""
        for i, node in enumerate(self.nodes):
            if not self.live[i] or not self.fused[i]:
                continue
            domain = self.domain(i)
            s = next(s for s, d in _splits(node.type.shape) if d == domain)
            loop = self._loop(self.stage[i], domain)
            operands: list[int | Read] = []
            for j in node.inputs:
                if self._inline(j, i) and self.stage[j] == self.stage[i]:
                    operands.append(j)
                else:
                    shape = node.type.shape if node.op is RESHAPE else self.nodes[j].type.shape
                    operands.append(self.read(j, domain, _level(shape, node.type.shape, s) or ""))
            loop.nodes.append(i)
            loop.reads[i] = tuple(operands)
        for i, node in enumerate(self.nodes):
            if self.live[i] and (columns := self._columns(i)):
                total = size_of(node.type.shape[node.attrs[0] + node.type.ndim:])
                for j, (start, domain) in zip(node.inputs, columns, strict=True):
                    self._store(j, domain, "node", i, total, start, self.stage[i])
            elif self.live[i] and not self.fused[i] and self._is_call(i):
                self.wanted.add(i)
        self._outputs()
        return self._ordered()

    def _is_call(self, i: int) -> bool:
        node = self.nodes[i]
        return node.op not in (INPUT, CONST) and self.flat[i].base == i  # type: ignore[union-attr]

    def _store(self, j: int, domain: Domain, kind: str, target: int, total: int, start: int, stage: int) -> None:
        if self.fused[j] and self.domain(j) == domain:
            loop = self._loop(self.stage[j], domain)
            loop.stores.append(Store(j, kind, target, total, start))
        else:
            stage = max(stage, self.ready[j])
            level = "row" if domain.width == 1 else "element"
            self._loop(stage, domain).stores.append(Store(self.read(j, domain, level), kind, target, total, start))

    def _outputs(self) -> None:
        for o, i in enumerate(self.graph.outputs):
            node = self.nodes[i]
            if not node.type.shape or not isinstance(node.type.shape[0], Dim):
                self.wanted.add(i)
                continue
            domain = rows_domain(node.type)
            kind = "add" if self.accumulate[o] else "output"
            if kind == "output" and self.fused[i]:
                domain = self.domain(i)
            if kind == "output" and self.graph.outputs.index(i) == o and not self.fused[i] and self._is_call(i):
                continue  # the call or the parts of the concat are written there directly
            self._store(i, domain, kind, o, domain.width, 0, self.ready[i])

    def _ordered(self) -> Steps:
        waiting = sorted(self.wanted)
        while waiting:  # a call needs its operands as arrays
            i = waiting.pop()
            for j in self.nodes[i].inputs if not self.fused[i] and not self._columns(i) else ():
                if j not in self.wanted:
                    self.wanted.add(j)
                    waiting.append(j)
        direct = {self.graph.outputs[o] for o, add in enumerate(self.accumulate) if not add}
        for i in sorted(self.wanted):
            if self.fused[i] and i not in direct:
                domain = self.domain(i)
                self._loop(self.stage[i], domain).stores.append(Store(i, "node", i, domain.width))
        steps: list[tuple[int, int, int, int | Loop]] = []
        for i in self.wanted:
            if not self.fused[i]:
                steps.append((self.stage[i], 0, i, i))
        for number, loop in enumerate(self.loops.values()):
            steps.append((loop.stage, 1, number, loop))
        steps.sort(key=lambda step: step[:3])
        return Steps(self.graph, [step[3] for step in steps])


def fuse(graph: Graph, accumulate: Sequence[bool]) -> Steps:
    """Plan loops and calls for a graph after `rewrite`."""
    planner = _Planner(graph, accumulate)
    planner.choose()
    planner.number_stages()
    return planner.build()


def calls_only(graph: Graph) -> Steps:
    """Every node a call."""
    return Steps(graph, [i for i, live in enumerate(graph.live()) if live])
