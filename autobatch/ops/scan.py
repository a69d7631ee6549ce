"""Cumulative sums, in the three forms of reductions: along an axis, along a list, and along the rows of segments.

Cumulative products are along an axis alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import op_error
from ..base.types import Type, counted
from .declare import Attrs, Op, Sample, apply, as_value, declare
from .elementwise import ADD, MUL, cast, equal, where
from .index import ARANGE
from .movement import broadcast_to, negative_axis, reshape
from .reduce import SUM, list_samples

if TYPE_CHECKING:
    from .value import Tensor, TensorLike


def _same(types: Sequence[Type], attrs: Attrs) -> Type:
    return types[0]


def _lead(ndims: Sequence[int], shared: Sequence[bool], attrs: Attrs) -> tuple[bool, ...] | None:
    return (True,) if ndims[0] >= 2 and attrs[0] != -ndims[0] else None


def _accumulated(ufunc: np.ufunc) -> Callable[[Any, int, bool], Any]:
    def along_axis(x: Any, axis: int, reverse: bool) -> Any:
        y = ufunc.accumulate(np.flip(x, axis) if reverse else x, axis, dtype=x.dtype)
        return np.flip(y, axis) if reverse else y

    return along_axis


_along_axis = _accumulated(np.add)


def _along_list(xs: list[Any], k: int, reverse: bool) -> Any:
    totals = list(itertools.accumulate(xs[::-1] if reverse else xs))
    return [np.asarray(y, xs[0].dtype) for y in (totals[::-1] if reverse else totals)]


def _along_segments(x: Any, segments: Any, reverse: bool) -> Any:
    y = np.empty_like(x)
    edges = [*np.flatnonzero(np.diff(segments, prepend=-1)), len(segments)]
    for first, end in itertools.pairwise(edges):
        y[first:end] = _along_axis(x[first:end], 0, reverse)
    return y


SEGMENT_CUMSUM: Op = declare(
    "segment_cumsum",
    "sums of the rows of a segment from its first up to each one; with `reverse` from each one up to its last",
    _same,
    _along_segments,
    lambda g, y, x, a: (apply(SEGMENT_CUMSUM, (g, x[1]), (not a[0],)), None),
    "batched",
    dtypes="keep",
    combine=ADD,
    identity=0.0,
    per_element=True,
    samples=lambda rng: [Sample((rng.normal(size=(4, 2)), np.array([0, 0, 1, 1])), (r,)) for r in (False, True)],
)
LIST_CUMSUM: Op = declare(
    "list_cumsum",
    "sums of the elements of a list from the first up to each one; with `reverse` from each one up to the last",
    _same,
    _along_list,
    lambda g, y, x, a: (apply(LIST_CUMSUM, (g,), (a[0], not a[1])),),
    "list",
    dtypes="count",
    over_segments=SEGMENT_CUMSUM,
    per_element=True,
    samples=lambda rng: [*list_samples(rng, False), *list_samples(rng, True)[:2]],
)
CUMSUM: Op = declare(
    "cumsum",
    "sums along an axis up to each element; with `reverse` from each element on",
    _same,
    _along_axis,
    lambda g, y, x, a: (apply(CUMSUM, (g,), (a[0], not a[1])),),
    "scan",
    dtypes="count",
    lead=_lead,
    combine=ADD,
    identity=0.0,
    over_list=LIST_CUMSUM,
    samples=lambda rng: [
        Sample((rng.normal(size=4),), (-1, False)),
        Sample((rng.normal(size=(3, 2)),), (-1, True)),
        Sample((rng.normal(size=(3, 2)),), (-2, False)),
        Sample((rng.normal(size=(2, 3, 2)),), (-2, True)),
        Sample((rng.normal(size=(2, 3, 2)),), (-3, True)),
        Sample((np.array([1.0, np.inf, -np.inf, np.nan]),), (-1, False), smooth=False),
    ],
)


def _product_vjp(g: Any, y: Any, x: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
    """The product of the others, for each element and each product that it is in: n² numbers for an axis of n, right
    to all orders where elements are 0, too."""
    axis, reverse = attrs
    (value,) = x
    at = len(value.shape) + axis
    n, rest = value.shape[at], (1,) * (-1 - axis)
    places = apply(ARANGE, (value,), (n,))
    own, other = reshape(places, (n, 1, *rest)), reshape(places, (n, *rest))  # of an element, of a product
    shape = (*value.shape[:at], n, *value.shape[at:])
    spread = broadcast_to(reshape(value, (*value.shape[:at], 1, *value.shape[at:])), shape)
    products = apply(CUMPROD, (where(equal(own, other), 1.0, spread),), attrs)
    is_in = own >= other if reverse else own <= other
    weighted = where(is_in, products * reshape(g, (*value.shape[:at], 1, *value.shape[at:])), 0.0)
    return (apply(SUM, (weighted,), ((axis,), False)),)


CUMPROD: Op = declare(
    "cumprod",
    "products along an axis up to each element; with `reverse` from each element on",
    _same,
    _accumulated(np.multiply),
    _product_vjp,
    "scan",
    dtypes="count",
    lead=_lead,
    combine=MUL,
    identity=1.0,
    samples=lambda rng: [
        Sample((rng.normal(size=4),), (-1, False)),
        Sample((rng.normal(size=(3, 2)),), (-2, True)),
        Sample((np.array([[0.7, 0.0, -1.3, 0.4], [0.0, 0.6, 0.0, 1.2]]),), (-1, False)),
        Sample((np.array([1.0, np.inf, -np.inf, np.nan]),), (-1, False), smooth=False),
    ],
)


def _along(op: Op, x: Any, axis: int | None) -> Any:
    """A scan along an axis, which has to be named where there are several."""
    x = as_value(x)
    ndim = len(x.shape)
    if axis is None and ndim != 1:
        what = "a value of rank 0 has no axis" if ndim == 0 else "there are several axes"
        repair = "reshape it to one element" if ndim == 0 else f"name one, as in ab.{op.name}(x, axis=0)"
        raise op_error(op.name, what, got=str(x.shape), repair=repair)
    negative = negative_axis(op.name, 0 if axis is None else axis, ndim)
    return apply(op, (x,), (negative, False)) if x.shape[negative] != 1 else cast(x, counted(x.dtype))


def cumsum(x: TensorLike, axis: int | None = None) -> Tensor:
    """Sums of `x` along `axis` up to each element: of the shape of x. Booleans and integers are added in int64.

    A list of values is stacked: the list is axis 0. As in the array API's `cumulative_sum`, the axis has to be named
    where there are several; raises `OpTypeError` where it is not, or is outside the rank.

    >>> ab.cumsum([1.0, 2.0, 3.0]).numpy(), ab.cumsum(ab.ones((2, 2)), axis=0).tolist()
    (array([1., 3., 6.], dtype=float32), [[1.0, 1.0], [2.0, 2.0]])
    """
    found: Tensor = _along(CUMSUM, x, axis)
    return found


def cumprod(x: TensorLike, axis: int | None = None) -> Tensor:
    """Products of `x` along `axis` up to each element: of the shape of x. Booleans and integers become int64.

    The axis has to be named where there are several, as in the array API's `cumulative_prod`; raises `OpTypeError`
    where it is not, or is outside the rank. Derivatives are right where elements are 0; they take n² numbers.

    >>> ab.cumprod([1.0, 2.0, 3.0]).numpy()
    array([1., 2., 6.], dtype=float32)
    """
    found: Tensor = _along(CUMPROD, x, axis)
    return found
