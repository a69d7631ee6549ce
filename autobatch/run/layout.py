"""lay out: memory for a plan, and its launches with what they read and write.

Input: what was expanded, scheduled and placed. Output: a `Layout`. Invariants: launches look at the memory of their
layout and at nothing else; whatever a run reads there was written in the same run, so that one run after another may
use it, of recordings with the same structure. Cost: a few microseconds a launch.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends.host.arena import Lease
from ..backends.host.matmul import Library, library
from ..backends.host.threads import get_num_threads
from ..base.types import Array, Dim, Type, size_of
from ..ops.pairs import N_LISTS
from ..schedule.structures import Expansion, Plan, Schedule, Slot, Tape
from .feed import pair_offsets

if TYPE_CHECKING:
    from .backward import Asked, Backward
    from .protocols import Signature


Access = tuple[Any, Array, int]
"""What a slot of a launch reads: a pool, row numbers, and the first where they are consecutive, else -1."""


@dataclass(slots=True)
class Launch:
    """One launch, of the host or of a device, ready to run.

    writes: for each result number of the pool, first row, rows
    at: position among all launches of its signature, in nodes and in elements of each list
    """

    sig: int
    sizes: tuple[int, ...]
    writes: list[tuple[int, int, int]]
    at: tuple[int, ...]


@dataclass(eq=False, slots=True)
class Reads:
    """What the launches of a signature read, in one layout: the pool of each slot, and of each datum whether it is an
    integer and its place among those of its kind."""

    plan: Plan
    signature: Signature
    pools: list[Array]
    columns: list[tuple[bool, int]]


@dataclass(slots=True)
class HostLaunch(Launch):
    """One launch of the host. What it reads is found when it is asked for: of most launches nothing is."""

    reads: Reads
    number: int
    nodes: int
    _accesses: list[Access] | None = None

    @property
    def accesses(self) -> list[Access]:
        """What each slot reads."""
        found = self._accesses
        if found is None:
            plan = self.reads.plan
            first, pools = int(plan.access_of[self.number]), self.reads.pools
            bounds, blocks = (x[first : first + len(pools) + 1].tolist() for x in (plan.rows_of, plan.block))
            found = self._accesses = [
                (pool, plan.rows[bounds[k] : bounds[k + 1]], blocks[k]) for k, pool in enumerate(pools)
            ]
        return found

    @property
    def offsets(self) -> list[Array]:
        """Where the elements of each node begin in each list."""
        return offsets_of_lists(self.reads.plan, self.reads.signature, self.number, self.nodes)

    @property
    def data(self) -> list[Array]:
        """The numbers that the nodes were recorded with, by column."""
        plan, n = self.reads.plan, self.nodes
        found = []
        for is_int, column in self.reads.columns:
            at = int((plan.int_of if is_int else plan.float_of)[self.number]) + column * n
            found.append((plan.ints if is_int else plan.floats)[at : at + n])
        return found


Call = tuple[Callable[..., Any], int, tuple[int, ...], Sequence[Any], list[Any], int]
"""A launch with all its arguments: program, nodes, sizes, what is read, what is written; and its number."""

Same = list[tuple[int, str, int, Array]]
"""The operands shared by all launches of a signature that the calls were prepared with: signature, kind, number."""


def working_with() -> tuple[Library, bool]:
    """What multiplies matrices now, and whether threads share work."""
    return library(), get_num_threads() > 1


@dataclass(slots=True)
class Layout:
    """What a plan runs on.

    expansion, plan: with the data of the recording that uses it now
    wanted: [signatures] whether results have gradients
    residuals: arrays saved for the backward pass, by signature
    loads: blocks that host inputs are written to, the places of these among those of the recording, and whether
        all of them are vectors; loaded: the values that they are, in the same order
    forward, reverse: the passes, if prepared to be run again; the backward passes by what was asked
    variables: [launches, variables] what tables of calls depend on, once these are used
    is_shared: whether later runs will use it
    n_bytes: of memory
    works_with: what multiplied matrices when it was laid out, and whether threads shared work: it is prepared for them
    """

    backend: str
    expansion: Expansion
    plan: Plan
    wanted: Array
    lease: Lease
    pools: list[Array]
    launches: list[HostLaunch] = field(default_factory=list)
    residuals: dict[int, list[Array]] = field(default_factory=dict)
    loads: list[tuple[Array, list[int], bool]] = field(default_factory=list)
    loaded: list[int] = field(default_factory=list)
    forward: tuple[list[Call], Same] | None = None
    reverse: dict[Asked, Backward] = field(default_factory=dict)
    variables: Array | None = None
    is_shared: bool = False
    n_bytes: int = 0
    works_with: tuple[Library, bool] = field(default_factory=working_with)

    @property
    def tape(self) -> Tape:
        """What was scheduled."""
        return self.expansion.tape


def lay_out(
    expansion: Expansion, schedule: Schedule, plan: Plan, signatures: Sequence[Signature], needs: Array, backend: str
) -> Layout:
    """Allocate memory for a plan, and lay out every launch."""
    tape = expansion.tape
    wanted = gradients_wanted(expansion, schedule, needs, len(signatures))
    lease = Lease()
    shapes = zip(plan.pool_rows.tolist(), tape.pools, strict=True)
    pools = lease.several([((n, width), dtype) for n, (width, dtype) in shapes])
    layout = Layout(backend, expansion, plan, wanted, lease, pools)
    _lay_out_launches(layout, schedule, signatures)
    layout.n_bytes = lease.n_bytes
    return layout


def gradients_wanted(expansion: Expansion, schedule: Schedule, needs: Array, n_signatures: int) -> Array:
    """[signatures] whether their results have gradients."""
    wanted = np.zeros(n_signatures, bool)
    wanted[expansion.tape.sig[(needs != 0) & (schedule.live != 0)]] = True
    return wanted


def _lay_out_launches(layout: Layout, schedule: Schedule, signatures: Sequence[Signature]) -> None:
    plan, table = layout.plan, layout.tape.signatures
    launch_of = schedule.launch_of.tolist()
    write_of, write_start, write_rows = plan.write_of.tolist(), plan.write_start.tolist(), plan.write_rows.tolist()
    result_of, result_pool = table.result_of.tolist(), table.result_pool.tolist()
    known: dict[int, tuple[Reads, list[int]]] = {}
    totals: dict[int, tuple[int, ...]] = {}
    for launch, s in enumerate(schedule.launch_sig.tolist()):
        found = known.get(s)
        if found is None:
            signature = signatures[s]
            pools = [layout.pools[pool_number(layout.tape, slot)] for slot in signature.slots]
            reads = Reads(plan, signature, pools, _columns(signature.data))
            found = known[s] = reads, result_pool[result_of[s] : result_of[s + 1]]
            totals[s] = (0,) * (1 + (N_LISTS if signature.is_paired else len(signature.lists)))
        reads, written = found
        total = totals[s]
        n = launch_of[launch + 1] - launch_of[launch]
        if len(total) > 1 or reads.signature.by_rows:
            sizes = _sizes(reads, launch, n)
            totals[s] = tuple(map(operator.add, total, sizes))
        else:
            sizes = (n,)
            totals[s] = (total[0] + n,)
        w = write_of[launch]
        writes = list(zip(written, write_start[w : w + len(written)], write_rows[w : w + len(written)], strict=True))
        layout.launches.append(HostLaunch(s, sizes, writes, total, reads, launch, n))
    wanted = [s for s in totals if layout.wanted[s]]
    types = [signatures[s].kernel.pieces.residuals for s in wanted]
    shapes = [(rows_shape(t, totals[s]), t.dtype) for s, own in zip(wanted, types, strict=True) for t in own]
    arrays = iter(layout.lease.several(shapes))
    for s, own in zip(wanted, types, strict=True):
        layout.residuals[s] = list(itertools.islice(arrays, len(own)))


def _sizes(reads: Reads, launch: int, n: int) -> tuple[int, ...]:
    """Nodes of a launch, or their rows where each is a node to the kernel, and elements of each list."""
    plan, signature = reads.plan, reads.signature
    first = int(plan.access_of[launch])
    own = int(plan.rows_of[first + 1]) - int(plan.rows_of[first]) if signature.by_rows else n
    return (own, *(int(of_list[-1]) for of_list in offsets_of_lists(plan, signature, launch, n)))


def offsets_of_lists(plan: Plan, signature: Signature, launch: int, n: int) -> list[Array]:
    """Where the elements of each of the n nodes of a launch begin in each list, and where those of the last end."""
    if signature.is_paired:
        at = plan.int_of[launch]
        return pair_offsets(plan.ints[at : at + n], plan.ints[at + n : at + 2 * n])
    starts = (plan.offsets_of[plan.access_of[launch] + k] for k in signature.lists)
    return [plan.offsets[at : at + n + 1] for at in starts]


@functools.cache
def _columns(data: str) -> list[tuple[bool, int]]:
    """For each datum of a signature whether it is an integer, and its place among those of its kind."""
    return [(kind == "i", data[:k].count(kind)) for k, kind in enumerate(data)]


def places_of(
    expansion: Expansion, plan: Plan, payloads: Sequence[tuple[int, Any]]
) -> tuple[Array, Array, Array, Array]:
    """Which host inputs are read, by pool and row; and of each of these the pool, first row and end."""
    values: Array = np.array([recorded for recorded, _ in payloads], np.int64)
    if expansion.number is not None:
        values = expansion.number[values]
    tape = expansion.tape
    nodes = tape.node_of(values)
    pool_of = tape.signatures.result_pool[tape.signatures.result_of[tape.sig[nodes]]]
    starts, counts = plan.start[values], plan.count[values]
    order = np.lexsort((starts, pool_of))
    order = order[starts[order] >= 0]
    return order, pool_of[order], starts[order], starts[order] + counts[order]


def load(layout: Layout, payloads: Sequence[tuple[int, Array]]) -> None:
    """Write host inputs, with the numbers of their values as recorded, to their rows; unread ones are left out.

    Adjacent values are written together.
    """
    loaded = [value for value, _ in payloads]
    if loaded != layout.loaded:
        layout.loads, layout.loaded = _loads(layout, payloads), loaded
    for block, places, are_vectors in layout.loads:
        arrays = [payloads[k][1] for k in places]
        np.concatenate(arrays if are_vectors else [array.reshape(-1) for array in arrays], out=block)


def _loads(layout: Layout, payloads: Sequence[tuple[int, Array]]) -> list[tuple[Array, list[int], bool]]:
    order, pool_of, starts, ends = places_of(layout.expansion, layout.plan, payloads)
    if not order.size:
        return []
    is_first = np.concatenate(([True], (starts[1:] != ends[:-1]) | (pool_of[1:] != pool_of[:-1])))
    firsts = np.flatnonzero(is_first).tolist()
    loads = []
    for a, b in zip(firsts, [*firsts[1:], order.size], strict=True):
        block = layout.pools[pool_of[a]][starts[a] : ends[b - 1]].reshape(-1)
        places = order[a:b].tolist()
        loads.append((block, places, all(payloads[k][1].ndim == 1 for k in places)))
    return loads


def pool_number(tape: Tape, slot: Slot) -> int:
    """The pool that a slot of a signature reads."""
    return tape.pools.index(slot.pool)


def rows_shape(type: Type, sizes: Sequence[int]) -> tuple[int, int]:
    """Rows and width of a batched value as 2-D rows."""
    index, factor, width = _rows_form(type)
    return sizes[index] * factor, width


@functools.cache
def _rows_form(type: Type) -> tuple[int, int, int]:
    lead = type.shape[0]
    return lead.index, lead.factor, size_of(type.shape[1:])


def resolve(type: Type, sizes: Sequence[int]) -> tuple[int, ...]:
    """A shape with its `Dim`s put in."""
    return resolve_extents(type.shape, sizes)


def resolve_extents(extents: Sequence[Any], sizes: Sequence[int]) -> tuple[int, ...]:
    """Extents with their `Dim`s put in."""
    return tuple(sizes[n.index] * n.factor if isinstance(n, Dim) else n for n in extents)
