"""Optimisers against PyTorch's, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import optim
from autobatch.parameter import SparseRows
from tests.requested import host

torch = pytest.importorskip("torch")

CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05, "nesterov": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-5, "weight_decay": 0.05}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_dense_steps(name: str, settings: dict[str, Any], dtype: Any) -> None:
    rng = np.random.default_rng(0)
    starts = [rng.normal(size=shape).astype(dtype) for shape in [(3, 4), (5,), ()]]
    ours = [ab.Parameter(start, dtype=dtype) for start in starts]
    theirs = [torch.tensor(start, requires_grad=True) for start in starts]
    our_optimizer = getattr(optim, name)(ours, **settings)
    their_optimizer = getattr(torch.optim, name)(theirs, **settings)
    for step in range(20):
        for mine, other in zip(ours, theirs, strict=True):
            gradient = rng.normal(size=mine.shape).astype(dtype)
            # A parameter that is not reached now and then keeps its moments and its count.
            mine.grad = None if step % 5 == 2 and mine.ndim == 1 else gradient
            other.grad = None if mine.grad is None else torch.tensor(gradient)
        our_optimizer.step()
        their_optimizer.step()
        for mine, other in zip(ours, theirs, strict=True):
            atol = 1e-5 if dtype == np.float32 else 1e-12
            np.testing.assert_allclose(mine.numpy(), other.detach().numpy(), rtol=0, atol=atol)


def test_sparse_adam() -> None:
    rng = np.random.default_rng(1)
    start = rng.normal(size=(6, 3))
    ours, theirs = ab.Parameter(start, dtype=np.float64), torch.tensor(start, requires_grad=True)
    # PyTorch adds eps before the correction of the bias, this library after it: without eps both are the same.
    our_optimizer = optim.Adam([ours], 0.1, eps=0.0)
    their_optimizer = torch.optim.SparseAdam([theirs], 0.1, eps=1e-300)
    for n_touched in (1, 3, 6, 2, 2):
        rows = np.sort(rng.permutation(6)[:n_touched]).astype(np.int64)
        values = rng.normal(size=(n_touched, 3))
        ours.grad = SparseRows(rows=rows, values=values, shape=(6, 3))
        sparse = torch.sparse_coo_tensor(torch.tensor(rows[None]), torch.tensor(values), (6, 3), check_invariants=True)
        theirs.grad = sparse.coalesce()
        our_optimizer.step()
        their_optimizer.step()
        np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_clip_grad_norm(max_norm: float) -> None:
    rng = np.random.default_rng(2)
    shapes = [(3, 4), (5,), ()]
    gradients = [rng.normal(size=shape) for shape in shapes]
    ours = [ab.Parameter(np.zeros(shape), dtype=np.float64) for shape in shapes]
    theirs = [torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    for mine, other, gradient in zip(ours, theirs, gradients, strict=True):
        mine.grad, other.grad = gradient.copy(), torch.tensor(gradient)
    norm = float(optim.clip_grad_norm(ours, max_norm))
    assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(theirs, max_norm)), rel=1e-12)
    for mine, other in zip(ours, theirs, strict=True):
        # PyTorch divides by norm + 1e-6.
        np.testing.assert_allclose(host(mine.grad), other.grad.numpy(), rtol=1e-5)
