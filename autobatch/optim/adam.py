"""Adam: steps scaled by running moments of the gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from .groups import Group, Setting, flag, fractions, not_negative
from .optimizer import Optimizer, Params, descent


class Adam(Optimizer):
    """Adam (Kingma & Ba, "Adam: a method for stochastic optimization", 2015, Algorithm 1), as in PyTorch.

        g ← g + weight_decay · w
        m ← β₁ m + (1 − β₁) g
        v ← β₂ v + (1 − β₂) g²
        w ← w − lr · m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + eps)

    AMSGrad (Reddi, Kale & Kumar, "On the convergence of Adam and beyond", 2018, Algorithm 2) has in the place of v the
    largest one so far.

    t counts the steps of each parameter. Of a sparse gradient only the rows it has are visited: their moments and
    weights change, decay included, all others rest. This is `torch.optim.SparseAdam`, except that eps stands as in
    Algorithm 1, so that a sparse gradient with every row moves the table as its dense form does.

    Arguments:
        params: parameters to train, or groups of them.
        lr: learning rate, not negative.
        betas: decay of the two moments, each from 0 to 1, not 1 itself.
        eps: added to the root of the second moment, not negative.
        weight_decay: factor of the L2 penalty's gradient, not negative.
        amsgrad: whether the second moment never falls.
        maximize: whether to ascend.

    >>> w = ab.Parameter([1.0, 2.0])
    >>> optimizer = optim.Adam([w], lr=0.5)
    >>> ab.sum(w * w).backward()
    >>> optimizer.step()
    >>> w.value
    array([0.5, 1.5], dtype=float32)
    """

    settings: ClassVar[Mapping[str, Setting]] = {
        "lr": not_negative,
        "betas": fractions,
        "eps": not_negative,
        "weight_decay": not_negative,
        "amsgrad": flag,
        "maximize": flag,
    }

    decoupled: ClassVar[bool] = False
    """Whether weights decay by themselves."""

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad, maximize=maximize
        )

    @classmethod
    def state_of(cls, group: Mapping[str, Any]) -> Mapping[str, float]:
        return dict.fromkeys(("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ())), 0.0)

    def takes_rows(self, group: Group) -> bool:
        return not self.decoupled

    def rule(self, group: Group, step: int) -> str:
        largest = "max_exp_avg_sq = maximum(max_exp_avg_sq, exp_avg_sq)\n" if group["amsgrad"] else ""
        return f"""{descent(group, self.decoupled)}{MOMENTS}{largest}
            w = w - corrected_lr * exp_avg / (root * sqrt({"max_" * group["amsgrad"]}exp_avg_sq) + eps)"""

    def scalars_of(self, group: Group, step: int, **numbers: float) -> dict[str, float]:
        beta1, beta2 = group["betas"]
        root = 1 / math.sqrt(1 - beta2**step)
        return {**taken(group), "corrected_lr": group["lr"] / (1 - beta1**step), "root": root}


MOMENTS = """exp_avg = beta1 * exp_avg + take1 * g
exp_avg_sq = beta2 * exp_avg_sq + take2 * (g * g)
"""
"""Lines of a rule: the running moments, of the scalars that `taken` gives."""


def taken(group: Group) -> dict[str, float]:
    """The scalars of `MOMENTS`: the shares of the gradient, 1 − β₁ and 1 − β₂."""
    beta1, beta2 = group["betas"]
    return {"take1": 1 - beta1, "take2": 1 - beta2}
