"""Fast paths of recording: ops on tensors of the open recording whose signature it knows already.

Each takes the place of the general function, and calls it where anything is out of the ordinary. The lines of
`tensor.write_known` stand in each of the shortest anew: a call would cost a tenth of the budget of an op.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from sys import _getframe
from typing import Any, SupportsIndex

from ..ops import composite, elementwise
from ..ops.composite import CROSS_ENTROPY
from ..ops.declare import Op
from ..ops.elementwise import ADD, DIV, EXP, LOG, MUL, RELU, SIGMOID, SOFTPLUS, SQRT, SUB, TANH
from ..ops.index import LOOKUP
from ..ops.linalg import MATMUL
from ..ops.movement import CONCAT, SLICE
from ..ops.movement import concat as _concat
from ..ops.movement import split as _split
from ..ops.value import ShapeLike, Tensor, TensorLike
from .parameter import Parameter
from .shared import Shared
from .tape import WRITING, state
from .tensor import SHARED_CLASSES, RecordedTensor, more_tensors, place_from, write_known

__all__ = ["concat", "cross_entropy", "exp", "log", "relu", "sigmoid", "softplus", "split", "sqrt", "tanh"]

Unary = Callable[[TensorLike], Tensor]
Labelled = Callable[[TensorLike, Tensor | SupportsIndex], Tensor]


def _binary(op: Op, slow: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Of two tensors, or a tensor and a shared value or a float."""

    def method(self: Any, other: Any) -> Any:
        tape: Any = state.tape
        if self._tape is tape:
            kind = other.__class__
            if kind is RecordedTensor:
                if other._tape is not tape:
                    return slow(self, other)
                hit = tape.cache.get((op, (), self._type, other._type))
                if hit is None:
                    return slow(self, other)
                operands: tuple[int, ...] = (hit[0], self._id, other._id)
            else:
                if kind is float:
                    hit = tape.cache.get((op, (), self._type, "f"))
                elif kind in SHARED_CLASSES:
                    hit = tape.cache.get((op, (), self._type, other))
                else:
                    hit = None
                if hit is None:
                    return slow(self, other)
                operands = (hit[0], self._id)
            n = tape.count
            if n > tape.room:
                more_tensors(tape, n)
            frame = _getframe(1)
            place = frame.f_lasti if frame.f_code is tape.user_code else place_from(frame, tape)
            tape.count = WRITING
            if kind is float:
                tape.floats.append(other)
            tape.stream.extend(operands)
            tape.places.append(place)
            t = tape.tensors[n]
            t._tape = tape
            t._type = hit[1]
            tape.count = n + 1
            return t
        return slow(self, other)

    return _named(method, slow)


