"""Tensors: what user code touches while it is recorded, and how an op on them becomes a node of the tape."""

from __future__ import annotations

import bisect
import functools
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import CodeType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..backends.transfer import is_on_device, to_host
from ..base.errors import (
    OpIndexError,
    OpTypeError,
    RecordingError,
    line_of,
    of_library,
    op_error,
    user_error,
    user_place,
)
from ..base.tasks import current_task
from ..base.types import INT64, Type, default_dtype, promote, tensor_type
from ..ir.graph import NODE, _hashable
from ..ir.trace import Builder, in_range, no_operand
from ..ops.declare import Attrs, Op, apply, elements, lifter, recorder
from ..ops.elementwise import STOP_GRADIENT
from ..ops.index import LOOKUP, WINDOW
from ..ops.movement import CONCAT, STACK, slice_axis
from ..ops.segment import LIST_MAX, LIST_MEAN, LIST_SUM
from ..ops.value import Tensor, TensorLike
from ..schedule.structures import (
    AS_SLOT,
    CONCAT_ROWS,
    EACH,
    FROM_DATA,
    KERNEL,
    LIST,
    ONE,
    PER_ELEMENT,
    SLICE_ROWS,
    Result,
    Slot,
)
from .context import is_frozen, refuse_if_kept
from .creation import as_array, holds_tensors
from .forcing import engine
from .parameter import Buffer, Parameter
from .shared import Constant, Expression, Shared, SharedExpression, copy_with_gradient, youngest_of
from .signature import Signature, payload
from .tape import AHEAD, CHANGED, DONE, ENDED, GUARDED, OPEN, WRITING, Recording, is_under_way, state

_getframe = sys._getframe
_new = object.__new__
INT32, FLOAT64 = np.dtype(np.int32), np.dtype(np.float64)


class RecordedTensor(Tensor):
    """A value of a recording: what ops on one example's values give."""

    __slots__ = ("__weakref__", "_id", "_tape", "_type", "_value")
    _priority = 2
    _tape: Recording
    _id: int
    _type: Type
    _value: np.ndarray[Any, Any]

    def __init__(self) -> None:
        raise TypeError("tensors are made by ab.tensor and by ops")

    def _record(self, op: Op, operands: tuple[Any, ...], attrs: Attrs) -> Any:
        return record(op, operands, attrs)

    def _record_list(self, kind: str, values: Sequence[Any]) -> Any:
        return record_list(kind, values)

    def _slice(self, axis: int, start: int, length: int, step: int) -> Any:
        if axis == 0 and self.ndim >= 2:
            return view_rows(self, start, step, length, "slice", (length, *self.shape[1:]))
        if axis == 0 and length:
            return record(WINDOW, (self, start), (length, step))
        return slice_axis(self, axis, start, length, step)

    def detach(self) -> Any:
        """The same numbers as a constant; also of a value that is still there after its recording has ended."""
        value = known_value(self) if self._tape is not None and self._tape.state == ENDED else None
        return super().detach() if value is None else tensor(value, self.dtype)

    def _enter(self, builder: Builder) -> Any:
        raise user_error(
            OpTypeError,
            "cell: a tensor reached the cell by neither argument nor closure",
            repair="pass it as an argument",
        )

    def numpy(self) -> np.ndarray[Any, Any]:
        """Force, and return a copy as a NumPy array."""
        value = forced(self)
        return to_host(value, self._tape.moment) if is_on_device(value) else np.array(value)

    def _carries_gradient(self) -> bool:
        return self.dtype.kind == "f" and engine.carries_gradient(self._tape, self._id)

    def backward(self, retain: bool = False) -> None:
        """Add d self / d parameter to `.grad` of every parameter reached, and end the recording unless `retain`.

        Raises `OpTypeError` for a non-scalar, `RecordingError` inside `ab.map`, after the recording has ended, when a
        parameter has changed since, and where no parameter leads to the value.
        """
        engine.backward(self, retain)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copies and pickles hold the numbers; they have no gradient."""
        numbers = self.numpy()
        if self._carries_gradient():
            raise copy_with_gradient()
        return tensor, (numbers, self.dtype)

    def __repr__(self) -> str:
        where = node_line(self)
        line = f", recorded at {where}" if where else ""
        value = known_value(self)
        numbers = f", {np.array2string(to_host(value), threshold=8, precision=4)}" if value is not None else ""
        return f"Tensor({self._type}{line}{numbers})"


def node_line(t: RecordedTensor) -> str:
    """The user's line that recorded a tensor, where it is still known."""
    tape = t._tape
    if tape is not None and tape.lines is not None:
        return line_of(*tape.lines.get(t._id, (None, 0)))
    known = tape is not None and (tape.arrays is not None or not tape.is_interrupted)
    return tape.where(tape.node_of(t._id)) if known else ""


