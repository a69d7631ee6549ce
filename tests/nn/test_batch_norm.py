"""Batch normalisation between two maps, against PyTorch's formula on all rows at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from tests.requested import host

RNG = np.random.default_rng(3)
BATCHES = [[RNG.normal(size=(n, 3)) * 2 + 1 for n in lengths] for lengths in ((2, 4, 1), (3, 3))]


class Model(nn.Module):
    def __init__(self) -> None:
        self.first, self.norm, self.last = nn.Linear(3, 4), nn.BatchNorm(4), nn.Linear(4, 2)

    def losses(self, batch: list[Any], batched: bool = True) -> list[Any]:
        hidden = ab.map(lambda x: self.first(ab.tensor(x)), batch, batched=batched)
        return ab.map(lambda h: (ab.tanh(self.last(h)) ** 2).sum(axis=0).sum(), self.norm(hidden), batched=batched)


def rows_of(model: Model, batch: list[Any]) -> np.ndarray[Any, Any]:
    return np.concatenate(batch) @ model.first.weight.value.T + model.first.bias.value


def test_statistics_are_those_of_all_rows_and_gradients_those_of_differences() -> None:
    model, mean, variance = Model(), np.zeros(4), np.ones(4)
    for batch in BATCHES:
        rows = rows_of(model, batch)
        mean, variance = 0.9 * mean + 0.1 * rows.mean(0), 0.9 * variance + 0.1 * rows.var(0, ddof=1)
        normal = (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5)
        hidden = model.norm(ab.map(lambda x: model.first(ab.tensor(x)), batch))
        np.testing.assert_allclose(np.concatenate([h.numpy() for h in hidden]), normal, atol=1e-10)
    np.testing.assert_allclose(model.norm.running_mean.value, mean, atol=1e-10)
    np.testing.assert_allclose(model.norm.running_var.value, variance, atol=1e-10)
    assert int(model.norm.num_batches_tracked.value) == 2
    found = []
    for batched in (True, False):
        model.zero_grad()
        losses = model.losses(BATCHES[0], batched)
        ab.sum(losses).backward()
        found.append([*ab.evaluate(losses), *(host(p.grad) for p in model.parameters())])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-8)
    weight, direction = model.first.weight.numpy(), RNG.normal(size=(4, 3))
    ends = []
    for step in (1e-5, -1e-5):
        model.first.weight.value = weight + step * direction
        ends.append(sum(map(float, model.losses(BATCHES[0]))))
    assert abs((ends[0] - ends[1]) / 2e-5 - (found[0][3] * direction).sum()) < 1e-6


def test_in_eval_mode_running_statistics_and_single_values() -> None:
    model = Model()
    model.norm.running_mean.value, model.norm.running_var.value = RNG.normal(size=4), RNG.uniform(0.5, 2, 4)
    before = model.eval().state_dict()
    normal = (rows_of(model, BATCHES[0]) - before["norm.running_mean"]) / np.sqrt(before["norm.running_var"] + 1e-5)
    found = ab.map(lambda x: model.norm(model.first(ab.tensor(x))), BATCHES[0])
    np.testing.assert_allclose(np.concatenate([y.numpy() for y in found]), normal, atol=1e-10)
    assert all((model.state_dict()[name] == value).all() for name, value in before.items())


def test_one_example_alone_has_no_statistics() -> None:
    norm = nn.BatchNorm(3)
    with pytest.raises(ab.errors.OpTypeError, match="in training it needs the whole minibatch"):
        ab.map(lambda x: norm(ab.tensor(x)), BATCHES[0])
    with pytest.raises(ab.errors.OpTypeError, match="one row has no variance"):
        norm([ab.ones(3)])
    with pytest.raises(ab.errors.OpTypeError, match="a value does not fit"):
        norm([ab.ones(2), ab.ones(2)])


def test_keys_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    theirs, ours = torch.nn.BatchNorm1d(3), nn.BatchNorm(3)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict({name: torch.tensor(value) for name, value in ours.state_dict().items()})
    ab.evaluate(ours(list(map(ab.tensor, np.concatenate(BATCHES[0])))))
    theirs(torch.tensor(np.concatenate(BATCHES[0]), dtype=torch.float32))
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name], value.numpy(), atol=1e-6)
