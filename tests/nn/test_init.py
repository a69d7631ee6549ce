"""Initial values: PyTorch's default distributions, from a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.nn import init

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


# PyTorch's functions.


def filled(fill: Any, shape: tuple[int, ...] = (40, 50), **settings: Any) -> np.ndarray[Any, Any]:
    """What a function of `nn.init` makes of a parameter, which it returns."""
    p = ab.Parameter(np.zeros(shape), dtype=np.float64)
    assert fill(p, **settings) is p
    return p.numpy()


FILLS: dict[str, tuple[Any, dict[str, Any], float, float | None]] = {  # standard deviation, and bound of the values
    "uniform_": (init.uniform_, {"a": -2.0, "b": 2.0}, 4 / np.sqrt(12), 2.0),
    "normal_": (init.normal_, {"std": 3.0}, 3.0, None),
    "xavier_uniform_": (init.xavier_uniform_, {"gain": 2.0}, 2 * np.sqrt(2 / 90), 2 * np.sqrt(6 / 90)),
    "xavier_normal_": (init.xavier_normal_, {"gain": 2.0}, 2 * np.sqrt(2 / 90), None),
    "kaiming_uniform_": (init.kaiming_uniform_, {"a": 1.0}, np.sqrt(1 / 50), np.sqrt(3 / 50)),
    "kaiming_normal_": (init.kaiming_normal_, {"mode": "fan_out", "nonlinearity": "relu"}, np.sqrt(2 / 40), None),
    "lecun_normal_": (init.lecun_normal_, {}, np.sqrt(1 / 50), None),
    "trunc_normal_": (init.trunc_normal_, {"std": 0.5, "a": -0.5, "b": 0.5}, 0.5 * np.sqrt(0.2911), 0.5),
}


@pytest.mark.parametrize("name", FILLS)
def test_fills_have_the_deviation_and_the_bound_of_their_distribution(name: str) -> None:
    fill, settings, deviation, bound = FILLS[name]
    ab.seed(3)
    drawn = filled(fill, **settings)
    assert abs(drawn.mean()) < 6 * deviation / np.sqrt(drawn.size)
    assert drawn.std() == pytest.approx(deviation, rel=0.08)  # that of n normal draws has deviation 1 / √(2 n) = 0.016
    assert bound is None or np.abs(drawn).max() <= bound
    ab.seed(3)
    np.testing.assert_array_equal(filled(fill, **settings), drawn)
    assert not np.array_equal(filled(fill, **settings), drawn)


@pytest.mark.parametrize(("a", "b"), [(3.0, 4.0), (-9.0, -8.0), (0.1, 0.2), (5.0, 60.0)])
def test_a_truncated_normal_far_out_has_the_mean_of_its_tail(a: float, b: float) -> None:
    x = np.linspace(a, min(b, a + 8), 100_001)
    density = np.exp(-x * x / 2 + min(abs(a), abs(b)) ** 2 / 2)
    drawn = filled(init.trunc_normal_, a=a, b=b)
    assert a <= drawn.min() and drawn.max() <= b
    assert drawn.mean() == pytest.approx((x * density).sum() / density.sum(), abs=6 * drawn.std() / np.sqrt(drawn.size))


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (7, 3), (4, 2, 3)])
def test_orthogonal_rows_or_columns(shape: tuple[int, ...]) -> None:
    w = filled(init.orthogonal_, shape, gain=2.0).reshape(shape[0], -1)
    w = w if w.shape[0] <= w.shape[1] else w.T
    np.testing.assert_allclose(w @ w.T, 4 * np.eye(len(w)), atol=1e-12)


def test_simple_fills() -> None:
    np.testing.assert_array_equal(filled(init.eye_, (2, 3)), np.eye(2, 3))
    np.testing.assert_array_equal(filled(init.constant_, (3,), val=0.25), np.full(3, 0.25))
    np.testing.assert_array_equal(filled(init.ones_, ()), 1.0)
    np.testing.assert_array_equal(filled(init.zeros_, (2, 2)), np.zeros((2, 2)))
    w = filled(init.sparse_, (10, 200), sparsity=0.25, std=2.0)
    np.testing.assert_array_equal((w == 0).sum(axis=0), 3)
    assert len({tuple(column) for column in (w == 0).T}) > 50  # not the same rows everywhere
    assert w[w != 0].std() == pytest.approx(2.0, rel=0.1)
    buffer = nn.Buffer(np.zeros(3))
    assert init.ones_(buffer) is buffer and (buffer.numpy() == 1).all()


def test_gains_are_those_of_pytorch() -> None:
    found = {name: init.calculate_gain(name) for name in ("linear", "conv2d", "sigmoid", "tanh", "relu", "selu")}
    assert found == {"linear": 1, "conv2d": 1, "sigmoid": 1, "tanh": 5 / 3, "relu": np.sqrt(2), "selu": 0.75}
    assert init.calculate_gain("leaky_relu") == pytest.approx(np.sqrt(2 / 1.0001))


@pytest.mark.parametrize(
    ("fill", "problem"),
    [
        (
            lambda p: init.xavier_uniform_(p),
            r"xavier_uniform_: it goes by the widths of a layer\n  expected f\[out, in, ",
        ),
        (lambda p: init.eye_(p), r"eye_: it fills a matrix\n  expected f\[n, m\], got shape \(3,\)"),
        (lambda p: init.sparse_(p, 1.5), "expected 0 <= sparsity <= 1, got 1.5"),
        (lambda p: init.trunc_normal_(p, a=1.0, b=1.0), "expected a < b, std > 0"),
        (lambda p: init.kaiming_normal_(p, mode="fan"), "expected 'fan_in' or 'fan_out', got 'fan'"),
        (lambda p: init.calculate_gain("gelu"), "unknown nonlinearity\n  expected conv1d, conv2d"),
    ],
)
def test_fills_that_cannot_be_are_refused(fill: Callable[[Any], Any], problem: str) -> None:
    p = ab.Parameter(np.ones(3))
    with pytest.raises(ValueError, match=problem):
        fill(p)
    assert (p.numpy() == 1).all()
    with pytest.raises(TypeError, match=r"expected ab\.Parameter or nn\.Buffer, got ndarray"):
        init.ones_(np.zeros(3))  # type: ignore[type-var]


# Standardisation.


def test_standardised_training_data_have_mean_0_and_deviation_1() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(50, 3)) * [1.0, 100.0, 0.0] + [5.0, 1e4, 7.0]
    layer = nn.Standardize(3).fit([data[:20], data[20], data[21:]])
    with ab.backend("numpy"):
        y = layer(data.astype(np.float32)).numpy()
        np.testing.assert_allclose(layer.inverse(y).numpy(), data, rtol=1e-5)
        again = nn.Standardize(3)
        again.load_state_dict(layer.state_dict())
        np.testing.assert_array_equal(again(data[3].astype(np.float32)).numpy(), y[3])
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(y.std(axis=0), [1, 1, 0], atol=1e-4)
    assert list(layer.state_dict()) == ["mean", "std"] and not list(layer.parameters())
    numbers = nn.Standardize().fit([1.0, 3.0, 2.0])
    assert float(numbers.mean.numpy()) == 2.0
    assert repr(layer) == "Standardize(shape=(3,))"


@pytest.mark.parametrize(
    ("examples", "problem"),
    [
        ([], "there are no observations"),
        ([[1.0, 2.0], [1.0]], r"example 1 does not fit\n  expected shape \(2,\) or \(n, \*\(2,\)\), got \(1,\)"),
        ([[1.0, np.nan]], "example 0 holds NaN or an infinity"),
        ([np.ones((2, 2, 2))], "example 0 does not fit"),
        ([3.0], "example 0 does not fit"),
    ],
)
def test_data_without_statistics_are_refused(examples: Any, problem: str) -> None:
    layer = nn.Standardize(2)
    with pytest.raises(ValueError, match=problem):
        layer.fit(examples)
    assert (layer.std.numpy() == 1).all()
