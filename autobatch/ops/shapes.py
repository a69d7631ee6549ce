"""Functions that change the order or the number of axes and elements, under NumPy's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import op_error
from ..base.types import LEADING
from .composing import composite, normal
from .declare import as_value, unchanged
from .elementwise import cast, equal, where
from .index import getitem
from .movement import broadcast_to as spread
from .movement import concat, extents, negative_axis, reshape, slice_axis, whole
from .reduce import normalise_axes

if TYPE_CHECKING:
    from .value import Axis, Tensor, TensorLike


def squeeze(x: TensorLike, axis: Axis = None) -> Tensor:
    """`x` without the axes of extent 1 in `axis`, or without all such for None. `OpTypeError` for another extent.

    >>> ab.squeeze(ab.ones((1, 3, 1))).shape, ab.squeeze(ab.ones((1, 3, 1)), axis=0).shape
    ((3,), (3, 1))
    """
    x = as_value(x)
    ndim = len(x.shape)
    chosen = normalise_axes("squeeze", axis, ndim)
    if axis is None:
        chosen = tuple(a for a in chosen if x.shape[a] == 1)
    for a in chosen:
        if x.shape[a] != 1:
            raise op_error(
                "squeeze",
                f"axis {a + ndim} has an extent not equal to one",
                got=str(x.shape),
                repair="leave axis= out to drop all axes of extent 1",
            )
    return reshape(x, tuple(n for a, n in zip(range(-ndim, 0), x.shape, strict=True) if a not in chosen))


def broadcast_to(x: TensorLike, shape: int | tuple[int, ...]) -> Tensor:
    """`x` repeated along axes of extent 1, and along new ones in front: of this shape. As `numpy.broadcast_to`.

    Raises `OpTypeError` where the shape of `x` does not broadcast to it.

    >>> ab.broadcast_to(ab.tensor([1.0, 2.0]), (2, 2)).tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    found: Tensor = spread(x, tuple(whole("broadcast_to", n) for n in extents(shape)))
    return found


def expand_dims(x: TensorLike, axis: int | tuple[int, ...]) -> Tensor:
    """The elements of `x` with new axes of extent 1, at the places `axis` of the result.

    >>> ab.expand_dims(ab.ones(3), 0).shape, ab.expand_dims(ab.ones(3), (0, -1)).shape
    ((1, 3), (1, 3, 1))
    """
    x = as_value(x)
    ndim = len(x.shape) + len(extents(axis))
    new = normalise_axes("expand_dims", tuple(extents(axis)), ndim)
    rest = iter(x.shape)
    return reshape(x, tuple(1 if a in new else next(rest) for a in range(-ndim, 0)))


def flip(x: TensorLike, axis: Axis = None) -> Tensor:
    """The elements of `x` in reverse order along `axis`, an integer or several, or along all axes for None.

    >>> ab.flip(ab.tensor([1.0, 2.0, 3.0])).numpy()
    array([3., 2., 1.], dtype=float32)
    """
    x = as_value(x)
    ndim = len(x.shape)
    flipped = normalise_axes("flip", axis, ndim)
    return x[tuple(slice(None, None, -1 if a in flipped else None) for a in range(-ndim, 0))]


def _has_rows(x: Any) -> bool:
    """Whether a value of an example has rows, which are moved by their numbers."""
    return hasattr(x, "_slice") and (len(x.shape) > 1 or x._type.layout != LEADING)


def roll(x: TensorLike, shift: int, axis: int | None = None) -> Tensor:
    """The elements of `x` moved by `shift` places along `axis`, those beyond the end to the start; flattened for None.

    >>> ab.roll(ab.tensor([1.0, 2.0, 3.0]), 1).numpy()
    array([3., 1., 2.], dtype=float32)
    """
    x = as_value(x)
    if axis is None:
        return reshape(roll(reshape(x, (-1,)), shift, 0), x.shape)
    at = negative_axis("roll", axis, len(x.shape))
    n = x.shape[at]
    k = whole("roll", shift, None) % n if n else 0
    if k and at == -len(x.shape) and _has_rows(x):
        rolled: Tensor = getitem(x, np.roll(np.arange(n), k))
        return rolled
    return concat([slice_axis(x, at, n - k, k), slice_axis(x, at, 0, n - k)], at) if k else unchanged(x)


def repeat(x: TensorLike, repeats: int, axis: int | None = None) -> Tensor:
    """Each element of `x` `repeats` times along `axis`, one behind the other; flattened for None, as `numpy.repeat`.

    >>> ab.repeat(ab.tensor([1.0, 2.0]), 2).numpy()
    array([1., 1., 2., 2.], dtype=float32)
    """
    x = as_value(x)
    if axis is None:
        return repeat(reshape(x, (-1,)), repeats, 0)
    k = negative_axis("repeat", axis, len(x.shape)) + len(x.shape)
    times, shape = whole("repeat", repeats), x.shape
    if len(shape) <= 2 and _has_rows(x):
        repeated: Tensor = getitem(x, (*(slice(None),) * k, np.repeat(np.arange(shape[k]), times)))
        return repeated
    found = spread(reshape(x, (*shape[: k + 1], 1, *shape[k + 1 :])), (*shape[: k + 1], times, *shape[k + 1 :]))
    return reshape(found, (*shape[:k], shape[k] * times, *shape[k + 1 :]))


def tile(x: TensorLike, reps: int | tuple[int, ...]) -> Tensor:
    """All of `x`, along each axis as often as `reps` says, as `numpy.tile`; missing axes and missing `reps` are 1.

    >>> ab.tile(ab.tensor([1.0, 2.0]), (2, 2)).tolist()
    [[1.0, 2.0, 1.0, 2.0], [1.0, 2.0, 1.0, 2.0]]
    """
    x = as_value(x)
    times = tuple(whole("tile", n) for n in extents(reps))
    ndim = max(len(times), len(x.shape))
    times, shape = (1,) * (ndim - len(times)) + times, (1,) * (ndim - len(x.shape)) + x.shape
    if ndim == len(x.shape) <= 2 and _has_rows(x):
        tiled: Any = x
        for k, n in enumerate(times):
            if n != 1:
                tiled = getitem(tiled, (*(slice(None),) * k, np.tile(np.arange(shape[k]), n)))
        return unchanged(x) if tiled is x else tiled
    found = spread(
        reshape(x, tuple(extent for n in shape for extent in (1, n))),
        tuple(extent for pair in zip(times, shape, strict=True) for extent in pair),
    )
    return reshape(found, tuple(k * n for k, n in zip(times, shape, strict=True)))


@composite(normal((3, 2), attrs=(1, np.dtype(np.float64))), dtypes="keep")
def filled_like(x: TensorLike, value: float, dtype: Any) -> Tensor:
    """A number of this dtype at the place of each element."""
    return cast(where(equal(x, 0), value, value), dtype)