def write(
    tape: Recording,
    number: int,
    operands: Sequence[int],
    types: Sequence[Type],
    place: tuple[CodeType | None, int] | None = None,
    ints: Sequence[int] = (),
    floats: Sequence[float] = (),
    array: np.ndarray[Any, Any] | None = None,
) -> list[RecordedTensor]:
    """Write one node, whole or not at all; the tensors of its results.

    Args:
        tape: an open recording.
        number: of the node's signature on this tape.
        operands: value numbers; before those of a list its length.
        types: of the results.
        place: what recorded it; the caller's line unless given.
        ints: whole numbers among its data.
        floats: other numbers among its data.
        array: what a node without operands holds.

    Raises `RecordingError` if an earlier write was broken off.
    """
    first = tape.count
    after = first + len(types)
    if after - 1 > tape.room:
        more_tensors(tape, after - 1)
    code, instruction = user_place() if place is None else place
    if code is not tape.user_code:
        tape.note_code(code)
    tape.count = WRITING
    tape.ints += ints
    tape.floats += floats
    if array is not None:
        tape.payloads.append((first, array))
    tape.stream += (number, *operands)
    tape.places.append(instruction)
    if after > first + 1:
        tape.beyond += range(first, after - 1)
    made: list[RecordedTensor] = tape.tensors[first:after]
    for t, type in zip(made, types, strict=True):
        t._tape = tape
        t._type = type
    tape.count = after
    return made


def write_known(
    tape: Recording,
    known: tuple[int, Type],
    operands: Sequence[int],
    frame: Any,
    ints: Sequence[int] = (),
    floats: Sequence[float] = (),
) -> RecordedTensor:
    """Write a node of one result whose signature's number and type this tape knows; it is recorded by this frame."""
    n = tape.count
    if n > tape.room:
        more_tensors(tape, n)
    place = frame.f_lasti if frame.f_code is tape.user_code else place_from(frame, tape)
    tape.count = WRITING
    if ints:
        tape.ints += ints
    if floats:
        tape.floats += floats
    tape.stream += (known[0], *operands)
    tape.places.append(place)
    t: RecordedTensor = tape.tensors[n]
    t._tape = tape
    t._type = known[1]
    tape.count = n + 1
    return t


def more_tensors(tape: Recording, id: int) -> None:
    """Lengthen a recording's list of tensors, so that there are some for value `id` and those after it.

    Raises `RecordingError` where `id` is `WRITING`: something broke off the write of an earlier node.
    """
    if id == WRITING:
        raise interrupted()
    if tape.room == GUARDED:
        if tape.task != current_task():
            raise user_error(
                RecordingError,
                "a pending tensor of another asyncio task is used here, and a task is inside ab.no_grad()",
                repair="force it there, or pass it on as x.numpy()",
            )
        if not state.frozen_tasks:
            tape.room = len(tape.tensors) - AHEAD
        if id <= len(tape.tensors) - AHEAD:
            return
    first = len(tape.tensors)
    n_more = id - first + 2 * AHEAD + (min(first, 4096) if tape.solid is None else 0)
    more = list(map(_new, itertools.repeat(RecordedTensor, n_more)))
    for k, t in enumerate(more, first):
        t._id = k
    tape.tensors += more
    if tape.room != GUARDED:
        tape.room = len(tape.tensors) - AHEAD


def current_tape() -> Recording:
    """The open recording of this thread, or of the asyncio task that runs in it."""
    tape = own_tape()
    if tape is None or tape.is_interrupted:
        spare, state.spare = state.spare, None
        tape = state.tape = Recording(is_frozen(), state.unbatched, spare, current_task())
        tape.forcing = state.forcing
        if state.frozen_tasks:
            tape.room = GUARDED
    return tape


