"""Values, gradients and whole steps on a device, against the "numpy" backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn, optim
from tests.run.device.reader import SENTENCES, Reader, agree, gradients
from tests.stand_in.device import StandIn

MAKERS: dict[str, Callable[[Any], Any]] = {
    "adam": lambda p: optim.Adam(p, lr=0.1),
    "sgd": lambda p: optim.SGD(p, lr=0.5),
}


def steps(backend: str, make: Callable[[Any], Any], reuse: bool = False, n: int = 3) -> tuple[Any, ...]:
    """A few steps of training: losses, norms of gradients, parameters and state."""
    ab.set_backend(backend)
    ab.seed(3)
    model = Reader()
    optimizer = make(model.parameters())
    losses, norms = [], []
    for _ in range(n):
        optimizer.zero_grad()
        losses.append(ab.mean(ab.map(model.loss, SENTENCES, reuse=reuse)))
        losses[-1].backward()
        norms.append(optim.clip_grad_norm(model.parameters(), 0.5))
        optimizer.step()
    return [float(x) for x in losses], [float(x) for x in norms], model.state_dict(), optimizer.state_dict()


@pytest.mark.parametrize("name", MAKERS)
def test_training_is_that_of_the_host(device: StandIn, name: str) -> None:
    on_device, on_host = steps("cupy", MAKERS[name]), steps("numpy", MAKERS[name])
    np.testing.assert_allclose(on_device[0], on_host[0], rtol=1e-5)
    np.testing.assert_allclose(on_device[1], on_host[1], rtol=1e-5)
    agree(on_device[2], on_host[2])
    agree(on_device[3], on_host[3])


def test_recordings_are_reused(device: StandIn) -> None:
    with ab.profile() as profile:
        losses = steps("cupy", MAKERS["adam"], reuse=True)[0]
    assert profile.replayed == 2 * len(SENTENCES)
    np.testing.assert_allclose(losses, steps("numpy", MAKERS["adam"])[0], rtol=1e-5)


def test_the_loop_runs_where_parameters_lie_on_the_device(device: StandIn) -> None:
    found = []
    model = Reader()
    for batched in (True, False):
        model.zero_grad()
        loss = ab.mean(ab.map(model.loss, SENTENCES, batched=batched))
        loss.backward()
        found.append((float(loss), gradients(model)))
        assert all(hasattr(p.grad, "to_dense") or hasattr(p.grad, "get") for p in model.parameters())
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    agree(found[0][1], found[1][1])


def test_steps_are_repeatable_bit_by_bit(device: StandIn) -> None:
    first, second = steps("cupy", MAKERS["adam"]), steps("cupy", MAKERS["adam"])
    assert first[0] == second[0]
    assert all(np.array_equal(first[2][name], second[2][name]) for name in first[2])


def test_gradients_add_up(device: StandIn) -> None:
    def twice(backend: str) -> dict[str, Any]:
        ab.set_backend(backend)
        ab.seed(3)
        model = Reader()
        for part in (SENTENCES[:2], SENTENCES[2:]):
            ab.sum(ab.map(model.loss, part)).backward()
        return gradients(model)

    agree(twice("cupy"), twice("numpy"))


def test_a_value_made_of_parameters_alone(device: StandIn) -> None:
    w = ab.Parameter([[1.0, 2.0], [3.0, 4.0]])
    total = ab.sum(ab.exp(w @ w.T) * 0.01)
    total.backward()
    with ab.backend("numpy"):
        v = ab.Parameter(w.numpy())
        wanted = ab.sum(ab.exp(v @ v.T) * 0.01)
        wanted.backward()
    assert float(total) == pytest.approx(float(wanted), rel=1e-5)
    np.testing.assert_allclose(w.grad.get(), v.grad, rtol=1e-5)


def test_inner_gradients(device: StandIn) -> None:
    def forces(backend: str) -> tuple[Any, Any]:
        ab.set_backend(backend)
        w = ab.Parameter(np.linspace(-1, 1, 6).reshape(2, 3))

        def energy(x: Any) -> Any:
            return ab.sum(ab.tanh(w @ x) ** 2)

        found = ab.map(lambda x: ab.grad(energy)(ab.tensor(x)), [[1.0, 0.5, 2.0], [0.1, 0.2, 0.3]])
        ab.sum([ab.sum(g * g) for g in found]).backward()
        return ab.evaluate(found), w.grad

    on_device, on_host = forces("cupy"), forces("numpy")
    np.testing.assert_allclose(on_device[0], on_host[0], rtol=1e-5)
    np.testing.assert_allclose(on_device[1].get(), on_host[1], rtol=1e-4)


def test_masks_are_those_of_the_host(device: StandIn) -> None:
    def drawn(backend: str) -> Any:
        ab.set_backend(backend)
        ab.seed(5)
        return ab.evaluate(ab.map(lambda x: ab.dropout(ab.tensor(x), 0.5) + ab.uniform(4), [[1.0] * 4] * 3))

    assert np.array_equal(drawn("cupy"), drawn("numpy"))


def test_norms_whose_squares_overflow(device: StandIn) -> None:
    w = ab.Parameter([3.0, 4.0], dtype=np.float64)
    w.grad = np.array([3e200, 4e200])
    assert float(optim.clip_grad_norm([w], 1.0)) == pytest.approx(5e200)
    np.testing.assert_allclose(w.grad.get(), [0.6, 0.8])
    w.grad = np.array([np.nan, 1.0])
    assert np.isnan(float(optim.clip_grad_norm([w], 1.0))) and w.grad.get()[1] == 1.0


def test_values_are_clipped_and_weights_averaged(device: StandIn) -> None:
    w = ab.Parameter([3.0, -4.0, 0.5])
    w.grad = np.array([np.nan, -4.0, 0.5], np.float32)
    optim.clip_grad_value([w], 1.0)
    np.testing.assert_array_equal(w.grad.get(), [np.nan, -1.0, 0.5])
    optimizer = optim.SGD([w], 1.0)
    assert not optimizer.step_if_finite()
    layer = nn.LayerNorm(2)
    averaged = optim.AveragedModel(layer, decay=0.75)
    for x in (1.0, 2.0):
        layer.bias.value = np.full(2, x)
        averaged.update_parameters(layer)
    assert averaged.module.bias.on_device  # type: ignore[attr-defined]
    np.testing.assert_allclose(averaged.state_dict()["module.bias"], [1.25, 1.25])
