"""Random draws belong to the example: who shares the batch, the schedule, cells and the backend change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn, optim
from tests import requested


@ab.cell
def masked_cell(x: Any, k: int) -> Any:
    return ab.dropout(x, 0.5) + ab.uniform(6) * k


def masked(x: Any, k: int) -> Any:
    return ab.dropout(x, 0.5) + ab.uniform(6) * k


def draws(
    numbers: list[int], how: Callable[..., Any] = masked, batched: bool = True, reverse: bool = False
) -> list[Any]:
    """For example k, k + 1 steps of draws; examples that are not in `numbers` draw nothing."""
    ab.seed(3)

    def fn(k: int) -> Any:
        steps = [how(ab.ones(6), j) for j in range(k + 1)] if k in numbers else [ab.zeros(6) * 1.0]
        return ab.stack([ab.sum(steps), ab.normal(6)])

    results = ab.map(fn, range(5), batched=batched)
    if reverse:
        return [results[k].numpy() for k in reversed(range(5))][::-1]
    return [r.numpy() for r in results]


def test_a_mask_depends_on_nothing_but_its_example() -> None:
    everyone = list(range(5))
    want = draws(everyone)
    assert len({w.tobytes() for w in want}) == 5
    for backend in ("numpy", "numba"):
        with ab.backend(backend):
            for how in (masked, masked_cell):
                for batched in (True, False):
                    for got, expected in zip(draws(everyone, how, batched, reverse=batched), want, strict=True):
                        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
                for some in ([0], [1, 4], [2, 3]):
                    got = draws(some, how)
                    for k in some:
                        np.testing.assert_allclose(got[k], want[k], rtol=1e-6, atol=1e-6)


def test_a_draw_of_one_example_does_not_move_those_of_others() -> None:
    def run(extra: int) -> list[Any]:
        ab.seed(0)

        def fn(k: int) -> Any:
            for _ in range(extra if k == 1 else 0):
                ab.uniform(2)
            return ab.uniform(2)

        return ab.evaluate(ab.map(fn, range(3)))

    without, with_ = run(0), run(5)
    np.testing.assert_array_equal(without[0], with_[0])
    np.testing.assert_array_equal(without[2], with_[2])
    assert np.any(without[1] != with_[1])


def test_seed_starts_over() -> None:
    def run() -> list[Any]:
        return [
            ab.normal(3).numpy(),
            *ab.evaluate(ab.map(lambda _: ab.uniform(3), range(2))),
            nn.Linear(2, 2).weight.numpy(),
            ab.rng().normal(size=2),
            *ab.evaluate(ab.map(lambda _: ab.uniform(3), range(2))),
        ]

    ab.seed(11)
    first = run()
    second = run()
    ab.seed(11)
    third = run()
    ab.seed(12)
    fourth = run()
    for a, b, c, d in zip(first, second, third, fourth, strict=True):
        np.testing.assert_array_equal(a, c)
        assert np.any(a != b)
        assert np.any(a != d)


def test_two_calls_of_map_draw_differently() -> None:
    first, second = (ab.map(lambda _: ab.uniform(3), range(2)) for _ in range(2))
    values = [v.tobytes() for v in ab.evaluate([*first, *second, ab.uniform(3), ab.uniform(3)])]
    assert len(set(values)) == 6


@pytest.mark.parametrize("batched", [True, False])
def test_nested_maps(batched: bool) -> None:
    def run(order: list[int], batched: bool) -> dict[int, Any]:
        ab.seed(5)

        def outer(k: int) -> Any:
            head = ab.uniform(2)
            inner = ab.map(lambda j: ab.uniform(2) + 0.0 * j, range(k), batched=batched)
            tail = ab.map(lambda j: ab.uniform(2), range(1))
            return [head, *inner, *tail, ab.uniform(2)]

        return dict(enumerate(ab.evaluate(ab.map(outer, order))))

    want = run([1, 2, 3], True)
    values = [v.tobytes() for vs in want.values() for v in vs]
    assert len(set(values)) == len(values)
    for got in (run([1, 2, 3], batched), run([1, 2, 3, 4], batched)):
        for k in range(3):
            np.testing.assert_array_equal(got[k], want[k])
    shorter = run([1, 2, 2], batched)
    np.testing.assert_array_equal(shorter[2][:3], want[2][:3])


def test_rng_is_the_examples_own() -> None:
    def run(numbers: list[int], batched: bool) -> list[Any]:
        ab.seed(0)
        return ab.map(
            lambda k: ab.rng().integers(1 << 40, size=2) if k in numbers else np.zeros(2), range(3), batched=batched
        )

    want = run([0, 1, 2], True)
    assert len({w.tobytes() for w in want}) == 3
    for batched in (True, False):
        for some in ([0, 1, 2], [1], [2]):
            got = run(some, batched)
            for k in some:
                np.testing.assert_array_equal(got[k], want[k])
    first, second = ab.rng().normal(), ab.rng().normal()
    assert first != second


def test_draws_have_the_distribution_they_should() -> None:
    x = ab.evaluate(ab.map(lambda _: (ab.uniform(100), ab.normal(100), ab.dropout(ab.ones(100), 0.25)), range(50)))
    u, n, d = (np.concatenate(column) for column in zip(*x, strict=True))
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 0.02
    assert abs(n.mean()) < 0.06
    assert abs(n.std() - 1) < 0.05
    assert abs((d == 0).mean() - 0.25) < 0.03
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.05


def test_the_mask_of_rows_is_the_mask_of_the_whole() -> None:
    @ab.cell
    def of_list(xs: list[Any]) -> Any:
        return ab.dropout(ab.stack(xs), 0.5).sum(axis=0)

    def one(n: int) -> Any:
        h = ab.ones((n, 3)) * 1.0
        v = h.sum(axis=1)  # one row at the first length, n rows of one number from the second on
        return ab.dropout(h, 0.5), ab.dropout(v, 0.5), of_list(list(h)), ab.dropout(h.T, 0.5)

    lengths = [5, 2, 9]
    ab.seed(7)
    alone = ab.map(one, lengths, batched=False)
    want = ab.evaluate(alone)
    for backend in requested.backends("numpy", "numba"):
        with ab.backend(backend):
            for some in ([5], lengths):
                ab.seed(7)
                for got, expected in zip(ab.evaluate(ab.map(one, some)), want, strict=False):
                    for a, b in zip(got, expected, strict=True):
                        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_mask_of_the_reverse_pass_is_that_of_the_forward_pass() -> None:
    for backend in ("numpy", "numba"):
        with ab.backend(backend):
            for how in (ab.dropout, ab.cell(lambda x, p: ab.dropout(x, 0.5))):
                weight = ab.Parameter(np.ones(50))
                y = how(weight * ab.tensor(np.ones(50)), 0.5)
                y.sum().backward(retain=True)
                np.testing.assert_array_equal(weight.grad, y.numpy())


class Model(nn.Module):
    def __init__(self) -> None:
        self.embed = nn.Embedding(10, 6)
        self.step = nn.LSTMCell(6, 6)
        self.drop = nn.Dropout(0.3)
        self.out = nn.Linear(6, 3)

    def loss(self, words: list[int]) -> Any:
        state = None
        for w in words:
            state = self.step(self.drop(self.embed[w]), state)
        return ab.cross_entropy(self.out(state[0]), words[0] % 3)


def trained(backend: str, batched: bool = True) -> list[bytes]:
    """Bits of everything after three steps of Adam."""
    with ab.backend(backend):
        ab.seed(9)
        model = Model()
        optimizer = optim.Adam(model.parameters(), 1e-2)
        rng = np.random.default_rng(1)
        data = [rng.integers(10, size=n).tolist() for n in rng.integers(1, 6, size=12)]
        losses = []
        for batch in ab.data.minibatches(data, batch_size=4, shuffle=True):
            optimizer.zero_grad()
            loss = ab.mean(ab.map(model.loss, batch, batched=batched))
            loss.backward()
            optimizer.step()
            losses.append(loss.numpy())
        return [x.tobytes() for x in (*losses, *model.state_dict().values(), *optimizer.state_dict().values())]


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_training_repeats_bit_by_bit(backend: str) -> None:
    first = trained(backend)
    assert trained(backend) == first


def test_training_is_the_loops() -> None:
    batched, loop = trained("numpy"), trained("numpy", batched=False)
    for a, b in zip(batched[:3], loop[:3], strict=True):
        np.testing.assert_allclose(np.frombuffer(a, np.float32), np.frombuffer(b, np.float32), rtol=1e-4)
