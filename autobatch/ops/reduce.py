"""Reductions over axes. Axes are kept as negative numbers, so that a leading axis may be added or left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base.errors import OpTypeError, op_error
from ..base.types import Type, counted, tensor_type
from .declare import Attrs, Op, Sample, apply, declare
from .elementwise import cast, equal, float_dtype
from .movement import broadcast_to, reshape


def _kept(shape: tuple[Any, ...], axes: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(1 if axis in axes else n for axis, n in zip(range(-len(shape), 0), shape, strict=True))


def _infer(types: Sequence[Type], attrs: Attrs) -> Type:
    axes, keepdims = attrs
    shape = types[0].shape
    if keepdims:
        return tensor_type(types[0].dtype, _kept(shape, axes))
    left = tuple(n for axis, n in zip(range(-len(shape), 0), shape, strict=True) if axis not in axes)
    return tensor_type(types[0].dtype, left)


def _lead(ndims: Sequence[int], shared: Sequence[bool], attrs: Attrs) -> tuple[bool, ...] | None:
    axes, keepdims = attrs
    left = ndims[0] if keepdims else ndims[0] - len(axes)
    return (True,) if ndims[0] >= 2 and left >= 2 and -ndims[0] not in axes else None


def _sum_vjp(g: Any, y: Any, x: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
    return (broadcast_to(reshape(g, _kept(x[0].shape, attrs[0])), x[0].shape),)


def _max_vjp(g: Any, y: Any, x: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
    kept = _kept(x[0].shape, attrs[0])
    chosen = cast(equal(x[0], reshape(y, kept)), g.dtype)
    ties = apply(SUM, (chosen,), (attrs[0], True))
    return (chosen * (reshape(g, kept) / ties),)


def _max(x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    return x.max(axes, keepdims=keepdims)


def _sum(x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    return x.sum(axes, keepdims=keepdims, dtype=x.dtype)


def _samples(rng: np.random.Generator) -> list[Sample]:
    x = rng.normal(size=(3, 2))
    return [
        Sample((x,), ((-1,), False)),
        Sample((x,), ((-2,), False)),
        Sample((x,), ((-2, -1), False)),
        Sample((x,), ((-1,), True)),
        Sample((rng.normal(size=(2, 3, 2)),), ((-1,), False)),
        Sample((rng.normal(size=4),), ((-1,), False)),
        Sample((np.array([np.nan, 1.0, np.inf]),), ((-1,), False), smooth=False),
        Sample((np.array([-np.inf, -np.inf]),), ((-1,), True), smooth=False),
    ]


def _rows_op(name: str) -> Any:
    def over_rows(ndims: Sequence[int], attrs: Attrs) -> Any:
        from . import segment

        axes, keepdims = attrs
        return getattr(segment, name) if ndims[0] >= 2 and axes == (-ndims[0],) and not keepdims else None

    return over_rows


SUM = declare(
    Op(
        "sum",
        "sum over axes; truth values are counted",
        _infer,
        _sum,
        _sum_vjp,
        "reduce",
        dtypes="count",
        lead=_lead,
        over_rows=_rows_op("LIST_SUM"),
        samples=_samples,
    )
)
MAX = declare(
    Op(
        "max",
        "largest element over axes; equal elements share the derivative",
        _infer,
        _max,
        _max_vjp,
        "reduce",
        lead=_lead,
        over_rows=_rows_op("LIST_MAX"),
        samples=_samples,
    )
)


def _mean_body(x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    return cast(apply(SUM, (summable(x),), (axes, keepdims)) / float(count), float_dtype(x.dtype))


def summable(x: Any) -> Any:
    """What a mean adds up: whole numbers in double precision, as NumPy does."""
    return x if x.dtype.kind == "f" else cast(x, np.float64)


MEAN = declare(
    Op(
        "mean",
        "mean over axes",
        body=_mean_body,
        dtypes="keep",
        lead=_lead,
        over_rows=_rows_op("LIST_MEAN"),
        samples=_samples,
    )
)

_REDUCTIONS = {"sum": SUM, "max": MAX, "mean": MEAN}


def reduction(name: str, x: Any, axis: int | tuple[int, ...] | None, keepdims: bool) -> Any:
    """Reduce one value over `axis` (all axes for None)."""
    axes = normalise_axes(name, axis, len(x.shape))
    for a in axes:
        if x.shape[a] == 0 and name != "sum":
            raise op_error(
                name,
                f"axis {a} is empty, and an empty {name} has no value",
                got=str(x.shape),
                repair="guard the call with an if, or use ab.sum",
            )
    if not axes:
        return reduced_alone(name, x)
    return apply(_REDUCTIONS[name], (x,), (axes, bool(keepdims)))


def reduced_alone(name: str, x: Any) -> Any:
    """The sum, mean or maximum of a single value: the value itself, in the dtype of the result."""
    dtype = {"sum": counted, "mean": float_dtype}.get(name)
    return x if dtype is None else cast(x, dtype(x.dtype))


def normalise_axes(name: str, axis: int | tuple[int, ...] | None, ndim: int) -> tuple[int, ...]:
    """Axes as sorted negative numbers; raises for one outside the rank or named twice."""
    if axis is None:
        return tuple(range(-ndim, 0))
    axes = []
    for a in axis if isinstance(axis, tuple | list) else (axis,):
        if isinstance(a, bool) or not hasattr(a, "__index__"):
            raise op_error(name, "an axis is not a whole number", got=repr(a))
        a = a.__index__()
        if not -ndim <= a < ndim:
            raise op_error(name, f"axis {a} is outside a value of rank {ndim}")
        axes.append(a - ndim if a >= 0 else a)
    if len(set(axes)) != len(axes):
        raise OpTypeError(f"{name}: an axis is named twice: {axis}")
    return tuple(sorted(axes))
