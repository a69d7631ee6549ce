"""A schedule of the learning rate that goes by a metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..base.errors import message
from .optimizer import Array, Optimizer, fitting


class ReduceLROnPlateau:
    """Multiply the learning rates by `factor` once a metric has not improved for more than `patience` steps.

    As PyTorch's.

    Arguments:
        optimizer: whose learning rates.
        mode: "min" or "max", whichever is better.
        threshold, threshold_mode: what counts as better: by this share ("rel"), or by this much ("abs").
        cooldown: steps after a reduction that do not count.
        min_lr: bound of all groups, or a list with that of each.
        eps: smaller changes are not made.

    Raises ValueError for settings out of range.

    >>> optimizer = optim.SGD([ab.Parameter([1.0])], lr=1.0)
    >>> schedule = optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    >>> for loss in (3.0, 2.0, 2.5, 2.5):
    ...     schedule.step(loss)
    >>> optimizer.lr
    0.5
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        """As many arguments as PyTorch's."""
        if not factor < 1 or mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            expected = "factor < 1, mode 'min' or 'max', threshold_mode 'rel' or 'abs'"
            got = f"{factor}, {mode!r}, {threshold_mode!r}"
            raise ValueError(message("ReduceLROnPlateau: settings out of range", expected=expected, got=got))
        n = len(optimizer.param_groups)
        self.min_lrs = [float(min_lr)] * n if np.ndim(min_lr) == 0 else list(min_lr)  # type: ignore[arg-type]
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.threshold_mode, self.cooldown, self.eps = threshold, threshold_mode, cooldown, eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0

    def step(self, metrics: Any) -> None:
        """Count a step, of which this is the metric: a number, or a tensor of one."""
        current = float(metrics)
        self.last_epoch += 1
        if self._is_better(current):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, least in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
                reduced = max(group["lr"] * self.factor, least)
                if group["lr"] - reduced > self.eps:
                    group["lr"] = reduced
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def _is_better(self, current: float) -> bool:
        sign = 1 if self.mode == "min" else -1
        if self.threshold_mode == "abs" or math.isinf(self.best):
            return sign * current < sign * self.best - self.threshold
        return sign * current < sign * self.best * (1 - sign * self.threshold)

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group, as it is now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Array]:
        """What was counted, in the flat form that `ab.save` takes; learning rates are in the optimiser's state."""
        names = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")
        return {name: np.array(getattr(self, name)) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was called; ValueError for a state that does not fit."""
        taken = fitting("ReduceLROnPlateau.load_state_dict", self.state_dict(), state)
        self.__dict__.update({name: x.item() for name, x in taken.items()})
