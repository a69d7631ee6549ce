"""Leased memory: it comes back, is used again, is bounded, and coming back never waits for a lock."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np

from autobatch.run.memory import Arena, Lease


def test_memory_is_used_again_and_bounded() -> None:
    arena = Arena()
    first = arena.take(10_000)
    second = arena.take(100_000)
    arena.give([first, second])
    assert arena.take(9_900) is first
    assert arena.take(100_000) is second
    assert arena.leased_bytes == first.size + second.size
    arena.give([first, second])
    for n in range(1, 40):
        arena.give([arena.take(n * 5_000)])
    arena.take(1)
    assert arena.free_bytes + arena.leased_bytes <= 2 * arena.peak_bytes
    assert arena.free_bytes == sum(size for size, _, _ in arena.free)
    assert [size for size, _, _ in arena.free] == sorted(size for size, _, _ in arena.free)


def test_a_lease_may_go_at_any_point_of_another() -> None:
    class Cycle:
        lease: Any

    threshold = gc.get_threshold()
    try:
        for count in range(1, 60):
            cycle: Any = Cycle()
            cycle.own, cycle.lease = cycle, Lease()
            cycle.lease.empty((3, 5), np.float32)
            del cycle
            gc.set_threshold(count)  # the collector runs somewhere in the middle of the following
            lease = Lease()
            lease.zeros((7, 11), np.float64)
            lease.empty((100, 100), np.int32)
            gc.set_threshold(*threshold)
    finally:
        gc.set_threshold(*threshold)


def test_cleared_memory_is_counted_anew() -> None:
    arena = Arena()
    first = arena.take(10_000)
    arena.give([arena.take(100_000)])
    arena.clear()
    assert (arena.free, arena.free_bytes) == ([], 0)
    assert arena.peak_bytes == arena.leased_bytes == first.size
    arena.take(50_000)
    assert arena.peak_bytes == arena.leased_bytes > first.size
