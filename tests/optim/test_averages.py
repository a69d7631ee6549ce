"""Averages of weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn, optim


class Model(nn.Module):
    def __init__(self) -> None:
        self.weight = ab.Parameter(np.zeros((3, 2)))
        self.tied = [self.weight, ab.Parameter(np.zeros(2), dtype=np.float64)]
        self.mean = nn.Buffer(np.zeros(2))
        self.count = nn.Buffer(np.array(0))

    def forward(self, x: Any) -> Any:
        return ab.tensor(x) @ self.weight


def put(model: Model, rng: np.random.Generator) -> list[np.ndarray[Any, Any]]:
    for held in (*model.parameters(), model.mean):
        held.value = rng.normal(size=held.shape)
    model.count.value = np.array(int(rng.integers(100)))
    return [x.numpy().copy() for x in (*model.parameters(), *model.buffers())]


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("decay", [None, 0.75])
def test_an_average_is_that_of_the_formula(decay: float | None, use_buffers: bool, backend: str) -> None:
    rng = np.random.default_rng(0)
    model = Model()
    averaged = optim.AveragedModel(model, decay, use_buffers=use_buffers)
    expected: list[Any] = []
    with ab.backend(backend):
        for n in range(4):
            now = put(model, rng)
            share = 1.0 if n == 0 else 1 / (n + 1) if decay is None else 0.25
            expected = [(1 - share) * x + share * y for x, y in zip(expected or now, now, strict=True)]
            averaged.update_parameters(model)
    if not use_buffers:
        expected[2] = now[2]
    expected[3] = now[3]
    for x, y in zip((*averaged.module.parameters(), *averaged.module.buffers()), expected, strict=True):
        np.testing.assert_allclose(x.numpy(), y, rtol=1e-5)
    assert int(averaged.n_averaged.numpy()) == 4
    again = optim.AveragedModel(model, decay)
    again.load_state_dict(averaged.state_dict())
    module: Any = averaged.module
    assert module.tied[0] is module.weight is not model.weight
    with ab.backend("numpy"):
        np.testing.assert_array_equal(again([1.0, 2.0, 3.0]).numpy(), averaged([1.0, 2.0, 3.0]).numpy())


def test_what_cannot_be_averaged_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected 0 <= decay < 1, or None, got 1\.0"):
        optim.AveragedModel(Model(), 1.0)
    with pytest.raises(ValueError, match="this is not the model that was copied"):
        optim.AveragedModel(Model()).update_parameters(nn.Linear(2, 3))
