"""Nonlinearities: of each element, of halves and groups of an axis, and sparse relatives of the softmax.

Where PyTorch has the function, its parameters, their defaults and derivatives at kinks are PyTorch's; `dim` is `axis`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..base.errors import op_error
from .composing import composite, normal
from .composite import safe_max, softmax
from .declare import apply, as_value
from .elementwise import cast, where
from .functions import relu, sigmoid, softplus, sqrt, tanh
from .movement import reshape, slice_axis, swapped
from .numbers import rsqrt
from .reduce import MAX, SUM
from .special import erfc, expm1

if TYPE_CHECKING:
    from .value import Tensor, TensorLike

# Of each element. What stands in a branch that is not taken must be finite: its derivative is multiplied by 0.


def _below(x: Any) -> Any:
    """min(x, 0), whose derivative at 0 is 1."""
    return where(x > 0.0, 0.0, x)


@composite(normal((3, 2)))
def leaky_relu(x: TensorLike, negative_slope: float = 0.01) -> Tensor:
    """Elementwise x where it is positive, else negative_slope · x (Maas, Hannun & Ng 2013).

    >>> ab.leaky_relu(ab.tensor([-1.0, 2.0])).numpy()
    array([-0.01,  2.  ], dtype=float32)
    """
    x = as_value(x)
    return where(x > 0.0, x, x * negative_slope)


@composite(normal((3, 2), (2,)))
def prelu(x: TensorLike, weight: TensorLike) -> Tensor:
    """Elementwise x where it is positive, else weight · x, with a learned weight (He et al. 2015); the two broadcast.

    >>> ab.prelu(ab.tensor([-1.0, 2.0]), ab.Parameter(0.25)).numpy()
    array([-0.25,  2.  ], dtype=float32)
    """
    x, weight = as_value(x), as_value(weight)
    return where(x > 0.0, x, x * weight)


@composite(normal((3, 2), attrs=(1.0,)))
def elu(x: TensorLike, alpha: float = 1.0) -> Tensor:
    """Elementwise x where it is positive, else alpha (exp(x) - 1) (Clevert, Unterthiner & Hochreiter 2016).

    >>> ab.elu(ab.tensor([-1.0, 2.0])).numpy().round(4)
    array([-0.6321,  2.    ], dtype=float32)
    """
    x = as_value(x)
    return where(x > 0.0, x, expm1(_below(x)) * alpha)


@composite(normal((3, 2), attrs=(1.3,)))
def celu(x: TensorLike, alpha: float = 1.0) -> Tensor:
    """Elementwise x where it is positive, else alpha (exp(x / alpha) - 1) (Barron 2017).

    >>> ab.celu(ab.tensor([-1.0, 2.0]), alpha=2.0).numpy().round(4)
    array([-0.7869,  2.    ], dtype=float32)
    """
    x = as_value(x)
    return where(x > 0.0, x, expm1(_below(x) / alpha) * alpha)


@composite(normal((3, 2)))
def selu(x: TensorLike) -> Tensor:
    """Elementwise 1.0507 elu(x, 1.6733), which keeps mean 0 and variance 1 (Klambauer et al. 2017).

    >>> ab.selu(ab.tensor([-1.0, 2.0])).numpy().round(4)
    array([-1.1113,  2.1014], dtype=float32)
    """
    x = as_value(x)
    return where(x > 0.0, x, expm1(_below(x)) * 1.6732632423543772) * 1.0507009873554805


@composite(normal((3, 2), attrs=("none",)))
def gelu(x: TensorLike, approximate: str = "none") -> Tensor:
    """Elementwise x Φ(x), Φ the distribution function of the normal distribution (Hendrycks & Gimpel 2016).

    With `approximate="tanh"` x / 2 (1 + tanh(√(2/π) (x + 0.044715 x³))). Raises `OpTypeError` for another word.

    >>> ab.gelu(ab.tensor([-1.0, 2.0])).numpy().round(4)
    array([-0.1587,  1.9545], dtype=float32)
    """
    x = as_value(x)
    if approximate == "none":
        return x * 0.5 * erfc(x * -math.sqrt(0.5))
    if approximate != "tanh":
        raise op_error(
            "gelu",
            "no such approximation",
            expected="'none' or 'tanh'",
            got=repr(approximate),
            repair="leave approximate= out",
        )
    return x * sigmoid((x + x * x * x * 0.044715) * (2.0 * math.sqrt(2.0 / math.pi)))


@composite(normal((3, 2)))
def silu(x: TensorLike) -> Tensor:
    """Elementwise x sigmoid(x), also called swish (Elfwing, Uchibe & Doya 2018).

    >>> ab.silu(ab.tensor([-1.0, 2.0])).numpy().round(4)
    array([-0.2689,  1.7616], dtype=float32)
    """
    x = as_value(x)
    return x * sigmoid(x)


@composite(normal((3, 2)))
def mish(x: TensorLike) -> Tensor:
    """Elementwise x tanh(softplus(x)) (Misra 2020).

    >>> ab.mish(ab.tensor([-1.0, 2.0])).numpy().round(4)
    array([-0.3034,  1.944 ], dtype=float32)
    """
    x = as_value(x)
    return x * tanh(softplus(x))


@composite(normal((3, 2)))
def softsign(x: TensorLike) -> Tensor:
    """Elementwise x / (1 + |x|).

    >>> ab.softsign(ab.tensor([-1.0, 3.0])).numpy()
    array([-0.5 ,  0.75], dtype=float32)
    """
    x = as_value(x)
    return x / (where(x < 0.0, -x, x) + 1.0)  # whose second derivative at 0 is that from above, where |x| has none


@composite(normal((3, 2), attrs=(1.0,)))
def isru(x: TensorLike, alpha: float = 1.0) -> Tensor:
    """Elementwise x / √(1 + alpha x²), the inverse square root unit (Carlile et al. 2017, eq. 1).

    >>> ab.isru(ab.tensor([0.0, 1.0])).numpy().round(4)
    array([0.    , 0.7071], dtype=float32)
    """
    x = as_value(x)
    return x * rsqrt(x * x * alpha + 1.0)


@composite(normal((3, 2), attrs=(-1.0, 1.0)))
def hardtanh(x: TensorLike, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """`x: f[...]`, cut off at `min_val` and `max_val`; the derivative is 1 between them, and 0 at and beyond them.

    >>> ab.hardtanh(ab.tensor([-3.0, 0.5, 2.0])).numpy()
    array([-1. ,  0.5,  1. ], dtype=float32)
    """
    x = as_value(x)
    return where(x <= min_val, min_val, where(x >= max_val, max_val, x))


@composite(normal((3, 2), scale=4.0))
def relu6(x: TensorLike) -> Tensor:
    """Elementwise min(max(x, 0), 6); the derivative is 1 between 0 and 6, and 0 at and beyond them.

    >>> ab.relu6(ab.tensor([-3.0, 0.5, 8.0])).numpy()
    array([0. , 0.5, 6. ], dtype=float32)
    """
    x = as_value(x)
    return where(x <= 0.0, 0.0, where(x >= 6.0, 6.0, x))


@composite(normal((3, 2), scale=3.0))
def hardsigmoid(x: TensorLike) -> Tensor:
    """Elementwise relu6(x + 3) / 6: 0 up to -3, 1 from 3 on, and a straight line between.

    >>> ab.hardsigmoid(ab.tensor([-3.0, 0.0, 4.0])).numpy()
    array([0. , 0.5, 1. ], dtype=float32)
    """
    x = as_value(x)
    return where(x <= -3.0, 0.0, where(x >= 3.0, 1.0, x / 6.0 + 0.5))


@composite(normal((3, 2), scale=3.0))
def hardswish(x: TensorLike) -> Tensor:
    """Elementwise x hardsigmoid(x) (Howard et al. 2019).

    >>> ab.hardswish(ab.tensor([-3.0, 1.0, 4.0])).numpy().round(4)
    array([0.    , 0.6667, 4.    ], dtype=float32)
    """
    x = as_value(x)
    is_low, is_high = x <= -3.0, x >= 3.0
    middle = where(is_low | is_high, 0.0, x)  # an infinity here would have no derivative
    return where(is_low, 0.0, where(is_high, x, middle * (middle / 6.0 + 0.5)))


@composite(normal((3, 2)))
def log_sigmoid(x: TensorLike) -> Tensor:
    """Elementwise log(sigmoid(x)), without overflow.

    >>> float(ab.log_sigmoid(ab.tensor(-1000.0)))
    -1000.0
    """
    x = as_value(x)
    return -softplus(-x)


# Of halves and groups of an axis.


def _halves(name: str, x: Any, axis: int) -> tuple[Any, Any]:
    n = x.shape[axis]
    if n % 2:
        raise op_error(
            name,
            f"axis {axis} does not divide into halves",
            got=str(x._type),
            repair="make the layer before it of an even width",
        )
    return slice_axis(x, axis, 0, n // 2), slice_axis(x, axis, n // 2, n // 2)


@composite(normal((3, 4), attrs=(-1,)))
def glu(x: TensorLike, axis: int = -1) -> Tensor:
    """a sigmoid(b) of the halves a, b of `axis` of `x` (Dauphin et al. 2017). Raises `OpTypeError` for an odd length.

    >>> ab.glu(ab.tensor([1.0, 2.0, 0.0, 0.0])).numpy()
    array([0.5, 1. ], dtype=float32)
    """
    a, b = _halves("glu", x, axis)
    gated: Tensor = a * sigmoid(b)
    return gated


@composite(normal((3, 4), attrs=(-1,)))
def swiglu(x: TensorLike, axis: int = -1) -> Tensor:
    """silu(a) b of the halves a, b of `axis` of `x` (Shazeer 2020, eq. 6). Raises `OpTypeError` for an odd length.

    >>> ab.swiglu(ab.tensor([0.0, 2.0, 3.0, 1.0])).numpy().round(4)
    array([0.    , 1.7616], dtype=float32)
    """
    a, b = _halves("swiglu", x, axis)
    gated: Tensor = a * sigmoid(a) * b
    return gated


@composite(normal((3, 4), attrs=(2, -1)))
def maxout(x: TensorLike, pieces: int, axis: int = -1) -> Tensor:
    """The largest of each `pieces` consecutive elements of `x` along `axis` (Goodfellow et al. 2013).

    Raises `OpTypeError` where the axis does not divide into groups of so many.

    >>> ab.maxout(ab.tensor([1.0, 5.0, -2.0, -1.0]), 2).numpy()
    array([ 5., -1.], dtype=float32)
    """
    x = as_value(x)
    n = x.shape[axis]
    if pieces < 1 or n % pieces:
        raise op_error(
            "maxout",
            f"axis {axis} does not divide into groups of {pieces}",
            got=str(x._type),
            repair="make the axis a multiple of pieces",
        )
    at = len(x.shape) + axis
    grouped = reshape(x, (*x.shape[:at], n // pieces, pieces, *x.shape[at + 1 :]))
    found: Tensor = apply(MAX, (grouped,), ((axis,), False))
    return found


# Sparse relatives of the softmax.


def _compared(z: Any) -> tuple[Any, Any]:
    """For element i of the last axis how many are not smaller, and those, 0 in place of others: f[..., i, j]."""
    shape = z.shape
    row = reshape(z, (*shape[:-1], 1, shape[-1]))
    larger = reshape(z, (*shape, 1)) <= row
    return cast(larger, z.dtype).sum(-1), where(larger, row, 0.0)


def _total(z: Any) -> Any:
    return apply(SUM, (z,), ((-1,), True))


@composite(normal((2, 4), attrs=(-1,)))
def sparsemax(x: TensorLike, axis: int = -1) -> Tensor:
    """The probabilities nearest to x (Martins & Astudillo 2016); many are exactly 0.

    Compares all elements of the axis with each other: n² numbers for an axis of n. Raises `OpTypeError` for an empty
    axis.

    >>> ab.sparsemax(ab.tensor([1.0, 0.6, -2.0])).numpy().round(4)
    array([0.7, 0.3, 0. ], dtype=float32)
    """
    z = _filled("sparsemax", swapped(x, axis))
    z = z - safe_max(z, -1)
    count, larger = _compared(z)
    inside = z * count + 1.0 > larger.sum(-1)
    threshold = (_total(where(inside, z, 0.0)) - 1.0) / _total(cast(inside, z.dtype))
    found: Tensor = swapped(where(inside, z - threshold, 0.0), axis)
    return found


def _filled(name: str, z: Any) -> Any:
    """A value whose last axis is not empty."""
    if z.shape[-1] == 0:
        raise op_error(name, "the axis is empty", got=str(z.shape), repair="guard the call with an if")
    return z


@composite(normal((2, 4), attrs=(1.5, -1)))
def entmax(x: TensorLike, alpha: float = 1.5, axis: int = -1) -> Tensor:
    """Probabilities of `x` between softmax (`alpha` 1) and sparsemax (2): of 1.5, many are 0 (Peters et al. 2019).

    Compares all elements of the axis with each other. Raises `OpTypeError` for another `alpha` than 1, 1.5 and 2.

    >>> ab.entmax(ab.tensor([1.0, 0.0, -3.0])).numpy().round(4)
    array([0.8307, 0.1693, 0.    ], dtype=float32)
    """
    if alpha == 1:
        return softmax(x, axis)
    if alpha == 2:
        return sparsemax(x, axis)
    if alpha != 1.5:
        raise op_error(
            "entmax", "not for this alpha", expected="1, 1.5 or 2", got=str(alpha), repair="1.5 is the usual one"
        )
    z = _filled("entmax", swapped(x, axis))
    z = (z - safe_max(z, -1)) * 0.5
    count, larger = _compared(z)
    mean, square = larger.sum(-1) / count, (larger * larger).sum(-1) / count
    inside = mean - sqrt(relu(1.0 / count - square + mean * mean)) <= z
    n = _total(cast(inside, z.dtype))
    middle = _total(where(inside, z, 0.0)) / n
    away = where(inside, z - middle, 0.0)
    threshold = middle - sqrt((1.0 - _total(away * away)) / n)
    rest = where(inside, z - threshold, 0.0)
    found: Tensor = swapped(rest * rest, axis)
    return found
