"""The general path of an op: operands of any kind become value numbers and data, and the op a node."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..base.errors import OpIndexError, of_library, op_error, user_error, user_place
from ..base.types import COLUMNS, LEADING, Array, Type, promote
from ..ir.graph import NODE
from ..ir.trace import Builder, in_range, no_operand
from ..ir.tracers import TracedList, Tracer
from ..ops.declare import Attrs, Op, apply, elements, lifter, recorder, unchanged
from ..ops.elementwise import carried
from ..ops.index import LOOKUP, WINDOW
from ..ops.linalg import MATMUL
from ..ops.movement import STACK, slice_axis, transpose
from ..ops.value import Tensor, TensorLike
from .choice import compiled
from .context import is_frozen
from .creation import as_array, as_double, holds_tensors
from .layouts import MOVES, as_operand, as_view, laid_alike
from .lengths import switched
from .links import LINKING, SHARED_CLASSES, lift, local, shared_row, value_number
from .nodes import write, write_known
from .op_signatures import known_signature, list_signature, op_signature
from .pairs import as_pairs
from .segments import as_segments
from .shared import Constant, Expression, Shared
from .tape import Recording, current_tape, own_tape, state
from .tensor import RecordedTensor
from .views import as_constant, has_rows, laid_out, slice_rows

INT32 = np.dtype(np.int32)


def tensor(x: TensorLike | Iterable[TensorLike], dtype: DTypeLike | None = None) -> Tensor:
    """An array of the current example, with the numbers and shape of `x`, copied now.

    NumPy floats and Python floats take the default dtype unless `dtype` is given. Tensors in nested lists are stacked,
    with their gradients. Raises `OpTypeError` for what is no array of numbers.

    >>> ab.tensor([[1, 2], [3, 4]]).shape
    (2, 2)
    """
    if hasattr(x, "__next__") or isinstance(x, TracedList):
        x = list(x)  # type: ignore[arg-type]
    if isinstance(x, list | tuple) and holds_tensors(x):
        x = packed(x)
    if isinstance(x, Tensor):
        return unchanged(x) if dtype is None else x.astype(dtype)
    if state.builder is not None:
        return _constant(as_array(x, dtype), state.builder)
    return lift(as_array(x, dtype), current_tape())


def _double(x: Any) -> Tensor:
    """What meets a float64 value as one itself; a list with tensors in it as they say."""
    if isinstance(x, list | tuple) and holds_tensors(x):
        return tensor(x)
    array = as_double(x)
    return tensor(array, array.dtype)


def packed(x: Any) -> Any:
    """Nested lists with tensors in them as one value: stacked."""
    parts = [packed(e) if isinstance(e, list | tuple) and holds_tensors(e) else e for e in elements("tensor", x)]
    if any(isinstance(e, Tracer) and e.level > NODE for e in parts):
        return record_list("stack", parts)
    return apply(STACK, tuple(parts), (-len(getattr(parts[0], "shape", ())) - 1,))


def _constant(array: Array, builder: Builder) -> Constant:
    """An array as a constant of the cell that is traced, one for equal arrays: both passes of a loop read the same."""
    key = (array.dtype, array.shape, array.tobytes())
    found: Constant = builder.arrays.setdefault(key, Constant(array))
    return found


def record(op: Op, operands: tuple[Any, ...], attrs: Attrs) -> Any:
    """Write one op on the tape, or into the cell that is being traced."""
    if state.builder is not None:
        values = [packed(x) if isinstance(x, list | tuple) and holds_tensors(x) else x for x in operands]
        constants = (
            _constant(as_operand(x, operands), state.builder) if isinstance(x, np.ndarray | list | tuple) else x
            for x in values
        )
        return state.builder.record(op, tuple(constants), attrs)
    known = record_known(op, operands, attrs)
    if known is not None:
        return known
    if any(isinstance(x, list | tuple) and holds_tensors(x) for x in operands):
        return apply(op, tuple(tensor(x) if isinstance(x, list | tuple) else x for x in operands), attrs)
    table, index, *_ = (*operands, None)
    if op is LOOKUP and len(operands) == 2 and isinstance(index, int) and has_rows(table):
        n = table.shape[0]
        if not -n <= index < n:
            raise user_error(OpIndexError, f"index {index} is out of range for an axis of {n}")
    tape = current_tape()
    operands = laid_alike(op, operands, tape)
    if op in MOVES or op is MATMUL:
        view = as_view(op, operands, attrs, tape)
        if view is not None:
            return view
    for of_lists in (as_pairs, as_segments):
        found = of_lists(op, operands, attrs, tape)
        if found is not None:
            return found
    keys: list[Any] = [op, attrs]
    ids: list[int] = []
    ints: list[int] = []
    floats: list[float] = []
    for k, x in enumerate(operands):
        if isinstance(x, RecordedTensor):
            ids.append(value_number(x, tape))
            keys.append(x._type)
        elif isinstance(x, Shared) and x.operand is not None:
            keys.append(x)
        elif isinstance(x, Expression):
            ids.append(shared_row(x, tape)._id)
            keys.append(x._type)
        elif isinstance(x, bool | np.bool_):
            keys.append(("static", bool(x)))
        elif isinstance(x, int | np.integer) and not isinstance(x, np.bool_):
            dtypes = {o.dtype for o in operands if isinstance(o, Tensor)}  # among int32 alone it has 32 bits
            ints.append(in_range(op, int(x), 32 if dtypes == {INT32} else 64))
            keys.append("i")
        elif isinstance(x, float | np.floating):
            floats.append(float(x))
            keys.append("f")
        elif isinstance(x, np.ndarray | list | tuple):
            lifted = lift(as_operand(x, operands), tape)
            ids.append(lifted._id)
            keys.append(lifted._type)
        else:
            raise no_operand(op, k, x)
    key = tuple(keys)
    hit = tape.cache.get(key)
    if hit is None:
        kinds = tuple(k.operand if isinstance(k, Shared) else k for k in key[2:])
        signature, type = op_signature(op, kinds, attrs, tape.cache is tape.caches[True])
        hit = tape.cache[key] = (tape.signature_number(signature), type)
    return write(tape, hit[0], ids, (hit[1],), ints=ints, floats=floats)[0]


def _record_known(op: Op, operands: Sequence[Any], attrs: Attrs) -> RecordedTensor | None:
    """Write an op whose signature this tape knows already, on tensors of this tape and shared values; else None."""
    tape = state.tape
    if tape is None:
        return None
    keys: list[Any] = [op, attrs]
    ids: list[int] = []
    ints: list[int] = []
    floats: list[float] = []
    for x in operands:
        if x.__class__ is RecordedTensor:
            if x._tape is not tape:
                x = local(x, tape)
                if x._tape is not tape:
                    return None
            ids.append(x._id)
            keys.append(x._type)
        elif x.__class__ in SHARED_CLASSES:
            keys.append(x)
        elif x.__class__ is int and -(1 << 31) <= x < 1 << 31:
            ints.append(x)
            keys.append("i")
        elif x.__class__ is float:
            floats.append(x)
            keys.append("f")
        else:
            return None
    key = tuple(keys)
    hit = tape.cache.get(key) or learned(tape, key)
    if hit is None or (not ids and (tape.is_interrupted or tape.is_aside)):
        return None
    return write(tape, hit[0], ids, (hit[1],), ints=ints, floats=floats)[0]


def learned(tape: Recording, key: tuple[Any, ...]) -> tuple[int, Type] | None:
    """What a recording has under this key from now on, if another one had an op on such operands; else None.

    None, too, for ops that may be views, and where a host input may lie as what it meets: the general path sees to it.
    """
    op, attrs = key[:2]
    kinds: list[Any] = list(key[2:])
    if op in MOVES and not _is_lookup(op, kinds):
        return None
    lies_as_rows = is_vector = False
    for k, x in enumerate(kinds):
        if x.__class__ is Type:
            if op is MATMUL and x.layout == COLUMNS:
                return None
            lies_as_rows |= x.layout != LEADING
            is_vector |= x.ndim == 1 and x.layout == LEADING
        elif x.__class__ in SHARED_CLASSES:
            if x.__class__ is Constant:
                is_vector |= x.ndim == 1
                if x.ndim > 1 and op.lead is carried and any(k.__class__ is Type and k.ndim == x.ndim for k in key[2:]):
                    return None
            kinds[k] = x.operand  # type: ignore[attr-defined]
            if kinds[k] is None:
                return None
    if is_vector and (lies_as_rows or op is MATMUL):
        return None
    found = known_signature(op, tuple(kinds), attrs, tape.cache is tape.caches[True])
    if found is None:
        return None
    hit = tape.cache[key] = tape.signature_number(found[0]), found[1]
    return hit


def _is_lookup(op: Op, kinds: list[Any]) -> bool:
    """Whether it reads from a table that is shared, or an element of a vector: that is no view."""
    table = kinds[0]
    if op is not LOOKUP or len(kinds) != 2:
        return False
    return table.__class__ in SHARED_CLASSES or (
        table.__class__ is Type and table.ndim == 1 and table.layout == LEADING
    )


def _record_known_list(kind: str, values: Any) -> RecordedTensor | None:
    """Write a reduction of a list of tensors of one type; None where they are anything else."""
    tape = state.tape
    if tape is None or tape.is_aside or len(values) < 2:
        return None
    type = None
    ids = [len(values)]
    for x in values:
        if x.__class__ is not RecordedTensor:
            return None
        if x._tape is not tape:
            x = local(x, tape)
            if x._tape is not tape:
                return None
        if x._type is not type:
            if type is not None:
                return None
            type = x._type
        ids.append(x._id)
    return write_known(
        tape, tape.cache.get(("list", kind, type)) or learned_list(tape, kind, type), ids, sys._getframe(2)
    )


def learned_list(tape: Recording, kind: str, type: Any) -> tuple[int, Type]:
    """What a recording has from now on of a reduction of a list of values of this type."""
    signature, of_result = list_signature(kind, type, tape.cache is tape.caches[True])
    hit = tape.cache["list", kind, type] = tape.signature_number(signature), of_result
    return hit


record_known = _record_known if compiled is None else compiled.record_known
record_known_list = _record_known_list if compiled is None else compiled.record_known_list
if compiled is not None:
    compiled.install(
        RecordedTensor, SHARED_CLASSES, Expression, of_library, switched, learned, learned_list, LINKING, user_place
    )


def record_list(kind: str, values: Sequence[Any]) -> Any:
    """sum, mean, max or stack over a Python list of values of one shape; the length is data."""
    if state.builder is not None:
        return state.builder.record_list(kind, values)
    tape = current_tape()
    tensors: list[Any] = [
        x if isinstance(x, RecordedTensor) else shared_row(x, tape) if isinstance(x, Shared) else tensor(x)
        for x in values
    ]
    first = tensors[0]
    for x in tensors:
        if x._type is not first._type:
            if x.shape != first.shape:
                raise op_error(kind, "values of a list differ in shape", expected=str(first._type), got=str(x._type))
            if all(t.dtype == first.dtype for t in tensors):
                return record_list(kind, [laid_out(t, LEADING) for t in tensors])
            wide = functools.reduce(promote, [t.dtype for t in tensors])
            return record_list(kind, [t.astype(wide) for t in tensors])
    if kind == "stack":
        return apply(STACK, tuple(tensors), (-first.ndim - 1,))
    hit = tape.cache.get(("list", kind, first._type)) or learned_list(tape, kind, first._type)
    ids = [value_number(x, tape) for x in tensors]
    return write(tape, hit[0], (len(ids), *ids), (hit[1],))[0]


def _slice(x: RecordedTensor, axis: int, start: int, length: int, step: int) -> Any:
    view = slice_rows(x, axis, start, length, step)
    if view is not None:
        return view
    if axis == 0 and x.ndim == 2 and x._type.layout == COLUMNS:
        return transpose(slice_axis(transpose(x, (1, 0)), 1, start, length, step), (1, 0))
    if axis == 0 and length:
        return record(WINDOW, (x, start), (length, step))
    return slice_axis(x, axis, start, length, step)


recorder[0] = record
lifter[:] = tensor, _double
for _name, _function in (
    ("_record", lambda self, op, operands, attrs: record(op, operands, attrs)),
    ("_record_list", lambda self, kind, values: record_list(kind, values)),
    ("_slice", _slice),
    ("_unchanged", lambda self: as_constant(self, own_tape()) if is_frozen() else self),
):
    setattr(RecordedTensor, _name, _function)
