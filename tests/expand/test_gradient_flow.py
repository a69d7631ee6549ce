"""Nothing is computed for the gradients of values that have none: inputs of a network, initial states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn


@pytest.fixture(autouse=True, params=["numpy", "numba"])
def backend(request: pytest.FixtureRequest) -> Iterator[None]:
    with ab.backend(request.param):
        yield


class Net(nn.Module):
    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.first = nn.Linear(5, 4)
        self.second = nn.Linear(4, 4)
        for p in self.parameters():
            p.value = rng.normal(size=p.shape)

    @ab.cell
    def step(self, x: Any, h: Any) -> Any:
        return ab.tanh(self.first(x) + self.second(h))

    def loss(self, xs: list[Any], h: Any) -> Any:
        for x in xs:
            h = self.step(x, h)
        return (h * h).sum()


def rows(*lengths: int) -> list[list[Any]]:
    rng = np.random.default_rng(1)
    return [list(rng.normal(size=(n, 5)).astype(np.float32)) for n in lengths]


def gradients(net: Net, parameters: list[ab.Parameter], loss: Any, examples: list[Any], batched: bool) -> list[Any]:
    for p in parameters:
        p.grad = None
    losses = ab.map(loss, examples, batched=batched)
    ab.sum(losses).backward()
    return [*ab.evaluate(losses), *(np.array(p.grad) for p in parameters)]


def products(net: Net, loss: Any, examples: list[Any]) -> int:
    """How many products a step multiplies, with its backward pass."""
    with ab.profile() as prof:
        ab.sum(ab.map(loss, examples)).backward()
    return len(prof.products)


def check(net: Net, parameters: list[ab.Parameter], loss: Any, examples: list[Any]) -> None:
    got = gradients(net, parameters, loss, examples, batched=True)
    want = gradients(net, parameters, loss, examples, batched=False)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_inputs_have_no_products_in_the_reverse_pass() -> None:
    net = Net()
    zero = np.zeros(4, np.float32)
    parameters = list(net.parameters())

    def loss(xs: list[Any]) -> Any:
        return net.loss(xs, ab.tensor(zero))

    check(net, parameters, loss, rows(1, 1))  # the state before the first step has no gradient either
    one = products(net, loss, rows(1, 1))
    check(net, parameters, loss, rows(3, 2))  # that of later ones has
    check(net, parameters, loss, rows(1, 1))
    assert products(net, loss, rows(1, 1)) == one + 1


def test_inputs_that_become_trainable() -> None:
    net = Net()
    scale = ab.Parameter(np.linspace(0.5, 1.5, 5))
    zero = np.zeros(4, np.float32)

    def plain(xs: list[Any]) -> Any:
        return net.loss([ab.tensor(x) * 2.0 for x in xs], ab.tensor(zero))

    def scaled(xs: list[Any]) -> Any:
        return net.loss([ab.tensor(x) * scale for x in xs], ab.tensor(zero))

    for _ in range(2):
        check(net, list(net.parameters()), plain, rows(3, 1, 2))
        check(net, [*net.parameters(), scale], scaled, rows(3, 1, 2))


def test_inputs_of_some_nodes_alone() -> None:
    net = Net()
    start = ab.Parameter([0.1, 0.2, 0.3, 0.4])
    table = ab.Parameter(np.random.default_rng(2).normal(size=(3, 5)))

    def loss(k: int) -> Any:
        xs = [ab.tensor(np.full(5, k, np.float32)), table[k]] if k else [ab.tensor(np.ones(5, np.float32))]
        return net.loss(xs, start + 0.0 * ab.sum(xs[0]))

    def dense(k: int) -> list[Any]:
        got = gradients(net, [*net.parameters(), start], loss, [0, 1, 2][: k + 1], batched=True)
        table.grad = None
        return got

    for k in range(3):
        table.grad = None
        got = dense(k)
        want = gradients(net, [*net.parameters(), start], loss, [0, 1, 2][: k + 1], batched=False)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_values_of_an_earlier_recording_have_gradients() -> None:
    net = Net()
    factor = ab.Parameter(2.0)
    x, zero = rows(1)[0][0], np.zeros(4, np.float32)
    found = []
    for force in (False, True):
        for p in (*net.parameters(), factor):
            p.grad = None
        ab.sum([net.loss([ab.tensor(x)], ab.tensor(zero))]).backward()  # this one decides: x has no gradient
        factor.grad = None
        y = ab.tensor(x) * factor
        if force:
            y.numpy()  # what follows is another recording
        net.loss([y], ab.tensor(zero)).backward()
        found.append(float(factor.grad))
    assert found[0] != 0
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_a_second_question_to_a_recording_that_is_retained() -> None:
    net = Net()
    scale = ab.Parameter(np.ones(5))
    zero = np.zeros(4, np.float32)

    def loss(x: Any) -> Any:
        return net.loss([x], ab.tensor(zero))

    def both(batched: bool) -> list[Any]:
        scale.grad = None
        a = ab.map(lambda x: loss(ab.tensor(x)), rows(2)[0], batched=batched)
        b = ab.map(lambda x: loss(ab.tensor(x) * scale), rows(2)[0], batched=batched)
        ab.sum(a).backward(retain=True)
        before = scale.grad
        ab.sum(b).backward()
        return [before is None or not np.any(before), np.array(scale.grad)]

    for _ in range(2):
        got, want = both(True), both(False)
        assert got[0]
        assert want[0]
        np.testing.assert_allclose(got[1], want[1], rtol=1e-4)