def own_tape() -> Recording | None:
    """The open recording of this thread, or of the asyncio task that runs in it, if there is one."""
    tape, task = state.tape, current_task()
    if tape is None or tape.task != task:
        if tape is not None and not tape.is_interrupted:
            state.others[tape.task] = tape
        tape = state.tape = state.others.pop(task, None)
        if tape is not None:
            tape.cache = tape.caches[is_frozen()]
            if state.frozen_tasks:
                tape.room = GUARDED
    return tape


def interrupted() -> RecordingError:
    """The error for a recording that was broken off in the middle of an op."""
    return user_error(
        RecordingError,
        "the recording was given up: an exception broke off an op while it was recorded",
        repair="record it anew, from ab.map on",
    )


def place_from(frame: Any, tape: Recording) -> int:
    """The instruction of the first frame outside the library, from this one outwards; the recording notes its code."""
    known = tape.user_code
    while frame is not None:
        code = frame.f_code
        if code is not known:
            if of_library[code.co_filename]:
                frame = frame.f_back
                continue
            tape.note_code(code)
        instruction: int = frame.f_lasti
        return instruction
    tape.note_code(None)
    return 0


# Arrays from outside.


def tensor(x: TensorLike | Iterable[TensorLike], dtype: DTypeLike | None = None) -> Tensor:
    """An array of the current example, copied now.

    NumPy floats and Python floats take the default dtype unless `dtype` is given. Tensors in nested lists are stacked,
    with their gradients.

    >>> import autobatch as ab
    >>> ab.tensor([[1, 2], [3, 4]]).shape
    (2, 2)
    """
    if hasattr(x, "__next__"):
        x = list(x)  # type: ignore[arg-type]
    if isinstance(x, list | tuple) and holds_tensors(x):
        x = packed(x)
    if isinstance(x, Tensor):
        return x if dtype is None else x.astype(dtype)
    if state.builder is not None:
        return _constant(as_array(x, dtype), state.builder)
    return lift(as_array(x, dtype), current_tape())


def packed(x: Any) -> Any:
    """Nested lists with tensors in them as one value: stacked."""
    parts = [packed(e) if isinstance(e, list | tuple) and holds_tensors(e) else e for e in elements("tensor", x)]
    return apply(STACK, tuple(parts), (-len(getattr(parts[0], "shape", ())) - 1,))


def _constant(array: np.ndarray[Any, Any], builder: Builder) -> Constant:
    """An array as a constant of the cell that is traced, one for equal arrays: both passes of a loop read the same."""
    key = (array.dtype, array.shape, array.tobytes())
    found: Constant = builder.arrays.setdefault(key, Constant(array))
    return found


def lift(array: np.ndarray[Any, Any], tape: Recording) -> RecordedTensor:
    """A node whose value is this array; the array must not change any more."""
    type = tensor_type(array.dtype, array.shape)
    key = ("tensor", type)
    hit = tape.cache.get(key)
    if hit is None:
        found = _payloads.get(type)
        if found is None:
            found = _payloads[type] = payload(type)
        hit = tape.cache[key] = tape.signature_number(found)
    return write(tape, hit, (), (type,), array=array)[0]


def remember_array(x: np.ndarray[Any, Any], lifted: RecordedTensor, tape: Recording) -> None:
    """Let `known_row` take arrays of this dtype and shape from now on, as this one was taken."""
    tape.cache[x.dtype, x.shape] = tape.cache["tensor", lifted._type], lifted._type


_payloads: dict[Type, Signature] = {}
SHARED_CLASSES = frozenset((Parameter, Buffer, Constant, Expression, SharedExpression))


def value_number(t: RecordedTensor, tape: Recording) -> int:
    """The number of a tensor's value on this tape, brought over where it was computed on an earlier one."""
    if t._tape is tape:
        return t._id
    return _bring_over(t, tape)


