"""The programs written by hand compute the same losses and gradients, and those are right."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.peer_numpy import NumpyTreeLSTM
from benchmarks.workloads import minibatches, tree_lstm_parameters, tree_lstm_trees


def peer(name: str) -> type:
    if name == "numba":
        return pytest.importorskip("benchmarks.peer_numba").NumbaTreeLSTM
    pytest.importorskip("torch")
    from benchmarks import peer_torch

    return getattr(peer_torch, name)


@pytest.mark.parametrize("name", ["numba", "TorchTreeLSTM", "TorchOwnBackward"])
def test_peers_agree(name: str) -> None:
    batches, parameters = minibatches(tree_lstm_trees(), 16), tree_lstm_parameters(32)
    reference, other = NumpyTreeLSTM(parameters), peer(name)(parameters)
    loss, gradients = reference.loss_and_gradients(batches[0])
    other_loss, other_gradients = other.loss_and_gradients(batches[0])
    assert other_loss == pytest.approx(loss, rel=1e-5)
    assert other_gradients.keys() == gradients.keys() == parameters.keys()
    for key, expected in gradients.items():
        assert np.abs(other_gradients[key] - expected).max() <= 1e-4 * np.abs(expected).max(), key
    losses = [[program.step(batch) for batch in batches[:3]] for program in (reference, other)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_rational_tanh_is_accurate() -> None:
    rational_tanh = pytest.importorskip("benchmarks.peer_numba").rational_tanh
    x = np.linspace(-12, 12, 10_001, dtype=np.float32)
    assert max(abs(rational_tanh(value) - np.tanh(float(value))) for value in x) < 5e-7


def test_gradients_against_differences() -> None:
    """Along a random direction of each parameter; float32, hence the wide step and tolerance."""
    batch, parameters = tree_lstm_trees()[:4], tree_lstm_parameters(16)
    _, gradients = NumpyTreeLSTM(parameters).loss_and_gradients(batch)
    rng = np.random.default_rng(0)
    for name, gradient in gradients.items():
        direction = gradient + rng.normal(size=gradient.shape).astype(np.float32) * (gradient != 0)
        direction /= np.linalg.norm(direction)
        above, below = (
            NumpyTreeLSTM({**parameters, name: parameters[name] + sign * 1e-2 * direction}).loss_and_gradients(batch)[0]
            for sign in (1, -1)
        )
        assert (above - below) / 2e-2 == pytest.approx(float((gradient * direction).sum()), rel=2e-2, abs=2e-3), name
