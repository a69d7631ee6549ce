"""Fast paths of views: x[2], x[1:4], x[[2, 0]], x.reshape(…) and stacks of rows, without the general path of ops.

Each gives what the general path gives, and leaves to it what is no view, what raises, and what cells trace.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..base.types import LEADING
from ..ops.declare import unchanged
from ..ops.movement import reshape as _reshape
from ..ops.value import ShapeLike, Tensor, TensorLike
from .reductions import stack as _stack
from .tape import state
from .tensor import RecordedTensor
from .views import gather_rows, has_rows, pick_row, reshaped_rows, slice_rows, stacked_rows

_NUMBERS = frozenset((int, type(None)))


def _indexed(self: RecordedTensor, index: Any) -> Any:
    view = None
    if state.builder is None and self._type.shape:
        kind = index.__class__
        if kind is int:
            n = self._type.shape[0]
            if -n <= index < n and has_rows(self):
                return pick_row(self, index if index >= 0 else index + n)
        elif kind is slice:
            view = _sliced(self, index)
        elif kind is list:
            if index and all(k.__class__ is int for k in index):
                view = _gathered(self, index, (len(index),))
        elif kind is np.ndarray and index.dtype.kind == "i" and index.ndim == 1:
            view = _gathered(self, index.tolist(), index.shape)
    return Tensor.__getitem__(self, index) if view is None else view


def _sliced(x: RecordedTensor, part: slice) -> RecordedTensor | None:
    if not {part.start.__class__, part.stop.__class__, part.step.__class__} <= _NUMBERS or part.step == 0:
        return None
    n = x._type.shape[0]
    start, stop, step = part.indices(n)
    length = len(range(start, stop, step))
    return unchanged(x) if length == n and step == 1 else slice_rows(x, 0, start, length, step)


def _gathered(x: RecordedTensor, numbers: list[int], shape: tuple[int, ...]) -> RecordedTensor | None:
    n = x._type.shape[0]
    in_range = not numbers or (-n <= min(numbers) and max(numbers) < n)
    return gather_rows(x, numbers, shape) if in_range else None


def _known_reshape(x: Any, shape: Any) -> RecordedTensor | None:
    """The value in another shape where that is a view whose shape has all its extents; else None."""
    if x.__class__ is not RecordedTensor or state.builder is not None or x._type.layout != LEADING:
        return None
    if x._type.width == 1 or any(n.__class__ is not int for n in shape):  # rows of one number may lie in other ways
        return None
    return unchanged(x) if shape == x._type.shape else reshaped_rows(x, shape)


def reshape(x: TensorLike, shape: ShapeLike) -> Tensor:
    view = _known_reshape(x, shape) if shape.__class__ is tuple else None
    return _reshape(x, shape) if view is None else view


def _reshaped(self: RecordedTensor, *shape: Any) -> Tensor:
    view = _known_reshape(self, shape[0] if len(shape) == 1 and shape[0].__class__ is tuple else shape)
    return Tensor.reshape(self, *shape) if view is None else view


def stack(xs: Iterable[TensorLike], axis: int = 0) -> Tensor:
    view = stacked_rows(xs) if xs.__class__ is list and xs and axis == 0 and state.builder is None else None
    return _stack(xs, axis) if view is None else view


reshape.__doc__, stack.__doc__ = _reshape.__doc__, _stack.__doc__
for _name, _function in (("__getitem__", _indexed), ("reshape", _reshaped)):
    _slow = getattr(Tensor, _name)
    _function.__name__, _function.__qualname__, _function.__doc__ = _name, _slow.__qualname__, _slow.__doc__
    setattr(RecordedTensor, _name, _function)
