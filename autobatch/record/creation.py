"""Arrays become values: as `tensor` and `Parameter` take them, and constants that all examples share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..backends.transfer import is_on_device, to_host
from ..base.errors import AutobatchError, op_error
from ..base.types import HALF, Array, default_dtype, value_dtype
from ..ops.declare import as_value, lifter
from ..ops.movement import extents as extents_of
from ..ops.movement import whole
from ..ops.shapes import filled_like
from ..ops.value import ShapeLike, Tensor, TensorLike
from .shared import Constant, Shared

_LIMIT = 512
"""Most constants that are kept for `zeros`, `ones`, `full` and `eye`."""

_filled: dict[Any, Constant] = {}


def filled(name: str, shape: Any, value: float | int | bool, dtype: Any = None) -> Constant:
    """The one constant of this shape, number and dtype, that was asked for by this name."""
    extents = tuple(whole(name, n) for n in extents_of(shape))
    if not isinstance(value, int | float | np.generic) or np.asarray(value).dtype.kind not in "biuf":
        got = f"{type(value).__name__}{'' if value is None else f' {value!r}'[:60]}"
        raise op_error(name, "the filling is not a number", got=got, repair="ab.ones(shape) * x fills with a value")
    if dtype is not None:
        kind, value = value_dtype(name, dtype), as_array(value, dtype).item()
    else:
        kind = default_dtype() if isinstance(value, float | np.floating) else np.asarray(value).dtype
    return _kept((extents, kind, repr(value)), lambda: np.full(extents, value, kind))


def _kept(key: Any, make: Callable[[], Array]) -> Constant:
    """The one constant that has this key."""
    found = _filled.get(key)
    if found is None:
        if len(_filled) >= _LIMIT:
            _filled.clear()
        found = _filled[key] = Constant(make())
        found._age = 0  # it outlives all others
    return found


def zeros(shape: ShapeLike, dtype: DTypeLike | None = None) -> Tensor:
    """A shared constant of zeros, of `shape`; the default dtype unless given.

    Raises `OpTypeError` for a shape that is none.

    >>> ab.zeros(2).numpy()
    array([0., 0.], dtype=float32)
    """
    return filled("zeros", shape, 0.0, dtype)


def ones(shape: ShapeLike, dtype: DTypeLike | None = None) -> Tensor:
    """A shared constant of ones, of `shape`; the default dtype unless given.

    Raises `OpTypeError` for a shape that is none.

    >>> ab.ones((1, 2)).numpy()
    array([[1., 1.]], dtype=float32)
    """
    return filled("ones", shape, 1.0, dtype)


def full(shape: ShapeLike, value: float, dtype: DTypeLike | None = None) -> Tensor:
    """A shared constant of `shape` filled with `value`, of its dtype (floats: the default dtype) if none is given.

    Raises `OpTypeError` for what is no number.

    >>> ab.full(2, 3).numpy()
    array([3, 3])
    """
    return filled("full", shape, value, dtype)


def eye(n: int, m: int | None = None, k: int = 0, dtype: DTypeLike | None = None) -> Tensor:
    """A shared constant `dtype[n, m]` (m = n for None), 1 on diagonal `k`, counted upwards, 0 elsewhere.

    >>> ab.eye(2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    rows, columns, at = whole("eye", n), whole("eye", n if m is None else m), whole("eye", k, None)
    kind = value_dtype("eye", default_dtype() if dtype is None else dtype)
    return _kept(("eye", rows, columns, at, kind), lambda: np.eye(rows, columns, at, kind))


def zeros_like(x: TensorLike, dtype: DTypeLike | None = None) -> Tensor:
    """Zeros of the shape of `x`, and of its dtype unless given; no gradient flows to it.

    Raises `OpTypeError` for an `x` that is no array.

    >>> ab.zeros_like(ab.tensor([1.0, 2.0])).numpy()
    array([0., 0.], dtype=float32)
    """
    return _like("zeros_like", x, 0, dtype)


def ones_like(x: TensorLike, dtype: DTypeLike | None = None) -> Tensor:
    """Ones of the shape of `x`, and of its dtype unless given; no gradient flows to it.

    Raises `OpTypeError` for an `x` that is no array.

    >>> ab.ones_like(ab.tensor([1.0, 2.0])).numpy()
    array([1., 1.], dtype=float32)
    """
    return _like("ones_like", x, 1, dtype)


def _like(name: str, x: Any, value: int, dtype: Any) -> Tensor:
    """A number at the place of each element; of a value whose length may vary by an op, which leaves that out."""
    x = as_value(x)
    kind = x.dtype if dtype is None else value_dtype(name, dtype)
    if isinstance(x, Shared):
        return filled(name, x.shape, value, kind)
    return filled_like(x, value, kind)


def arange(start: float, stop: float | None = None, step: float | None = 1, dtype: DTypeLike | None = None) -> Tensor:
    """start, start + step, … below `stop`, as `numpy.arange`; from 0 to `start` where `stop` is None.

    A value of the example. Integers give i64, floats the default dtype. Raises `OpTypeError` for what is no number, and
    for a step of 0.

    >>> ab.arange(3).numpy(), ab.arange(1.0, 2.0, 0.5).numpy()
    (array([0, 1, 2]), array([1. , 1.5], dtype=float32))
    """
    first, by = _number("arange", "start", start), _number("arange", "step", 1 if step is None else step)
    if not by:
        raise op_error("arange", "the step is 0", got=str(step), repair="leave it out")
    first, end = (0, first) if stop is None else (first, _number("arange", "stop", stop))
    found: Tensor = lifter[0](np.arange(first, end, by), dtype)
    return found


def linspace(start: float, stop: float, num: int = 50, endpoint: bool = True, dtype: DTypeLike | None = None) -> Tensor:
    """`num` numbers at even distances from start to stop, as `numpy.linspace`; stop is left out without `endpoint`.

    Raises `OpTypeError` for what is no number.

    >>> ab.linspace(0.0, 1.0, 3).numpy()
    array([0. , 0.5, 1. ], dtype=float32)
    """
    first, last = _number("linspace", "start", start), _number("linspace", "stop", stop)
    found: Tensor = lifter[0](np.linspace(first, last, whole("linspace", num), endpoint=bool(endpoint)), dtype)
    return found


def _number(name: str, option: str, n: Any) -> Any:
    """A number that is known where it is written."""
    if isinstance(n, bool) or not isinstance(n, int | float | np.integer | np.floating):
        raise op_error(
            name,
            f"{option} is not a number",
            got=repr(n)[:60],
            repair="a value computed here is no length: pass int(x)",
        )
    return n


def check_device(device: Any) -> None:
    """Raise unless a device, as the array API has it, is the host."""
    if device not in (None, "cpu"):
        raise op_error("device", "values are made on the host", got=repr(device), repair="ab.set_backend chooses")


def constant(x: TensorLike, dtype: DTypeLike | None = None) -> Tensor:
    """A shared untrained array with the numbers and shape of `x`, copied now; one constant serves all examples.

    NumPy floats take the default dtype unless `dtype` is given. Raises `OpTypeError` for what is no array of numbers.

    >>> ab.constant([[1.0, 2.0]]).shape
    (1, 2)
    """
    return Constant(as_array(x, dtype))


def holds_tensors(x: Any) -> bool:
    """Whether there is a tensor in nested lists and tuples."""
    stack = [x]
    while stack:
        part = stack.pop()
        for kind in set(map(type, part)):
            if issubclass(kind, Tensor):
                return True
            if issubclass(kind, list | tuple):
                stack.extend(e for e in part if isinstance(e, list | tuple))
    return False


def as_array(x: Any, dtype: Any = None) -> Array:
    """A fresh C-contiguous array of a dtype that the library computes in; floats take the default dtype."""
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        what = "a masked array has elements without a number"
        got = f"{x.mask.sum()} of {x.size} masked"
        raise op_error("tensor", what, got=got, repair="x.filled(number) puts one in their place; ab.where chooses")
    if hasattr(x, "__dlpack__") and not isinstance(x, np.ndarray) and not is_on_device(x):
        with contextlib.suppress(BufferError):  # the array says why it gives no numbers when it is asked below
            x = np.from_dlpack(x)
    try:
        array = np.array(to_host(x) if is_on_device(x) else x, dtype=dtype, order="C")
    except ValueError as error:
        if isinstance(error, AutobatchError) or not isinstance(x, list | tuple):
            raise
        what = "nested lists are an array only if all rows have one length"
        raise op_error("tensor", what, got=repr(x)[:60], repair="make a tensor of each row") from None
    if dtype is not None and array.dtype == HALF:
        array = array.astype(value_dtype("tensor", HALF))
    if array.dtype.kind == "f" and dtype is None:
        array = array.astype(default_dtype(), copy=False)
    if array.dtype == np.uint64 and array.size and int(array.max()) >= 1 << 63:
        raise op_error(
            "tensor", "an integer does not fit into 64 bits", got=str(array.max()), repair="pass it as a float"
        )
    if array.dtype.kind in "iu" and array.dtype not in (np.int32, np.int64):
        array = array.astype(np.int64)
    if array.dtype.kind not in "fib" or (array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8)):
        what = f"no value holds dtype {array.dtype}"
        raise op_error(
            "tensor",
            what,
            expected="float32, float64, int32, int64 or bool",
            got=repr(x)[:60],
            repair="convert it first, as by np.asarray(x, float)",
        )
    return array


def as_double(x: Any) -> Array:
    """The same array with floating numbers as float64."""
    array = as_array(x)
    return as_array(x, np.float64) if array.dtype == np.float32 else array
