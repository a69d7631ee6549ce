"""Elementwise ops: arithmetic, comparison, choice, conversion. Their scalar expressions make the generated loops."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import OpTypeError, op_error
from ..base.types import HALF, Type, broadcast_shapes, default_dtype, tensor_type, value_dtype
from .declare import Attrs, Op, Sample, apply, declare, unchanged

if TYPE_CHECKING:
    from .value import Tensor, TensorLike

Samples = Callable[[np.random.Generator], list[Sample]]


_KINDS = {"b": "bool", "i": "i32, i64", "f": "f32, f64"}
_INSTEAD = {
    "neg": "~x is the opposite of a boolean; x.astype(int) converts them to integers",
    "sub": "a != b says where booleans differ; x.astype(int) converts them to integers",
}


def _infer(name: str, result: str, kinds: str = "bif") -> Callable[[Sequence[Type], Attrs], Type]:
    def infer(types: Sequence[Type], attrs: Attrs) -> Type:
        if types[-1].dtype.kind not in kinds:
            raise op_error(
                name,
                "not for operands of this dtype",
                expected=f"{', '.join(_KINDS[kind] for kind in kinds)}",
                got=", ".join(map(str, types)),
                repair=_INSTEAD.get(name, "x.astype(int) converts booleans")
                if types[-1].dtype.kind == "b"
                else "compare first, as x > 0, or convert by x.astype(int)",
            )
        shape = broadcast_shapes(*(t.shape for t in types))
        if shape is None:
            raise op_error(
                name,
                "shapes do not broadcast",
                expected="equal extents, or 1",
                got=", ".join(map(str, types)),
                repair="reshape one operand, or reduce the axis that differs",
            )
        return tensor_type(np.bool_ if result == "bool" else types[-1].dtype, shape)

    return infer


def carried(ndims: Sequence[int], shared: Sequence[bool], attrs: Attrs) -> tuple[bool, ...] | None:
    ndim = max(ndims)
    if ndim < 1 or any(flag and n == ndim for n, flag in zip(ndims, shared, strict=True)):
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


def elementwise(
    name: str,
    doc: str,
    reference: Callable[..., Any],
    scalar: str,
    vjp: Callable[..., tuple[Any, ...]],
    *,
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
    """Declare an op of as many operands as its scalar expression has. The many arguments are what tells ops apart."""
    arity = 1 + ("{1}" in scalar) + ("{2}" in scalar)
    samples = samples or _samples(arity, low, high, smooth, special, both_signs)
    infer = _infer(name, result, kinds)
    return declare(name, doc, infer, reference, vjp, "elementwise", scalar, dtypes, lead=carried, samples=samples)


def no_gradient(g: Any, y: Any, x: Any, attrs: Attrs) -> tuple[Any, ...]:
    """The VJP of an op without derivative."""
    return (None,) * len(x)


# Arithmetic.

ADD = elementwise("add", "x + y", np.add, "{0} + {1}", lambda g, y, x, a: (g, g))
SUB = elementwise("sub", "x - y", np.subtract, "{0} - {1}", lambda g, y, x, a: (g, -g), kinds="if")
MUL = elementwise("mul", "x y", np.multiply, "{0} * {1}", lambda g, y, x, a: (g * x[1], g * x[0]))
DIV = elementwise(
    "div", "x / y", np.true_divide, "{0} / {1}", lambda g, y, x, a: (g / x[1], -(g * y) / x[1]), dtypes="float", low=0.5
)
NEG = elementwise("neg", "-x", np.negative, "-{0}", lambda g, y, x, a: (-g,), kinds="if")
ABS = elementwise(
    "abs",
    "|x|; derivative 0 at 0",
    np.abs,
    "abs({0})",
    lambda g, y, x, a: (g * apply(SIGN, x),),
    low=0.2,
    both_signs=True,
)
SIGN: Op = elementwise("sign", "-1, 0 or 1", np.sign, "sign({0})", no_gradient, smooth=False)
MAXIMUM = elementwise(
    "maximum",
    "the larger of two; equal values share the derivative",
    np.maximum,
    "maximum({0}, {1})",
    lambda g, y, x, a: _of_larger(g, x[0], x[1]),
)
MINIMUM = elementwise(
    "minimum",
    "the smaller of two; equal values share the derivative",
    np.minimum,
    "minimum({0}, {1})",
    lambda g, y, x, a: _of_larger(g, x[1], x[0]),
)


def _of_larger(g: Any, a: Any, b: Any) -> tuple[Any, Any]:
    share = where(equal(a, b), 0.5, cast(b < a, g.dtype))
    return g * share, g * (1.0 - share)


def _apart(rng: np.random.Generator) -> list[Sample]:
    """Pairs whose quotients lie away from integers, where the derivative is not defined; edges; integers."""
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


FLOOR_DIVIDE: Op = elementwise(
    "floor_divide",
    "the largest integer not above x / y",
    np.floor_divide,
    "floor_divide({0}, {1})",
    no_gradient,
    kinds="if",
    samples=lambda rng: [dataclasses.replace(s, smooth=False) for s in _apart(rng)],
)
REMAINDER = elementwise(
    "remainder",
    "x - y floor_divide(x, y), which has the sign of y",
    np.remainder,
    "remainder({0}, {1})",
    lambda g, y, x, a: (g, -g * (x[0] // x[1])),
    kinds="if",
    samples=_apart,
)
ROUND = elementwise(
    "round",
    "the nearest integer, halves to the even one; derivative 0",
    np.rint,
    "nearest({0})",
    no_gradient,
    dtypes="float",
    smooth=False,
)

# Bits, and booleans.


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


BITS_AND = elementwise("bitwise_and", "x & y", np.bitwise_and, "{0} & {1}", no_gradient, kinds="bi", samples=_bits(2))
BITS_OR = elementwise("bitwise_or", "x | y", np.bitwise_or, "{0} | {1}", no_gradient, kinds="bi", samples=_bits(2))
BITS_XOR = elementwise("bitwise_xor", "x ^ y", np.bitwise_xor, "{0} ^ {1}", no_gradient, kinds="bi", samples=_bits(2))
INVERT = elementwise("invert", "~x", np.invert, "invert({0})", no_gradient, kinds="bi", samples=_bits(1))

# Comparisons and choice.

LESS = elementwise("less", "x < y", np.less, "{0} < {1}", no_gradient, result="bool", smooth=False)
LESS_EQUAL = elementwise("less_equal", "x <= y", np.less_equal, "{0} <= {1}", no_gradient, result="bool", smooth=False)
EQUAL = elementwise("equal", "x == y", np.equal, "{0} == {1}", no_gradient, result="bool", smooth=False)
NOT_EQUAL = elementwise("not_equal", "x != y", np.not_equal, "{0} != {1}", no_gradient, result="bool", smooth=False)


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


WHERE = elementwise(
    "where",
    "x where the condition holds, else y",
    np.where,
    "{1} if {0} else {2}",
    lambda g, y, x, a: (None, where(x[0], g, 0.0), where(x[0], 0.0, g)),
    dtypes="where",
    samples=_where_samples,
)


# Conversions.


CAST = declare(
    "cast",
    "convert to another dtype",
    lambda types, attrs: tensor_type(attrs[0], types[0].shape),
    lambda x, dtype: x.astype(dtype),
    lambda g, y, x, a: (cast(g, x[0].dtype) if x[0].dtype.kind == "f" else None,),
    "elementwise",
    "cast({0}, {a})",
    "keep",
    lead=carried,
    samples=lambda rng: [
        Sample((rng.normal(size=(3, 2)),), (np.dtype(np.float64),)),
        Sample((np.arange(4),), (np.dtype(np.float64),), smooth=False),
        Sample((np.array([True, False]),), (np.dtype(np.float64),), smooth=False),
    ],
)
STOP_GRADIENT = elementwise(
    "stop_gradient", "the same numbers, as a constant", np.array, "{0}", no_gradient, dtypes="keep", smooth=False
)
FLIP_GRADIENT = declare(
    "flip_gradient",
    "x; the derivative is -scale",
    lambda types, attrs: tensor_type(types[0].dtype, _infer("flip_gradient", "same")(types, attrs).shape),
    lambda x, scale: np.broadcast_arrays(x, scale)[0].copy(),
    lambda g, y, x, a: (-cast(x[1], g.dtype) * g, None),
    "elementwise",
    "{0}",
    "keep",
    lead=carried,
    samples=lambda rng: [Sample((rng.normal(size=shape), 0.7), smooth=False) for shape in ((3, 2), (4,), ())],
)
ROUND_TO_HALF = elementwise(
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
    return unchanged(x) if getattr(x, "dtype", None) == wanted else apply(CAST, (x,), (wanted,))


def absolute(x: TensorLike) -> Tensor:
    """Elementwise |x|; the derivative at 0 is 0.

    >>> ab.abs(ab.tensor([-1.0, 2.0])).numpy()
    array([1., 2.], dtype=float32)
    """
    return apply(ABS, (x,))


def maximum(x: TensorLike, y: TensorLike) -> Tensor:
    """Elementwise larger of `x` and `y`; NaN wins, as NumPy; equal values share the derivative.

    >>> ab.maximum(ab.tensor([1.0, 5.0]), 3.0).numpy()
    array([3., 5.], dtype=float32)
    """
    return apply(MAXIMUM, (x, y))


def minimum(x: TensorLike, y: TensorLike) -> Tensor:
    """Elementwise smaller of `x` and `y`; NaN wins, as NumPy; equal values share the derivative.

    >>> ab.minimum(ab.tensor([1.0, 5.0]), 3.0).numpy()
    array([1., 3.], dtype=float32)
    """
    return apply(MINIMUM, (x, y))


def nearest(x: Any, digits: int | None = None) -> Any:
    """Elementwise nearest number of so many decimal digits, halves to even; derivative 0. Integers stay."""
    if getattr(x, "dtype", default_dtype()).kind != "f" and (digits or 0) >= 0:
        return x
    if not digits:
        return apply(ROUND, (x,))
    scale = 10.0**digits
    return apply(ROUND, (x * scale,)) / scale


def equal(x: Any, y: Any) -> Any:
    """Elementwise x == y, a boolean value."""
    return apply(EQUAL, (x, y))


def where(condition: TensorLike, x: TensorLike, y: TensorLike) -> Tensor:
    """Elementwise x where the condition holds, else y.

    >>> t = ab.tensor([-1.0, 2.0])
    >>> ab.where(t > 0, t, 0.0).numpy()
    array([0., 2.], dtype=float32)
    """
    return apply(WHERE, (condition, x, y))


def float_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The floating dtype that an integer or boolean operand takes in a floating op."""
    return dtype if dtype.kind == "f" else default_dtype()
