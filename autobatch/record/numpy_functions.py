"""NumPy's functions on values: one table says which there are, with NumPy's argument names, and what each records.

NumPy dispatches a call by `__array_ufunc__` (np.tanh, np.add, …) or `__array_function__` (np.sum, np.stack, …). Entries
of the table are functions of the same arguments; what an entry does not name, as `out=`, raises unless it is None. What
is not in the table raises and names what is nearest to it.

    np.maximum(array, t)          →   ab.maximum(array, t)
    np.concatenate([t, u], 1)     →   ab.concat([t, u], 1)
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ..base.errors import op_error
from ..ops import elementwise, functions, linalg, matrices, movement, numbers, scan, shapes, special, trigonometry
from ..ops.declare import apply, as_value, lifted_all, unchanged
from ..ops.value import Tensor
from . import reductions
from .convolution import pad
from .creation import full, ones_like, zeros_like
from .numpy_compositions import COMPOSED

Function = Callable[..., Any]


def _operator(op: Any) -> Function:
    return lambda x1, x2: apply(op, (x1, x2))


def _swapped(op: Any) -> Function:
    return lambda x1, x2: apply(op, (x2, x1))


def _reduction(fn: Function) -> Function:
    def function(a: Any, axis: Any = None, keepdims: Any = False) -> Any:
        return fn(as_value(a), axis, bool(keepdims))

    return function


def _concatenate(arrays: Any, axis: Any = 0) -> Any:
    if axis is None:
        return movement.concat([movement.reshape(x, -1) for x in lifted_all(*arrays)])
    return movement.concat(arrays, axis)


def _where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None or y is None:
        what = "three arguments are needed: the places of true values are not known when it is recorded"
        raise op_error("where", what)
    return elementwise.where(numbers.truth(condition), x, y)


def _clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    return numbers.clip(a, min if a_min is None else a_min, max if a_max is None else a_max)


def _pad(array: Any, pad_width: Any, mode: str = "constant", constant_values: float = 0.0) -> Any:
    if mode != "constant":
        raise op_error("pad", "only with one number", got=f"mode={mode!r}", repair="ab.concat joins any values")
    return pad(array, pad_width, constant_values)


def _full_like(a: Any, fill_value: Any, dtype: Any = None) -> Any:
    return full(a.shape, fill_value, a.dtype if dtype is None else dtype)


def _of_numbers(fn: Function) -> Function:
    """A function whose result is a Python boolean: of the numbers, if no gradient is lost."""
    return lambda a, b, **options: fn(np.asarray(a), np.asarray(b), **options)


_SAME: tuple[Function, ...] = (
    *(trigonometry.sin, trigonometry.cos, trigonometry.tan, trigonometry.sinh, trigonometry.cosh),
    *(trigonometry.arcsin, trigonometry.arccos, trigonometry.arctan, trigonometry.arctan2, trigonometry.hypot),
    *(trigonometry.arcsinh, trigonometry.arccosh, trigonometry.arctanh),
    *(special.expm1, special.log1p, special.logaddexp),
    *(numbers.sign, numbers.square, numbers.reciprocal, numbers.floor, numbers.ceil, numbers.trunc),
    *(numbers.isnan, numbers.isinf, numbers.isfinite, numbers.nan_to_num),
    *(numbers.logical_and, numbers.logical_or, numbers.logical_xor, numbers.logical_not),
)
"""Functions that have the name and the arguments of NumPy's."""

