"""Plans that are kept: recordings of one structure give what the loop gives, whatever their data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn, running
from autobatch.errors import OpIndexError


@pytest.fixture(autouse=True)
def numpy_backend() -> Iterator[None]:
    with ab.backend("numpy"):
        yield


class Net(nn.Module):
    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.embed = nn.Embedding(5, 3)
        self.out = nn.Linear(3, 3)
        self.drop = nn.Dropout(0.4)
        for p in self.parameters():
            p.value = rng.normal(size=p.shape)

    @ab.cell
    def scored(self, x: Any, words: list[Any], factor: float, label: int) -> Any:
        return ab.cross_entropy(self.out(x + ab.sum(words)) * factor, label)

    def loss(self, example: tuple[list[int], float, int]) -> Any:
        words, factor, label = example
        rows = [self.embed[word] for word in words]
        x = self.drop(ab.tanh(ab.stack(rows).sum(axis=0)) * factor)
        return self.scored(x, rows, factor, label)


def batch(k: int) -> list[tuple[list[int], float, int]]:
    """Lists of the same lengths, of other words, factors and labels."""
    return [([(k + j) % 5 for j in range(n)], 0.5 + k + n, (k + n) % 3) for n in (1, 3, 2)]


def outcome(net: Net, k: int, batched: bool) -> list[Any]:
    ab.seed(k)
    for p in net.parameters():
        p.grad = None
    losses = ab.map(net.loss, batch(k), batched=batched)
    ab.sum(losses).backward()
    grads = [p.grad if isinstance(p.grad, np.ndarray) else p.grad.to_dense() for p in net.parameters()]
    return [*ab.evaluate(losses), *grads]


@pytest.fixture
def scheduled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Tapes that were scheduled."""
    seen: list[Any] = []
    plain: Callable[..., Any] = running.schedule
    monkeypatch.setattr(running, "schedule", lambda tape, *more: seen.append(tape) or plain(tape, *more))
    return seen


def test_a_structure_that_recurs_is_planned_no_more_and_equals_the_loop(scheduled: list[Any]) -> None:
    net = Net()
    for k in range(5):
        scheduled.clear()
        got = outcome(net, k, batched=True)
        assert len(scheduled) == (1 if k < 3 else 0)  # the first decides how cells are expanded
        for a, b in zip(got, outcome(net, k, batched=False), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_another_structure_or_question_is_planned_anew(scheduled: list[Any]) -> None:
    net = Net().eval()
    for _ in range(3):
        outcome(net, 0, batched=True)
    for ask in (
        lambda: ab.evaluate(ab.map(net.loss, batch(1))),  # no gradient is asked for
        lambda: ab.sum(ab.map(net.loss, batch(1)[:2])).backward(),
        lambda: ab.sum(ab.map(net.loss, batch(1))).backward(retain=True),
    ):
        for n_planned in (1, 1, 0):
            scheduled.clear()
            ask()
            assert len(scheduled) == n_planned
    w = ab.Parameter([1.0, 2.0])
    x = ab.tensor([3.0, 4.0]) * w
    for rows in ([0, 1], [1, 0], [1, 1], [0, 0]):  # which rows a view shows is data that the plan depends on
        y = ab.stack([x, x * 2.0])
        np.testing.assert_array_equal((y[rows[0]] + y[rows[1]]).numpy(), [3.0 * (2 + sum(rows)), 8.0 * (2 + sum(rows))])


def test_earlier_values_are_asked_by_another_name_each_time() -> None:
    w = ab.Parameter([1.0, 2.0])
    for k in range(4):
        w.grad = None
        a, b = (ab.tensor([1.0, 1.0]) * w * float(k) for _ in range(2))
        a.numpy()  # the first recording ends here; what follows is linked to it
        ((a if k % 2 else b) * 3.0).sum().backward()
        np.testing.assert_array_equal(w.grad, [3.0 * k, 3.0 * k])


def test_an_error_is_found_in_a_plan_that_is_kept() -> None:
    net = Net()
    table = ab.tensor(np.eye(3))

    def row(k: int) -> Any:
        return (table.detach() * net.out.weight)[ab.tensor(k)]

    for _ in range(3):
        ab.evaluate(ab.map(row, [0, 1, 2]))
    with pytest.raises(OpIndexError):
        ab.evaluate(ab.map(row, [0, 1, 3]))
    np.testing.assert_array_equal(ab.evaluate(ab.map(row, [2]))[0].shape, (3,))
