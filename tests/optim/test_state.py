"""Making optimisers, and keeping their state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn, optim

#: An optimiser with two sets of settings; loading a state brings its settings along.
SETTINGS: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
    (optim.SGD, {"lr": 0.1, "weight_decay": 0.1}, {"lr": 0.2}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.5, "nesterov": True}, {"lr": 0.2, "momentum": 0.1}),
    (optim.Adam, {"lr": 0.1, "betas": (0.5, 0.75), "eps": 1e-4, "weight_decay": 0.1}, {}),
]


def some_steps(params: list[ab.Parameter], optimizer: optim.Optimizer, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    for _ in range(3):
        for p in params:
            p.grad = rng.normal(size=p.shape).astype(p.dtype)
        optimizer.step()
    return [p.numpy() for p in params]


def fresh() -> list[ab.Parameter]:
    return [ab.Parameter(np.ones(3)), ab.Parameter(np.ones((2, 2)), dtype=np.float64)]


@pytest.mark.parametrize(("kind", "settings", "others"), SETTINGS)
def test_training_goes_on_from_a_saved_state_bit_for_bit(
    kind: Any, settings: dict[str, Any], others: dict[str, Any], tmp_path: Path
) -> None:
    params, again = fresh(), fresh()
    optimizer, other = kind(params, **settings), kind(again, **others)
    some_steps(params, optimizer, 0)
    ab.save(tmp_path / "optimizer", optimizer.state_dict())
    for p, q in zip(params, again, strict=True):
        q.value = p.numpy()
    other.load_state_dict(ab.load(tmp_path / "optimizer"))
    assert repr(other) == repr(optimizer)
    for left, right in zip(some_steps(params, optimizer, 1), some_steps(again, other, 1), strict=True):
        np.testing.assert_array_equal(left, right)


def test_the_state_is_named_by_number_and_holds_copies() -> None:
    params = fresh()
    optimizer = optim.Adam(params)
    some_steps(params, optimizer, 0)
    state = optimizer.state_dict()
    moments = [f"{k}.{name}" for k in range(2) for name in ("step", "exp_avg", "exp_avg_sq")]
    assert list(state) == ["lr", "betas", "eps", "weight_decay", *moments]
    assert state["0.step"] == 3
    assert state["1.exp_avg"].dtype == np.float64
    state["0.exp_avg"][...] = 9
    state["0.step"][...] = 9
    assert (optimizer.state_dict()["0.exp_avg"] != 9).all()
    assert optimizer.state_dict()["0.step"] == 3


def test_a_loaded_state_is_a_copy() -> None:
    params = fresh()
    optimizer = optim.Adam(params)
    state = optimizer.state_dict()
    optimizer.load_state_dict(state)
    some_steps(params, optimizer, 0)
    assert (state["0.exp_avg"] == 0).all()


def test_a_state_that_does_not_fit_is_refused_with_all_its_faults() -> None:
    optimizer = optim.Adam(fresh())
    state = optimizer.state_dict()
    del state["eps"]
    state["0.exp_avg"] = np.zeros(4)
    state["0.step"] = np.array(1.5)
    state["2.step"] = np.array(0)
    state["lr"] = np.array(0.5)
    with pytest.raises(ValueError) as caught:
        optimizer.load_state_dict(state)
    assert str(caught.value).splitlines() == [
        "Adam.load_state_dict: the state does not fit",
        "  0.exp_avg: expected shape (3,), got (4,)",
        "  0.step: expected dtype int64, got float64",
        "  2.step: unexpected",
        "  eps: missing",
    ]
    assert optimizer.lr == 1e-3
    with pytest.raises(ValueError, match="betas out of range"):
        optimizer.load_state_dict(optimizer.state_dict() | {"lr": np.array(0.5), "betas": np.array([0.5, 2.0])})
    assert optimizer.lr == 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: optim.SGD(p, -1.0), "lr out of range"),
        (lambda p: optim.SGD(p, float("nan")), "lr out of range"),
        (lambda p: optim.SGD(p, 0.1, momentum=1.0), "expected 0 <= momentum < 1"),
        (lambda p: optim.SGD(p, 0.1, weight_decay=-0.1), "weight_decay out of range"),
        (lambda p: optim.SGD(p, 0.1, nesterov=True), "expected momentum > 0"),
        (lambda p: optim.Adam(p, betas=(0.9, 1.0)), "betas out of range"),
        (lambda p: optim.Adam(p, eps=-1e-8), "eps out of range"),
        (lambda p: optim.Adam([]), "no parameter to train"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make([ab.Parameter(np.ones(2))])


def test_the_learning_rate_is_checked_when_it_is_set() -> None:
    optimizer = optim.SGD(fresh(), 0.1)
    with pytest.raises(ValueError, match="lr out of range"):
        optimizer.lr = -1
    assert optimizer.lr == 0.1


def test_only_parameters_can_be_trained() -> None:
    with pytest.raises(TypeError, match=r"expected ab.Parameter, got Linear\n  repair: pass model.parameters\(\)"):
        optim.SGD([nn.Linear(2, 2)], 0.1)
    optimizer = optim.SGD(nn.Linear(2, 3).parameters(), 0.1)
    assert [p.shape for p in optimizer.params] == [(3, 2), (3,)]


def test_repr_shows_the_settings() -> None:
    assert repr(optim.Adam(fresh())) == "Adam(2 parameters, lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0)"


def test_settings_other_than_lr_are_fixed() -> None:
    sgd, adam = (optim.SGD([ab.Parameter([1.0])], 0.1, momentum=0.5), optim.Adam([ab.Parameter([1.0])]))
    for optimizer, name in ((sgd, "momentum"), (sgd, "nesterov"), (adam, "betas"), (adam, "eps")):
        before = getattr(optimizer, name)
        with pytest.raises(AttributeError, match=f"{name} is fixed"):
            setattr(optimizer, name, 0.9)
        assert getattr(optimizer, name) == before
    sgd.lr = 0.2
    assert sgd.lr == 0.2
