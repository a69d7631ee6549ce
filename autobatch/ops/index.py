"""Indexing and table lookup. A whole-number index is data; the length of a slice belongs to the op."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import OpIndexError, OpTypeError, message, op_error, user_line
from ..types import Type, tensor_type
from .declare import Attrs, Op, Sample, apply, declare
from .movement import reshape, slice_axis, transpose

INT64 = np.dtype(np.int64)


def _infer_take(types: Sequence[Type], attrs: Attrs) -> Type:
    x, i = types
    if not x.shape or i.dtype.kind not in "iu":
        raise op_error("take", "a table is indexed by whole numbers", expected="x[n, ...], i64[...]", got=f"{x}, {i}")
    return tensor_type(x.dtype, i.shape + x.shape[1:])


def _take(x: Any, i: Any) -> Any:
    return np.take(x, i, axis=0, mode="clip") if x.shape[0] else np.zeros(i.shape + x.shape[1:], x.dtype)


TAKE: Op = declare(
    Op(
        "take",
        "rows of a table; the index is known to be in range",
        _infer_take,
        _take,
        lambda g, y, x, a: (apply(SCATTER_ADD, (g, x[1]), (x[0].shape[0],)), None),
        "take",
        dtypes="keep",
        samples=lambda rng: [
            Sample((rng.normal(size=(4, 3)), np.array(2))),
            Sample((rng.normal(size=(4, 3)), np.array([2, 0, 2]))),
            Sample((rng.normal(size=4), np.array([[1, 3]]))),
        ],
    )
)


def _infer_scatter(types: Sequence[Type], attrs: Attrs) -> Type:
    g, i = types
    return tensor_type(g.dtype, (attrs[0], *g.shape[i.ndim :]))


def _scatter_add(g: Any, i: Any, n: int) -> Any:
    rest = g.shape[i.ndim :]
    total = np.zeros((n, *rest), g.dtype)
    np.add.at(total, i.reshape(-1), g.reshape(-1, *rest) if g.size else np.zeros((i.size, *rest), g.dtype))
    return total


SCATTER_ADD: Op = declare(
    Op(
        "scatter_add",
        "a table of zeros to whose rows the rows of a value are added",
        _infer_scatter,
        _scatter_add,
        lambda g, y, x, a: (apply(TAKE, (g, x[1])), None),
        "scatter",
        dtypes="keep",
        samples=lambda rng: [
            Sample((rng.normal(size=(3, 2)), np.array([1, 0, 1])), (4,)),
            Sample((rng.normal(size=2), np.array(1)), (3,)),
        ],
    )
)


def _bounded(i: Any, n: int) -> Any:
    i = np.asarray(i, INT64)
    if i.size and (int(i.min()) < -n or int(i.max()) >= n):
        bad = int(i.max()) if int(i.max()) >= n else int(i.min())
        raise OpIndexError(f"index {bad} is out of range for an axis of {n}")
    return np.where(i < 0, i + n, i)


BOUNDED = declare(
    Op(
        "bounded",
        "an index made non-negative; raises where it is out of range",
        lambda types, attrs: tensor_type(INT64, types[0].shape),
        _bounded,
        lambda g, y, x, a: (None,),
        "axes",
        dtypes="keep",
        samples=lambda rng: [Sample((np.array([0, -1, 2]),), (3,), smooth=False)],
    )
)


def _lookup_body(x: Any, i: Any) -> Any:
    return apply(TAKE, (x, apply(BOUNDED, (i,), (x.shape[0],))))


def _lookup_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample((rng.normal(size=(4, 3)), 2)),
        Sample((rng.normal(size=5), -1)),
        Sample((rng.normal(size=(4, 3)), np.array([-1, 0, 2, 2]))),
        Sample((rng.normal(size=(4, 2, 2)), 1)),
        Sample((rng.normal(size=(4, 3)), 4), error=OpIndexError),
    ]


LOOKUP = declare(
    Op(
        "lookup",
        "rows of a value by whole numbers, negative ones counted from the end",
        body=_lookup_body,
        dtypes="keep",
        samples=_lookup_samples,
    )
)


def _window_body(x: Any, start: Any, length: int, step: int) -> Any:
    positions = start + apply(ARANGE, (start,), (length,)) * step if length != 1 or step != 1 else reshape(start, (1,))
    return apply(TAKE, (x, positions))


ARANGE = declare(
    Op(
        "arange",
        "0, 1, … as many as asked for; the operand only says where",
        lambda types, attrs: tensor_type(INT64, (attrs[0],)),
        lambda i, n: np.arange(n),
        None,
        "arange",
        dtypes="keep",
        samples=lambda rng: [Sample((1,), (3,), smooth=False)],
    )
)
WINDOW = declare(
    Op(
        "window",
        "part of the first axis: the start is data, length and step are attributes",
        body=_window_body,
        dtypes="keep",
        samples=lambda rng: [
            Sample((rng.normal(size=6), 1), (3, 1)),
            Sample((rng.normal(size=6), 5), (3, -2)),
            Sample((rng.normal(size=(4, 2)), 1), (2, 1)),
        ],
    )
)


def take(x: Any, index: Any) -> Any:
    """Rows of `x: [n, ...]` by whole numbers of any shape; negative ones count from the end.

    Raises `OpIndexError` for an index out of range: at once when it is a Python number, else when it runs.
    """
    if isinstance(index, int | np.integer):
        n = x.shape[0]
        if not -n <= index < n:
            raise OpIndexError(message(f"index {index} is out of range for an axis of {n}", where=user_line(2)))
        index = int(index) % n if n else 0
    elif isinstance(index, list | np.ndarray):
        index = np.asarray(index)
        if index.dtype.kind not in "iu":
            raise op_error("index", "an array index must hold whole numbers", got=str(index.dtype))
    return apply(LOOKUP, (x, index))


def getitem(x: Any, index: Any) -> Any:
    """Indexing as NumPy's: whole numbers, slices, None, ..., and one array of whole numbers on the first axis."""
    items = index if isinstance(index, tuple) else (index,)
    ndim = len(x.shape)
    used = sum(item is not None and item is not Ellipsis for item in items)
    if used > ndim:
        raise OpIndexError(message(f"too many indices: {used} for a value of rank {ndim}", where=user_line(2)))
    dots = sum(item is Ellipsis for item in items)
    if dots > 1:
        raise OpIndexError(message("an index has more than one ...", where=user_line(2)))
    if dots:
        at = next(k for k, item in enumerate(items) if item is Ellipsis)
        items = (*items[:at], *(slice(None),) * (ndim - used), *items[at + 1 :])
    axis = 0
    for item in items:
        if item is None:
            x = reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))
            axis += 1
        elif isinstance(item, slice):
            x = _slice(x, axis, item)
            axis += 1
        else:
            x, added = _pick(x, axis, item)
            axis += added
    return x


