"""Schedules of the learning rate, with PyTorch's names, arguments and values.

A schedule sets the learning rate of each group when it is made, and at each `step()`, as a function of the number of
steps so far alone. Call `step` after `optimizer.step`, once a minibatch or once an epoch, as the schedule counts.

    optimizer = optim.SGD(model.parameters(), lr=0.1)
    warm_up = lr_scheduler.LinearLR(optimizer, total_iters=100)
    fall = lr_scheduler.CosineAnnealingLR(optimizer, T_max=900)
    schedule = lr_scheduler.SequentialLR(optimizer, [warm_up, fall], milestones=[100])
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..base.errors import message
from .optimizer import Array, Optimizer, fitting
from .plateau import ReduceLROnPlateau

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "ExponentialLR",
    "InverseSquareRootLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "RobbinsMonroLR",
    "SequentialLR",
    "StepLR",
]


class LRScheduler(ABC):
    """Base of the schedules: `optimizer`'s learning rate for each number of steps. A new schedule defines `lr_at`.

    Attributes:
        last_epoch: number of steps so far.
        base_lrs: learning rate that each group started from.

    Raises ValueError for settings out of range.

    >>> class Halved(optim.lr_scheduler.LRScheduler):
    ...     def lr_at(self, step, base_lr):
    ...         return base_lr / (1 + step)
    >>> Halved(optim.SGD([ab.Parameter([1.0])], lr=1.0)).lr_at(1, 1.0)
    0.5
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            group.initial_lr = group["lr"] if group.initial_lr is None else group.initial_lr
        self.base_lrs = [float(group.initial_lr or 0.0) for group in optimizer.param_groups]
        self.last_epoch = 0
        self._set()

    @abstractmethod
    def lr_at(self, step: int, base_lr: float) -> float:
        """The learning rate after so many steps, of a group that starts from `base_lr`."""

    def settings_at(self, step: int) -> list[dict[str, Any]]:
        """What is set in each group."""
        return [{"lr": self.lr_at(step, base)} for base in self.base_lrs]

    def step(self) -> None:
        """Count a step, and set the learning rates."""
        self.last_epoch += 1
        self._set()

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group, as it is now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def _set(self) -> None:
        for group, settings in zip(self.optimizer.param_groups, self.settings_at(self.last_epoch), strict=True):
            for name, value in settings.items():
                group[name] = value

    def state_dict(self) -> dict[str, Array]:
        """The number of steps and the first learning rates, in the flat form that `ab.save` takes."""
        return {"last_epoch": np.array(self.last_epoch), "base_lrs": np.array(self.base_lrs)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was called; the learning rates are set. ValueError for a state that does not fit."""
        taken = fitting(f"{type(self).__name__}.load_state_dict", self.state_dict(), state)
        self.last_epoch, self.base_lrs = int(taken["last_epoch"]), taken["base_lrs"].tolist()
        self._set()


class LambdaLR(LRScheduler):
    """base_lr · lr_lambda(step); a list has a function for each group. As PyTorch's.

    >>> optimizer = optim.SGD([ab.Parameter([1.0])], lr=1.0)
    >>> schedule = optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 ** step)
    >>> schedule.step()
    >>> optimizer.lr
    0.5
    """

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]]
    ) -> None:
        n = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * n if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != n:
            what = "LambdaLR: functions and groups differ in number"
            raise ValueError(message(what, expected=f"{n} functions", got=f"{len(self.lr_lambdas)}"))
        super().__init__(optimizer)

    def lr_at(self, step: int, base_lr: float) -> float:
        return base_lr * self.lr_lambdas[0](step)

    def settings_at(self, step: int) -> list[dict[str, Any]]:
        pairs = zip(self.base_lrs, self.lr_lambdas, strict=True)
        return [{"lr": base * factor(step)} for base, factor in pairs]


class StepLR(LRScheduler):
    """base_lr · gamma^⌊step / step_size⌋. As PyTorch's.

    >>> optimizer = optim.SGD([ab.Parameter([1.0])], lr=1.0)
    >>> optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5).lr_at(4, 1.0)
    0.25
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size, self.gamma = _at_least("StepLR: step_size", step_size, 1), gamma
        super().__init__(optimizer)

    def lr_at(self, step: int, base_lr: float) -> float:
        return base_lr * float(self.gamma ** (step // self.step_size))


class MultiStepLR(LRScheduler):
    """base_lr · gamma^(milestones reached). As PyTorch's.

    >>> optimizer = optim.SGD([ab.Parameter([1.0])], lr=1.0)
    >>> round(optim.lr_scheduler.MultiStepLR(optimizer, milestones=[1, 3], gamma=0.5).lr_at(3, 1.0), 4)
    0.25
    """

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer)

    def lr_at(self, step: int, base_lr: float) -> float:
        return base_lr * float(self.gamma ** sum(step >= milestone for milestone in self.milestones))


class ConstantLR(LRScheduler):
    """base_lr · factor for `total_iters` steps, then base_lr. As PyTorch's.

    >>> optimizer = optim.SGD([ab.Parameter([1.0])], lr=1.0)
    >>> round(optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=2).lr_at(1, 1.0), 4)
    0.5
    """

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5) -> None:
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer)

    def lr_at(self, step: int, base_lr: float) -> float:
        return base_lr * self.factor if step < self.total_iters else base_lr


