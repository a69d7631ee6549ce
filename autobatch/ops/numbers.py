"""Elementwise functions of few instructions: rounding, clipping, powers, and questions about numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .composing import composite, uniform
from .declare import Attrs, Sample, apply, as_value, lifted_all, unchanged
from .elementwise import (
    BITS_AND,
    BITS_OR,
    BITS_XOR,
    DIV,
    INVERT,
    MUL,
    NOT_EQUAL,
    SIGN,
    Samples,
    absolute,
    cast,
    equal,
    nearest,
    where,
)
from .functions import sqrt

if TYPE_CHECKING:
    from .value import Tensor, TensorLike


def _edges(*attrs: Attrs, arity: int = 1, smooth: bool = False) -> Samples:
    """Numbers of which the functions ask, for each of several settings."""
    numbers = np.array([[0.3, -1.2, np.nan, -2.5], [np.inf, -np.inf, 0.0, 3e38]])
    operands = tuple(np.roll(numbers, k, -1) for k in range(arity))
    return lambda rng: [Sample(operands, a, smooth) for a in attrs or ((),)]


def _away(*attrs: Attrs) -> Samples:
    """Numbers at which the functions are smooth, too."""
    return lambda rng: [
        *(Sample((np.array([[0.3, -1.2], [2.4, -0.7]]),), a) for a in attrs or ((),)),
        *_edges(*attrs)(rng),
    ]


def sign(x: TensorLike) -> Tensor:
    """Elementwise -1, 0 or 1 as `x` is; NaN stays, and booleans become integers. The derivative is 0.

    >>> ab.sign(ab.tensor([-2.0, 0.0, 5.0])).numpy()
    array([-1.,  0.,  1.], dtype=float32)
    """
    x = as_value(x)
    return apply(SIGN, (cast(x, np.int64) if x.dtype.kind == "b" else x,))


def square(x: TensorLike) -> Tensor:
    """Elementwise x²; integers stay integers.

    >>> ab.square(ab.tensor([1.0, -3.0])).numpy()
    array([1., 9.], dtype=float32)
    """
    x = as_value(x)
    return apply(MUL, (x, x))


def reciprocal(x: TensorLike) -> Tensor:
    """Elementwise 1 / x, in floats.

    >>> float(ab.reciprocal(ab.tensor(4.0)))
    0.25
    """
    return apply(DIV, (1.0, x))


@composite(uniform(0.3, 2.0, (3, 2)))
def rsqrt(x: TensorLike) -> Tensor:
    """Elementwise 1 / √x; infinite at 0, NaN below.

    >>> float(ab.rsqrt(ab.tensor(4.0)))
    0.5
    """
    return 1.0 / sqrt(x)


def round(x: TensorLike, decimals: int = 0) -> Tensor:
    """Elementwise `x` to so many `decimals`, halves to the even number; integers stay. The derivative is 0.

    >>> ab.round(ab.tensor([0.5, 1.5, 1.24])).numpy(), ab.round(ab.tensor([1.24]), 1).numpy()
    (array([0., 2., 1.], dtype=float32), array([1.2], dtype=float32))
    """
    return nearest(as_value(x), decimals)


@composite(_away(), dtypes="keep")
def floor(x: TensorLike) -> Tensor:
    """Elementwise largest integer not above x; integers stay. The derivative is 0.

    >>> ab.floor(ab.tensor([1.7, -1.2])).numpy()
    array([ 1., -2.], dtype=float32)
    """
    x = as_value(x)
    y = nearest(x)
    return y if x.dtype.kind != "f" else where(y > x, y - 1.0, y)


@composite(_away(), dtypes="keep")
def ceil(x: TensorLike) -> Tensor:
    """Elementwise smallest integer not below x; integers stay. The derivative is 0.

    >>> ab.ceil(ab.tensor([1.2, -1.7])).numpy()
    array([ 2., -1.], dtype=float32)
    """
    x = as_value(x)
    y = nearest(x)
    return y if x.dtype.kind != "f" else where(y < x, y + 1.0, y)


@composite(_away(), dtypes="keep")
def trunc(x: TensorLike) -> Tensor:
    """Elementwise integer part of `x`, nearest to 0; integers stay. The derivative is 0.

    >>> ab.trunc(ab.tensor([1.7, -1.7])).numpy()
    array([ 1., -1.], dtype=float32)
    """
    x = as_value(x)
    return x if x.dtype.kind != "f" else where(x < 0.0, ceil(x), floor(x))


def clip(x: TensorLike, min: TensorLike | None = None, max: TensorLike | None = None) -> Tensor:
    """Elementwise x between `min` and `max`; None is no bound. Where they cross, `max` wins, as in NumPy.

    The derivative by x is 1 from bound to bound, both included, as PyTorch's `clamp`; beyond, it is that of the bound.

    >>> ab.clip(ab.tensor([-2.0, 0.5, 7.0]), 0.0, 1.0).numpy()
    array([0. , 0.5, 1. ], dtype=float32)
    """
    x, *_ = lifted_all(x, *(bound for bound in (min, max) if hasattr(bound, "_record")))
    if min is None and max is None:
        return unchanged(x)
    if min is not None:
        x = where(_is_beyond(x < min, min), min, x)
    if max is not None:
        x = where(_is_beyond(x > max, max), max, x)
    return x


def _is_beyond(outside: Any, bound: Any) -> Any:
    """Where the bound is taken: also where it is NaN."""
    return outside if isinstance(bound, int | float) and bound == bound else outside | isnan(bound)


def isnan(x: TensorLike) -> Tensor:
    """Whether each number of `x` is NaN; boolean.

    >>> ab.isnan(ab.tensor([1.0, float("nan")])).numpy()
    array([False,  True])
    """
    x = as_value(x)
    return apply(NOT_EQUAL, (x, x))


def isinf(x: TensorLike) -> Tensor:
    """Whether each number of `x` is infinite; boolean.

    >>> ab.isinf(ab.tensor([1.0, float("-inf")])).numpy()
    array([False,  True])
    """
    return equal(absolute(as_value(x)), float("inf"))


def isfinite(x: TensorLike) -> Tensor:
    """Whether each number of `x` is neither infinite nor NaN; boolean.

    >>> ab.isfinite(ab.tensor([1.0, float("nan")])).numpy()
    array([ True, False])
    """
    return absolute(as_value(x)) < float("inf")


@composite(_away((0.0, None, None), (1.0, 2.0, -2.0)), dtypes="keep")
def nan_to_num(x: TensorLike, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """`x: f[...]` with NaN, inf and -inf as `nan`, `posinf`, `neginf`; of None the largest and lowest number.

    The derivative is 0 where a number is replaced.

    >>> ab.nan_to_num(ab.tensor([float("nan"), float("inf"), 1.0]), posinf=9.0).numpy()
    array([0., 9., 1.], dtype=float32)
    """
    x = as_value(x)
    if x.dtype.kind != "f":
        return x
    largest = float(np.finfo(x.dtype).max)
    high, low = (largest if posinf is None else posinf), (-largest if neginf is None else neginf)
    inf = float("inf")
    return where(isnan(x), nan, where(equal(x, inf), high, where(equal(x, -inf), low, x)))


def truth(x: Any) -> Any:
    """The value as booleans: whether it is not 0."""
    x = as_value(x)
    return x if x.dtype.kind == "b" else apply(NOT_EQUAL, (x, 0))


def logical_and(x: TensorLike, y: TensorLike) -> Tensor:
    """Elementwise whether `x` and `y` are true; numbers are true unless 0.

    >>> ab.logical_and([True, True], [True, False]).numpy()
    array([ True, False])
    """
    return apply(BITS_AND, (truth(x), truth(y)))


def logical_or(x: TensorLike, y: TensorLike) -> Tensor:
    """Elementwise whether `x` or `y` is true; numbers are true unless 0.

    >>> ab.logical_or([0.0, 2.0], False).numpy()
    array([False,  True])
    """
    return apply(BITS_OR, (truth(x), truth(y)))


def logical_xor(x: TensorLike, y: TensorLike) -> Tensor:
    """Elementwise whether exactly one of `x` and `y` is true; numbers are true unless 0.

    >>> ab.logical_xor([True, True], [True, False]).numpy()
    array([False,  True])
    """
    return apply(BITS_XOR, (truth(x), truth(y)))


def logical_not(x: TensorLike) -> Tensor:
    """Elementwise whether `x` is false; numbers are true unless 0.

    >>> ab.logical_not([True, False]).numpy()
    array([False,  True])
    """
    return apply(INVERT, (truth(x),))
