"""Elementwise ops: each is one declared block; the scalar expression makes the generated loops."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import OpTypeError, op_error
from ..base.types import HALF, INT64, Type, broadcast_shapes, default_dtype, tensor_type, value_dtype
from .declare import Attrs, Op, Sample, apply, as_value, declare

if TYPE_CHECKING:
    from .value import Tensor, TensorLike

Samples = Callable[[np.random.Generator], list[Sample]]


_KINDS = {"b": "bool", "i": "i32, i64", "f": "f32, f64"}
_INSTEAD = {
    "neg": "~x is the opposite of a truth value; x.astype(int) makes numbers of them",
    "sub": "a != b says where truth values differ; x.astype(int) makes numbers of them",
}


def _infer(name: str, result: str, kinds: str = "bif") -> Callable[[Sequence[Type], Attrs], Type]:
    def infer(types: Sequence[Type], attrs: Attrs) -> Type:
        if types[-1].dtype.kind not in kinds:
            raise op_error(
                name,
                "not for operands of this dtype",
                expected=f"{', '.join(_KINDS[kind] for kind in kinds)}",
                got=", ".join(map(str, types)),
                repair=_INSTEAD.get(name, "x.astype(int) makes numbers of truth values")
                if types[-1].dtype.kind == "b"
                else "compare first, as x > 0, or convert by x.astype(int)",
            )
        shape = broadcast_shapes(*(t.shape for t in types))
        if shape is None:
            got = ", ".join(map(str, types))
            raise op_error(
                name,
                "shapes do not broadcast",
                expected="equal extents, or 1",
                got=got,
                repair="reshape one operand, or reduce the axis that differs",
            )
        return tensor_type(np.bool_ if result == "bool" else types[-1].dtype, shape)

    return infer


def _carried(ndims: Sequence[int], shared: Sequence[bool], attrs: Attrs) -> tuple[bool, ...] | None:
    ndim = max(ndims)
    if ndim < 2 or any(flag and n == ndim for n, flag in zip(ndims, shared, strict=True)):
        return None
    return tuple(n == ndim for n in ndims)


def _samples(
    arity: int, low: float, high: float, smooth: bool = True, special: bool = True, both_signs: bool = False
) -> Samples:
    by_arity: dict[int, list[tuple[tuple[int, ...], ...]]] = {
        1: [((4,),), ((),), ((3, 2),)],
        2: [((4,), (4,)), ((3, 2), (2,)), ((), (3,)), ((2, 1), (1, 3))],
        3: [((4,), (4,), (4,)), ((3, 2), (2,), ())],
    }
    shapes = by_arity[arity]

    def make(rng: np.random.Generator) -> list[Sample]:
        good = [Sample(tuple(rng.uniform(low, high, s) for s in group), smooth=smooth) for group in shapes]
        if both_signs:
            good = [Sample(tuple(x * np.resize([1.0, -1.0], x.shape) for x in s.operands), smooth=smooth) for s in good]
        if special:
            edges = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 3e38, -3e38])
            good.append(Sample(tuple(np.roll(edges, 3 * i) for i in range(arity)), smooth=False))
        if arity == 2:
            good.append(Sample((rng.uniform(low, high, 3), 0.5), smooth=smooth))
            good.append(Sample((np.ones(3), np.ones(4)), error=OpTypeError))
        return good

    return make


def _elementwise(
    name: str,
    doc: str,
    reference: Callable[..., Any],
    scalar: str,
    vjp: Callable[..., tuple[Any, ...]] | None,
    *,
    arity: int = 1,
    dtypes: str = "promote",
    result: str = "same",
    low: float = -2.0,
    high: float = 2.0,
    smooth: bool = True,
    special: bool = True,
    both_signs: bool = False,
    samples: Samples | None = None,
    kinds: str = "bif",
) -> Op:
    return declare(
        Op(
            name,
            doc,
            _infer(name, result, kinds),
            reference,
            vjp,
            "elementwise",
            scalar,
            dtypes,
            lead=_carried,
            samples=samples or _samples(arity, low, high, smooth and vjp is not None, special, both_signs),
        )
    )


def _nothing(g: Any, y: Any, x: Any, attrs: Attrs) -> tuple[Any, ...]:
    return (None,) * len(x)


# Arithmetic.

ADD = _elementwise("add", "x + y", np.add, "{0} + {1}", lambda g, y, x, a: (g, g), arity=2)
SUB = _elementwise("sub", "x - y", np.subtract, "{0} - {1}", lambda g, y, x, a: (g, -g), arity=2, kinds="if")
MUL = _elementwise("mul", "x y", np.multiply, "{0} * {1}", lambda g, y, x, a: (g * x[1], g * x[0]), arity=2)
DIV = _elementwise(
    "div",
    "x / y",
    np.true_divide,
    "{0} / {1}",
    lambda g, y, x, a: (g / x[1], -(g * y) / x[1]),
    arity=2,
    dtypes="float",
    low=0.5,
)
NEG = _elementwise("neg", "-x", np.negative, "-{0}", lambda g, y, x, a: (-g,), kinds="if")
ABS = _elementwise(
    "abs", "|x|; derivative 0 at 0", np.abs, "abs({0})", lambda g, y, x, a: (g * sign(x[0]),), low=0.2, both_signs=True
)
SIGN: Op = _elementwise("sign", "-1, 0 or 1", np.sign, "sign({0})", _nothing, smooth=False)
MAXIMUM = _elementwise(
    "maximum",
    "the larger of two; equal values share the derivative",
    np.maximum,
    "maximum({0}, {1})",
    lambda g, y, x, a: _of_larger(g, x[0], x[1]),
    arity=2,
)
MINIMUM = _elementwise(
    "minimum",
    "the smaller of two; equal values share the derivative",
    np.minimum,
    "minimum({0}, {1})",
    lambda g, y, x, a: _of_larger(g, x[1], x[0]),
    arity=2,
)


def _of_larger(g: Any, a: Any, b: Any) -> tuple[Any, Any]:
    share = where(equal(a, b), 0.5, cast(less(b, a), g.dtype))
    return g * share, g * (1.0 - share)


def _apart(rng: np.random.Generator) -> list[Sample]:
    """Pairs whose quotients lie away from whole numbers, where the derivative is not defined; edges; whole numbers."""
    x, y = np.array([0.3, 1.7, -0.4, -2.6]), np.array([1.0, -0.8, 0.7, -2.0])
    edges = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 3e38, -3.5])
    lowest = np.array([-(1 << 63), 7, -7, 7, -7, 5])
    return [
        Sample((x, y)),
        Sample((np.stack([x, y]), np.array([0.9, -1.1, 0.6, 1.7]))),
        Sample((x, 0.7)),
        *(Sample((edges, np.roll(edges, k)), smooth=False) for k in range(8)),
        Sample((lowest, np.array([-1, 2, 2, -2, -2, 0])), smooth=False),
        Sample((lowest.clip(-9).astype(np.int32), np.array([-1, 2, 2, -2, -2, 0], np.int32)), smooth=False),
        Sample((np.array([True]), np.array([True])), error=OpTypeError),
        Sample((np.ones(3), np.ones(4)), error=OpTypeError),
    ]


FLOOR_DIVIDE: Op = _elementwise(
    "floor_divide",
    "the largest whole number not above x / y",
    np.floor_divide,
    "floor_divide({0}, {1})",
    _nothing,
    arity=2,
    kinds="if",
    samples=lambda rng: [dataclasses.replace(s, smooth=False) for s in _apart(rng)],
)
REMAINDER = _elementwise(
    "remainder",
    "x - y floor_divide(x, y), which has the sign of y",
    np.remainder,
    "remainder({0}, {1})",
    lambda g, y, x, a: (g, -g * floor_divide(x[0], x[1])),
    arity=2,
    kinds="if",
    samples=_apart,
)
ROUND = _elementwise(
    "round",
    "the nearest whole number, halves to the even one; derivative 0",
    np.rint,
    "nearest({0})",
    _nothing,
    dtypes="float",
    smooth=False,
)

# Bits, and truth values.


def _bits(arity: int) -> Samples:
    def make(rng: np.random.Generator) -> list[Sample]:
        pairs = [
            (np.array([True, True, False]), np.array([True, False, False])),
            (np.array([5, -3, 0]), np.array([3, 6, -1])),
            (np.array([[5, -3], [9, 1]], np.int32), np.array([3, 6], np.int32)),
            (np.array([True, False, True]), np.array([3, 6, -1])),
        ]
        good = [Sample(pair[:arity], smooth=False) for pair in pairs]
        return [*good, Sample((np.ones(2), np.ones(2))[:arity], error=OpTypeError)]

    return make


BITS_AND = _elementwise(
    "bitwise_and", "x & y", np.bitwise_and, "{0} & {1}", _nothing, arity=2, kinds="bi", samples=_bits(2)
)
BITS_OR = _elementwise(
    "bitwise_or", "x | y", np.bitwise_or, "{0} | {1}", _nothing, arity=2, kinds="bi", samples=_bits(2)
)
BITS_XOR = _elementwise(
    "bitwise_xor", "x ^ y", np.bitwise_xor, "{0} ^ {1}", _nothing, arity=2, kinds="bi", samples=_bits(2)
)
INVERT = _elementwise("invert", "~x", np.invert, "invert({0})", _nothing, kinds="bi", samples=_bits(1))

# Functions.

EXP = _elementwise("exp", "e to the x", np.exp, "exp({0})", lambda g, y, x, a: (g * y,), dtypes="float")
LOG = _elementwise(
    "log", "natural logarithm", np.log, "log({0})", lambda g, y, x, a: (g / x[0],), dtypes="float", low=0.3
)
TANH = _elementwise(
    "tanh",
    "hyperbolic tangent",
    np.tanh,
    "tanh({0})",
    lambda g, y, x, a: (g * (apply(SIGMOID_SLOPE, (x[0] * 2.0,)) * 4.0),),
    dtypes="float",
)
SQRT = _elementwise(
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


SIGMOID = _elementwise(
    "sigmoid",
    "1 / (1 + exp(-x))",
    _sigmoid,
    "sigmoid({0})",
    lambda g, y, x, a: (g * apply(SIGMOID_SLOPE, x),),
    dtypes="float",
)
SIGMOID_SLOPE: Op = _elementwise(
    "sigmoid_slope",
    "the derivative of sigmoid, e / (1 + e)^2 with e = exp(-|x|), where y (1 - y) would lose its digits",
    _sigmoid_slope,
    "sigmoid_slope({0})",
    lambda g, y, x, a: (-(g * (y * tanh(x[0] * 0.5))),),
    dtypes="float",
)
RELU = _elementwise(
    "relu",
    "max(x, 0); derivative 0 at 0",
    lambda x: np.maximum(x, x.dtype.type(0)),
    "relu({0})",
    lambda g, y, x, a: (where(less(0.0, x[0]), g, 0.0),),
    low=0.2,
    both_signs=True,
)
SOFTPLUS = _elementwise(
    "softplus",
    "log(1 + exp(x)), without overflow",
    _softplus,
    "softplus({0})",
    lambda g, y, x, a: (g * sigmoid(x[0]),),
    dtypes="float",
)
POWER = _elementwise(
    "power",
    "x to the y, both values; the derivative by y is 0 where x is 0",
    np.power,
    "power({0}, {1})",
    lambda g, y, x, a: _power_vjp(g, y, x),
    arity=2,
    dtypes="float",
    low=0.4,
    special=False,
)


def _power_vjp(g: Any, y: Any, x: tuple[Any, ...]) -> tuple[Any, Any]:
    """In double precision: y - 1 would be rounded, and x^y may be subnormal where its product with log(x) is not."""
    base, exponent = (cast(v, np.float64) for v in x)
    positive = less(0.0, base)
    by_exponent = where(positive, power(base, exponent) * log(where(positive, base, 1.0)), 0.0)
    return tuple(g * cast(d, g.dtype) for d in (exponent * power(base, exponent - 1.0), by_exponent))


def _infer_power_of(types: Sequence[Type], attrs: Attrs) -> Type:
    return types[0]


def _power_of_samples(rng: np.random.Generator) -> list[Sample]:
    x = rng.uniform(0.5, 2.0, (3, 2))
    edges = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 3.0])
    return [Sample((x,), (p,)) for p in (0.5, 2, 3, -1, 1, 0)] + [Sample((edges,), (2,), smooth=False)]


POWER_OF = declare(
    Op(
        "power_of",
        "x to a constant exponent, an attribute",
        _infer_power_of,
        lambda x, p: np.power(x, x.dtype.type(p)),
        lambda g, y, x, a: (None if a[0] == 0 else g * a[0] * power(x[0], a[0] - 1),),
        "elementwise",
        "power_of({0}, {a})",
        "keep",
        lead=_carried,
        samples=_power_of_samples,
    )
)

# Comparisons and choice.

LESS = _elementwise("less", "x < y", np.less, "{0} < {1}", _nothing, arity=2, result="bool", smooth=False)
LESS_EQUAL = _elementwise(
    "less_equal", "x <= y", np.less_equal, "{0} <= {1}", _nothing, arity=2, result="bool", smooth=False
)
EQUAL = _elementwise("equal", "x == y", np.equal, "{0} == {1}", _nothing, arity=2, result="bool", smooth=False)
NOT_EQUAL = _elementwise(
    "not_equal", "x != y", np.not_equal, "{0} != {1}", _nothing, arity=2, result="bool", smooth=False
)


def _where_samples(rng: np.random.Generator) -> list[Sample]:
    cond = np.array([True, False, True, False])
    edges = np.array([np.nan, np.inf, -np.inf, 1.0])
    return [
        Sample((cond, rng.normal(size=4), rng.normal(size=4))),
        Sample((cond, rng.normal(size=4), 0.5)),
        Sample((rng.random((3, 2)) > 0.5, rng.normal(size=(3, 2)), rng.normal(size=2))),
        Sample((cond, edges, edges[::-1].copy()), smooth=False),
        Sample((np.ones(3, bool), np.ones(4), np.ones(4)), error=OpTypeError),
    ]


WHERE = _elementwise(
    "where",
    "x where the condition holds, else y",
    np.where,
    "{1} if {0} else {2}",
    lambda g, y, x, a: (None, where(x[0], g, 0.0), where(x[0], 0.0, g)),
    arity=3,
    dtypes="where",
    samples=_where_samples,
)


# Conversions.


def _infer_cast(types: Sequence[Type], attrs: Attrs) -> Type:
    return tensor_type(attrs[0], types[0].shape)


def _cast_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample((rng.normal(size=(3, 2)),), (np.dtype(np.float64),)),
        Sample((np.arange(4),), (np.dtype(np.float64),), smooth=False),
        Sample((np.array([True, False]),), (np.dtype(np.float64),), smooth=False),
    ]


CAST = declare(
    Op(
        "cast",
        "convert to another dtype",
        _infer_cast,
        lambda x, dtype: x.astype(dtype),
        lambda g, y, x, a: (cast(g, x[0].dtype) if x[0].dtype.kind == "f" else None,),
        "elementwise",
        "cast({0}, {a})",
        "keep",
        lead=_carried,
        samples=_cast_samples,
    )
)
STOP_GRADIENT = _elementwise(
    "stop_gradient", "the same numbers, as a constant", np.array, "{0}", _nothing, dtypes="keep", smooth=False
)
ROUND_TO_HALF = _elementwise(
    "round_to_half",
    "the nearest number of float16, halves to even; the derivative is that of the number itself",
    lambda x: x.astype(np.float16).astype(x.dtype),
    "half({0})",
    lambda g, y, x, a: (g,),
    dtypes="float",
    smooth=False,
)


# Public functions.


def cast(x: Any, dtype: Any) -> Any:
    """Convert to another dtype; the value itself when it has that dtype already.

    float16 rounds to numbers of that dtype, which are held and computed in float32.
    """
    wanted = value_dtype("astype", dtype)
    if np.dtype(dtype) == HALF:
        return apply(ROUND_TO_HALF, (cast(x, wanted),))
    return x if getattr(x, "dtype", None) == wanted else apply(CAST, (x,), (wanted,))


def _unary(op: Op, doc: str) -> Callable[[TensorLike], Tensor]:
    def function(x: TensorLike) -> Tensor:
        return apply(op, (x,))

    function.__name__ = function.__qualname__ = op.name
    function.__doc__ = doc
    return function


exp = _unary(
    EXP,
    """Elementwise exponential of `x: f[...]`.

    >>> import autobatch as ab
    >>> float(ab.exp(ab.tensor(0.0)))
    1.0
    """,
)
log = _unary(
    LOG,
    """Elementwise natural logarithm of `x: f[...]`; -inf at 0, NaN below, as NumPy.

    >>> import autobatch as ab
    >>> float(ab.log(ab.tensor(1.0)))
    0.0
    """,
)
tanh: Callable[[TensorLike], Tensor] = _unary(
    TANH,
    """Elementwise hyperbolic tangent of `x: f[...]`.

    >>> import autobatch as ab
    >>> float(ab.tanh(ab.tensor(0.0)))
    0.0
    """,
)
sigmoid: Callable[[TensorLike], Tensor] = _unary(
    SIGMOID,
    """Elementwise logistic function 1 / (1 + exp(-x)) of `x: f[...]`.

    >>> import autobatch as ab
    >>> float(ab.sigmoid(ab.tensor(0.0)))
    0.5
    """,
)
relu = _unary(
    RELU,
    """Elementwise max(x, 0) of `x`; the derivative at 0 is 0.

    >>> import autobatch as ab
    >>> ab.relu(ab.tensor([-1.0, 2.0])).numpy()
    array([0., 2.], dtype=float32)
    """,
)
softplus = _unary(
    SOFTPLUS,
    """Elementwise log(1 + exp(x)) of `x: f[...]`, without overflow.

    >>> import autobatch as ab
    >>> float(ab.softplus(ab.tensor(1000.0)))
    1000.0
    """,
)
sqrt = _unary(
    SQRT,
    """Elementwise square root of `x: f[...]`; NaN below 0, as NumPy.

    >>> import autobatch as ab
    >>> float(ab.sqrt(ab.tensor(4.0)))
    2.0
    """,
)
sign: Callable[[TensorLike], Tensor] = _unary(SIGN, "Elementwise sign of `x`: -1, 0 or 1.")


def absolute(x: TensorLike) -> Tensor:
    """Elementwise |x|; the derivative at 0 is 0.

    >>> import autobatch as ab
    >>> ab.abs(ab.tensor([-1.0, 2.0])).numpy()
    array([1., 2.], dtype=float32)
    """
    return apply(ABS, (x,))


def maximum(x: TensorLike, y: TensorLike) -> Tensor:
    """Elementwise larger of two values; NaN wins, as NumPy; equal values share the derivative.

    >>> import autobatch as ab
    >>> ab.maximum(ab.tensor([1.0, 5.0]), 3.0).numpy()
    array([3., 5.], dtype=float32)
    """
    return apply(MAXIMUM, (x, y))


def minimum(x: TensorLike, y: TensorLike) -> Tensor:
    """Elementwise smaller of two values; NaN wins, as NumPy; equal values share the derivative.

    >>> import autobatch as ab
    >>> ab.minimum(ab.tensor([1.0, 5.0]), 3.0).numpy()
    array([1., 3.], dtype=float32)
    """
    return apply(MINIMUM, (x, y))


def power(x: TensorLike, y: TensorLike) -> Tensor:
    """x to the power y. A Python number as y is an attribute of the op; a value as y is an operand.

    Whole numbers to a whole Python number stay whole; a negative one raises, as in NumPy. All else is computed in
    floating numbers.

    >>> import autobatch as ab
    >>> ab.power(ab.tensor([1.0, 3.0]), 2).numpy()
    array([1., 9.], dtype=float32)
    """
    if isinstance(y, int | float | np.number | np.bool_):
        exponent = y.item() if isinstance(y, np.generic) else y
        exponent = int(exponent) if isinstance(exponent, bool) else exponent
        x = _base(as_value(x), exponent)
        return x if exponent == 1 and hasattr(x, "_record") else apply(POWER_OF, (x,), (exponent,))
    return apply(POWER, (x, y))


def floor_divide(x: Any, y: Any) -> Any:
    """Elementwise largest whole number not above x / y, as NumPy's `//`."""
    return apply(FLOOR_DIVIDE, (x, y))


