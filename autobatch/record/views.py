"""Views: slices of rows, and stack or concat along the first axis, which copy nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base.types import tensor_type
from ..ops.declare import Attrs, Op
from ..ops.movement import CONCAT, STACK
from ..schedule.structures import CONCAT_ROWS, FROM_DATA, LIST, ONE, PER_ELEMENT, SLICE_ROWS, Result, Slot
from .links import shared_row, value_number
from .nodes import write
from .shared import Shared
from .signature import Signature
from .tape import Recording, current_tape
from .tensor import RecordedTensor


def view_rows(t: RecordedTensor, start: int, step: int, count: int, how: str, shape: tuple[int, ...]) -> RecordedTensor:
    """Rows start, start + step, … of a value of rank 2 or more; how is "slice", or "pick" for one row as a vector."""
    tape = current_tape()
    frozen = tape.cache is tape.caches[True]
    id = _source_number(t, tape, frozen)
    type = tensor_type(t.dtype, shape)
    number = _number(how, t._type.width, t.dtype, tape)
    return write(tape, number, (id,), (type,), ints=(start, step, count))[0]


_views: dict[Any, Signature] = {}


def _number(how: str, width: int, dtype: np.dtype[Any], tape: Recording) -> int:
    """The number of the signature of a view of this kind, on rows of this width."""
    frozen = tape.cache is tape.caches[True]
    key = (how, width, dtype, frozen)
    number = tape.cache.get(key)
    if number is None:
        found = _views.get(key)
        if found is None:
            joins = how in ("stack", "concat")
            operand = tensor_type(dtype, (width,) if how == "stack" else (1, width))
            found = _views[key] = Signature(
                name=how if joins else "rows",
                kind=CONCAT_ROWS if joins else SLICE_ROWS,
                slots=(Slot(LIST if joins else ONE, operand),),
                results=(Result(width, dtype, PER_ELEMENT, 0, 1) if joins else Result(width, dtype, FROM_DATA),),
                attrs=(how,),
                frozen=frozen,
            )
        number = tape.cache[key] = tape.signature_number(found)
    return number


def _source_number(t: RecordedTensor, tape: Recording, frozen: bool) -> int:
    """The value number of what is viewed. A view shares rows, and so their gradients: under no_grad, what was recorded
    before and may have one is cut off first."""
    if frozen and (t._tape is not tape or t._id < tape.frozen_from) and t.dtype.kind == "f":
        t = t.detach()
    return value_number(t, tape)


def join_rows(op: Op, operands: tuple[Any, ...], attrs: Attrs, tape: Recording) -> RecordedTensor | None:
    """stack of vectors, or concat along the first axis of matrices, as a view; None where it is none."""
    first = operands[0]
    if not all(isinstance(x, RecordedTensor | Shared) for x in operands):
        return None
    ndim = first.ndim
    if any(x.dtype != first.dtype or x.ndim != ndim for x in operands):
        return None
    if op is STACK and ndim == 1 and attrs == (-2,):
        if any(x.shape != first.shape for x in operands):
            return None
        how, shape = "stack", (len(operands), *first.shape)
    elif op is CONCAT and ndim >= 2 and attrs == (-ndim,):
        if any(x.shape[1:] != first.shape[1:] for x in operands):
            return None
        how, shape = "concat", (sum(x.shape[0] for x in operands), *first.shape[1:])
    else:
        return None
    frozen = tape.cache is tape.caches[True]
    ids = [_source_number(x if isinstance(x, RecordedTensor) else shared_row(x, tape), tape, frozen) for x in operands]
    number = _number(how, first._type.width, first.dtype, tape)
    return write(tape, number, (len(ids), *ids), (tensor_type(first.dtype, shape),))[0]
