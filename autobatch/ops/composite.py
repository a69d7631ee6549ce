"""Ops made of other ops: softmaxes, layer normalisation, losses. Derivatives and kernels follow from the body."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import OpTypeError, op_error
from ..base.types import LEADING, Type
from .declare import Attrs, Op, Sample, apply, as_value, declare, lifted_all, unchanged
from .elementwise import STOP_GRADIENT, absolute, cast, float_dtype, where
from .functions import exp, log, sqrt
from .movement import reshape
from .reduce import LIST_SUM, MAX, MEAN, SUM, list_samples, normalise_axes, reduction

if TYPE_CHECKING:
    from .value import Tensor, TensorLike

Axes = int | tuple[int, ...]
"""One negative axis, or several in ascending order."""


def _tuple(axis: Axes) -> tuple[int, ...]:
    return axis if isinstance(axis, tuple) else (axis,)


Reduced = Callable[[Op, Any], Any]
"""(SUM or MAX, elements) → the reduction, of a shape that broadcasts to that of the elements."""


def _along_axes(axis: Axes) -> Reduced:
    return lambda op, x: apply(op, (x,), (_tuple(axis), True))


def _along_list(k: int) -> Reduced:
    return lambda op, x: apply(op.over_list, (x,), (k,))  # type: ignore[arg-type]


def finite_max(x: Any, reduced: Reduced) -> Any:
    """The maximum as a constant; 0 where it is not finite, so that -inf - -inf does not arise."""
    top = apply(STOP_GRADIENT, (reduced(MAX, x),))
    return where(absolute(top) < float("inf"), top, 0.0)


def safe_max(x: Any, axis: Axes) -> Any:
    """The same along axes, which stay, with extent 1."""
    return finite_max(x, _along_axes(axis))


def _softmax(x: Any, reduced: Reduced) -> Any:
    e = exp(x - finite_max(x, reduced))
    return e / reduced(SUM, e)


def _log_softmax(x: Any, reduced: Reduced) -> Any:
    z = x - finite_max(x, reduced)
    return z - log(reduced(SUM, exp(z)))


def _logsumexp(x: Any, reduced: Reduced) -> Any:
    top = finite_max(x, reduced)
    return log(reduced(SUM, exp(x - top))) + top


def _logsumexp_body(x: Any, axis: Axes) -> Any:
    left = tuple(n for a, n in zip(range(-len(x.shape), 0), x.shape, strict=True) if a not in _tuple(axis))
    return reshape(_logsumexp(x, _along_axes(axis)), left)


def _lead(ndims: Sequence[int], shared: Sequence[bool], attrs: Attrs) -> tuple[bool, ...] | None:
    return (True,) if ndims[0] >= 2 and -ndims[0] not in _tuple(attrs[0]) else None


def _samples(rng: np.random.Generator) -> list[Sample]:
    inf = np.inf
    return [
        Sample((rng.normal(size=4),), (-1,)),
        Sample((rng.normal(size=(3, 2)),), (-1,)),
        Sample((rng.normal(size=(3, 2)),), (-2,)),
        Sample((rng.normal(size=(3, 2, 2)),), ((-2, -1),)),
        Sample((rng.normal(size=(3, 2)),), ((-2, -1),)),
        Sample((np.array([1.0, -inf, 2.0]),), (-1,), smooth=False),
        Sample((np.array([-inf, -inf]),), (-1,), smooth=False),
        Sample((np.array([np.nan, 1.0]),), (-1,), smooth=False),
        Sample((np.array([3e38, 3e38, -3e38, 1e-40]),), (-1,), smooth=False),
    ]


def _list_samples(rng: np.random.Generator) -> list[Sample]:
    inf = np.inf
    special = [np.array([np.nan, -inf, 3e38, 1.0]), np.array([1.0, -inf, 3e38, -inf])]
    return [*list_samples(rng)[:4], Sample((special,), (1,), smooth=False)]


def _forms(name: str, doc: str, of: Callable[[Any, Reduced], Any], per_element: bool = True, **more: Any) -> Op:
    """Declare an op along axes and along a list, from what it does with reductions."""
    of_list = declare(
        f"list_{name}",
        f"{doc} over a list",
        body=lambda x, k: of(x, _along_list(k)),
        batch="list",
        dtypes="float",
        per_element=per_element,
        samples=_list_samples,
    )
    body = more.pop("body", lambda x, axis: of(x, _along_axes(axis)))
    return declare(name, doc, body=body, dtypes="float", over_list=of_list, samples=_samples, **more)


SOFTMAX = _forms("softmax", "exp(x) / sum of exp(x)", _softmax, lead=_lead)
LOG_SOFTMAX = _forms("log_softmax", "log of the softmax", _log_softmax, lead=_lead)
LOGSUMEXP = _forms(
    "logsumexp", "log of the sum of exp(x)", _logsumexp, per_element=False, body=_logsumexp_body, lead=_lead
)


def _along(op: Op, x: Any, axis: Axes | None) -> Any:
    x = as_value(x)
    shape = x.shape
    if not len(shape):
        if axis is not None:
            raise op_error(
                op.name,
                "a value of rank 0 has no axis",
                got=str(shape),
                repair="leave axis= out, or reshape the value to (1,)",
            )
        return reshape(_along(op, reshape(x, (1,)), -1), ())
    axes = normalise_axes(op.name, axis, len(shape))
    if any(shape[a] == 0 for a in axes):
        x = cast(x, float_dtype(x.dtype))
        return log(reduction("sum", x, axes, False)) if op is LOGSUMEXP else unchanged(x)
    return apply(op, (x,), (axes[0] if len(axes) == 1 else axes,))


def softmax(x: TensorLike, axis: Axes | None = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along `axis` of `x: f[...]`: one, several in a tuple, or None for all.

    A list of values is stacked: the list is axis 0. A slice that is -inf everywhere gives NaN, as in NumPy. Raises
    `OpTypeError` for a value of rank 0.

    >>> ab.softmax(ab.zeros(4)).numpy()
    array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """
    return _along(SOFTMAX, x, axis)


