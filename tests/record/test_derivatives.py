"""`ab.grad` costs what its function costs, whatever else was recorded, and one node for each weight."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.record.tape import current_tape
from tests import requested

pytestmark = pytest.mark.usefixtures("numpy_in_float64")


def calls(fn: Callable[[], Any]) -> int:
    """How many functions are called, Python's and C's."""
    count = 0

    def note(frame: Any, event: str, _: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        fn()
    finally:
        sys.setprofile(None)
    return count


class Model(nn.Module):
    def __init__(self, dim: int = 4) -> None:
        self.embed = nn.Embedding(5, dim)
        self.inner = nn.Linear(dim, dim)
        self.gate = ab.Parameter(np.linspace(0.1, 1.0, dim))
        self.out = nn.Linear(dim, 3)

    @ab.cell
    def step(self, h: ab.Tensor, factor: float) -> ab.Tensor:
        return ab.tanh(self.inner(ab.tanh(self.inner(h) * self.gate))) * factor + h

    @ab.cell
    def merge(self, children: list[ab.Tensor], h: ab.Tensor) -> ab.Tensor:
        weights = [ab.sigmoid(self.inner(c) + h) for c in children]
        return ab.sum([a * c for a, c in zip(weights, children, strict=True)]) + self.gate

    @ab.cell
    def noisy(self, h: ab.Tensor) -> ab.Tensor:
        return self.inner(ab.dropout(h, 0.5, training=True)) * self.gate

    def loss(self, ids: list[int]) -> ab.Tensor:
        rows = [self.embed[i] for i in ids]
        h = self.noisy(self.merge([self.step(x, 0.5 * k) for k, x in enumerate(rows)] + [self.gate], rows[0]))
        for k, x in enumerate(rows):
            h = ab.tanh(self.inner(h) * 0.7 + self.gate * (0.3 * k)) + x
        both = ab.stack([h, *rows])
        h = h + ab.softmax(both @ h) @ self.inner(both) + (self.inner.weight @ h) * self.gate
        return ab.cross_entropy(self.out(h), ids[0] % 3)


EXAMPLES = [[0, 1, 2], [3], [4, 4, 1, 0], [2, 1]]


def by_backward(model: Model, loss: ab.Tensor) -> dict[str, Any]:
    for p in model.parameters():
        p.grad = None
    loss.backward()
    return {name: requested.host(p.grad) for name, p in model.named_parameters()}


def test_by_a_module_it_is_what_backward_gives() -> None:
    model = Model()
    ab.seed(3)
    expected = by_backward(model, ab.sum(ab.map(model.loss, EXAMPLES)))
    for way in ("outside", "inside"):
        ab.seed(3)
        if way == "outside":
            found = ab.grad(lambda m: ab.sum(ab.map(m.loss, EXAMPLES)))(model)
        else:
            each = ab.map(lambda ids: ab.grad(lambda m: m.loss(ids))(model), EXAMPLES)
            found = {name: ab.sum([g[name] for g in each]) for name in expected}
        for name, g in expected.items():
            np.testing.assert_allclose(found[name].numpy(), g, rtol=1e-9, atol=1e-11, err_msg=f"{way}: {name}")


def test_a_second_derivative_by_a_module_is_that_of_differences() -> None:
    model = Model()

    def slope_norm(batched: bool = True) -> ab.Tensor:
        ab.seed(3)
        slopes = ab.map(lambda ids: ab.grad(lambda m: m.loss(ids))(model), EXAMPLES, batched=batched)
        return ab.sum([(g * g).sum() for one in slopes for g in one.values()])

    found, alone = by_backward(model, slope_norm()), by_backward(model, slope_norm(batched=False))
    for name, g in alone.items():
        np.testing.assert_allclose(found[name], g, rtol=1e-8, atol=1e-10, err_msg=name)
    for p, at, name in ((model.gate, (2,), "gate"), (model.inner.weight, (1, 2), "inner.weight")):
        original = requested.host(p.value).copy()
        sums = []
        for step in (-1e-5, 1e-5):
            changed = original.copy()
            changed[at] += step
            p.value = changed
            sums.append(float(slope_norm().detach()))
        p.value = original
        assert abs((sums[1] - sums[0]) / 2e-5 - found[name][at]) <= 1e-5 * (1 + abs(found[name][at])), name


@pytest.mark.parametrize("forced", [False, True])
def test_a_map_inside_is_recorded_with_its_function(forced: bool) -> None:
    """Also the one-by-one loop, and where what was recorded before is no longer referenced."""
    layer = nn.Linear(1, 1)

    def total(p: ab.Tensor, batched: bool) -> ab.Tensor:
        def one(x: float) -> ab.Tensor:
            y = p * x
            return ab.tanh(y) if not forced or float(y) > 1.0 else y

        return ab.sum(ab.map(one, [1.0, 2.0], batched=batched))

    def all_of(batched: bool) -> list[Any]:
        def fn(p: ab.Tensor) -> ab.Tensor:
            return total(p, batched)

        x, one = ab.tensor(0.7), ab.tensor(1.0)
        y, pull = ab.vjp(fn, x)
        unused = layer.weight.sum() * 2.0
        del unused
        by_layer = ab.grad(lambda m: total(m.weight[0, 0], batched))(layer)["weight"]
        found = [ab.grad(fn)(x), ab.jacobian(fn)(x), ab.hessian(fn)(x), ab.hvp(fn, (x,), (one,)), y, *pull(one)]
        return ab.evaluate([*found, *ab.jvp(fn, (x,), (one,)), by_layer])

    for ours, theirs in zip(all_of(False), all_of(True), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_calls_grow_with_the_batch() -> None:
    layer = nn.Linear(3, 3)

    def energy(x: ab.Tensor) -> ab.Tensor:
        for _ in range(3):
            x = ab.tanh(layer(x))
        return x.sum()

    def recorded(n: int) -> int:
        return calls(lambda: ab.map(lambda x: ab.grad(energy)(ab.tensor(x)), [np.ones(3)] * n))

    recorded(4)
    small, large = recorded(20), recorded(80)
    assert large < 4.5 * small


def test_a_weight_has_one_gradient_for_each_signature() -> None:
    class Chain(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(32, 32)

        def loss(self, n: int) -> ab.Tensor:
            h = ab.tensor(np.full(32, 0.1))
            for _ in range(n):
                h = ab.tanh(self.layer(h))
            return (h * h).sum()

    model = Chain()
    with ab.profile() as whole:
        ab.evaluate(ab.grad(lambda m: ab.mean(ab.map(m.loss, [7] * 8)))(model))
    with ab.profile() as each:
        ab.evaluate(ab.map(lambda n: ab.grad(lambda m: m.loss(n))(model), [7, 3, 5]))
    for profile, n in ((whole, 1), (each, 3)):
        by_weight = {name: k for name, k in profile.kernels.items() if name.endswith("by shared")}
        assert [tuple(k) for k in by_weight.values()] == [(1, n), (1, n)]
    assert whole.peak_bytes < 6 * 7 * 8 * 32 * 8 + 32 * 33 * 8


def test_cotangents_of_a_value_used_often_are_one_sum() -> None:
    def fn(x: ab.Tensor, n: int = 40) -> ab.Tensor:
        h = ab.tanh(x)
        return ab.sum([ab.tanh(h * (0.1 * k)).sum() for k in range(n)])

    def slopes(batched: bool) -> Any:
        return ab.evaluate(ab.map(lambda n: ab.grad(fn)(ab.tensor([0.3, 0.7]), n), [40, 3, 11], batched=batched))

    with ab.profile() as profile:
        found = slopes(True)
    np.testing.assert_allclose(found, slopes(False), rtol=1e-12)
    assert profile.launches < 15


ROWS: dict[str, Callable[[Any], list[Any]]] = {
    "each": list,
    "some": lambda x: [x[1], x[3], x[-1]],
    "often": lambda x: [x[1]] * 5 + [x[0]],
    "slices": lambda x: [x[:2].sum(axis=0), x[1:4].sum(axis=0), x[1:4].sum(axis=0) ** 2, x[3]],
    "steps": lambda x: [x[::2].sum(axis=0), x[::-1][0], x[4::-2][1]],
    "joined": lambda x: [ab.concat([x[2:], x[:2]])[1], ab.stack([x[0], x[3], x[0]])[2]],
    "none": lambda x: [x.sum(axis=0)],
}


@pytest.mark.parametrize("way", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("shape", [(), (2, 3)], ids=str)
def test_rows_of_a_value(way: Callable[[Any], list[Any]], shape: tuple[int, ...]) -> None:
    scale = ab.Parameter(0.7)

    def loss(x: Any) -> Any:
        x = ab.tanh(x * scale)
        return ab.sum([(r * r * (0.5 + k)).sum() for k, r in enumerate(way(x))])

    def second(x: Any) -> Any:
        return (ab.grad(loss)(x) ** 2).sum()

    xs = [np.random.default_rng(n).normal(size=(n, *shape)) for n in (5, 7)]
    for x, g in zip(xs, ab.evaluate(ab.map(lambda x: ab.grad(loss)(ab.tensor(x)), xs)), strict=True):
        source = ab.Parameter(x)
        loss(source).backward()
        np.testing.assert_allclose(g, requested.host(source.grad), rtol=1e-10, atol=1e-12)
    scale.grad = None
    ab.sum(ab.map(lambda x: second(ab.tensor(x)), xs)).backward()
    found = float(scale.grad)
    scale.value = np.array(0.7 + 1e-5)
    above = float(ab.sum(ab.map(lambda x: second(ab.tensor(x)), xs)).detach())
    scale.value = np.array(0.7 - 1e-5)
    slope = (above - float(ab.sum(ab.map(lambda x: second(ab.tensor(x)), xs)).detach())) / 2e-5
    assert abs(found - slope) < 1e-5 * (1 + abs(slope))


def test_rows_are_put_together_once() -> None:
    def numbers(n: int) -> tuple[int, int]:
        slope = ab.grad(lambda x: ab.sum([ab.tanh(x[i]) * ab.sigmoid(x[i]) for i in range(n)]).sum())
        ab.evaluate([slope(ab.tensor(np.ones((n, 2))))])
        found = slope(ab.tensor(np.ones((n, 2))))
        n_nodes = current_tape().n_nodes
        with ab.profile() as profile:
            found.numpy()
        return n_nodes, profile.peak_bytes

    (nodes, peak), (more_nodes, more_peak) = numbers(20), numbers(40)
    assert more_nodes < 2.2 * nodes and more_peak < 2.2 * peak


def test_a_flipped_gradient() -> None:
    ab.set_default_dtype("float64")
    x = np.array([1.0, -0.0, np.inf, np.nan])
    np.testing.assert_array_equal(ab.flip_gradient(ab.tensor(x)).numpy(), x)
    assert np.signbit(ab.flip_gradient(ab.tensor(x)).numpy()[1])
    w = ab.Parameter([0.5, -2.0])

    def one(n: int) -> Any:
        h = ab.tensor(np.arange(1.0, 2 * n + 1).reshape(n, 2)) * w
        loss = (ab.flip_gradient(h, 0.1 * n) ** 3).sum()
        slope = ab.grad(lambda h: (ab.flip_gradient(h, 0.1 * n) ** 3).sum())(h)
        return loss, (slope * ab.flip_gradient(w, ab.tensor(0.5))).sum()

    lengths = [1, 3, 2, 5]
    for backend in requested.backends("numpy", "numba"):
        with ab.backend(backend):
            losses = ab.map(one, lengths)
            found = ab.evaluate(losses)
            with ab.profile() as p:
                ab.evaluate(ab.map(lambda n: ab.flip_gradient(ab.tensor(np.ones((n, 2))), 0.1 * n), lengths))
        assert p.launches == 1, p.table()
        for k in (0, 1):
            w.grad = None
            ab.sum([pair[k] for pair in losses]).backward(retain=True)
            want = np.zeros(2)
            for n, pair in zip(lengths, found, strict=True):
                rows, s = np.arange(1.0, 2 * n + 1).reshape(n, 2), 0.1 * n
                cube, slope = (rows * [0.5, -2.0]) ** 3, -s * 3 * (rows * [0.5, -2.0]) ** 2
                np.testing.assert_allclose(pair[k], (cube if k == 0 else slope * [0.5, -2.0]).sum(), rtol=1e-12)
                of_slope = s * s * 6 * rows**2 * [0.5, -2.0]  # through the flip once more
                want += (slope * rows if k == 0 else of_slope * [0.5, -2.0] - 0.5 * slope).sum(0)
            np.testing.assert_allclose(requested.host(w.grad), want, rtol=1e-12)
