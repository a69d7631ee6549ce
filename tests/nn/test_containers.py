"""Modules that hold others; calls with other weights; frozen parameters, groups of them, and tables of a model."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn, optim
from tests.requested import host

X = np.random.default_rng(5).normal(size=(4, 3))


def test_lists_of_modules_do_what_lists_do() -> None:
    first, second, third = (nn.Linear(3, 3) for _ in range(3))
    layers = nn.ModuleList([first])
    layers.extend([third])
    layers.insert(1, second)
    assert list(layers) == [first, second, third] and layers[-1] is third and len(layers) == 3
    layers[0], layers[1] = second, ab.tanh
    del layers[2]
    assert layers[0] is second and layers[1].fn is ab.tanh and second in layers
    assert [name for name, _ in layers.named_modules()] == ["", "0", "1"]
    assert [name for name, _ in nn.ModuleList([first, third])[::-1].named_parameters()][:1] == ["0.weight"]
    layers.pop()
    assert list(layers.state_dict()) == ["0.weight", "0.bias"]
    with pytest.raises(TypeError, match="it holds modules and functions\n  got int"):
        layers.append(3)


def test_dicts_of_modules_do_what_dicts_do() -> None:
    a, b = nn.Linear(3, 3), nn.Linear(3, 2)
    held = nn.ModuleDict({"a": a})
    held.update(b=b)
    assert dict(held) == {"a": a, "b": b} and "b" in held and "training" not in held
    assert held.pop("a") is a and list(held.state_dict()) == ["b.weight", "b.bias"]
    assert held != nn.ModuleDict({"b": b}) and held in {held}
    for name in ("", "a.b", "keys", "training", 3):
        with pytest.raises(KeyError, match="cannot be the name"):
            held[name] = a
    assert list(held) == ["b"]


def curved(x: Any) -> Any:
    return ab.tanh(x)


def test_sequential_in_a_cell_sees_what_is_put_in() -> None:
    model = nn.Sequential({"in": nn.Linear(3, 4), "act": curved, "out": nn.Linear(4, 2)})
    call, x = ab.cell(lambda x: model(x)), ab.tensor(X[0])
    before = call(x).numpy()
    np.testing.assert_allclose(before, model(x).numpy(), atol=1e-12)
    model.append(lambda y: y * 2.0)
    np.testing.assert_allclose(call(x).numpy(), 2 * before, atol=1e-12)
    assert [name for name, _ in model[1:].named_modules()] == ["", "act", "out", "3"]
    for other in (copy.deepcopy(model[:3]), pickle.loads(pickle.dumps(model[:3]))):
        np.testing.assert_array_equal(other(x).numpy(), model[:3](x).numpy())


class Tied(nn.Module):
    def __init__(self) -> None:
        first, again = nn.Linear(3, 3), nn.Linear(3, 3)
        again.weight = first.weight
        self.parts: Any = [nn.LSTMCell(3, 3), (first, {"again": again})]

    def forward(self, x: Any) -> Any:
        cell, (first, held) = self.parts
        h, _ = cell(x, (x, x))
        return held["again"](ab.tanh(first(h)))


def test_functional_call_is_the_module_with_these_weights() -> None:
    model, x = Tied(), ab.tensor(X[0])
    with pytest.raises(ValueError, match=r"do not fit Tied\n  weight: unexpected\n  parts.0.weight_ih: missing"):
        nn.functional_call(model, {"weight": X}, x, strict=True)
    with pytest.raises(TypeError, match=r"expected \(3,\), got \(4, 3\)"):
        nn.functional_call(model, {"parts.1.0.bias": X}, x)
    before, others = model.state_dict(), {n: p.numpy() + 0.1 for n, p in model.named_parameters()}
    y = nn.functional_call(model, others, x).numpy()
    assert all((before[name] == value).all() for name, value in model.state_dict().items())
    model.load_state_dict(others)
    np.testing.assert_allclose(model(x).numpy(), y, atol=1e-12)


def test_examples_with_weights_of_their_own_are_batched_and_derived_through() -> None:
    """A step of gradient descent for each example, and the loss after it (Finn, Abbeel & Levine, 2017)."""
    model = Tied()
    names = [name for name, _ in model.named_parameters()]

    def adapted(x: np.ndarray) -> Any:
        def loss(*weights: Any) -> Any:
            return (nn.functional_call(model, dict(zip(names, weights, strict=True)), ab.tensor(x)) ** 2).sum()

        start = [p * 1.0 for p in model.parameters()]
        steps = ab.grad(loss, argnums=tuple(range(len(names))))(*start)
        return loss(*(w - 0.1 * g for w, g in zip(start, steps, strict=True)))

    found, launches = [], []
    for examples, batched in ((X, True), (X, False), (X[:1], True)):
        model.zero_grad()
        with ab.profile() as profile:
            losses = ab.map(adapted, examples, batched=batched)
            ab.sum(losses).backward()
        launches.append(profile.launches)
        found.append([np.array(ab.evaluate(losses)), *(host(p.grad) for p in model.parameters())])
    for ours, theirs in zip(found[0], found[1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-8 * (1 + np.abs(theirs).max()))
    assert launches[0] <= launches[2] + 1


def test_a_forward_that_asks_for_a_value_reads_its_own_weights() -> None:
    class Asking(nn.Module):
        def __init__(self) -> None:
            self.weight = ab.Parameter(np.zeros(1))

        def forward(self) -> float:
            return float(self.weight.sum()) + float((self.weight * 2.0).sum())

    model = Asking()
    given = [{"weight": np.array([float(k)])} for k in range(3)]
    assert ab.map(lambda w: nn.functional_call(model, w), given) == [0.0, 3.0, 6.0]


def test_what_is_frozen_is_not_trained_until_it_is_unfrozen() -> None:
    model, x = Tied(), ab.tensor(X[0])
    optimizer = optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    own, y = dict(model.named_parameters()), model(x).numpy()
    shared = "parts.1.0.weight"
    nn.freeze(model, shared)
    assert [name for name, _ in model.named_parameters()] == [name for name in own if name != shared]
    assert model.parts[1][1]["again"].weight is model.parts[1][0].weight
    np.testing.assert_array_equal(model(x).numpy(), y)
    before = model.state_dict()
    (model(x) ** 2).sum().backward()
    optimizer.step()
    after = model.state_dict()
    assert {name for name in after if (after[name] == before[name]).all()} == {shared, "parts.1.1.again.weight"}
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert len(list(nn.unfreeze(other).parameters())) == len(own)
        np.testing.assert_array_equal(other(x).numpy(), model(x).numpy())
    model.parts[1][0].weight.value = np.ones((3, 3))
    nn.unfreeze(model, "parts.1.*")
    assert dict(model.named_parameters()) == own and (own[shared].value == 1).all()
    for fn in (nn.freeze, nn.parameter_groups):
        with pytest.raises(ValueError, match="has a name like 'embed'"):
            fn(model, "embed" if fn is nn.freeze else {"embed": {}})


def test_groups_by_name_take_each_parameter_once() -> None:
    model = nn.MLP([3, 4, 2])
    groups = nn.parameter_groups(model, {"layers.0.*": {"lr": 0.0}, "*": {"lr": 1.0}})
    assert [[p.shape for p in group["params"]] for group in groups] == [[(4, 3), (4,)], [(2, 4), (2,)]]
    optimizer, before = optim.SGD(groups, lr=0.5), model.state_dict()
    model(ab.tensor(X[0])).sum().backward()
    optimizer.step()
    kept = {name for name, value in model.state_dict().items() if (value == before[name]).all()}
    assert kept == {"layers.0.weight", "layers.0.bias"}


def test_a_summary_counts_what_is_tied_once_and_computes_nothing() -> None:
    model = nn.freeze(Tied(), "parts.1.0.bias")
    with ab.profile() as profile:
        text = nn.summary(model, ab.ones(3))
    assert profile.launches == 0
    assert text.splitlines()[2].split() == ["parts.0", "LSTMCell", "(f64[3],", "f64[3])", "96"]
    assert text.endswith("111 parameters, of which 108 are trained")
    assert "f64" not in nn.summary(model)


def test_settings_that_cannot_be_are_refused() -> None:
    for make, text in (
        (lambda: nn.RNN(3, 4, nonlinearity="sine"), "expected 'tanh' or 'relu', got 'sine'"),
        (lambda: nn.LSTM(3, 4, zoneout=1.5), "zoneout is a probability"),
        (lambda: nn.GRU(3, 4, 0), "there are no layers"),
        (lambda: nn.MLP([3]), "there is no layer"),
        (lambda: nn.StackLSTM(3, 4).pop(nn.StackLSTM(3, 4).empty()), "the stack is empty"),
    ):
        with pytest.raises(ValueError, match=text):
            make()
    for call, text in (
        (lambda: nn.LSTM(3, 4)(X[0]), "LSTM: the input does not fit\n  expected f\\[n, 3\\], got shape \\(3,\\)"),
        (lambda: nn.GRU(3, 4)(X, ab.ones((2, 4))), "GRU: the state does not fit\n  expected f\\[1, 4\\]"),
        (lambda: nn.LSTM(3, 4)(X, (ab.ones((1, 4)),)), "LSTM: a state is a pair\n  expected \\(h, c\\), got a value\n"),
        (lambda: nn.LSTMCell(3, 4)(X[0], ab.ones(4)), "LSTMCell: a state is a pair"),
        (lambda: nn.ChildSumTreeLSTMCell(3, 4)(X[0], [None]), "ChildSumTreeLSTMCell: a state is a pair"),
        (lambda: nn.ChildSumTreeLSTMCell(3, 4)(X[0], [(ab.ones(4),)]), "ChildSumTreeLSTMCell: a state is a pair"),
        (lambda: nn.NaryTreeLSTMCell(3, 4, 1)(X[0], [ab.ones(4)]), "NaryTreeLSTMCell: a state is a pair"),
        (lambda: nn.NaryTreeLSTMCell(3, 4, 1)(X[0], [(ab.ones(4),)]), "NaryTreeLSTMCell: a state is a pair"),
        (lambda: nn.BinaryTreeLSTMCell(4)(ab.ones(4), ab.ones(4)), "BinaryTreeLSTMCell: a state is a pair"),
        (lambda: nn.Conv1d(3, 4, 0)(X), "conv1d: a window has no rows"),
        (lambda: nn.EmbeddingBag(3, 4)([1.5]), "EmbeddingBag: each index is an integer"),
        (lambda: nn.CharBiLSTM(3, 4, 2)([1.5]), "CharBiLSTM: each index is an integer"),
        (lambda: nn.CharCNN(3, 4, 2)([True]), "CharCNN: each index is an integer"),
    ):
        with pytest.raises(ab.errors.OpTypeError, match=text):
            call()
    for layer in (nn.EmbeddingBag(3, 4), nn.CharBiLSTM(3, 4, 2), nn.CharCNN(3, 4, 2)):
        with pytest.raises(ab.errors.OpIndexError, match="index -1 is out of range"):
            layer([-1])


def test_graphs_without_nodes_have_rows_without_number() -> None:
    edges: Any = [[], []]
    for layer in (nn.GraphConv(3, 4), nn.GAT(3, 4), nn.GAT(3, 2, heads=2)):
        assert layer(ab.zeros((0, 3)), edges).shape == (0, 4)
