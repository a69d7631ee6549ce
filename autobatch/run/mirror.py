"""mirror: the launches of a `Run` reversed → gradients.

Input: a run and cotangents of some of its values. Output: cotangents of shared operands and of values from outside.
Reading rows mirrors to storing to the same rows of the gradient pools, or to adding to them where another launch came
before (see `first_writes`), in launch order, so that sums are repeatable; what a signature owes to its shared operands
is computed once, over all its launches together.
Cost: one loop over the launches, then one program per signature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit

from ..graph import Graph
from ..types import Type, size_of
from .execute import (
    Array,
    Code,
    Launch,
    Run,
    code_of,
    gradient_needed,
    pool_number,
    resolve,
    rows_of_launch,
    same_for_all,
)
from .feed import batched
from .first_writes import FirstWrites, clear_rows, first_writes
from .memory import Lease, lend

_LARGE = 1 << 13
"""Numbers in a gradient from which on its memory is used again."""

GiveDense = Callable[[Any, Array], None]
GiveRows = Callable[[Any, Array, Array], None]


def mirror(
    run: Run, seeds: dict[int, Array], outside: Sequence[int], dense: GiveDense, rows: GiveRows, lease: Lease
) -> tuple[list[Array], bool]:
    """Reverse a run.

    `outside` are the values whose cotangents are read afterwards. Returns the gradient pools, leased, for these; and
    whether a launch was reversed for the sake of some of its nodes, while others in it do not lead to a seed.
    """
    wanted, is_mixed, slots, first = to_reverse(run, seeds, outside)
    pools: list[Any] = []
    for values, zero in zip(run.pools, first.zero, strict=True):
        pools.append(lease.empty(values.shape, values.dtype) if values.dtype.kind == "f" else values)
        if values.dtype.kind == "f":
            clear_rows(pools[-1], zero)
    for value, g in seeds.items():
        pool, where = run.rows(value)
        if isinstance(where, slice):
            pools[pool][where] += g.reshape(-1, pools[pool].shape[1])
        else:
            np.add.at(pools[pool], where, g.reshape(-1, pools[pool].shape[1]))
    codes: dict[tuple[int, bool], tuple[Code, list[tuple[int, Array]]]] = {}
    used: dict[int, list[Launch]] = {}
    with np.errstate(all="ignore"):
        for number in range(len(wanted) - 1, -1, -1):
            if not wanted[number]:
                continue
            launch = run.launches[number]
            s, sizes = launch.sig, launch.sizes
            add = not first.stores[number] or not slots[s]
            used.setdefault(s, []).append(launch)
            found = codes.get((s, add))
            if found is None:
                into = [(k, pools[pool_number(run, run.signatures[s].slots[k])]) for k in slots[s]]
                found = codes[s, add] = code_of(run, s, "backward", add), into
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
            kept = run.kept.get(s, [])
            for k, form in code.feed.kept:
                start = launch.at[form.index] * form.factor
                rows_here = kept[k][start : start + sizes[form.index] * form.factor]
                read.append(batched(rows_here, form, sizes))
            code.program(sizes[0], sizes, code.arguments(launch, *read), outputs)
        for s in sorted(used):
            _final(run, s, used[s], pools, dense, rows)
    return pools, is_mixed


def to_reverse(
    run: Run, seeds: dict[int, Any], outside: Sequence[int]
) -> tuple[list[bool], bool, list[Sequence[int]], FirstWrites]:
    """What a reverse pass will do: which launches it reverses, whether some of them only for some of their nodes, the
    slots of each signature whose cotangents it writes, and where it stores them. Found out once for a run, or for all
    runs of a plan that is kept."""
    asked = (tuple(seeds), tuple(outside))
    if asked not in run.facts:
        run.facts[asked] = _to_reverse(run, seeds, outside)
    found: tuple[list[bool], bool, list[Sequence[int]], FirstWrites] = run.facts[asked]
    return found


def _to_reverse(
    run: Run, seeds: dict[int, Any], outside: Sequence[int]
) -> tuple[list[bool], bool, list[Sequence[int]], FirstWrites]:
    wanted, is_mixed = wanted_launches(run, seeds)
    wanted = [flag and launch.sizes[0] > 0 for flag, launch in zip(wanted, run.launches, strict=True)]
    reversed_sigs = {launch.sig for launch, flag in zip(run.launches, wanted, strict=True) if flag}
    slots = [s.kernel.pieces.slots if k in reversed_sigs else () for k, s in enumerate(run.signatures)]
    return wanted, is_mixed, slots, first_writes(run, wanted, [*seeds, *outside], slots)


def wanted_launches(run: Run, seeds: dict[int, Array]) -> tuple[list[bool], bool]:
    """Which launches hold a node that leads to a seed, and whether one of them holds nodes that do not beside it."""
    tape, table, schedule = run.tape, run.tape.signatures, run.schedule
    target = np.zeros(int(tape.value_of[-1]), np.uint8)
    target[[run.expansion.value(value) for value in seeds]] = 1
    wanted, is_mixed = _wanted(
        tape.sig, tape.slot_of, tape.arg_of, tape.args, tape.value_of, table.trainable, run.needs, target,
        schedule.nodes, schedule.launch_of,
    )  # fmt: skip
    return wanted.tolist(), bool(is_mixed)


@njit(cache=True)
def _wanted(  # type: ignore[no-untyped-def]
    sig, slot_of, arg_of, args, value_of, trainable, needs, target, nodes, launch_of
):
    n = sig.size
    linked, frozen = np.zeros(n, np.uint8), np.zeros(trainable.size, np.int32)
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


def cotangent_types(graph: Graph) -> dict[int, Type]:
    """Types of the cotangents that a piece reads, by result."""
    return {n.attrs[1]: n.type for n in graph.nodes if n.is_input and n.attrs[0] == "cotangent"}


def _final(run: Run, s: int, launches: list[Launch], pools: list[Array], dense: GiveDense, rows: GiveRows) -> None:
    signature = run.signatures[s]
    pieces = signature.kernel.pieces
    stored = run.kept.get(s, [])
    every = [launch for launch in run.launches if launch.sig == s and launch.sizes[0]]
    sizes = tuple(sum(launch.sizes[k] for launch in launches) for k in range(len(launches[0].sizes)))
    if len(every) == len(launches):
        launches, kept = every, stored
    else:
        launches = launches[::-1]
        kept = [
            np.concatenate([rows_of_launch(a, t, launch) for launch in launches])
            for a, t in zip(stored, pieces.kept, strict=True)
        ]
    if pieces.dense:
        arguments: list[Any] = []
        cotangents = cotangent_types(pieces.final)
        for kind, k in signature.kernel.inputs("final"):
            if kind == "kept":
                arguments.append(kept[k].reshape(resolve(pieces.kept[k], sizes)))
            elif kind == "data":
                arguments.append(np.concatenate([launch.data[k] for launch in launches]))
            elif kind == "cotangent":
                blocks = [
                    pools[pool][start : start + n] for pool, start, n in (launch.writes[k] for launch in launches)
                ]
                whole = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
                arguments.append(whole.reshape(resolve(cotangents[k], sizes)))
            else:
                arguments.append(same_for_all(run, s, kind, k))
        types = [pieces.final.nodes[i].type for i in pieces.final.outputs]
        room = [lend(t.shape, t.dtype) if size_of(t.shape) >= _LARGE else None for t in types]
        results = signature.kernel.program("final", run.backend).run(sizes[0], sizes, arguments, room)
        for k, g in zip(pieces.dense, results, strict=True):
            dense(signature.shared[k], g)
    for k, gradient in pieces.sparse:
        ids, values = kept[gradient.ids], kept[gradient.rows]
        rows(signature.shared[k], ids.reshape(-1), values.reshape(ids.size, -1))
