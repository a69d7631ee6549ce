"""NumPy's functions that are a few others: each with NumPy's argument names, written in ops.

`COMPOSED` adds to the table of `numpy_functions`. Arguments are values, arrays and numbers, at least one of them a
value.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..base.errors import op_error
from ..base.types import is_float
from ..ops import elementwise, functions, linalg, matrices, movement, numbers, shapes, special, trigonometry
from ..ops.declare import lifted, lifted_all, unchanged
from . import reductions
from .numpy_algebra import ALGEBRA
from .numpy_shapes import SHAPES, along, on_axis

Function = Callable[..., Any]

_LOG2, _LOG10, _DEGREE = math.log(2.0), math.log(10.0), math.pi / 180.0


def _floating(x: Any) -> Any:
    x = lifted(x)
    return x if is_float(x.dtype) else x * 1.0


# One element.


def _signbit(x: Any) -> Any:
    x = lifted(x)
    return (x < 0) | ((x == 0) & (1.0 / x < 0)) if is_float(x.dtype) else x < 0


def _copysign(x1: Any, x2: Any) -> Any:
    x1, x2 = lifted_all(x1, x2)
    size = elementwise.absolute(_floating(x1))
    return elementwise.where(_signbit(x2), -size, size)


def _cbrt(x: Any) -> Any:
    x = _floating(x)
    return numbers.sign(x) * functions.power(elementwise.absolute(x), 1.0 / 3.0)


def _fmod(x1: Any, x2: Any) -> Any:
    x1, x2 = lifted_all(x1, x2)
    rest = elementwise.absolute(x1) % elementwise.absolute(x2)
    return elementwise.where(x1 < 0, -rest, rest)


def _fmax(x1: Any, x2: Any) -> Any:
    x1, x2 = lifted_all(x1, x2)
    return elementwise.where(numbers.isnan(x2) | (x1 >= x2), x1, x2)


def _fmin(x1: Any, x2: Any) -> Any:
    x1, x2 = lifted_all(x1, x2)
    return elementwise.where(numbers.isnan(x2) | (x1 <= x2), x1, x2)


def _heaviside(x1: Any, x2: Any) -> Any:
    x1, x2 = lifted_all(x1, x2)
    x1 = _floating(x1)
    return elementwise.where(numbers.isnan(x1), x1, elementwise.where(x1 == 0, x2, (x1 > 0) * 1.0))


def _logaddexp2(x1: Any, x2: Any) -> Any:
    x1, x2 = lifted_all(x1, x2)
    return special.logaddexp(x1 * _LOG2, x2 * _LOG2) / _LOG2


def _modf(x: Any) -> tuple[Any, Any]:
    x = _floating(x)
    whole = numbers.trunc(x)
    return elementwise.where(numbers.isinf(x), 0.0, x - whole), whole


def _sinc(x: Any) -> Any:
    x = _floating(x)
    at = elementwise.where(x == 0, 1e-20, x) * math.pi
    return trigonometry.sin(at) / at


def _isclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    a, b = lifted_all(a, b)
    near = (elementwise.absolute(a - b) <= atol + rtol * elementwise.absolute(b)) & numbers.isfinite(b)
    near = near | (a == b)
    return near | (numbers.isnan(a) & numbers.isnan(b)) if equal_nan else near


def _select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Any:
    found = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        found = elementwise.where(condition, choice, found)
    return found


# Axes.


def _average(a: Any, axis: Any = None, weights: Any = None, *, keepdims: bool = False) -> Any:
    if weights is None:
        return reductions.mean(lifted(a), axis, keepdims)
    a, weights = lifted_all(a, weights)
    if weights.shape == a.shape:
        return reductions.sum(a * weights, axis, keepdims) / reductions.sum(weights, axis, keepdims)
    if not isinstance(axis, int) or weights.shape != (a.shape[axis],):
        raise op_error("average", "weights have another shape", expected=str(a.shape), got=str(weights.shape))
    return reductions.sum(a * on_axis(weights, axis, a.ndim), axis, keepdims) / reductions.sum(weights)


def _without_nan(fn: Function, instead: float) -> Function:
    """A reduction that leaves NaN out: a number stands for it that changes nothing."""

    def function(a: Any, axis: Any = None, keepdims: Any = False) -> Any:
        a = lifted(a)
        return fn(elementwise.where(numbers.isnan(a), instead, a), axis, bool(keepdims))

    return function


def _nanmean(a: Any, axis: Any = None, keepdims: Any = False) -> Any:
    a = lifted(a)
    count = reductions.sum(numbers.logical_not(numbers.isnan(a)) * 1.0, axis, bool(keepdims))
    return _without_nan(reductions.sum, 0.0)(a, axis, keepdims) / count


def _ptp(a: Any, axis: Any = None, keepdims: Any = False) -> Any:
    a = lifted(a)
    return reductions.max(a, axis, bool(keepdims)) - reductions.min(a, axis, bool(keepdims))


def _diff(a: Any, n: int = 1, axis: int = -1) -> Any:
    a = lifted(a)
    for _ in range(operator.index(n)):
        a = along(a, axis, 1, None) - along(a, axis, None, -1)
    return a if n else unchanged(a)


def _trapezoid(y: Any, x: Any = None, dx: float = 1.0, axis: int = -1) -> Any:
    y, x = (_floating(y), None) if x is None else lifted_all(y, x)
    both = along(y, axis, 1, None) + along(y, axis, None, -1)
    if x is not None:
        if x.ndim == 1 != y.ndim:
            x = on_axis(x, axis, y.ndim)
        dx = _diff(x, 1, axis if x.ndim == y.ndim else -1)
    return reductions.sum(both * dx * 0.5, axis)


# Products.


def _vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    x1, x2 = lifted_all(x1, x2)
    both = x1 * x2
    return elementwise.cast(reductions.sum(both, axis), both.dtype)


def _matvec(x1: Any, x2: Any) -> Any:
    x1, x2 = lifted_all(x1, x2)
    return linalg.matmul(x1, x2[..., None])[..., 0]


def _vecmat(x1: Any, x2: Any) -> Any:
    x1, x2 = lifted_all(x1, x2)
    return linalg.matmul(x1[..., None, :], x2)[..., 0, :]


def _inner(a: Any, b: Any) -> Any:
    a, b = lifted_all(a, b)
    return a * b if not a.ndim or not b.ndim else _tensordot(a, b, ([-1], [-1]))


def _vdot(a: Any, b: Any) -> Any:
    a, b = lifted_all(a, b)
    return linalg.matmul(movement.reshape(a, -1), movement.reshape(b, -1))


def _tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = lifted_all(a, b)
    if isinstance(axes, int):
        of_a, of_b = list(range(a.ndim - axes, a.ndim)), list(range(axes))
    else:
        of_a, of_b = ([x] if isinstance(x, int) else list(x) for x in axes)
        of_a, of_b = [k % a.ndim for k in of_a], [k % b.ndim for k in of_b]
    if [a.shape[k] for k in of_a] != [b.shape[k] for k in of_b]:
        raise op_error("tensordot", "extents differ", got=f"{a.shape}, {b.shape}, axes {of_a}, {of_b}")
    left, right = [k for k in range(a.ndim) if k not in of_a], [k for k in range(b.ndim) if k not in of_b]
    shape = *(a.shape[k] for k in left), *(b.shape[k] for k in right)
    inner = math.prod(a.shape[k] for k in of_a)
    a = movement.reshape(movement.transpose(a, (*left, *of_a)), (math.prod(a.shape[k] for k in left), inner))
    b = movement.reshape(movement.transpose(b, (*of_b, *right)), (inner, math.prod(b.shape[k] for k in right)))
    return movement.reshape(linalg.matmul(a, b), shape)


def _cross(a: Any, b: Any, axis: int = -1) -> Any:
    a, b = lifted_all(a, b)
    if a.shape[axis] != 3 or b.shape[axis] != 3:
        raise op_error("cross", "only of vectors of three numbers", got=f"{a.shape}, {b.shape}")
    x, y = ([along(v, axis, k, k + 1) for k in range(3)] for v in (a, b))
    return movement.concat([x[i] * y[j] - x[j] * y[i] for i, j in ((1, 2), (2, 0), (0, 1))], axis)


def _multi_dot(arrays: Sequence[Any]) -> Any:
    if len(arrays) < 2:
        raise op_error("multi_dot", "there are fewer than two arrays", got=str(len(arrays)))
    found = lifted(arrays[0])
    for x in arrays[1:]:
        found = linalg.matmul(found, x)
    return found


def _matrix_power(a: Any, n: int) -> Any:
    if operator.index(n) < 1:
        raise op_error("matrix_power", "only positive powers", got=f"n={n}")
    found = None
    a = lifted(a)
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise op_error("matrix_power", "not square", expected="f[..., n, n]", got=str(a.shape))
    if n == 1:
        return unchanged(a)
    while n:
        if n % 2:
            found = a if found is None else linalg.matmul(found, a)
        n //= 2
        a = linalg.matmul(a, a) if n else a
    return found


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    x = _floating(x)
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    if ord is None or (ord == "fro" and len(axes) == 2):
        return matrices.norm(x, 2, axes, keepdims)
    if len(axes) == 1 and not isinstance(ord, str):
        return matrices.norm(x, ord, axes, keepdims)
    if len(axes) == 2 and ord in (1, -1, np.inf, -np.inf):
        first, second = axes if abs(ord) == 1 else axes[::-1]
        reduce = reductions.max if ord > 0 else reductions.min
        found = reduce(reductions.sum(elementwise.absolute(x), first, True), second, True)
        return found if keepdims else shapes.squeeze(found, axes)
    raise op_error("norm", "not with this ord", got=f"ord={ord!r} of shape {x.shape}", repair="'fro', 1 and inf are")


def _vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    x = lifted(x)
    powers = list(range(x.shape[0] if N is None else N))
    columns = [functions.power(x, k) for k in (powers if increasing else powers[::-1])]
    return reductions.stack(columns, 1)


def _polyval(p: Any, x: Any) -> Any:
    p, x = lifted_all(p, x)
    found = x * 0
    for k in range(p.shape[0]):
        found = found * x + p[k]
    return found


# What depends on types alone.


def _like_arrays(fn: Function) -> Function:
    """A function of dtypes: values stand for arrays of no memory."""

    def function(*args: Any) -> Any:
        return fn(*(np.broadcast_to(np.zeros((), x.dtype), x.shape) if hasattr(x, "_record") else x for x in args))

    return function


COMPOSED: dict[Function, Function] = {
    **SHAPES,
    **ALGEBRA,
    np.conjugate: unchanged,
    np.fabs: lambda x: elementwise.absolute(_floating(x)),
    np.signbit: _signbit,
    np.copysign: _copysign,
    np.cbrt: _cbrt,
    np.exp2: lambda x: functions.exp(_floating(x) * _LOG2),
    np.log2: lambda x: functions.log(_floating(x)) / _LOG2,
    np.log10: lambda x: functions.log(_floating(x)) / _LOG10,
    np.logaddexp2: _logaddexp2,
    np.deg2rad: lambda x: _floating(x) * _DEGREE,
    np.radians: lambda x: _floating(x) * _DEGREE,
    np.rad2deg: lambda x: _floating(x) / _DEGREE,
    np.degrees: lambda x: _floating(x) / _DEGREE,
    np.fmod: _fmod,
    np.fmax: _fmax,
    np.fmin: _fmin,
    np.heaviside: _heaviside,
    np.modf: _modf,
    np.sinc: _sinc,
    np.fix: numbers.trunc,
    np.isclose: _isclose,
    np.isneginf: lambda x: _floating(x) == -math.inf,
    np.isposinf: lambda x: _floating(x) == math.inf,
    np.isreal: lambda x: elementwise.equal(lifted(x), lifted(x)) | True,
    np.iscomplex: lambda x: elementwise.equal(lifted(x), lifted(x)) & False,
    np.real: lambda val: unchanged(val),
    np.real_if_close: lambda a: unchanged(a),
    np.select: _select,
    np.around: lambda a, decimals=0: elementwise.nearest(a, decimals),
    np.average: _average,
    np.nansum: _without_nan(reductions.sum, 0.0),
    np.nanprod: _without_nan(reductions.prod, 1.0),
    np.nanmax: _without_nan(reductions.max, -math.inf),
    np.nanmin: _without_nan(reductions.min, math.inf),
    np.nanmean: _nanmean,
    np.ptp: _ptp,
    np.diff: _diff,
    np.trapezoid: _trapezoid,
    np.vecdot: _vecdot,
    np.matvec: _matvec,
    np.vecmat: _vecmat,
    np.inner: _inner,
    np.vdot: _vdot,
    np.tensordot: _tensordot,
    np.cross: _cross,
    np.linalg.cross: lambda x1, x2, /, *, axis=-1: _cross(x1, x2, axis),
    np.linalg.matmul: linalg.matmul,
    np.linalg.matrix_power: _matrix_power,
    np.linalg.matrix_transpose: lambda x: lifted(x).mT,
    np.linalg.multi_dot: _multi_dot,
    np.linalg.norm: _norm,
    np.linalg.matrix_norm: lambda x, /, *, keepdims=False, ord="fro": _norm(x, ord, (-2, -1), keepdims),
    np.linalg.vector_norm: lambda x, /, *, axis=None, keepdims=False, ord=2: matrices.norm(
        _floating(x), ord, axis, keepdims
    ),
    np.linalg.outer: matrices.outer,
    np.linalg.trace: lambda x, /, *, offset=0: matrices.trace(x, offset),
    np.linalg.tensordot: lambda x1, x2, /, *, axes=2: _tensordot(x1, x2, axes),
    np.linalg.vecdot: _vecdot,
    np.astype: lambda x, dtype, /: elementwise.cast(x, dtype),
    np.vander: _vander,
    np.polyval: _polyval,
    np.result_type: _like_arrays(np.result_type),
    np.common_type: _like_arrays(np.common_type),
    np.iscomplexobj: lambda x: False,
    np.isrealobj: lambda x: True,
}
