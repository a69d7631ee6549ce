"""arrange: which values of a program are stored in memory, where, and which are inlined where they are read.

Input: the `Steps` of a graph, and which results are added to rows. Output: an `Arrangement`. Invariants: what a library
or a bisection reads is in memory; an inlined value depends on values that are in memory before it is read; no
two steps write one place. Cost: O(nodes × loops).

Results, and what is only copied to a result, are written in place. Inlined, beside ops that move elements, are
values of a loop that a single kernel reads, once each, as a sum of exponentials does; and those that cost no more than
reading them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...base.types import Dim, size_of
from ...ir.graph import CONST, INPUT
from ...ops.declare import Op
from ...ops.linalg import PRODUCT
from ...ops.movement import RESHAPE
from ...ops.random import NORMAL
from ..steps import Loop, Read, Steps, Store
from .inlined import INLINED, is_inlined_scatter
from .matmuls import matrix
from .scalars import INT64

_ARITHMETIC = "add sub mul neg abs sign maximum minimum relu less less_equal equal not_equal where cast stop_gradient"
_CHEAP = (INLINED - {NORMAL.name}) | frozenset(_ARITHMETIC.split())
"""Ops that may be computed several times rather than stored."""

_FEW_LOADS = 3

OWN_KERNELS = ("segments", "pairs", "whole")
"""Batching rules of ops that have kernels of their own."""


@dataclass(slots=True)
class Arrangement:
    """What the driver writes.

    order: calls and loops, without the stores that are not needed
    places: address of each node that is in memory, a name of the driver
    copied: nodes that have no kernel of their own and are copied to memory
    gathered: operands of kind "rows" that matmuls read: copied to memory unless they are one block
    temporary: names of temporary arrays → bytes
    """

    steps: Steps
    order: list[int | Loop] = field(default_factory=list)
    places: dict[int, str] = field(default_factory=dict)
    copied: set[int] = field(default_factory=set)
    gathered: set[int] = field(default_factory=set)
    temporary: dict[str, Any] = field(default_factory=dict)

    def reserve(self, name: str, i: int) -> str:
        """A temporary array for numbers like those of a node."""
        type = self.steps.graph.nodes[i].type
        self.temporary[name] = size_of(type.shape) * type.dtype.itemsize
        return name

    def place(self, i: int) -> str:
        """The address of a node that a library reads."""
        nodes = self.steps.graph.nodes
        while i not in self.places and i not in self.gathered and nodes[i].op is RESHAPE:
            i = nodes[i].inputs[0]
        return self.places.get(i, f"v{i}")


def arrange(steps: Steps, accumulate: Sequence[bool], adds: bool) -> Arrangement:
    """Decide for all values. `adds`: whether results that go to rows are added to them, not stored."""
    return _Arranger(steps, accumulate, adds).arrange()


class _Arranger:
    def __init__(self, steps: Steps, accumulate: Sequence[bool], adds: bool) -> None:
        self.made_here = Arrangement(steps)
        self.steps, self.graph, self.nodes = steps, steps.graph, steps.graph.nodes
        self.adds = adds
        self.places = self.made_here.places
        self.copied, self.gathered = self.made_here.copied, self.made_here.gathered
        self.loops = [replace(step, stores=list(step.stores)) for step in steps.order if isinstance(step, Loop)]
        self.calls = [step for step in steps.order if isinstance(step, int)]
        self.result_of: dict[int, int] = {}
        for o, i in reversed(list(enumerate(self.graph.outputs))):
            if not accumulate[o]:
                self.result_of[i] = o
        self.made = {s.target for loop in self.loops for s in loop.stores if s.kind == "node"}
        self.direct: set[int] = set()  # results that no loop copies
        self.demanded: set[int] = set()  # what must be in memory as it is

    def arrange(self) -> Arrangement:
        """All decisions, in order."""
        self._results()
        self._operands()
        # Rows that are gathered for a matmul and copied to a result are gathered there.
        self._place_copies(lambda r: r.in_pool and r.node in self.gathered and r.node not in self.places)
        self._inlined_loops()
        self._nodes()
        loops = iter(self.loops)
        self.made_here.order = [next(loops) if isinstance(step, Loop) else step for step in self.steps.order]
        return self.made_here

    def is_heavy(self, i: int) -> bool:
        """Whether a node has a kernel of its own."""
        op = self.nodes[i].op
        return (
            op is PRODUCT
            or op.batch in OWN_KERNELS
            or (op.combine is not None and not is_inlined_scatter(self.graph, i))
        )

    def is_stored(self, i: int) -> bool:
        """Whether a node is in memory, for all readers."""
        node = self.nodes[i]
        if i in self.made or i in self.places or i in self.copied or i in self.gathered or self.is_heavy(i):
            return True
        return node.kind not in ("", "rows")

    def _results(self) -> None:
        """Results that are written in place."""
        stored = {s.value for loop in self.loops for s in loop.stores if s.kind == "output" and type(s.value) is int}
        copied = {s.target for loop in self.loops for s in loop.stores if s.kind == "output" and s.value not in stored}
        self.direct = {i for i, o in self.result_of.items() if o not in copied}
        for i in self.direct:
            if i in stored or i in self.made or self.is_heavy(i):
                self.places[i] = f"out{self.result_of[i]}"
        for i in sorted(self.direct):
            j = i
            while self.nodes[j].op is RESHAPE:
                j = self.nodes[j].inputs[0]
            if i not in self.places and self.is_heavy(j) and j not in self.places:
                self.places[i] = self.places[j] = f"out{self.result_of[i]}"
        self._place_copies(lambda r: not r.in_pool and self.is_stored(r.node) and self.nodes[r.node].op is not INPUT)

    def _place_copies(self, may: Callable[[Read], bool]) -> None:
        """What a loop only copies to a result, and may be placed there, needs no store."""
        for loop in self.loops:
            for s in list(loop.stores):
                read, target = self._whole(s, loop), f"out{s.target}"
                if read is not None and may(read) and self.places.setdefault(read.node, target) == target:
                    loop.stores.remove(s)

    def _whole(self, store: Store, loop: Loop) -> Read | None:
        """What a store of a result copies as it is."""
        read = store.value
        if store.kind != "output" or isinstance(read, int) or read.level not in ("element", "row"):
            return None
        whole = read.offset == 0 and read.width == store.width == loop.domain.width and read.through < 0
        return read if whole else None

    def _operands(self) -> None:
        """What libraries and bisections read."""
        for i in self.calls:
            node = self.nodes[i]
            if node.op is PRODUCT and node.type.dtype.kind == "f":
                for j in node.inputs:
                    self._demand(matrix(self.graph, j, self.is_stored).node)
            elif node.op.batch in OWN_KERNELS:
                for j in node.inputs:
                    self._demand(j)
            elif reduces_segments(node.op) and self.is_heavy(i) and self.nodes[node.inputs[1]].type.dtype == INT64:
                self._demand(node.inputs[1])
        for i in self.calls:
            node = self.nodes[i]
            costly = node.op.batch == "elementwise" and node.op.name not in _CHEAP
            if not self.is_stored(i) and (costly or i in self.direct) and node.op not in (INPUT, CONST):
                self.copied.add(i)
        for loop in self.loops if self.adds else ():
            self.demanded |= {s.value.node for s in loop.stores if s.kind == "add" and isinstance(s.value, Read)}

    def _demand(self, i: int) -> None:
        while not self.is_stored(i) and self.nodes[i].op is RESHAPE:
            i = self.nodes[i].inputs[0]
        self.demanded.add(i)
        if not self.is_stored(i):
            (self.gathered if self.nodes[i].op is INPUT else self.copied).add(i)

    # Inlined values of loops.

    def _inlined_loops(self) -> None:
        for i in sorted(self.made, reverse=True):
            if i in self.places or i in self.demanded or self.nodes[i].op.batch != "elementwise":
                continue
            own = size_of(self.nodes[i].type.shape)
            if not self._is_cheap(i, own):
                readers = [(size, many) for size, many, found in self._readers() if i in found]
                if len(readers) != 1 or readers[0][1] or not self._few(readers[0][0], own):
                    continue
            self.made.discard(i)
            for loop in self.loops:
                loop.stores = [s for s in loop.stores if s.kind != "node" or s.target != i]

    def _few(self, size: Any, own: Any) -> bool:
        """Whether so many reads are one an element, or fewer."""
        if isinstance(size, Dim) and isinstance(own, Dim):
            return size.index == own.index and size.factor <= own.factor
        return not isinstance(size, Dim) and not isinstance(own, Dim) and size <= own

    def _is_cheap(self, i: int, own: Any) -> bool:
        """Whether recomputing a value takes no more reading than the value itself, and little arithmetic."""
        loads: set[int] = set()
        waiting, seen = [i], set()
        while waiting:
            j = waiting.pop()
            if j in seen or self.nodes[j].op is CONST:
                continue
            seen.add(j)
            if j != i and (self.is_stored(j) or self.nodes[j].op is INPUT):
                loads.add(j)
            elif self.nodes[j].op.name not in _CHEAP:
                return False
            else:
                waiting.extend(self.nodes[j].inputs)
        large = [j for j in loads if self._few(own, size_of(self.nodes[j].type.shape))]
        return len(loads) <= _FEW_LOADS and len(large) <= 1

    def _readers(self) -> list[tuple[Any, bool, set[int]]]:
        """For each kernel how many elements it makes, whether it reads some many times, and which arrays it reads."""
        found: list[tuple[Any, bool, set[int]]] = []
        for loop in self.loops:
            found.append((loop.domain.rows * loop.domain.width, False, self._arrays(loop_reads(loop))))
        for i in self.calls:
            node = self.nodes[i]
            if self.is_heavy(i) or i in self.copied:
                many = node.op is PRODUCT or node.op.batch in OWN_KERNELS
                made = node if many or not self.is_heavy(i) else self.nodes[node.inputs[0]]
                found.append((size_of(made.type.shape), many, self._arrays(node.inputs)))
        direct = {i for i in self.graph.outputs if i not in self.places}
        found += [(size_of(self.nodes[i].type.shape), False, self._arrays([i])) for i in direct]
        return found

    def _arrays(self, reads: Sequence[int]) -> set[int]:
        """The arrays that are read through inlined values."""
        found: set[int] = set()
        waiting, seen = list(reads), set()
        while waiting:
            j = waiting.pop()
            if j in seen:
                continue
            seen.add(j)
            if self.is_stored(j):
                found.add(j)
            else:
                waiting.extend(self.nodes[j].inputs)
        return found

    def _nodes(self) -> None:
        """Places of all values in memory."""
        for i, node in enumerate(self.nodes):
            if i in self.places:
                continue
            if node.op is INPUT:
                if node.attrs[0] != "rows":
                    self.places[i] = f"v{i}"
            elif i in self.copied and i in self.direct:
                self.places[i] = f"out{self.result_of[i]}"
            elif i in self.made or i in self.copied or self.is_heavy(i):
                self.places[i] = self.made_here.reserve(f"v{i}", i)
            elif node.op is RESHAPE and node.inputs[0] in self.places:
                self.places[i] = self.places[node.inputs[0]]
        for i in self.gathered - set(self.places):  # its loops read the pool; matmuls read what is gathered
            self.made_here.reserve(f"v{i}", i)


def reduces_segments(op: Op) -> bool:
    """Whether an op reduces rows, by an operand that says which segment each belongs to."""
    return op.combine is not None and op.batch != "reduce" and not is_scan(op)


def is_scan(op: Op) -> bool:
    """Whether an op combines the elements of an axis, or of each segment of rows, up to each one."""
    return op.combine is not None and (op.batch == "scan" or op.per_element)


def needed_nodes(loop: Loop) -> set[int]:
    """The nodes of a loop that its stores need."""
    needed = {s.value for s in loop.stores if isinstance(s.value, int)}
    for i in (*reversed(loop.nodes), *reversed(loop.row_nodes)):
        if i in needed:
            needed |= {r for r in loop.reads[i] if isinstance(r, int)}
    return needed


def loop_reads(loop: Loop) -> list[int]:
    """The nodes outside of a loop that it reads."""
    needed = needed_nodes(loop)
    reads = [s.value for s in loop.stores] + [r for i in needed for r in loop.reads[i]]
    arrays = [r for r in reads if isinstance(r, Read)]
    return [r.node for r in arrays] + [r.through for r in arrays if r.through >= 0]
