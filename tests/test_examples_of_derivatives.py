"""The examples of derivatives give the numbers that they are meant to."""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from tests.test_examples import FOLDER, load, run

pytestmark = pytest.mark.unchecked  # hundreds of runs of a few programs: numbers are looked at, stages elsewhere


@pytest.fixture(autouse=True)
def numpy_in_float64() -> None:
    ab.set_backend("numpy")
    ab.set_default_dtype("float64")


def named(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load(name, monkeypatch)
    assert len((FOLDER / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 80
    return module


class Draws:
    """In place of a generator: the series goes on as often as there are minibatches, which are these."""

    def __init__(self, *batches: Any) -> None:
        self.left = list(batches)

    def random(self) -> float:
        return 0.0 if self.left else 1.0

    def choice(self, n: int, size: int, replace: bool) -> Any:
        return self.left.pop(0)


def test_products_with_a_hessian_and_its_inverse_have_the_right_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all minibatches exactly; and a series that is cut after k terms is what, over all k, gives the inverse."""
    module = named("hessian_vector", monkeypatch)
    examples, w, v = module.data(3, 2), ab.Parameter([0.5, -0.3]), np.array([1.0, 2.0])
    hessian = ab.hessian(lambda w: module.loss(w, examples))(w).numpy()
    products = [module.stochastic_hvp(w, v, examples, 1, Draws([k])) for k in range(3)]
    np.testing.assert_allclose(np.mean(ab.evaluate(products), axis=0), hessian @ v, rtol=1e-10)
    a, keep = 1.2, 0.5
    shrink = np.eye(2) - a * hessian
    for k in range(3):
        ways = [Draws(*([i] for i in way)) for way in itertools.product(range(3), repeat=k)]
        found = [module.inverse_hvp(w, ab.tensor(v), examples, 1, draws, a, keep) for draws in ways]
        terms = [np.linalg.matrix_power(shrink, i) @ (a * v) / keep**i for i in range(k + 1)]
        np.testing.assert_allclose(np.mean(ab.evaluate(found), axis=0), np.sum(terms, axis=0), rtol=1e-10)
    chances = [(1 - keep) * keep**k for k in range(200)]
    totals = np.cumsum([np.linalg.matrix_power(shrink / keep, i) @ (a * v) for i in range(200)], axis=0)
    np.testing.assert_allclose(chances @ totals, np.linalg.solve(hessian, v), rtol=1e-6)
    assert np.isfinite(module.inverse_hvp(w, v, examples, 2, np.random.default_rng(0)).numpy()).all()


def test_training_walked_back_gives_the_gradient_of_a_stored_tape(monkeypatch: pytest.MonkeyPatch) -> None:
    module = named("reversible_learning", monkeypatch)

    def loss_of(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(20, 3))
        y = np.tanh(x @ [1.0, -2.0, 0.5]) + 0.1 * rng.normal(size=20)
        points, values = ab.constant(x), ab.constant(y)
        return lambda w: ((ab.tanh(points @ w) - values) ** 2).mean()

    loss, validation = loss_of(1), loss_of(2)
    start, rates = np.array([0.1, 0.2, -0.3]), np.linspace(0.01, 0.005, 100)
    exact, line, stored = module.three_ways(loss, validation, start, rates)
    np.testing.assert_allclose(exact, stored, rtol=1e-9)
    assert line @ stored > 0.9 * np.linalg.norm(line) * np.linalg.norm(stored)  # a guess: its direction is about right
    w, v = module.train(loss, start, rates[:20])
    for rate in rates[:20][::-1]:
        module.back(loss, w, v, rate)
    np.testing.assert_array_equal(w.numbers, module.Exact(start).numbers)
    assert not v.numbers.any()
    assert not v.lost.any()


def test_an_integrator_walked_back_gives_the_gradient_of_a_stored_tape(monkeypatch: pytest.MonkeyPatch) -> None:
    module = named("reversible_ode", monkeypatch)
    arguments = np.array([1.0, -0.5]), np.array([0.0, 0.3]), 1.3, 0.05, 20
    last, found, error = module.by_adjoint(*arguments)
    assert error < 1e-13
    for mine, other in zip(found, module.by_tape(*arguments), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-10)
    shifted = module.by_adjoint(*arguments[:2], 1.3 + 1e-6, *arguments[3:])[0]
    np.testing.assert_allclose((shifted - last) / 1e-6, found[2], rtol=1e-4)


def test_the_programs_of_the_lecture(monkeypatch: pytest.MonkeyPatch) -> None:
    module = named("lecture", monkeypatch)
    a, b, x = np.arange(9.0).reshape(3, 3), np.array([1.0, -2.0, 3.0]), np.array([0.5, -1.0, 2.0])
    assert float(module.quadratic(ab.tensor(x), a, b, 4.0)) == pytest.approx(x @ a @ x + b @ x + 4)
    np.testing.assert_allclose(ab.grad(module.quadratic)(x, a, b, 4.0).numpy(), (a + a.T) @ x + b)
    np.testing.assert_allclose(ab.hessian(module.quadratic)(x, a, b, 4.0).numpy(), a + a.T)
    slope = ab.grad(module.log_sin_squared)
    assert float(slope(1.0)) == pytest.approx(2 / np.tan(1.0))
    assert float(ab.grad(slope)(1.0)) == pytest.approx(-2 / np.sin(1.0) ** 2)
    weights = module.start(np.random.default_rng(0), 3, 4, 2)
    w, b, v, c = (p.numpy() for p in weights)
    np.testing.assert_allclose(module.mlp(weights, x).numpy(), v @ np.tanh(w @ x + b) + c)
    np.testing.assert_allclose(module.xor(), [0, 1, 1, 0], atol=0.05)
    ab.seed(0)
    mean, deviation = module.fit(lambda z: -0.5 * np.sum(((z - [1.0, -2.0]) / [0.5, 2.0]) ** 2), 2, 60, 4)
    np.testing.assert_allclose(mean, [1.0, -2.0], atol=0.3)
    np.testing.assert_allclose(deviation, [0.5, 2.0], rtol=0.3)


def test_one_scale_batch_normalisation_and_dropout_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = named("regularise", monkeypatch)
    printed = run(module, monkeypatch, capsys)
    raw, normalised, standardised, with_dropout, with_all = (float(line.split()[-4]) for line in printed.splitlines())
    assert normalised < 0.85 * raw
    assert standardised < 0.6 * raw
    assert with_dropout < 0.85 * standardised
    assert with_all < 0.9 * with_dropout
