"""Nonlinear conjugate gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from .full_batch import FullBatch, Memory
from .groups import Setting, count, not_negative
from .line_search import Vector
from .optimizer import Params


class ConjugateGradient(FullBatch):
    """Nonlinear conjugate gradients after Polak and Ribière, restarted where they would turn back, with a search for
    the strong Wolfe conditions (Nocedal & Wright, "Numerical optimization", 2006, Algorithm 5.4, eq. 5.44 and 5.45).

        d ← −g + β d,  β = max(0, g · (g − g') / (g' · g'))     g': the gradient before

    A step evaluates the loss several times, so it takes a closure, and always the same examples. Computed in float64 on
    the host, whatever the parameters are. A sparse gradient has the same result as its dense form.

    Arguments:
        params: parameters to train.
        lr: where the first line search starts; not negative.
        max_iter: iterations in a step.
        max_eval: evaluations of the loss in a step.
        tolerance_grad: a step ends where no derivative is larger.
        tolerance_change: a step ends where neither parameters nor loss change more.

    >>> w = ab.Parameter([1.0, 2.0])
    >>> optimizer = optim.ConjugateGradient([w])
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = ab.sum((w - 3.0) ** 2)
    ...     loss.backward()
    ...     return loss
    >>> float(optimizer.step(closure)), w.value.round(3)
    (5.0, array([3., 3.], dtype=float32))
    """

    settings: ClassVar[Mapping[str, Setting]] = {
        "lr": not_negative,
        "max_iter": count,
        "max_eval": count,
        "tolerance_grad": not_negative,
        "tolerance_change": not_negative,
    }

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int = 100,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            max_iter=max_iter,
            max_eval=max_eval,
            tolerance_grad=tolerance_grad,
            tolerance_change=tolerance_change,
        )

    def flatness(self) -> float | None:
        return 0.1

    def first_length(self, memory: Memory, loss: float, slope: float) -> float:
        """As if the loss fell as much as in the last iteration (eq. 3.60)."""
        expected = 2.02 * (loss - memory.prev_loss) / slope if slope < 0 else 0.0
        return min(1.0, expected) if expected > 0 else 1.0

    def remember(self, memory: Memory, gradient: Vector) -> Memory:
        if memory.n_iter == 1:
            return replace(memory, d=-gradient)
        before = memory.prev_flat_grad
        beta = max(0.0, float(gradient @ (gradient - before) / (before @ before)))
        d = beta * memory.d - gradient
        return replace(memory, d=d if gradient @ d < 0 else -gradient)