class LinearLR(LRScheduler):
    """base_lr times a factor that goes from `start_factor` to `end_factor` in `total_iters` steps. As PyTorch's.

    >>> optimizer = optim.SGD([ab.Parameter([1.0])], lr=1.0)
    >>> schedule = optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=4)
    >>> schedule.step()
    >>> optimizer.lr
    0.625
    """

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = _at_least("LinearLR: total_iters", total_iters, 1)
        super().__init__(optimizer)

    def lr_at(self, step: int, base_lr: float) -> float:
        done = min(step, self.total_iters) / self.total_iters
        return base_lr * (self.start_factor + (self.end_factor - self.start_factor) * done)


class ExponentialLR(LRScheduler):
    """base_lr · gamma^step. As PyTorch's.

    >>> optimizer = optim.SGD([ab.Parameter([1.0])], lr=1.0)
    >>> round(optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5).lr_at(2, 1.0), 4)
    0.25
    """

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = gamma
        super().__init__(optimizer)

    def lr_at(self, step: int, base_lr: float) -> float:
        return base_lr * float(self.gamma**step)


class PolynomialLR(LRScheduler):
    """base_lr · (1 − step / total_iters)^power, and 0 from then on. As PyTorch's.

    >>> optimizer = optim.SGD([ab.Parameter([1.0])], lr=1.0)
    >>> round(optim.lr_scheduler.PolynomialLR(optimizer, total_iters=4, power=2.0).lr_at(2, 1.0), 4)
    0.25
    """

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0) -> None:
        self.total_iters, self.power = _at_least("PolynomialLR: total_iters", total_iters, 1), power
        super().__init__(optimizer)

    def lr_at(self, step: int, base_lr: float) -> float:
        return base_lr * float((1 - min(step, self.total_iters) / self.total_iters) ** self.power)


