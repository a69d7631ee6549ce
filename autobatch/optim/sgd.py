"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ..base.errors import message
from .groups import Group, Setting, flag, fraction, not_negative
from .optimizer import Optimizer, Params, descent


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum as in PyTorch.

        g ← g + weight_decay · w
        v ← momentum · v + (1 − dampening) · g  at the first step g
        w ← w − lr · v                          or, with nesterov, w − lr · (g + momentum · v)

    (Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013, eq. 1 to 4, with the
    learning rate outside the velocity.) A sparse gradient has the same result as its dense form; without momentum and
    decay only its rows are visited. Steps that fall as Robbins and Monro's are those of `lr_scheduler.RobbinsMonroLR`.

    Arguments:
        params: parameters to train, or groups of them.
        lr: learning rate, not negative.
        momentum: from 0 to 1, not 1 itself.
        weight_decay: factor of the L2 penalty's gradient, not negative.
        nesterov: whether to look ahead; needs momentum, and no dampening.
        dampening: from 0 to 1, not 1 itself.
        maximize: whether to ascend.

    >>> w = ab.Parameter([1.0, 2.0])
    >>> optimizer = optim.SGD([w], lr=0.5)
    >>> ab.sum(w * w).backward()
    >>> optimizer.step()
    >>> w.value
    array([0., 0.], dtype=float32)
    """

    settings: ClassVar[Mapping[str, Setting]] = {
        "lr": not_negative,
        "momentum": fraction,
        "weight_decay": not_negative,
        "nesterov": flag,
        "dampening": fraction,
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        dampening: float = 0.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            nesterov=nesterov,
            dampening=dampening,
            maximize=maximize,
        )

    @classmethod
    def check(cls, group: Mapping[str, Any]) -> None:
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"]):
            got = f"momentum={group['momentum']}, dampening={group['dampening']}"
            what = "SGD: nesterov looks ahead along the momentum"
            raise ValueError(message(what, expected="momentum > 0, dampening 0", got=got))

    @classmethod
    def state_of(cls, group: Mapping[str, Any]) -> Mapping[str, float]:
        return {"momentum_buffer": 0.0} if group["momentum"] else {}

    def takes_rows(self, group: Group) -> bool:
        return not (group["momentum"] or group["weight_decay"])

    def rule(self, group: Group, step: int) -> str:
        if not group["momentum"]:
            return descent(group) + "w = w - lr * g"
        velocity = f"momentum_buffer = momentum * momentum_buffer + {'take * ' * (group['dampening'] > 0)}g\n"
        ahead = "g + momentum * momentum_buffer" if group["nesterov"] else "momentum_buffer"
        return descent(group) + velocity + f"w = w - lr * ({ahead})"

    def scalars_of(self, group: Group, step: int, **numbers: float) -> dict[str, float]:
        return {"take": 1.0 if step == 1 else 1.0 - group["dampening"]}
