"""Making optimisers, and keeping their state."""

from __future__ import annotations

import copy
import pickle
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
    (optim.NAdam, {"lr": 0.1, "momentum_decay": 0.1}, {}),
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
    assert list(state) == ["lr", "betas", "eps", "weight_decay", "amsgrad", "maximize", *moments]
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
    optimizer = optim.Adagrad(fresh()[:1], lr_decay=0.5)
    settings = "lr=0.01, lr_decay=0.5, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10, maximize=False"
    assert repr(optimizer) == f"Adagrad(1 parameter, {settings})"


def test_settings_are_those_of_all_groups_and_may_change_at_any_time() -> None:
    first, second = fresh()
    optimizer: Any = optim.SGD([{"params": [first]}, {"params": second, "lr": 0.5, "momentum": 0.9}], 0.1, momentum=0.5)
    assert optimizer.params == [first, second]
    assert [(g["lr"], g["momentum"]) for g in optimizer.param_groups] == [(0.1, 0.5), (0.5, 0.9)]
    assert optimizer.momentum == 0.5
    optimizer.param_groups[1]["lr"] = 0.25
    optimizer.momentum = 0.25
    assert [(g["lr"], g["momentum"]) for g in optimizer.param_groups] == [(0.1, 0.25), (0.25, 0.25)]
    for p in (first, second):
        p.grad = np.ones(p.shape, p.dtype)
    optimizer.step()
    np.testing.assert_allclose(first.numpy(), 0.9)
    np.testing.assert_allclose(second.numpy(), 0.75)
    for name, value, problem in (
        ("momentum", 1.0, "SGD: momentum out of range\n  expected 0 <= momentum < 1, got 1.0"),
        (
            "momentum",
            0.0,
            "SGD: with this momentum other arrays would be kept\n  got momentum=0.0\n  repair: make a new",
        ),
        ("dampening", 0.5, None),
        ("nesterov", True, "expected momentum > 0, dampening 0, got momentum=0.25, dampening=0.5"),
    ):
        if problem is None:
            setattr(optimizer, name, value)
            continue
        with pytest.raises(ValueError, match=problem):
            setattr(optimizer, name, value)
        assert optimizer.param_groups[0][name] != value
    with pytest.raises(KeyError, match="no such setting"):
        optimizer.param_groups[0]["learning_rate"] = 1.0


def test_the_state_of_groups_is_named_by_their_number(tmp_path: Path) -> None:
    def made() -> tuple[list[ab.Parameter], Any]:
        params = fresh()
        return params, optim.Adam([{"params": params[:1], "lr": 0.5}, {"params": params[1:], "amsgrad": True}])

    params, optimizer = made()
    some_steps(params, optimizer, 0)
    state = optimizer.state_dict()
    assert [name for name in state if name.endswith(("lr", "max_exp_avg_sq"))] == [
        "groups.0.lr",
        "groups.1.lr",
        "1.max_exp_avg_sq",
    ]
    optimizer.param_groups[1]["lr"] = 0.25
    ab.save(tmp_path / "optimizer", optimizer.state_dict())
    again, other = made()
    for p, q in zip(params, again, strict=True):
        q.value = p.numpy()
    other.load_state_dict(ab.load(tmp_path / "optimizer"))
    assert [group["lr"] for group in other.param_groups] == [0.5, 0.25]
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert repr(twin) == repr(other)
        assert twin.params == [p for group in twin.param_groups for p in group["params"]]
    for left, right in zip(some_steps(params, optimizer, 1), some_steps(again, other, 1), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
    ("groups", "problem"),
    [
        (lambda p, q: [{"params": [p]}, {"params": [q, p]}], "a parameter is in two groups"),
        (lambda p, q: [{"params": []}], "there is no parameter to train"),
        (lambda p, q: [{"params": [p], "learning_rate": 1}], "a group has other names\n  expected params, lr, "),
        (lambda p, q: [{"lr": 1.0}], "a group has other names"),
        (lambda p, q: [{"params": [p], "lr": -1}], "Adam: lr out of range"),
    ],
)
def test_groups_that_cannot_be_are_refused(groups: Callable[..., Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        optim.Adam(groups(*fresh()))


def test_a_closure_runs_first_and_its_loss_is_returned() -> None:
    w = ab.Parameter([2.0])
    optimizer = optim.SGD([w], 0.25)

    def closure() -> ab.Tensor:
        optimizer.zero_grad()
        loss = ab.sum(w * w)
        loss.backward()
        return loss

    assert float(optimizer.step(closure)) == 4.0
    assert w.numpy() == [1.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_step_is_left_out_where_a_gradient_is_not_finite(bad: float) -> None:
    params = fresh()
    optimizer = optim.Adam(params)
    params[0].grad, params[1].grad = np.array([1.0, bad, 1.0], np.float32), np.ones((2, 2))
    before = {name: x.tobytes() for name, x in optimizer.state_dict().items()}
    assert not optimizer.step_if_finite()
    assert {name: x.tobytes() for name, x in optimizer.state_dict().items()} == before
    assert all((p.numpy() == 1).all() for p in params)
    params[0].grad = np.ones(3, np.float32)
    assert optimizer.step_if_finite()
    assert all((p.numpy() < 1).all() for p in params)


def test_gradients_of_several_minibatches_add_up_to_one_step() -> None:
    whole, parts = ab.Parameter([1.0, -2.0]), ab.Parameter([1.0, -2.0])
    data = [[1.0, 2.0], [0.5, -1.0], [3.0, 0.0], [1.0, 1.0]]
    for w, batches in ((whole, [data]), (parts, [data[:2], data[2:]])):
        optimizer = optim.Adam([w], 0.1)
        for batch in batches:
            with ab.backend("numpy"):
                losses = ab.map(lambda x, w=w: (w @ ab.tensor(x)) ** 2, batch)
                (ab.sum(losses) / len(data)).backward()
        optimizer.step()
    np.testing.assert_allclose(whole.numpy(), parts.numpy(), rtol=1e-6)
