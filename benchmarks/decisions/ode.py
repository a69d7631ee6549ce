"""A neural differential equation, solved with a step size of its own for every example.

dy/dt = f(y, t) from 0 to the example's own end (Chen et al. 2018), by the pair of orders 5 and 4 of Dormand & Prince,
"A family of embedded Runge-Kutta formulae", J. Comp. Appl. Math. 6, 1980, table 2. A step whose error is too large is
taken again, shorter. Gradients are those of the steps taken; step sizes count as constants.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn
from benchmarks.decisions.program import Outcome

N = 4
RELATIVE, ABSOLUTE = 1e-4, 1e-6
NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
ROWS = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
"""Weights of order 5 less those of order 4."""

Example = tuple[np.ndarray, float, np.ndarray]


def examples(n: int, seed: int) -> list[Example]:
    """Where it begins, how long it runs, where it is to end."""
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=N), float(rng.uniform(0.2, 3.0)), rng.normal(size=N)) for _ in range(n)]


def factor(error: float) -> float:
    """By how much the next step is longer, from the error in units of the tolerance."""
    return min(5.0, max(0.2, 0.9 * max(error, 1e-10) ** -0.2))


class Model(nn.Module):
    def __init__(self, dim: int = 16) -> None:
        self.inner, self.outer = nn.Linear(N + 1, dim), nn.Linear(dim, N)

    def slope(self, y: Any, t: Any) -> Any:
        return self.outer(ab.tanh(3.0 * self.inner(ab.concat([y, ab.stack([t])])))) - 0.5 * y

    @ab.cell
    def begin(self, y: Any) -> Any:
        return self.slope(y, 0.0 * y[0])

    @ab.cell
    def step(self, y: Any, slope: Any, t: float, h: float) -> Any:
        """The state after a step of size h, its slope, and its error in units of the tolerance."""
        slopes, time = [slope], 0.0 * y[0] + t
        for node, row in zip(NODES[1:], ROWS, strict=True):
            end = y + h * ab.sum([weight * s for weight, s in zip(row, slopes, strict=True) if weight])
            slopes.append(self.slope(end, time + node * h))
        wrong = h * ab.sum([weight * s for weight, s in zip(ERROR, slopes, strict=True) if weight])
        allowed = ABSOLUTE + RELATIVE * ab.maximum(ab.abs(y), ab.abs(end))
        return end, slopes[-1], ab.sqrt(ab.mean((wrong / allowed) ** 2))

    def run(self, example: Example) -> Outcome:
        begin, duration, wanted = example
        y, t, h = ab.tensor(begin), 0.0, 0.05
        slope, sizes = self.begin(y), []
        while t < duration:
            h = min(h, duration - t)
            end, slope_there, wrong = self.step(y, slope, t, h)
            error = float(wrong)
            sizes.append(h)
            if error <= 1.0:
                t = duration if h == duration - t else t + h
                y, slope = end, slope_there
            h *= factor(error)
        return ab.squared_error(y, wanted), sizes
