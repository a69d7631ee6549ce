"""`sum`, `mean`, `max`, `var`, `argmax`, … of one value over axes, or elementwise over a list; `stack` of a list."""

from __future__ import annotations

import builtins
import math
from collections import deque
from collections.abc import Iterable, Iterator, ValuesView
from typing import Any

import numpy as np

from ..base.errors import OpTypeError, op_error, user_error
from ..base.types import counted
from ..ir.tracers import TracedList, Tracer
from ..ops.declare import apply, as_value, elements, lifted_all
from ..ops.functions import sqrt
from ..ops.movement import STACK, extents, negative_axis
from ..ops.reduce import ARGMAX, ARGMIN, REDUCTIONS, position, reduced_alone, reduction, variance
from ..ops.value import Axis, ShapeLike, Tensor, TensorLike
from .creation import full
from .parameter import Held
from .recorder import record_known_list, tensor
from .shared import alias
from .tape import state

Values = TensorLike | Iterable[TensorLike]


def _listed(x: Any) -> Any:
    """What is meant as a list, as a list: generators and other iterators, values of a dict, deques."""
    return list(x) if isinstance(x, Iterator | ValuesView | deque) else x


def _reduce(kind: str, x: Any, axis: Axis, keepdims: bool, shape: ShapeLike | None = None, like: Any = None) -> Any:
    if x.__class__ is list and axis is None and not keepdims:
        known = record_known_list(kind, x)
        if known is not None:
            return known if shape is None and like is None else _of_shape(kind, known, shape, like)
    x = _listed(x)
    if not isinstance(x, list | tuple | TracedList):
        if shape is not None or like is not None:
            raise user_error(OpTypeError, f"{kind}: shape= and like= are for lists", repair="leave them out")
        if not isinstance(x, Tensor):
            x = tensor(x)
        return reduction(kind, x, axis, keepdims)
    if isinstance(x, list | tuple) and not x:
        identity = REDUCTIONS[kind].identity
        if like is not None:
            return full(like.shape, identity, counted(like.dtype))
        if shape is not None:
            return full(shape, identity)
    if axis is not None or keepdims:
        what = f"{kind}: a list of values is reduced elementwise, without axis"
        raise user_error(OpTypeError, what, repair="use ab.stack(values) to reduce over axes")
    return _of_shape(kind, over_list(kind, x), shape, like)


def _of_shape(kind: str, found: Any, shape: ShapeLike | None, like: Any) -> Any:
    """The reduction of a list that is not empty, whose values have the shape that an empty one would have."""
    if like is not None:
        shape = like.shape
    if shape is not None and found.shape != extents(shape):
        what = f"{kind}: the values of the list have another shape than an empty list would give"
        raise user_error(
            OpTypeError,
            what,
            expected=str(extents(shape)),
            got=str(found.shape),
            repair="pass the shape that the values of the list have",
        )
    return found


def over_list(kind: str, values: Any) -> Any:
    """Reduce or stack a list of values of one shape; whoever of them has the highest priority writes it down."""
    if isinstance(values, TracedList):
        values = list(values)
    if not len(values):
        has_identity = kind in REDUCTIONS and math.isfinite(REDUCTIONS[kind].identity)
        repair = f"pass shape= or like= to ab.{kind}" if has_identity else "guard the call with an if"
        raise user_error(OpTypeError, f"{kind}: an empty list has no {kind}", repair=repair)
    if kind != "stack":
        _check_elements(kind, values)
    values = lifted_all(*values)
    best = builtins.max(values, key=lambda x: x._priority)
    if len(values) == 1 and kind != "stack" and state.builder is None:
        return reduced_alone(kind, alias(best) if isinstance(best, Held) else best)
    return best._record_list(kind, values)


def _check_elements(kind: str, values: Any) -> None:
    """Raise for elements that are no values: what a function returned by mistake."""
    for k, x in enumerate(values):
        if isinstance(x, Tensor | np.ndarray | np.generic | int | float):
            continue
        if isinstance(x, list | tuple) and not any(isinstance(e, Tensor | list | tuple) or e is None for e in x):
            continue
        is_group = isinstance(x, list | tuple | dict)
        raise op_error(
            kind,
            f"element {k} of the list is {'None' if x is None else f'a {type(x).__name__}'}",
            expected="values of one shape",
            got=f"a {type(x).__name__} of {len(x)}" if is_group else repr(x)[:60],
            repair="does the function that gave it return a value? A `return` may be missing"
            if x is None
            else f"take the parts apart first: losses, others = zip(*results), then ab.{kind}(losses)"
            if is_group
            else "",
        )


def sum(
    x: Values, axis: Axis = None, keepdims: bool = False, *, shape: ShapeLike | None = None, like: Tensor | None = None
) -> Tensor:
    """Sum of a value `x` over `axis` (all for None), or of a list of values of one shape, elementwise.

    `keepdims` leaves the axes that are summed over, with extent 1.

    The length of a list is data: lists of all lengths share a signature. An empty list needs `shape`, or a value it
    is `like`; then it gives zeros. Raises `OpTypeError` for an axis that is not there, and for an empty list without
    either.

    >>> float(ab.sum(ab.ones((2, 3)))), ab.sum([ab.ones(2), ab.ones(2)]).numpy().tolist(), ab.sum([], shape=(1,)).shape
    (6.0, [2.0, 2.0], (1,))
    """
    return _reduce("sum", x, axis, keepdims, shape, like)


