"""Adadelta: steps as large as the steps before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .groups import Group, Setting, flag, fraction, not_negative
from .optimizer import Optimizer, Params, descent


class Adadelta(Optimizer):
    """Adadelta (Zeiler, "ADADELTA: an adaptive learning rate method", 2012, Algorithm 1), as in PyTorch.

        g ← g + weight_decay · w
        s ← ρ s + (1 − ρ) g²
        Δ = √(u + eps) / √(s + eps) · g
        u ← ρ u + (1 − ρ) Δ²
        w ← w − lr · Δ

    A sparse gradient has the same result as its dense form.

    Arguments:
        params: parameters to train, or groups of them.
        lr: factor of the steps, not negative.
        rho: decay of the running means, from 0 to 1, not 1 itself.
        eps: added below the roots, not negative.
        weight_decay: factor of the L2 penalty's gradient, not negative.
        maximize: whether to ascend.

    >>> w = ab.Parameter([1.0, 2.0])
    >>> optimizer = optim.Adadelta([w], eps=0.1)
    >>> ab.sum(w * w).backward()
    >>> optimizer.step()
    >>> w.value.round(4)
    array([0.1056, 1.0299], dtype=float32)
    """

    settings: ClassVar[Mapping[str, Setting]] = {
        "lr": not_negative,
        "rho": fraction,
        "eps": not_negative,
        "weight_decay": not_negative,
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize)

    @classmethod
    def state_of(cls, group: Mapping[str, Any]) -> Mapping[str, float]:
        return {"square_avg": 0.0, "acc_delta": 0.0}

    def rule(self, group: Group, step: int) -> str:
        return f"""{descent(group)}square_avg = rho * square_avg + (1 - rho) * (g * g)
            change = sqrt(acc_delta + eps) / sqrt(square_avg + eps) * g
            acc_delta = rho * acc_delta + (1 - rho) * (change * change)
            w = w - lr * change"""
