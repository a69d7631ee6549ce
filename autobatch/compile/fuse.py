"""Fuse: which nodes of a batched graph become generated loops, and what is called in between.

Input: a batched `Graph` and which results are added to rows. Output: `Steps`, calls and loops in order. Invariants:
every value that a step reads was made by an earlier step; a loop runs over one domain, R rows of w columns, and the
nodes in it read and write row i, column j only. Cost: O(nodes × rank).

A value is treated as a matrix of R rows and w columns: the product of its leading extents, starting with the `Dim`, and
that of the others. Loops run in *stages*: a call has the stage of its latest operand, an elementwise node too; what a
loop stores can be read one stage later. So all loops of one stage and domain are one loop. Elementwise nodes are then
moved to the stage in which they are needed first. A value with one number per row is computed again, before the
columns, by each loop that uses it.

With `reductions`, reductions over the last axes are part of the loop over the rows that they reduce, its *host*,
and so is what has one number per row and follows from them: a softmax is one loop, which passes a row several times
while it is in the cache.

    call   %2 = product(%0, %1)
    loop   m × 64: %4 = add(%2[:, 0:64], %3), %5 = max(%4), %6 = sub(%4, %5) → result 0
"""

from __future__ import annotations

from collections.abc import Sequence

from ..base.types import size_of
from ..ir.graph import CONST, INPUT, Graph
from ..ops.index import ARANGE
from ..ops.movement import RESHAPE
from .domains import Domains, Flat, level_of
from .rewrites.in_place_matmuls import STACKED
from .steps import Domain, Extent, Loop, Read, Steps, Store, rows_domain, splits

NEVER = 1 << 30


