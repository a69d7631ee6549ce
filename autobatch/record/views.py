"""Views: rows by their numbers, and stack or concat along the axis of the rows, which copy nothing; other layouts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base.types import ELEMENTS, LEADING, PAIRS, Type, size_of, tensor_type
from ..ir.trace import Builder
from ..ops.declare import Attrs, Op
from ..ops.movement import STACK, as_rows, with_extent
from ..schedule.structures import CONCAT_ROWS, FROM_DATA, KERNEL, LIST, ONE, PER_ELEMENT, TAKE_ROWS, Result, Slot
from .choice import compiled
from .links import lift, shared_row, value_number
from .nodes import write
from .shared import Shared
from .signature import Signature
from .tape import Recording, current_tape, state
from .tensor import RecordedTensor


def view_rows(t: RecordedTensor, start: int, step: int, count: int, how: str, type: Type) -> RecordedTensor:
    """Rows start, start + step, … of a value as a value of this type; how is "slice", or "pick" for a single row."""
    return _taken(t, (start, step, count), how, type)


def _taken(t: RecordedTensor, ints: Sequence[int], how: str, type: Type) -> RecordedTensor:
    known: RecordedTensor | None = None if compiled is None else compiled.view(t, ints, how, type)
    if known is not None:
        return known
    tape: Any = state.tape
    if t._tape is not tape:
        tape = current_tape()
    frozen = tape.cache is tape.caches[True]
    id = _source_number(t, tape, frozen) if frozen or t._tape is not tape else t._id
    number = tape.cache.get((how, t._type))
    if number is None:
        number = tape.cache[how, t._type] = _number(how, t._type.width, t._type.dtype, tape)
    return write(tape, number, (id,), (type,), ints=ints)[0]


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
                kind=CONCAT_ROWS if joins else TAKE_ROWS,
                slots=(Slot(LIST if joins else ONE, operand),),
                results=(Result(width, dtype, PER_ELEMENT, 0, 1) if joins else Result(width, dtype, FROM_DATA),),
                attrs=(how,),
                frozen=frozen,
            )
        number = tape.cache[key] = tape.signature_number(found)
    return number


def _source_number(t: RecordedTensor, tape: Recording, frozen: bool) -> int:
    """The value number of what is viewed. A view shares rows and gradients: under no_grad it is one of a constant."""
    return value_number(as_constant(t, tape) if frozen else t, tape)


def as_constant(t: RecordedTensor, tape: Recording | None) -> Any:
    """Under no_grad, a value without a gradient: what was recorded before and may have one is cut off."""
    has_none = t.dtype.kind != "f" or (t._tape is tape and t._id >= tape.frozen_from)
    return t if has_none else t.detach()


def stacked_rows(values: Sequence[Any]) -> RecordedTensor | None:
    """Vectors of one type and of the open recording as rows, as a view; None where they are something else."""
    tape: Any = state.tape
    first = values[0]
    if tape is None or first.__class__ is not RecordedTensor or tape.cache is tape.caches[True]:
        return None
    type = first._type
    if type.ndim != 1 or type.layout != LEADING:
        return None
    ids = [len(values)]
    for x in values:
        if x.__class__ is not RecordedTensor or x._tape is not tape or x._type is not type:
            return None
        ids.append(x._id)
    number = tape.cache.get(("stack", type))
    if number is None:
        number = tape.cache["stack", type] = _number("stack", type.width, type.dtype, tape)
    return write(tape, number, ids, (tensor_type(type.dtype, (len(values), type.width)),))[0]


def join_rows(
    op: Op, operands: tuple[Any, ...], attrs: Attrs, tape: Recording, type: Type | None = None
) -> RecordedTensor | None:
    """stack of vectors, or concat along the axis that the rows stand on, as a view; None where it is none.

    With a type that is the one of the operands' rows together, which are single ones.
    """
    first = operands[0]
    if not all(x.__class__ is RecordedTensor or isinstance(x, Shared) for x in operands):
        return None
    if any(x._type is not first._type and not _meets(x._type, first._type) for x in operands):
        return None
    how = "stack" if op is STACK or type is not None else "concat"
    if type is None:
        shape = _stacked_shape(operands, attrs) if op is STACK else _joined_shape(operands, attrs)
        if shape is None:
            return None
        type = tensor_type(first.dtype, shape, first._type.layout)
    frozen = tape.cache is tape.caches[True]
    ids = [_source_number(x if isinstance(x, RecordedTensor) else shared_row(x, tape), tape, frozen) for x in operands]
    number = _number(how, first._type.width, first.dtype, tape)
    return write(tape, number, (len(ids), *ids), (type,))[0]


def _meets(a: Type, b: Type) -> bool:
    """Whether two types are alike but for their extents."""
    return a.dtype == b.dtype and a.ndim == b.ndim and a.layout == b.layout


def _stacked_shape(operands: tuple[Any, ...], attrs: Attrs) -> tuple[int, ...] | None:
    first = operands[0]
    is_view = first.ndim == 1 and first._type.layout == LEADING and attrs == (-2,)
    if not is_view or any(x._type.shape != first._type.shape for x in operands):
        return None
    return len(operands), *first.shape


def _joined_shape(operands: tuple[Any, ...], attrs: Attrs) -> tuple[int, ...] | None:
    first = operands[0]
    ndim, layout = first.ndim, first._type.layout
    axis = 0 if ndim < 2 else first._type.order[0]
    if attrs != (axis - ndim,) or (ndim < 2 and layout == LEADING):
        return None
    rest = (*first.shape[:axis], *first.shape[axis + 1 :])
    if any((*x.shape[:axis], *x.shape[axis + 1 :]) != rest for x in operands):
        return None
    return with_extent(first.shape, axis, sum(x.shape[axis] for x in operands))


# Layouts.


def slice_rows(t: RecordedTensor, axis: int, start: int, length: int, step: int) -> RecordedTensor | None:
    """Part of an axis as a view; None where it is none."""
    found = _sliced(t._type, axis, length)
    if found is None or (found[0] != 1 and step != 1):
        return None
    size, part = found
    return _taken(t, (start * size, step, length * size), "slice", part)


@functools.cache
def _sliced(type: Type, axis: int, length: int) -> tuple[int, Type] | None:
    """For each index of an axis the number of rows, and the type of so many of them; None where they are no rows."""
    if not type.n_row_axes or axis != type.order[0]:
        return None
    size = size_of(tuple(type.shape[a] for a in type.order[1 : type.n_row_axes]))
    return size, tensor_type(type.dtype, with_extent(type.shape, axis, length), type.layout)


def gather_rows(t: RecordedTensor, numbers: list[int], shape: tuple[int, ...]) -> RecordedTensor | None:
    """Parts of the first axis as a view; None where they are none. Their numbers are known and in range, and stand in
    an array of this shape."""
    found = _gathered(t._type, shape)
    if found is None:
        return None
    size, type = found
    n = t._type.shape[0]
    rows = [k + n if k < 0 else k for k in numbers]
    if size != 1:
        rows = [k * size + part for k in rows for part in range(size)]
    return taken_rows(t, rows, type)


@functools.cache
def _gathered(type: Type, shape: tuple[int, ...]) -> tuple[int, Type] | None:
    """The number of rows of a part of the first axis, and the type of an array of parts; None: they are no rows."""
    if type.layout not in (LEADING, ELEMENTS, PAIRS) or not type.n_row_axes or type.order[0] != 0:
        return None
    if type.layout != ELEMENTS and len(shape) != 1:
        return None
    size = 1 if type.layout == LEADING else size_of(type.shape[1:])
    return size, tensor_type(type.dtype, (*shape, *type.shape[1:]), type.layout)


def taken_rows(t: RecordedTensor, rows: list[int], type: Type) -> RecordedTensor:
    """The rows of a value with these numbers as a value of this type."""
    return _taken(t, (0, 0, len(rows), *rows), "slice", type)


def spread_rows(g: RecordedTensor, rows: list[int], type: Type) -> RecordedTensor:
    """A value of this type with the rows of g at these places, all of them different, and zeros elsewhere, as a view:
    of the rows of g, and of one of zeros."""
    tape = current_tape()
    width, dtype = type.width, type.dtype
    source = _source_number(g, tape, tape.cache is tape.caches[True])
    zeros = lift(np.zeros((1, width), dtype), tape)._id
    whole = tensor_type(dtype, (len(rows) + 1, width))
    joined = write(tape, _number("concat", width, dtype, tape), (2, source, zeros), (whole,))[0]
    places = [len(rows)] * type.rows
    for k, row in enumerate(rows):
        places[row] = k
    return taken_rows(joined, places, type)


def has_rows(t: Any) -> bool:
    """Whether `pick_row` can take the parts of a value along its first axis."""
    if not isinstance(t, RecordedTensor):
        return False
    type = t._type
    return type.ndim == 2 if type.layout == LEADING else type.layout == ELEMENTS


def pick_row(t: RecordedTensor, index: int) -> RecordedTensor:
    """The part of a value at an index of its first axis, as a view."""
    how, type = _part(t._type)
    return _taken(t, (index * type.rows, 1, type.rows), how, type)


@functools.cache
def _part(type: Type) -> tuple[str, Type]:
    if type.layout == ELEMENTS and type.ndim > 1:
        return "slice", tensor_type(type.dtype, type.shape[1:], ELEMENTS)
    return "pick", type.row


def reshaped_rows(t: RecordedTensor, shape: tuple[int, ...]) -> RecordedTensor | None:
    """Another shape of the same rows, such as columns cut into heads, as a view; None where it is none."""
    type = _reshaped(t._type, shape)
    return None if type is None else _taken(t, (0, 1, type.rows), "slice", type)


@functools.cache
def _reshaped(type: Type, shape: tuple[int, ...]) -> Type | None:
    if type.layout != LEADING or not min(type.ndim, len(shape)) > 1:
        return None
    if type.shape[0] != shape[0] or type.width != size_of(shape[1:]):
        return None
    return tensor_type(type.dtype, shape)


def laid_out(t: RecordedTensor, layout: int) -> RecordedTensor:
    """The same value in another layout: where its rows are others, that is a node."""
    type = tensor_type(t.dtype, t.shape, layout)
    if t._type is type:
        return t
    tape = current_tape()
    if t._type.width == type.width and _order(t._type) == _order(type):
        return view_rows(t, 0, 1, type.rows, "slice", type)
    key = ("laid out", t._type, layout)
    number = tape.cache.get(key)
    if number is None:
        frozen = tape.cache is tape.caches[True] or t.dtype.kind != "f"
        number = tape.cache[key] = tape.signature_number(_laying_out(t._type, type, frozen))
    return write(tape, number, (value_number(t, tape),), (type,))[0]


def _order(type: Type) -> list[int]:
    """The order in which the axes of more than one element are stored."""
    return [axis for axis in type.order if type.shape[axis] != 1]


@functools.cache
def _laying_out(old: Type, new: Type, frozen: bool) -> Signature:
    builder = Builder()
    graph = builder.finish([as_rows(builder.input("rows", 0, old), new)])
    result = Result(new.width, new.dtype, rows=new.rows)
    return Signature(name="layout", kind=KERNEL, slots=(Slot(ONE, old),), results=(result,), graph=graph, frozen=frozen)
