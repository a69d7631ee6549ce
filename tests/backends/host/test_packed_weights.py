"""Packed copies: made once, dropped when the numbers or the array go, never stale."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import optim
from autobatch.backends.host import packed_weights as packed
from autobatch.backends.host.packed_weights import forget, kept, kept_bytes


def matrix(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_records", {})


def test_a_copy_is_kept_until_forgotten() -> None:
    v = matrix(5, 7)
    first = kept(v)
    assert kept(v) is first and kept(v.view()) is first
    v *= 2
    forget(v.view())
    assert kept(v) is not first
    assert np.array_equal(kept(v), 2 * first)


def test_parts_and_transposes_are_not_taken_for_the_whole() -> None:
    v = matrix(6, 6)
    whole = kept(v)
    assert not np.array_equal(kept(v.T.copy()), whole)
    assert kept(v[:3]) is not kept(v[:3])
    assert np.array_equal(kept(v[3:])[:, :3], whole[:, 3:6])
    assert kept(v.reshape(4, 9)).shape != whole.shape
    assert kept(v) is whole


def test_copies_go_with_their_array() -> None:
    v = matrix(50, 70)
    kept(v)
    assert kept_bytes() >= v.nbytes
    del v
    gc.collect()
    assert kept_bytes() == 0


def count_packing(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    made = []
    panels = packed.panels  # type: ignore[attr-defined]
    monkeypatch.setattr(packed, "panels", lambda v: made.append(1) or panels(v))
    return made


def test_inference_packs_once_and_training_once_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    made = count_packing(monkeypatch)
    w = ab.Parameter(matrix(8, 8))

    def chain(n: int) -> Any:
        h = ab.ones(8) * ab.tensor(float(n))
        for _ in range(n):
            h = ab.tanh(w @ h)
        return ab.sum(h)

    for _ in range(3):
        ab.evaluate(ab.map(chain, [1, 4, 6]))
    assert len(made) == 1
    optimizer = optim.SGD([w], lr=0.1)
    for _ in range(3):
        ab.sum(ab.map(chain, [1, 4, 6])).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert len(made) == 3  # the first step found what inference left


def test_changed_parameters_are_read_anew() -> None:
    w = ab.Parameter(np.ones((4, 4)))

    def value() -> Any:
        return float(ab.sum(ab.map(lambda x: ab.sum(w @ (x * ab.ones(4))), [1.0, 2.0])))

    assert value() == 48
    w.value = 2 * np.ones((4, 4))
    assert value() == 96
    with ab.no_grad():
        assert value() == 96
        w.value = np.ones((4, 4))
        assert value() == 48
