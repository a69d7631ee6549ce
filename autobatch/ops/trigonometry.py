"""Trigonometric and hyperbolic functions and their inverses, as the C library has them.

Derivatives are formed so that no digits are lost by subtraction, and nothing overflows before the result does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .declare import Sample, apply
from .elementwise import Samples, cast, elementwise, equal, where
from .functions import sqrt, unary

if TYPE_CHECKING:
    from .value import Tensor, TensorLike

Function = Callable[["TensorLike"], "Tensor"]
EDGES = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 3e38, -1.0, 1.0, 0.5, -3.5, 1e-3])


def few_samples(low: float, high: float, arity: int = 1) -> Samples:
    """One matrix of numbers in a range, and edges."""
    return lambda rng: [
        Sample(tuple(rng.uniform(low, high, (3, 2)) for _ in range(arity))),
        Sample(tuple(np.roll(EDGES, 5 * k) for k in range(arity)), smooth=False),
    ]


def _over(x: Any) -> Any:
    return 1.0 / x


def c_function(
    name: str,
    c_name: str,
    slope: Callable[[Any, Any], Any],
    doc: str,
    low: float = -2.0,
    high: float = 2.0,
    reference: Callable[[Any], Any] | None = None,
) -> Function:
    """Declare a function of one element of the C library, by its derivative of (x, result)."""
    op = elementwise(
        name,
        doc.split("\n")[0].removeprefix("Elementwise "),
        reference or getattr(np, name),
        f"math.{c_name}({{0}})",
        lambda g, y, x, a: (g * slope(x[0], y),),
        dtypes="float",
        samples=few_samples(low, high),
    )
    function = unary(op, doc)
    function.__module__ = slope.__module__
    return function


sin: Function = c_function(
    "sin",
    "sin",
    lambda x, y: cos(x),
    """Elementwise sine of `x: f[...]`, in radians.

    >>> float(ab.sin(ab.tensor(0.0)))
    0.0
    """,
)
cos: Function = c_function(
    "cos",
    "cos",
    lambda x, y: -sin(x),
    """Elementwise cosine of `x: f[...]`, in radians.

    >>> float(ab.cos(ab.tensor(0.0)))
    1.0
    """,
)
tan: Function = c_function(
    "tan",
    "tan",
    lambda x, y: y * y + 1.0,
    """Elementwise tangent of `x: f[...]`, in radians.

    >>> float(ab.tan(ab.tensor(0.0)))
    0.0
    """,
    -1.0,
    1.0,
)
arcsin: Function = c_function(
    "arcsin",
    "asin",
    lambda x, y: _over(sqrt((1.0 - x) * (1.0 + x))),
    """Elementwise inverse sine of `x: f[...]`, from -π/2 to π/2; NaN outside of [-1, 1].

    >>> round(float(ab.arcsin(ab.tensor(1.0))), 4)
    1.5708
    """,
    -0.8,
    0.8,
)
arccos: Function = c_function(
    "arccos",
    "acos",
    lambda x, y: -_over(sqrt((1.0 - x) * (1.0 + x))),
    """Elementwise inverse cosine of `x: f[...]`, from 0 to π; NaN outside of [-1, 1].

    >>> round(float(ab.arccos(ab.tensor(-1.0))), 4)
    3.1416
    """,
    -0.8,
    0.8,
)
arctan: Function = c_function(
    "arctan",
    "atan",
    lambda x, y: 1.0 / (x * x + 1.0),
    """Elementwise inverse tangent of `x: f[...]`, from -π/2 to π/2.

    >>> round(float(ab.arctan(ab.tensor(1.0))), 4)
    0.7854
    """,
)
sinh: Function = c_function(
    "sinh",
    "sinh",
    lambda x, y: cosh(x),
    """Elementwise hyperbolic sine of `x: f[...]`.

    >>> float(ab.sinh(ab.tensor(0.0)))
    0.0
    """,
)
cosh: Function = c_function(
    "cosh",
    "cosh",
    lambda x, y: sinh(x),
    """Elementwise hyperbolic cosine of `x: f[...]`.

    >>> float(ab.cosh(ab.tensor(0.0)))
    1.0
    """,
)
arcsinh: Function = c_function(
    "arcsinh",
    "asinh",
    lambda x, y: _over(hypot(x, 1.0)),
    """Elementwise inverse hyperbolic sine of `x: f[...]`.

    >>> round(float(ab.arcsinh(ab.tensor(1.0))), 4)
    0.8814
    """,
)
arccosh: Function = c_function(
    "arccosh",
    "acosh",
    lambda x, y: _over(sqrt(x - 1.0)) * _over(sqrt(x + 1.0)),
    """Elementwise inverse hyperbolic cosine of `x: f[...]`, from 0 on; NaN below 1.

    >>> round(float(ab.arccosh(ab.tensor(2.0))), 4)
    1.317
    """,
    1.3,
    3.0,
)
arctanh: Function = c_function(
    "arctanh",
    "atanh",
    lambda x, y: 1.0 / ((1.0 - x) * (1.0 + x)),
    """Elementwise inverse hyperbolic tangent of `x: f[...]`; infinite at -1 and 1, NaN beyond.

    >>> round(float(ab.arctanh(ab.tensor(0.5))), 4)
    0.5493
    """,
    -0.8,
    0.8,
)


def _arctan2_vjp(g: Any, z: Any, operands: tuple[Any, ...], attrs: Any) -> tuple[Any, Any]:
    """In double precision, where squares of float32 do not overflow."""
    y, x = (cast(v, np.float64) for v in operands)
    square = x * x + y * y
    square = where(equal(square, 0.0), 1.0, square)
    return g * cast(x / square, g.dtype), g * cast(-y / square, g.dtype)


ARCTAN2 = elementwise(
    "arctan2",
    "the angle of the point (x, y), of operands y and x",
    np.arctan2,
    "math.atan2({0}, {1})",
    _arctan2_vjp,
    dtypes="float",
    samples=few_samples(0.4, 2.0, 2),
)


def arctan2(y: TensorLike, x: TensorLike) -> Tensor:
    """Elementwise angle of the point (x, y) in the plane, from -π to π; arctan(y / x) where x is positive.

    The derivative at the origin is 0, as PyTorch's.

    >>> round(float(ab.arctan2(ab.tensor(1.0), -1.0)), 4)
    2.3562
    """
    return apply(ARCTAN2, (y, x))


def _hypot_vjp(g: Any, z: Any, operands: tuple[Any, ...], attrs: Any) -> tuple[Any, ...]:
    """In double precision, where small results have all their digits, and g x does not overflow before its division."""
    x, y = (cast(v, np.float64) for v in operands)
    z = hypot(x, y)
    z = where(equal(z, 0.0), 1.0, z)
    return g * cast(x / z, g.dtype), g * cast(y / z, g.dtype)


HYPOT = elementwise(
    "hypot",
    "sqrt(x^2 + y^2), without overflow; derivative 0 at the origin",
    np.hypot,
    "math.hypot({0}, {1})",
    _hypot_vjp,
    dtypes="float",
    samples=few_samples(0.4, 2.0, 2),
)


def hypot(x: TensorLike, y: TensorLike) -> Tensor:
    """Elementwise √(x² + y²) without overflow; the derivative at the origin is 0.

    >>> float(ab.hypot(ab.tensor(3.0), 4.0))
    5.0
    """
    return apply(HYPOT, (x, y))
