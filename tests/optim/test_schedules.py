"""Schedules of learning rates: what `tests/parity` does not compare with PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import optim
from autobatch.optim import lr_scheduler, swa_utils


def sgd(lr: float = 1.0, **settings: Any) -> optim.SGD:
    return optim.SGD([ab.Parameter([1.0])], lr, **settings)


def lrs(schedule: Any, n: int) -> list[float]:
    found = []
    for _ in range(n):
        found.append(schedule.get_last_lr()[0])
        schedule.step()
    return found


def test_steps_of_robbins_and_monro() -> None:
    found = lrs(lr_scheduler.RobbinsMonroLR(sgd(2.0), decay=0.5, power=0.75), 4)
    np.testing.assert_allclose(found, [2.0 / (1 + 0.5 * t) ** 0.75 for t in range(4)])


def test_weights_are_averaged_at_a_constant_rate_at_last() -> None:
    optimizer = sgd(1.0)
    lr_scheduler.ExponentialLR(optimizer, 0.5).step()
    np.testing.assert_allclose(lrs(swa_utils.SWALR(optimizer, 0.1, anneal_epochs=2), 4), [0.5, 0.3, 0.1, 0.1])


def joined(optimizer: optim.Optimizer) -> lr_scheduler.LRScheduler:
    parts = [lr_scheduler.LinearLR(optimizer, total_iters=3), lr_scheduler.StepLR(optimizer, 2)]
    return lr_scheduler.SequentialLR(optimizer, parts, [3])


MAKERS: dict[str, Callable[[Any], Any]] = {
    "joined": joined,
    "cycle": lambda o: lr_scheduler.OneCycleLR(o, 2.0, total_steps=9),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_schedule_goes_on_from_a_saved_state(name: str, tmp_path: Path) -> None:
    metrics = [[3.0], [2.0], [2.5], [2.5], [2.5], [2.5], [1.0]] if name == "plateau" else [[]] * 7

    def made() -> tuple[optim.SGD, Any]:
        optimizer = sgd(1.0, momentum=0.5)
        return optimizer, MAKERS[name](optimizer)

    optimizer, schedule = made()
    for metric in metrics[:4]:
        schedule.step(*metric)
    ab.save(tmp_path / "optimizer", optimizer.state_dict())
    ab.save(tmp_path / "schedule", schedule.state_dict())
    other, again = made()
    other.load_state_dict(ab.load(tmp_path / "optimizer"))
    again.load_state_dict(ab.load(tmp_path / "schedule"))
    assert repr(other) == repr(optimizer)
    for metric in metrics[4:]:
        schedule.step(*metric)
        again.step(*metric)
        assert repr(other) == repr(optimizer)


def test_a_cycle_moves_the_first_beta() -> None:
    optimizer: Any = optim.Adam([ab.Parameter([1.0])], betas=(0.9, 0.98))
    schedule = lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=10)
    assert optimizer.betas == (0.95, 0.98)
    for _ in range(2):
        schedule.step()
    assert optimizer.betas == pytest.approx((0.85, 0.98)) and optimizer.lr == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda o: lr_scheduler.StepLR(o, 0), "StepLR: step_size out of range\n  expected a whole number >= 1, got 0"),
        (lambda o: lr_scheduler.LambdaLR(o, []), "expected 1 functions, got 0"),
        (lambda o: lr_scheduler.RobbinsMonroLR(o, power=0.5), "expected decay > 0 and 1/2 < power <= 1"),
        (lambda o: lr_scheduler.OneCycleLR(o, 1.0), "total_steps, or epochs times steps_per_epoch, out of range"),
        (lambda o: lr_scheduler.OneCycleLR(o, 1.0, 5, anneal_strategy="cubic"), "no such cycle"),
        (lambda o: lr_scheduler.OneCycleLR(o, 1.0, 5), "other arrays would be kept"),
        (lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 1)], [1]), "milestones do not fit"),
        (lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(sgd(), 1)], []), "of another optimiser"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=1.0), "expected factor < 1"),
        (lambda o: lr_scheduler.StepLR(o, 1).load_state_dict({}), "base_lrs: missing\n  last_epoch: missing"),
        (lambda o: swa_utils.SWALR(o, 0.1, anneal_strategy="cubic"), "expected 'cos' or 'linear', got 'cubic'"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[Any], Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        make(sgd())


def test_a_cycle_is_over_at_last() -> None:
    schedule = lr_scheduler.OneCycleLR(sgd(momentum=0.9), 1.0, total_steps=2)
    schedule.step()
    schedule.step()
    with pytest.raises(ValueError, match="the cycle is over\n  expected at most 2 steps, got step 3"):
        schedule.step()
