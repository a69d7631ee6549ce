"""From the arrays of a recording to values: expand → schedule → place → execute, on the current backend.

Input: a `Recording` whose arrays are assembled. Output: its run, which holds the values until the recording ends.
Invariant: the recording is not changed; a run that fails leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np

from ..backends import current_backend
from ..backends.device import Device, current_device
from ..backends.transfer import DEVICES, to_host
from ..base.clocks import profiles, timed
from ..base.errors import OpIndexError, RecordingError, message, user_error
from ..base.types import Array
from ..compile.host.workers import compile_ahead
from ..compile.kernel import Kernel
from ..expand.expand import expand_recording
from ..record.context import checking
from ..record.links import brought_arrays
from ..record.operands import OperandSet
from ..record.parameter import Held
from ..record.shared import Shared
from ..record.signature import Signature
from ..record.tape import Recording
from ..run import protocols
from ..run.device.execute import execute_on_device
from ..run.device.layout import DeviceRun
from ..run.device.layout import lay_out as lay_out_on_device
from ..run.earlier import put
from ..run.execute import HostRun, SharedArrays, execute
from ..run.kept_plans import Planned, Question, numbered
from ..run.layout import load
from ..run.one_by_one import LoopRun
from ..schedule.place import place
from ..schedule.policies import current_schedule
from ..schedule.schedule import schedule
from ..schedule.structures import KERNEL, Expansion, Tape
from .finite import check_launches, name_node


def run_tape(tape: Recording, targets: Sequence[int] | None, joined: bool = True) -> HostRun | DeviceRun | LoopRun:
    """Schedule, place and execute a recording. With `targets`, gradients are prepared for what leads to them only;
    `joined`: runs of nodes that match a pattern become one node."""
    assert tape.arrays is not None
    check_versions(tape)
    backend = current_backend()
    device = current_device() if backend in DEVICES else None
    with timed("shared"):
        shared = operands(tape).arrays(device, on_host if tape.unbatched and device is not None else None)
    if device is not None or tape.unbatched:
        tape.payloads, tape.brought = sorted([*tape.payloads, *brought_arrays(tape)], key=itemgetter(0)), None
    if tape.imports and (device is None or tape.unbatched):
        tape.payloads = [(id, to_host(array)) for id, array in tape.payloads]
    if tape.unbatched:
        with timed("forward"):
            return _one_by_one(tape, shared)
    with timed("expand"):
        joined = joined and checking.get() is None  # what is not finite is to be found at its own op
        version = sum([s.decisions.version for s in tape.signatures])  # none of them ever falls
        policy = tape.policy or current_schedule()
        question = (None if targets is None else tuple(targets), joined, version, policy)
        known = None if tape.plan_cache is None else tape.plan_cache.plans.get(question)
    if known is None:
        known = _planned(tape, targets, joined, question, backend)
    with timed("allocate"):
        run = _laid_out(tape, known, backend, device, shared)
    with timed("forward"):
        try:
            check = check_launches(tape, run, lambda: one_by_one(tape)) if checking.get() else None
            if isinstance(run, DeviceRun):
                execute_on_device(run, check)
            else:
                execute(run, check)
        except OpIndexError:
            one_by_one(tape)  # raises it at its own op; an op whose result is unused raises none
            if not joined:
                raise
            return run_tape(tape, targets, joined=False)
    for profile in profiles.get():
        profile.note(run, tape)
    return run


def one_by_one(tape: Recording) -> LoopRun:
    """Run a recording once more by the loop; under `check_finite` it names the first op that gives NaN or infinity."""
    return _one_by_one(tape, operands(tape).arrays(None, on_host))


def _one_by_one(tape: Recording, shared: SharedArrays) -> LoopRun:
    assert tape.arrays is not None
    live = schedule(tape.arrays).live
    payloads = {id: to_host(array) for id, array in (*tape.payloads, *brought_arrays(tape))}
    try:
        return LoopRun(
            tape.arrays, tape.signatures, live, payloads, shared.memo, name_node(tape) if checking.get() else None
        )
    except OpIndexError as error:
        raise out_of_range(error, tape, tape.arrays) from None


def out_of_range(error: OpIndexError, tape: Recording, arrays: Tape) -> OpIndexError:
    """The error of an index with the place where its node was recorded, and with its op if that is not indexing."""
    signature = tape.signatures[arrays.sig[error.node]]
    within = "" if signature.name in ("bounded", "lookup") else f" in {str(signature).lstrip('_')}"
    named = OpIndexError(message(f"{error}{within}", where=tape.where(error.node)))
    named.node = error.node
    return named


def _planned(tape: Recording, targets: Sequence[int] | None, joined: bool, question: Question, backend: str) -> Planned:
    """Expand, schedule and place a recording, and compile the kernels that are new to this process. With places in
    its data instead of data, and kept, where a recording of its structure was asked the same before."""
    assert tape.arrays is not None
    cache = tape.plan_cache
    is_met = cache is not None and question in cache.plans
    with timed("expand"):
        whole = numbered(tape.arrays) if is_met else tape.arrays
        expansion, signatures, needs = expand_recording(tape, whole, targets, joined)
    with timed("forward"):
        team = compile_ahead(_new_pieces(expansion, signatures, needs, targets is not None), backend)
    with team:
        with timed("schedule"):
            launches = schedule(expansion.tape, question[-1], signatures, is_met)
        keep = bool((needs & launches.live).any())
        with timed("place"):
            plan = place(expansion.tape, launches, needed_later(expansion.tape, needs) if tape.replays else keep)
        planned = Planned(expansion, signatures, needs, launches, plan)
        if cache is not None:
            cache.keep(question, planned if is_met else None, launches.is_settled)
        with timed("forward"):
            team.finish()
    return planned


def _laid_out(
    tape: Recording, known: Planned, backend: str, device: Device | None, shared: SharedArrays
) -> HostRun | DeviceRun:
    """The run of a recording by a plan of its own, or by a cached one."""
    assert tape.arrays is not None
    if device is not None:
        plan = known if known.places is None else known.of(tape.arrays)
        return lay_out_on_device(
            plan.expansion, plan.schedule, plan.plan, plan.signatures, shared, plan.needs, tape, device
        )
    if known.places is None:
        layout, use = known.layout(backend), None
    else:
        layout, use = known.layout_of(tape.arrays, backend)
    load(layout, tape.payloads)
    if tape.brought is not None:
        put(layout, tape.brought)
    return HostRun(
        expansion=layout.expansion, schedule=known.schedule, plan=layout.plan, signatures=known.signatures,
        backend=backend, shared=shared, pools=layout.pools, launches=layout.launches, residuals=layout.residuals,
        needs=known.needs, needs_sig=layout.wanted, facts=known.facts, layout=layout, use=use,
    )  # fmt: skip


def needed_later(tape: Tape, needs: Array) -> Array:
    """[values] whether the backward pass may read them: those of nodes with gradient, and what these read."""
    of_nodes = needs != 0
    found: Array = np.repeat(of_nodes, np.diff(tape.value_of))
    n_arguments = np.diff(tape.arg_of[tape.slot_of])
    found[tape.args[np.repeat(of_nodes, n_arguments)]] = True
    return found


def on_host(x: Shared) -> Any:
    """The numbers of a parameter on the device, or of a constant, for the one-by-one loop."""
    if isinstance(x, Held) and current_backend() in DEVICES:
        x._array_on(current_device())
        return x._on_host()
    return x._array()


def _new_pieces(
    expansion: Expansion, signatures: Sequence[Signature], needs: Array, with_reverse: bool
) -> list[tuple[Kernel, str]]:
    """Pieces of kernels that this process runs for the first time, forward and backward."""
    used, wanting = np.zeros(len(signatures), np.bool_), np.zeros(len(signatures), np.bool_)
    used[expansion.tape.sig] = True
    wanting[expansion.tape.sig[needs != 0]] = True
    pieces: list[tuple[Kernel, str]] = []
    for s, signature in enumerate(signatures):
        if used[s] and signature.kind == KERNEL:
            pieces += signature.kernel.first_requests("forward" if wanting[s] else "inference")
    if with_reverse:
        pieces += new_reverse_pieces([signature for s, signature in enumerate(signatures) if wanting[s]])
    return pieces


def new_reverse_pieces(signatures: Sequence[protocols.Signature]) -> list[tuple[Kernel, str]]:
    """Pieces of kernels that this process reverses for the first time."""
    kernels = [s.kernel for s in signatures if s.kind == KERNEL]
    return [request for kernel in kernels for request in kernel.first_requests("backward", "final")]


def operands(tape: Recording) -> OperandSet:
    """What the signatures of a recording share, once it has become arrays."""
    assert tape.operands is not None
    return tape.operands


def check_versions(tape: Recording) -> None:
    """Raise unless every parameter is as it was when the recording was made."""
    if operands(tape).version() > tape.born:
        p = max(operands(tape).held, key=attrgetter("_version"))
        what = f"a recording meets a parameter {p._type} that changed after it was made"
        raise user_error(RecordingError, what, repair="record again after changing parameters")
