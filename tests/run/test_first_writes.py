"""Cotangents are stored where a launch is the first to write them; what is added to or read unwritten is zeroed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.run import backward
from autobatch.run.first_writes import FirstWrites, first_writes

pytestmark = pytest.mark.usefixtures("on_the_host")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, FirstWrites]]:
    found: list[tuple[Any, FirstWrites]] = []

    def note(run: Any, *rest: Any) -> FirstWrites:
        result = first_writes(run, *rest)
        found.append((run, result))
        return result

    monkeypatch.setattr(backward, "first_writes", note)
    return found


def reversed_launches(run: Any, result: FirstWrites) -> dict[str, list[int]]:
    stores: dict[str, list[int]] = {}
    for launch, flag in zip(run.launches, result.stores.tolist(), strict=True):
        stores.setdefault(run.signatures[launch.sig].name, []).append(flag)
    return stores


def test_values_with_one_reader_are_stored(seen: list[tuple[Any, FirstWrites]]) -> None:
    w = ab.Parameter(np.arange(1.0, 4.0))

    def loss(x: float) -> Any:
        return ab.sum(ab.tanh(ab.tanh(ab.tensor(x) * w)))

    ab.sum(ab.map(loss, [1.0, 2.0])).backward()
    ((run, result),) = seen
    stores = reversed_launches(run, result)
    assert stores["tanh"] == [1, 1] and stores["sum"] == [1]
    assert sum(int(zero.sum()) for zero in result.zero) == 1  # the seed


def test_values_with_two_readers_are_added_to(seen: list[tuple[Any, FirstWrites]]) -> None:
    w = ab.Parameter(np.arange(1.0, 4.0))

    def loss(x: float) -> Any:
        y = ab.tanh(ab.tensor(x) * w)
        return ab.sum(ab.sigmoid(y) * y + y * y)

    total = ab.sum(ab.map(loss, [1.0, 2.0]))
    total.backward()
    ((run, result),) = seen
    stores = reversed_launches(run, result)
    assert 0 in stores["mul"] and stores["sigmoid"] == [0]
    batched = w.grad
    w.grad = None
    ab.sum(ab.map(loss, [1.0, 2.0], batched=False)).backward()
    np.testing.assert_allclose(batched, w.grad, rtol=1e-4, atol=1e-5)


def test_what_no_launch_wrote_is_zero(seen: list[tuple[Any, FirstWrites]]) -> None:
    """The second result of the last step is read by nobody, and its cotangent by the step itself."""
    w = ab.Parameter(np.arange(1.0, 4.0))

    @ab.cell
    def step(h: Any, c: Any) -> Any:
        return ab.tanh(h * w + c), ab.sigmoid(c * h)

    def loss(n: int) -> Any:
        h, c = w * 0.5, ab.tanh(w)
        for _ in range(n):
            h, c = step(h, c)
        return ab.sum(h)

    for batched in (True, False):
        w.grad = None
        ab.sum(ab.map(loss, [3, 1, 2], batched=batched)).backward()
        if batched:
            found = w.grad
    np.testing.assert_allclose(found, w.grad, rtol=1e-4, atol=1e-5)
    run, result = seen[0]
    # w, caught by the closure, is a row that every step reads: the last step alone is the first to write its operands
    assert reversed_launches(run, result)["step"] == [0, 0, 1]
    rows = np.concatenate([np.flatnonzero(zero) for zero in result.zero])
    assert len(rows) == 3 + 4 + 2 + 1  # c of each last step, operands of the second steps, of the first, the seed
