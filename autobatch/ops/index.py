"""Indexing and table lookup. An integer is data, and so is an array of them; the length of a slice is the op's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base.errors import OpIndexError, OpTypeError, op_error, user_error
from ..base.types import Type, broadcast_shapes, tensor_type
from .declare import Attrs, Op, Sample, apply, declare, unchanged
from .elementwise import ADD
from .movement import STACK, reshape, slice_axis, transpose

INT64 = np.dtype(np.int64)


def _infer_take(types: Sequence[Type], attrs: Attrs) -> Type:
    x, i = types
    if not x.shape or i.dtype.kind not in "iu":
        raise op_error(
            "take",
            "a table is indexed by integers",
            expected="x[n, ...], i64[...]",
            got=f"{x}, {i}",
            repair="convert the index by .astype(int)",
        )
    return tensor_type(x.dtype, i.shape + x.shape[1:])


def _take(x: Any, i: Any) -> Any:
    return np.take(x, i, axis=0, mode="clip") if x.shape[0] else np.zeros(i.shape + x.shape[1:], x.dtype)


TAKE: Op = declare(
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


def _scatter_add(g: Any, i: Any, n: int) -> Any:
    rest = g.shape[i.ndim :]
    total = np.zeros((n, *rest), g.dtype)
    np.add.at(total, i.reshape(-1), np.reshape(g, (i.size, *rest)))
    return total


SCATTER_ADD: Op = declare(
    "scatter_add",
    "a table of zeros to whose rows the rows of a value are added",
    lambda types, attrs: tensor_type(types[0].dtype, (attrs[0], *types[0].shape[types[1].ndim :])),
    _scatter_add,
    lambda g, y, x, a: (apply(TAKE, (g, x[1])), None),
    "scatter",
    combine=ADD,
    identity=0.0,
    dtypes="keep",
    samples=lambda rng: [
        Sample((rng.normal(size=(3, 2)), np.array([1, 0, 1])), (4,)),
        Sample((rng.normal(size=2), np.array(1)), (3,)),
    ],
)


def _infer_bounded(types: Sequence[Type], attrs: Attrs) -> Type:
    if types[0].dtype.kind not in "iu":
        raise op_error(
            "index", "an index holds integers", got=str(types[0]), repair="convert the index by .astype(int)"
        )
    return tensor_type(INT64, types[0].shape)


def lowest_index(attrs: Attrs) -> int:
    """The lowest index that `BOUNDED` takes: -n, unless a second attribute says another."""
    return int(attrs[1] if len(attrs) > 1 else -attrs[0])


UNNAMED = -(1 << 62)
"""A lowest index that says: what is checked is an index less its bound, of which a message can name neither."""
EXPONENT = -(1 << 61)
"""A lowest index that says: what is checked is -1 less an exponent, which must not be negative."""


def not_in_range(index: int, n: int, lowest: int) -> str:
    """What is wrong with an index or a label that is out of range."""
    if lowest == EXPONENT:
        return "integers to a negative whole power: convert them by .astype(float)"
    if lowest == UNNAMED:
        return "the number of a segment or row is negative, or not below their number"
    if lowest == 0:
        return f"label {index} is out of range for {n} classes"
    return f"index {index} is out of range for an axis of {n}"


def _bounded(i: Any, *attrs: int) -> Any:
    n, lowest = attrs[0], lowest_index(attrs)
    i = np.asarray(i, INT64)
    if i.size and (int(i.min()) < lowest or int(i.max()) >= n):
        bad = int(i.max()) if int(i.max()) >= n else int(i.min())
        raise OpIndexError(not_in_range(bad, n, lowest))
    return np.where(i < 0, i + n, i)


BOUNDED = declare(
    "bounded",
    "an index made non-negative; raises unless it is below n and not below a second attribute, or -n",
    _infer_bounded,
    _bounded,
    lambda g, y, x, a: (None,),
    "axes",
    dtypes="keep",
    samples=lambda rng: [
        Sample((np.array([0, -1, 2]),), (3,), smooth=False),
        Sample((np.array([0, 2]),), (3, 0), smooth=False),
        Sample((np.array([0, -1]),), (3, 0), error=OpIndexError),
        Sample((np.array([0, 3]),), (3,), error=OpIndexError),
    ],
)


def _lookup_body(x: Any, *indices: Any) -> Any:
    """One index array for each of the first axes, which become one axis; the arrays broadcast."""
    at, total = None, 1
    for index, n in zip(indices, x.shape, strict=False):
        bounded = apply(BOUNDED, (index,), (n,))
        at, total = bounded if at is None else at * n + bounded, total * n
    return apply(TAKE, (x if len(indices) == 1 else reshape(x, (total, *x.shape[len(indices) :])), at))


LOOKUP = declare(
    "lookup",
    "elements of the first axes of a value by integers, negative ones counted from the end",
    body=_lookup_body,
    lead=lambda ndims, shared, attrs: (False, True) if ndims[1:] == [1] and shared == [True, False] else None,
    dtypes="keep",
    samples=lambda rng: [
        Sample((rng.normal(size=(4, 3)), 2)),
        Sample((rng.normal(size=5), -1)),
        Sample((rng.normal(size=(4, 3)), np.array([-1, 0, 2, 2]))),
        Sample((rng.normal(size=(4, 2, 2)), 1)),
        Sample((rng.normal(size=(4, 3)), np.array([[-1], [0]]), np.array([2, 0, 2]))),
        Sample((rng.normal(size=(4, 3)), 4), error=OpIndexError),
    ],
)


def _window_body(x: Any, start: Any, length: int, step: int) -> Any:
    positions = start + apply(ARANGE, (start,), (length,)) * step if length != 1 or step != 1 else reshape(start, (1,))
    return apply(TAKE, (x, positions))


ARANGE = declare(
    "arange",
    "0, 1, … as many as asked for; the operand only says where",
    lambda types, attrs: tensor_type(INT64, (attrs[0],)),
    lambda i, n: np.arange(n),
    None,
    "arange",
    dtypes="keep",
    samples=lambda rng: [Sample((1,), (3,), smooth=False)],
)
WINDOW = declare(
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


# Indexing as users write it.


def getitem(x: Any, index: Any) -> Any:
    """Indexing as NumPy's: integers, slices, None, ..., arrays of integers, which are paired, and masks.

    Raises `OpIndexError` for an index out of range: at once where it is known, else when it runs.
    """
    if index.__class__ is int and x.shape:
        return _pick(x, 0, index)
    if index.__class__ is np.ndarray and index.dtype.kind == "i" and index.ndim and x.shape:
        _check_range(x, index, x.shape[0])
        return apply(LOOKUP, (x, index))
    items = index if isinstance(index, tuple) else (index,)
    used = 0
    for item in items:
        if item is not None:
            if item.__class__ is not int and item.__class__ is not slice:
                return _general(x, items)
            used += 1
    _check_rank(x, used)
    y = _basic(x, 0, items)[0]
    return unchanged(y) if y is x else y


def _general(x: Any, index: tuple[Any, ...]) -> Any:
    """Indexing with arrays among the parts of the index, masks, ... or what is not an index at all."""
    items = [_item(item) for item in index]
    placed = [k for k, item in enumerate(items) if not (item is None or item is Ellipsis or isinstance(item, slice))]
    items = _expanded(x, items)
    first = next((k for k, item in enumerate(items) if _is_array(item)), len(items))
    y, axis = _basic(x, 0, items[:first])
    if first == len(items):
        return unchanged(y) if y is x else y
    axes, arrays, rest, at = [], [], [], axis
    for item in items[first:]:
        if _is_array(item):
            axes.append(at)
            arrays.append(item)
            _check_range(x, item, y.shape[at])
        else:
            rest.append(item)
        at += item is not None
    ndim = _broadcast_rank(arrays)
    if axes != list(range(len(axes))):
        y = transpose(y, (*axes, *(a for a in range(len(y.shape)) if a not in axes)))
    y, _ = _basic(apply(LOOKUP, (y, *arrays)), ndim + axis, rest)
    if axis and placed[-1] - placed[0] == len(placed) - 1:  # next to each other, so their axes stay where they are
        y = transpose(y, (*range(ndim, ndim + axis), *range(ndim), *range(ndim + axis, len(y.shape))))
    return y


def _is_value(item: Any) -> bool:
    return hasattr(item, "_record")


def _is_array(item: Any) -> bool:
    return isinstance(item, np.ndarray) or (_is_value(item) and len(item.shape) > 0)


def _item(item: Any) -> Any:
    """One part of an index: None, ..., a slice, an int, an integer value, or an array of integers or a mask."""
    if item is None or item is Ellipsis or item.__class__ is int or isinstance(item, slice):
        return item
    if isinstance(item, list | tuple):
        item = listed(item)
    if _is_value(item):
        _check_value(item)
        return item
    if isinstance(item, np.ndarray | np.generic):
        if item.dtype.kind in "iu" or (item.dtype.kind == "b" and item.ndim):
            return item if item.ndim else int(item)
    elif hasattr(item, "__index__") and not isinstance(item, bool):
        return item.__index__()
    if isinstance(item, str) or (isinstance(item, np.ndarray) and item.dtype.kind in "US"):
        raise op_error(
            "index",
            "a word is no row of a table",
            got=repr(item)[:60],
            repair="number words by an ab.data.Vocabulary, and look their vectors up in an nn.Embedding: "
            "embedding[vocabulary[word]]",
        )
    raise op_error(
        "index",
        "an index is an integer, a slice, None, ..., an array of integers or a mask",
        got=f"an array of {item.dtype}" if isinstance(item, np.ndarray) else repr(item)[:60],
        repair="to choose by a condition use ab.where",
    )


def listed(items: Any) -> Any:
    """A list that is an index as an array, or as a value where it holds values."""
    if any(_is_value(item) for item in items):
        return apply(STACK, tuple(items), (-1,))
    try:
        array = np.array(items)
        return array if array.size else array.astype(INT64)
    except (ValueError, OverflowError) as error:
        raise op_error(
            "index",
            "a list that is not an array of integers",
            got=repr(items)[:60],
            repair="make all its rows of one length, of integers",
        ) from error


def _check_value(index: Any) -> None:
    if index.dtype.kind == "b":
        raise op_error(
            "index",
            "how many elements a mask selects is not known where it is computed",
            got=str(index._type),
            repair="use ab.where(mask, x, other), which keeps the shape, or index with np.nonzero of a NumPy mask",
        )
    if index.dtype.kind not in "iu":
        raise op_error(
            "index",
            "an index holds integers",
            got=str(index._type),
            repair="convert integers with .astype(int); to choose by a condition use ab.where",
        )


def _expanded(x: Any, items: list[Any]) -> list[Any]:
    """The same with masks as the positions of what is true, and with slices in place of ..."""
    ndim = len(x.shape)
    used = sum(0 if item is None or item is Ellipsis else item.ndim if _is_mask(item) else 1 for item in items)
    _check_rank(x, used)
    if sum(item is Ellipsis for item in items) > 1:
        raise user_error(OpIndexError, "an index has more than one ...", repair="write : for the other axes")
    found: list[Any] = []
    axis = 0
    for item in items:
        if item is Ellipsis:
            found += [slice(None)] * (ndim - used)
            axis += ndim - used
        elif _is_mask(item):
            if item.shape != x.shape[axis : axis + item.ndim]:
                raise user_error(
                    OpIndexError,
                    "index: a mask has other extents than the axes that it selects from",
                    expected=str(x.shape[axis : axis + item.ndim]),
                    got=str(item.shape),
                    repair="index with a mask of the shape of those axes",
                )
            found += np.nonzero(item)
            axis += item.ndim
        else:
            found.append(item)
            axis += item is not None
    return found


def _is_mask(item: Any) -> bool:
    return isinstance(item, np.ndarray) and item.dtype.kind == "b"


def _check_rank(x: Any, used: int) -> None:
    ndim = len(x.shape)
    if used > ndim:
        raise user_error(
            OpIndexError,
            f"too many indices: {used} for a value of rank {ndim}",
            repair="leave some out, or add axes by None",
        )


def _broadcast_rank(arrays: list[Any]) -> int:
    if len(arrays) == 1:
        return len(arrays[0].shape)
    shape = broadcast_shapes(*(array.shape for array in arrays))
    if shape is None:
        raise user_error(
            OpIndexError,
            "index: arrays of one index are paired, and these do not broadcast",
            got=" and ".join(str(array.shape) for array in arrays),
            repair="for every row with every column use np.ix_",
        )
    return len(shape)


def _check_range(x: Any, index: Any, n: int) -> None:
    """Raise if integers that are known are no index of an axis of n elements."""
    if isinstance(index, np.ndarray) and index.size:
        low, high = int(np.minimum.reduce(index, None)), int(np.maximum.reduce(index, None))
        if low < -n or high >= n:
            raise _out_of_range(x, high if high >= n else low, n)


def _out_of_range(x: Any, index: int, n: int) -> OpIndexError:
    table = f"{'Parameter ' if hasattr(x, 'grad') else ''}{x._type}"
    return user_error(
        OpIndexError,
        f"index {index} is out of range for an axis of {n} of {table}",
        repair="indices are from 0 to one less than the extent, or negative from the end",
    )


def _basic(x: Any, axis: int, items: Sequence[Any]) -> tuple[Any, int]:
    """Apply integers, slices and None from an axis on; also the axis after them."""
    for item in items:
        if item is None:
            x = reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))
            axis += 1
        elif isinstance(item, slice):
            x = _slice(x, axis, item)
            axis += 1
        else:
            x = _pick(x, axis, item)
    return x, axis


def _slice(x: Any, axis: int, item: slice) -> Any:
    parts = (item.start, item.stop, item.step)
    if all(p is None for p in parts):
        return x
    if any(p is not None and not isinstance(p, int | np.integer) for p in parts):
        raise op_error(
            "slice",
            "the bounds of a slice are not integers",
            got=repr(item),
            repair="name a number that bounds a slice in static=, or index with it",
        )
    start, stop, step = item.indices(x.shape[axis])
    length = len(range(start, stop, step))
    if (start, step, length) == (0, 1, x.shape[axis]):
        return x
    return x._slice(axis, start, length, step) if hasattr(x, "_slice") else slice_axis(x, axis, start, length, step)


def _pick(x: Any, axis: int, index: Any) -> Any:
    """One element of an axis, by an integer or an integer value."""
    if index.__class__ is int:
        n = x.shape[axis]
        if not -n <= index < n:
            raise _out_of_range(x, index, n)
        index %= n
    if axis:
        x = transpose(x, (axis, *range(axis), *range(axis + 1, len(x.shape))))
    return apply(LOOKUP, (x, index))


def check_whole(name: str, value: Any) -> None:
    """Raise unless the value is an integer or an integer value."""
    kind = value.dtype.kind if hasattr(value, "dtype") else "i" if type(value) is int else ""
    if kind not in ("i", "u"):
        raise user_error(
            OpTypeError,
            f"{name}: expected an integer",
            got=repr(value)[:60],
            repair="convert it by int(x), or a value by .astype(int)",
        )
