"""AdamW: Adam with decoupled weight decay."""

from __future__ import annotations

from typing import ClassVar

from .adam import Adam
from .optimizer import Params


class AdamW(Adam):
    """Adam with decoupled weight decay, as in PyTorch (Loshchilov & Hutter, "Decoupled weight decay regularization",
    2019, Algorithm 2).

        w ← w − lr · weight_decay · w, then as Adam without decay

    A sparse gradient has the same result as its dense form. Arguments are those of `Adam`.

    >>> w = ab.Parameter([1.0, 2.0])
    >>> optimizer = optim.AdamW([w], lr=0.5, weight_decay=0.5)
    >>> ab.sum(w * w).backward()
    >>> optimizer.step()
    >>> w.value
    array([0.25, 1.  ], dtype=float32)
    """

    decoupled: ClassVar[bool] = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
