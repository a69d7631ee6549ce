"""backward pass: the launches of a `Run` reversed → gradients.

Input: a run and cotangents of some of its values. Output: cotangents of shared operands and of host inputs.
The rows that a launch read are stored to in the pools of cotangents, or added to where another launch came before (see
`first_writes`), in launch order, so that sums are repeatable. Gradients of shared operands are computed once for a
signature, over all its launches, also those of several runs (`finals`). Cost: one loop over the launches, then one
program for each signature.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.host.arena import Lease
from ..base.clocks import profiles, timed_calls
from ..base.jit import njit
from ..base.types import Array, size_of
from .earlier import Rows, add_rows, rows_of
from .execute import Code, HostRun, Run, code_of, note_same, unchanged
from .feed import batched
from .finals import Deferred, Final, GiveDense, GiveRows, final_programs, finish
from .first_writes import FirstWrites, clear_rows, first_writes
from .layout import Call, HostLaunch, Same, pool_number
from .together import Together, one_by_one

Seeds = Sequence[tuple[Array, Any]]
"""Cotangents of values, in parts: numbers of values that are in one pool, and their rows."""

Asked = tuple[bytes, bytes]
"""Which values a backward pass starts from, and whose cotangents are read after it."""

MOST_DEFERRED = 1 << 23
"""Most bytes of cotangents whose runs wait for others to compute gradients of shared operands with them."""


@dataclass(slots=True)
class Backward:
    """A backward pass, ready to run.

    pools: of cotangents, leased; clear: these and their rows to be zeroed
    seeds: for each part of the seeds a pool, and its rows there
    outside: rows of the values whose cotangents are read afterwards
    calls: prepared lazily, unless they are a list; used: the launches reversed, by signature, once these have run
    finals: prepared to be run again
    is_mixed: whether a launch is reversed for the sake of some of its nodes, while others in it do not lead to a seed
    """

    lease: Lease
    pools: list[Array]
    clear: list[tuple[Array, Array]]
    seeds: list[tuple[Array, Array]]
    outside: Rows
    calls: Iterable[Call]
    used: dict[int, list[HostLaunch]]
    same: Same
    is_mixed: bool
    finals: list[Final] | None = None


def run_backward(
    run: HostRun,
    seeds: Seeds,
    outside: Array,
    dense: GiveDense,
    rows: GiveRows,
    leading: Array | None = None,
    later: Deferred | None = None,
) -> Backward:
    """Run the backward pass of a run.

    `outside` are the values whose cotangents are read afterwards, from the pools of what is returned; `leading` may
    give what `nodes_leading` finds. With `later`, gradients of shared operands are left to it.
    """
    layout, asked = run.layout, asked_of(seeds, outside)
    ready = layout.reverse.get(asked)
    if ready is None or not unchanged(ready.same, run):
        ready = _reverse(run, seeds, outside, leading)
        if layout.is_shared:
            ready.calls = list(ready.calls)
            layout.reverse[asked] = ready
            _note_size(run)
    for pool, zero in ready.clear:
        clear_rows(pool, zero)
    for (pool, where), (_, block) in zip(ready.seeds, seeds, strict=True):
        add_rows(pool, where, block)
    with np.errstate(all="ignore"):
        calls = one_by_one(ready.calls) if profiles.get() else ready.calls
        for program, n, sizes, arguments, outputs, _ in timed_calls(calls, "backward", run.name_of):
            program(n, sizes, arguments, outputs)
        if later is not None:
            later.add(run, ready)
            return ready
        finals = ready.finals if ready.finals is not None else final_programs(run, ready)
        if layout.is_shared and ready.finals is None:
            finals = ready.finals = list(finals)
            _note_size(run)
        for final in finals:
            finish(final, dense, rows, layout.is_shared)
    return ready


def asked_of(seeds: Seeds, outside: Array) -> Asked:
    """What tells one backward pass of a run from another."""
    return b"".join([values.tobytes() for values, _ in seeds]), outside.tobytes()


def _reverse(run: HostRun, seeds: Seeds, outside: Array, leading: Array | None) -> Backward:
    """Lay out a backward pass."""
    ahead = to_reverse(run, seeds, outside, leading)
    wanted, slots, first = ahead.wanted, ahead.slots, ahead.first
    lease = Lease()
    pools: list[Any] = []
    clear = []
    own = iter(lease.several([(values.shape, values.dtype) for values in run.pools if values.dtype.kind == "f"]))
    for values, zero in zip(run.pools, first.zero, strict=True):
        pools.append(next(own) if values.dtype.kind == "f" else values)
        if values.dtype.kind == "f" and zero.any():
            clear.append((pools[-1], zero))
    places = []
    for values, _ in seeds:
        found = rows_of(run, values)
        places.append((pools[found.pool[0]], found.rows))
    same: Same = []
    used: dict[int, list[HostLaunch]] = {}

    adds = (first.stores == 0) | np.array([not written for written in slots])[run.schedule.launch_sig]
    together = Together(run, np.array(wanted), adds, pools, same)

    def calls() -> Iterator[Call | int]:
        codes: dict[tuple[int, bool], tuple[Code, list[tuple[int, Array]]]] = {}
        for number in range(len(wanted) - 1, -1, -1):
            if not wanted[number]:
                continue
            launch = run.launches[number]
            s, sizes = launch.sig, launch.sizes
            used.setdefault(s, []).append(launch)
            if together.joins[number]:
                yield number
                continue
            add = bool(adds[number])
            found = codes.get((s, add))
            if found is None:
                into = [(k, pools[pool_number(run.tape, run.signatures[s].slots[k])]) for k in slots[s]]
                found = codes[s, add] = code_of(run, s, "backward", add), into
                note_same(same, s, found[0])
            code, into = found
            accesses = launch.accesses
            outputs: list[Any] = [(pool, accesses[k][1], accesses[k][2]) for k, pool in into]
            code.keep(launch, outputs)
            if not outputs:
                continue
            read = []
            for k, form in code.feed.cotangents:
                pool_of, start, n = launch.writes[k]
                read.append(batched(pools[pool_of][start : start + n], form, sizes))
            residuals = run.residuals.get(s, [])
            for k, form in code.feed.residuals:
                start = launch.at[form.index] * form.factor
                rows_here = residuals[k][start : start + sizes[form.index] * form.factor]
                read.append(batched(rows_here, form, sizes))
            yield code.program, sizes[0], sizes, code.arguments(launch, *read), outputs, number

    grouped = together.in_groups(calls())
    return Backward(lease, pools, clear, places, rows_of(run, outside), grouped, used, same, ahead.is_mixed)


def _note_size(run: HostRun) -> None:
    """Note the memory of a layout that is used again, with that of its backward passes."""
    layout = run.layout
    layout.n_bytes = layout.lease.n_bytes + sum(map(_n_bytes, layout.reverse.values()))
    assert run.use is not None
    run.use.note_size(layout)


def _n_bytes(ready: Backward) -> int:
    sizes = (size_of(t.shape) * t.dtype.itemsize for final in ready.finals or () for t in final.types)
    return ready.lease.n_bytes + sum(sizes)


@dataclass(slots=True)
class ToReverse:
    """What a backward pass does.

    wanted: [launches] whether they are reversed; is_mixed: whether one of them only for some of its nodes
    slots: of each signature, those whose cotangents are written; first: where they are stored
    """

    wanted: list[bool]
    is_mixed: bool
    slots: Sequence[Sequence[int]]
    first: FirstWrites


def to_reverse(run: Run, seeds: Seeds, outside: Array, leading: Array | None = None) -> ToReverse:
    """What a backward pass will do, determined once for a run, or for all runs of a cached plan."""
    asked = asked_of(seeds, outside)
    found = run.facts.get(asked)
    if found is None:
        values = np.concatenate([values for values, _ in seeds])
        wanted, is_mixed = wanted_launches(run, nodes_leading(run, values) if leading is None else leading)
        wanted = [flag and launch.sizes[0] > 0 for flag, launch in zip(wanted, run.launches, strict=True)]
        reversed_sigs = {launch.sig for launch, flag in zip(run.launches, wanted, strict=True) if flag}
        slots = [s.kernel.pieces.slots if k in reversed_sigs else () for k, s in enumerate(run.signatures)]
        first = first_writes(run, wanted, np.concatenate((values, outside)), slots)
        found = run.facts[asked] = ToReverse(wanted, is_mixed, slots, first)
    return found


def nodes_leading(run: Run, seeds: Array) -> Array:
    """[nodes] whether they carry a gradient, and that leads to one of these values."""
    tape, table = run.tape, run.tape.signatures
    target = np.zeros(int(tape.value_of[-1]), np.uint8)
    target[run.expansion.values(seeds)] = 1
    linked = ((run.needs != 0) & (table.trainable[tape.sig] == 0)).view(np.uint8)
    found: Array = gradient_needed(
        tape.sig, tape.slot_of, tape.arg_of, tape.args, tape.value_of, table.trainable, table.frozen, linked, target
    )
    return found


def wanted_launches(run: Run, leading: Array) -> tuple[list[bool], bool]:
    """Which launches hold a node that leads to a seed, and whether one of them holds nodes that do not beside it."""
    schedule = run.schedule
    wanted, is_mixed = _wanted(run.needs, leading, schedule.nodes, schedule.launch_of)
    return wanted.tolist(), bool(is_mixed)


@njit(early="7xint32:1 2xuint8:1")
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


@njit(early="2xuint8:1 2xint32:1")
def _wanted(needs, leads, nodes, launch_of):  # type: ignore[no-untyped-def]
    wanted = np.zeros(launch_of.size - 1, np.bool_)
    is_mixed = False
    for l in range(wanted.size):
        count = 0
        for k in range(launch_of[l], launch_of[l + 1]):
            if leads[nodes[k]] != 0 and needs[nodes[k]] != 0:
                count += 1
        wanted[l] = count > 0
        is_mixed = is_mixed or 0 < count < launch_of[l + 1] - launch_of[l]
    return wanted, is_mixed
