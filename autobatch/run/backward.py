"""backward pass: the launches of a `Run` reversed → gradients.

Input: a run and cotangents of some of its values. Output: cotangents of shared operands and of host inputs.
The rows that a launch read are stored to in the pools of cotangents, or added to where another launch came before (see
`first_writes`), in launch order, so that sums are repeatable. Gradients of shared operands are computed once for a
signature, over all its launches. Cost: one loop over the launches, then one program for each signature.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.host.arena import Lease, lend
from ..base.jit import njit
from ..base.types import Array, Type, size_of
from .earlier import Rows, add_rows, rows_of
from .execute import Code, HostRun, Run, code_of, note_same, rows_of_launch, same_for_all, unchanged
from .feed import batched
from .first_writes import FirstWrites, clear_rows, first_writes
from .layout import Access, Call, HostLaunch, Launch, Same, pool_number, resolve
from .protocols import SharedOperand

GiveDense = Callable[[SharedOperand, Array], None]
GiveRows = Callable[[SharedOperand, Array, Array], None]

Seeds = Sequence[tuple[Array, Any]]
"""Cotangents of values, in parts: numbers of values that are in one pool, and their rows."""

Asked = tuple[bytes, bytes]
"""Which values a backward pass starts from, and whose cotangents are read after it."""

_LARGE = 1 << 13
"""Numbers in a gradient from which on its memory is reused, though its layout is not."""

_FREE = 2
"""`sys.getrefcount` of an array that only the list it is in references."""


@dataclass(slots=True)
class Final:
    """The gradients of the shared operands of a signature, over all its launches.

    arguments: of the program; joined: those of them that are concatenated from several launches: place, parts, shape
    room: arrays for the results, where there are any: shapes and dtypes are `types`
    dense, sparse: whose gradients the results are; and those that come as rows: operand, row numbers and rows, in parts
    """

    program: Callable[..., list[Any]]
    sizes: tuple[int, ...]
    arguments: list[Any]
    joined: list[tuple[int, list[Array], tuple[int, ...]]]
    types: list[Type]
    room: list[Any]
    dense: list[SharedOperand]
    sparse: list[tuple[SharedOperand, list[Array], list[Array]]]


@dataclass(slots=True)
class Backward:
    """A backward pass, ready to run.

    pools: of cotangents, leased; clear: these and their rows to be zeroed
    seeds: for each part of the seeds a pool, and its rows there
    outside: rows of the values whose cotangents are read afterwards
    calls, finals: prepared lazily, unless they are lists
    is_mixed: whether a launch is reversed for the sake of some of its nodes, while others in it do not lead to a seed
    """

    lease: Lease
    pools: list[Array]
    clear: list[tuple[Array, Array]]
    seeds: list[tuple[Array, Array]]
    outside: Rows
    calls: Iterable[Call]
    finals: Iterable[Final]
    same: Same
    is_mixed: bool


def run_backward(run: HostRun, seeds: Seeds, outside: Array, dense: GiveDense, rows: GiveRows) -> Backward:
    """Run the backward pass of a run.

    `outside` are the values whose cotangents are read afterwards, from the pools of what is returned.
    """
    layout, asked = run.layout, asked_of(seeds, outside)
    ready = layout.reverse.get(asked)
    if ready is None or not unchanged(ready.same, run):
        ready = _reverse(run, seeds, outside)
        if layout.is_shared:
            ready.calls = list(ready.calls)
            ready.finals = list(ready.finals)
            layout.reverse[asked] = ready
            layout.n_bytes = layout.lease.n_bytes + sum(map(_n_bytes, layout.reverse.values()))
            assert run.use is not None
            run.use.note_size(layout)
    for pool, zero in ready.clear:
        clear_rows(pool, zero)
    for (pool, where), (_, block) in zip(ready.seeds, seeds, strict=True):
        add_rows(pool, where, block)
    with np.errstate(all="ignore"):
        for program, n, sizes, arguments, outputs, _ in ready.calls:
            program(n, sizes, arguments, outputs)
        for final in ready.finals:
            _finish(final, dense, rows, layout.is_shared)
    return ready


def asked_of(seeds: Seeds, outside: Array) -> Asked:
    """What tells one backward pass of a run from another."""
    return b"".join([values.tobytes() for values, _ in seeds]), outside.tobytes()


def _reverse(run: HostRun, seeds: Seeds, outside: Array) -> Backward:
    """Lay out a backward pass."""
    ahead = to_reverse(run, seeds, outside)
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

    def calls() -> Iterator[Call]:
        codes: dict[tuple[int, bool], tuple[Code, list[tuple[int, Array]]]] = {}
        for number in range(len(wanted) - 1, -1, -1):
            if not wanted[number]:
                continue
            launch = run.launches[number]
            s, sizes = launch.sig, launch.sizes
            add = not first.stores[number] or not slots[s]
            used.setdefault(s, []).append(launch)
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

    def finals() -> Iterator[Final]:
        for s in sorted(used):
            yield _final(run, s, used[s], pools, same)

    return Backward(lease, pools, clear, places, rows_of(run, outside), calls(), finals(), same, ahead.is_mixed)


def _n_bytes(ready: Backward) -> int:
    sizes = (size_of(t.shape) * t.dtype.itemsize for final in ready.finals for t in final.types)
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


def to_reverse(run: Run, seeds: Seeds, outside: Array) -> ToReverse:
    """What a backward pass will do, determined once for a run, or for all runs of a cached plan."""
    asked = asked_of(seeds, outside)
    found = run.facts.get(asked)
    if found is None:
        values = np.concatenate([values for values, _ in seeds])
        wanted, is_mixed = wanted_launches(run, values)
        wanted = [flag and launch.sizes[0] > 0 for flag, launch in zip(wanted, run.launches, strict=True)]
        reversed_sigs = {launch.sig for launch, flag in zip(run.launches, wanted, strict=True) if flag}
        slots = [s.kernel.pieces.slots if k in reversed_sigs else () for k, s in enumerate(run.signatures)]
        first = first_writes(run, wanted, np.concatenate((values, outside)), slots)
        found = run.facts[asked] = ToReverse(wanted, is_mixed, slots, first)
    return found


def wanted_launches(run: Run, seeds: Array) -> tuple[list[bool], bool]:
    """Which launches hold a node that leads to a seed, and whether one of them holds nodes that do not beside it."""
    tape, table, schedule = run.tape, run.tape.signatures, run.schedule
    target = np.zeros(int(tape.value_of[-1]), np.uint8)
    target[run.expansion.values(seeds)] = 1
    wanted, is_mixed = _wanted(
        tape.sig, tape.slot_of, tape.arg_of, tape.args, tape.value_of, table.trainable, table.frozen, run.needs, target,
        schedule.nodes, schedule.launch_of,
    )  # fmt: skip
    return wanted.tolist(), bool(is_mixed)


@njit
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


@njit
def _wanted(  # type: ignore[no-untyped-def]
    sig, slot_of, arg_of, args, value_of, trainable, frozen, needs, target, nodes, launch_of
):
    n = sig.size
    linked = np.zeros(n, np.uint8)
    for i in range(n):
        linked[i] = needs[i] != 0 and trainable[sig[i]] == 0
    leads = gradient_needed(sig, slot_of, arg_of, args, value_of, trainable, frozen, linked, target)
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


def _final(run: HostRun, s: int, launches: list[HostLaunch], pools: list[Array], same: Same) -> Final:
    signature = run.signatures[s]
    kernel = signature.kernel
    pieces = kernel.pieces
    stored = run.residuals.get(s, [])
    every = [launch for launch in run.launches if launch.sig == s and launch.sizes[0]]
    sizes = tuple(sum(launch.sizes[k] for launch in launches) for k in range(len(launches[0].sizes)))
    if len(every) == len(launches):
        launches, residuals = every, [[array] for array in stored]
    else:
        launches = launches[::-1]
        residuals = [
            [rows_of_launch(a, t, launch) for launch in launches] for a, t in zip(stored, pieces.residuals, strict=True)
        ]
    arguments: list[Any] = []
    joined = []
    cotangents = pieces.final.types("cotangent")
    for kind, k in kernel.inputs("final") if pieces.dense else ():
        if kind == "residual":
            parts, shape = residuals[k], resolve(pieces.residuals[k], sizes)
        elif kind in ("rows", "reverse"):
            of_each = (launch.accesses[k] if kind == "rows" else _written(launch, k, pools) for launch in launches)
            arguments.append(_together(list(of_each)))
            continue
        elif kind == "data":
            parts, shape = [launch.data[k] for launch in launches], (-1,)
        elif kind == "cotangent":
            parts = _cotangents(launches, k, pools)
            shape = resolve(cotangents[k], sizes)
        else:
            array = same_for_all(run, s, kind, k)
            same.append((s, kind, k, array))
            arguments.append(array)
            continue
        if len(parts) > 1:
            joined.append((len(arguments), parts, shape))
        arguments.append(parts[0].reshape(shape) if len(parts) == 1 else None)
    types = [pieces.final.nodes[i].type for i in pieces.final.outputs] if pieces.dense else []
    program = kernel.program("final", run.backend).run if pieces.dense else _nothing
    dense = [signature.shared[k] for k in pieces.dense]
    sparse = []
    for k, gradient in pieces.sparse:
        found = _cotangents(launches, gradient.rows, pools) if gradient.of_result else residuals[gradient.rows]
        sparse.append((signature.shared[k], residuals[gradient.ids], found))
    return Final(program, sizes, arguments, joined, types, [None] * len(types), dense, sparse)


def _cotangents(launches: Sequence[Launch], k: int, pools: list[Array]) -> list[Array]:
    """The cotangents of result k of some launches."""
    return [pools[pool][start : start + n] for pool, start, n in (launch.writes[k] for launch in launches)]


def _written(launch: Launch, k: int, pools: list[Array]) -> Access:
    """The rows of a launch's result in its gradient pool."""
    pool, start, n = launch.writes[k]
    return pools[pool], np.arange(start, start + n, dtype=np.int32), start