def _bring_over(t: RecordedTensor, tape: Recording) -> int:
    old = t._tape
    key = (old.serial, t._id)
    found = tape.imports.get(key)
    if found is not None:
        return found
    if old.state == OPEN and is_under_way(old):
        forced(t)  # it is another asyncio task's
    if old.thread != tape.thread and old.state == OPEN:
        raise user_error(
            RecordingError,
            "a tensor of another thread's recording is used here",
            repair="force it there, or pass .detach() of a forced value",
        )
    constant = is_constant(t)
    if old.thread != tape.thread and not constant:
        raise user_error(
            RecordingError,
            "a tensor of another thread's recording is used here",
            repair="pass .detach() of it: no gradient flows from thread to thread",
        )
    if old.state == ENDED and not constant:
        raise user_error(
            RecordingError,
            "a tensor is used after its recording has ended",
            repair="keep x.detach() instead of x, or call backward(retain=True)",
        )
    if old.state == OPEN:
        raise user_error(
            RecordingError, "a tensor of a recording that was given up is used here", repair="record it anew"
        )
    linked = old.state == DONE and not constant
    return import_array(key, forced(t), tape, (old, t._id) if linked else None)


def import_array(
    key: tuple[int, int], array: np.ndarray[Any, Any], tape: Recording, link: tuple[Recording, int] | None = None
) -> int:
    """Bring over a value of an earlier recording, named by the recording's serial and its number there."""
    found = tape.imports.get(key)
    if found is not None:
        return found
    lifted = lift(array, tape)
    if link is not None:
        tape.links.append((lifted._id, *link))
    tape.outside[lifted._id] = ("linked",) if link is not None else ("import", key, array)
    tape.imports[key] = lifted._id
    return lifted._id


def is_constant(t: RecordedTensor) -> bool:
    """Whether no gradient flows into this tensor: from no_grad, detached, from outside, or not floating."""
    return t.dtype.kind != "f" or is_constant_value(t._tape, t._id)


def is_constant_value(tape: Recording, id: int) -> bool:
    """The same for a floating value of a recording."""
    if tape.lines is not None:
        return id in tape.constants
    signature = tape.signature_of(id)
    if signature is None:
        return True
    links = tape.links
    at = bisect.bisect_left(links, (id,))
    if at < len(links) and links[at][0] == id:
        return False
    return signature.frozen


# Ops.


def record(op: Op, operands: tuple[Any, ...], attrs: Attrs) -> Any:
    """Write one op on the tape, or into the cell that is being traced."""
    if state.builder is not None:
        values = [packed(x) if isinstance(x, list | tuple) and holds_tensors(x) else x for x in operands]
        constants = (
            _constant(_as_operand(x, operands), state.builder) if isinstance(x, np.ndarray | list | tuple) else x
            for x in values
        )
        return state.builder.record(op, tuple(constants), attrs)
    known = _record_known(op, operands, attrs)
    if known is not None:
        return known
    if any(isinstance(x, list | tuple) and holds_tensors(x) for x in operands):
        return apply(op, tuple(tensor(x) if isinstance(x, list | tuple) else x for x in operands), attrs)
    if (
        op is LOOKUP
        and len(operands) == 2
        and isinstance(operands[0], RecordedTensor)
        and operands[0].ndim == 2
        and isinstance(operands[1], int)
    ):
        table, index = operands
        n = table.shape[0]
        if not -n <= index < n:
            raise user_error(OpIndexError, f"index {index} is out of range for an axis of {n}")
        return view_rows(table, index % n, 1, 1, "pick", table.shape[1:])
    tape = current_tape()
    if op is STACK or op is CONCAT:
        joined = _join_rows(op, operands, attrs, tape)
        if joined is not None:
            return joined
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
            ints.append(in_range(op, int(x), _whole_bits(operands)))
            keys.append("i")
        elif isinstance(x, float | np.floating):
            floats.append(float(x))
            keys.append("f")
        elif isinstance(x, np.ndarray | list | tuple):
            lifted = lift(_as_operand(x, operands), tape)
            ids.append(lifted._id)
            keys.append(lifted._type)
        else:
            raise no_operand(op, k, x)
    key = tuple(keys)
    hit = tape.cache.get(key)
    if hit is None:
        kinds = tuple(k.operand if isinstance(k, Shared) else k for k in key[2:])
        signature, type = op_signature(op, kinds, attrs, tape is not None and tape.cache is tape.caches[True])
        hit = tape.cache[key] = (tape.signature_number(signature), type)
    number, type = hit
    return write(tape, number, ids, (type,), ints=ints, floats=floats)[0]


def _record_known(op: Op, operands: tuple[Any, ...], attrs: Attrs) -> RecordedTensor | None:
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
    hit = tape.cache.get(tuple(keys))
    if hit is None or (not ids and (tape.is_interrupted or tape.is_aside)):
        return None
    return write(tape, hit[0], ids, (hit[1],), ints=ints, floats=floats)[0]