class CosineAnnealingLR(LRScheduler):
    """From base_lr to `eta_min` in `T_max` steps, by half a period of the cosine, and back in as many (Loshchilov &
    Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017, eq. 5).

    >>> optimizer = optim.SGD([ab.Parameter([1.0])], lr=1.0)
    >>> round(optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4).lr_at(2, 1.0), 4)
    0.5
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max, self.eta_min = _at_least("CosineAnnealingLR: T_max", T_max, 1), eta_min
        super().__init__(optimizer)

    def lr_at(self, step: int, base_lr: float) -> float:
        return _cosine(base_lr, self.eta_min, step / self.T_max)


class CosineAnnealingWarmRestarts(LRScheduler):
    """`CosineAnnealingLR`, but at base_lr again after `T_0` steps, then `T_mult` times as many, and so on (eq. 5).

    >>> optimizer = optim.SGD([ab.Parameter([1.0])], lr=1.0)
    >>> round(optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2).lr_at(2, 1.0), 4)
    1.0
    """

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> None:
        self.T_0 = _at_least("CosineAnnealingWarmRestarts: T_0", T_0, 1)
        self.T_mult = _at_least("CosineAnnealingWarmRestarts: T_mult", T_mult, 1)
        self.eta_min = eta_min
        super().__init__(optimizer)

    def lr_at(self, step: int, base_lr: float) -> float:
        period = self.T_0
        while step >= period:
            step, period = step - period, period * self.T_mult
        return _cosine(base_lr, self.eta_min, step / period)


class InverseSquareRootLR(LRScheduler):
    """From 0 to base_lr in `warmup_steps`, in a straight line, then base_lr · √(warmup_steps / step) (Vaswani et al.,
    "Attention is all you need", 2017, eq. 3, where base_lr is d^(−1/2) · warmup_steps^(−1/2)). Counted from 1.

    >>> optimizer = optim.Adam([ab.Parameter([1.0])], lr=1.0)
    >>> schedule = optim.lr_scheduler.InverseSquareRootLR(optimizer, warmup_steps=4)
    >>> lrs = [optimizer.lr]
    >>> for _ in range(15):
    ...     schedule.step()
    ...     lrs.append(optimizer.lr)
    >>> lrs[0], lrs[3], lrs[15]
    (0.25, 1.0, 0.5)
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: int) -> None:
        self.warmup_steps = _at_least("InverseSquareRootLR: warmup_steps", warmup_steps, 1)
        super().__init__(optimizer)

    def lr_at(self, step: int, base_lr: float) -> float:
        return base_lr * min((step + 1) / self.warmup_steps, math.sqrt(self.warmup_steps / (step + 1)))


class RobbinsMonroLR(LRScheduler):
    """base_lr / (1 + decay · step)^power, whose sum diverges and whose sum of squares converges (Robbins & Monro, "A
    stochastic approximation method", 1951, eq. 6 and 27).

    Arguments:
        decay: positive.
        power: above 1/2, at most 1.

    >>> optimizer = optim.SGD([ab.Parameter([1.0])], lr=1.0)
    >>> schedule = optim.lr_scheduler.RobbinsMonroLR(optimizer)
    >>> schedule.step()
    >>> optimizer.lr
    0.5
    """

    def __init__(self, optimizer: Optimizer, decay: float = 1.0, power: float = 1.0) -> None:
        if not (decay > 0 and 0.5 < power <= 1):
            what, expected = "RobbinsMonroLR: these steps do not converge", "decay > 0 and 1/2 < power <= 1"
            raise ValueError(message(what, expected=expected, got=f"{decay=}, {power=}"))
        self.decay, self.power = decay, power
        super().__init__(optimizer)

    def lr_at(self, step: int, base_lr: float) -> float:
        return base_lr / float((1 + self.decay * step) ** self.power)


