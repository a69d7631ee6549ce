"""Memory of a device that comes back at the same addresses: who asks for the same again finds it where it was.

A CUDA graph works on the addresses that it was captured with. A pool of memory that splits and joins blocks gives other
addresses as its history goes; here a size is rounded up to a power of two, and of the free blocks of that size the
oldest is taken. So a program that asks for the same sizes while the same others are held gets the same addresses, and
blocks that come later change nothing for it. Blocks are kept per stream: what one stream still works on is not given to
another. Cost: up to twice the memory that was asked for.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
from collections.abc import Callable
from typing import Any

SMALLEST = 512

Key = tuple[int, int]


class Lease:
    """A block in use: it is free again when nobody holds its lease."""

    __slots__ = ("address", "key", "number", "steady")

    def __init__(self, steady: Steady, key: Key, number: int, address: int) -> None:
        self.steady, self.key, self.number, self.address = steady, key, number, address

    def __del__(self) -> None:
        heapq.heappush(self.steady.free[self.key], self.number)


class Steady:
    """Blocks of memory. `allocate(n_bytes)` asks for a new one: its address, and what keeps it."""

    def __init__(self, allocate: Callable[[int], tuple[int, Any]]) -> None:
        self._allocate = allocate
        self._blocks: dict[int, tuple[int, Any]] = {}  # number → address, and what keeps it
        self._numbers = itertools.count()
        self.free: dict[Key, list[int]] = {}

    def take(self, n_bytes: int, stream: int) -> Lease | None:
        """A block of at least so many bytes; None where there is no room for one of the rounded size."""
        key = (stream, 1 << max(n_bytes - 1, SMALLEST - 1).bit_length())
        free = self.free.setdefault(key, [])
        with contextlib.suppress(IndexError):  # there is none; another thread may take the last
            number = heapq.heappop(free)
            return Lease(self, key, number, self._blocks[number][0])
        block = self._new(key[1])
        if block is None:
            return None
        number = next(self._numbers)
        self._blocks[number] = block
        return Lease(self, key, number, block[0])

    def _new(self, n_bytes: int) -> tuple[int, Any] | None:
        try:
            return self._allocate(n_bytes)
        except MemoryError:
            self.let_go()
        try:
            return self._allocate(n_bytes)
        except MemoryError:
            return None

    def let_go(self) -> None:
        """Give up all blocks that are not in use."""
        for free in list(self.free.values()):
            with contextlib.suppress(IndexError):
                while True:
                    del self._blocks[heapq.heappop(free)]

    def free_bytes(self) -> int:
        """Bytes of blocks that are not in use."""
        return sum(size * len(free) for (_, size), free in list(self.free.items()))