def _slice(x: Any, axis: int, item: slice) -> Any:
    parts = (item.start, item.stop, item.step)
    if any(p is not None and not isinstance(p, int | np.integer) for p in parts):
        raise op_error(
            "slice",
            "the bounds of a slice are not whole numbers",
            got=repr(item),
            repair="name a number that bounds a slice in static=, or index with it",
        )
    start, stop, step = item.indices(x.shape[axis])
    length = len(range(start, stop, step))
    if (start, step, length) == (0, 1, x.shape[axis]):
        return x
    return x._slice(axis, start, length, step) if hasattr(x, "_slice") else slice_axis(x, axis, start, length, step)


def _pick(x: Any, axis: int, item: Any) -> tuple[Any, int]:
    if isinstance(item, bool | np.bool_ | float):
        raise op_error("index", "an index must be a whole number, a slice, None or ...", got=repr(item))
    ndim = len(x.shape)
    if isinstance(item, int | np.integer):
        n = x.shape[axis]
        if not -n <= item < n:
            raise OpIndexError(message(f"index {item} is out of range for axis {axis} of {n}", where=user_line(2)))
    if axis:
        x = transpose(x, (axis, *range(axis), *range(axis + 1, ndim)))
    y = take(x, item)
    added = len(y.shape) - ndim + 1
    if axis:
        order = (*range(added, added + axis), *range(added), *range(added + axis, len(y.shape)))
        y = transpose(y, order)
    return y, added


def check_whole(name: str, value: Any) -> None:
    """Raise unless the value is a whole number or an integer value."""
    if isinstance(value, bool) or not (
        isinstance(value, int | np.integer) or getattr(value, "dtype", INT64).kind in "iu"
    ):
        raise OpTypeError(message(f"{name}: expected a whole number", got=repr(value), where=user_line(2)))
