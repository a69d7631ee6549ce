"""Conjugate gradients, and what they have in common with L-BFGS; that is compared with PyTorch in `tests/parity`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import optim
from autobatch.optim.line_search import Point, strong_wolfe

MAKERS: dict[str, Callable[[Any], Any]] = {
    "L-BFGS": lambda p: optim.LBFGS(p, max_iter=3, history_size=2, line_search_fn="strong_wolfe"),
    "conjugate gradients": lambda p: optim.ConjugateGradient(p, max_iter=3),
}
makers = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@pytest.fixture(autouse=True)
def numpy() -> Iterator[None]:
    with ab.backend("numpy"):
        yield


class Problem:
    """A quadratic in two parameters and a third that is not reached: ½ xᵀ A x − bᵀ x, least at A⁻¹ b."""

    def __init__(self, n: int = 5, dtype: Any = np.float64) -> None:
        rng = np.random.default_rng(0)
        m = rng.normal(size=(n, n))
        self.a, self.b = m @ m.T + np.eye(n), rng.normal(size=n)
        self.params = [ab.Parameter(np.ones(2), dtype=dtype), ab.Parameter(np.ones((1, n - 2)), dtype=dtype)]
        self.params.append(ab.Parameter([7.0]))
        self.n_calls = self.fails_at = 0

    def closure(self) -> Any:
        for p in self.params:
            p.grad = None
        x = np.concatenate([p.numpy().ravel() for p in self.params[:2]]).astype(np.float64)
        g = self.a @ x - self.b
        self.params[0].grad, self.params[1].grad = g[:2], g[None, 2:]
        self.n_calls += 1
        if self.n_calls == self.fails_at:
            raise KeyboardInterrupt
        return 0.5 * x @ self.a @ x - self.b @ x

    def point(self) -> Any:
        return np.concatenate([p.numpy().ravel() for p in self.params])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", [optim.ConjugateGradient, lambda p: optim.LBFGS(p, line_search_fn="strong_wolfe")])
def test_a_quadratic_is_minimised(make: Any, dtype: Any) -> None:
    problem = Problem(dtype=dtype)
    optimizer = make(problem.params)
    for _ in range(8):
        optimizer.step(problem.closure)
    wanted = np.append(np.linalg.solve(problem.a, problem.b), 7.0)
    np.testing.assert_allclose(problem.point(), wanted, atol=1e-3 if dtype == np.float32 else 1e-4)
    n = problem.n_calls
    optimizer.step(problem.closure)
    assert problem.n_calls - n < 5  # nothing is left to do


@makers
def test_whatever_the_closure_raises_parameters_and_state_are_as_before(make: Any) -> None:
    problem = Problem()
    optimizer = make(problem.params)
    optimizer.step(problem.closure)
    point, state = problem.point(), optimizer.state_dict()
    start = problem.n_calls
    optimizer.step(problem.closure)
    after = problem.point()
    for n in range(1, problem.n_calls - start + 1):
        again = Problem()
        for p, q in zip(again.params, np.split(point, [2, 5]), strict=True):
            p.value = q.reshape(p.shape)
        optimizer = make(again.params)
        optimizer.load_state_dict(state)
        again.fails_at = n
        with pytest.raises(KeyboardInterrupt):
            optimizer.step(again.closure)
        np.testing.assert_array_equal(again.point(), point)
        for name, x in optimizer.state_dict().items():
            np.testing.assert_array_equal(x, state[name], name)
        again.fails_at = 0
        optimizer.step(again.closure)
        np.testing.assert_array_equal(again.point(), after)


@makers
def test_the_state_goes_through_a_file(make: Any, tmp_path: Path) -> None:
    problem = Problem()
    optimizer = make(problem.params)
    ab.save(tmp_path / "new", optimizer.state_dict())
    make(problem.params).load_state_dict(ab.load(tmp_path / "new"))
    for _ in range(2):
        optimizer.step(problem.closure)
    ab.save(tmp_path / "used", optimizer.state_dict())
    point = problem.point()
    results = []
    for load in (False, True):
        for p, q in zip(problem.params, np.split(point, [2, 5]), strict=True):
            p.value = q.reshape(p.shape)
        if load:
            optimizer = make(problem.params)
            optimizer.load_state_dict(ab.load(tmp_path / "used"))
        optimizer.step(problem.closure)
        results.append(problem.point())
    np.testing.assert_array_equal(*results)
    state = optimizer.state_dict()
    with pytest.raises(ValueError, match=r"d: expected shape \(6,\), got \(4,\)"):
        optimizer.load_state_dict(state | {"d": np.zeros(4)})


def test_what_cannot_be_is_refused() -> None:
    problem = Problem()
    with pytest.raises(TypeError, match=r"expected step\(closure\), got step\(\)"):
        optim.LBFGS(problem.params).step()
    with pytest.raises(ValueError, match="expected one group"):
        optim.LBFGS([{"params": problem.params[:1]}, {"params": problem.params[1:]}])
    with pytest.raises(ValueError, match="expected None or 'strong_wolfe', got 'armijo'"):
        optim.LBFGS(problem.params, line_search_fn="armijo")
    with pytest.raises(ValueError, match="max_iter out of range"):
        optim.ConjugateGradient(problem.params, max_iter=0)


@pytest.mark.parametrize("first", [1e-4, 0.5, 1.0, 30.0])
def test_the_point_that_is_found_satisfies_the_conditions(first: float) -> None:
    def evaluate(x: Any) -> tuple[float, Any]:
        return float((x[0] - 2) ** 4 - x[0]), 4 * (x - 2) ** 3 - 1

    loss, gradient = evaluate(np.zeros(1))
    start = Point(0.0, loss, gradient, float(gradient[0]))
    point, n = strong_wolfe(evaluate, np.zeros(1), np.ones(1), start, first, 0.1, 1e-9, 25)
    assert 1 <= n <= 26
    assert abs(point.slope) <= 0.1 * abs(start.slope)
    assert point.loss <= start.loss + 1e-4 * point.t * start.slope
