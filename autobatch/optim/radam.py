"""RAdam: Adam that waits until its second moment is known well enough."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from .adam import MOMENTS, taken
from .groups import Group, Setting, flag, fractions, not_negative
from .optimizer import Optimizer, Params, descent


class RAdam(Optimizer):
    """Rectified Adam (Liu et al., "On the variance of the adaptive learning rate and beyond", 2020, Algorithm 2), as in
    PyTorch.

        ρ_∞ = 2 / (1 − β₂) − 1,  ρ_t = ρ_∞ − 2 t β₂ᵗ / (1 − β₂ᵗ)
        r_t = √((ρ_t − 4) (ρ_t − 2) ρ_∞ / ((ρ_∞ − 4) (ρ_∞ − 2) ρ_t))
        w ← w − lr · m / (1 − β₁ᵗ)                                   while ρ_t ≤ 5, and then
        w ← w − lr · r_t · m / (1 − β₁ᵗ) / ((√v + eps) / √(1 − β₂ᵗ))

    with g, m and v as in `Adam`. A sparse gradient has the same result as its dense form.

    Arguments:
        params: parameters to train, or groups of them.
        lr: learning rate, not negative.
        betas: decay of the two moments, each from 0 to 1, not 1 itself.
        eps: added to the root of the second moment, not negative.
        weight_decay: factor of the L2 penalty's gradient, not negative.
        decoupled_weight_decay: whether weights decay by themselves, as in `AdamW`.
        maximize: whether to ascend.

    >>> w = ab.Parameter([1.0, 2.0])
    >>> optimizer = optim.RAdam([w], lr=0.25)
    >>> ab.sum(w * w).backward()
    >>> optimizer.step()
    >>> w.value
    array([0.5, 1. ], dtype=float32)
    """

    settings: ClassVar[Mapping[str, Setting]] = {
        "lr": not_negative,
        "betas": fractions,
        "eps": not_negative,
        "weight_decay": not_negative,
        "decoupled_weight_decay": flag,
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
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
            decoupled_weight_decay=decoupled_weight_decay,
            maximize=maximize,
        )

    @classmethod
    def state_of(cls, group: Mapping[str, Any]) -> Mapping[str, float]:
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def rule(self, group: Group, step: int) -> str:
        scaled = " / (sqrt(exp_avg_sq) + eps)" if _rectifier(group, step) is not None else ""
        return f"{descent(group, group['decoupled_weight_decay'])}{MOMENTS}w = w - size * exp_avg{scaled}"

    def scalars_of(self, group: Group, step: int, **numbers: float) -> dict[str, float]:
        beta1, beta2 = group["betas"]
        rectifier = _rectifier(group, step)
        scale = 1.0 if rectifier is None else rectifier * math.sqrt(1 - beta2**step)
        return {**taken(group), "size": group["lr"] / (1 - beta1**step) * scale}


def _rectifier(group: Group, step: int) -> float | None:
    """r_t, or None while ρ_t is too small."""
    beta2 = group["betas"][1]
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * step * beta2**step / (1 - beta2**step)
    if length <= 5:
        return None
    return math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
