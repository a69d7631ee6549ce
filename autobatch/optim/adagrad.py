"""Adagrad: steps scaled by the sum of all squared gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .groups import Group, Setting, flag, not_negative
from .optimizer import Optimizer, Params, descent


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan & Singer, "Adaptive subgradient methods", 2011, Figure 1, diagonal), as in PyTorch.

        g ← g + weight_decay · w
        s ← s + g²
        w ← w − lr / (1 + (t − 1) lr_decay) · g / (√s + eps)

    t counts the steps of each parameter. A sparse gradient has the same result as its dense form; without decay only
    its rows are visited.

    Arguments:
        params: parameters to train, or groups of them.
        lr: learning rate, not negative.
        lr_decay: how fast it falls, not negative.
        weight_decay: factor of the L2 penalty's gradient, not negative.
        initial_accumulator_value: s at first, not negative.
        eps: added to the root, not negative.
        maximize: whether to ascend.

    >>> w = ab.Parameter([1.0, 2.0])
    >>> optimizer = optim.Adagrad([w], lr=0.5)
    >>> ab.sum(w * w).backward()
    >>> optimizer.step()
    >>> w.value
    array([0.5, 1.5], dtype=float32)
    """

    settings: ClassVar[Mapping[str, Setting]] = {
        "lr": not_negative,
        "lr_decay": not_negative,
        "weight_decay": not_negative,
        "initial_accumulator_value": not_negative,
        "eps": not_negative,
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
            maximize=maximize,
        )

    @classmethod
    def state_of(cls, group: Mapping[str, Any]) -> Mapping[str, float]:
        return {"sum": group["initial_accumulator_value"]}

    def takes_rows(self, group: Group) -> bool:
        return not group["weight_decay"]

    def rule(self, group: Group, step: int) -> str:
        return descent(group) + "sum = sum + g * g\nw = w - decayed_lr * g / (sqrt(sum) + eps)"

    def scalars_of(self, group: Group, step: int, **numbers: float) -> dict[str, float]:
        return {"decayed_lr": group["lr"] / (1 + (step - 1) * group["lr_decay"])}