FUNCTIONS: dict[Function, Function] = {
    # One element.
    np.add: _operator(elementwise.ADD),
    np.subtract: _operator(elementwise.SUB),
    np.multiply: _operator(elementwise.MUL),
    np.true_divide: _operator(elementwise.DIV),
    np.floor_divide: _operator(elementwise.FLOOR_DIVIDE),
    np.remainder: _operator(elementwise.REMAINDER),
    np.divmod: lambda x1, x2: (apply(elementwise.FLOOR_DIVIDE, (x1, x2)), apply(elementwise.REMAINDER, (x1, x2))),
    np.power: functions.power,
    np.maximum: elementwise.maximum,
    np.minimum: elementwise.minimum,
    np.less: _operator(elementwise.LESS),
    np.less_equal: _operator(elementwise.LESS_EQUAL),
    np.greater: _swapped(elementwise.LESS),
    np.greater_equal: _swapped(elementwise.LESS_EQUAL),
    np.equal: _operator(elementwise.EQUAL),
    np.not_equal: _operator(elementwise.NOT_EQUAL),
    np.bitwise_and: _operator(elementwise.BITS_AND),
    np.bitwise_or: _operator(elementwise.BITS_OR),
    np.bitwise_xor: _operator(elementwise.BITS_XOR),
    np.invert: lambda x: apply(elementwise.INVERT, (x,)),
    np.negative: lambda x: apply(elementwise.NEG, (x,)),
    np.positive: unchanged,
    np.absolute: elementwise.absolute,
    np.exp: functions.exp,
    np.log: functions.log,
    np.sqrt: functions.sqrt,
    np.tanh: functions.tanh,
    np.rint: elementwise.nearest,
    np.round: lambda a, decimals=0: elementwise.nearest(a, decimals),
    np.clip: _clip,
    np.where: _where,
    **{getattr(np, fn.__name__): fn for fn in _SAME},
    # Axes.
    np.sum: _reduction(reductions.sum),
    np.mean: _reduction(reductions.mean),
    np.prod: _reduction(reductions.prod),
    np.max: _reduction(reductions.max),
    np.amax: _reduction(reductions.max),
    np.min: _reduction(reductions.min),
    np.amin: _reduction(reductions.min),
    np.var: lambda a, axis=None, ddof=0, keepdims=False: reductions.var(as_value(a), axis, keepdims, correction=ddof),
    np.std: lambda a, axis=None, ddof=0, keepdims=False: reductions.std(as_value(a), axis, keepdims, correction=ddof),
    np.argmax: _reduction(reductions.argmax),
    np.argmin: _reduction(reductions.argmin),
    np.cumsum: lambda a, axis=None: scan.cumsum(as_value(a) if axis is not None else movement.reshape(a, -1), axis),
    np.matmul: linalg.matmul,
    np.outer: matrices.outer,
    np.any: _reduction(matrices.any),
    np.all: _reduction(matrices.all),
    np.count_nonzero: _reduction(matrices.count_nonzero),
    np.tril: lambda m, k=0: matrices.tril(m, k),
    np.triu: lambda m, k=0: matrices.triu(m, k),
    # Shapes.
    np.shape: lambda a: as_value(a).shape,
    np.ndim: lambda a: len(as_value(a).shape),
    np.size: lambda a, axis=None: as_value(a).size if axis is None else as_value(a).shape[axis],
    np.reshape: lambda a, shape: movement.reshape(a, shape),
    np.ravel: lambda a: movement.reshape(a, -1),
    np.transpose: lambda a, axes=None: movement.transpose(a, axes),
    np.matrix_transpose: lambda x: as_value(x).mT,
    np.squeeze: lambda a, axis=None: shapes.squeeze(a, axis),
    np.expand_dims: lambda a, axis: shapes.expand_dims(a, axis),
    np.roll: lambda a, shift, axis=None: shapes.roll(a, shift, axis),
    np.repeat: lambda a, repeats, axis=None: shapes.repeat(a, repeats, axis),
    np.broadcast_to: lambda array, shape: shapes.broadcast_to(array, shape),
    np.concatenate: _concatenate,
    np.stack: lambda arrays, axis=0: reductions.stack(arrays, axis),
    np.split: lambda ary, indices_or_sections, axis=0: movement.split(ary, indices_or_sections, axis),
    np.copy: lambda a: unchanged(a),
    np.pad: _pad,
    np.zeros_like: lambda a, dtype=None: zeros_like(a, dtype),
    np.ones_like: lambda a, dtype=None: ones_like(a, dtype),
    np.full_like: _full_like,
    np.flip: lambda m, axis=None: shapes.flip(m, axis),
    # Numbers.
    np.allclose: _of_numbers(np.allclose),
    np.array_equal: _of_numbers(np.array_equal),
}
"""NumPy's functions and what they record on values."""

_REDUCES: dict[Function, Function] = {np.add: np.sum, np.multiply: np.prod, np.maximum: np.max, np.minimum: np.min}
_DEFAULTS = {"casting": ("same_kind",), "order": ("K", "C", "A"), "subok": (True,), "where": (True,)}
"""What options may be that mean nothing to values, beside None."""

TABLE = {**FUNCTIONS, **COMPOSED}
"""All of NumPy's functions that record."""


@functools.cache
def _signature(fn: Function) -> inspect.Signature:
    return inspect.signature(TABLE[fn])


def array_ufunc(self: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
    """NumPy's protocol for its functions of one element."""
    if method == "reduce" and ufunc in _REDUCES:
        return array_function(self, _REDUCES[ufunc], (), inputs, {"axis": 0, **options})
    if method == "__call__" and not options and ufunc in TABLE:
        return TABLE[ufunc](*inputs)
    if method != "__call__":
        raise op_error(f"numpy.{ufunc.__name__}.{method}", "not on recorded values")
    return array_function(self, ufunc, (), inputs, options)


def array_function(self: Tensor, func: Function, types: Any, args: Any, options: dict[str, Any]) -> Any:
    """NumPy's protocol for all other functions."""
    name = _name(func)
    if func not in TABLE:
        known = {_name(fn).removeprefix("numpy."): fn for fn in TABLE}
        near = [f"numpy.{n}" for n in difflib.get_close_matches(name.removeprefix("numpy."), known, 3, cutoff=0.5)]
        repair = f"the nearest that are: {', '.join(near) or 'none'}; x.numpy() gives the numbers"
        raise op_error(name, "not on recorded values", repair=repair)
    signature = _signature(func)
    allowed = signature.parameters
    is_open = any(p.kind is p.VAR_KEYWORD for p in allowed.values())
    for option, value in options.items():
        is_default = value is None or value is np._NoValue or any(value is x for x in _DEFAULTS.get(option, ()))
        if option in allowed or is_open or is_default:
            continue
        got, repair = f"{option}={value!r}"[:80], _REPAIRS.get(option, "")
        raise op_error(name, f"{option}= is not there for recorded values", got=got, repair=repair)
    kept = {option: value for option, value in options.items() if option in allowed or is_open}
    try:
        arguments = signature.bind(*args, **{k: v for k, v in kept.items() if v is not np._NoValue})
    except TypeError as error:
        raise op_error(name, str(error)) from None
    return TABLE[func](*arguments.args, **arguments.kwargs)


def _name(fn: Function) -> str:
    return f"{getattr(fn, '__module__', None) or 'numpy'}.{fn.__name__}"


_REPAIRS = {
    "out": "a value never changes: write y = x + y, not y += x",
    "dtype": "convert the result by .astype(dtype)",
    "where": "choose by ab.where",
}


Tensor.__array_ufunc__ = array_ufunc  # type: ignore[method-assign]
Tensor.__array_function__ = array_function  # type: ignore[attr-defined]
