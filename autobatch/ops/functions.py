"""Functions of one element: exponential, logarithm, powers and their kin, each one declared block."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import OpIndexError, op_error
from ..base.types import INT64, default_dtype
from .composing import composite
from .declare import Op, Sample, apply, as_value, declare, unchanged
from .elementwise import BITS_AND, EQUAL, carried, cast, elementwise, where
from .index import BOUNDED, EXPONENT

if TYPE_CHECKING:
    from .value import Tensor, TensorLike

EXP = elementwise("exp", "e to the x", np.exp, "exp({0})", lambda g, y, x, a: (g * y,), dtypes="float")
LOG = elementwise(
    "log", "natural logarithm", np.log, "log({0})", lambda g, y, x, a: (g / x[0],), dtypes="float", low=0.3
)
TANH = elementwise(
    "tanh",
    "hyperbolic tangent",
    np.tanh,
    "tanh({0})",
    lambda g, y, x, a: (g * (apply(SIGMOID_SLOPE, (x[0] * 2.0,)) * 4.0),),
    dtypes="float",
)
SQRT = elementwise(
    "sqrt", "square root", np.sqrt, "sqrt({0})", lambda g, y, x, a: (g * 0.5 / y,), dtypes="float", low=0.3
)


def _sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype)


def _sigmoid_slope(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return (e / ((1 + e) * (1 + e))).astype(x.dtype)


def _softplus(x: Any) -> Any:
    return (np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))).astype(x.dtype)


SIGMOID = elementwise(
    "sigmoid",
    "1 / (1 + exp(-x))",
    _sigmoid,
    "sigmoid({0})",
    lambda g, y, x, a: (g * apply(SIGMOID_SLOPE, x),),
    dtypes="float",
)
SIGMOID_SLOPE: Op = elementwise(
    "sigmoid_slope",
    "the derivative of sigmoid, e / (1 + e)^2 with e = exp(-|x|), where y (1 - y) would lose its digits",
    _sigmoid_slope,
    "sigmoid_slope({0})",
    lambda g, y, x, a: (-(g * (y * tanh(x[0] * 0.5))),),
    dtypes="float",
)
RELU = elementwise(
    "relu",
    "max(x, 0); derivative 0 at 0",
    lambda x: np.maximum(x, x.dtype.type(0)),
    "relu({0})",
    lambda g, y, x, a: (where(x[0] > 0.0, g, 0.0),),
    low=0.2,
    both_signs=True,
)
SOFTPLUS = elementwise(
    "softplus",
    "log(1 + exp(x)), without overflow",
    _softplus,
    "softplus({0})",
    lambda g, y, x, a: (g * sigmoid(x[0]),),
    dtypes="float",
)
POWER = elementwise(
    "power",
    "x to the y, both values; the derivative by y is 0 where x is 0",
    np.power,
    "power({0}, {1})",
    lambda g, y, x, a: _power_vjp(g, y, x),
    dtypes="float",
    low=0.4,
    special=False,
)


def _power_vjp(g: Any, y: Any, x: tuple[Any, ...]) -> tuple[Any, Any]:
    """In double precision: y - 1 would be rounded, and x^y may be subnormal where its product with log(x) is not."""
    base, exponent = (cast(v, np.float64) for v in x)
    positive = base > 0.0
    by_exponent = where(positive, power(base, exponent) * log(where(positive, base, 1.0)), 0.0)
    safe = where(apply(EQUAL, (exponent, 0.0)), 1.0, base)  # the derivative of x^0 is 0, at 0, too
    return tuple(g * cast(d, g.dtype) for d in (exponent * power(safe, exponent - 1.0), by_exponent))


def _power_of_samples(rng: np.random.Generator) -> list[Sample]:
    x = rng.uniform(0.5, 2.0, (3, 2))
    edges = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 3.0])
    return [Sample((x,), (p,)) for p in (0.5, 2, 3, -1, 1, 0)] + [Sample((edges,), (2,), smooth=False)]


POWER_OF = declare(
    "power_of",
    "x to a constant exponent, an attribute",
    lambda types, attrs: types[0],
    lambda x, p: np.power(x, x.dtype.type(p)),
    lambda g, y, x, a: (None if a[0] == 0 else g * a[0] * power(x[0], a[0] - 1),),
    "elementwise",
    "power_of({0}, {a})",
    "keep",
    lead=carried,
    samples=_power_of_samples,
)


# Public functions.


def unary(op: Op, doc: str) -> Callable[[TensorLike], Tensor]:
    def function(x: TensorLike) -> Tensor:
        return apply(op, (x,))

    function.__name__ = function.__qualname__ = op.name
    function.__doc__ = doc
    return function


exp = unary(
    EXP,
    """Elementwise exponential of `x: f[...]`.

    >>> float(ab.exp(ab.tensor(0.0)))
    1.0
    """,
)
log = unary(
    LOG,
    """Elementwise natural logarithm of `x: f[...]`; -inf at 0, NaN below, as NumPy.

    >>> float(ab.log(ab.tensor(1.0)))
    0.0
    """,
)
tanh: Callable[[TensorLike], Tensor] = unary(
    TANH,
    """Elementwise hyperbolic tangent of `x: f[...]`.

    >>> float(ab.tanh(ab.tensor(0.0)))
    0.0
    """,
)
sigmoid: Callable[[TensorLike], Tensor] = unary(
    SIGMOID,
    """Elementwise logistic function 1 / (1 + exp(-x)) of `x: f[...]`.

    >>> float(ab.sigmoid(ab.tensor(0.0)))
    0.5
    """,
)
relu = unary(
    RELU,
    """Elementwise max(x, 0) of `x`; the derivative at 0 is 0.

    >>> ab.relu(ab.tensor([-1.0, 2.0])).numpy()
    array([0., 2.], dtype=float32)
    """,
)
softplus = unary(
    SOFTPLUS,
    """Elementwise log(1 + exp(x)) of `x: f[...]`, without overflow.

    >>> float(ab.softplus(ab.tensor(1000.0)))
    1000.0
    """,
)
sqrt = unary(
    SQRT,
    """Elementwise square root of `x: f[...]`; NaN below 0, as NumPy.

    >>> float(ab.sqrt(ab.tensor(4.0)))
    2.0
    """,
)


def power(x: TensorLike, y: TensorLike) -> Tensor:
    """x to the power y. A Python number as y is an attribute of the op; a value as y is an operand.

    Integers to a whole Python number stay whole, and to integer values become i64; a negative exponent raises, as in
    NumPy: `OpTypeError` for a number, `OpIndexError` for a value, when it runs. All else is computed in floats.

    >>> ab.power(ab.tensor([1.0, 3.0]), 2).numpy()
    array([1., 9.], dtype=float32)
    """
    if isinstance(y, int | float | np.number | np.bool_):
        exponent = y.item() if isinstance(y, np.generic) else y
        exponent = int(exponent) if isinstance(exponent, bool) else exponent
        x = _base(as_value(x), exponent)
        return unchanged(x) if exponent == 1 and hasattr(x, "_record") else apply(POWER_OF, (x,), (exponent,))
    x, y = (v if isinstance(v, int | float) else as_value(v) for v in (x, y))
    return _whole_power(x, y) if _is_whole(x) and _is_whole(y) else apply(POWER, (x, y))


def _is_whole(x: Any) -> bool:
    return x.dtype.kind in "iub" if hasattr(x, "dtype") else isinstance(x, int)


def _whole_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample((np.array([3, -2, 0, 5, -1]), np.array([20, 3, 0, 1, 71])), smooth=False),
        Sample((2, np.array([[0, 62]])), smooth=False),
        Sample((2, np.array([3, -1])), error=OpIndexError),
    ]


@composite(_whole_samples, dtypes="keep")
def _whole_power(x: TensorLike, y: TensorLike) -> Tensor:
    """Integers to the power of integers by squaring; the powers up to 63 modulo 2^64."""
    base, n = cast(as_value(x), INT64), cast(as_value(y), INT64)
    n = where(n > 63, apply(BITS_AND, (n, 1)) + 62, n)  # from 63 on only 0, 1 and -1 do not overflow
    # Where it is not negative, -1 - n is below 0, as `BOUNDED` asks for.
    n = -1 - apply(BOUNDED, (where(n < 0, 0, -1 - n),), (0, EXPONENT))
    found: Any = 1
    for bit in (1, 2, 4, 8, 16, 32):
        found = where(apply(EQUAL, (apply(BITS_AND, (n, bit)), 0)), found, base * found)
        base = base * base
    return found


def _base(x: Any, exponent: float) -> Tensor:
    """The base in the dtype of the power."""
    if isinstance(exponent, int) and exponent.bit_length() > 63:
        raise op_error(
            "power",
            "the exponent does not fit into 64 bits",
            got=f"one of {exponent.bit_length()} bits",
            repair="write it as a float",
        )
    if x.dtype.kind == "f":
        return x
    if isinstance(exponent, float):
        return cast(x, np.float64 if getattr(x, "_weak", False) else default_dtype())
    if exponent < 0:
        raise op_error(
            "power",
            "integers to a negative whole power",
            got=f"{getattr(x, '_type', x.dtype)} ** {exponent}",
            repair=f"write the exponent as {float(exponent)}, or convert the base with .astype(float)",
        )
    return cast(x, INT64) if x.dtype.kind == "b" else x
