"""`backward`: flush, then reverse every recording that the loss reaches."""

from __future__ import annotations

import numpy as np

from ..base.errors import OpTypeError, RecordingError, user_error
from ..base.interrupts import passing_on
from ..expand.gradient_flow import carries_gradient
from ..record.forcing import engine
from ..record.parameter import accumulate
from ..record.shared import Expression, Shared
from ..record.tape import ENDED, OPEN, is_under_way, state
from ..record.tensor import RecordedTensor
from ..schedule.structures import PAYLOAD
from .ending import end_all
from .flush import flush
from .reverse import gradients_of, gradients_of_shared


@passing_on
def backward(loss: RecordedTensor, retain: bool = False) -> None:
    """See `Tensor.backward`."""
    _outside()
    if loss.shape:
        raise user_error(
            OpTypeError,
            "backward: only a scalar can be differentiated",
            expected="f[]",
            got=str(loss._type),
            repair="reduce it with ab.sum or ab.mean",
        )
    if loss.dtype.kind != "f":
        raise user_error(OpTypeError, "backward: only a floating value can be differentiated", got=str(loss._type))
    tape = loss._tape
    if tape.state == ENDED:
        raise user_error(
            RecordingError,
            "backward: the recording has ended",
            repair="call the first backward with retain=True, or record again",
        )
    if tape.state == OPEN and not is_under_way(tape):
        raise user_error(
            RecordingError,
            "backward: the recording belongs to another thread or was given up",
            repair="record again in this thread",
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
        end_all(visited)


@passing_on
def shared_backward(x: Shared, retain: bool) -> None:
    """Backward pass of a scalar that is computed from parameters alone."""
    _outside()
    if x.shape or x.dtype.kind != "f":
        raise user_error(
            OpTypeError,
            "backward: only a floating scalar can be differentiated",
            got=str(x._type),
            repair="reduce it with ab.sum or ab.mean",
        )
    if not x.trainable:
        raise _no_gradient("it is computed from constants, under no_grad, or detached")
    if x.operand is None:
        raise user_error(
            RecordingError,
            "backward: the value was reversed before, or a parameter that it is computed from has changed since",
            repair="compute it anew, or call the first backward with retain=True",
        )
    with np.errstate(all="ignore"):
        gradients, number = gradients_of_shared(x.operand)
        accumulate(gradients)
    if isinstance(x, Expression) and not retain:
        x.settle(number)


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
    return user_error(
        RecordingError,
        f"backward: no parameter leads to the value: {why}",
        repair="check that the loss is computed from parameters, outside of ab.no_grad() and without .detach()",
    )


def _outside() -> None:
    if state.depth or state.builder is not None:
        raise user_error(
            RecordingError,
            "backward: not possible inside ab.map or a cell",
            repair="use ab.grad there, and call backward on the result of ab.map",
        )


engine.backward, engine.backward_of_shared = backward, shared_backward
