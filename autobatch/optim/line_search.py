"""A step length along a direction that satisfies the strong Wolfe conditions.

(Nocedal & Wright, "Numerical optimization", 2006, Algorithms 3.5 and 3.6, with the interpolation of minFunc, as in
PyTorch.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Vector = np.ndarray[Any, Any]

Evaluate = Callable[[Vector], tuple[float, Vector]]
"""A point → loss and gradient there."""


@dataclass(frozen=True, slots=True)
class Point:
    """A point on the line: how far it is, loss, gradient, and derivative along the line."""

    t: float
    loss: float
    gradient: Vector
    slope: float


def strong_wolfe(
    evaluate: Evaluate, x: Vector, direction: Vector, start: Point, t: float, c2: float, tolerance: float, most: int
) -> tuple[Point, int]:
    """A point x + t · direction with sufficient decrease (c₁ = 1e-4) and |slope| ≤ c₂ |slope at 0|, and how often the
    loss was evaluated.

    Arguments:
        start: the point of t = 0; its slope is negative.
        t: the first to be tried.
        tolerance: length of an interval that is not searched any more.
        most: evaluations after the first; then the best point so far is returned.
    """
    n_evaluated = 0

    def at(t: float) -> Point:
        nonlocal n_evaluated
        n_evaluated += 1
        loss, gradient = evaluate(x + t * direction)
        return Point(t, loss, gradient, float(gradient @ direction))

    def is_too_high(point: Point) -> bool:
        return point.loss > start.loss + 1e-4 * point.t * start.slope

    def is_flat(point: Point) -> bool:
        return abs(point.slope) <= -c2 * start.slope

    before, now, n = start, at(t), 0
    while n < most:  # outwards, until there is a minimum between two points
        if is_too_high(now) or (n > 1 and now.loss >= before.loss):
            break
        if is_flat(now):
            return now, n_evaluated
        if now.slope >= 0:
            break
        t = _cubic_minimum(before, now, now.t + 0.01 * (now.t - before.t), now.t * 10)
        before, now, n = now, at(t), n + 1
    if n == most:
        before = start
    low, high = (before, now) if before.loss <= now.loss else (now, before)
    is_near_the_end, width = False, float(np.abs(direction).max())
    while n < most and abs(high.t - low.t) * width >= tolerance:  # inwards
        left, right = min(low.t, high.t), max(low.t, high.t)
        t = _cubic_minimum(low, high, left, right) if low.t <= high.t else _cubic_minimum(high, low, left, right)
        margin = 0.1 * (right - left)
        if min(right - t, t - left) < margin:
            if is_near_the_end or t >= right or t <= left:
                t = right - margin if abs(t - right) < abs(t - left) else left + margin
                is_near_the_end = False
            else:
                is_near_the_end = True
        else:
            is_near_the_end = False
        now, n = at(t), n + 1
        if is_too_high(now) or now.loss >= low.loss:
            low, high = (low, now) if low.loss <= now.loss else (now, low)
            continue
        if is_flat(now):
            return now, n_evaluated
        if now.slope * (high.t - low.t) >= 0:
            high = low
        low = now
    return low, n_evaluated


def _cubic_minimum(a: Point, b: Point, lowest: float, highest: float) -> float:
    """Where the cubic through two points, a.t < b.t, with their slopes, is least within bounds; NaN-safe."""
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return (lowest + highest) / 2
    d2 = math.sqrt(square)
    divisor = b.slope - a.slope + 2 * d2
    if divisor == 0:
        return (lowest + highest) / 2
    return min(max(b.t - (b.t - a.t) * ((b.slope + d2 - d1) / divisor), lowest), highest)
