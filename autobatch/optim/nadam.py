"""NAdam: Adam that looks ahead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from .adam import MOMENTS, taken
from .groups import Group, Setting, flag, fractions, not_negative
from .optimizer import Optimizer, Params, descent


class NAdam(Optimizer):
    """Adam with Nesterov's momentum (Dozat, "Incorporating Nesterov momentum into Adam", 2016), as in PyTorch.

        μ_t = β₁ (1 − 0.96^(t · momentum_decay) / 2)
        w ← w − lr ((1 − μ_t) / (1 − Π_{i≤t} μ_i) · g + μ_{t+1} / (1 − Π_{i≤t+1} μ_i) · m) / (√(v / (1 − β₂ᵗ)) + eps)

    with g, m and v as in `Adam`. A sparse gradient has the same result as its dense form.

    Arguments:
        params: parameters to train, or groups of them.
        lr: learning rate, not negative.
        betas: decay of the two moments, each from 0 to 1, not 1 itself.
        eps: added to the root of the second moment, not negative.
        weight_decay: factor of the L2 penalty's gradient, not negative.
        momentum_decay: ψ of the paper, not negative.
        decoupled_weight_decay: whether weights decay by themselves, as in `AdamW`.
        maximize: whether to ascend.

    >>> w = ab.Parameter([1.0, 2.0])
    >>> optimizer = optim.NAdam([w], lr=0.5)
    >>> ab.sum(w * w).backward()
    >>> optimizer.step()
    >>> w.value.round(4)
    array([0.4718, 1.4718], dtype=float32)
    """

    settings: ClassVar[Mapping[str, Setting]] = {
        "lr": not_negative,
        "betas": fractions,
        "eps": not_negative,
        "weight_decay": not_negative,
        "momentum_decay": not_negative,
        "decoupled_weight_decay": flag,
        "maximize": flag,
    }
    numbers: ClassVar[Mapping[str, float]] = {"mu_product": 1.0}

    def __init__(
        self,
        params: Params,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            momentum_decay=momentum_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            maximize=maximize,
        )

    @classmethod
    def state_of(cls, group: Mapping[str, Any]) -> Mapping[str, float]:
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def rule(self, group: Group, step: int) -> str:
        return f"""{descent(group, group["decoupled_weight_decay"])}{MOMENTS}
            w = w - (by_gradient * g + by_moment * exp_avg) / (root * sqrt(exp_avg_sq) + eps)"""

    def scalars_of(self, group: Group, step: int, **numbers: float) -> dict[str, float]:
        beta1, beta2 = group["betas"]
        now, following = (beta1 * (1 - 0.5 * 0.96 ** (t * group["momentum_decay"])) for t in (step, step + 1))
        product = numbers["mu_product"] * now
        return {
            **taken(group),
            "by_gradient": group["lr"] * (1 - now) / (1 - product),
            "by_moment": group["lr"] * following / (1 - product * following),
            "root": 1 / math.sqrt(1 - beta2**step),
            "mu_product": product,
        }
