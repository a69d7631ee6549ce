"""L-BFGS: Newton's method with a Hessian that is known from the last steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from ..base.errors import message
from .full_batch import FullBatch, Memory
from .groups import Setting, count, not_negative
from .line_search import Vector
from .optimizer import Params


def _search(name: str, value: Any) -> str | None:
    """As given, or as it is kept in states."""
    if value not in (None, 0.0, 1.0, "strong_wolfe"):
        raise ValueError(message(f"{name} is unknown", expected="None or 'strong_wolfe'", got=repr(value)))
    return "strong_wolfe" if value else None


def _evaluations(name: str, value: Any) -> int:
    """0 where nothing was said."""
    return count(name, value) if value else 0


class LBFGS(FullBatch):
    """L-BFGS (Nocedal & Wright, "Numerical optimization", 2006, Algorithms 7.4 and 7.5), as in PyTorch.

    A step evaluates the loss several times, so it takes a closure, and always the same examples. Computed in float64 on
    the host, whatever the parameters are. A sparse gradient has the same result as its dense form.

    Arguments:
        params: parameters to train.
        lr: length of a step along a direction, or where the line search starts; not negative.
        max_iter: iterations in a step.
        max_eval: evaluations of the loss in a step; None for 5/4 of the iterations.
        tolerance_grad: a step ends where no derivative is larger.
        tolerance_change: a step ends where neither parameters nor loss change more.
        history_size: steps that are remembered.
        line_search_fn: None, or "strong_wolfe".

    >>> w = ab.Parameter([1.0, 2.0])
    >>> optimizer = optim.LBFGS([w], line_search_fn="strong_wolfe")
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
        "max_eval": _evaluations,
        "tolerance_grad": not_negative,
        "tolerance_change": not_negative,
        "history_size": count,
        "line_search_fn": _search,
    }

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            max_iter=max_iter,
            max_eval=max_eval,
            tolerance_grad=tolerance_grad,
            tolerance_change=tolerance_change,
            history_size=history_size,
            line_search_fn=line_search_fn,
        )

    def flatness(self) -> float | None:
        return 0.9 if self.param_groups[0]["line_search_fn"] else None

    def first_length(self, memory: Memory, loss: float, slope: float) -> float:
        return float(self.param_groups[0]["lr"])

    def remember(self, memory: Memory, gradient: Vector) -> Memory:
        if memory.n_iter == 1:
            return replace(memory, d=-gradient)
        steps, changes = memory.old_stps, memory.old_dirs
        step, change = memory.d * memory.t, gradient - memory.prev_flat_grad
        if change @ step > 1e-10:
            kept = slice(max(0, len(steps) + 1 - self.param_groups[0]["history_size"]), None)
            steps, changes = (
                np.concatenate([old.reshape(-1, new.size), new[None]])[kept]
                for old, new in ((steps, step), (changes, change))
            )
        d, weights = -gradient, []
        for s, y in zip(steps[::-1], changes[::-1], strict=True):
            weights.append(s @ d / (y @ s))
            d = d - weights[-1] * y
        if len(steps):
            d = d * (changes[-1] @ steps[-1] / (changes[-1] @ changes[-1]))
        for s, y, weight in zip(steps, changes, reversed(weights), strict=True):
            d = d + (weight - y @ d / (y @ s)) * s
        return replace(memory, d=d, old_stps=steps, old_dirs=changes)
