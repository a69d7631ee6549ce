"""A device that is the host in disguise: it counts what is asked of it, and has as much memory as a test allows."""

from __future__ import annotations

import ctypes
import weakref
from collections import Counter
from typing import Any

import numpy as np

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

    counts: calls since the last `counts.clear()`: "empty", "array", "numpy", "upload", "launch", "product", …
    limit: bytes of memory.
    """

    name = "cupy"
    tf32 = False
    launched = 0

    def __init__(self, limit: int = 1 << 40) -> None:
        self.limit = limit
        self.used = 0
        self.counts: Counter[str] = Counter()
        self._fault_words = np.zeros(3, np.int64)
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

    def product(
        self,
        n: int,
        k: int,
        p: int,
        a: int,
        lead_a: int,
        flip_a: bool,
        b: int,
        lead_b: int,
        flip_b: bool,
        c: int,
        lead_c: int,
        dtype: Any,
        add: bool,
    ) -> None:
        self._start("product")
        self._product(n, k, p, a, lead_a, flip_a, b, lead_b, flip_b, c, lead_c, np.dtype(dtype), add)

    def products(
        self,
        count: int,
        n: int,
        k: int,
        p: int,
        a: int,
        lead_a: int,
        flip_a: bool,
        step_a: int,
        b: int,
        lead_b: int,
        flip_b: bool,
        step_b: int,
        c: int,
        lead_c: int,
        step_c: int,
        dtype: Any,
    ) -> None:
        self._start("product")
        kind = np.dtype(dtype)
        for i in range(count):
            here = (address + i * step * kind.itemsize for address, step in ((a, step_a), (b, step_b), (c, step_c)))
            at_a, at_b, at_c = here
            self._product(n, k, p, at_a, lead_a, flip_a, at_b, lead_b, flip_b, at_c, lead_c, kind, False)

    def _product(
        self, n: int, k: int, p: int, a: int, lead_a: int, flip_a: bool, b: int, lead_b: int, flip_b: bool, c: int,
        lead_c: int, kind: np.dtype[Any], add: bool,
    ) -> None:  # fmt: skip
        if n == 0 or p == 0:
            return
        left = _matrix(a, k, n, lead_a, kind).T if flip_a else _matrix(a, n, k, lead_a, kind)
        right = _matrix(b, p, k, lead_b, kind).T if flip_b else _matrix(b, k, p, lead_b, kind)
        result = _matrix(c, n, p, lead_c, kind)
        with np.errstate(all="ignore"):
            result[...] = result + left @ right if add else left @ right

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
