"""What batching does for a model, measured: launches, speed beside the one-by-one loop, equality with it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import autobatch as ab
from autobatch.explain.reasons import batching_reasons

from ..data import Tree
from .task import TreeClassifier

__all__ = ["batching_report"]


def batching_report(model: TreeClassifier, batch: Sequence[Tree], batched_rate: float, seed: int = 0) -> list[str]:
    """Run a minibatch batched and one by one, forward and backward, with the same dropout; what is to be said of it.

    batched_rate: examples a second in training.
    """
    with ab.profile() as profile:
        losses, gradients = _losses_and_gradients(model, batch, seed, batched=True)
    ab.seed(seed)
    reasons = batching_reasons([loss for loss, _ in ab.map(model.scored, batch)])
    start = time.perf_counter()
    single_losses, single_gradients = _losses_and_gradients(model, batch, seed, batched=False)
    rate = len(batch) / (time.perf_counter() - start)
    differences = [float(np.abs(mine - other).max()) for mine, other in zip(gradients, single_gradients, strict=True)]
    return [
        f"one minibatch of {len(batch)}: {sum(tree.n_nodes for tree in batch):,} nodes → {profile.launches:,} launches "
        f"(bound {profile.bound:,}); most frequent reason for not batching: {reasons.most_frequent()}",
        f"batched {batched_rate:,.0f} examples/s, one by one (this library, batched=False) {rate:,.0f} examples/s: "
        f"{batched_rate / rate:.0f} ×",
        f"largest difference batched / one by one: loss {np.abs(losses - single_losses).max():.0e}, "
        f"gradients {max(differences):.0e}",
    ]


def _losses_and_gradients(
    model: TreeClassifier, batch: Sequence[Tree], seed: int, batched: bool
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Loss of each example, and the gradients of their mean."""
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = None
    ab.seed(seed)
    losses = [loss for loss, _ in ab.map(model.scored, batch, batched=batched)]
    ab.mean(losses).backward()
    values = np.array([float(loss) for loss in losses])
    gradients = [_dense(parameter) for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    return values, gradients


def _dense(parameter: ab.Parameter) -> np.ndarray:
    gradient: Any = parameter.grad
    if gradient is None:
        return np.zeros(parameter.shape, parameter.dtype)
    return np.array(gradient.to_dense() if hasattr(gradient, "to_dense") else gradient)