def nearest(x: Any, digits: int | None = None) -> Any:
    """Elementwise nearest number of so many decimal digits, halves to even; derivative 0. Whole numbers stay."""
    if getattr(x, "dtype", default_dtype()).kind != "f" and (digits or 0) >= 0:
        return x
    if not digits:
        return apply(ROUND, (x,))
    scale = 10.0**digits
    return apply(ROUND, (x * scale,)) / scale


def _base(x: Any, exponent: float) -> Tensor:
    """The base in the dtype of the power."""
    if isinstance(exponent, int) and exponent.bit_length() > 63:
        raise op_error("power", "the exponent does not fit into 64 bits", got=f"one of {exponent.bit_length()} bits")
    if x.dtype.kind == "f":
        return x
    if isinstance(exponent, float):
        return cast(x, np.float64 if getattr(x, "_weak", False) else default_dtype())
    if exponent < 0:
        raise op_error(
            "power",
            "whole numbers to a negative whole power",
            got=f"{getattr(x, '_type', x.dtype)} ** {exponent}",
            repair=f"write the exponent as {float(exponent)}, or convert the base with .astype(float)",
        )
    return cast(x, INT64) if x.dtype.kind == "b" else x


def less(x: Any, y: Any) -> Any:
    """Elementwise x < y, a boolean value."""
    return apply(LESS, (x, y))


def less_equal(x: Any, y: Any) -> Any:
    """Elementwise x <= y, a boolean value."""
    return apply(LESS_EQUAL, (x, y))


def equal(x: Any, y: Any) -> Any:
    """Elementwise x == y, a boolean value."""
    return apply(EQUAL, (x, y))


def where(condition: TensorLike, x: TensorLike, y: TensorLike) -> Tensor:
    """Elementwise x where the condition holds, else y.

    >>> import autobatch as ab
    >>> t = ab.tensor([-1.0, 2.0])
    >>> ab.where(t > 0, t, 0.0).numpy()
    array([0., 2.], dtype=float32)
    """
    return apply(WHERE, (condition, x, y))


def float_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The floating dtype that an integer or boolean operand takes in a floating op."""
    return dtype if dtype.kind == "f" else default_dtype()
