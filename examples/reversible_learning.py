"""The gradient of a validation loss by the learning rate of every step of training, without storing the steps.

SGD with momentum runs backwards, exactly: the digits that momentum loses are kept in integers (Maclaurin, Duvenaud &
Adams, arXiv 1502.03492). DrMAD (arXiv 1601.00917) takes the weights from a straight line between first and last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import autobatch as ab

N, D, SCALE = 9, 10, 2.0**44  # the momentum is N / D; numbers are multiples of 1 / SCALE
Array = np.ndarray[Any, Any]
Loss = Callable[[Any], Any]


class Exact:  # multiples of 1 / SCALE, with the digits that they lost
    def __init__(self, x: Array) -> None:
        self.numbers, self.lost = np.round(x * SCALE).astype(np.int64), np.zeros(x.shape, object)

    def add(self, x: Array) -> None:
        self.numbers += np.round(x * SCALE).astype(np.int64)

    def times(self, n: int, d: int) -> None:
        """Multiply by n / d; times(d, n) undoes it bit by bit."""
        self.lost = self.lost * d + self.numbers % d
        self.numbers, self.lost = self.numbers // d * n + (self.lost % n).astype(np.int64), self.lost // n

    def value(self) -> Array:
        return self.numbers / SCALE


def train(loss: Loss, start: Array, rates: Array) -> tuple[Exact, Exact]:
    """The last weights and velocities of SGD."""
    w, v = Exact(start), Exact(np.zeros_like(start))
    for rate in rates:
        v.times(N, D)
        v.add((N / D - 1) * ab.grad(loss)(ab.tensor(w.value())).numpy())
        w.add(rate * v.value())
    return w, v


def back(loss: Loss, w: Exact, v: Exact, rate: float) -> tuple[Array, Array]:
    """Undo one step: the weights before it, and the velocity that it took."""
    velocity = v.value()
    w.add(-rate * velocity)
    v.add((1 - N / D) * ab.grad(loss)(ab.tensor(w.value())).numpy())
    v.times(D, N)
    return w.value(), velocity


def gradient(loss: Loss, validation: Loss, last: Array, rates: Array, before: Callable[[int], Any]) -> Array:
    """d validation(last weights) / d rates; before(t): the weights before step t, and the velocity that it takes."""
    dw, dv, found = ab.grad(validation)(ab.tensor(last)).numpy(), np.zeros_like(last), []
    for t in reversed(range(len(rates))):
        w, velocity = before(t)
        found.append((dw * velocity).sum())
        dv = dv + rates[t] * dw
        dw, dv = dw - (1 - N / D) * ab.hvp(loss, (ab.tensor(w),), (dv,)).numpy(), N / D * dv
    return np.array(found[::-1])


def three_ways(loss: Loss, validation: Loss, start: Array, rates: Array) -> tuple[Array, Array, Array]:
    """The gradient by walking back, by DrMAD, and by one derivative through all steps, which are all kept."""
    w, v = train(loss, start, rates)
    step = ((last := w.value()) - start) / len(rates)
    exact = gradient(loss, validation, last, rates, lambda t: back(loss, w, v, rates[t]))
    line = gradient(loss, validation, last, rates, lambda t: (start + t * step, step / rates[t]))

    def trained(rates: Any) -> Any:
        w, v = ab.tensor(start), 0.0
        for rate in rates:
            v = N / D * v + (N / D - 1) * ab.grad(loss)(w)
            w = w + rate * v
        return validation(w)

    return exact, line, ab.grad(trained)(ab.tensor(rates)).numpy()
