"""Attention of several heads against PyTorch's layer, with its state dict."""

from __future__ import annotations

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from tests.requested import host


@pytest.mark.parametrize("crossed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_are_pytorchs(bias: bool, crossed: bool) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    layer = nn.MultiHeadAttention(6, n_heads=3, bias=bias)
    theirs = torch.nn.MultiheadAttention(6, 3, bias=bias, batch_first=True, dtype=torch.float64)
    if bias:
        theirs.in_proj_bias.data += 0.3
    layer.load_state_dict(theirs.state_dict())
    cases = [(rng.normal(size=(n, 6)), rng.normal(size=(m, 6))) for n, m in ((3, 4), (1, 1), (2, 7), (5, 2))]

    def loss(q: np.ndarray, keys: np.ndarray) -> ab.Tensor:
        x = ab.tensor(q)
        y = layer(x, ab.tensor(keys), mask=np.arange(len(keys)) != 1) if crossed else layer(x, causal=True)
        return (y**2).sum(axis=0).sum()

    found = ab.map(loss, *zip(*cases, strict=True))
    ab.sum(found).backward()
    for (q, keys), y in zip(cases, found, strict=True):
        x, k = torch.tensor(q)[None], torch.tensor(keys if crossed else q)[None]
        hidden = torch.arange(len(keys)) == 1 if crossed else torch.ones(len(q), len(q), dtype=torch.bool).triu(1)
        hidden = hidden.expand(len(q), -1)
        expected = (theirs(x, k, k, attn_mask=hidden, need_weights=False)[0] ** 2).sum()
        expected.backward()
        assert abs(float(y) - expected.item()) < 1e-10 * (1 + abs(expected.item()))
    wanted = {name: parameter.grad.numpy() for name, parameter in theirs.named_parameters()}
    assert wanted.keys() == dict(layer.named_parameters()).keys()
    for name, parameter in layer.named_parameters():
        np.testing.assert_allclose(
            host(parameter.grad), wanted[name], rtol=0, atol=1e-8 * (1 + abs(wanted[name]).max())
        )


def test_initial_values_have_pytorchs_scale() -> None:
    layer = nn.MultiHeadAttention(64, n_heads=4)
    assert layer.in_proj_bias is not None and layer.out_proj.bias is not None
    assert not layer.in_proj_bias.value.any() and not layer.out_proj.bias.value.any()
    assert abs(layer.in_proj_weight.value.std() - np.sqrt(2 / (4 * 64))) < 0.01


def test_heads_divide_the_width() -> None:
    with pytest.raises(ab.errors.OpTypeError, match="5 heads do not divide a width of 6"):
        nn.MultiHeadAttention(6, n_heads=5)


def test_in_a_cell_over_lists_of_any_length() -> None:
    rng = np.random.default_rng(1)
    layer = nn.MultiHeadAttention(4, n_heads=2)
    cases = [[rng.normal(size=4) for _ in range(n)] for n in (1, 3, 2)]

    @ab.cell
    def inside(xs: list[ab.Tensor]) -> ab.Tensor:
        return layer(ab.stack(xs), causal=True)

    found = []
    for fn in (inside, lambda xs: layer(ab.stack(xs), causal=True)):
        values = ab.map(lambda xs, fn=fn: fn([ab.tensor(x) for x in xs]), cases)
        layer.zero_grad()
        ab.sum([(y**2).sum(axis=0).sum() for y in values]).backward()
        found.append([*(y.numpy() for y in values), *(host(p.grad) for p in layer.parameters())])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-8)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("n_heads", [0, 2])
def test_dropped_weights_are_zero_and_the_others_larger(n_heads: int, causal: bool) -> None:
    shape = (5, n_heads, 3) if n_heads else (5, 3)
    x = np.random.default_rng(0).normal(size=shape)
    each = np.broadcast_to(np.eye(5)[:, None], (5, n_heads, 5)) if n_heads else np.eye(5)
    weights = ab.attention(x, x, each, causal=causal).numpy()
    dropped = ab.attention(x, x, each, causal=causal, dropout_p=0.25).numpy()
    is_kept = dropped != 0.0
    np.testing.assert_allclose(dropped[is_kept], weights[is_kept] / 0.75, rtol=1e-5)
    assert 0.4 < is_kept[weights != 0.0].mean() < 1.0
    many = np.mean([ab.attention(x, x, each, causal=causal, dropout_p=0.25).numpy() for _ in range(200)], axis=0)
    np.testing.assert_allclose(many, weights, atol=0.15)


def test_dropout_batched_and_its_gradient() -> None:
    layer = nn.MultiHeadAttention(6, n_heads=3, dropout=0.4)
    xs = [np.random.default_rng(n).normal(size=(n, 6)) for n in (3, 1, 5, 3)]

    def loss_of(x: np.ndarray) -> ab.Tensor:
        return (layer(ab.tensor(x), mask=np.arange(len(x)) > 0) ** 2).sum()

    results = []
    for batched in (True, True, False):
        layer.in_proj_weight.grad = None
        ab.seed(4)
        loss = ab.sum(ab.map(loss_of, xs, batched=batched))
        loss.backward()
        results.append((float(loss), host(layer.in_proj_weight.grad)))
    for value, gradient in results[:2]:
        assert value == pytest.approx(results[2][0], rel=1e-12)
        np.testing.assert_allclose(gradient, results[2][1], rtol=1e-9, atol=1e-12)
    ab.seed(4)

    def of_scale(scale: ab.Tensor) -> ab.Tensor:
        return ab.sum([(layer(ab.tensor(x) * scale) ** 2).sum() for x in xs])

    slope = float(ab.grad(of_scale)(ab.tensor(1.0)))
    ends = []
    for scale in (1.0 + 1e-6, 1.0 - 1e-6):
        ab.seed(4)
        ends.append(float(of_scale(ab.tensor(scale))))
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)
    layer.eval()
    np.testing.assert_allclose(layer(ab.tensor(xs[0])).numpy(), layer(ab.tensor(xs[0])).numpy(), rtol=0)


def test_wrong_dropout_raises() -> None:
    with pytest.raises(ab.errors.OpTypeError, match=r"outside \[0, 1\]"):
        ab.attention(ab.ones((2, 2)), ab.ones((2, 2)), ab.ones((2, 2)), dropout_p=1.5)
    with pytest.raises(ab.errors.OpTypeError, match="no weights are dropped between lists"):
        ab.cell(lambda q, rows: ab.attention(q, rows, rows, dropout_p=0.5))(ab.ones(2), [ab.ones(2), ab.ones(2)])
