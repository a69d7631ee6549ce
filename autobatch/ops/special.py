"""Special functions: of the normal distribution, the gamma function, and logarithms that keep small numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .composing import composite, each, normal, uniform
from .declare import as_value
from .elementwise import absolute, cast, equal, nearest, where
from .functions import exp, log, softplus, sqrt
from .trigonometry import c_function, tan

if TYPE_CHECKING:
    from .value import Tensor, TensorLike

Function = Callable[["TensorLike"], "Tensor"]


def _bell(x: Any, sign: float) -> Any:
    """2/√π exp(-x²), in double precision: rounding x² to float32 would cost digits of the result."""
    wide = cast(x, np.float64)
    return cast(exp(-(wide * wide)) * (sign * 2.0 / math.sqrt(math.pi)), x.dtype)


def _lgamma_slope(x: Any, y: Any) -> Any:
    return digamma(x)


erf: Function = c_function(
    "erf",
    "erf",
    lambda x, y: _bell(x, 1.0),
    """Elementwise error function 2/√π ∫₀ˣ exp(-t²) dt of `x: f[...]` (DLMF 7.2.1).

    >>> round(float(ab.erf(ab.tensor(1.0))), 4)
    0.8427
    """,
    reference=each(math.erf),
)
erfc: Function = c_function(
    "erfc",
    "erfc",
    lambda x, y: _bell(x, -1.0),
    """Elementwise 1 - erf(x) of `x: f[...]`, with all its digits where x is large (DLMF 7.2.2).

    >>> round(float(ab.erfc(ab.tensor(1.0))), 4)
    0.1573
    """,
    reference=each(math.erfc),
)
expm1: Function = c_function(
    "expm1",
    "expm1",
    lambda x, y: exp(x),
    """Elementwise exp(x) - 1 of `x: f[...]`, with all its digits where x is small.

    >>> float(ab.expm1(ab.tensor(0.0)))
    0.0
    """,
)
log1p: Function = c_function(
    "log1p",
    "log1p",
    lambda x, y: 1.0 / (x + 1.0),
    """Elementwise log(1 + x) of `x: f[...]`, with all its digits where x is small; -inf at -1, NaN below.

    >>> float(ab.log1p(ab.tensor(0.0)))
    0.0
    """,
    -0.5,
)
lgamma: Function = c_function(
    "lgamma",
    "lgamma",
    _lgamma_slope,
    """Elementwise log |Γ(x)| of `x: f[...]` (DLMF 5.2.1); infinite at 0 and at negative integers.

    >>> round(float(ab.lgamma(ab.tensor(4.0))), 4)
    1.7918
    """,
    0.3,
    3.0,
    reference=each(math.lgamma),
)

_SHIFT = 7
"""From here on the asymptotic series has 14 digits."""
_SERIES = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12, -3617 / 8160)
"""B(2k) / 2k for k = 1, 2, …"""


@composite(uniform(-2.9, 3.0, (3, 2)))
def digamma(x: TensorLike) -> Tensor:
    """Elementwise derivative of log Γ(x), of `x: f[...]`; -inf at 0, NaN at negative integers.

    Computed in double precision: by reflection (DLMF 5.5.4) below 1/2, recurrence (5.5.2), and the asymptotic
    series (5.11.2).

    >>> round(float(ab.digamma(ab.tensor(1.0))), 4)
    -0.5772
    """
    x = as_value(x)
    wide = cast(x, np.float64)
    is_low = wide < 0.5
    z = where(is_low, 1.0 - wide, wide)
    shifted = z + float(_SHIFT)
    inverse = 1.0 / (shifted * shifted)
    tail: Any = 0.0
    for c in reversed(_SERIES):
        tail = (tail + c) * inverse
    upper = log(shifted) - 0.5 / shifted - tail
    for k in range(_SHIFT):
        upper = upper - 1.0 / (z + float(k))
    rest = wide - nearest(wide)
    cotangent = math.pi / tan(where(is_low, rest, 0.25) * math.pi)
    is_pole = equal(rest, 0.0) & (wide < 0.0)
    lower = where(is_pole, float("nan"), upper - cotangent)
    return cast(where(is_low, lower, upper), x.dtype)


_MIDDLE = (
    (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
     4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3, 2.1213794301586595867e4,
     3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3),
)  # fmt: skip
_OUTER = (
    (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
     1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1, 1.48103976427480074590e-1,
     1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)  # fmt: skip
_FAR = (
    (6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
     2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2, 7.86869131145613259100e-4,
     1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15),
)  # fmt: skip


def _ratio(coefficients: tuple[tuple[float, ...], ...], r: Any) -> Any:
    """A polynomial divided by another one, of coefficients from the lowest power on."""
    above, below = (0.0 * r, 0.0 * r)
    for a, b in zip(*(reversed(c) for c in coefficients), strict=True):
        above, below = above * r + a, below * r + b
    return above / below


@composite(uniform(-0.95, 0.95, (3, 2)))
def erfinv(x: TensorLike) -> Tensor:
    """Elementwise inverse of erf, of `x: f[...]`; infinite at -1 and 1, NaN beyond.

    By the quantile of the normal distribution (Wichura 1988, algorithm AS 241), in double precision.

    >>> round(float(ab.erfinv(ab.tensor(0.5))), 4)
    0.4769
    """
    x = as_value(x)
    half = cast(x, np.float64) * 0.5
    is_end = equal(absolute(half), 0.5)
    q = where(is_end, 0.0, half)
    size = absolute(q)
    r = sqrt(-log(0.5 - size))
    outer = _ratio(_OUTER, where(r <= 5.0, r, 1.6) - 1.6)
    far = _ratio(_FAR, where((r > 5.0) & (r < 30.0), r, 5.0) - 5.0)  # at 30 the number is 1 - 1e-390
    tail = where(r <= 5.0, outer, where(r < 30.0, far, r))
    is_middle = size <= 0.425
    middle = _ratio(_MIDDLE, 0.180625 - where(is_middle, q * q, 0.0))
    inside = where(is_middle, q * middle, where(q < 0.0, -tail, tail)) * math.sqrt(0.5)
    end = where(is_end, half, 1.0) * float("inf")  # so is its derivative
    return cast(where(is_end, end, inside), x.dtype)


@composite(normal((3, 2), (2,)))
def logaddexp(x: TensorLike, y: TensorLike) -> Tensor:
    """Elementwise log(exp(x) + exp(y)), without overflow.

    >>> round(float(ab.logaddexp(ab.tensor(0.0), 0.0)), 4)
    0.6931
    """
    x, y = as_value(x), as_value(y)
    same = equal(x, y) & (absolute(x) == float("inf"))
    d = where(same, 0.0, x - y)
    return where(d > 0.0, x + softplus(-d), y + softplus(d))


@composite(uniform(0.3, 2.0, (3, 2), (2,)))
def xlogy(x: TensorLike, y: TensorLike) -> Tensor:
    """Elementwise x log(y), which is 0 where x is 0, unless y is NaN; so are the derivatives where y is 0 or infinite.

    >>> float(ab.xlogy(ab.tensor(0.0), 0.0))
    0.0
    """
    x, y = as_value(x), as_value(y)
    return x * log(where(equal(x, 0.0) & ((y <= 0.0) | equal(y, float("inf"))), 1.0, y))
