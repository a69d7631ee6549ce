"""Schedules of learning rates, averages of weights and L-BFGS, here and on PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import autobatch as ab
from autobatch import optim

from .cases import Array, Arrays, Shapes

STEPS = 12


@dataclass(frozen=True)
class Schedule:
    """The learning rates of two groups over some steps, and the momentum of the first.

    make: (module with the schedules, optimiser) → schedule
    metric: what each step is told, for a plateau
    """

    name: str
    make: Callable[[Any, Any], Any]
    metric: tuple[float, ...] = ()

    def __str__(self) -> str:
        return self.name

    def shapes(self) -> Shapes:
        return {}

    def _stepped(self, schedules: Any, optimizer: Any) -> Arrays:
        schedule = self.make(schedules, optimizer)
        found = {}
        for step in range(STEPS):
            groups = optimizer.param_groups
            found[f"step {step}"] = np.array([groups[0]["lr"], groups[1]["lr"], groups[0]["momentum"]])
            optimizer.step()
            schedule.step(*self.metric[step : step + 1])
        return found

    def by_us(self, given: Arrays) -> Arrays:
        groups = [{"params": [ab.Parameter([1.0])]}, {"params": [ab.Parameter([1.0])], "lr": 0.1}]
        return self._stepped(optim.lr_scheduler, optim.SGD(groups, lr=0.5, momentum=0.5))

    def by_them(self, torch: Any, given: Arrays) -> Arrays:
        groups = [{"params": [torch.ones(1)]}, {"params": [torch.ones(1)], "lr": 0.1}]
        return self._stepped(torch.optim.lr_scheduler, torch.optim.SGD(groups, lr=0.5, momentum=0.5))


def _joined(s: Any, o: Any) -> Any:
    return s.SequentialLR(o, [s.LinearLR(o, total_iters=3), s.CosineAnnealingLR(o, 5), s.ConstantLR(o)], [3, 8])


LOSSES = (3.0, 2.0, 2.5, 1.99999, 2.4, 2.3, 1.0, 1.5, 1.5, 1.5, 1.5, 1.5)

SCHEDULES = [
    Schedule("LambdaLR", lambda s, o: s.LambdaLR(o, [lambda t: 0.5**t, lambda t: 1 / (t + 1)])),
    Schedule("StepLR", lambda s, o: s.StepLR(o, 4, gamma=0.3)),
    Schedule("MultiStepLR", lambda s, o: s.MultiStepLR(o, [2, 7, 8])),
    Schedule("ConstantLR", lambda s, o: s.ConstantLR(o, factor=0.25)),
    Schedule("LinearLR", lambda s, o: s.LinearLR(o, start_factor=0.1, end_factor=0.5, total_iters=7)),
    Schedule("ExponentialLR", lambda s, o: s.ExponentialLR(o, 0.8)),
    Schedule("PolynomialLR", lambda s, o: s.PolynomialLR(o, total_iters=9, power=2.0)),
    Schedule("CosineAnnealingLR", lambda s, o: s.CosineAnnealingLR(o, 8, eta_min=0.05)),
    Schedule("CosineAnnealingWarmRestarts", lambda s, o: s.CosineAnnealingWarmRestarts(o, 2, T_mult=2, eta_min=0.01)),
    Schedule("OneCycleLR", lambda s, o: s.OneCycleLR(o, 1.0, total_steps=STEPS)),
    Schedule(
        "OneCycleLR in three phases",
        lambda s, o: s.OneCycleLR(
            o, [1.0, 2.0], epochs=4, steps_per_epoch=3, three_phase=True, anneal_strategy="linear"
        ),
    ),
    Schedule("SequentialLR", _joined),
    Schedule("ReduceLROnPlateau", lambda s, o: s.ReduceLROnPlateau(o, factor=0.5, patience=1, cooldown=1), LOSSES),
    Schedule(
        "ReduceLROnPlateau, largest",
        lambda s, o: s.ReduceLROnPlateau(
            o, "max", patience=0, threshold=0.5, threshold_mode="abs", min_lr=[0.01, 0.05]
        ),
        LOSSES,
    ),
]


@dataclass(frozen=True)
class Minimised:
    """Rosenbrock's function in four dimensions by L-BFGS: where it is after each step."""

    name: str
    settings: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        return self.name

    def shapes(self) -> Shapes:
        return {"start": (4,)}

    def by_us(self, given: Arrays) -> Arrays:
        w = ab.Parameter(given["start"], dtype=np.float64)
        optimizer = optim.LBFGS([w], **dict(self.settings))
        return self._stepped(optimizer, w, lambda: w.numpy().copy())

    def by_them(self, torch: Any, given: Arrays) -> Arrays:
        w = torch.tensor(given["start"], requires_grad=True)
        return self._stepped(torch.optim.LBFGS([w], **dict(self.settings)), w, lambda: w.detach().numpy().copy())

    def _stepped(self, optimizer: Any, w: Any, value: Callable[[], Array]) -> Arrays:
        losses: list[float] = []

        def closure() -> Any:
            optimizer.zero_grad()
            loss = ((1 - w[:-1]) ** 2).sum() + 10 * ((w[1:] - w[:-1] ** 2) ** 2).sum()
            loss.backward()
            losses.append(float(loss.detach() if hasattr(loss, "detach") else loss))
            return loss

        found = {}
        for step in range(4):
            optimizer.step(closure)
            found[f"point after step {step}"] = value()
            found[f"loss and evaluations after step {step}"] = np.array([losses[-1], len(losses)])
        return found


MINIMISED = [
    Minimised("L-BFGS", (("lr", 0.05), ("max_iter", 4), ("history_size", 3))),
    Minimised("L-BFGS with a line search", (("max_iter", 5), ("line_search_fn", "strong_wolfe"))),
]
