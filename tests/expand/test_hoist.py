"""Cells cut into the work that does not depend on their recurrence and the rest: the same values and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.errors import NonFiniteError
from autobatch.expand import expand as expansion

D, H = 3, 4
LENGTHS = (5, 1, 7, 0, 3)


@pytest.fixture(params=["numpy", "numba"], autouse=True)
def always_cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(expansion, "WEIGHT", float("inf"))
    monkeypatch.setattr(expansion, "LONG", 2)
    ab.set_backend(request.param)
    ab.set_default_dtype("float64")
    yield
    ab.set_backend("numba")
    ab.set_default_dtype("float32")


class Recurrent(nn.Module):
    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.table = ab.Parameter(rng.normal(size=(6, D)))
        self.w = ab.Parameter(rng.normal(size=(2 * H, D)) * 0.5)
        self.u = ab.Parameter(rng.normal(size=(2 * H, H)) * 0.5)
        self.bias = ab.Parameter(rng.normal(size=2 * H))
        self.start = ab.Parameter(rng.normal(size=H))
        self.lstm = nn.LSTMCell(D, H)

    @ab.cell
    def by_index(self, index: int, h: Any) -> Any:
        a, b = ab.split(self.w @ self.table[index] + self.bias, 2)
        c, d = ab.split(self.u @ h, 2)
        return ab.tanh(a + c) * ab.sigmoid(b + d), b

    @ab.cell
    def noisy(self, x: Any, h: Any, scale: float) -> Any:
        z = self.w @ ab.dropout(x, 0.3, training=True) * scale
        return ab.tanh(ab.split(z + self.u @ h, 2)[1] + ab.normal(H) * 0.1)

    @ab.cell
    def children(self, x: Any, states: list[Any]) -> Any:
        z = self.w @ x
        i, f = ab.split(z, 2)
        gates = [ab.sigmoid(f + ab.split(self.u @ s, 2)[0]) * s for s in states]
        return ab.tanh(i + ab.sum(gates, like=i))

    def run_lstm(self, words: list[int]) -> Any:
        h: Any = self.start
        c: Any = self.start
        for word in words:
            h, c = self.lstm(self.table[word], (h, c))
        return h

    def run_by_index(self, words: list[int]) -> Any:
        h = self.start * 1.0
        total = ab.zeros(H)
        for word in words:
            h, early = self.by_index(word, h)
            total = total + early
        return h + total

    def run_noisy(self, words: list[int]) -> Any:
        h = self.start * 1.0
        for k, word in enumerate(words):
            h = self.noisy(self.table[word], h, 0.5 + k)
        return h

    def run_children(self, words: list[int]) -> Any:
        states: list[Any] = []
        for k, word in enumerate(words):
            taken = states[-(k % 3) :] if k % 3 else []
            states = [*states[: len(states) - len(taken)], self.children(self.table[word], taken)]
        return ab.sum([self.children(self.table[0], states), self.start])


def outcome(model: Recurrent, fn: Callable[[Any], Any], batched: bool) -> tuple[list[Any], dict[str, Any]]:
    rng = np.random.default_rng(5)
    examples = [rng.integers(0, 6, size=n).tolist() for n in LENGTHS]
    ab.seed(4)
    for p in model.parameters():
        p.grad = None
    losses = ab.map(lambda words: ab.sum(fn(words) * fn(words)), examples, batched=batched)
    ab.sum(losses).backward()
    dense = {
        name: p.grad.to_dense() if hasattr(p.grad, "to_dense") else p.grad
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    return ab.evaluate(losses), dense


@pytest.mark.parametrize("name", ["run_lstm", "run_by_index", "run_noisy", "run_children"])
def test_equals_the_loop(name: str) -> None:
    model = Recurrent()
    fn = getattr(model, name)
    for _ in range(2):  # the first time it is decided, the second time it is known
        values, gradients = outcome(model, fn, batched=True)
        expected, wanted = outcome(model, fn, batched=False)
        np.testing.assert_allclose(values, expected, rtol=1e-10, atol=1e-10)
        assert gradients.keys() == wanted.keys()
        for key, g in wanted.items():
            np.testing.assert_allclose(gradients[key], g, rtol=1e-8, atol=1e-8, err_msg=key)


@pytest.mark.parametrize("name", ["run_lstm", "run_by_index", "run_noisy", "run_children"])
def test_what_is_hoisted_is_one_launch(name: str) -> None:
    model = Recurrent()
    with ab.profile() as profile, ab.no_grad():
        ab.evaluate(ab.map(getattr(model, name), [[1, 2, 3, 4], [5, 1, 2], [3]]))
    hoisted = [figures for kernel, figures in profile.kernels.items() if kernel.endswith(".hoisted")]
    assert [launches for launches, _ in hoisted] == [1]
    assert hoisted[0][1] > 5


def test_what_does_not_pay_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expansion, "WEIGHT", 0.0)
    model = Recurrent()
    with ab.profile() as profile:
        ab.evaluate(ab.map(model.run_lstm, [[1, 2, 3, 4], [5, 1, 2]]))
    assert not any(kernel.endswith(".hoisted") for kernel in profile.kernels)


def test_errors_and_explanations_speak_of_recorded_nodes() -> None:
    model = Recurrent()
    model.u.value = np.full(model.u.shape, np.inf)
    with (
        ab.check_finite(),
        pytest.raises(NonFiniteError, match=r"by_index: .*\n.*test_hoist.py:\d+ in run_by_index"),
    ):
        ab.evaluate(ab.map(model.run_by_index, [[1, 2, 3], [4]]))
    model = Recurrent()
    loss = ab.sum(ab.map(lambda words: ab.sum(model.run_lstm(words)), [[1, 2, 3, 4], [5, 1]]))
    assert "forward.hoisted" in ab.explain(loss, stage="expand")
    assert "forward.hoisted" not in ab.explain(loss, stage="tape")
    assert ".hoisted" in ab.explain(loss, stage="schedule")
