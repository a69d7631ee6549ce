"""The namespace of the array API standard, 2025.12, as `t.__array_namespace__()` gives it: its functions record.

What is declared here gives the values, shapes and dtypes that the standard says. Functions are those of NumPy's table
under the standard's names; those whose shape depends on values (`nonzero`, `unique_values`, …) force them, which waits
inside `ab.map`, and raise where that loses a gradient. Not declared: complex and unsigned dtypes, shifts of bits,
assignment to elements. https://data-apis.org/array-api/2025.12/
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..backends.transfer import is_on_device
from ..base.types import Array, default_dtype
from ..ops import elementwise, matrices, sorting
from ..ops.value import Tensor
from . import creation, reductions
from .numpy_functions import TABLE
from .recorder import tensor

VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12", "2025.12")

__array_api_version__ = VERSIONS[-1]

bool = np.dtype(np.bool_)
int32, int64 = np.dtype(np.int32), np.dtype(np.int64)
float32, float64 = np.dtype(np.float32), np.dtype(np.float64)
e, inf, nan, newaxis, pi = np.e, np.inf, np.nan, None, np.pi

_OF_NUMPY = """
    abs acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_invert bitwise_or bitwise_xor ceil clip copysign
    cos cosh divide equal exp expm1 floor floor_divide greater greater_equal hypot isfinite isinf isnan less less_equal
    log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor maximum minimum multiply negative
    not_equal positive pow reciprocal remainder round sign signbit sin sinh sqrt square subtract tan tanh trunc where
    all any count_nonzero max min mean argmax argmin matmul matrix_transpose tensordot vecdot
    take take_along_axis
    broadcast_arrays broadcast_to concat expand_dims flip moveaxis permute_dims repeat reshape roll squeeze stack tile
    unstack ones_like zeros_like full_like meshgrid result_type
"""

_this = globals()
for _name in _OF_NUMPY.split():
    _this[_name] = TABLE[getattr(np, _name)]


# Dtypes.


def astype(x: Tensor, dtype: Any, /, *, copy: Any = True, device: Any = None) -> Tensor:
    """The value converted to another dtype."""
    return elementwise.cast(x, dtype)


def can_cast(from_: Any, to: Any, /) -> Any:
    """Whether a dtype, or that of a value, can become another of its kind without loss."""
    dtype = np.dtype(from_.dtype if isinstance(from_, Tensor) else from_)
    return dtype.kind == np.dtype(to).kind and np.can_cast(dtype, to)


def isdtype(dtype: Any, kind: Any) -> Any:
    """Whether a dtype is of a kind, such as "real floating"."""
    return np.isdtype(dtype, kind)


def finfo(type: Any, /) -> Any:
    """Limits of a floating dtype, or that of a value."""
    return np.finfo(getattr(type, "dtype", type))


def iinfo(type: Any, /) -> Any:
    """Limits of an integer dtype, or that of a value."""
    return np.iinfo(getattr(type, "dtype", type))


# Values that are made.


def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: Any = None) -> Tensor:
    """Numbers, arrays of any library and values as a value."""
    creation.check_device(device)
    return tensor(obj, dtype)


def from_dlpack(x: Any, /, *, device: Any = None, copy: Any = None) -> Tensor:
    """A copy of `x`, an array of any library that exchanges memory by DLPack, in its dtype; `device` is "cpu" or None.

    Raises `OpTypeError` for a dtype that no value has, ValueError with `copy=False`.

    >>> ab.from_dlpack(np.arange(3)).tolist()
    [0, 1, 2]
    """
    creation.check_device(device)
    if copy is False:
        raise ValueError("the numbers of an array are always copied")
    array = x if is_on_device(x) else np.from_dlpack(x)
    return tensor(array, array.dtype)


def arange(start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Numbers from `start` up to `stop`, or from 0 up to `start`."""
    creation.check_device(device)
    return creation.arange(start, stop, step, dtype)


def linspace(
    start: float, stop: float, /, num: int, *, dtype: Any = None, device: Any = None, endpoint: Any = True
) -> Tensor:
    """So many numbers at equal distances."""
    creation.check_device(device)
    return creation.linspace(start, stop, num, endpoint, dtype)


def eye(n_rows: int, n_cols: Any = None, /, *, k: int = 0, dtype: Any = None, device: Any = None) -> Tensor:
    """A matrix with ones on diagonal k."""
    creation.check_device(device)
    return creation.eye(n_rows, n_cols, k, dtype)


