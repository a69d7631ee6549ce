"""Reductions, in three forms: over axes, over the elements of a list, and over the rows of segments.

Inside a single graph a list operand is one value *per element*; ops on it run on every element, and a reduction leads
back from the elements to the node. In a batched graph the elements of all nodes are consecutive and `segments`
tells the node of each, so that the reduction becomes one of rows. `reducing` declares all forms from one combiner.
Axes are kept as negative numbers, so that a leading axis may be added or left out.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..base.errors import op_error
from ..base.types import Type, counted, tensor_type
from .declare import Attrs, Op, Sample, apply, check_number, declare, unchanged
from .elementwise import ADD, MAXIMUM, MINIMUM, MUL, NOT_EQUAL, cast, equal, float_dtype, where
from .index import ARANGE, SCATTER_ADD, TAKE
from .movement import STACK, broadcast_to, negative_axis, reshape

Reduce = Callable[[Any, Any], Any]
Slope = Callable[[Any, Any, Any, Callable[[Any], Any], Reduce], Any]
"""(cotangent, result, elements, what gives a result to each of its elements, what reduces elements) → cotangent."""


def _kept(shape: tuple[Any, ...], axes: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(1 if axis in axes else n for axis, n in zip(range(-len(shape), 0), shape, strict=True))


def _infer(types: Sequence[Type], attrs: Attrs) -> Type:
    axes, keepdims = attrs
    shape = types[0].shape
    if keepdims:
        return tensor_type(types[0].dtype, _kept(shape, axes))
    left = tuple(n for axis, n in zip(range(-len(shape), 0), shape, strict=True) if axis not in axes)
    return tensor_type(types[0].dtype, left)


def _same(types: Sequence[Type], attrs: Attrs) -> Type:
    return types[0]


def _lead(ndims: Sequence[int], shared: Sequence[bool], attrs: Attrs) -> tuple[bool, ...] | None:
    axes, keepdims, *_ = attrs
    left = ndims[0] if keepdims else ndims[0] - len(axes)
    return (True,) if ndims[0] >= 2 and left >= 1 and -ndims[0] not in axes else None


def _all_rows(op: str) -> Callable[[Sequence[Type], Attrs], Any]:
    """Of a reduction over all axes that of each row, and then of these."""

    def over_rows(types: Sequence[Type], attrs: Attrs) -> Any:
        axes, keepdims = attrs
        if types[0].ndim < 2 or len(axes) != types[0].ndim or keepdims:
            return None
        row = axes[len(axes) - types[0].row.ndim :]

        def body(x: Any) -> Any:
            return apply(LIST_REDUCTIONS[op], (apply(REDUCTIONS[op], (x,), (row, False)) if row else x,), (1,))

        return body

    return over_rows


def _samples(rng: np.random.Generator) -> list[Sample]:
    x = rng.normal(size=(3, 2))
    return [
        Sample((x,), ((-1,), False)),
        Sample((x,), ((-2,), False)),
        Sample((x,), ((-2, -1), False)),
        Sample((x,), ((-1,), True)),
        Sample((rng.normal(size=(2, 3, 2)),), ((-1,), False)),
        Sample((rng.normal(size=4),), ((-1,), False)),
        Sample((np.array([[0.0, 0.7, -1.3, 0.4], [0.0, 0.6, -1.1, 0.0]]),), ((-1,), False)),
        Sample((np.array([np.nan, 1.0, np.inf]),), ((-1,), False), smooth=False),
        Sample((np.array([-np.inf, -np.inf]),), ((-1,), True), smooth=False),
    ]


def list_samples(rng: np.random.Generator, *more: Any) -> list[Sample]:
    """Samples of an op over a list; `more` are attributes beside the list."""
    inf = np.inf
    return [
        Sample(([rng.normal(size=2) for _ in range(3)],), (1, *more)),
        Sample(([rng.normal(size=())],), (1, *more)),
        Sample(([rng.normal(size=(3, 2)) for _ in range(2)],), (1, *more)),
        Sample(([np.array(x) for x in ([0.0, 0.0], [0.7, 0.6], [-1.3, -1.1], [0.4, 0.0])],), (1, *more)),
        Sample(([np.array([np.nan, inf, 0.0, -0.0]), np.array([1.0, -inf, -0.0, -0.0])],), (1, *more), smooth=False),
    ]


def _spread_samples(rng: np.random.Generator) -> list[Sample]:
    """The second operand is the list that the value is spread over."""
    return [
        Sample((rng.normal(size=2), [rng.normal(size=2) for _ in range(3)]), (1,)),
        Sample((rng.normal(size=(3, 2)), [rng.normal(size=(3, 2))]), (1,)),
    ]


def reducing(
    name: str,
    doc: str,
    combine: Op,
    identity: float,
    slope: Slope,
    dtypes: str = "promote",
    over_segments: Op | None = None,
) -> tuple[Op, Op, Op]:
    """Declare a reduction over axes, over a list and over segments; the NumPy function of `combine` is a ufunc."""
    ufunc: Any = combine.numpy

    def reduce_axes(x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        return ufunc.reduce(x, axes, keepdims=keepdims, dtype=x.dtype)

    def axes_vjp(g: Any, y: Any, x: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
        kept = _kept(x[0].shape, attrs[0])
        return (slope(g, y, x[0], lambda z: reshape(z, kept), lambda op, z: apply(op, (z,), attrs)),)

    def reduce_list(xs: list[Any], k: int) -> Any:
        return np.array(functools.reduce(ufunc, xs))

    def list_vjp(g: Any, y: Any, x: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
        def reduce(op: Any, z: Any) -> Any:
            return apply(op.over_list, (z,), attrs)

        return (slope(g, y, x[0], lambda z: apply(SPREAD, (z,), attrs), reduce),)

    def reduce_rows(x: Any, segments: Any, n: int) -> Any:
        result = np.full((n, *x.shape[1:]), of_segments.identity_of(x.dtype), x.dtype)
        ufunc.at(result, segments, x)
        return result

    def rows_vjp(g: Any, y: Any, x: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
        def reduce(op: Any, z: Any) -> Any:
            return apply(op.over_list.over_segments, (z, x[1]), attrs)

        return slope(g, y, x[0], lambda z: apply(TAKE, (z, x[1])), reduce), None

    def form(prefix: str, infer: Any, numpy: Any, vjp: Any, batch: str, **more: Any) -> Op:
        return declare(prefix + name, doc, infer, numpy, vjp, batch, combine=combine, identity=identity, **more)

    of_segments = over_segments or form(
        "segment_",
        lambda types, attrs: tensor_type(types[0].dtype, (attrs[0], *types[0].shape[1:])),
        reduce_rows,
        rows_vjp,
        "batched",
        dtypes="keep",
        samples=lambda rng: [Sample((rng.normal(size=(4, 2)), np.array([0, 0, 1, 1])), (2,))],
    )
    of_list = form(
        "list_", _same, reduce_list, list_vjp, "list", dtypes=dtypes, over_segments=of_segments, samples=list_samples
    )
    of_axes = form(
        "",
        _infer,
        reduce_axes,
        axes_vjp,
        "reduce",
        dtypes=dtypes,
        lead=_lead,
        over_list=of_list,
        samples=_samples,
        over_rows=_all_rows(name),
    )
    return of_axes, of_list, of_segments


def spread_to(g: Any, y: Any, x: Any, spread: Callable[[Any], Any], reduce: Reduce) -> Any:
    """The cotangent of a sum."""
    return broadcast_to(spread(g), x.shape)


def chosen(g: Any, y: Any, x: Any, spread: Callable[[Any], Any], reduce: Reduce) -> Any:
    """The cotangent of a largest or smallest element: shared among those that equal it."""
    ones = cast(equal(x, spread(y)), g.dtype)
    return ones * spread(g / reduce(SUM, ones))


def _others(g: Any, y: Any, x: Any, spread: Callable[[Any], Any], reduce: Reduce) -> Any:
    """The product of the other elements: that of all but the zeros, divided by the element, where no other is a zero.

    Where one other is, it is a factor, so that the derivative of this is right, too; a third one is not, between zeros.
    """
    zero = equal(x, 0.0)
    is_zero, zeros, rest = cast(zero, g.dtype), where(zero, x, 0.0), where(zero, 1.0, x)
    n_others = spread(reduce(SUM, is_zero)) - is_zero
    other = where(equal(n_others, 0.0), 1.0, where(equal(n_others, 1.0), spread(reduce(SUM, zeros)) - zeros, 0.0))
    return spread(g * reduce(PROD, rest)) / rest * other


SUM, LIST_SUM, _ = reducing(
    "sum",
    "sum; booleans are counted",
    ADD,
    0.0,
    spread_to,
    "count",
    SCATTER_ADD,
)
SPREAD = declare(
    "spread",
    "a value of the node given to every element of its list",
    _same,
    None,
    lambda g, y, x, a: (apply(LIST_SUM, (g,), a),),
    "list",
    dtypes="keep",
    per_element=True,
    samples=_spread_samples,
)
PROD, _, _ = reducing("prod", "product; booleans are counted", MUL, 1.0, _others, "count")
MAX, LIST_MAX, SEGMENT_MAX = reducing(
    "max", "largest element; equal elements share the derivative", MAXIMUM, -math.inf, chosen
)
MIN, LIST_MIN, _ = reducing("min", "smallest element; equal elements share the derivative", MINIMUM, math.inf, chosen)


def _mean_body(x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    count = math.prod(x.shape[axis] for axis in axes)
    return cast(apply(SUM, (summable(x),), (axes, keepdims)) / float(count), float_dtype(x.dtype))


def _list_mean_body(x: Any, k: int) -> Any:
    total = apply(LIST_SUM, (summable(x),), (k,))
    return cast(total / cast(x._list_length(k), total.dtype), float_dtype(x.dtype))


def summable(x: Any) -> Any:
    """What a mean adds up: integers in double precision, as NumPy does."""
    return x if x.dtype.kind == "f" else cast(x, np.float64)


LIST_MEAN = declare("list_mean", "mean", batch="list", body=_list_mean_body, dtypes="keep", samples=list_samples)
MEAN = declare(
    "mean",
    "mean",
    body=_mean_body,
    dtypes="keep",
    lead=_lead,
    over_list=LIST_MEAN,
    over_rows=_all_rows("mean"),
    samples=_samples,
)


def _var_body(x: Any, axes: tuple[int, ...], keepdims: bool, correction: float) -> Any:
    y = summable(x)
    d = y - apply(MEAN, (y,), (axes, True))
    count = math.prod(x.shape[axis] for axis in axes)
    return cast(apply(SUM, (d * d,), (axes, keepdims)) / (count - correction), float_dtype(x.dtype))


def _list_var_body(x: Any, k: int, correction: float) -> Any:
    y = summable(x)
    d = y - apply(LIST_MEAN, (y,), (k,))
    count = cast(x._list_length(k), y.dtype) - correction
    return cast(apply(LIST_SUM, (d * d,), (k,)) / count, float_dtype(x.dtype))


LIST_VAR = declare(
    "list_var",
    "variance; the divisor is the number of elements less a correction",
    batch="list",
    body=_list_var_body,
    dtypes="keep",
    samples=lambda rng: list_samples(rng, 0.0),
)
VAR = declare(
    "var",
    "variance; the divisor is the number of elements less a correction",
    body=_var_body,
    dtypes="keep",
    lead=_lead,
    over_list=LIST_VAR,
    samples=lambda rng: [Sample(s.operands, (*s.attrs, 0.5), s.smooth) for s in _samples(rng)],
)


def _position(extreme: Op) -> Op:
    """Declare the op that says where the first of the elements is that `extreme` gives, and its form over a list."""

    def found(x: Any, y: Any) -> Any:
        return equal(x, y) | apply(NOT_EQUAL, (x, x)) if x.dtype.kind == "f" else equal(x, y)

    def of_axes(x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        n, rest = x.shape[axes[0]], (1,) * (-axes[0] - 1)
        positions = reshape(apply(ARANGE, (x,), (n,)), (n, *rest))
        here = where(found(x, apply(extreme, (x,), (axes, True))), positions, n)
        return apply(MIN, (here,), (axes, keepdims))

    def of_list(x: Any, k: int) -> Any:
        here = found(x, apply(extreme.over_list, (x,), (k,)))  # type: ignore[arg-type]
        return apply(LIST_MIN, (where(here, x._list_positions(k), x._list_length(k)),), (k,))

    name, doc = f"arg{extreme.name}", f"position of the first {extreme.name}; NaN counts as one"

    def one_axis(rng: np.random.Generator) -> list[Sample]:
        return [Sample(s.operands, s.attrs, smooth=False) for s in _samples(rng) if len(s.attrs[0]) == 1]

    def lists(rng: np.random.Generator) -> list[Sample]:
        return [Sample(s.operands, s.attrs, smooth=False) for s in list_samples(rng)]

    over = declare(f"list_{name}", doc, batch="list", body=of_list, dtypes="keep", samples=lists)
    return declare(name, doc, body=of_axes, dtypes="keep", lead=_lead, over_list=over, samples=one_axis)


ARGMAX, ARGMIN = _position(MAX), _position(MIN)

REDUCTIONS: dict[str, Op] = {op.name: op for op in (SUM, PROD, MAX, MIN, MEAN)}
LIST_REDUCTIONS: dict[str, Op] = {name: op.over_list for name, op in REDUCTIONS.items() if op.over_list}


def reduction(name: str, x: Any, axis: int | tuple[int, ...] | None, keepdims: bool) -> Any:
    """Reduce one value over `axis` (all axes for None)."""
    op = REDUCTIONS[name]
    has_identity = math.isfinite(op.identity)
    axes = normalise_axes(name, axis, len(x.shape)) if has_identity else _with_elements(name, x, axis)
    return apply(op, (x,), (axes, bool(keepdims))) if axes else reduced_alone(name, x)


def reduce_elements(kind: str, values: Sequence[Any]) -> Any:
    """Reduce or stack a list of values whose length is not data: sums by additions, which fuse with what they add."""
    if kind == "sum":
        return functools.reduce(operator.add, values[1:], cast(values[0], counted(values[0].dtype)))
    stacked = apply(STACK, tuple(values), (-len(values[0].shape) - 1,))
    return stacked if kind == "stack" else reduction(kind, stacked, 0, False)


def variance(x: Any, axis: int | tuple[int, ...] | None, keepdims: bool, correction: float) -> Any:
    """The variance over `axis` (all axes for None), with the number of elements less `correction` as divisor."""
    check_number("var", "correction", correction)
    axes = _with_elements("var", x, axis)
    if not axes:
        return variance(reshape(x, (1,)), 0, False, correction)
    return apply(VAR, (x,), (axes, bool(keepdims), float(correction)))


def position(op: Op, x: Any, axis: int | None, keepdims: bool) -> Any:
    """Where along `axis` the extreme element is; in the flattened value for None, as in NumPy."""
    if axis is None:
        place = position(op, reshape(x, (-1,)), 0, False)
        return reshape(place, (1,) * len(x.shape)) if keepdims else place
    axes = _with_elements(op.name, x, axis)
    if len(axes) != 1:
        raise op_error(
            op.name,
            "a position is one along one axis",
            got=f"axis={axis}",
            repair="name one axis, or none for the position in the flattened value",
        )
    return apply(op, (x,), (axes, bool(keepdims)))


def _with_elements(name: str, x: Any, axis: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """The axes of a reduction that has no value where one of them is empty."""
    axes = normalise_axes(name, axis, len(x.shape))
    for a in axes:
        if x.shape[a] == 0:
            what = f"axis {a + len(x.shape)} is empty, and an empty {name} has no value"
            raise op_error(name, what, got=str(x.shape), repair="guard the call with an if")
    return axes


def reduced_alone(name: str, x: Any) -> Any:
    """The reduction of a single value: the value itself, in the dtype of the result."""
    if name == "mean":
        return cast(x, float_dtype(x.dtype))
    return cast(x, counted(x.dtype)) if REDUCTIONS[name].dtypes == "count" else unchanged(x)


def normalise_axes(name: str, axis: int | tuple[int, ...] | None, ndim: int) -> tuple[int, ...]:
    """Axes as sorted negative numbers; raises for one outside the rank or named twice."""
    if axis is None:
        return tuple(range(-ndim, 0))
    axes = [negative_axis(name, a, ndim) for a in (axis if isinstance(axis, tuple | list) else (axis,))]
    if len(set(axes)) != len(axes):
        raise op_error(name, "an axis is named twice", got=str(axis), repair="name every axis once")
    return tuple(sorted(axes))
