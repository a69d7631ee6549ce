"""Copies and pickles of what has been used: the same numbers, nothing in common."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn, optim
from autobatch.record.parameter import SparseRows

COPIES: dict[str, Callable[[Any], Any]] = {"deepcopy": copy.deepcopy}
for number in range(2, pickle.HIGHEST_PROTOCOL + 1):
    COPIES[f"pickle {number}"] = lambda x, protocol=number: pickle.loads(pickle.dumps(x, protocol))
each_way = pytest.mark.parametrize("twin_of", COPIES.values(), ids=COPIES)


class Model(nn.Module):
    """A table, a tied weight, a buffer, a constant, a cell and an expression of parameters."""

    def __init__(self) -> None:
        self.table = nn.Embedding(5, 3)
        self.layer = nn.Linear(3, 3)
        self.tied = [self.layer.weight]
        self.offset = nn.Buffer([1.0, 2.0, 3.0])
        self.scale = ab.constant([1.0, 0.5, 2.0])

    @ab.cell
    def hidden(self, x: Any) -> Any:
        return ab.tanh(self.layer(x)) * self.scale

    def forward(self, word: int) -> Any:
        return ((self.hidden(self.table[word]) @ self.tied[0].T + self.offset) ** 2).sum()


def trained(steps: int = 2) -> tuple[Model, optim.Optimizer]:
    ab.seed(3)
    model = Model()
    optimizer = optim.Adam(model.parameters(), 0.1)
    for _ in range(steps):
        step(model, optimizer)
    return model, optimizer


def step(model: Model, optimizer: optim.Optimizer) -> None:
    optimizer.zero_grad()
    ab.mean(ab.map(model, [0, 3, 1])).backward()
    optimizer.step()


def numbers(model: Model) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in model.state_dict().items()}


@each_way
def test_a_used_model_and_its_optimizer_go_on_apart_and_alike(twin_of: Callable[[Any], Any]) -> None:
    model, optimizer = trained()
    before = numbers(model)
    twin, twin_optimizer = twin_of((model, optimizer))
    assert twin.tied[0] is twin.layer.weight
    assert {*map(id, twin_optimizer.params)} == {*map(id, twin.parameters())}
    step(twin, twin_optimizer)
    assert numbers(model) == before
    step(model, optimizer)
    assert numbers(twin) == numbers(model) != before
    assert not any(
        np.shares_memory(a.numpy() if a is b else a.value, b.value)
        for a, b in zip([*model.parameters(), *model.buffers()], [*twin.parameters(), *twin.buffers()], strict=True)
    )


@each_way
def test_gradients_are_copied(twin_of: Callable[[Any], Any]) -> None:
    model, _ = trained()
    ab.map(model, [2])[0].backward()
    twin = twin_of(model)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert type(p.grad) is type(q.grad)
        mine, its = (g.values if isinstance(g, SparseRows) else g for g in (p.grad, q.grad))
        assert mine is not None
        assert np.array_equal(mine, its)
        mine += 1.0
        assert not np.array_equal(mine, its)


@each_way
def test_attributes_of_a_subclass_are_copied(twin_of: Callable[[Any], Any]) -> None:
    w = Named([1.0, 2.0])
    w.name = ["w"]
    twin = twin_of(w)
    assert type(twin) is Named and twin.name == ["w"] and twin.name is not w.name


class Named(ab.Parameter):
    name: list[str]


@each_way
def test_a_value_is_copied_where_it_has_no_gradient(twin_of: Callable[[Any], Any]) -> None:
    w = ab.Parameter([1.0, 2.0])
    x = ab.tensor([3.0, 4.0])
    with ab.no_grad():
        frozen = w * x
    for value in (x, x * 2.0, frozen, (w * x).detach(), x.sum() > 1.0):
        twin = twin_of(value)
        assert isinstance(twin, ab.Tensor) and twin.dtype == value.dtype
        assert np.array_equal(twin.numpy(), value.numpy())
    with pytest.raises(ab.errors.RecordingError, match="detach"):
        twin_of(w * x)


def test_every_function_is_copied_by_its_name() -> None:
    functions = {n: f for n, f in vars(ab).items() if n in ab.__all__ and callable(f)}
    assert {n for n, f in functions.items() if pickle.loads(pickle.dumps(f)) is not f} == set()
    assert {n for n, f in functions.items() if copy.deepcopy(f) is not f} == set()


@each_way
def test_a_module_that_holds_functions_is_copied(twin_of: Callable[[Any], Any]) -> None:
    model = nn.Sequential(nn.Linear(2, 2), ab.tanh, ab.gelu)
    twin = twin_of(model)
    np.testing.assert_array_equal(twin(ab.ones(2)).numpy(), model(ab.ones(2)).numpy())