def _together(accesses: list[Access]) -> Access:
    """The rows that several launches read or wrote in one pool, in their order."""
    if len(accesses) == 1:
        return accesses[0]
    return accesses[0][0], np.concatenate([rows for _, rows, _ in accesses]), -1


def _nothing(*_: Any) -> list[Any]:
    """The program of a signature all of whose gradients are rows."""
    return []


def _finish(final: Final, dense: GiveDense, rows: GiveRows, again: bool) -> None:
    """Pass on gradients of shared operands; `again` says that the layout will be reused."""
    arguments = final.arguments.copy()
    for place, parts, shape in final.joined:
        arguments[place] = np.concatenate(parts).reshape(shape)
    room = final.room
    for k, type in enumerate(final.types):
        if again:
            if room[k] is None or sys.getrefcount(room[k]) > _FREE:  # a referenced gradient belongs to the user
                room[k] = lend(type.shape, type.dtype)
        elif size_of(type.shape) >= _LARGE:
            room[k] = lend(type.shape, type.dtype)
    results = final.program(final.sizes[0], final.sizes, arguments, room)
    for x, g in zip(final.dense, results, strict=True):
        dense(x, g)
    for x, ids, values in final.sparse:
        numbers, found = _whole(ids), _whole(values)
        rows(x, numbers.reshape(-1), found.reshape(numbers.size, math.prod(x.shape[1:])))


def _whole(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
