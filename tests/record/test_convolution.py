"""Convolution over sequences of any length, and padding: against PyTorch and NumPy, and one launch for all lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.errors import OpTypeError
from tests import requested

LENGTHS = [4, 7, 5, 30, 4]
GEOMETRIES: list[dict[str, Any]] = [
    {"kernel_size": 3},
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": 2, "stride": 2},
    {"kernel_size": 3, "dilation": 3, "padding": "same"},
    {"kernel_size": 4, "padding": "valid", "bias": False},
]


@pytest.fixture(autouse=True)
def float64() -> None:
    ab.set_default_dtype("float64")


def table() -> Any:
    return ab.Parameter(np.random.default_rng(0).normal(size=(30, 3)))


def outcome(layer: Any, rows: Any, batched: bool) -> list[Any]:
    """Results, and gradients of the rows and of the layer; of a loss, and of the square of its own gradient."""

    def one(n: int) -> tuple[Any, Any, Any]:
        x = ab.stack([rows[k] for k in range(n)]) * 1.0

        def loss(x: Any) -> Any:
            y = layer(x)
            return ab.max(ab.tanh(y), axis=0).sum() + (y * y).sum()

        slope = ab.grad(loss)(x)
        return layer(x), loss(x), (slope * slope).sum()

    results = ab.map(one, LENGTHS, batched=batched)
    found = ab.evaluate([y for y, *_ in results])
    for k in (1, 2):
        for p in (rows, *layer.parameters()):
            p.grad = None
        ab.sum([r[k] for r in results]).backward(retain=True)
        found += [requested.host(p.grad) for p in (rows, *layer.parameters())]
    return found


@pytest.mark.parametrize("backend", requested.backends("numpy", "numba"))
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_conv1d_equals_the_loop(geometry: dict[str, Any], backend: str) -> None:
    with ab.backend(backend):
        layer = nn.Conv1d(3, 2, **geometry)
        together, alone = (outcome(layer, table(), batched) for batched in (True, False))
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_conv1d_equals_pytorch(geometry: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    layer, rows = nn.Conv1d(3, 2, **geometry), table()
    twin = torch.nn.Conv1d(3, 2, **geometry).double()
    twin.load_state_dict({k: torch.tensor(np.asarray(v)) for k, v in layer.state_dict().items()})
    results = ab.map(lambda n: layer(ab.stack([rows[k] for k in range(n)])), LENGTHS)
    ab.sum([(y * y * y).sum() for y in results]).backward(retain=True)
    x = torch.tensor(np.array(rows.value), requires_grad=True)
    wanted = [twin(x[:n].T).T for n in LENGTHS]
    sum((y**3).sum() for y in wanted).backward()
    for y, expected in zip(ab.evaluate(results), wanted, strict=True):
        np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    gradients = [requested.host(p.grad) for p in (rows, *layer.parameters())]
    for g, expected in zip(gradients, [x.grad, *(p.grad for p in twin.parameters())], strict=True):
        np.testing.assert_allclose(g, expected.numpy(), rtol=1e-8, atol=1e-10)


def test_launches() -> None:
    layer, rows = nn.Conv1d(3, 2, 3, padding=1), table()

    def one(n: int) -> Any:
        return ab.max(layer(ab.stack([rows[k] for k in range(n)])), axis=0)

    ab.evaluate(ab.map(one, range(1, 17)))
    with ab.profile() as p:
        ab.evaluate(ab.map(one, range(1, 17)))
    assert p.launches <= 4, p.table()  # the rows, the zeros, the convolution, the maximum


def test_a_list_of_vectors_is_a_sequence() -> None:
    layer, x = nn.Conv1d(3, 2, 2), np.random.default_rng(1).normal(size=(5, 3))
    listed, whole = layer([ab.tensor(row) for row in x]), layer(x)
    np.testing.assert_allclose(listed.numpy(), whole.numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda w: ab.conv1d(ab.ones((2, 3)), w),
        lambda w: ab.conv1d(ab.ones((5, 4)), w),
        lambda w: ab.conv1d(ab.ones(5), w),
        lambda w: ab.conv1d(ab.ones((5, 3)), w, ab.ones(3)),
        lambda w: ab.conv1d(ab.ones((5, 3)), w, stride=0),
        lambda w: ab.conv1d(ab.ones((5, 3)), w, padding="same", stride=2),
        lambda w: ab.conv1d(ab.ones((5, 3)), w, padding="full"),
        lambda w: ab.conv1d(ab.ones((5, 3)), w, padding=-1),
        lambda w: ab.pad(w, ((1, 1), (2, 2))),
        lambda w: ab.pad(w, -1),
    ],
)
def test_what_does_not_fit_raises_at_its_line(call: Callable[[Any], Any]) -> None:
    with pytest.raises(OpTypeError, match=r"(conv1d|pad)[\s\S]*test_convolution\.py"):
        call(ab.Parameter(np.ones((2, 3, 3))))


def test_pad_as_numpy() -> None:
    x = np.random.default_rng(2).normal(size=(3, 2))
    for width in (0, 1, (2, 1), ((0, 1), (2, 0)), ((1, 2),)):
        np.testing.assert_array_equal(ab.pad(ab.tensor(x) * 1.0, width).numpy(), np.pad(x, width))
        np.testing.assert_array_equal(
            np.pad(ab.tensor(x), width, constant_values=0.5), np.pad(x, width, constant_values=0.5)
        )
    assert ab.pad(ab.tensor([True]), 1).numpy().tolist() == [False, True, False]
