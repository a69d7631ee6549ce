"""Functions of one element for the generated loops, `name_f32` and `name_f64`.

The float32 versions are straight-line arithmetic without library calls, so that loops over them vectorise. They have a
relative error below 1e-6 over the whole range of float32 (`tests/ops/test_accuracy.py`). `log` follows Cephes (logf).
What `sigmoid`, `tanh` and their derivatives cost is a division by 1 + exp(-|x|); a loop in which several of them meet
makes exponential and quotient once. The float64 versions call the C library through `math`. NaN and infinities go
through as in NumPy. Functions in which the order of operations carries the precision are compiled without
reassociation.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import njit

LOOSE = {"reassoc", "contract", "arcp", "nsz", "afn"}
"""Relaxations of IEEE order that are used; never "nnan" or "ninf": NaN and infinities must survive."""

STRICT = {"contract"}

f32, f64 = np.float32, np.float64

# Both floating dtypes; constants of float32 take the dtype of what they meet.


@njit(error_model="numpy", fastmath=STRICT)
def relu(x):  # type: ignore[no-untyped-def]
    """max(x, 0)."""
    return f32(0.0) if x < f32(0.0) else x


@njit(error_model="numpy", fastmath=STRICT)
def sign(x):  # type: ignore[no-untyped-def]
    """-1, 0 or 1; NaN stays."""
    y = f32(1.0) if x > f32(0.0) else x
    return f32(-1.0) if x < f32(0.0) else y


@njit(error_model="numpy", fastmath=STRICT)
def sqrt(x):  # type: ignore[no-untyped-def]
    """Square root."""
    return np.sqrt(x)


@njit(error_model="numpy", fastmath=STRICT)
def floor_divide(x, y):  # type: ignore[no-untyped-def]
    """The largest integer not above x / y, as NumPy's."""
    rest = np.fmod(x, y)
    whole = (x - rest) / y
    whole = whole - f32(1.0) if rest != f32(0.0) and (y < f32(0.0)) != (rest < f32(0.0)) else whole
    floor = np.floor(whole)
    floor = floor + f32(1.0) if whole - floor > f32(0.5) else floor
    floor = floor if whole != f32(0.0) else np.copysign(f32(0.0), x / y)
    return floor if y != f32(0.0) else x / y


@njit(error_model="numpy", fastmath=STRICT)
def remainder(x, y):  # type: ignore[no-untyped-def]
    """What is left of x, with the sign of y, as NumPy's."""
    rest = np.fmod(x, y)
    signed = rest + y if (y < f32(0.0)) != (rest < f32(0.0)) else rest
    signed = signed if rest != f32(0.0) else np.copysign(f32(0.0), y)
    return signed if y != f32(0.0) else rest


@njit(error_model="numpy", fastmath=STRICT)
def nearest(x):  # type: ignore[no-untyped-def]
    """The nearest integer, halves to the even one."""
    return np.rint(x)


@njit(error_model="numpy", fastmath=STRICT)
def _half(x, shortened):  # type: ignore[no-untyped-def]
    """The nearest number of float16, of x and x with 10 bits: in steps of 2^-24 at least; from 65520 on infinity."""
    y = shortened if abs(x) >= f32(2.0**-14) else np.rint(x * f32(2.0**24)) * f32(2.0**-24)
    y = y if abs(y) < f32(65536.0) else np.copysign(f32(np.inf), x)
    return y if x == x else x


relu_f32 = relu_f64 = relu
sign_f32 = sign_f64 = sign
sqrt_f32 = sqrt_f64 = sqrt
floor_divide_f32 = floor_divide_f64 = floor_divide
remainder_f32 = remainder_f64 = remainder
nearest_f32 = nearest_f64 = nearest

# float32


