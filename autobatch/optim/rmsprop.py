"""RMSprop: steps scaled by the running size of the gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .groups import Group, Setting, flag, fraction, not_negative
from .optimizer import Optimizer, Params, descent


class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton, lecture 6.5 of "Neural networks for machine learning", 2012), as in PyTorch.

        g ← g + weight_decay · w
        s ← α s + (1 − α) g²
        w ← w − lr · g / (√s + eps)

    With momentum, v ← momentum · v + g / (√s + eps) and w ← w − lr · v. Centred (Graves, "Generating sequences with
    recurrent neural networks", 2013, eq. 38 to 41), the square of the running mean of g is taken from s below the root.
    A sparse gradient has the same result as its dense form.

    Arguments:
        params: parameters to train, or groups of them.
        lr: learning rate, not negative.
        alpha: decay of the running mean, from 0 to 1, not 1 itself.
        eps: added to the root, not negative.
        weight_decay: factor of the L2 penalty's gradient, not negative.
        momentum: from 0 to 1, not 1 itself.
        centered: whether the variance takes the place of the second moment.
        maximize: whether to ascend.

    >>> w = ab.Parameter([1.0, 2.0])
    >>> optimizer = optim.RMSprop([w], lr=0.05)
    >>> ab.sum(w * w).backward()
    >>> optimizer.step()
    >>> w.value.round(4)
    array([0.5, 1.5], dtype=float32)
    """

    settings: ClassVar[Mapping[str, Setting]] = {
        "lr": not_negative,
        "alpha": fraction,
        "eps": not_negative,
        "weight_decay": not_negative,
        "momentum": fraction,
        "centered": flag,
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
            maximize=maximize,
        )

    @classmethod
    def state_of(cls, group: Mapping[str, Any]) -> Mapping[str, float]:
        names = ["square_avg"]
        names += ["momentum_buffer"] if group["momentum"] else []
        names += ["grad_avg"] if group["centered"] else []
        return dict.fromkeys(names, 0.0)

    def rule(self, group: Group, step: int) -> str:
        lines = ["square_avg = alpha * square_avg + (1 - alpha) * (g * g)"]
        mean_square = "square_avg"
        if group["centered"]:
            lines.append("grad_avg = grad_avg + (1 - alpha) * (g - grad_avg)")
            mean_square = "square_avg - grad_avg * grad_avg"
        lines.append(f"scaled = g / (sqrt({mean_square}) + eps)")
        if group["momentum"]:
            lines += ["momentum_buffer = momentum * momentum_buffer + scaled", "w = w - lr * momentum_buffer"]
        else:
            lines.append("w = w - lr * scaled")
        return descent(group) + "\n".join(lines)
