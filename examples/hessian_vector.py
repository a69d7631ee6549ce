"""Products with a Hessian that is never made, and with its inverse, each without bias from minibatches.

    python examples/hessian_vector.py

The loss is the mean over examples, so a product with the Hessian of a minibatch has the right mean. The inverse is the
Neumann series, the sum over i of (1 - a H)^i a v. It is cut after a random number of terms, and each term is divided by
the probability that it is reached, so its mean is right, too, if each factor has a minibatch of its own. Baydin,
Pearlmutter and Siskind, Tricks from Deep Learning (arXiv 1611.03777).
"""

from __future__ import annotations

from typing import Any

import numpy as np

import autobatch as ab

Array = np.ndarray[Any, Any]


def data(n: int = 24, dim: int = 3, seed: int = 0) -> list[tuple[Array, float]]:
    """Points and classes ±1."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, dim))
    return [(x, 1.0 if x[0] + 0.5 * rng.normal() > 0 else -1.0) for x in points]


def loss(w: Any, examples: list[tuple[Array, float]]) -> Any:
    """Logistic regression with weight decay."""
    margins = ab.map(lambda xy: ab.softplus(ab.tensor(xy[0]) @ w * -xy[1]), examples)
    return ab.mean(margins) + 0.1 * (w * w).sum()


def stochastic_hvp(w: Any, v: Any, examples: list[Any], size: int, rng: np.random.Generator) -> Any:
    """H v, estimated from a minibatch."""
    chosen = [examples[i] for i in rng.choice(len(examples), size, replace=False)]
    return ab.hvp(lambda w: loss(w, chosen), (w,), (v,))


def inverse_hvp(
    w: Any, v: Any, examples: list[Any], size: int, rng: np.random.Generator, a: float = 1.0, keep: float = 0.8
) -> Any:
    """An estimate of the inverse of H times v, whose mean over the draws is right; a H has eigenvalues from 0 to 2."""
    term, total = a * v, a * v
    while rng.random() < keep:
        term = (term - a * stochastic_hvp(w, term, examples, size, rng)) / keep
        total = total + term
    return total


def main() -> None:
    ab.set_default_dtype("float64")
    examples, rng = data(), np.random.default_rng(1)
    w, v = ab.Parameter([0.5, -0.3, 0.2]), ab.tensor([1.0, 2.0, -1.0])
    hessian = ab.hessian(lambda w: loss(w, examples))(w).numpy()
    products = np.array(ab.evaluate([stochastic_hvp(w, v, examples, 4, rng) for _ in range(200)]))
    print("H v     ", hessian @ v.numpy(), "mean of 200 minibatches of 4:", products.mean(0))
    inverses = np.array(ab.evaluate([inverse_hvp(w, v, examples, 4, rng) for _ in range(200)]))
    error = inverses.std(0) / np.sqrt(len(inverses))
    print("H^-1 v  ", np.linalg.solve(hessian, v.numpy()), "mean of 200 estimates:", inverses.mean(0), "±", error)


if __name__ == "__main__":
    main()
