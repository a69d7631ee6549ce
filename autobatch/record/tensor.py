"""Tensors: the values of one example that user code holds while it is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends.transfer import is_on_device, to_host
from ..base.errors import line_of, op_error
from ..base.notebooks import card
from ..base.types import Array, Type
from ..ir.trace import Builder
from ..ops.declare import lifter
from ..ops.value import Tensor
from .choice import compiled
from .containers import parts_of
from .forcing import engine
from .shared import copy_with_gradient

if TYPE_CHECKING:
    from .tape import Recording


if TYPE_CHECKING or compiled is None:

    class _Value:
        """What a tensor has: its recording, its number there, its type, and its array once it was computed."""

        __slots__ = ("__weakref__", "_id", "_tape", "_type", "_value")

else:
    _Value = compiled.Value


class RecordedTensor(_Value, Tensor):
    """A value of a recording: what ops on one example's values give. How ops on it are recorded is in `recorder`."""

    __slots__ = ()
    _priority = 2
    _tape: Recording
    _id: int
    _type: Type
    _value: Array | None

    def __init__(self) -> None:
        raise TypeError("tensors are made by ab.tensor and by ops")

    def detach(self) -> Any:
        """The same numbers as a constant; also of a value that is still there after its recording has ended."""
        value = known_value(self) if self._tape is not None and self._tape.is_ended else None
        return super().detach() if value is None else lifter[0](value, self.dtype)

    def _enter(self, builder: Builder) -> Any:
        what = "a tensor reached the cell by neither argument nor closure"
        raise op_error("cell", what, repair="pass it as an argument")

    def numpy(self) -> Array:
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
        return lifter[0], (numbers, self.dtype)

    def _repr_html_(self) -> str:
        """What a notebook shows: type and line, and the numbers if they were computed."""
        where, value = node_line(self), known_value(self)
        lines = [f"recorded at {where}" if where else "", "pending: nothing was computed yet" if value is None else ""]
        return card(f"Tensor {self._type}", lines, None if value is None else to_host(value))

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


def forced(t: RecordedTensor) -> Array:
    """The array of a tensor, computed if need be together with all live pending work; not a copy."""
    value = known_value(t)
    if value is None:
        value = engine.compute(t)
    return value


def known_value(t: RecordedTensor) -> Array | None:
    """The array of a tensor that was computed, and is still there; not a copy."""
    value: Array | None = getattr(t, "_value", None)
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
        elif isinstance(x, list | tuple | dict):
            stack.extend(reversed(parts_of(x)))
