"""Leased memory: it comes back, is used again, is bounded, and coming back never waits for a lock."""

from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.backends.host.arena import Arena, Lease, Loan, arena, lend

pytestmark = pytest.mark.usefixtures("on_the_host")


class Holder:
    """Somebody who holds buffers."""


def give(arena: Arena, buffers: list[Any]) -> None:
    """Give buffers back, by a holder that goes."""
    arena.lend(Holder(), buffers)


def test_memory_is_used_again_and_bounded() -> None:
    arena = Arena()
    first = arena.take(10_000)
    second = arena.take(100_000)
    give(arena, [first, second])
    assert arena.take(9_900) is first
    assert arena.take(100_000) is second
    assert arena.leased_bytes == first.size + second.size
    give(arena, [first, second])
    for n in range(1, 40):
        give(arena, [arena.take(n * 5_000)])
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
            cycle.lease.empty((300, 500), np.float32)
            del cycle
            gc.set_threshold(count)  # the collector runs somewhere in the middle of the following
            lease = Lease()
            lease.empty((70, 1100), np.float64)
            lease.empty((300, 100), np.int32)
            gc.set_threshold(*threshold)
    finally:
        gc.set_threshold(*threshold)


def test_cleared_memory_is_counted_anew() -> None:
    arena = Arena()
    first = arena.take(10_000)
    give(arena, [arena.take(100_000)])
    arena.clear()
    assert (arena.free, arena.free_bytes) == ([], 0)
    assert arena.peak_bytes == arena.leased_bytes == first.size
    arena.take(50_000)
    assert arena.peak_bytes == arena.leased_bytes > first.size


def test_lent_memory_returns_with_the_last_view() -> None:
    arena().clear()
    before = arena().leased_bytes
    array = lend((30, 100), np.float32)
    assert (array.shape, array.dtype, array.flags.writeable) == ((30, 100), np.float32, True)
    address = array.ctypes.data
    view = array[3:]
    del array
    assert arena().leased_bytes > before
    view[...] = 1.0  # still there
    del view
    again = lend((30, 100), np.float32)
    assert again.ctypes.data == address


def test_gradients_are_arrays_of_their_own() -> None:
    v, w = (ab.Parameter(np.full((100, 120), k)) for k in (1.0, 2.0))
    x = np.ones((2, 100), np.float32)

    def gradients() -> list[np.ndarray]:
        v.grad = w.grad = None
        ab.sum([(ab.tensor(row) @ (v + w)).sum() for row in x]).backward()
        return [v.grad, w.grad]

    first = gradients()
    assert not np.shares_memory(*first)
    kept = [g.copy() for g in first]
    second = gradients()
    assert not any(np.shares_memory(a, b) for a in first for b in second)
    for g in second:
        g *= 2  # neither the other parameter's nor an earlier one
    for a, b, c in zip(first, kept, second, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(c, 2 * b)


def test_a_lease_that_was_never_made_ends_in_silence() -> None:
    for kind in (Lease, Loan):
        kind.__new__(kind)  # Ctrl-C came in the first line of its making


def test_no_line_of_python_runs_when_a_holder_goes() -> None:
    """What a signal handler raises in a finaliser is lost."""
    ran: list[str] = []
    lease, loan = Lease(), lend((30, 100), np.float32)
    lease.empty((300, 100), np.int32)
    n_lent = len(arena().lent)
    sys.setprofile(lambda frame, event, _: ran.append(frame.f_code.co_name) if event == "call" else None)
    try:
        del lease, loan
    finally:
        sys.setprofile(None)
    assert ran == []
    arena().take(1)
    assert len(arena().lent) == n_lent - 2