def prod(
    x: Values, axis: Axis = None, keepdims: bool = False, *, shape: ShapeLike | None = None, like: Tensor | None = None
) -> Tensor:
    """Product of a value `x` over `axis`, or of a list of values, elementwise.

    `keepdims`, `shape` and `like` as in `sum`; of an empty list ones.

    Zeros are no obstacle to first and second derivatives; a third is right where fewer than three factors are zero.
    Raises `OpTypeError` as `sum`.

    >>> float(ab.prod(ab.tensor([2.0, 3.0]))), ab.prod([], shape=2).numpy().tolist()
    (6.0, [1.0, 1.0])
    """
    return _reduce("prod", x, axis, keepdims, shape, like)


def mean(x: Values, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Mean of a value `x` over `axis`, or of a list of values of one shape, elementwise; an empty one raises.

    `keepdims` as in `sum`.

    >>> float(ab.mean([ab.tensor(1.0), ab.tensor(3.0)]))
    2.0
    """
    return _reduce("mean", x, axis, keepdims)


def max(x: Values, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Largest element of a value `x` over `axis`, or of a list of values, elementwise; an empty one raises.

    `keepdims` as in `sum`.

    >>> ab.max([ab.tensor([1.0, 5.0]), ab.tensor([3.0, 2.0])]).numpy()
    array([3., 5.], dtype=float32)
    """
    return _reduce("max", x, axis, keepdims)


def min(x: Values, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Smallest element of a value `x` over `axis`, or of a list of values, elementwise; an empty one raises.

    `keepdims` as in `sum`.

    >>> ab.min([ab.tensor([1.0, 5.0]), ab.tensor([3.0, 2.0])]).numpy()
    array([1., 2.], dtype=float32)
    """
    return _reduce("min", x, axis, keepdims)


def var(x: Values, axis: Axis = None, keepdims: bool = False, *, correction: float = 0.0) -> Tensor:
    """Variance of a value `x` over `axis`, or of a list of values of one shape, elementwise; an empty one raises.

    `keepdims` as in `sum`.

    The divisor is the number of elements less `correction`, as in the array API: 1 for an unbiased estimate.

    >>> float(ab.var([1.0, 3.0])), float(ab.var([1.0, 3.0], correction=1))
    (1.0, 2.0)
    """
    return variance(*_stacked("var", x, axis), keepdims, correction)


def std(x: Values, axis: Axis = None, keepdims: bool = False, *, correction: float = 0.0) -> Tensor:
    """Square root of the variance, with the arguments of `var`.

    >>> float(ab.std([1.0, 3.0]))
    1.0
    """
    return sqrt(variance(*_stacked("std", x, axis), keepdims, correction))


def argmax(x: Values, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position, i64, of the largest element of `x` along `axis`, of the first of equals; NaN counts as largest.

    Without an axis it is the position in the flattened value, as in NumPy; of a list of values that in the list,
    elementwise. `keepdims` leaves the axis, with extent 1. An empty axis raises. No gradient flows through it.

    >>> int(ab.argmax([1.0, 5.0, 2.0])), ab.argmax([ab.tensor([1.0, 5.0]), ab.tensor([3.0, 2.0])]).numpy()
    (1, array([1, 0]))
    """
    return position(ARGMAX, *_stacked("argmax", x, axis), keepdims)


def argmin(x: Values, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the smallest element along `axis`, as `argmax` that of the largest.

    >>> int(ab.argmin([1.0, 5.0, 2.0]))
    0
    """
    return position(ARGMIN, *_stacked("argmin", x, axis), keepdims)


def _stacked(kind: str, x: Any, axis: Any) -> tuple[Any, Any]:
    """One value, or a list as one, and the axis: that of the list where none is named."""
    x = _listed(x)
    if not isinstance(x, list | tuple | TracedList):
        return as_value(x), axis
    if not isinstance(x, TracedList):
        if not x:
            what = f"{kind}: an empty list has no {kind}"
            raise user_error(OpTypeError, what, repair="guard the call with an if")
        _check_elements(kind, x)
    return as_value(x), 0 if axis is None else axis


def stack(xs: Iterable[TensorLike], axis: int = 0) -> Tensor:
    """The values `xs` of one shape joined along a new `axis`; along the first this is a view.

    >>> ab.stack([ab.zeros(3), ab.ones(3)]).shape
    (2, 3)
    """
    if isinstance(xs, TracedList):
        xs = list(xs)
    values = elements("stack", xs)
    if axis == 0 and any(isinstance(x, Tracer) for x in values):
        return over_list("stack", values)
    if not values:
        raise user_error(OpTypeError, "stack: an empty list has no shape", repair="guard it with an if")
    return apply(STACK, tuple(values), (negative_axis("stack", axis, len(getattr(values[0], "shape", ())) + 1),))
