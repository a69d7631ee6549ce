"""Recordings that read values of earlier ones: batched and one by one, on the device and on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.engine.flush import run_pending
from tests.run.device.reader import numbers
from tests.stand_in.device import StandIn


def chain(backend: str, one_by_one: bool) -> tuple[Any, ...]:
    """Three maps, each on results of the one before; the gradients lead back through all."""
    ab.set_backend(backend)
    w, table = ab.Parameter([1.0, 2.0]), ab.Parameter(np.arange(8.0).reshape(4, 2))
    u = ab.Parameter([[0.5, -1.0], [2.0, 0.3]])
    first = ab.map(lambda x: ab.tanh(ab.tensor(x) * w), [[1.0, 1.0], [0.2, 0.3]])
    run_pending()
    second = ab.map(lambda x: ab.tanh(u @ x) + table[2], first, batched=not one_by_one)
    third = ab.map(lambda x, y: ab.sum(x * y * w), second, first)
    loss = ab.mean(third)
    loss.backward()
    return float(loss), *(numbers(p.grad) for p in (w, u, table)), *ab.evaluate(third)


@pytest.mark.parametrize("one_by_one", [False, True])
def test_gradients_lead_back_through_links(device: StandIn, one_by_one: bool) -> None:
    for on_device, on_host in zip(chain("cupy", one_by_one), chain("numpy", False), strict=True):
        np.testing.assert_allclose(on_device, on_host, rtol=1e-5)


def test_a_value_of_the_device_is_read_by_the_host(device: StandIn) -> None:
    with ab.no_grad():
        x = ab.tensor([1.0, 2.0]) * 2
    run_pending()
    with ab.backend("numba"):
        assert (x + 1).numpy().tolist() == [3.0, 5.0]
    assert (x * 3).numpy().tolist() == [6.0, 12.0]


def test_a_recording_is_reversed_twice(device: StandIn) -> None:
    w = ab.Parameter(np.linspace(-1, 1, 6).reshape(2, 3))

    def f(x: Any) -> Any:
        m = ab.tensor(x) @ w.T
        return ab.sum(ab.max(m, axis=0)) + ab.sum(ab.softmax(m)) + ab.sum(m[1:]) + ab.sum(ab.max([m[0], m[1]]))

    xs = [np.arange(6.0).reshape(2, 3), np.ones((4, 3)), np.arange(9.0).reshape(3, 3)]
    loss = ab.mean(ab.map(f, xs))
    loss.backward(retain=True)
    once = numbers(w.grad)
    loss.backward()
    np.testing.assert_allclose(numbers(w.grad), 2 * once, rtol=1e-6)
    with ab.backend("numpy"):
        host = ab.Parameter(w.numpy())
        w = host
        ab.mean(ab.map(f, xs)).backward()
    np.testing.assert_allclose(once, host.grad, rtol=1e-5)
