"""Small programs of a first lecture on neural networks, written for NumPy.

    python examples/lecture.py

Dyer, Neural Network Basics; Ranganath, Gerrish and Blei, Black box variational inference (arXiv 1401.0118).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import autobatch as ab
from autobatch import optim


def quadratic(x: Any, a: Any, b: Any, c: float) -> Any:
    """x^T A x + b.x + c."""
    return np.dot(np.dot(x, a), x) + np.dot(b, x) + c


def log_sin_squared(x: Any) -> Any:
    """y = log sin^2 x; its derivative is 2 / tan x."""
    return np.log(np.sin(x) ** 2)


def mlp(weights: list[Any], x: Any) -> Any:
    """An affine map, tanh, and another affine map."""
    w, b, v, a = weights
    return np.dot(v, np.tanh(np.dot(w, x) + b)) + a


def start(rng: np.random.Generator, n_in: int, n_hidden: int, n_out: int) -> list[ab.Parameter]:
    """Weights of an MLP."""
    return [ab.Parameter(rng.normal(size=n)) for n in ((n_hidden, n_in), n_hidden, (n_out, n_hidden), n_out)]


XOR = [([0.0, 0.0], 0.0), ([0.0, 1.0], 1.0), ([1.0, 0.0], 1.0), ([1.0, 1.0], 0.0)]


def xor(n_steps: int = 60, seed: int = 0) -> list[float]:
    """Probabilities that an MLP gives for the four cases after training."""
    weights = start(np.random.default_rng(seed), 2, 8, 1)
    optimizer = optim.Adam(weights, lr=0.1)
    for _ in range(n_steps):
        optimizer.zero_grad()
        losses = ab.map(lambda case: ab.softplus(mlp(weights, case[0])[0] * (1 - 2 * case[1])), XOR)
        ab.mean(losses).backward()
        optimizer.step()
    return [float(p) for p in ab.map(lambda case: ab.sigmoid(mlp(weights, case[0])[0]), XOR)]


def elbo(mean: Any, log_std: Any, log_density: Callable[[Any], Any], n: int) -> Any:
    """A lower bound of the log of the integral of a density, up to a constant: black-box variational inference."""
    draws = [ab.normal(mean.shape) for _ in range(n)]
    return ab.mean(ab.map(lambda e: log_density(mean + np.exp(log_std) * e), draws)) + np.sum(log_std)


def fit(log_density: Callable[[Any], Any], dim: int, n_steps: int = 100, n: int = 8) -> tuple[Any, Any]:
    """Mean and standard deviation of the normal distribution nearest to a density."""
    mean, log_std = ab.Parameter(np.zeros(dim)), ab.Parameter(np.zeros(dim))
    optimizer = optim.Adam([mean, log_std], lr=0.1)
    for _ in range(n_steps):
        optimizer.zero_grad()
        (-elbo(mean, log_std, log_density, n)).backward()
        optimizer.step()
    return mean.numpy(), np.exp(log_std.numpy())


def main() -> None:
    print("d log sin^2 x at 1:", float(ab.grad(log_sin_squared)(1.0)), "2 / tan 1:", 2 / np.tan(1.0))
    print("xor:", xor())
    print("N([1, -2], [0.5, 2]):", fit(lambda z: -0.5 * np.sum(((z - [1.0, -2.0]) / [0.5, 2.0]) ** 2), 2))


if __name__ == "__main__":
    main()
