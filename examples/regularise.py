"""What helps a small network on few examples: inputs of one scale, batch normalisation, and dropout.

    python examples/regularise.py

The function is a sine of one direction; the other inputs mean nothing. The same network is trained for as many steps on
raw inputs, on standardised ones, with batch normalisation of its hidden values, and with dropout.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn, optim

Array = np.ndarray[Any, Any]
SCALES = np.array([0.1, 10.0, 3.0, 1.0, 0.3, 1.0, 20.0, 0.01])


class Network(nn.Module):
    def __init__(self, n_in: int, hidden: int, normalise: bool, dropout: float) -> None:
        self.dropout = dropout
        self.inner = nn.Linear(n_in, hidden)
        self.norm = nn.BatchNorm(hidden) if normalise else None
        self.out = nn.Linear(hidden, 1)

    def forward(self, xs: list[Any]) -> list[Any]:
        """One number for each example; statistics of all examples are taken between two maps."""
        hidden = ab.map(self.inner, xs)
        return ab.map(self.rest, hidden if self.norm is None else self.norm(hidden))

    def rest(self, h: Any) -> Any:
        return self.out(ab.dropout(ab.tanh(h), self.dropout))[0]


def draw(n: int, seed: int) -> tuple[Array, Array]:
    """Inputs of different scales, and noisy results."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(SCALES)))
    return x * SCALES + SCALES, np.sin(1.5 * x[:, 0]) + 0.3 * rng.normal(size=n)


def standardised(x: Array, like: Array) -> Array:
    """With the mean and deviation of training examples."""
    return (x - like.mean(0)) / like.std(0)


def errors(standardise: bool, dropout: float, normalise: bool) -> tuple[float, float]:
    """Mean squared errors on training examples and on others."""
    ab.seed(0)
    (x, y), (new_x, new_y) = draw(40, 0), draw(100, 1)
    if standardise:
        x, new_x = standardised(x, x), standardised(new_x, x)
    model = Network(x.shape[1], 32, normalise, dropout)
    optimizer = optim.Adam(model.parameters(), lr=0.03)

    def mean_loss(x: Array, y: Array) -> Any:
        return ab.mean([(found - float(wanted)) ** 2 for found, wanted in zip(model(list(x)), y, strict=True)])

    for _ in range(40):
        optimizer.zero_grad()
        mean_loss(x, y).backward()
        optimizer.step()
    model.eval()
    with ab.no_grad():
        return float(mean_loss(x, y)), float(mean_loss(new_x, new_y))


def main() -> None:
    runs = [(False, 0.0, False), (False, 0.0, True), (True, 0.0, False), (True, 0.5, False), (True, 0.5, True)]
    for standardise, dropout, normalise in runs:
        known, new = errors(standardise, dropout, normalise)
        name = f"{'standardised' if standardise else 'raw':12}, dropout {dropout}{', batch norm' if normalise else ''}"
        print(f"{name:36}: error {known:.3f} in training, {new:.3f} on other examples")


if __name__ == "__main__":
    main()
