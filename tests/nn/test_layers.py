"""Layers against their formulas, written again in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn

RNG = np.random.default_rng(7)


def close(ours: Any, expected: np.ndarray) -> None:
    ours = ours.numpy()
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-10 * (1 + np.abs(expected).max(initial=0)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def parts(layer: nn.Module) -> dict[str, np.ndarray]:
    return layer.state_dict()


def lstm(x: np.ndarray, h: np.ndarray, c: np.ndarray, w: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    z = w["weight_ih"] @ x + w["weight_hh"] @ h
    if "bias_ih" in w:
        z = z + w["bias_ih"] + w["bias_hh"]
    i, f, g, o = np.split(z, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru(x: np.ndarray, h: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
    from_x = np.split(w["weight_ih"] @ x + w.get("bias_ih", 0), 3)
    from_h = np.split(w["weight_hh"] @ h + w.get("bias_hh", 0), 3)
    r, z = (sigmoid(a + b) for a, b in zip(from_x[:2], from_h[:2], strict=True))
    n = np.tanh(from_x[2] + r * from_h[2])
    return (1 - z) * n + z * h


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4,), (3, 4), (1, 4)])
def test_linear(bias: bool, shape: tuple[int, ...]) -> None:
    layer, x = nn.Linear(4, 5, bias=bias), RNG.normal(size=shape)
    w = parts(layer)
    close(layer(ab.tensor(x)), x @ w["weight"].T + w.get("bias", 0))


def test_embedding_by_call_and_by_index() -> None:
    embed = nn.Embedding(6, 3)
    table = parts(embed)["weight"]
    for index in (0, 5, np.int64(2)):
        close(embed[index], table[index])
        close(embed(index), table[index])
    for indices in ([3, 1, 3], np.array([0, 5]), ab.tensor(np.array([2, 2]))):
        expected = table[indices.numpy() if isinstance(indices, ab.Tensor) else indices]
        close(embed[indices], expected)
        close(embed(indices), expected)


@pytest.mark.parametrize("index", [6, [0, 6]])
def test_embedding_refuses_an_index_outside_the_table(index: Any) -> None:
    with pytest.raises(IndexError):
        nn.Embedding(6, 3)[index].numpy()


def test_embedding_is_no_sequence() -> None:
    with pytest.raises(TypeError):
        list(nn.Embedding(6, 3))


@pytest.mark.parametrize("shape", [(5,), (3, 5)])
def test_layer_norm(shape: tuple[int, ...]) -> None:
    layer, x = nn.LayerNorm(5, eps=1e-3), RNG.normal(size=shape) * 3 + 1
    layer.weight.value, layer.bias.value = RNG.normal(size=5), RNG.normal(size=5)
    w = parts(layer)
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    close(layer(ab.tensor(x)), (x - mean) / np.sqrt(variance + 1e-3) * w["weight"] + w["bias"])


def test_dropout_follows_train_and_eval() -> None:
    layer, x = nn.Dropout(0.25), np.ones(4000)
    out = layer(ab.tensor(x)).numpy()
    assert set(np.unique(out)) == {0.0, 1 / 0.75}
    assert abs((out == 0).mean() - 0.25) < 6 * np.sqrt(0.25 * 0.75 / 4000)
    layer.eval()
    np.testing.assert_array_equal(layer(ab.tensor(x)).numpy(), x)
    layer.train()
    assert (layer(ab.tensor(x)).numpy() == 0).any()


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_dropout_of_nothing_and_of_everything(p: float) -> None:
    x = RNG.normal(size=10)
    np.testing.assert_array_equal(nn.Dropout(p)(ab.tensor(x)).numpy(), x * (1 - p))


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_dropout_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(ValueError, match="expected 0 <= p <= 1"):
        nn.Dropout(p)


@pytest.mark.parametrize("bias", [True, False])
def test_lstm_cell(bias: bool) -> None:
    cell, h, c = nn.LSTMCell(3, 4, bias=bias), np.zeros(4), np.zeros(4)
    state = None
    for x in RNG.normal(size=(5, 3)):
        state = cell(ab.tensor(x), state)
        h, c = lstm(x, h, c, parts(cell))
        close(state[0], h)
        close(state[1], c)


@pytest.mark.parametrize("bias", [True, False])
def test_gru_cell(bias: bool) -> None:
    cell, h = nn.GRUCell(3, 4, bias=bias), np.zeros(4)
    state = None
    for x in RNG.normal(size=(5, 3)):
        state = cell(ab.tensor(x), state)
        h = gru(x, h, parts(cell))
        close(state, h)


def test_recurrent_cells_take_rows_of_several_sequences() -> None:
    xs, hs, cs = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 4)), RNG.normal(size=(2, 4))
    cell = nn.LSTMCell(3, 4)
    h, c = cell(ab.tensor(xs), (ab.tensor(hs), ab.tensor(cs)))
    expected = [lstm(x, h1, c1, parts(cell)) for x, h1, c1 in zip(xs, hs, cs, strict=True)]
    close(h, np.stack([pair[0] for pair in expected]))
    close(c, np.stack([pair[1] for pair in expected]))
    gated = nn.GRUCell(3, 4)
    expected_h = np.stack([gru(x, h1, parts(gated)) for x, h1 in zip(xs, hs, strict=True)])
    close(gated(ab.tensor(xs), ab.tensor(hs)), expected_h)


def leaf_node(x: np.ndarray, w: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    i, g, o = np.split(w["weight_ih"] @ x + w["bias_ih"], 3)
    c = sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def test_tree_lstm_leaf() -> None:
    leaf, x = nn.TreeLSTMLeaf(3, 4), RNG.normal(size=3)
    for ours, expected in zip(leaf(ab.tensor(x)), leaf_node(x, parts(leaf)), strict=True):
        close(ours, expected)


def test_binary_tree_lstm_cell_is_equations_9_to_14() -> None:
    node, width = nn.BinaryTreeLSTMCell(4), 4
    h1, c1, h2, c2 = RNG.normal(size=(4, width))
    w = parts(node)
    # One matrix U for each gate and child, as the paper writes them.
    u = {
        (gate, child): w["weight_hh"][k * width : (k + 1) * width, child * width : (child + 1) * width]
        for k, gate in enumerate(("i", "f1", "f2", "u", "o"))
        for child in (0, 1)
    }
    b = dict(zip(("i", "f1", "f2", "u", "o"), np.split(w["bias_hh"], 5), strict=True))
    gates = {gate: u[gate, 0] @ h1 + u[gate, 1] @ h2 + b[gate] for gate in b}
    c = sigmoid(gates["i"]) * np.tanh(gates["u"]) + sigmoid(gates["f1"]) * c1 + sigmoid(gates["f2"]) * c2
    ours = node((ab.tensor(h1), ab.tensor(c1)), (ab.tensor(h2), ab.tensor(c2)))
    close(ours[0], sigmoid(gates["o"]) * np.tanh(c))
    close(ours[1], c)


def child_sum_node(
    x: np.ndarray, children: list[tuple[np.ndarray, np.ndarray]], w: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Equations 2 to 8 of the paper, one weight matrix for each gate."""
    wi, wf, wu, wo = np.split(w["weight_ih"], 4)
    bi, bf, bu, bo = np.split(w["bias_ih"], 4)
    ui, uu, uo = np.split(w["weight_hh"], 3)
    uf = w["weight_fh"]
    total = np.sum([h for h, _ in children], axis=0) if children else np.zeros(len(bi))
    i = sigmoid(wi @ x + ui @ total + bi)
    o = sigmoid(wo @ x + uo @ total + bo)
    u = np.tanh(wu @ x + uu @ total + bu)
    c = i * u
    for h_k, c_k in children:
        c = c + sigmoid(wf @ x + uf @ h_k + bf) * c_k
    return o * np.tanh(c), c


@pytest.mark.parametrize("n_children", [0, 1, 2, 5])
def test_child_sum_tree_lstm_cell_is_equations_2_to_8(n_children: int) -> None:
    node, x = nn.ChildSumTreeLSTMCell(3, 4), RNG.normal(size=3)
    children = [tuple(pair) for pair in RNG.normal(size=(n_children, 2, 4))]
    ours = node(ab.tensor(x), [(ab.tensor(h), ab.tensor(c)) for h, c in children])
    for got, expected in zip(ours, child_sum_node(x, children, parts(node)), strict=True):
        close(got, expected)


def test_the_order_of_children_does_not_matter() -> None:
    node = nn.ChildSumTreeLSTMCell(3, 4)
    children = [node(ab.tensor(x), []) for x in RNG.normal(size=(3, 3))]
    x = ab.tensor(RNG.normal(size=3))
    forwards, backwards = node(x, children), node(x, children[::-1])
    close(forwards[0], backwards[0].numpy())
    close(forwards[1], backwards[1].numpy())
