"""execute: a `Plan` → values, launch by launch.

Input: tape, schedule, plan, the signatures they speak of, arrays from outside, arrays of shared operands.
Output: `Run`, which holds the pools and what the reverse pass needs.
Invariants: a launch writes one contiguous block per result and reads rows written before. Cost: one loop over the
launches, a few microseconds each beyond arithmetic.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit

from ..types import Dim, Type, size_of
from .expand import Expansion
from .feed import Feed, feed, form_of, from_lengths
from .interpret import interpret
from .memory import Lease
from .program import Plan, Schedule, Tape

Array = np.ndarray[Any, Any]


@njit(cache=True)
def gradient_needed(sig, slot_of, arg_of, args, value_of, trainable, frozen, linked, target):  # type: ignore[no-untyped-def]
    """Nodes whose results depend on something trainable and lead to a target value (`target` [V], all ones: any)."""
    n = sig.size
    producer = np.empty(value_of[n], np.int32)
    needs = np.zeros(n, np.uint8)
    for node in range(n):
        for v in range(value_of[node], value_of[node + 1]):
            producer[v] = node
        s = sig[node]
        need = trainable[s] != 0 or linked[node] != 0
        for a in range(arg_of[slot_of[node]], arg_of[slot_of[node + 1]]):
            need = need or needs[producer[args[a]]] != 0
        needs[node] = need and (frozen[s] == 0 or linked[node] != 0)
    wanted = target.copy()
    for node in range(n - 1, -1, -1):
        hit = False
        for v in range(value_of[node], value_of[node + 1]):
            hit = hit or wanted[v] != 0
        if hit and needs[node]:
            for a in range(arg_of[slot_of[node]], arg_of[slot_of[node + 1]]):
                wanted[args[a]] = 1
        needs[node] = needs[node] and hit
    return needs


@dataclass(slots=True)
class Launch:
    """One launch, ready to run: what each operand reads and where each result goes."""

    sig: int
    sizes: tuple[int, ...]
    accesses: list[tuple[Any, Array, int]]
    offsets: list[Array]
    data: list[Array]
    writes: list[tuple[int, int, int]]
    at: tuple[int, ...]
    """Position of the launch among all launches of its signature, in nodes and in elements of each list."""


@dataclass(slots=True)
class Run:
    """Values of one tape, and what is kept for its reverse pass. Values are asked for by their recorded numbers."""

    expansion: Expansion
    schedule: Schedule
    plan: Plan
    signatures: Sequence[Any]
    backend: str
    memo: dict[Any, Array]
    pools: list[Array]
    needs: Any
    lease: Lease
    launches: list[Launch] = field(default_factory=list)
    kept: dict[int, list[Array]] = field(default_factory=dict)
    needs_sig: Any = None
    facts: dict[Any, Any] = field(default_factory=dict)
    """What the reverse pass found out from schedule and plan, by what it was asked; runs of one structure share it."""

    @property
    def tape(self) -> Tape:
        """What was scheduled."""
        return self.expansion.tape

    def rows(self, recorded: int) -> tuple[int, Any]:
        """Pool of a value and its row numbers."""
        value = self.expansion.value(recorded)
        node = int(np.searchsorted(self.tape.value_of, value, side="right")) - 1
        table = self.tape.signatures
        result = table.result_of[self.tape.sig[node]] + value - self.tape.value_of[node]
        start, count = int(self.plan.start[value]), int(self.plan.count[value])
        if start >= 0:
            return int(table.result_pool[result]), slice(start, start + count)
        at = -start - 2
        return int(table.result_pool[result]), self.plan.scattered[at : at + count]

    def accesses(self, launch: Any) -> list[tuple[Any, Array, int]]:
        """What each slot of a launch reads: a pool, row numbers, and the first where they are consecutive, else -1."""
        found: list[tuple[Any, Array, int]] = launch.accesses
        return found

    def is_placed(self, recorded: int) -> bool:
        """Whether a value was computed."""
        return bool(self.plan.start[self.expansion.value(recorded)] != -1)

    def value(self, recorded: int, type: Type) -> Array:
        """A copy of one value."""
        pool, rows = self.rows(recorded)
        return np.array(self.pools[pool][rows]).reshape(type.shape)

    def copies(self, recorded: Sequence[int], type: Type) -> Any:
        """Copies of values of one type, numbered as given; those that lie in one piece are copied together."""
        numbers = np.array(recorded)
        if self.expansion.number is not None:
            numbers = self.expansion.number[numbers]
        starts = self.plan.start[numbers]
        if not (numbers >= 0).all() or not ((starts >= 0) & (self.plan.count[numbers] == type.rows)).all():
            return [self.value(one, type) for one in recorded]
        pool = self.pools[self.tape.pools.index((type.width, type.dtype))]
        rows = (starts[:, None] + np.arange(type.rows)).reshape(-1)
        return pool[rows].reshape(len(recorded), *type.shape)


def places_of(run: Run, payloads: Sequence[tuple[int, Any]]) -> tuple[Array, Array, Array, Array]:
    """Which arrays from outside are read, by pool and row; and of each of these the pool, first row and end."""
    values = np.array([recorded for recorded, _ in payloads])
    if run.expansion.number is not None:
        values = run.expansion.number[values]
    tape = run.tape
    nodes = np.searchsorted(tape.value_of, values, side="right") - 1
    pool_of = tape.signatures.result_pool[tape.signatures.result_of[tape.sig[nodes]]]
    starts, counts = run.plan.start[values], run.plan.count[values]
    order = np.lexsort((starts, pool_of))
    order = order[starts[order] >= 0]
    return order, pool_of[order], starts[order], starts[order] + counts[order]


def load(run: Run, payloads: Sequence[tuple[int, Array]]) -> None:
    """Write arrays from outside, with the numbers of their values as recorded, to their rows; unread ones are left out.

    Values that lie side by side are written together.
    """
    if not payloads:
        return
    order, pool_of, starts, ends = places_of(run, payloads)
    if not order.size:
        return
    is_first = np.concatenate(([True], (starts[1:] != ends[:-1]) | (pool_of[1:] != pool_of[:-1])))
    firsts = np.flatnonzero(is_first).tolist()
    arrays = [payloads[k][1].reshape(-1) for k in order.tolist()]
    for a, b in zip(firsts, [*firsts[1:], len(arrays)], strict=True):
        block = run.pools[pool_of[a]][starts[a] : ends[b - 1]]
        np.concatenate(arrays[a:b], out=block.reshape(-1))


def prepare(run: Run) -> None:
    """Lay out every launch of the plan."""
    plan, schedule, table = run.plan, run.schedule, run.tape.signatures
    launch_of, access_of, rows_of = schedule.launch_of.tolist(), plan.access_of.tolist(), plan.rows_of.tolist()
    blocks, offsets_of = plan.block.tolist(), plan.offsets_of.tolist()
    write_of, write_start, write_rows = plan.write_of.tolist(), plan.write_start.tolist(), plan.write_rows.tolist()
    int_of, float_of = plan.int_of.tolist(), plan.float_of.tolist()
    result_of, result_pool = table.result_of.tolist(), table.result_pool.tolist()
    all_rows = plan.rows
    layouts: dict[int, Any] = {}
    totals: dict[int, tuple[int, ...]] = {}
    for launch, s in enumerate(schedule.launch_sig.tolist()):
        layout = layouts.get(s)
        if layout is None:
            signature = run.signatures[s]
            pools = [run.pools[pool_number(run, slot)] for slot in signature.slots]
            written = result_pool[result_of[s] : result_of[s + 1]]
            layout = layouts[s] = (pools, written, signature.lists, signature.by_rows, _columns(signature.data))
            totals[s] = (0,) * (1 + len(signature.lists))
        pools, written, lists, by_rows, columns = layout
        n = launch_of[launch + 1] - launch_of[launch]
        first = access_of[launch]
        accesses = [
            (pool, all_rows[rows_of[a] : rows_of[a + 1]], blocks[a]) for a, pool in enumerate(pools, start=first)
        ]
        sizes: tuple[int, ...] = (rows_of[first + 1] - rows_of[first] if by_rows else n,)
        offsets = []
        for k in lists:
            at = offsets_of[first + k]
            offsets.append(plan.offsets[at : at + n + 1])
            sizes = (*sizes, int(plan.offsets[at + n]))
        data = []
        for is_int, column in columns:
            at = (int_of if is_int else float_of)[launch] + column * n
            data.append((plan.ints if is_int else plan.floats)[at : at + n])
        w = write_of[launch]
        writes = list(zip(written, write_start[w : w + len(written)], write_rows[w : w + len(written)], strict=True))
        total = totals[s]
        run.launches.append(Launch(s, sizes, accesses, offsets, data, writes, total))
        totals[s] = tuple(map(operator.add, total, sizes))
    for s, total in totals.items():
        if run.needs_sig[s]:
            types = run.signatures[s].kernel.pieces.kept
            run.kept[s] = [run.lease.empty(rows_shape(t, total), t.dtype) for t in types]


@functools.cache
def _columns(data: str) -> list[tuple[bool, int]]:
    """For each datum of a signature whether it is a whole number, and its place among those of its kind."""
    return [(kind == "i", data[:k].count(kind)) for k, kind in enumerate(data)]


def pool_number(run: Run, slot: Any) -> int:
    """The pool that a slot of a signature reads."""
    return run.tape.pools.index(slot.pool)


def rows_shape(type: Type, sizes: Sequence[int]) -> tuple[int, int]:
    """Rows and width of a batched value as 2-D rows."""
    lead = type.shape[0]
    return sizes[lead.index] * lead.factor, size_of(type.shape[1:])


def resolve(type: Type, sizes: Sequence[int]) -> tuple[int, ...]:
    """A shape with its `Dim`s put in."""
    return tuple(sizes[n.index] * n.factor if isinstance(n, Dim) else n for n in type.shape)


def rows_of_launch(array: Array, type: Type, launch: Launch) -> Array:
    """The part of a kept array that belongs to a launch, as 2-D rows."""
    lead = type.shape[0]
    start = launch.at[lead.index] * lead.factor
    return array[start : start + launch.sizes[lead.index] * lead.factor]


def same_for_all(run: Run, sig: int, kind: str, k: int) -> Array:
    """A shared operand of a signature, or what is derived from such, computed when it is first read in a run."""
    signature = run.signatures[sig]
    if kind == "shared":
        found: Array = run.memo[signature.shared[k]]
        return found
    key = (signature, k)
    if key not in run.memo:
        expression = signature.kernel.expressions[k]
        run.memo[key] = interpret(expression, lambda _, operand: run.memo[signature.shared[operand]])[0]
    return run.memo[key]


@dataclass(slots=True)
class Code:
    """A piece of a signature in a run: what every launch of it calls, and with what.

    program: the function; feed: how its arguments come together
    same: those that are the same for all launches
    kept: for each value that the piece keeps the array, and index and factor of its leading length
    """

    program: Callable[..., list[Any]]
    feed: Feed
    same: list[Array]
    kept: list[tuple[Array, int, int]]

    def arguments(self, launch: Launch, *more: Array) -> Sequence[Any]:
        """What the program reads in a launch; `more` are cotangents, then kept values."""
        found = [*launch.accesses, *launch.data, *self.same, *more]
        if self.feed.derived:
            found += [from_lengths(kind, launch.offsets[k - 1]) for kind, k in self.feed.derived]
        return self.feed.pick(found)

    def keep(self, launch: Launch, outputs: list[Any]) -> None:
        """Append the rows of what is kept to what the program writes in a launch."""
        sizes, at = launch.sizes, launch.at
        for array, index, factor in self.kept:
            start = at[index] * factor
            outputs.append(array[start : start + sizes[index] * factor])


def code_of(run: Run, s: int, piece: str, add: bool = True) -> Code:
    """The code of a piece of a signature, in this run."""
    signature = run.signatures[s]
    kernel = signature.kernel
    feeds: dict[str, Feed] = signature.__dict__.setdefault("feeds", {})
    found = feeds.get(piece)
    if found is None:
        graph = kernel.graph_of(piece)
        cotangents = {n.attrs[1]: n.type for n in graph.nodes if n.is_input and n.attrs[0] == "cotangent"}
        kept_types = () if piece == "inference" else kernel.pieces.kept
        found = feeds[piece] = feed(
            kernel.inputs(piece), len(signature.slots), len(signature.data), cotangents, kept_types
        )
    kept: list[tuple[Array, int, int]] = []
    if piece != "inference":
        n = kernel.pieces.n_kept_forward
        part = slice(0, n) if piece == "forward" else slice(n, None)
        for array, type in zip(run.kept.get(s, [])[part], kernel.pieces.kept[part], strict=True):
            form = form_of(type)
            kept.append((array, form.index, form.factor))
    same = [same_for_all(run, s, kind, k) for kind, k in found.same]
    return Code(kernel.program(piece, run.backend, add).run, found, same, kept)


def execute(run: Run, check: Callable[[Launch, int], None] | None = None) -> None:
    """Run the launches in order; `check` sees every launch after it ran."""
    codes: dict[int, Code] = {}
    pools = run.pools
    with np.errstate(all="ignore"):
        for number, launch in enumerate(run.launches):
            n = launch.sizes[0]
            if n == 0:
                continue
            s = launch.sig
            code = codes.get(s)
            if code is None:
                code = codes[s] = code_of(run, s, "forward" if run.needs_sig[s] else "inference")
            outputs = [pools[pool][start : start + rows] for pool, start, rows in launch.writes]
            code.keep(launch, outputs)
            code.program(n, launch.sizes, code.arguments(launch), outputs)
            if check is not None:
                check(launch, number)