def _reflected(op: Op, slow: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Of a float and a tensor."""

    def method(self: Any, other: Any) -> Any:
        tape: Any = state.tape
        if other.__class__ is float and self._tape is tape:
            hit = tape.cache.get((op, (), "f", self._type))
            if hit is not None:
                return write_known(tape, hit, (self._id,), _getframe(1), floats=(other,))
        return slow(self, other)

    return _named(method, slow)


def _shared_left(op: Op, slow: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Of a shared value and a tensor."""

    def method(self: Any, other: Any) -> Any:
        if other.__class__ is RecordedTensor:
            tape: Any = state.tape
            if other._tape is tape:
                hit = tape.cache.get((op, (), self, other._type))
                if hit is not None:
                    return write_known(tape, hit, (other._id,), _getframe(1))
        return slow(self, other)

    return _named(method, slow)


def _row(slow: Callable[[Any, Any], Any], depth: int) -> Callable[[Any, Any], Any]:
    """Of a shared table, one row by its number; recorded by the function so many calls out."""

    def method(self: Any, index: Any) -> Any:
        tape: Any = state.tape
        if index.__class__ is int and tape is not None:
            try:
                number, type, n_rows = tape.cache[self]
            except KeyError:
                number, type, n_rows = -1, None, 0
            n = tape.count
            if 0 <= index < n_rows and n is not WRITING and not tape.is_aside:
                if n > tape.room:
                    more_tensors(tape, n)
                frame = _getframe(depth)
                place = frame.f_lasti if frame.f_code is tape.user_code else place_from(frame, tape)
                tape.count = WRITING
                tape.ints.append(index)
                tape.stream.append(number)
                tape.places.append(place)
                t = tape.tensors[n]
                t._tape = tape
                t._type = type
                tape.count = n + 1
                return t
            if n_rows == 0 and state.builder is None:
                t = slow(self, index)
                tape = state.tape
                hit = None if tape is None else tape.cache.get((LOOKUP, (), self, "i"))
                if hit is not None:
                    tape.cache[self] = (*hit, self._type.shape[0])
                return t
        return slow(self, index)

    return _named(method, slow)


def _unary(op: Op, slow: Unary) -> Unary:
    """Of one tensor."""

    def function(x: Any) -> Any:
        tape: Any = state.tape
        if x.__class__ is RecordedTensor and x._tape is tape:
            hit = tape.cache.get((op, (), x._type))
            if hit is not None:
                n = tape.count
                if n > tape.room:
                    more_tensors(tape, n)
                frame = _getframe(1)
                place = frame.f_lasti if frame.f_code is tape.user_code else place_from(frame, tape)
                tape.count = WRITING
                tape.stream.extend((hit[0], x._id))
                tape.places.append(place)
                t = tape.tensors[n]
                t._tape = tape
                t._type = hit[1]
                tape.count = n + 1
                return t
        return slow(x)

    return _named(function, slow)


def _labelled(op: Op, slow: Labelled) -> Labelled:
    """Of a vector and the number of one of its elements."""

    def function(logits: Any, index: Any) -> Any:
        tape: Any = state.tape
        if index.__class__ is int and logits.__class__ is RecordedTensor and logits._tape is tape:
            hit = tape.cache.get((op, (), logits._type, "i"))
            if hit is not None and 0 <= index < logits._type.shape[0]:
                return write_known(tape, hit, (logits._id,), _getframe(1), ints=(index,))
        return slow(logits, index)

    return _named(function, slow)


def _named(fast: Any, slow: Any) -> Any:
    fast.__name__, fast.__qualname__, fast.__doc__ = slow.__name__, slow.__name__, slow.__doc__
    return fast


def split(x: TensorLike, parts: ShapeLike, axis: int = 0) -> list[Tensor]:
    tape: Any = state.tape
    if x.__class__ is not RecordedTensor or x._tape is not tape or parts.__class__ is not int or parts == 1:
        return _split(x, parts, axis)
    hits = tape.cache.get((SLICE, x._type, parts, axis))
    if hits is None:
        pieces = _split(x, parts, axis)
        first = pieces[0]._type
        at = axis - len(x._type.shape) if axis >= 0 else axis
        length = first.shape[at]
        keys = [(SLICE, (at, k * length, length, 1), x._type) for k in range(len(pieces))]
        if all(key in tape.cache for key in keys):
            tape.cache[SLICE, x._type, parts, axis] = tuple(tape.cache[key] for key in keys)
        return pieces
    source, frame = (x._id,), _getframe(1)
    return [write_known(tape, hit, source, frame) for hit in hits]


def concat(xs: Iterable[TensorLike], axis: int = 0) -> Tensor:
    tape: Any = state.tape
    if (axis == 0 or axis == -1) and (xs.__class__ is list or xs.__class__ is tuple):
        key: list[Any] = [CONCAT, (-1,)]
        operands = []
        for x in xs:
            if x.__class__ is not RecordedTensor or x._tape is not tape:
                return _concat(xs, axis)
            key.append(x._type)
            operands.append(x._id)
        # Of vectors, whose only axis is the last one, too; the op has it as -1.
        hit = tape.cache.get(tuple(key)) if operands and (axis or x._type.ndim == 1) else None
        if hit is not None:
            return write_known(tape, hit, operands, _getframe(1))
    return _concat(xs, axis)


split = _named(split, _split)
concat = _named(concat, _concat)
cross_entropy = _labelled(CROSS_ENTROPY, composite.cross_entropy)
exp = _unary(EXP, elementwise.exp)
log = _unary(LOG, elementwise.log)
relu = _unary(RELU, elementwise.relu)
sigmoid = _unary(SIGMOID, elementwise.sigmoid)
softplus = _unary(SOFTPLUS, elementwise.softplus)
sqrt = _unary(SQRT, elementwise.sqrt)
tanh = _unary(TANH, elementwise.tanh)

for _name, _op in (("add", ADD), ("sub", SUB), ("mul", MUL), ("truediv", DIV), ("matmul", MATMUL)):
    _plain = f"__{_name}__"
    setattr(RecordedTensor, _plain, _binary(_op, getattr(Tensor, _plain)))
    setattr(Shared, _plain, _shared_left(_op, getattr(Tensor, _plain)))
for _name, _op in (("radd", ADD), ("rsub", SUB), ("rmul", MUL)):
    setattr(RecordedTensor, f"__{_name}__", _reflected(_op, getattr(Tensor, f"__{_name}__")))
Shared.__getitem__ = _row(Tensor.__getitem__, 1)  # type: ignore[method-assign]
Parameter._row_for_layer = _row(Tensor.__getitem__, 2)  # type: ignore[method-assign, assignment]
