"""Sorted order: the order is found by a primitive, and what is sorted is read in that order, with its gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import OpTypeError, op_error
from ..base.types import INT64, Type, tensor_type
from .composing import beside, composite, normal
from .declare import Attrs, Sample, apply, as_value, declare, lifted
from .elementwise import no_gradient, where
from .gathering import along
from .movement import negative_axis, reshape, slice_axis, swapped, transpose, whole
from .numbers import isnan
from .reduce import normalise_axes
from .shapes import flip

if TYPE_CHECKING:
    from .value import Axis, Tensor, TensorLike


def _infer(types: Sequence[Type], attrs: Attrs) -> Type:
    return tensor_type(INT64, types[0].shape)


def _order(x: Any) -> Any:
    return np.argsort(x, axis=-1, kind="stable").astype(np.int64)


ORDER = declare(
    "order",
    "places of the elements of the last axis from the smallest to the largest, equal ones as they stand, NaN last",
    _infer,
    _order,
    no_gradient,
    "whole",
    dtypes="keep",
    lead=lambda ndims, shared, attrs: (True,) if ndims[0] >= 2 else None,
    samples=lambda rng: [
        Sample((rng.normal(size=5),), smooth=False),
        Sample((rng.integers(0, 3, (3, 4)),), smooth=False),
        Sample((np.array([[np.nan, 1.0, np.inf, -0.0], [0.0, -np.inf, np.nan, 1.0]]),), smooth=False),
    ],
)


def _order_of(name: str, x: Any, axis: int, descending: bool) -> tuple[Any, Any]:
    """The value with its axis last, and the order of its elements there."""
    if not x.shape:
        raise op_error(name, "a value of rank 0 has no axis", got=str(x._type), repair="reshape it to (1,)")
    z = swapped(x, axis)
    if not descending:
        return z, apply(ORDER, (z,))
    backwards = apply(ORDER, (flip(z, -1),))  # so that equal elements stay in their order
    return z, z.shape[-1] - 1 - flip(backwards, -1)


@composite(normal((3, 4), attrs=(-1, False)), lead=beside(0), dtypes="keep")
def sort(x: TensorLike, axis: int = -1, descending: bool = False) -> Tensor:
    """The elements of `x` along an axis from the smallest to the largest, as `numpy.sort`; the other way `descending`.

    NaN counts as largest. The gradient of each element goes to where it came from. Raises `OpTypeError` for rank 0.

    >>> ab.sort(ab.tensor([3.0, 1.0, 2.0])).numpy(), ab.sort(ab.tensor([3, 1, 2]), descending=True).numpy()
    (array([1., 2., 3.], dtype=float32), array([3, 2, 1]))
    """
    z, order = _order_of("sort", as_value(x), axis, descending)
    return swapped(along(z, order), axis)


@composite(lambda rng: [Sample((rng.normal(size=(3, 4)),), (-1, False), smooth=False)], lead=beside(0), dtypes="keep")
def argsort(x: TensorLike, axis: int = -1, descending: bool = False) -> Tensor:
    """Positions, i64, of the elements in the order of `sort`; equal ones stay in their order. No gradient.

    >>> ab.argsort(ab.tensor([3.0, 1.0, 2.0])).numpy()
    array([1, 2, 0])
    """
    return swapped(_order_of("argsort", as_value(x), axis, descending)[1], axis)


def topk(x: TensorLike, k: int, axis: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """The `k` largest elements of `x` along `axis` (smallest without `largest`), in order, and their positions, i64.

    As PyTorch's, in sorted order; of equal ones the first are taken. The gradient goes to those chosen. Raises
    `OpTypeError` where there are fewer than `k`.

    >>> values, places = ab.topk(ab.tensor([3.0, 1.0, 2.0]), 2)
    >>> values.numpy(), places.numpy()
    (array([3., 2.], dtype=float32), array([0, 2]))
    """
    x = lifted(x)
    axis = negative_axis("topk", axis, len(x.shape))
    n = whole("topk", k)
    if n > x.shape[axis]:
        what = f"{n} of the {x.shape[axis]} elements of axis {axis + len(x.shape)}"
        raise op_error("topk", what, got=str(x._type), repair=f"k=min(k, x.shape[{axis}])")
    places = slice_axis(argsort(x, axis, largest), axis, 0, n)
    return along(x, places, axis), places


def _median_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample((rng.normal(size=(3, 4)),)),
        Sample((rng.normal(size=(2, 3)),)),
        Sample((np.array([[1.0, np.nan, 2.0], [np.inf, -np.inf, 0.0]]),), smooth=False),
        Sample((np.zeros((2, 0)),), error=OpTypeError),
    ]


@composite(_median_samples, lead=lambda ndims, shared, attrs: (True,) if ndims[0] >= 2 else None)
def _median(x: TensorLike) -> Tensor:
    """Median of the last axis."""
    x = as_value(x)
    n = x.shape[-1]
    if not n:
        raise op_error("median", "an empty axis has no median", got=str(x._type), repair="guard the call with an if")
    z = along(x, apply(ORDER, (x,)))
    upper, last = z[..., n // 2], z[..., n - 1]
    middle = upper if n % 2 else (z[..., n // 2 - 1] + upper) * 0.5
    return where(isnan(last), last, middle)


def median(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Median of `x` over `axis` (all for None), in floats: of an even number the mean of the middle two, as NumPy's.

    NaN where one element is; `keepdims` as in `sum`. The gradient goes to the elements in the middle. Raises
    `OpTypeError` for an empty axis.

    >>> float(ab.median(ab.tensor([3.0, 1.0, 2.0]))), float(ab.median([1.0, 2.0, 3.0, 5.0]))
    (2.0, 2.5)
    """
    x = as_value(x)
    ndim = len(x.shape)
    axes = [a + ndim for a in normalise_axes("median", axis, ndim)]
    rest = [a for a in range(ndim) if a not in axes]
    left = tuple(x.shape[a] for a in rest)
    total = math.prod(x.shape[a] for a in axes)
    found = _median(reshape(transpose(x, (*rest, *axes)), (*left, total)))
    if not keepdims:
        return found
    return reshape(found, tuple(1 if a in axes else x.shape[a] for a in range(ndim)))
