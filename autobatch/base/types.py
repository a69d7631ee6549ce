"""Types of values: a dtype and a shape, interned so that equal types are one object.

Shapes of recorded values are plain integers. Shapes inside a batched graph may start with a `Dim`, a count that is
known only when a launch runs: the number of nodes of the launch, or the number of rows of one of its lists.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import OpTypeError, op_error
from .module_epoch import changed


@dataclass(frozen=True, slots=True)
class Dim:
    """A run-time count times a constant: `Dim(0)` is the nodes of a launch, `Dim(k)` the elements of its list k."""

    index: int
    factor: int = 1

    def __mul__(self, other: int) -> Dim:
        return Dim(self.index, self.factor * other)

    __rmul__ = __mul__

    def __str__(self) -> str:
        name = "m" if self.index == 0 else f"n{self.index}"
        return name if self.factor == 1 else f"{self.factor}{name}"

    __repr__ = __str__


Array = np.ndarray[Any, Any]
Extent = int | Dim
Shape = tuple[Any, ...]


LEADING, ELEMENTS, COLUMNS, MIDDLE, PAIRS, PAIRS_TRANSPOSED = range(6)
"""Layouts: what is a row of the value's pool. LEADING: rank 0 and 1 are one row, a higher rank has its leading axis as
rows. ELEMENTS: each element is a row of one number, in row-major order. COLUMNS: the last axis is that of the rows.
MIDDLE: the last but one is. PAIRS: the last two are, row-major; PAIRS_TRANSPOSED: column-major."""


def _axes(layout: int, ndim: int) -> tuple[tuple[int, ...], int]:
    """The axes of a value in the order in which they are stored, and how many of them, from the first, are rows."""
    rest = tuple(range(ndim))
    if layout == COLUMNS:
        return (ndim - 1, *rest[:-1]), 1
    if layout == MIDDLE:
        return (ndim - 2, *rest[:-2], ndim - 1), 1
    if layout in (PAIRS, PAIRS_TRANSPOSED):
        last = rest[-2:] if layout == PAIRS else rest[:-3:-1]
        return (*last, *rest[:-2]), 2
    return rest, ndim if layout == ELEMENTS else int(ndim > 1)


class Type:
    """dtype, shape and layout of one value. Compare with `is`; make with `tensor_type`.

    The value is `rows` rows of `width` numbers in its pool. User code sees dtype and shape alone.
    """

    __slots__ = ("dtype", "layout", "n_row_axes", "ndim", "order", "rows", "shape", "width")

    def __init__(self, dtype: np.dtype[Any], shape: Shape, layout: int = LEADING) -> None:
        self.dtype = dtype
        self.shape = shape
        self.layout = layout
        self.ndim = len(shape)
        self.order, self.n_row_axes = _axes(layout, self.ndim)
        if all(type(n) is int for n in shape):
            stored = self._stored_shape
            self.rows, self.width = size_of(stored[: self.n_row_axes]), size_of(stored[self.n_row_axes :])
        else:
            self.rows = self.width = -1

    @property
    def _stored_shape(self) -> Shape:
        return tuple(self.shape[axis] for axis in self.order)

    @property
    def stored(self) -> Type:
        """The type of its rows, as one value whose leading axis they are; itself where the layout is LEADING."""
        return self if self.layout == LEADING else tensor_type(self.dtype, (self.rows, self.width))

    @property
    def row(self) -> Type:
        """The type of one row of a value that is a list of rows."""
        return tensor_type(self.dtype, self._stored_shape[max(self.n_row_axes, 1) :])

    def pack(self, array: Any) -> Any:
        """An array of this shape as its rows, or as anything that has their numbers in their order."""
        return array if self.layout <= ELEMENTS else array.transpose(self.order)

    def unpack(self, rows: Any, *lead: int) -> Any:
        """Rows as an array of this shape, or as one of several such values, with leading extents."""
        array = rows.reshape((*lead, *self._stored_shape))
        if self.layout <= ELEMENTS:
            return array
        return array.transpose((*range(len(lead)), *(len(lead) + self.order.index(axis) for axis in range(self.ndim))))

    @property
    def has_dim(self) -> bool:
        """Whether it leads with a `Dim`."""
        return bool(self.shape) and isinstance(self.shape[0], Dim)

    def __repr__(self) -> str:
        return f"{short_dtype(self.dtype)}[{', '.join(map(str, self.shape))}]"

    def __reduce__(self) -> tuple[Any, ...]:
        return tensor_type, (self.dtype, self.shape, self.layout)


_interned: dict[tuple[np.dtype[Any], Shape, int], Type] = {}


def tensor_type(dtype: Any, shape: Shape, layout: int = LEADING) -> Type:
    """The one `Type` of this dtype, shape and layout. Where ELEMENTS or MIDDLE are the rows of LEADING, it is that one.

    >>> tensor_type(np.float32, (7, 64))
    f32[7, 64]
    """
    if layout == ELEMENTS and (not shape or (len(shape) > 1 and size_of(shape[1:]) == 1)):
        layout = LEADING
    if layout == MIDDLE and len(shape) == 2:
        layout = LEADING
    key = (np.dtype(dtype), shape, layout)
    found = _interned.get(key)
    if found is None:
        found = _interned.setdefault(key, Type(*key))
    return found


def size_of(shape: Shape) -> Any:
    """Product of the extents; at most one of them may be a `Dim`."""
    total: Any = 1
    for extent in shape:
        total = total * extent if not isinstance(extent, Dim) else extent * total
    return total


def short_dtype(dtype: np.dtype[Any]) -> str:
    """`f32`, `i64`, `bool`, …"""
    return "bool" if dtype.kind == "b" else f"{dtype.kind}{dtype.itemsize * 8}"


FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
INT64 = np.dtype(np.int64)
DTYPES = (*FLOATS, np.dtype(np.int32), INT64, np.dtype(np.bool_))


HALF = np.dtype(np.float16)


def value_dtype(name: str, dtype: Any) -> np.dtype[Any]:
    """The dtype of values that op `name` is asked for; of float16 it is float32, in which they are held and computed.

    >>> value_dtype("cast", "float16")
    dtype('float32')
    """
    try:
        wanted = np.dtype(dtype)
    except TypeError:
        wanted = np.dtype(object)
    if wanted not in DTYPES and wanted != HALF:
        expected = "float32, float64, int32, int64, bool, or float16, which is computed in float32"
        raise op_error(name, "no value holds this dtype", expected=expected, got=str(dtype))
    return FLOATS[0] if wanted == HALF else wanted


class _Default(threading.local):
    dtype = np.dtype(np.float32)


_default = _Default()

on_change: list[Callable[[], None]] = []
"""Called after the default dtype has changed; a recording forgets here which op gives which type."""


def default_dtype() -> np.dtype[Any]:
    """dtype of NumPy float arrays, parameters and Python numbers where nothing else decides: float32 at first."""
    return _default.dtype


def set_default_dtype(dtype: Any) -> None:
    """Set the default floating dtype of this thread, float32 or float64.

    Raises `OpTypeError` for any other.

    >>> ab.set_default_dtype("float64"); ab.zeros(2).dtype
    dtype('float64')
    >>> ab.set_default_dtype("float32")
    """
    wanted = np.dtype(dtype)
    if wanted not in FLOATS:
        raise OpTypeError(f"set_default_dtype: expected float32 or float64, got {wanted}")
    _default.dtype = wanted
    for hook in on_change:
        hook()
    changed()


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether values of this dtype have gradients."""
    return dtype.kind == "f"


def promote(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """dtype of a result of two tensors: floats win over integers and keep their width, else NumPy's rule."""
    if a == b:
        return a
    if a.kind == "f" and b.kind != "f":
        return a
    if b.kind == "f" and a.kind != "f":
        return b
    return np.promote_types(a, b)


def counted(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """dtype of a sum: booleans are counted and integers added in int64, as in NumPy."""
    return dtype if dtype.kind == "f" else INT64


def broadcast_shapes(*shapes: Shape) -> Shape | None:
    """NumPy's broadcasting, over extents that may be `Dim`s; None where the shapes do not fit."""
    ndim = max(map(len, shapes), default=0)
    result: list[Extent] = []
    for axis in range(-ndim, 0):
        extent: Extent = 1
        for shape in shapes:
            if -axis <= len(shape) and shape[axis] != 1:
                if extent != 1 and extent != shape[axis]:
                    return None
                extent = shape[axis]
        result.append(extent)
    return tuple(result)