@njit(error_model="numpy", fastmath=STRICT)
def _expm1_of_rest(x):  # type: ignore[no-untyped-def]
    """n and exp(r) - 1 where x = n log(2) + r, for |x| < 2^21; n stands in the lowest 23 bits, as two's complement.

    Adding 1.5 * 2^23 rounds to an integer. log(2) is taken in two parts; the polynomial is a minimax one on
    [-log(2)/2, log(2)/2], relative error 3e-9. NaN goes through.
    """
    shifted = f32(x * f32(1.4426950408889634) + f32(12582912.0))
    n = shifted - f32(12582912.0)
    r = x - n * f32(0.693359375)
    r = r + n * f32(2.12194440e-4)
    p = f32(1.3814583973101e-3) * r + f32(8.3687239633546e-3)
    p = p * r + f32(4.1668388422733e-2)
    p = p * r + f32(1.66665205733452e-1)
    p = p * r + f32(4.99999934438612e-1)
    p = p * r + f32(1.0)
    return shifted.view(np.int32), r * p


@njit(error_model="numpy", fastmath=STRICT)
def exp_f32(x):  # type: ignore[no-untyped-def]
    """The power of two in two factors, for subnormal results."""
    c = f32(89.0) if x > f32(89.0) else x
    c = f32(-104.0) if c < f32(-104.0) else c
    n, z = _expm1_of_rest(c)
    h = n >> 1
    a = np.int32((h << 23) + 0x3F800000).view(np.float32)
    b = np.int32(((n - h) << 23) + 0x3F800000).view(np.float32)
    return (a * z + a) * b


@njit(error_model="numpy", fastmath=STRICT)
def _decay(x):  # type: ignore[no-untyped-def]
    """exp(-|x|) as s z + s, and s, z, which together give exp(-|x|) - 1 in full."""
    c = -abs(x)
    c = f32(-104.0) if c < f32(-104.0) else c
    n, z = _expm1_of_rest(c)
    s = np.int32((n << 23) + 0x5F800000).view(np.float32) * f32(2.0**-64)  # 2^n, which may be subnormal
    return s * z + s, s, z


@njit(error_model="numpy", fastmath=STRICT)
def sigmoid_f32(x):  # type: ignore[no-untyped-def]
    """1 / (1 + exp(-x)), by exp(-|x|)."""
    e, _, _ = _decay(x)
    d = f32(1.0) / (f32(1.0) + e)
    return d if x >= f32(0.0) else e * d


@njit(error_model="numpy", fastmath=STRICT)
def sigmoid_slope_f32(x):  # type: ignore[no-untyped-def]
    """The derivative of sigmoid."""
    e, _, _ = _decay(x)
    d = f32(1.0) / (f32(1.0) + e)
    return e * d * d


@njit(error_model="numpy", fastmath=STRICT)
def tanh_f32(x):  # type: ignore[no-untyped-def]
    """(1 - e) / (1 + e) with e = exp(-2 |x|), and the sign of x."""
    e, s, z = _decay(x * f32(2.0))
    d = f32(1.0) / (f32(1.0) + e)
    y = f32(((f32(1.0) - s) - s * z) * d)
    sign = f32(x).view(np.int32) & np.int32(-0x80000000)
    return np.int32(y.view(np.int32) | sign).view(np.float32)


@njit(error_model="numpy", fastmath=STRICT)
def log_f32(x):  # type: ignore[no-untyped-def]
    """Exponent plus a polynomial on [sqrt(1/2), sqrt(2)]."""
    small = x < f32(1.17549435e-38)
    scale = f32(8388608.0) if small else f32(1.0)
    bias = f32(149.0) if small else f32(126.0)
    scaled = f32(x * scale)
    bits = scaled.view(np.int32)
    e = f32(np.int32(bits >> 23)) - bias
    y = np.int32((bits & 0x007FFFFF) | 0x3F000000).view(np.float32)
    low = y < f32(0.707106781186547524)
    e = e - f32(1.0) if low else e
    y = y + y - f32(1.0) if low else y - f32(1.0)
    z = y * y
    p = f32(7.0376836292e-2) * y - f32(1.1514610310e-1)
    p = p * y + f32(1.1676998740e-1)
    p = p * y - f32(1.2420140846e-1)
    p = p * y + f32(1.4249322787e-1)
    p = p * y - f32(1.6668057665e-1)
    p = p * y + f32(2.0000714765e-1)
    p = p * y - f32(2.4999993993e-1)
    p = p * y + f32(3.3333331174e-1)
    r = p * y * z + e * f32(-2.12194440e-4) - f32(0.5) * z
    r = y + r + e * f32(0.693359375)
    r = r if x < f32(np.inf) else x
    r = r if x > f32(0.0) else f32(np.nan)
    return f32(-np.inf) if x == f32(0.0) else r


