"""Lion: steps of one size, in the direction of the momentum's sign."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .groups import Group, Setting, flag, fractions, not_negative
from .optimizer import Optimizer, Params, descent


class Lion(Optimizer):
    """Lion (Chen et al., "Symbolic discovery of optimization algorithms", 2023, Algorithm 2).

        w ← w − lr · weight_decay · w
        w ← w − lr · sign(β₁ m + (1 − β₁) g)
        m ← β₂ m + (1 − β₂) g

    A sparse gradient has the same result as its dense form.

    Arguments:
        params: parameters to train, or groups of them.
        lr: size of a step, not negative.
        betas: share of the momentum in a step, and its decay, each from 0 to 1, not 1 itself.
        weight_decay: decoupled weight decay, not negative.
        maximize: whether to ascend.

    >>> w = ab.Parameter([1.0, 2.0])
    >>> optimizer = optim.Lion([w], lr=0.5)
    >>> ab.sum(w * w).backward()
    >>> optimizer.step()
    >>> w.value
    array([0.5, 1.5], dtype=float32)
    """

    settings: ClassVar[Mapping[str, Setting]] = {
        "lr": not_negative,
        "betas": fractions,
        "weight_decay": not_negative,
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay, maximize=maximize)

    @classmethod
    def state_of(cls, group: Mapping[str, Any]) -> Mapping[str, float]:
        return {"exp_avg": 0.0}

    def rule(self, group: Group, step: int) -> str:
        return f"""{descent(group, decoupled=True)}w = w - lr * sign(beta1 * exp_avg + (1 - beta1) * g)
            exp_avg = beta2 * exp_avg + (1 - beta2) * g"""
