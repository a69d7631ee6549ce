"""Memory that is reused from step to step.

A run leases its pools and residuals from the arena of its thread; they return when the run is freed. Fresh memory
costs a page fault for every 4 KB on its first use, several milliseconds for a training step. Gradients outlive the run
that they come from; they are lent, and return when they are no longer referenced.

Sizes are rounded up to eighths of a power of two, so that minibatches of similar size share buffers. The arena holds
free buffers of at most as many bytes as were ever leased at once.
"""

from __future__ import annotations

import bisect
import collections
import math
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...base.types import Array

_SMALLEST = 4096

_PLAIN = 1 << 16
"""Most bytes of an array that is no part of the arena: to allocate it anew costs less than to keep account of it."""

_SMALL = 1 << 18
"""Most bytes of arrays that are leased as one buffer: small ones cost more to take than to fill."""

_LINE = 64
"""Bytes of a line of the processor's cache; arrays in one buffer begin at one."""


class _Holder(weakref.ref[Any]):
    """Who holds buffers, and which."""

    __slots__ = ("buffers",)
    buffers: list[Array]


class Arena:
    """Free buffers by size. Only the thread that owns it takes; leases that end in any thread give back.

    There is no lock, which Ctrl-C could leave held: returned buffers wait in `returned`, whose ends are atomic, and a
    buffer enters or leaves the free list in one operation. No Python code runs when a holder of buffers is freed: an
    exception that a signal handler raises in a finaliser is lost.
    """

    def __init__(self) -> None:
        self.free: list[tuple[int, int, Array]] = []  # (bytes, unique number, buffer), ascending
        self.free_bytes = 0
        self.leased_bytes = 0
        self.peak_bytes = 0
        self.lent: dict[int, _Holder] = {}
        self.returned: collections.deque[_Holder] = collections.deque()

    def take(self, n_bytes: int) -> Array:
        """A buffer of at least so many bytes, its content undefined."""
        self._take_back()
        wanted = _rounded(n_bytes)
        at = bisect.bisect_left(self.free, (wanted,))
        if at < len(self.free) and self.free[at][0] <= wanted + wanted // 2:
            buffer = self.free.pop(at)[2]
            self.free_bytes -= buffer.size
        else:
            buffer = np.empty(wanted, np.uint8)
        self.leased_bytes += buffer.size
        self.peak_bytes = max(self.peak_bytes, self.leased_bytes)
        return buffer

    @property
    def in_use(self) -> int:
        """Bytes that are leased or lent now."""
        self._take_back()
        return self.leased_bytes

    def clear(self) -> None:
        """Release free buffers, and count the peak from now on."""
        self._take_back()
        self.free, self.free_bytes, self.peak_bytes = [], 0, self.leased_bytes

    def lend(self, holder: Any, buffers: list[Array]) -> None:
        """Return the buffers in this list when the holder is freed, in any thread and at any moment."""
        reference = _Holder(holder, self.returned.append)
        reference.buffers = buffers
        self.lent[id(reference)] = reference

    def _take_back(self) -> None:
        while self.returned:
            reference = self.returned.popleft()
            del self.lent[id(reference)]
            for buffer in reference.buffers:
                self._keep(buffer)

    def _keep(self, buffer: Array) -> None:
        self.leased_bytes -= buffer.size
        if self.free_bytes + buffer.size <= self.peak_bytes:
            bisect.insort(self.free, (buffer.size, id(buffer), buffer))
            self.free_bytes += buffer.size


def _rounded(n_bytes: int) -> int:
    n_bytes = max(n_bytes, _SMALLEST)
    step = 1 << max(n_bytes.bit_length() - 4, 0)
    return -(-n_bytes // step) * step


class Loan:
    """Memory of an array that outlives its run: it returns to the arena when the last view of the array is freed."""

    __slots__ = ("__array_interface__", "__weakref__")

    def __init__(self, arena: Arena, buffer: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": dtype.str,
            "data": (buffer.ctypes.data, False),
        }
        arena.lend(self, [buffer])


def lend(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array with undefined content, whose `base` is a `Loan`."""
    kind, own = np.dtype(dtype), arena()
    return np.asarray(Loan(own, own.take(math.prod(shape) * kind.itemsize), shape, kind))


class _Threads(threading.local):
    def __init__(self) -> None:
        self.arena = Arena()


_threads = _Threads()


def arena() -> Arena:
    """The arena of this thread."""
    return _threads.arena


class Lease:
    """Arrays of one run. They return to the arena when the lease is freed; there must be no views then."""

    __slots__ = ("__weakref__", "arena", "buffers")

    def __init__(self) -> None:
        self.buffers: list[Array] = []
        self.arena = arena()

    @property
    def n_bytes(self) -> int:
        """What is leased of the arena."""
        return sum(buffer.size for buffer in self.buffers)

    def several(self, shapes: Sequence[tuple[tuple[int, ...], Any]]) -> list[Array]:
        """Arrays of these shapes and dtypes with undefined content."""
        n_bytes = [math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in shapes]
        total = sum(n_bytes) + _LINE * len(shapes)
        if total > _SMALL:
            return [self.empty(shape, dtype) for shape, dtype in shapes]
        buffer, at, made = self.empty((total,), np.uint8), 0, []
        for (shape, dtype), n in zip(shapes, n_bytes, strict=True):
            made.append(np.ndarray(shape, dtype, buffer, at))
            at += -(-n // _LINE) * _LINE
        return made

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array with undefined content."""
        kind = np.dtype(dtype)
        n_bytes = math.prod(shape) * kind.itemsize
        if n_bytes <= _PLAIN:
            return np.empty(shape, kind)
        if not self.buffers:
            self.arena.lend(self, self.buffers)
        buffer = self.arena.take(n_bytes)
        self.buffers.append(buffer)
        return buffer[:n_bytes].view(kind).reshape(shape)
