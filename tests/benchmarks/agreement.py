"""Checks that the programs of a workload compute the same: losses, all gradients, and the losses of a few steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from benchmarks.workload import Factory, Parameters, Trainer, Workload


def names(workload: Workload) -> list[str]:
    """The programs to compare with the first peer."""
    return [name for name in workload.trainers if name != workload.peers[0]]


def made(factory: Factory, name: str, parameters: Parameters, dim: int) -> Trainer:
    """A program; the test is skipped where its framework is missing."""
    if name.startswith("pytorch"):
        pytest.importorskip("torch")
    trainer = factory(parameters, dim)
    assert trainer.name == name
    return trainer


def check_agreement(workload: Workload, name: str, parameters: Parameters, dim: int, batches: Sequence[Any]) -> None:
    """This program beside the first peer: loss and gradients of the first minibatch, losses of a step on each."""
    first = workload.peers[0]
    reference = made(workload.trainers[first], first, parameters, dim)
    check_same(reference, made(workload.trainers[name], name, parameters, dim), batches, parameters)


def check_variant(workload: Workload, seed: int, parameters: Parameters, dim: int, batches: Sequence[Any]) -> None:
    """The programs of a variant agree, and it is not the workload itself."""
    assert workload.variant is not None
    trainers = [made(factory, name, parameters, dim) for name, factory in workload.variant(seed).items()]
    for other in trainers[1:]:
        check_same(trainers[0], other, batches, parameters)
    first = workload.peers[0]
    itself = made(workload.trainers[first], first, parameters, dim).loss_and_gradients(batches[0])[0]
    assert trainers[0].loss_and_gradients(batches[0])[0] != pytest.approx(itself, rel=1e-3)


def check_same(reference: Trainer, other: Trainer, batches: Sequence[Any], parameters: Parameters) -> None:
    """Loss and gradients of the first minibatch, then the losses of one step on each, and on the first again.

    float32: 1e-5 and 1e-4. A program that replays recordings does so where a minibatch returns.
    """
    loss, gradients = reference.loss_and_gradients(batches[0])
    other_loss, other_gradients = other.loss_and_gradients(batches[0])
    assert other_loss == pytest.approx(loss, rel=1e-5)
    assert other_gradients.keys() == gradients.keys() == parameters.keys()
    for key, expected in gradients.items():
        assert np.abs(expected).max() > 0, key
        assert np.abs(other_gradients[key] - expected).max() <= 1e-4 * np.abs(expected).max(), key
    losses = [[program.step(batch) for batch in [*batches, batches[0]]] for program in (reference, other)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def check_differences(trainer: Factory, parameters: Parameters, dim: int, batch: Sequence[Any]) -> None:
    """Gradients along a random direction of each parameter; float32, hence the wide step and tolerance."""
    _, gradients = trainer(parameters, dim).loss_and_gradients(batch)
    rng = np.random.default_rng(0)
    for name, gradient in gradients.items():
        direction = gradient + rng.normal(size=gradient.shape).astype(np.float32) * (gradient != 0)
        direction /= np.linalg.norm(direction)
        above, below = (
            trainer({**parameters, name: parameters[name] + sign * 1e-2 * direction}, dim).loss_and_gradients(batch)[0]
            for sign in (1, -1)
        )
        assert (above - below) / 2e-2 == pytest.approx(float((gradient * direction).sum()), rel=2e-2, abs=2e-3), name