@njit(error_model="numpy", fastmath=LOOSE)
def softplus_f32(x):  # type: ignore[no-untyped-def]
    """max(x, 0) + log1p(exp(-|x|)), the logarithm as 2 artanh(e / (2 + e))."""
    e = exp_f32(-abs(x))
    t = e / (f32(2.0) + e)
    s = t * t
    p = f32(1 / 13) + s * (f32(1 / 15) + s * f32(1 / 17))
    p = f32(1 / 7) + s * (f32(1 / 9) + s * (f32(1 / 11) + s * p))
    p = f32(1.0) + s * (f32(1 / 3) + s * (f32(1 / 5) + s * p))
    return relu_f32(x) + f32(2.0) * t * p


@njit(error_model="numpy", fastmath=STRICT)
def power_f32(x, y):  # type: ignore[no-untyped-def]
    """x to the y, in double precision."""
    return f32(math.pow(float(x), float(y)))


@njit(error_model="numpy", fastmath=STRICT)
def half_f32(x):  # type: ignore[no-untyped-def]
    """The nearest number of float16."""
    bits = f32(x).view(np.int32)
    bits = bits + np.int32((1 << 12) - 1) + ((bits >> np.int32(13)) & np.int32(1))
    return _half(x, np.int32((bits >> np.int32(13)) << np.int32(13)).view(np.float32))


# float64


@njit(error_model="numpy", fastmath=STRICT)
def tanh_f64(x):  # type: ignore[no-untyped-def]
    """Hyperbolic tangent."""
    return math.tanh(x)


@njit(error_model="numpy", fastmath=STRICT)
def sigmoid_f64(x):  # type: ignore[no-untyped-def]
    """1 / (1 + exp(-x)), without overflow."""
    e = math.exp(-abs(x))
    return (e if x < 0.0 else 1.0) / (1.0 + e)


@njit(error_model="numpy", fastmath=STRICT)
def sigmoid_slope_f64(x):  # type: ignore[no-untyped-def]
    """The derivative of sigmoid."""
    e = math.exp(-abs(x))
    return e / ((1.0 + e) * (1.0 + e))


@njit(error_model="numpy", fastmath=STRICT)
def exp_f64(x):  # type: ignore[no-untyped-def]
    """Exponential."""
    return math.exp(x)


@njit(error_model="numpy", fastmath=STRICT)
def log_f64(x):  # type: ignore[no-untyped-def]
    """Natural logarithm; -inf at 0, NaN below."""
    return np.log(x)


@njit(error_model="numpy", fastmath=STRICT)
def softplus_f64(x):  # type: ignore[no-untyped-def]
    """max(x, 0) + log1p(exp(-|x|))."""
    return relu_f64(x) + math.log1p(math.exp(-abs(x)))


@njit(error_model="numpy", fastmath=STRICT)
def power_f64(x, y):  # type: ignore[no-untyped-def]
    """x to the y."""
    return math.pow(x, y)


@njit(error_model="numpy", fastmath=STRICT)
def half_f64(x):  # type: ignore[no-untyped-def]
    """The nearest number of float16."""
    bits = f64(x).view(np.int64)
    bits = bits + np.int64((1 << 41) - 1) + ((bits >> np.int64(42)) & np.int64(1))
    return _half(x, np.int64((bits >> np.int64(42)) << np.int64(42)).view(np.float64))