def _whole_bits(operands: tuple[Any, ...]) -> int:
    """How many bits a whole number has that meets these operands: 32 among values of int32 alone."""
    dtypes = {x.dtype for x in operands if isinstance(x, Tensor)}
    return 32 if dtypes == {INT32} else 64


def _as_operand(x: Any, operands: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    wide = any(isinstance(o, Tensor) and o.dtype == FLOAT64 and not getattr(o, "_weak", False) for o in operands)
    return as_array(x, FLOAT64 if wide and np.asarray(x).dtype.kind == "f" else None)


def op_signature(op: Op, keys: tuple[Any, ...], attrs: Attrs, frozen: bool) -> tuple[Signature, Type]:
    """The signature of an op on operands of these kinds, from the cache of its first shared operand or of all."""
    shared = youngest_of(keys)
    cache = _signatures if shared is None else shared._signatures
    key = (op, _hashable(attrs), keys, frozen, default_dtype())
    found = cache.get(key)
    if found is None:
        signature, type = _make_signature(op, keys, attrs, frozen)
        same = cache.setdefault(signature.key(), (signature, type))[0]  # another leading length is no other signature
        found = cache[key] = (same, type)
    return found


_signatures: dict[Any, tuple[Signature, Type]] = {}


def _make_signature(op: Op, keys: tuple[Any, ...], attrs: Attrs, frozen: bool) -> tuple[Signature, Type]:
    types = [k for k in keys if isinstance(k, Type)]
    whole, _ = _trace_op(op, keys, attrs, [False] * len(keys))
    type = whole.graph_type
    ndims = [k.ndim if isinstance(k, Type | Shared) else 0 for k in keys]
    is_shared = [not isinstance(k, Type) for k in keys]
    rows = op.over_rows(ndims, attrs) if op.over_rows and len(keys) == 1 and types else None
    if rows is not None and types[0].shape[0] > 0:
        each, _ = _trace_op(rows, keys, (1,), [True])
        return each.signature(op.name, attrs, frozen, Result(type.width, type.dtype, rows=type.rows)), type
    lifted = op.lead(ndims, is_shared, attrs) if op.lead and types else None
    if lifted is None or type.ndim < 2 or not _same_length(keys, lifted, type):
        return whole.signature(op.name, attrs, frozen, Result(type.width, type.dtype, rows=type.rows)), type
    traced, all_rows = _trace_op(op, keys, attrs, list(lifted))
    if all_rows:
        result = Result(type.width, type.dtype, AS_SLOT, 0)
    else:
        result = Result(
            type.width,
            type.dtype,
            PER_ELEMENT,
            next(
                k for k, f in enumerate([f for f, key in zip(lifted, keys, strict=True) if isinstance(key, Type)]) if f
            ),
            1,
        )
    return traced.signature(op.name, attrs, frozen, result), type


def _same_length(keys: tuple[Any, ...], lifted: tuple[bool, ...], type: Type) -> bool:
    lengths = {k.shape[0] for k, flag in zip(keys, lifted, strict=True) if flag}
    return lengths == {type.shape[0]} and not any(
        flag and not isinstance(k, Type) for k, flag in zip(keys, lifted, strict=True)
    )


class _TracedOp:
    """An op traced on operands: what is needed to make its signature."""

    def __init__(self, builder: Builder, result: Any, slots: list[Slot], data: str, by_rows: bool) -> None:
        self.graph = builder.finish([result])
        self.graph_type = self.graph.nodes[self.graph.outputs[0]].type
        self.builder = builder
        self.slots = tuple(slots)
        self.data = data
        self.by_rows = by_rows

    def signature(self, name: str, attrs: Attrs, frozen: bool, result: Result) -> Signature:
        floating = self.graph_type.dtype.kind == "f"
        return Signature(
            name=name,
            kind=KERNEL,
            slots=self.slots,
            results=(result,),
            graph=self.graph,
            shared=tuple(self.builder.shared),
            data=self.data,
            attrs=attrs,
            frozen=frozen or not floating or name == STOP_GRADIENT.name,
            by_rows=self.by_rows,
            draws=any(n.op is not None and n.op.batch == "random" for n in self.graph.nodes),
        )


def _trace_op(op: Op, keys: tuple[Any, ...], attrs: Attrs, lifted: list[bool]) -> tuple[_TracedOp, bool]:
    """Trace an op; operands marked in `lifted` stand for their rows. Also whether all value operands do, alone."""
    builder = Builder()
    values = [k for k in keys if isinstance(k, Type)]
    flags = [f for f, k in zip(lifted, keys, strict=True) if isinstance(k, Type)]
    data = "".join(k for k in keys if isinstance(k, str))
    by_rows = bool(flags) and all(flags) and not data and op.batch != "list"
    slots: list[Slot] = []
    operands: list[Any] = []
    n_data = 0
    for k, flag in zip(keys, lifted, strict=True):
        if isinstance(k, Type):
            inner = tensor_type(k.dtype, k.shape[1:]) if flag else k
            level = 1 if flag and not by_rows else NODE
            operands.append(builder.input("rows", len(slots), inner, level))
            slots.append(Slot(EACH if level else ONE, k, level))
        elif isinstance(k, Shared):
            operands.append(k._enter(builder))
        elif isinstance(k, str):
            operands.append(
                builder.input("data", n_data, tensor_type(INT64 if k == "i" else FLOAT64, ()), NODE, weak=True)
            )
            n_data += 1
        else:
            operands.append(k[1])
    assert len(values) == len(slots)
    result = builder.record(op, tuple(operands), attrs)
    return _TracedOp(builder, result, slots, data, by_rows), by_rows


# Views.


def view_rows(t: RecordedTensor, start: int, step: int, count: int, how: str, shape: tuple[int, ...]) -> RecordedTensor:
    """Rows start, start + step, … of a value of rank 2 or more; how is "slice", or "pick" for one row as a vector."""
    tape = current_tape()
    frozen = tape.cache is tape.caches[True]
    id = _source_number(t, tape, frozen)
    type = tensor_type(t.dtype, shape)
    width = t._type.width
    key = ("rows", how, t.dtype, width, frozen)
    number = tape.cache.get(key)
    if number is None:
        found = _views.get(key)
        if found is None:
            operand = tensor_type(t.dtype, (1, width))
            found = _views[key] = Signature(
                name="rows",
                kind=SLICE_ROWS,
                slots=(Slot(ONE, operand),),
                results=(Result(width, t.dtype, FROM_DATA),),
                attrs=(how,),
                frozen=frozen,
            )
        number = tape.cache[key] = tape.signature_number(found)
    return write(tape, number, (id,), (type,), ints=(start, step, count))[0]


_views: dict[Any, Signature] = {}


def _source_number(t: RecordedTensor, tape: Recording, frozen: bool) -> int:
    """The value number of what is viewed. A view shares rows, and so their gradients: under no_grad, what was recorded
    before and may have one is cut off first."""
    if frozen and (t._tape is not tape or t._id < tape.frozen_from) and t.dtype.kind == "f":
        t = t.detach()
    return value_number(t, tape)


def _join_rows(op: Op, operands: tuple[Any, ...], attrs: Attrs, tape: Recording) -> RecordedTensor | None:
    """stack of vectors, or concat along the first axis of matrices, as a view; None where it is none."""
    first = operands[0]
    if not all(isinstance(x, RecordedTensor | Shared) for x in operands) or any(
        x.dtype != first.dtype for x in operands
    ):
        return None
    ndim = first.ndim
    if any(x.ndim != ndim for x in operands):
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
    width = first._type.width
    key = ("join", how, first.dtype, width, frozen)
    number = tape.cache.get(key)
    if number is None:
        found = _views.get(key)
        if found is None:
            operand = tensor_type(first.dtype, (width,) if how == "stack" else (1, width))
            found = _views[key] = Signature(
                name=how,
                kind=CONCAT_ROWS,
                slots=(Slot(LIST, operand),),
                results=(Result(width, first.dtype, PER_ELEMENT, 0, 1),),
                attrs=(how,),
                frozen=frozen,
            )
        number = tape.cache[key] = tape.signature_number(found)
    return write(tape, number, (len(ids), *ids), (tensor_type(first.dtype, shape),))[0]


def shared_row(
    x: Shared, tape: Recording, frozen: bool | None = None, place: tuple[CodeType | None, int] | None = None
) -> RecordedTensor:
    """A shared value used as a row: copied into its pool once per recording.

    `frozen` says whether as a constant, `place` where; both are those of the caller unless given.
    """
    if frozen is None:
        frozen = tape.cache is tape.caches[True]
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
    found: RecordedTensor = tape.tensors[at]
    return found


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


# Lists.


def record_known_list(kind: str, values: Any) -> RecordedTensor | None:
    """sum, mean or max over tensors of this recording, of one type, where it knows how; else None."""
    tape = state.tape
    if tape is None or tape.is_aside or len(values) < 2:
        return None
    type = None
    ids = [len(values)]
    for x in values:
        if x.__class__ is not RecordedTensor or x._tape is not tape:
            return None
        if x._type is not type:
            if type is not None:
                return None
            type = x._type
        ids.append(x._id)
    hit = tape.cache.get(("list", kind, type))
    if hit is None:
        return None
    return write_known(tape, hit, ids, _getframe(2))


def record_list(kind: str, values: Sequence[Any]) -> Any:
    """sum, mean, max or stack over a Python list of values of one shape; the length is data."""
    if state.builder is not None:
        return state.builder.record_list(kind, values)
    tape = current_tape()
    tensors = []
    for x in values:
        if not isinstance(x, RecordedTensor):
            x = shared_row(x, tape) if isinstance(x, Shared) else tensor(x)
        tensors.append(x)
    first = tensors[0]
    for x in tensors:
        if x._type is not first._type:
            if x.shape != first.shape:
                raise op_error(kind, "values of a list differ in shape", expected=str(first._type), got=str(x._type))
            wide = functools.reduce(promote, [t.dtype for t in tensors])
            return record_list(kind, [t.astype(wide) for t in tensors])
    if kind == "stack":
        return apply(STACK, tuple(tensors), (-first.ndim - 1,))
    key = ("list", kind, first._type)
    hit = tape.cache.get(key)
    if hit is None:
        frozen = tape.cache is tape.caches[True]
        signature, type = list_signature(kind, first._type, frozen)
        hit = tape.cache[key] = (tape.signature_number(signature), type)
    number, type = hit
    ids = [value_number(x, tape) for x in tensors]
    return write(tape, number, (len(ids), *ids), (type,))[0]


def list_signature(kind: str, element: Type, frozen: bool) -> tuple[Signature, Type]:
    """Signature of a reduction over a list of values of this type."""
    key = (kind, element, frozen)
    found = _signatures.get(key)
    if found is None:
        builder = Builder()
        x = builder.input("rows", 0, element, 1)
        result = builder.record({"sum": LIST_SUM, "max": LIST_MAX, "mean": LIST_MEAN}[kind], (x,), (1,))
        graph = builder.finish([result])
        type = graph.nodes[graph.outputs[0]].type
        signature = Signature(
            name=f"{kind} of list",
            kind=KERNEL,
            slots=(Slot(LIST, element, 1),),
            results=(Result(type.width, type.dtype, rows=type.rows),),
            graph=graph,
            frozen=frozen or type.dtype.kind != "f",
        )
        found = _signatures[key] = (signature, type)
    return found


recorder[0] = record
lifter[0] = tensor


def forced(t: RecordedTensor) -> np.ndarray[Any, Any]:
    """The array of a tensor, computed if need be together with all live pending work; not a copy."""
    value = known_value(t)
    if value is None:
        value = engine.compute(t)
    return value


def known_value(t: RecordedTensor) -> np.ndarray[Any, Any] | None:
    """The array of a tensor that was computed, and is still there; not a copy."""
    value: np.ndarray[Any, Any] | None = getattr(t, "_value", None)
    if value is None:
        for places, copies in t._tape.left:
            k = places.get(t._id)
            if k is not None:
                value = t._value = copies[k, ...] if isinstance(copies, np.ndarray) else copies[k]
    return value


def iterate_tensors(tree: Any) -> Iterator[RecordedTensor]:
    """The tensors of nested lists, tuples and dicts, in order; a loop, however deep."""
    stack = [tree]
    while stack:
        x = stack.pop()
        if isinstance(x, RecordedTensor):
            yield x
        elif isinstance(x, list | tuple):
            stack.extend(reversed(x))
        elif isinstance(x, dict):
            stack.extend(reversed(list(x.values())))
