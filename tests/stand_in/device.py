"""A device that is the host in disguise: it counts what is asked of it, and has as much memory as a test allows."""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from autobatch.backends.device import Call
from autobatch.backends.steady import Steady

from .arrays import DeviceArray

Host = np.ndarray[Any, Any]


def at(address: int, shape: Any, dtype: Any) -> Host:
    """The numbers at an address."""
    kind = np.dtype(dtype)
    n_bytes = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if not n_bytes:
        return np.zeros(shape, kind)
    return np.frombuffer((ctypes.c_char * n_bytes).from_address(address), kind).reshape(shape)


@dataclass(frozen=True, eq=False)
class Kernel:
    """A kernel of the device; it equals itself alone."""

    start: Any


class _Capture(threading.local):
    """The calls that a thread captures, if it does."""

    calls: list[Call] | None = None


class StandIn:
    """See `autobatch.backends.device.Device`.

    counts: calls since the last `counts.clear()`: "empty", "array", "numpy", "upload", "launch", "product", …
    limit: bytes of memory.

    While a graph is captured the calls of a launch loop are noted and nothing else is allowed, as with CUDA.
    """

    name = "cupy"
    tf32 = False
    groups = False
    launched = 0
    setting = 0
    persistent = False
    blocks_at_once = 40
    shared_bytes = 227 * 1024

    def __init__(self, limit: int = 1 << 40) -> None:
        self.limit = limit
        self.used = 0
        self.counts: Counter[str] = Counter()
        self._kernels: dict[tuple[str, str], Kernel] = {}
        self._steady: Steady | None = None
        self._capture = _Capture()
        self._fault_words = np.zeros(3, np.int64)
        self.faults = int(self._fault_words.ctypes.data)

    @property
    def graphs(self) -> bool:
        return self._steady is not None

    @graphs.setter
    def graphs(self, is_on: bool) -> None:
        self._steady = (self._steady or Steady(self._block)) if is_on else None

    def _count(self, name: str) -> None:
        if self._capture.calls is not None:
            raise RuntimeError(f"{name} is not allowed while a graph is captured")
        self.counts[name] += 1

    def empty(self, shape: Any, dtype: Any) -> DeviceArray:
        self._count("empty")
        return self._given(shape, dtype)

    def _given(self, shape: Any, dtype: Any) -> DeviceArray:
        kind = np.dtype(dtype)
        n_bytes = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        lease = self._steady.take(n_bytes, 0) if self._steady is not None and n_bytes else None
        if lease is None:
            return self._allocated(shape, dtype)
        buffer = (ctypes.c_char * n_bytes).from_address(lease.address)
        buffer.lease = lease  # type: ignore[attr-defined]
        host = np.frombuffer(buffer, np.uint8)
        host[:] = 0xA5
        return DeviceArray(self, host.view(kind).reshape(shape))

    def _block(self, n_bytes: int) -> tuple[int, Any]:
        block = self._allocated((n_bytes,), np.uint8)
        return int(block.data.ptr), block

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
        self._count("array")
        made = self._allocated(host.shape, host.dtype)
        made._host[...] = host
        return made

    def mark(self) -> int:
        self._count("mark")
        return self.counts["launch"]

    def numpy(self, array: DeviceArray, moment: int | None = None) -> Host:
        self._count("numpy" if moment is None else "numpy of earlier")
        if not isinstance(array, DeviceArray):
            raise TypeError(f"{type(array).__name__} is no array of the device")
        return np.array(array._host)

    def upload(self, host: Host) -> DeviceArray:
        self._count("upload")
        made = self._given(host.shape, host.dtype)
        made._host[...] = host
        return made

    def zero(self, address: int, n_bytes: int) -> None:
        if self._noted("zero", address, n_bytes):
            return
        ctypes.memset(address, 0, n_bytes)

    def copy(self, target: int, source: int, n_bytes: int) -> None:
        if self._noted("copy", target, source, n_bytes):
            return
        ctypes.memmove(target, source, n_bytes)

    def free_bytes(self) -> int:
        return self.limit - self.used

    def kernel(self, source: str, name: str) -> Any:
        from .kernels import compiled

        found = self._kernels.get((source, name))
        if found is None:
            found = self._kernels[source, name] = Kernel(compiled(source, name))
        return found

    def launch(self, kernel: Any, blocks: int, threads: int, arguments: tuple[int, ...]) -> None:
        from .kernels import launch

        if self._noted("launch", kernel, blocks, threads, arguments):
            return
        launch(kernel.start, blocks, threads, arguments)

    def resident_kernel(self, source: str, name: str) -> Any:
        from .kernels import compiled_resident

        found = self._kernels.get((source, name))
        if found is None:
            found = self._kernels[source, name] = Kernel(compiled_resident(source, name))
        return found

    def launch_resident(self, kernel: Any, blocks: int, threads: int, shared_bytes: int, table: int) -> None:
        from .kernels import launch_resident

        assert 0 < blocks <= self.blocks_at_once and shared_bytes <= self.shared_bytes
        if self._noted("launch_resident", kernel, blocks, threads, shared_bytes, table):
            return
        launch_resident(kernel.start, blocks, threads, shared_bytes, table)

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
        if self._noted("product", n, k, p, a, lead_a, flip_a, b, lead_b, flip_b, c, lead_c, dtype, add):
            return
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
        one, other = (a, lead_a, flip_a, step_a), (b, lead_b, flip_b, step_b)
        if self._noted("products", count, n, k, p, *one, *other, c, lead_c, step_c, dtype):
            return
        kind = np.dtype(dtype)
        for i in range(count):
            here = (address + i * step * kind.itemsize for address, step in ((a, step_a), (b, step_b), (c, step_c)))
            at_a, at_b, at_c = here
            self._product(n, k, p, at_a, lead_a, flip_a, at_b, lead_b, flip_b, at_c, lead_c, kind, False)

    def products_at(
        self, count: int, n: int, k: int, p: int, a: int, lead_a: int, flip_a: bool, b: int, lead_b: int,
        flip_b: bool, c: int, lead_c: int, dtype: Any, add: bool,
    ) -> None:  # fmt: skip
        arguments = count, n, k, p, a, lead_a, flip_a, b, lead_b, flip_b, c, lead_c, dtype, add
        if self._noted("products_at", *arguments):
            return
        for x, y, z in zip(*(at(table, (count,), np.int64).tolist() for table in (a, b, c)), strict=True):
            self._product(n, k, p, x, lead_a, flip_a, y, lead_b, flip_b, z, lead_c, np.dtype(dtype), add)

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

    def _noted(self, verb: str, *arguments: Any) -> bool:
        """Count a call of a launch loop; while a graph is captured it is noted, and True returned."""
        if self._capture.calls is None:
            self.launched += 1
            self.counts["product" if verb.startswith("product") else verb] += 1
            return False
        self._capture.calls.append((verb, arguments))
        return True

    def capture(self, calls: tuple[Call, ...]) -> tuple[Call, ...]:
        self._count("capture")
        self._capture.calls = []
        try:
            for verb, arguments in calls:
                getattr(self, verb)(*arguments)
            return tuple(self._capture.calls)
        finally:
            self._capture.calls = None

    def play(self, graph: tuple[Call, ...]) -> None:
        self.counts["play"] += 1
        launched, counts = self.launched, self.counts
        self.counts = Counter()
        for verb, arguments in graph:
            getattr(self, verb)(*arguments)
        self.launched, self.counts = launched + 1, counts

    def argsort(self, address: int, n: int) -> DeviceArray:
        self._count("argsort")
        order = np.argsort(at(address, (n,), np.int64), kind="stable")
        made = self._allocated(order.shape, order.dtype)
        made._host[...] = order
        return made

    def synchronize(self) -> None:
        self._count("synchronize")


def _matrix(address: int, n: int, m: int, lead: int, kind: np.dtype[Any]) -> Host:
    """f[n, m] whose rows begin every `lead` numbers."""
    if n == 0 or m == 0:
        return np.zeros((n, m), kind)
    whole = at(address, ((n - 1) * lead + m,), kind)
    return np.lib.stride_tricks.as_strided(whole, (n, m), (lead * kind.itemsize, kind.itemsize), writeable=True)
