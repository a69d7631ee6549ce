"""Who holds what: reference counts read from memory agree with Python's, and tensors are used again only if unknown."""

from __future__ import annotations

import sys
import weakref
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.base import cpython
from autobatch.base.cpython import as_int32, asked, memory_is_readable, referenced
from autobatch.record.choice import compiled
from autobatch.record.tensor_list import SPARE, spare


class Thing:
    __slots__ = ("__weakref__", "x")


def test_memory_is_read_where_objects_are_as_expected() -> None:
    usual = sys.implementation.name == "cpython" and (object.__basicsize__, list.__basicsize__) == (16, 40)
    assert memory_is_readable() == (usual and sys.byteorder == "little")


@pytest.mark.parametrize("readable", [True, False])
@pytest.mark.parametrize("first", [0, 7])
@pytest.mark.parametrize("n", [9, 500])
def test_held_and_watched(monkeypatch: pytest.MonkeyPatch, n: int, first: int, readable: bool) -> None:
    if not readable:
        monkeypatch.setattr(cpython, "memory_is_readable", lambda: False)
    rng = np.random.default_rng(n)
    things: list[Any] = [Thing() for _ in range(n)]
    for k in rng.integers(0, n, size=n // 8).tolist():
        things[k] = None
    there = [k for k, x in enumerate(things) if x is not None]
    held = sorted({int(k) for k in rng.choice(there, size=n // 6)})
    watched = sorted({int(k) for k in rng.choice(there, size=n // 6)})
    also, references_to = [things[k] for k in held], [weakref.ref(things[k]) for k in watched]
    found, seen = referenced(things, Thing, first, n - 1)
    assert found.tolist() == [k for k in held if first <= k < n - 1]
    assert seen.tolist() == [k for k in watched if first <= k < n - 1 and k not in held]
    for one, other in zip(asked(things, first, n - 1), (found, seen), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(also) == len(held)
    assert len(references_to) == len(watched)


@pytest.mark.parametrize("n", [0, 1, 1000])
def test_whole_numbers_of_a_list(n: int) -> None:
    numbers = np.random.default_rng(n).integers(0, 1 << 30, size=n)
    numbers >>= np.arange(n) % 31
    got = as_int32(numbers.tolist())
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, numbers)


@pytest.mark.parametrize("odd", [-1, -(1 << 31), (1 << 31) - 1, 1 << 30, True, np.int64(7)])
def test_other_numbers_of_a_list(odd: Any) -> None:
    assert as_int32([3, odd, 5]).tolist() == [3, int(odd), 5]


def test_whole_numbers_that_are_too_large() -> None:
    with pytest.raises(OverflowError):
        as_int32([1, 1 << 31])


def _sum_of_many(n: int) -> Any:
    return ab.sum(ab.map(lambda k: ab.tensor(float(k)) * 2.0, range(n)))


@pytest.mark.skipif(compiled is not None, reason="tensors that die are not kept by the compiled recorder")
@pytest.mark.parametrize("n", [5, 300])
def test_tensors_are_used_again(n: int) -> None:
    with ab.backend("numpy"):
        assert float(_sum_of_many(n)) == n * (n - 1)
        left = list(map(id, spare.tensors or ()))
        x = _sum_of_many(n)
        made = list(map(id, x._tape.tensors))
        assert made[: 2 * n] == left[: 2 * n]
        assert float(x) == n * (n - 1)


@pytest.mark.parametrize("n", [5, 300])
def test_what_somebody_knows_is_not_used_again(n: int) -> None:
    """A tensor that is held keeps its value; one that is only weakly referenced goes with its recording."""
    with ab.backend("numpy"):
        kept: list[Any] = []
        weak: list[Any] = []

        def watched(k: int) -> Any:
            t = ab.tensor(float(k)) * 2.0
            if k % 3 == 0:
                kept.append(t)
            if k % 4 == 0:
                weak.append(weakref.ref(t))
            return t + 1.0

        for _ in range(3):
            assert float(ab.sum(ab.map(watched, range(n)))) == n * n
            assert len(set(map(id, kept))) == len(kept)
            assert [float(t) for t in kept] == [2.0 * (k % n) for k in range(0, n, 3)] * (len(kept) // -(-n // 3))
            assert [r() is not None for r in weak] == [k % 3 == 0 for k in range(0, n, 4)] * (len(weak) // -(-n // 4))


@pytest.mark.skipif(compiled is not None, reason="tensors that die are not kept by the compiled recorder")
def test_spare_tensors_are_no_more_than_a_limit_and_hold_no_recording() -> None:
    with ab.backend("numpy"):
        x = _sum_of_many(SPARE // 2 + 10)
        tape = weakref.ref(x._tape)
        float(x)
        del x
        assert spare.tensors is not None
        assert len(spare.tensors) <= SPARE
        assert tape() is None
        assert float(_sum_of_many(20)) == 380


def test_recordings_that_are_reused_between_others() -> None:
    """Replayed values have no tensors of their own in the list; what is recorded after them does."""
    numbers = [float(k) for k in range(40)]

    def example(x: float) -> Any:
        y = ab.tensor(x)
        for _ in range(5):
            y = y + 1.0
        return y

    with ab.backend("numpy"):
        for round in range(4):
            replayed = ab.map(example, numbers, reuse=True)
            after = ab.map(lambda y: y * 2.0, replayed)
            assert [float(y) for y in after] == [2 * (x + 5) for x in numbers], round
            assert [float(y) for y in replayed] == [x + 5 for x in numbers], round
            assert float(_sum_of_many(100)) == 9900
        ab.forget()
