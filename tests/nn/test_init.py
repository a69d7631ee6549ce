"""Initial values: PyTorch's default distributions, from a seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn

BY_HIDDEN = {  # layers drawn from U(−1/√16, 1/√16)
    "Linear": lambda: nn.Linear(16, 2000),
    "LSTMCell": lambda: nn.LSTMCell(300, 16),
    "GRUCell": lambda: nn.GRUCell(300, 16),
    "TreeLSTMLeaf": lambda: nn.TreeLSTMLeaf(300, 16),
    "BinaryTreeLSTMCell": lambda: nn.BinaryTreeLSTMCell(16),
    "ChildSumTreeLSTMCell": lambda: nn.ChildSumTreeLSTMCell(300, 16),
}


@pytest.mark.parametrize("make", BY_HIDDEN.values(), ids=BY_HIDDEN.keys())
def test_weights_are_uniform_within_one_over_root_of_the_width(make: Callable[[], nn.Module]) -> None:
    drawn = np.concatenate([parameter.numpy().ravel() for parameter in make().parameters()])
    assert np.abs(drawn).max() <= 0.25
    # Eight equal bins: each count is binomial(n, 1/8), and six standard deviations are never left by chance.
    counts, _ = np.histogram(drawn, bins=8, range=(-0.25, 0.25))
    assert np.abs(counts - drawn.size / 8).max() < 6 * np.sqrt(drawn.size * 7 / 64)


def test_embedding_is_standard_normal() -> None:
    table = nn.Embedding(1000, 20).weight.numpy()
    assert abs(table.mean()) < 6 / np.sqrt(table.size)
    assert abs((table**2).mean() - 1) < 6 * np.sqrt(2 / table.size)


def test_layer_norm_starts_as_the_identity_map_of_normalised_rows() -> None:
    layer = nn.LayerNorm(3)
    np.testing.assert_array_equal(layer.weight.numpy(), np.ones(3))
    np.testing.assert_array_equal(layer.bias.numpy(), np.zeros(3))


@pytest.mark.parametrize("make", BY_HIDDEN.values(), ids=BY_HIDDEN.keys())
def test_the_same_seed_gives_the_same_model(make: Callable[[], nn.Module]) -> None:
    ab.seed(5)
    first, second = make(), make()
    ab.seed(5)
    again = make()
    for name, array in first.state_dict().items():
        np.testing.assert_array_equal(array, again.state_dict()[name])
        assert not np.array_equal(array, second.state_dict()[name])


def test_float32_and_float64_start_from_the_same_draws() -> None:
    ab.seed(1)
    wide = nn.Linear(4, 3).weight.numpy()
    ab.set_default_dtype("float32")
    ab.seed(1)
    narrow = nn.Linear(4, 3).weight.numpy()
    assert narrow.dtype == np.float32
    np.testing.assert_array_equal(narrow, wide.astype(np.float32))


def test_no_bias_means_no_parameter() -> None:
    assert list(nn.Linear(3, 2, bias=False).state_dict()) == ["weight"]
    assert list(nn.LSTMCell(3, 2, bias=False).state_dict()) == ["weight_ih", "weight_hh"]
    assert list(nn.GRUCell(3, 2, bias=False).state_dict()) == ["weight_ih", "weight_hh"]
