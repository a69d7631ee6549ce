"""Steps against the published formulas, written again in NumPy, and the rules for sparse rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest

import autobatch as ab
from autobatch import optim
from autobatch.record.parameter import SparseRows
from tests.requested import host

Array = np.ndarray[Any, Any]
DTYPES = [np.float32, np.float64]
TOLERANCE = {np.float32: 2e-6, np.float64: 1e-13}


def test_an_optimiser_without_a_rule_says_so() -> None:
    class Unruly(optim.Optimizer):
        settings: ClassVar = {"lr": optim.groups.not_negative}

    w = ab.Parameter([1.0])
    (w * w).sum().backward()
    with pytest.raises(TypeError, match=r"Unruly has no rule\n  repair: define Unruly.rule\(self, group, step\)"):
        Unruly([w], lr=0.1).step()


def sgd_step(w: Array, g: Array, state: dict[str, Any], lr: float, momentum: float, decay: float, ahead: bool) -> Array:
    g = g + decay * w
    if not momentum:
        return w - lr * g
    state["v"] = momentum * state.get("v", 0) + g
    return w - lr * (g + momentum * state["v"] if ahead else state["v"])


def adam_step(
    w: Array, g: Array, state: dict[str, Any], lr: float, betas: tuple[float, float], eps: float, decay: float
) -> Array:
    g = g + decay * w
    t = state["t"] = state.get("t", 0) + 1
    state["m"] = betas[0] * state.get("m", 0) + (1 - betas[0]) * g
    state["v"] = betas[1] * state.get("v", 0) + (1 - betas[1]) * g * g
    return w - lr * (state["m"] / (1 - betas[0] ** t)) / (np.sqrt(state["v"] / (1 - betas[1] ** t)) + eps)


SGDS = [(0.0, 0.0, False), (0.0, 0.1, False), (0.9, 0.0, False), (0.9, 0.1, False), (0.9, 0.1, True)]
ADAMS = [((0.9, 0.999), 1e-8, 0.0), ((0.5, 0.9), 1e-3, 0.1), ((0.0, 0.0), 1e-8, 0.0)]
SHAPES: list[tuple[int, ...]] = [(), (1,), (7,), (33, 5), (2, 3, 4), (0, 3)]


def trained(make: Callable[[list[ab.Parameter]], optim.Optimizer], dtype: Any, step: Callable[..., Array]) -> None:
    """Five steps of the optimiser and of the formula from equal starts; both have to agree after each."""
    rng = np.random.default_rng(0)
    params = [ab.Parameter(rng.normal(size=shape), dtype=dtype) for shape in SHAPES]
    expected = [p.numpy().astype(np.float64) for p in params]
    states: list[dict[str, Any]] = [{} for _ in params]
    optimizer = make(params)
    for _ in range(5):
        for k, p in enumerate(params):
            p.grad = rng.normal(size=p.shape).astype(dtype)
            expected[k] = step(expected[k], host(p.grad).astype(np.float64), states[k])
        optimizer.step()
        for p, value in zip(params, expected, strict=True):
            assert p.numpy().dtype == dtype
            np.testing.assert_allclose(p.numpy(), value, rtol=0, atol=TOLERANCE[dtype] * 10)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("momentum", "decay", "ahead"), SGDS)
def test_sgd(dtype: Any, momentum: float, decay: float, ahead: bool) -> None:
    trained(
        lambda params: optim.SGD(params, 0.1, momentum=momentum, weight_decay=decay, nesterov=ahead),
        dtype,
        lambda w, g, state: sgd_step(w, g, state, 0.1, momentum, decay, ahead),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("betas", "eps", "decay"), ADAMS)
def test_adam(dtype: Any, betas: tuple[float, float], eps: float, decay: float) -> None:
    trained(
        lambda params: optim.Adam(params, 0.1, betas=betas, eps=eps, weight_decay=decay),
        dtype,
        lambda w, g, state: adam_step(w, g, state, 0.1, betas, eps, decay),
    )


def lion_step(w: Array, g: Array, state: dict[str, Any], lr: float, betas: tuple[float, float], decay: float) -> Array:
    m = state.get("m", 0)
    state["m"] = betas[1] * m + (1 - betas[1]) * g
    return w - lr * (np.sign(betas[0] * m + (1 - betas[0]) * g) + decay * w)


def test_lion() -> None:
    with ab.backend("numpy"):
        trained(
            lambda params: optim.Lion(params, 0.1, betas=(0.5, 0.75), weight_decay=0.25),
            np.float64,
            lambda w, g, state: lion_step(w, g, state, 0.1, (0.5, 0.75), 0.25),
        )


# Sparse rows.


def sparse(rng: np.random.Generator, shape: tuple[int, ...], n_touched: int, dtype: Any = np.float64) -> SparseRows:
    width = int(np.prod(shape[1:]))
    rows = np.sort(rng.permutation(shape[0])[:n_touched]).astype(np.int64)
    return SparseRows(rows=rows, values=rng.normal(size=(n_touched, width)).astype(dtype), shape=shape)


@pytest.mark.parametrize("shape", [(6, 3), (6,), (6, 2, 2)])
@pytest.mark.parametrize(("momentum", "decay", "ahead"), SGDS)
def test_sgd_moves_a_table_by_sparse_rows_as_by_their_dense_form(
    shape: tuple[int, ...], momentum: float, decay: float, ahead: bool
) -> None:
    rng = np.random.default_rng(1)
    start = rng.normal(size=shape)
    tables = [ab.Parameter(start, dtype=np.float64) for _ in range(2)]
    optimizers = [optim.SGD([t], 0.1, momentum=momentum, weight_decay=decay, nesterov=ahead) for t in tables]
    for n_touched in (2, 0, 6, 3):
        gradient = sparse(rng, shape, n_touched)
        tables[0].grad, tables[1].grad = gradient, gradient.to_dense()
        for optimizer in optimizers:
            optimizer.step()
        np.testing.assert_allclose(tables[0].numpy(), tables[1].numpy(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(6, 3), (6,), (6, 2, 2)])
def test_adam_visits_the_rows_of_a_sparse_gradient_alone(shape: tuple[int, ...], decay: float, dtype: Any) -> None:
    rng = np.random.default_rng(2)
    table = ab.Parameter(rng.normal(size=shape), dtype=dtype)
    optimizer = optim.Adam([table], 0.1, weight_decay=decay)
    expected = table.numpy().astype(np.float64)
    m, v = np.zeros(shape), np.zeros(shape)
    for t, n_touched in enumerate((2, 3, 0, 6, 1), start=1):
        gradient = sparse(rng, shape, n_touched, dtype)
        table.grad, rows = gradient, gradient.rows
        g = gradient.values.astype(np.float64).reshape(n_touched, *shape[1:]) + decay * expected[rows]
        m[rows] = 0.9 * m[rows] + 0.1 * g
        v[rows] = 0.999 * v[rows] + 0.001 * g * g
        expected[rows] -= 0.1 * (m[rows] / (1 - 0.9**t)) / (np.sqrt(v[rows] / (1 - 0.999**t)) + 1e-8)
        before = table.numpy().copy()
        optimizer.step()
        np.testing.assert_allclose(table.numpy(), expected, rtol=0, atol=TOLERANCE[dtype] * 10)
        resting = np.setdiff1d(np.arange(shape[0]), rows)
        np.testing.assert_array_equal(table.numpy()[resting], before[resting])


@pytest.mark.parametrize("shape", [(6, 3), (6,), (6, 2, 2)])
@pytest.mark.parametrize("make", [optim.Adam, optim.SGD])
def test_a_table_of_any_rank_moves_by_the_gradient_that_backward_gives(make: Any, shape: tuple[int, ...]) -> None:
    start = np.random.default_rng(4).normal(size=shape)
    tables = [ab.Parameter(start, dtype=np.float64) for _ in range(2)]
    optimizers = [make([table], lr=0.1) for table in tables]
    for table in tables:
        for _ in range(2):  # the second gradient is added to the first
            ab.sum(ab.map(lambda k, table=table: ab.sum(table[k] * table[k]), [1, 4, 1])).backward()
    assert isinstance(tables[0].grad, SparseRows)
    tables[1].grad = tables[1].grad.to_dense()
    for optimizer in optimizers:
        optimizer.step()
    assert (tables[0].numpy() != start).reshape(6, -1).any(axis=1).tolist() == [False, True, False, False, True, False]
    np.testing.assert_allclose(tables[0].numpy(), tables[1].numpy(), rtol=0, atol=1e-14)


def test_adam_with_every_row_touched_is_dense_adam() -> None:
    rng = np.random.default_rng(3)
    tables = [ab.Parameter(np.ones((5, 4)), dtype=np.float32) for _ in range(2)]
    optimizers = [optim.Adam([table], 0.1) for table in tables]
    for _ in range(4):
        gradient = sparse(rng, (5, 4), 5, np.float32)
        tables[0].grad, tables[1].grad = gradient, gradient.to_dense()
        for optimizer in optimizers:
            optimizer.step()
        np.testing.assert_allclose(tables[0].numpy(), tables[1].numpy(), rtol=0, atol=1e-6)


def test_a_table_may_change_between_sparse_and_dense_gradients() -> None:
    rng = np.random.default_rng(4)
    table = ab.Parameter(np.ones((5, 4)), dtype=np.float64)
    optimizer = optim.Adam([table], 0.1)
    for gradient in (sparse(rng, (5, 4), 2), rng.normal(size=(5, 4)), sparse(rng, (5, 4), 5)):
        table.grad = gradient
        optimizer.step()
    assert optimizer.state_dict()["0.step"] == 3


# Which parameters move.


def test_a_parameter_without_gradient_rests_and_its_steps_are_not_counted() -> None:
    params = [ab.Parameter(np.ones(2)), ab.Parameter(np.ones(2))]
    optimizer = optim.Adam(params, 0.1)
    params[0].grad = np.ones(2, np.float32)
    optimizer.step()
    assert (params[0].numpy() != 1).all()
    assert (params[1].numpy() == 1).all()
    state = optimizer.state_dict()
    assert [state["0.step"], state["1.step"]] == [1, 0]
    optimizer.zero_grad()
    assert params[0].grad is None
    optimizer.step()
    assert optimizer.state_dict()["0.step"] == 1


def test_a_parameter_listed_twice_moves_once() -> None:
    w = ab.Parameter(np.ones(2))
    optimizer = optim.SGD([w, w], 0.5)
    w.grad = np.ones(2, np.float32)
    optimizer.step()
    np.testing.assert_array_equal(w.numpy(), [0.5, 0.5])


def test_the_learning_rate_may_be_set_between_steps() -> None:
    w = ab.Parameter(np.zeros(1))
    optimizer = optim.SGD([w], 1.0)
    for optimizer.lr in (0.5, 0.25):
        w.grad = np.ones(1, np.float32)
        optimizer.step()
    assert w.numpy()[0] == -0.75


def test_nan_and_infinity_stay_what_they_are() -> None:
    w = ab.Parameter(np.zeros(4), dtype=np.float32)
    w.grad = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    optim.SGD([w], 1.0).step()
    np.testing.assert_array_equal(w.numpy(), [np.nan, -np.inf, np.inf, -1])
    w.value = np.zeros(4)
    optim.Adam([w], 1.0).step()
    np.testing.assert_array_equal(np.isfinite(w.numpy()), [False, False, False, True])


def test_tiny_and_huge_gradients_move_as_the_formula_says() -> None:
    g = np.array([0.0, 1e-30, 1e-12, 1e12], np.float32)
    w = ab.Parameter(np.zeros(4), dtype=np.float32)
    w.grad = g
    optim.Adam([w], 1.0).step()
    exact = adam_step(np.zeros(4), g.astype(np.float64), {}, 1.0, (0.9, 0.999), 1e-8, 0.0)
    np.testing.assert_allclose(w.numpy(), exact, rtol=1e-5, atol=1e-20)


@pytest.mark.parametrize("view", ["fortran", "strided", "read only"])
def test_gradients_may_lie_in_memory_as_they_like(view: str) -> None:
    g = np.arange(6, dtype=np.float32).reshape(2, 3)
    w = ab.Parameter(np.zeros((2, 3)), dtype=np.float32)
    if view == "fortran":
        w.grad = np.asfortranarray(g)
    elif view == "strided":
        w.grad = np.repeat(g, 2, axis=1)[:, ::2]
    else:
        fixed = g.copy()
        fixed.flags.writeable = False
        w.grad = fixed
    optim.SGD([w], 1.0).step()
    np.testing.assert_array_equal(w.numpy(), -g)
