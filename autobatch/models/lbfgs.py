"""L-BFGS: minimises a smooth function of one array by its values and gradients.

Nocedal & Wright, "Numerical optimization", 2nd edition, 2006: the two-loop recursion (algorithm 7.4) with a
backtracking line search. Cost a step: one or two calls of the function and O(memory × size).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

__all__ = ["minimise"]

Array = np.ndarray


def minimise(
    function: Callable[[Array], tuple[float, Array]],
    start: Array,
    max_steps: int = 200,
    tolerance: float = 1e-4,
    memory: int = 10,
) -> Array:
    """Where `function` is smallest, searched from `start`.

    Arguments:
        function: gives value and gradient at an array of the shape of `start`.
        max_steps: after so many steps the search ends wherever it is.
        tolerance: the search ends when no element of the gradient is larger than this.
        memory: number of steps that the model of the curvature is made of.

    >>> target = np.array([1.0, -2.0])
    >>> minimise(lambda x: (float(((x - target) ** 4).sum()), 4 * (x - target) ** 3), np.zeros(2)).round(1)
    array([ 1., -2.])
    """
    point, pairs = start, deque[tuple[Array, Array, float]](maxlen=memory)
    value, gradient = function(point)
    for _ in range(max_steps):
        if np.abs(gradient).max(initial=0.0) <= tolerance:
            break
        direction = -_times_inverse_hessian(gradient, pairs)
        slope = float(np.vdot(gradient, direction))
        step = 1.0 if pairs else 1.0 / max(1.0, float(np.linalg.norm(gradient)))
        while True:
            new_point = point + step * direction
            new_value, new_gradient = function(new_point)
            if new_value <= value + 1e-4 * step * slope:
                break
            step /= 2
            if step < 1e-10:
                return point  # nothing lower can be told from rounding
        moved, turned = new_point - point, new_gradient - gradient
        curvature = float(np.vdot(moved, turned))
        if curvature > 1e-10 * float(np.vdot(turned, turned)):
            pairs.append((moved, turned, curvature))
        point, value, gradient = new_point, new_value, new_gradient
    return point


def _times_inverse_hessian(gradient: Array, pairs: deque[tuple[Array, Array, float]]) -> Array:
    """The estimate of H⁻¹ g that the kept pairs (change of point, change of gradient, their product) give."""
    result, shares = gradient.copy(), []
    for moved, turned, curvature in reversed(pairs):
        share = float(np.vdot(moved, result)) / curvature
        result -= share * turned
        shares.append(share)
    if pairs:
        _, turned, curvature = pairs[-1]
        result *= curvature / float(np.vdot(turned, turned))
    for (moved, turned, curvature), share in zip(pairs, reversed(shares), strict=True):
        result += (share - float(np.vdot(turned, result)) / curvature) * moved
    return result
