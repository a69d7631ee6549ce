"""Values from outside of the recording: arrays, values of earlier recordings, and shared values used as rows."""

from __future__ import annotations

import bisect
from types import CodeType
from typing import Any

import numpy as np

from ..base.errors import RecordingError, user_error, user_place
from ..base.types import LEADING, Array, tensor_type
from ..ir.trace import Builder
from ..schedule.structures import KERNEL, Result
from .context import refuse_if_kept
from .nodes import write
from .parameter import Buffer, Parameter
from .shared import Constant, Expression, Shared, SharedExpression
from .signature import Signature, payload
from .tape import CHANGED, DONE, ENDED, OPEN, Recording, is_under_way
from .tensor import RecordedTensor, forced

SHARED_CLASSES = frozenset((Parameter, Buffer, Constant, Expression, SharedExpression))


# Arrays.


def lift(array: Array, tape: Recording, layout: int = LEADING) -> RecordedTensor:
    """A node whose value is this array, in this layout; the array must not change any more."""
    type = tensor_type(array.dtype, array.shape, layout)
    key = ("tensor", type)
    number = tape.cache.get(key)
    if number is None:
        number = tape.cache[key] = tape.signature_number(payload(type))
    return write(tape, number, (), (type,), array=type.pack(array))[0]


def remember_array(x: Array, lifted: RecordedTensor, tape: Recording) -> None:
    """Let `known_row` take arrays of this dtype and shape from now on, as this one was taken."""
    tape.cache[x.dtype, x.shape] = tape.cache["tensor", lifted._type], lifted._type


def known_row(x: Any, tape: Recording) -> RecordedTensor | None:
    """The tensor of a shared value that this recording has, or of an array of a kind that it has; else None."""
    if tape.is_aside:
        return None
    if x.__class__ is np.ndarray:
        known = tape.cache.get((x.dtype, x.shape))
        if known is None:
            return None
        number, type = known
        copy = np.array(x, type.dtype, order="C")
        return None if tape.is_interrupted else write(tape, number, (), (type,), array=copy)[0]
    if x.__class__ not in SHARED_CLASSES:
        return None
    at = tape.cache.get(("row of", x))
    return None if at is None else tape.tensors[at]


# Values of earlier recordings.


def value_number(t: RecordedTensor, tape: Recording) -> int:
    """The number of a tensor's value on this tape, linked if it was computed on an earlier one."""
    old = t._tape
    if old is tape:
        return t._id
    key = (old.serial, t._id)
    found = tape.imports.get(key)
    if found is not None:
        return found
    if old.state == OPEN and is_under_way(old):
        forced(t)  # it is another asyncio task's
    what = "a tensor of another thread's recording is used here"
    if old.state == OPEN and old.thread != tape.thread:
        raise user_error(RecordingError, what, repair="force it there, or pass .detach() of a forced value")
    if old.state == OPEN:
        what = "a tensor of a recording that was given up is used here"
        raise user_error(RecordingError, what, repair="record it again")
    constant = t.dtype.kind != "f" or is_constant_value(old, t._id)
    if old.thread != tape.thread and not constant:
        raise user_error(RecordingError, what, repair="pass .detach() of it: no gradient flows from thread to thread")
    if old.state == ENDED and not constant:
        what, repair = "a tensor is used after its recording has ended", "keep x.detach() instead of x"
        raise user_error(RecordingError, what, repair=f"{repair}, or call backward(retain=True)")
    linked = old.state == DONE and not constant
    return import_array(key, forced(t), tape, (old, t._id) if linked else None, t._type.layout)


def import_array(
    key: tuple[int, int],
    array: Array,
    tape: Recording,
    link: tuple[Recording, int] | None = None,
    layout: int = LEADING,
) -> int:
    """Link a value of an earlier recording, identified by the recording's serial and its number there; its cotangent
    returns in the layout that it has there."""
    found = tape.imports.get(key)
    if found is not None:
        return found
    lifted = lift(array, tape, layout)
    if link is not None:
        tape.links.append((lifted._id, *link))
    tape.outside[lifted._id] = ("linked",) if link is not None else ("import", key, array, layout)
    tape.imports[key] = lifted._id
    return lifted._id


def is_constant_value(tape: Recording, id: int) -> bool:
    """Whether no gradient flows into a floating value of a recording: under no_grad, detached, or a host input."""
    if tape.lines is not None:
        return id in tape.constants
    signature = tape.signature_of(id)
    if signature is None:
        return True
    links = tape.links
    at = bisect.bisect_left(links, (id,))
    return signature.frozen and not (at < len(links) and links[at][0] == id)


# Shared values.


def shared_row(
    x: Shared, tape: Recording, frozen: bool | None = None, place: tuple[CodeType | None, int] | None = None
) -> RecordedTensor:
    """A shared value used as a row: copied into its pool once per recording.

    `frozen` says whether as a constant, `place` where; both are those of the caller unless given.
    """
    frozen = tape.cache is tape.caches[True] if frozen is None else frozen
    cache = tape.caches[frozen]
    at = cache.get(("row of", x))
    if at is None:
        inner = x.operand
        at = _settled_row(x, tape) if inner is None else cache.get(("row of", inner))
        if at is None:
            assert inner is not None
            at = _new_row(inner, tape, frozen, place or user_place())
            cache["row of", inner] = at
        cache["row of", x] = at
    return tape.tensors[at]


def _new_row(x: Shared, tape: Recording, frozen: bool, place: tuple[CodeType | None, int]) -> int:
    builder = Builder()
    graph = builder.finish([x._enter(builder)])
    signature = Signature(
        name="shared row",
        kind=KERNEL,
        slots=(),
        results=(Result(x._type.width, x.dtype, rows=x._type.rows),),
        graph=graph,
        shared=tuple(builder.shared),
        frozen=frozen or x.dtype.kind != "f",
    )
    id = write(tape, tape.signature_number(signature), (), (x._type,), place)[0]._id
    tape.outside[id] = ("row", (x, frozen), place)
    return id


def _settled_row(x: Shared, tape: Recording) -> int:
    """The numbers of a value made of parameters that have changed since; who asks for its gradient is told."""
    refuse_if_kept("a value computed from parameters outside is used")
    return import_array((0, id(x)), x.numpy(), tape, (CHANGED, 0))