def zeros(shape: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A value of zeros."""
    creation.check_device(device)
    return creation.zeros(shape, dtype)


def ones(shape: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A value of ones."""
    creation.check_device(device)
    return creation.ones(shape, dtype)


def full(shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A value filled with one number."""
    creation.check_device(device)
    return creation.full(shape, fill_value, dtype)


def empty(shape: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A value of zeros: nothing is left undefined."""
    return zeros(shape, dtype=dtype, device=device)


def empty_like(x: Tensor, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A value of zeros of the same shape."""
    creation.check_device(device)
    return creation.zeros_like(x, dtype)


def tril(x: Tensor, /, *, k: int = 0) -> Tensor:
    """Matrices with zeros above diagonal k."""
    return matrices.tril(x, k)


def triu(x: Tensor, /, *, k: int = 0) -> Tensor:
    """Matrices with zeros below diagonal k."""
    return matrices.triu(x, k)


# Reductions with options of the standard.


def _of_dtype(fn: Callable[..., Any]) -> Callable[..., Any]:
    def function(x: Tensor, /, *, axis: Any = None, dtype: Any = None, keepdims: Any = False) -> Any:
        return fn(x if dtype is None else elementwise.cast(x, dtype), axis, keepdims)

    function.__name__, function.__doc__ = fn.__name__, fn.__doc__
    return function


sum, prod = _of_dtype(reductions.sum), _of_dtype(reductions.prod)


def var(x: Tensor, /, *, axis: Any = None, correction: float = 0.0, keepdims: Any = False) -> Tensor:
    """The variance, divided by the number of elements less `correction`."""
    return reductions.var(x, axis, keepdims, correction=correction)


def std(x: Tensor, /, *, axis: Any = None, correction: float = 0.0, keepdims: Any = False) -> Tensor:
    """The standard deviation, as `var`."""
    return reductions.std(x, axis, keepdims, correction=correction)


def cumulative_sum(x: Tensor, /, *, axis: Any = None, dtype: Any = None, include_initial: Any = False) -> Any:
    """Sums of the first elements along an axis."""
    x = x if dtype is None else elementwise.cast(x, dtype)
    return TABLE[np.cumulative_sum](x, axis=axis, include_initial=include_initial)


def cumulative_prod(x: Tensor, /, *, axis: Any = None, dtype: Any = None, include_initial: Any = False) -> Any:
    """Products of the first elements along an axis."""
    x = x if dtype is None else elementwise.cast(x, dtype)
    return TABLE[np.cumulative_prod](x, axis=axis, include_initial=include_initial)


def sort(x: Tensor, /, *, axis: int = -1, descending: Any = False, stable: Any = True) -> Tensor:
    """The elements along an axis in order."""
    return sorting.sort(x, axis, descending)


def argsort(x: Tensor, /, *, axis: int = -1, descending: Any = False, stable: Any = True) -> Tensor:
    """The places of the elements along an axis in order."""
    return sorting.argsort(x, axis, descending)


def diff(x: Tensor, /, *, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> Any:
    """Differences of neighbours along an axis, n times."""
    parts = [part for part in (prepend, x, append) if part is not None]
    return TABLE[np.diff](TABLE[np.concatenate](parts, axis) if len(parts) > 1 else x, n, axis)


# What needs values.


def _known(x: Any) -> Array:
    """The numbers of a value, computed now; it raises where a gradient would be lost."""
    return np.asarray(x)


def nonzero(x: Tensor, /) -> tuple[Tensor, ...]:
    """Where elements are not zero: indices of each axis. It forces the value, which has no gradient here."""
    return tuple(tensor(part) for part in np.nonzero(x.numpy()))


def searchsorted(x1: Tensor, x2: Tensor, /, *, side: Any = "left", sorter: Any = None) -> Tensor:
    """Places at which elements would keep a vector sorted. It forces both, which have no gradient here."""
    return tensor(np.searchsorted(x1.numpy(), x2.numpy(), side, None if sorter is None else sorter.numpy()))


def isin(x1: Any, x2: Any, /, *, invert: Any = False) -> Tensor:
    """Which elements are among others. It forces both, which have no gradient here."""
    first, second = (x.numpy() if isinstance(x, Tensor) else x for x in (x1, x2))
    return tensor(np.isin(first, second, invert=invert))


def unique_values(x: Tensor, /) -> Tensor:
    """The different elements. It forces the value, and raises where that would lose a gradient."""
    return tensor(np.unique_values(_known(x)), x.dtype)


def unique_counts(x: Tensor, /) -> tuple[Tensor, Tensor]:
    """The different elements, and how many there are of each; as `unique_values`."""
    found = np.unique_counts(_known(x))
    return tensor(found.values, x.dtype), tensor(found.counts)


# What the standard asks of values.


class _Info:
    """What the namespace can do."""

    def capabilities(self) -> dict[str, Any]:
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        return "cpu"

    def devices(self) -> list[str]:
        return ["cpu"]

    def default_dtypes(self, *, device: Any = None) -> dict[str, Any]:
        return {"real floating": default_dtype(), "integral": int64, "indexing": int64}

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, Any]:
        known = {"bool": bool, "int32": int32, "int64": int64, "float32": float32, "float64": float64}
        return {name: dtype for name, dtype in known.items() if kind is None or np.isdtype(dtype, kind)}


def __array_namespace_info__() -> _Info:
    """What the namespace can do: dtypes, devices, capabilities."""
    return _Info()


__all__ = [  # noqa: PLE0604 (names of the table, and of what is defined here)
    *_OF_NUMPY.split(),
    *(name for name, x in _this.items() if name[0] != "_" and getattr(x, "__module__", "") == __name__),
    *("bool", "e", "float32", "float64", "inf", "int32", "int64", "nan", "newaxis", "pi"),
]
