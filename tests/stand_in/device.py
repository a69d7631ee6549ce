"""A device that is the host in disguise: it counts what is asked of it, and has as much memory as a test allows."""

from __future__ import annotations

import ctypes
import weakref
from collections import Counter
from typing import Any

import numpy as np

from autobatch.backends.device import Matrices, Target

from . import kernels
from .arrays import DeviceArray

Host = np.ndarray[Any, Any]


def at(address: int, shape: Any, dtype: Any) -> Host:
    """The numbers at an address."""
    kind = np.dtype(dtype)
    n_bytes = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if not n_bytes:
        return np.zeros(shape, kind)
    return np.frombuffer((ctypes.c_char * n_bytes).from_address(address), kind).reshape(shape)


class StandIn:
    """See `autobatch.backends.device.Device`.

    counts: calls since the last `counts.clear()`: "empty", "array", "numpy", "upload", "launch", "gemm", …
    limit: bytes of memory.
    """

    name = "cupy"
    tf32 = False
    launched = 0

    def __init__(self, limit: int = 1 << 40) -> None:
        self.limit = limit
        self.used = 0
        self.counts: Counter[str] = Counter()
        self._fault_words = np.zeros(4, np.int64)
        self.faults = int(self._fault_words.ctypes.data)

    def empty(self, shape: Any, dtype: Any) -> DeviceArray:
        self.counts["empty"] += 1
        return self._allocated(shape, dtype)

    def _allocated(self, shape: Any, dtype: Any) -> DeviceArray:
        kind = np.dtype(dtype)
        n_bytes = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if self.used + n_bytes > self.limit:
            raise MemoryError(f"{n_bytes} bytes asked for, {self.limit - self.used} free")
        memory = np.full(n_bytes + 256, 0xA5, np.uint8)  # what lies there is nonsense
        start = -memory.ctypes.data % 256
        self.used += n_bytes
        weakref.finalize(memory, self._free, n_bytes)
        return DeviceArray(self, memory[start : start + n_bytes].view(kind).reshape(shape))

    def _free(self, n_bytes: int) -> None:
        self.used -= n_bytes

    def array(self, host: Host) -> DeviceArray:
        self.counts["array"] += 1
        made = self._allocated(host.shape, host.dtype)
        made._host[...] = host
        return made

    def mark(self) -> int:
        self.counts["mark"] += 1
        return self.counts["launch"]

    def numpy(self, array: DeviceArray, moment: int | None = None) -> Host:
        self.counts["numpy" if moment is None else "numpy of earlier"] += 1
        if not isinstance(array, DeviceArray):
            raise TypeError(f"{type(array).__name__} is no array of the device")
        return np.array(array._host)

    def upload(self, host: Host) -> DeviceArray:
        self.counts["upload"] += 1
        made = self._allocated(host.shape, host.dtype)
        made._host[...] = host
        return made

    def zero(self, address: int, n_bytes: int) -> None:
        self._start("zero")
        ctypes.memset(address, 0, n_bytes)

    def copy(self, target: int, source: int, n_bytes: int) -> None:
        self._start("copy")
        ctypes.memmove(target, source, n_bytes)

    def free_bytes(self) -> int:
        return self.limit - self.used

    def kernel(self, source: str, name: str) -> Any:
        return kernels.compiled(source, name)

    def launch(self, kernel: Any, blocks: int, threads: int, arguments: tuple[int, ...]) -> None:
        self._start("launch")
        kernels.launch(kernel, blocks, threads, arguments)

    def gemm(
        self, sizes: tuple[int, int, int], a: Matrices, b: Matrices, c: Target, dtype: Any, add: bool, count: int = 1
    ) -> None:
        self._start("gemm")
        kind, (n, k, p) = np.dtype(dtype), sizes
        for i in range(count if n and p else 0):
            left, right = (
                _matrix(at + i * step * kind.itemsize, *(shape[::-1] if flip else shape), lead, kind)
                for (at, lead, flip, step), shape in ((a, (n, k)), (b, (k, p)))
            )
            x, y = left.T if a[2] else left, right.T if b[2] else right
            result = _matrix(c[0] + i * c[2] * kind.itemsize, n, p, c[1], kind)
            with np.errstate(all="ignore"):
                result[...] = result + x @ y if add else x @ y

    def _start(self, verb: str) -> None:
        """Count something that is launched."""
        self.launched += 1
        self.counts[verb] += 1

    def argsort(self, address: int, n: int) -> DeviceArray:
        self.counts["argsort"] += 1
        order = np.argsort(at(address, (n,), np.int64), kind="stable")
        made = self._allocated(order.shape, order.dtype)
        made._host[...] = order
        return made

    def synchronize(self) -> None:
        self.counts["synchronize"] += 1


def _matrix(address: int, n: int, m: int, lead: int, kind: np.dtype[Any]) -> Host:
    """f[n, m] whose rows begin every `lead` numbers."""
    if n == 0 or m == 0:
        return np.zeros((n, m), kind)
    whole = at(address, ((n - 1) * lead + m,), kind)
    return np.lib.stride_tricks.as_strided(whole, (n, m), (lead * kind.itemsize, kind.itemsize), writeable=True)