# integers and booleans


@njit(error_model="numpy")
def floor_divide_i(x, y):  # type: ignore[no-untyped-def]
    """As of floats; 0 where y is 0. Dividing the lowest number by -1 would trap."""
    if y == 0 or y == -1:
        return x - x if y == 0 else -x
    return x // y


@njit(error_model="numpy")
def remainder_i(x, y):  # type: ignore[no-untyped-def]
    """As of floats; 0 where y is 0."""
    return x - x if y == 0 or y == -1 else x % y


@njit(error_model="numpy")
def invert_i(x):  # type: ignore[no-untyped-def]
    """All bits inverted."""
    return ~x


@njit(error_model="numpy")
def invert_b(x):  # type: ignore[no-untyped-def]
    """The other boolean."""
    return not x


# Maxima of rows: floats as whole ones in the same order, NaN above all.

LOWEST_f32 = np.int32(-(1 << 31))
LOWEST_f64 = np.int64(-(1 << 63))


@njit(error_model="numpy", fastmath=STRICT)
def ordered_f32(x):  # type: ignore[no-untyped-def]
    """The bits, all but the sign inverted where that is set; every NaN as the positive one."""
    bits = f32(x).view(np.int32)
    bits = bits if x == x else np.int32(0x7FC00000)
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))


@njit(error_model="numpy", fastmath=STRICT)
def unordered_f32(bits):  # type: ignore[no-untyped-def]
    """The number that `ordered_f32` made into these bits."""
    return np.int32(bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)


@njit(error_model="numpy", fastmath=STRICT)
def ordered_f64(x):  # type: ignore[no-untyped-def]
    """As `ordered_f32`."""
    bits = np.float64(x).view(np.int64)
    bits = bits if x == x else np.int64(0x7FF8000000000000)
    return bits ^ ((bits >> 63) & np.int64(0x7FFFFFFFFFFFFFFF))


@njit(error_model="numpy", fastmath=STRICT)
def unordered_f64(bits):  # type: ignore[no-untyped-def]
    """As `unordered_f32`."""
    return np.int64(bits ^ ((bits >> 63) & np.int64(0x7FFFFFFFFFFFFFFF))).view(np.float64)


# any dtype


@njit(error_model="numpy", fastmath=STRICT)
def maximum(x, y):  # type: ignore[no-untyped-def]
    """The larger; NaN wins."""
    z = x if x >= y else y
    return x if x != x else z


@njit(error_model="numpy", fastmath=STRICT)
def minimum(x, y):  # type: ignore[no-untyped-def]
    """The smaller; NaN wins."""
    z = x if x <= y else y
    return x if x != x else z


WHOLE_FUNCTIONS = ("floor_divide", "remainder", "invert")
"""Names that scalar expressions use and that exist for integers, `name_i`; `invert_b` for booleans."""

FLOAT_FUNCTIONS = (
    *("tanh", "sigmoid", "sigmoid_slope", "exp", "log", "softplus", "relu", "sign", "sqrt", "power"),
    *("floor_divide", "remainder", "nearest", "half"),
)
"""Names that scalar expressions use and that exist once per floating dtype."""


@functools.cache
def combiner(scalar: str, bits: int, reorder: bool = False) -> Any:
    """The combiner of a reduction, compiled; `reorder`: whether its calls may be taken in any order and grouping."""
    names: dict[str, Any] = {name: globals()[f"{name}_f{bits}"] for name in FLOAT_FUNCTIONS}
    names |= {"__name__": __name__, "maximum": maximum, "minimum": minimum}
    exec(f"def combine(x, y): return {scalar.format('x', 'y')}", names)
    return njit(error_model="numpy", fastmath={"reassoc", "nsz"} if reorder else STRICT)(names["combine"])
