"""`sum`, `mean`, `max` of one value over axes, or elementwise over a list of values; `stack` of a list."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from .compile.trace import TracedList
from .errors import OpTypeError, message, user_line
from .ops.declare import apply
from .ops.movement import STACK
from .ops.reduce import reduction
from .ops.value import Tensor
from .shared import zeros
from .tape import state
from .tensor import record_known_list, record_list, tensor

Axis = int | tuple[int, ...] | None


def _is_list(x: Any) -> bool:
    return isinstance(x, list | tuple | TracedList)


def _reduce(kind: str, x: Any, axis: Axis, keepdims: bool) -> Any:
    if x.__class__ is list and axis is None and not keepdims:
        known = record_known_list(kind, x)
        if known is not None:
            return known
    if not _is_list(x):
        if not isinstance(x, Tensor):
            x = tensor(x)
        return reduction(kind, x, axis, keepdims)
    if axis is not None or keepdims:
        raise OpTypeError(
            message(
                f"{kind}: a list of values is reduced elementwise, without axis",
                where=user_line(3),
                repair="use ab.stack(values) to reduce over axes",
            )
        )
    return over_list(kind, x)


def over_list(kind: str, values: Any) -> Any:
    """Reduce or stack a list of values of one shape; whoever of them has the highest priority writes it down."""
    if isinstance(values, TracedList):
        values = list(values)
    if not len(values):
        raise OpTypeError(
            message(
                f"{kind}: an empty list has no {kind}",
                where=user_line(3),
                repair="pass shape= or like= to ab.sum" if kind == "sum" else "guard the call with an if",
            )
        )
    best = builtins.max(values, key=lambda x: getattr(x, "_priority", -1))
    if not isinstance(best, Tensor):
        return record_list(kind, values)
    if len(values) == 1 and kind != "stack" and state.builder is None:
        return best
    return best._record_list(kind, values)  # type: ignore[attr-defined]


def sum(x: Any, axis: Axis = None, keepdims: bool = False, *, shape: Any = None, like: Any = None) -> Any:
    """Sum of one value over axes, or of a list of values of one shape, elementwise.

    The length of a list is data: lists of all lengths share a signature. An empty list needs `shape`, or a value it
    is `like`; then it gives zeros.

    >>> import autobatch as ab
    >>> float(ab.sum(ab.ones((2, 3)))), ab.sum([ab.ones(2), ab.ones(2)]).numpy().tolist(), ab.sum([], shape=(1,)).shape
    (6.0, [2.0, 2.0], (1,))
    """
    if (shape is not None or like is not None) and _is_list(x) and not isinstance(x, TracedList) and not len(x):
        return zeros(like.shape if like is not None else shape, like.dtype if like is not None else None)
    return _reduce("sum", x, axis, keepdims)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Mean of one value over axes, or of a list of values of one shape, elementwise; an empty one raises.

    >>> import autobatch as ab
    >>> float(ab.mean([ab.tensor(1.0), ab.tensor(3.0)]))
    2.0
    """
    return _reduce("mean", x, axis, keepdims)


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Largest element of one value over axes, or of a list of values, elementwise; an empty one raises.

    >>> import autobatch as ab
    >>> ab.max([ab.tensor([1.0, 5.0]), ab.tensor([3.0, 2.0])]).numpy()
    array([3., 5.], dtype=float32)
    """
    return _reduce("max", x, axis, keepdims)


def stack(xs: Sequence[Any], axis: int = 0) -> Any:
    """Values of one shape joined along a new axis; along the first this is a view.

    >>> import autobatch as ab
    >>> ab.stack([ab.zeros(3), ab.ones(3)]).shape
    (2, 3)
    """
    if axis == 0 and (isinstance(xs, TracedList) or any(type(x).__name__ == "Tracer" for x in xs)):
        return over_list("stack", xs)
    if not len(xs):
        raise OpTypeError(
            message("stack: an empty list has no shape", where=user_line(2), repair="guard it with an if")
        )
    ndim = np.ndim(xs[0]) if not isinstance(xs[0], Tensor) else xs[0].ndim
    if not -ndim - 1 <= axis <= ndim:
        raise OpTypeError(message(f"stack: axis {axis} is outside a value of rank {ndim + 1}", where=user_line(2)))
    return apply(STACK, tuple(xs), (axis - ndim - 1 if axis >= 0 else axis,))