class OneCycleLR(LRScheduler):
    """Up from max_lr / div_factor to max_lr, down to max_lr / div_factor / final_div_factor; the momentum the other way
    (Smith & Topin, "Super-convergence", 2018).

    Arguments:
        max_lr: of all groups, or a list with that of each.
        total_steps: or else `epochs` and `steps_per_epoch`.
        pct_start: share of the steps that go up.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: whether `momentum`, or the first of `betas`, changes, too.
        base_momentum, max_momentum: its bounds.
        three_phase: whether the way down is first as long as the way up, to max_lr / div_factor.

    Raises ValueError for a step after the last.

    >>> optimizer = optim.SGD([ab.Parameter([1.0])], lr=1.0, momentum=0.9)
    >>> round(optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=10).lr_at(2, 1.0), 4)
    1.0
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        """As many arguments as PyTorch's."""
        if total_steps is None:
            total_steps = (epochs or 0) * (steps_per_epoch or 0)
        self.total_steps = _at_least("OneCycleLR: total_steps, or epochs times steps_per_epoch,", total_steps, 1)
        if not 0 <= pct_start <= 1 or anneal_strategy not in ("cos", "linear"):
            expected = "0 <= pct_start <= 1, anneal_strategy 'cos' or 'linear'"
            got = f"{pct_start}, {anneal_strategy!r}"
            raise ValueError(message("OneCycleLR: no such cycle", expected=expected, got=got))
        self.anneal_strategy, self.cycle_momentum = anneal_strategy, cycle_momentum
        end = float(pct_start * self.total_steps) - 1
        low, lowest = 1 / div_factor, 1 / div_factor / final_div_factor
        # Last step, and what is reached there: share of max_lr, and momentum.
        self._phases = [(0.0, low, max_momentum), (end, 1.0, base_momentum)]
        if three_phase:
            self._phases.append((float(2 * pct_start * self.total_steps) - 2, low, max_momentum))
        self._phases.append((self.total_steps - 1.0, lowest, max_momentum))
        for group in optimizer.param_groups:
            if cycle_momentum and "momentum" not in group and "betas" not in group:
                what, repair = "OneCycleLR: the optimiser has no momentum", "pass cycle_momentum=False"
                raise ValueError(message(what, got=type(optimizer).__name__, repair=repair))
        highest = [float(max_lr)] * len(optimizer.param_groups) if np.ndim(max_lr) == 0 else list(max_lr)  # type: ignore[arg-type]
        for group, lr in zip(optimizer.param_groups, highest, strict=True):
            group.initial_lr = lr
        super().__init__(optimizer)

    def lr_at(self, step: int, base_lr: float) -> float:
        return self._reached(step, [base_lr * share for _, share, _ in self._phases])

    def settings_at(self, step: int) -> list[dict[str, Any]]:
        found = super().settings_at(step)
        if self.cycle_momentum:
            momentum = self._reached(step, [momentum for _, _, momentum in self._phases])
            for settings, group in zip(found, self.optimizer.param_groups, strict=True):
                if "betas" in group:
                    settings["betas"] = momentum, group["betas"][1]
                else:
                    settings["momentum"] = momentum
        return found

    def _reached(self, step: int, values: Sequence[float]) -> float:
        """What goes from value to value over the phases, after so many steps."""
        if step > self.total_steps:
            what = "OneCycleLR: the cycle is over"
            raise ValueError(message(what, expected=f"at most {self.total_steps} steps", got=f"step {step}"))
        ends = [end for end, _, _ in self._phases]
        k = next((k for k in range(1, len(ends)) if step <= ends[k]), len(ends) - 1)
        done = min((step - ends[k - 1]) / (ends[k] - ends[k - 1]), 1.0) if ends[k] > ends[k - 1] else 1.0
        if self.anneal_strategy == "cos":
            return _cosine(values[k - 1], values[k], done)
        return values[k - 1] + (values[k] - values[k - 1]) * done


class SequentialLR(LRScheduler):
    """The `schedulers` one after the other, the next from each of `milestones` on, from its start. As PyTorch's.

    >>> optimizer = optim.SGD([ab.Parameter([1.0])], lr=1.0)
    >>> rise = optim.lr_scheduler.LinearLR(optimizer, 0.5, total_iters=2)
    >>> fall = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    >>> schedule = optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[2])
    >>> lrs = [optimizer.lr]
    >>> for _ in range(4):
    ...     schedule.step()
    ...     lrs.append(optimizer.lr)
    >>> lrs
    [0.5, 0.75, 1.0, 0.5, 0.25]
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]) -> None:
        if len(milestones) != len(schedulers) - 1 or list(milestones) != sorted(milestones):
            expected = f"{len(schedulers) - 1} milestones, ascending"
            raise ValueError(message("SequentialLR: milestones do not fit", expected=expected, got=f"{milestones}"))
        if any(schedule.optimizer is not optimizer for schedule in schedulers):
            raise ValueError("SequentialLR: a schedule is that of another optimiser")
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        super().__init__(optimizer)

    def lr_at(self, step: int, base_lr: float) -> float:
        schedule, first = self._part(step)
        return schedule.lr_at(step - first, base_lr)

    def settings_at(self, step: int) -> list[dict[str, Any]]:
        schedule, first = self._part(step)
        return schedule.settings_at(step - first)

    def _part(self, step: int) -> tuple[LRScheduler, int]:
        """The schedule of a step, and where it began."""
        k = sum(step >= milestone for milestone in self.milestones)
        return self.schedulers[k], self.milestones[k - 1] if k else 0


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def _at_least(name: str, value: int, least: int) -> int:
    if int(value) != value or value < least:
        raise ValueError(message(f"{name} out of range", expected=f"a whole number >= {least}", got=f"{value}"))
    return int(value)
