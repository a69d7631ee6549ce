"""`backward`: flush, then reverse every recording that the loss reaches."""

from __future__ import annotations

import numpy as np

from ..base.errors import RecordingError, op_error, user_error
from ..base.interrupts import passing_on
from ..expand.gradient_flow import carries_gradient
from ..record.forcing import engine
from ..record.parameter import accumulate
from ..record.shared import Expression, Shared
from ..record.tape import ENDED, OPEN, is_under_way, refuse_inside
from ..record.tensor import RecordedTensor
from ..schedule.structures import PAYLOAD
from .ending import end_all
from .flush import flush
from .reverse import gradients_of, gradients_of_shared


@passing_on
def backward(loss: RecordedTensor, retain: bool = False) -> None:
    """See `Tensor.backward`."""
    _check(loss)
    tape = loss._tape
    if tape.state == ENDED:
        repair = "call the first backward with retain=True, or record again"
        raise user_error(RecordingError, "backward: the recording has ended", repair=repair)
    if tape.state == OPEN:
        if not is_under_way(tape):
            what = "backward: the recording belongs to another thread or was given up"
            raise user_error(RecordingError, what, repair="record again in this thread")
        flush(tape, loss, only=not retain)
    if loss._id in tape.failed:
        raise tape.failed[loss._id]
    tape.results.add(loss._id)
    with np.errstate(all="ignore"):
        gradients, visited = gradients_of(loss)
        if not gradients and not carries_gradient(tape, loss._id):
            raise _no_gradient(_why_constant(loss))
        accumulate(gradients)
    if not retain:
        end_all(visited)


@passing_on
def shared_backward(x: Shared, retain: bool) -> None:
    """Backward pass of a scalar that is computed from parameters alone."""
    _check(x)
    if not x.trainable:
        raise _no_gradient("it is computed from constants, under no_grad, or detached")
    if x.operand is None:
        what = "backward: the value was reversed before, or a parameter that it is computed from has changed since"
        raise user_error(RecordingError, what, repair="recompute it, or call the first backward with retain=True")
    with np.errstate(all="ignore"):
        gradients, number = gradients_of_shared(x.operand)
        accumulate(gradients)
    if isinstance(x, Expression) and not retain:
        x.settle(number)


def _why_constant(t: RecordedTensor) -> str:
    signature = t._tape.signature_of(t._id)
    if signature is None or signature.kind == PAYLOAD:
        return "it is a host input"
    if signature.name == "stop_gradient":
        return "it is detached"
    return (
        "it was recorded under no_grad" if signature.frozen else "it is computed from arrays or detached values alone"
    )


def _no_gradient(why: str) -> RecordingError:
    repair = "check that the loss is computed from parameters, outside of ab.no_grad() and without .detach()"
    return user_error(RecordingError, f"backward: no parameter leads to the value: {why}", repair=repair)


def _check(x: RecordedTensor | Shared) -> None:
    refuse_inside("backward", "use ab.grad there, and call backward on the result of ab.map")
    if x.shape or x.dtype.kind != "f":
        repair = "reduce it with ab.sum or ab.mean" if x.shape else ""
        what = "only a floating scalar can be differentiated"
        raise op_error("backward", what, expected="f[]", got=str(x._type), repair=repair)


engine.backward, engine.backward_of_shared = backward, shared_backward