class _Planner(Domains):
    def __init__(self, graph: Graph, accumulate: Sequence[bool], reductions: bool) -> None:
        super().__init__(graph, accumulate, reductions)
        self.stage = [0] * len(graph.nodes)
        self.ready = [0] * len(graph.nodes)
        self.wanted: set[int] = set()  # nodes that are read as an array
        self.inner: set[int] = set()  # fused nodes that are computed in their loop
        self.loops: dict[tuple[int, Extent, int], Loop] = {}

    # When each node runs.

    def _is_here(self, j: int, i: int) -> bool:
        """Whether the loop of fused node i can have operand j as a value of its own."""
        if not self.fused[j]:
            return False
        if self.reduced(i):
            return self.domain(j) == self.host[i]
        if self.is_inline(j, i):
            return self.host[j] == self.host[i] or self.is_in_own(j)
        return self._per_row(j, i) and (self.host[j] == self.host[i] or self.is_in_own(j))

    def _same_loop(self, i: int) -> set[int]:
        """Operands of a node that may be values of the loop that makes the node, or a part of it."""
        node = self.nodes[i]
        if self.fused[i]:
            return {j for j in node.inputs if self._is_here(j, i)}
        parts = zip(node.inputs, self.columns(i) or (), strict=False)
        return {j for j, (_, domain) in parts if self.fused[j] and self.domain(j) == domain}

    def number_stages(self) -> None:
        """Fill `stage` and `ready`, then move elementwise nodes to where they are needed first."""
        for i, node in enumerate(self.nodes):
            if not self.live[i]:
                continue
            here = self._same_loop(i)
            stage = max((self.stage[j] if j in here else self.ready[j] for j in node.inputs), default=0)
            self.stage[i] = stage
            self.ready[i] = stage + 1 if self.fused[i] or self.columns(i) else stage
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
        rows, width = {
            "element": (domain.rows, domain.width),
            "row": (domain.rows, 1),
            "vector": (1, domain.width),
            "cell": (1, 1),
        }[level]
        if self.nodes[j].op is CONST:
            return Read("cell", j, 1, 1)
        if self.reductions and self.nodes[j].op is ARANGE and level == "vector":
            return Read("column", j, 1, width)
        if x.rows is not None and (x.rows != rows or x.width != width):
            x = Flat(j)
        if not x.in_pool:
            self.wanted.add(x.base)
        if x.through >= 0:
            self.wanted.add(x.through)
        if x.rows is None or x.base_rows is None:
            return Read(level, x.base, rows, width)
        return Read(level, x.base, x.base_rows, x.total, x.offset, x.through, x.in_pool)

    def build(self) -> Steps:
        """Make the loops, from the results back, so that only what is read is made."""
        self._outputs()
        for i in range(len(self.nodes) - 1, -1, -1):
            node = self.nodes[i]
            if not self.live[i]:
                continue
            if self.fused[i]:
                if i in self.wanted or i in self.inner:
                    self._compute(i)
            elif columns := self.columns(i):
                total = size_of(node.type.shape[node.attrs[0] + node.type.ndim :])
                for j, (start, domain) in zip(node.inputs, columns, strict=True):
                    self._store(j, domain, "node", i, total, start, self.stage[i])
            elif i in self.wanted or self._is_call(i):
                self.wanted.add(i)
                self.wanted.update(node.inputs)
        return self._ordered()

    def _compute(self, i: int) -> None:
        """Put a fused node into its loop."""
        host = self.host[i]
        assert host is not None
        loop = self._loop(self.stage[i], host)
        own = host if self.reduced(i) else self.domain(i)
        operands: list[int | Read] = []
        for j, level in zip(self.nodes[i].inputs, self._levels(i), strict=True):
            here = self._is_here(j, i)
            if here and self.host[j] != host:
                self._compute_row(loop, j)
                operands.append(j)
            elif here and self.stage[j] == self.stage[i]:
                self.inner.add(j)
                operands.append(j)
            else:
                operands.append(self.read(j, own, level))
        kind = loop.reductions if self.reduced(i) else loop.nodes if own == host else loop.row_nodes
        kind.append(i)
        loop.reads[i] = tuple(operands)

    def _levels(self, i: int) -> list[str]:
        node = self.nodes[i]
        if self.reduced(i):
            return ["element"]
        domain, shape = self.domain(i), node.type.shape
        operands = [shape if node.op is RESHAPE else self.nodes[j].type.shape for j in node.inputs]
        found = ([level_of(x, shape, s) for x in operands] for s, d in splits(shape) if d == domain)
        return next([level for level in levels if level] for levels in found if all(levels))

    def _per_row(self, j: int, i: int) -> bool:
        """Whether operand j is one number per row of the domain of i, and computed in a loop."""
        domain = self.domain(i)
        if not self.fused[j] or domain.width == 1 or self.domain(j) != Domain(domain.rows, 1):
            return False
        return all(level == "row" for k, level in zip(self.nodes[i].inputs, self._levels(i), strict=True) if k == j)

    def _compute_row(self, loop: Loop, j: int) -> None:
        waiting = [j]
        while waiting:
            i = waiting.pop()
            if i in loop.reads:
                continue
            operands: list[int | Read] = []
            for k, level in zip(self.nodes[i].inputs, self._levels(i), strict=True):
                if self.is_inline(k, i) and self.is_in_own(k):
                    waiting.append(k)
                    operands.append(k)
                else:
                    operands.append(self.read(k, Domain(loop.domain.rows, 1), level))
            loop.row_nodes.append(i)
            loop.reads[i] = tuple(operands)

    def _is_call(self, i: int) -> bool:
        node = self.nodes[i]
        return node.op not in (INPUT, CONST, ARANGE) and self.flat[i].base == i  # type: ignore[union-attr]

    def _store(self, j: int, domain: Domain, kind: str, target: int, total: int, start: int, stage: int) -> None:
        if self.fused[j] and self.domain(j) == domain:
            self.inner.add(j)
            self._store_value(j, kind, target, total, start)
        else:
            stage = max(stage, self.ready[j])
            level = "row" if domain.width == 1 else "element"
            self._loop(stage, domain).stores.append(Store(self.read(j, domain, level), kind, target, total, start))

    def _store_value(self, j: int, kind: str, target: int, total: int, start: int = 0) -> None:
        host = self.host[j]
        assert host is not None
        store = Store(j, kind, target, total, start, not self.is_in_own(j))
        self._loop(self.stage[j], host).stores.append(store)

    def _outputs(self) -> None:
        for o, i in enumerate(self.graph.outputs):
            node = self.nodes[i]
            if not node.type.has_dim:
                self.wanted.add(i)
                continue
            if self.accumulate[o] and node.op is STACKED:
                self.wanted.add(i)  # the call adds to rows itself
                continue
            domain = rows_domain(node.type)
            kind = "add" if self.accumulate[o] else "output"
            if kind == "output" and self.fused[i]:
                domain = self.domain(i)
            if kind == "output" and self.graph.outputs.index(i) == o and not self.fused[i] and self._is_call(i):
                continue  # the call or the parts of the concat are written there directly
            self._store(i, domain, kind, o, domain.width, 0, self.ready[i])

    def _ordered(self) -> Steps:
        direct = {self.graph.outputs[o] for o, add in enumerate(self.accumulate) if not add}
        for i in sorted(self.wanted):
            if self.fused[i] and i not in direct:
                self._store_value(i, "node", i, self.domain(i).width)
        steps: list[tuple[int, int, int, int | Loop]] = []
        for i in self.wanted:
            if not self.fused[i]:
                steps.append((self.stage[i], 0, i, i))
        for number, loop in enumerate(self.loops.values()):
            loop.nodes.sort()
            loop.row_nodes.sort()
            loop.reductions.sort()
            steps.append((loop.stage, 1, number, loop))
        steps.sort(key=lambda step: step[:3])
        return Steps(self.graph, [step[3] for step in steps])


def fuse(graph: Graph, accumulate: Sequence[bool], reductions: bool = False) -> Steps:
    """Plan loops and calls for a graph. `reductions`: whether reductions of rows are parts of loops."""
    planner = _Planner(graph, accumulate, reductions)
    planner.number_stages()
    return planner.build()


def calls_only(graph: Graph) -> Steps:
    """Every node a call."""
    return Steps(graph, [i for i, live in enumerate(graph.live()) if live])