def log_softmax(x: TensorLike, axis: Axes | None = -1) -> Tensor:
    """log(softmax(x)) along `axis` of `x: f[...]` (one, several, None for all), without overflow.

    A list of values is stacked: the list is axis 0. Raises `OpTypeError` for a value of rank 0.

    >>> ab.log_softmax(ab.zeros(2)).numpy().round(4)
    array([-0.6931, -0.6931], dtype=float32)
    """
    return _along(LOG_SOFTMAX, x, axis)


def logsumexp(x: TensorLike, axis: Axes | None = -1) -> Tensor:
    """log(sum(exp(x))) along `axis` of `x: f[...]` (one, several, None for all); -inf where all are, or there are none.

    A list of values is stacked: the list is axis 0. Raises `OpTypeError` for a value of rank 0 with an axis.

    >>> round(float(ab.logsumexp(ab.zeros(4))), 4)
    1.3863
    """
    return _along(LOGSUMEXP, x, axis)


def _layer_norm_body(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    n = x.shape[-1]
    if weight.shape != (n,) or bias.shape != (n,):
        raise op_error(
            "layer_norm",
            "weight and bias have another width than the last axis",
            expected=f"f[..., {n}], f[{n}], f[{n}]",
            got=f"{x._type}, {weight._type}, {bias._type}",
            repair="make them of the width of the last axis, as nn.LayerNorm(width) does",
        )
    deviation = x - apply(MEAN, (x,), ((-1,), True))
    variance = apply(MEAN, (deviation * deviation,), ((-1,), True))
    return deviation / sqrt(variance + eps) * weight + bias


LAYER_NORM = declare(
    "layer_norm",
    "deviation from the mean of the last axis, by its standard deviation, times weight, plus bias",
    body=_layer_norm_body,
    dtypes="float",
    lead=lambda ndims, shared, attrs: (True, False, False) if ndims[0] >= 2 else None,
    samples=lambda rng: [
        Sample((rng.normal(size=4), rng.normal(size=4), rng.normal(size=4)), (1e-5,)),
        Sample((rng.normal(size=(3, 4)), rng.normal(size=4), rng.normal(size=4)), (1e-5,)),
        Sample((rng.normal(size=(2, 3, 4)), rng.normal(size=4), rng.normal(size=4)), (1e-3,)),
        Sample((np.ones((2, 3)), np.ones(2), np.ones(3)), (1e-5,), error=OpTypeError),
    ],
)


def layer_norm(x: TensorLike, weight: TensorLike, bias: TensorLike, eps: float = 1e-5) -> Tensor:
    """(x − mean) / √(variance + eps) · weight + bias, mean and variance over the last axis of `x: f[..., n]`.

    The variance is the mean squared deviation, divided by n (Ba, Kiros & Hinton, "Layer normalization", 2016, eq. 3).
    `weight: f[n]` and `bias: f[n]`.

    Raises `OpTypeError` where there is no last axis, or it is empty.

    >>> ab.layer_norm(ab.tensor([3.0, 5.0]), ab.ones(2), ab.zeros(2)).numpy().round(3)
    array([-1.,  1.], dtype=float32)
    """
    x, weight, bias = lifted_all(x, weight, bias)
    if not len(x.shape) or not x.shape[-1]:
        raise op_error(
            "layer_norm",
            "there is no last axis to normalise over",
            got=str(x.shape),
            repair="guard the call with an if",
        )
    return apply(LAYER_NORM, (x, weight, bias), (float(eps),))


def _squared_error_body(x: Any, y: Any) -> Any:
    d = x - y
    return apply(SUM, (d * d,), (tuple(range(-d.ndim, 0)), False)) if d.ndim else d * d


def _squared_error_over_rows(types: Sequence[Type], attrs: Attrs) -> Any:
    if types[0].shape != types[1].shape or types[0].layout != types[1].layout or not types[0].ndim:
        return None
    if types[0].ndim == 1 and types[0].layout == LEADING:
        return None
    return lambda x, y: apply(LIST_SUM, (_squared_error_body(x, y),), (1,))


SQUARED_ERROR = declare(
    "squared_error",
    "sum of squared differences",
    body=_squared_error_body,
    over_rows=_squared_error_over_rows,
    samples=lambda rng: [
        Sample((rng.normal(size=3), rng.normal(size=3))),
        Sample((rng.normal(size=(2, 3)), rng.normal(size=3))),
        Sample((rng.normal(), 0.5)),
        Sample((np.ones(2), np.ones(3)), error=OpTypeError),
    ],
)


def squared_error(x: TensorLike, y: TensorLike) -> Tensor:
    """Sum of squared differences of `x` and `y`, which broadcast; a scalar.

    >>> float(ab.squared_error(ab.tensor([1.0, 2.0]), ab.tensor([0.0, 0.0])))
    5.0
    """
    return apply(SQUARED_ERROR, (x, y))
