"""A recording becomes arrays, which run; a tensor used later is linked to the new recording, and its cotangent
returns."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base.clocks import profiles, timed
from ..base.errors import OpIndexError, user_place
from ..base.interrupts import passing_on
from ..record.assemble import listed, parsed, signature_table
from ..record.context import refuse_if_kept, refuse_in_cell
from ..record.forced_values import Forcing, Waiting
from ..record.links import links_of, settle_links
from ..record.operands import OperandSet
from ..record.parameter import before_change
from ..record.tape import DONE, Links, Recording, interrupted, own_tape, state
from ..record.tensor import RecordedTensor
from ..run.kept_plans import MOST, PlanCache
from ..schedule.structures import FROM_DATA, SignatureTable, Tape
from .ending import end_all, is_constant_recording
from .forward import run_tape
from .printing import print_values

LARGEST = 1000
"""Most nodes of a recording whose plan is cached; in larger ones cells may still be found."""


MOST_KNOWN = 256
"""Most signatures that one recording inside `ab.map` hands on to the next."""


def run_own_pending() -> None:
    """Run the live pending work of this thread, or of the asyncio task that runs in it, if there is any."""
    refuse_if_kept("pending work is run")
    tape = own_tape()
    if tape is not None and tape.count and not tape.is_interrupted:
        flush(tape, None)
    state.tape = state.known = None  # it may be empty, and was begun before what changes now


def run_pending() -> None:
    """Run the live pending work of this thread, if there is any, of all asyncio tasks in it."""
    run_own_pending()
    for tape in list(state.others.values()):
        if tape.count:
            flush(tape, None)
    state.others.clear()


before_change.append(run_pending)


def give_up_unheld() -> None:
    """Drop the open recording if none of its tensors is referenced: there is nothing to compute. That of a function
    which is being differentiated stays."""
    tape = own_tape()
    if tape is None or tape.sweeps or not tape.count or tape.is_interrupted:
        return
    if not tape.held_tensors()[0]:
        state.tape = None


@passing_on
def flush(tape: Recording, target: RecordedTensor | None, only: bool = False, waiting: Waiting | None = None) -> None:
    """Run what is pending: all live nodes; with `only`, gradients are needed for the target only.

    waiting: what waits for it inside of `ab.map`; else it runs for what is forced at this line
    """
    refuse_if_kept("a value is forced")
    refuse_in_cell("pending work is run")
    if state.tape is tape:
        state.tape = None
    else:
        state.others.pop(tape.task, None)
    if tape.is_interrupted:
        raise interrupted()
    finished, state.finished = state.finished, None
    if finished is not None and (earlier := finished()) is not None and earlier.state == DONE:
        end_all([earlier])
    held, kept = tape.held_tensors()
    if target is not None and all(t is not target for t in held):
        held.append(target)
        kept.append(target._id)
    tape.held = [(t._id, t._type) for t in held]
    tape.holders = list(map(weakref.ref, held))
    roots = sorted({t._id for t in held})
    with timed("assemble"):
        links = links_of(tape)
        arrays = _assembled(tape, roots, links)
        settle_links(tape, arrays, links)
    tape.leave_tensors(kept)
    known = tape.known() if state.depth and len(tape.signatures) <= MOST_KNOWN else None
    tape.let_go()
    tape.policy = state.policy or tape.policy
    tape.targets = [target._id] if only and target is not None else None
    if state.depth and not tape.unbatched:
        _run_inside_map(tape, waiting)
    else:
        tape.run = run_tape(tape, tape.targets)
    tape.state, state.known = DONE, known
    tape.is_constant = is_constant_recording(tape)
    if tape.is_constant:
        state.finished = weakref.ref(tape)
    print_values(tape)


def _assembled(tape: Recording, roots: Sequence[int], links: Links) -> Tape:
    """The arrays of a recording. It gets what its signatures share, and the cache of its plans unless these depend on
    data or are not worth keeping."""
    pools: dict[tuple[int, Any], int] = {}
    table = signature_table(tape.signatures, pools)
    stream = listed(tape, "stream", np.int32)
    operands, is_kept = _operand_set(tape, table)
    tape.operands = operands
    if not is_kept or tape.unbatched or tape.n_nodes > LARGEST:
        return parsed(tape, stream, table, pools, roots)
    key = (stream.tobytes(), links.here.tobytes(), *roots)
    cache = operands.plans.get(key)
    if cache is not None:
        tape.plan_cache = cache
        return cache.arrays.with_data(listed(tape, "ints", np.int64), listed(tape, "floats", np.float64))
    arrays = parsed(tape, stream, table, pools, roots)
    if not (table.result_rule == FROM_DATA).any() and not any(s.is_paired for s in tape.signatures):
        if len(operands.plans) >= MOST:
            operands.plans.clear()
        tape.plan_cache = operands.plans[key] = PlanCache(arrays.with_data(arrays.ints[:0], arrays.floats[:0]))
    return arrays


def _operand_set(tape: Recording, table: SignatureTable) -> tuple[OperandSet, bool]:
    """What the signatures of a recording share, and whether it is kept with one of them."""
    holder = next((s for s in tape.signatures if s.shared), None)
    if holder is None:
        return OperandSet(table, ()), False
    kept = holder.decisions.operand_sets
    found = kept.get(id(table))
    if found is None:
        if len(kept) >= MOST:
            kept.clear()
        found = kept[id(table)] = OperandSet(table, (x for s in tape.signatures for x in s.shared))
    return found, True


def _run_inside_map(tape: Recording, waiting: Waiting | None) -> None:
    """Run what is pending for values forced inside `ab.map`, and count the phase."""
    if tape.forcing is None:
        tape.forcing = state.forcing = Forcing()
    if waiting is None:
        waiting = Waiting([user_place()], state.fiber.n_under_way if state.fiber is not None else 1)
    while tape.run is None:
        try:
            tape.run = run_tape(tape, tape.targets)
        except OpIndexError as error:
            if error.node < 0 or tape.targets is not None:
                raise
            _leave_out(tape, error)
    for forcing in (tape.forcing, *(profile.forced for profile in profiles.get())):
        forcing.note(waiting)


def _leave_out(tape: Recording, error: OpIndexError) -> None:
    """Compute no value that depends on the node which raised an error: who forces one meets it."""
    arrays = tape.arrays
    assert arrays is not None
    values, arguments = arrays.value_of.tolist(), arrays.arg_of[arrays.slot_of].tolist()
    failed = dict[int, Exception].fromkeys(range(values[error.node], values[error.node + 1]), error)
    for node in range(error.node + 1, len(values) - 1):
        if not failed.keys().isdisjoint(arrays.args[arguments[node] : arguments[node + 1]].tolist()):
            failed.update(dict.fromkeys(range(values[node], values[node + 1]), error))
    stays = [k for k, (id, _) in enumerate(tape.held) if id not in failed]
    tape.failed = {**tape.failed, **failed}
    tape.held, tape.holders = [tape.held[k] for k in stays], [tape.holders[k] for k in stays]
    tape.plan_cache = None
    tape.arrays = dataclasses.replace(arrays, roots=np.array([v for v in arrays.roots if v not in failed], np.int32))
