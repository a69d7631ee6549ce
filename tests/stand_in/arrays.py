"""Arrays that stand in for a GPU's: the numbers lie on the host, and nothing turns them into NumPy arrays silently.

What CuPy refuses is refused here: `np.asarray`, NumPy's arrays as operands, writing host arrays into slices. What it
takes is taken: Python's and NumPy's numbers, its own arrays, NumPy's functions by the dispatch protocols.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .device import StandIn


class Pointer:
    """What stands for `cupy.cuda.MemoryPointer`."""

    __slots__ = ("ptr",)

    def __init__(self, ptr: int) -> None:
        self.ptr = ptr


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of a stand-in device."""

    __slots__ = ("_device", "_host")

    def __init__(self, device: StandIn, host: np.ndarray[Any, Any]) -> None:
        self._device = device
        self._host = host

    @property
    def shape(self) -> tuple[int, ...]:
        return self._host.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._host.dtype

    @property
    def ndim(self) -> int:
        return self._host.ndim

    @property
    def size(self) -> int:
        return self._host.size

    @property
    def flags(self) -> Any:
        return self._host.flags

    @property
    def itemsize(self) -> int:
        return self._host.itemsize

    @property
    def nbytes(self) -> int:
        return self._host.nbytes

    @property
    def data(self) -> Pointer:
        return Pointer(self._host.ctypes.data)

    @property
    def T(self) -> DeviceArray:
        return self._view(self._host.T)

    def _view(self, host: np.ndarray[Any, Any]) -> DeviceArray:
        return DeviceArray(self._device, host)

    def _made(self, host: Any) -> DeviceArray:
        """A result that takes memory of its own."""
        made: DeviceArray = self._device.empty(np.shape(host), np.asarray(host).dtype)
        made._host[...] = host
        return made

    def get(self) -> np.ndarray[Any, Any]:
        """A copy on the host."""
        return self._device.numpy(self)

    def item(self) -> Any:
        return self.get().item()

    def copy(self) -> DeviceArray:
        return self._made(self._host)

    def astype(self, dtype: Any, copy: bool = True) -> DeviceArray:
        return self if not copy and self.dtype == dtype else self._made(self._host.astype(dtype))

    def reshape(self, *shape: Any) -> DeviceArray:
        found = self._host.reshape(*shape)
        return self._view(found) if np.shares_memory(found, self._host) or not found.size else self._made(found)

    def transpose(self, *axes: Any) -> DeviceArray:
        return self._view(self._host.transpose(*axes))

    def swapaxes(self, a: int, b: int) -> DeviceArray:
        return self._view(self._host.swapaxes(a, b))

    def view(self, dtype: Any) -> DeviceArray:
        return self._view(self._host.view(dtype))

    def all(self) -> DeviceArray:
        return self._made(self._host.all())

    def any(self) -> DeviceArray:
        return self._made(self._host.any())

    def sum(self, *args: Any, **kwargs: Any) -> DeviceArray:
        return self._made(self._host.sum(*args, **kwargs))

    def mean(self, *args: Any, **kwargs: Any) -> DeviceArray:
        return self._made(self._host.mean(*args, **kwargs))

    def max(self, *args: Any, **kwargs: Any) -> DeviceArray:
        return self._made(self._host.max(*args, **kwargs))

    def ravel(self) -> DeviceArray:
        return self.reshape(-1)

    def tolist(self) -> Any:
        return self.get().tolist()

    def __len__(self) -> int:
        return len(self._host)

    def __bool__(self) -> bool:
        return bool(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __getitem__(self, where: Any) -> DeviceArray:
        if isinstance(where, int):
            where = (where, ...)  # a view, also where it has no axis
        found = self._host[_index(where)]
        return self._view(found) if np.shares_memory(found, self._host) or not found.size else self._made(found)

    def __setitem__(self, where: Any, value: Any) -> None:
        self._host[_index(where)] = _operand(value)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError("implicit conversion of a device array to a NumPy array; use .get()")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if "out" in kwargs:
            kwargs["out"] = tuple(_operand(x) for x in kwargs["out"])
        operands = [_operand(x) for x in inputs]
        result = getattr(ufunc, method)(*operands, **kwargs)
        if method == "at":
            return None
        if "out" in kwargs:
            return inputs[-1] if len(inputs) > ufunc.nin else self._view(result)
        return tuple(map(self._made, result)) if isinstance(result, tuple) else self._made(result)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        result = function(*_operands(args), **_operands(kwargs))
        return self._made(result)

    def __repr__(self) -> str:
        return f"DeviceArray({self._host!r})"


def _operand(x: Any) -> Any:
    """What lies under an operand that a GPU takes."""
    if isinstance(x, DeviceArray):
        return x._host
    if isinstance(x, np.ndarray):
        raise TypeError("a NumPy array meets a device array: unsupported type numpy.ndarray")
    return x


def _operands(x: Any) -> Any:
    if isinstance(x, list | tuple):
        return type(x)(map(_operands, x))
    if isinstance(x, dict):
        return {k: _operands(v) for k, v in x.items()}
    return _operand(x)


def _index(where: Any) -> Any:
    return tuple(map(_operand, where)) if isinstance(where, tuple) else _operand(where)
