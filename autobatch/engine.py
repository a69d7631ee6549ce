"""What begins and ends a recording, and what is asked of it in between: values and gradients.

flush: the recording becomes arrays, which run. backward: flush, then reverse every recording that the loss reaches.
A flush ends the recording of its thread; a tensor used later is brought over by a link, through which its cotangent
returns.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from .backends.transfer import copy_of, is_on_device, to_host
from .collector import flushed
from .errors import CellError, OpTypeError, RecordingError, message, user_line
from .finite import name_shared
from .forced_values import Forcing
from .forcing import engine
from .gradient_flow import carries_gradient
from .interrupts import passing_on
from .parameter import accumulate, before_change
from .planned import outlined
from .references import referenced
from .reverse import gradients_of, gradients_of_shared
from .run.device.layout import DeviceRun
from .run.program import PAYLOAD
from .running import run_tape
from .shared import Expression, Shared, checking, refuse_if_kept, refuse_in_cell
from .stages import active, timed
from .tape import DONE, ENDED, OPEN, Recording, is_under_way, state
from .tensor import RecordedTensor, interrupted, is_constant_value, iterate_tensors, known_value, own_tape
from .types import Type

Array = np.ndarray[Any, Any]


LAST = 64
"""Values at the end of a recording that are looked at first: a loss that somebody holds is there."""

SPARE = 1 << 16
"""Most tensors that a thread keeps to use them again."""


def held_tensors(tape: Recording, first: int = 0) -> list[RecordedTensor]:
    """Tensors that somebody besides the recording holds, of its values from one on and of those that were replayed."""
    listed, _ = referenced(tape.tensors, RecordedTensor, first, tape.count)
    return [tape.tensors[k] for k in listed.tolist()] + _held_replayed(tape)


def _held_replayed(tape: Recording) -> list[RecordedTensor]:
    if not tape.replayed:
        return []
    listed, _ = referenced(tape.replayed, RecordedTensor, 0, len(tape.replayed))
    return [tape.replayed[k] for k in listed.tolist()]


def _keep_spare(tape: Recording, taken: set[int]) -> None:
    """Leave the tensors of an ending recording to the next one, but for those that somebody knows."""
    spare, tape.tensors = tape.tensors, []
    del spare[SPARE if tape.solid is None else min(tape.solid, SPARE) :]
    for k in taken:
        if k < len(spare):
            spare[k] = t = RecordedTensor.__new__(RecordedTensor)
            t._id = k
    for t in itertools.islice(spare, tape.count):
        t._tape = None
    if state.spare is None or len(state.spare) < len(spare):
        state.spare = spare


# Values.


@passing_on
def compute(t: RecordedTensor) -> Array:
    """The array of a tensor: run all live pending work if it is pending."""
    if state.builder is not None:
        raise CellError(
            message(
                "cell: a value cannot be forced inside a cell",
                where=user_line(2),
                repair="force it before, and pass the number as an argument",
            )
        )
    tape = t._tape
    if tape.state == OPEN:
        if tape.thread != threading.get_ident():
            raise RecordingError(
                message(
                    "a pending tensor of another thread cannot be forced here",
                    where=user_line(2),
                    repair="force it in its own thread first",
                )
            )
        if not is_under_way(tape):
            raise RecordingError(
                message(
                    "the recording of this tensor was given up after an error",
                    where=user_line(2),
                    repair="record it anew",
                )
            )
        flush(tape, t)
    if tape.state == ENDED or tape.run is None:
        raise RecordingError(
            message(
                "a tensor is read after its recording has ended",
                where=user_line(2),
                repair="force it before backward(), return it from ab.map, or keep x.detach()",
            )
        )
    value: Array = tape.run.value(t._id, t._type)
    t._value = value
    return value


@passing_on
def evaluate(tree: Any) -> Any:
    """Force every tensor in nested lists, tuples and dicts; the same nesting of NumPy arrays.

    >>> import autobatch as ab
    >>> ab.evaluate({"a": ab.tensor(1.0) + 1, "b": [3]})
    {'a': array(2., dtype=float32), 'b': [3]}
    """
    if state.builder is not None:
        raise CellError(
            message(
                "cell: values cannot be forced inside a cell",
                where=user_line(2),
                repair="force them before, and pass the numbers as arguments",
            )
        )
    together: dict[tuple[Any, Type], list[RecordedTensor]] = {}
    for t in iterate_tensors(tree):
        if known_value(t) is None:
            if t._tape.state == DONE and isinstance(t._tape.run, DeviceRun):
                together.setdefault((t._tape, t._type), []).append(t)
            else:
                compute(t)
    on_host: dict[int, Array] = {}
    for (tape, type), group in together.items():
        block = tape.run.block([t._id for t in group], type)
        for k, (t, numbers) in enumerate(zip(group, to_host(block), strict=True)):
            t._value, on_host[id(t)] = block[k], np.asarray(numbers)
    return _replace(tree, on_host)


def _replace(tree: Any, on_host: dict[int, Array]) -> Any:
    if isinstance(tree, RecordedTensor) and id(tree) in on_host:
        return np.array(on_host[id(tree)])
    if isinstance(tree, RecordedTensor | Shared):
        return tree.numpy()
    if isinstance(tree, dict):
        return {k: _replace(v, on_host) for k, v in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(_replace(v, on_host) for v in tree))
    if isinstance(tree, list | tuple):
        return type(tree)(_replace(v, on_host) for v in tree)
    return tree


def run_own_pending() -> None:
    """Run the live pending work of this thread, or of the asyncio task that runs in it, if there is any."""
    refuse_if_kept("pending work is run")
    tape = own_tape()
    if tape is not None and tape.count and not tape.is_interrupted:
        flush(tape, None)
    state.tape = None  # it may be empty, and was begun before what changes now


def run_pending() -> None:
    """Run the live pending work of this thread, if there is any, of all asyncio tasks in it."""
    run_own_pending()
    for tape in list(state.others.values()):
        if tape.count:
            flush(tape, None)
    state.others.clear()


before_change.append(run_pending)


def give_up_unheld() -> None:
    """Let go of the open recording if nobody holds a tensor of it any more: there is nothing to be computed."""
    tape = own_tape()
    if tape is not None and tape.count and not tape.is_interrupted:
        last = max(tape.count - LAST, 0)
        if not held_tensors(tape, last) and not held_tensors(tape):
            state.tape = None


@passing_on
def flush(tape: Recording, target: RecordedTensor | None, only: bool = False) -> None:
    """Run what is pending: all live nodes; `only` says that gradients are wanted of the target alone."""
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
        _end_all([earlier])
    listed, watched = referenced(tape.tensors, RecordedTensor, 0, tape.count)
    held = [tape.tensors[k] for k in listed.tolist()] + _held_replayed(tape)
    if target is not None and all(t is not target for t in held):
        held.append(target)
    tape.held = [(t._id, t._type) for t in held]
    tape.holders = list(map(weakref.ref, held))
    roots = sorted({t._id for t in held})
    with timed("assemble"):
        tape.arrays, tape.outline = outlined(tape, roots)
    _keep_spare(tape, {*listed.tolist(), *watched.tolist(), *({target._id} if target is not None else ())})
    tape.let_go()
    flushed()
    tape.targets = [target._id] if only and target is not None else None
    if state.depth and not tape.unbatched:
        _run_inside_map(tape)
    else:
        tape.run = run_tape(tape, tape.targets)
    tape.state = DONE
    if _is_constant(tape):
        state.finished = weakref.ref(tape)


def _is_constant(tape: Recording) -> bool:
    """Whether no value that somebody held at the flush has a gradient, so that nothing can be reversed."""
    return not tape.links and tape.arrays is not None and bool(_frozen(tape, tape.held).all())


def _frozen(tape: Recording, values: Sequence[tuple[int, Type]]) -> Array:
    """Which values of a recording that became arrays are of nodes through which no gradient flows."""
    assert tape.arrays is not None
    frozen_signatures = np.array([s.frozen for s in tape.signatures], np.bool_)
    nodes = np.searchsorted(tape.arrays.value_of, [id for id, _ in values], side="right") - 1
    flags: Array = frozen_signatures[tape.arrays.sig[nodes]]
    return flags


def _run_inside_map(tape: Recording) -> None:
    """Run what is pending for a value that is forced inside `ab.map`, and note what that took."""
    if tape.forcing is None:
        tape.forcing = state.forcing = Forcing()
    tape.run = run_tape(tape, tape.targets)
    line, n_launches = user_line(3), len(tape.run.launches)
    tape.forcing.note(line, 1, n_launches)
    for profile in active.profiles:
        profile.forced.note(line, 1, n_launches)


class check_finite:
    """Context manager: inside the block the first NaN or infinity computed raises `NonFiniteError`.

    It names the op and the user's line, those inside of a cell, too. Looked at are values, one by one or batched,
    gradients, and what is computed from parameters alone.

    >>> import autobatch as ab
    >>> with ab.check_finite():
    ...     float(ab.log(ab.tensor(1.0)))
    0.0
    """

    def __enter__(self) -> None:
        self._before = checking.get()
        checking.set(name_shared)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None and state.builder is None:  # what a cell computes is looked at when it runs
                run_own_pending()
        finally:
            checking.set(self._before)


# Gradients.


@passing_on
def backward(loss: RecordedTensor, retain: bool = False) -> None:
    """See `Tensor.backward`."""
    _outside()
    if loss.shape:
        raise OpTypeError(
            message(
                "backward: only a scalar can be differentiated",
                expected="f[]",
                got=str(loss._type),
                where=user_line(2),
                repair="reduce it with ab.sum or ab.mean",
            )
        )
    if loss.dtype.kind != "f":
        raise OpTypeError(
            message("backward: only a floating value can be differentiated", got=str(loss._type), where=user_line(2))
        )
    tape = loss._tape
    if tape.state == ENDED:
        raise RecordingError(
            message(
                "backward: the recording has ended",
                where=user_line(2),
                repair="call the first backward with retain=True, or record again",
            )
        )
    if tape.state == OPEN and not is_under_way(tape):
        raise RecordingError(
            message(
                "backward: the recording belongs to another thread or was given up",
                where=user_line(2),
                repair="record again in this thread",
            )
        )
    if tape.state == OPEN:
        flush(tape, loss, only=not retain)
    tape.results.add(loss._id)
    with np.errstate(all="ignore"):
        gradients, visited = gradients_of({tape: {loss._id: np.ones((), loss.dtype)}})
        if not gradients and not carries_gradient(tape, loss._id):
            raise _no_gradient(_why_constant(loss))
        accumulate(gradients)
    if not retain:
        _end_all(visited)


def _end_all(recordings: Sequence[Recording]) -> None:
    """End recordings; of those that were ended before them only numbers and lines of held values stay."""
    earlier, state.ended = state.ended, [weakref.ref(recording) for recording in recordings]
    for recording in recordings:
        end(recording)
    for reference in earlier:
        _let_go(reference())


def _why_constant(t: RecordedTensor) -> str:
    signature = t._tape.signature_of(t._id)
    if signature is None or signature.kind == PAYLOAD:
        return "it is an array from outside"
    if signature.name == "stop_gradient":
        return "it is detached"
    return (
        "it was recorded under no_grad" if signature.frozen else "it is computed from arrays or detached values alone"
    )


def _no_gradient(why: str) -> RecordingError:
    return RecordingError(
        message(
            f"backward: no parameter leads to the value: {why}",
            where=user_line(3),
            repair="check that the loss is computed from parameters, outside of ab.no_grad() and without .detach()",
        )
    )


def _outside() -> None:
    if state.depth or state.builder is not None:
        raise RecordingError(
            message(
                "backward: not possible inside ab.map or a cell",
                where=user_line(3),
                repair="use ab.grad there, and call backward on the result of ab.map",
            )
        )


def end(tape: Recording) -> None:
    """End a recording: copy out what stays readable, and let go of the rest."""
    tape.left = _left(tape)
    if isinstance(tape.run, DeviceRun):
        tape.moment = tape.run.device.mark()
    tape.run = None
    tape.state = ENDED
    tape.payloads = []


def _let_go(tape: Recording | None) -> None:
    """Give the tensors of a recording that has ended their numbers, and keep of it where these were recorded."""
    if tape is None or tape.lines is not None:
        return
    held = [t for t in (reference() for reference in tape.holders) if t is not None]
    if not any(is_on_device(copies) for _, copies in tape.left):  # a device copies them together, or takes long
        for t in held:
            if known_value(t) is not None:
                t._value = copy_of(t._value)
        tape.left = []
    constants = {t._id for t in held if is_constant_value(tape, t._id)}
    tape.lines = {t._id: tape.place(tape.node_of(t._id)) for t in held}
    tape.constants, tape.holders = constants, []
    tape.arrays = tape.outline = tape.targets = None
    tape.signatures, tape.number, tape.imports, tape.links, tape.held, tape.results = [], {}, {}, [], [], set()
    tape.codes, tape.places, tape.beyond, tape.blocks = [(0, None)], [], [], []


def _left(tape: Recording) -> list[tuple[dict[int, int], Any]]:
    """Copies of the values that stay readable, of tensors that somebody held: of constants, and of results."""
    held, results = tape.held, tape.results
    stays = [one for one in held if one[0] in results]
    if len(stays) < len(held) and tape.arrays is not None:
        others = [one for one in held if one[0] not in results]
        stays += [others[k] for k in np.flatnonzero(_frozen(tape, others))]
    groups: dict[Type, list[int]] = {}
    for id, type in stays:
        groups.setdefault(type, []).append(id)
    return [
        (dict(zip(ids, itertools.count(), strict=False)), tape.run.copies(ids, type)) for type, ids in groups.items()
    ]


@passing_on
def shared_backward(x: Shared, retain: bool) -> None:
    """Backward pass of a scalar that is computed from parameters alone."""
    _outside()
    if x.shape or x.dtype.kind != "f":
        raise OpTypeError(
            message(
                "backward: only a floating scalar can be differentiated",
                got=str(x._type),
                where=user_line(2),
                repair="reduce it with ab.sum or ab.mean",
            )
        )
    if not x.trainable:
        raise _no_gradient("it is computed from constants, under no_grad, or detached")
    if x.operand is None:
        raise RecordingError(
            message(
                "backward: the value was reversed before, or a parameter that it is computed from has changed since",
                where=user_line(2),
                repair="compute it anew, or call the first backward with retain=True",
            )
        )
    with np.errstate(all="ignore"):
        gradients, number = gradients_of_shared(x.operand)
        accumulate(gradients)
    if isinstance(x, Expression) and not retain:
        x.settle(number)


engine.compute, engine.backward, engine.backward_of_shared = compute, backward, shared_backward
engine.carries_gradient = carries_gradient
