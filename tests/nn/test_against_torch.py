"""Layers against PyTorch's: the same state dict gives the same values and the same gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from tests.requested import host

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(11)


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


def compare(ours: nn.Module, theirs: Any, inputs: list[np.ndarray], states: int = 0) -> None:
    """Values, gradients of parameters and of inputs; the last `states` inputs are one tuple if there are two."""
    assert {name: array.shape for name, array in ours.state_dict().items()} == {
        name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()
    }
    ours.load_state_dict(theirs.state_dict())
    x_ours = [ab.Parameter(x) for x in inputs]
    x_theirs = [torch.tensor(x, requires_grad=True) for x in inputs]
    if states == 2:
        out_ours, out_theirs = ours(x_ours[0], tuple(x_ours[1:])), theirs(x_theirs[0], tuple(x_theirs[1:]))
    else:
        out_ours, out_theirs = ours(*x_ours), theirs(*x_theirs)
    if not isinstance(out_ours, tuple):
        out_ours, out_theirs = (out_ours,), (out_theirs,)
    weights = [RNG.normal(size=tuple(out.shape)) for out in out_theirs]
    loss = sum(ab.sum(out * ab.tensor(w)) for out, w in zip(out_ours, weights, strict=True))
    loss.backward(retain=True)
    sum((out * torch.tensor(w)).sum() for out, w in zip(out_theirs, weights, strict=True)).backward()
    for got, expected in zip(out_ours, out_theirs, strict=True):
        np.testing.assert_allclose(got.numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-10)
    named = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        same_gradient(parameter, named[name], name)
    for number, (got, expected) in enumerate(zip(x_ours, x_theirs, strict=True)):
        same_gradient(got, expected, f"input {number}")


def same_gradient(ours: ab.Parameter, theirs: Any, name: str) -> None:
    np.testing.assert_allclose(host(ours.grad), theirs.grad.numpy(), rtol=1e-8, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4,), (3, 4)])
def test_linear(bias: bool, shape: tuple[int, ...]) -> None:
    compare(nn.Linear(4, 5, bias=bias), torch.nn.Linear(4, 5, bias=bias), [RNG.normal(size=shape)])


@pytest.mark.parametrize("shape", [(5,), (3, 5)])
def test_layer_norm(shape: tuple[int, ...]) -> None:
    theirs = torch.nn.LayerNorm(5, eps=1e-3)
    torch.nn.init.normal_(theirs.weight)
    torch.nn.init.normal_(theirs.bias)
    compare(nn.LayerNorm(5, eps=1e-3), theirs, [RNG.normal(size=shape)])


@pytest.mark.parametrize("bias", [True, False])
def test_lstm_cell(bias: bool) -> None:
    ours, theirs = nn.LSTMCell(3, 4, bias=bias), torch.nn.LSTMCell(3, 4, bias=bias)
    compare(ours, theirs, [RNG.normal(size=n) for n in (3, 4, 4)], states=2)


@pytest.mark.parametrize("bias", [True, False])
def test_gru_cell(bias: bool) -> None:
    ours, theirs = nn.GRUCell(3, 4, bias=bias), torch.nn.GRUCell(3, 4, bias=bias)
    compare(ours, theirs, [RNG.normal(size=n) for n in (3, 4)])


def test_gru_cell_without_a_state() -> None:
    compare(nn.GRUCell(3, 4), torch.nn.GRUCell(3, 4), [RNG.normal(size=3)])


def test_lstm_cell_without_a_state() -> None:
    ours, theirs = nn.LSTMCell(3, 4), torch.nn.LSTMCell(3, 4)
    ours.load_state_dict(theirs.state_dict())
    x = RNG.normal(size=3)
    for got, expected in zip(ours(ab.tensor(x)), theirs(torch.tensor(x)), strict=True):
        np.testing.assert_allclose(got.numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("indices", [[2], [3, 1, 3, 0, 3]])
def test_embedding_adds_the_gradients_of_equal_indices(indices: list[int]) -> None:
    ours, theirs = nn.Embedding(5, 3), torch.nn.Embedding(5, 3)
    ours.load_state_dict(theirs.state_dict())
    weights = RNG.normal(size=(len(indices), 3))
    sum(ab.sum(ours[i] * ab.tensor(w)) for i, w in zip(indices, weights, strict=True)).backward()
    (theirs(torch.tensor(indices)) * torch.tensor(weights)).sum().backward()
    same_gradient(ours.weight, theirs.weight, "one by one")
    ours.zero_grad()
    ab.sum(ours[indices] * ab.tensor(weights)).backward()
    same_gradient(ours.weight, theirs.weight, "all at once")
