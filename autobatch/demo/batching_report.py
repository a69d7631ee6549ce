"""What batching does for a model, measured: launches, speed beside the one-by-one loop, equality with it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import autobatch as ab
from autobatch.explain.reasons import batching_reasons

from ..data import Tree
from .training import TreeClassifier

__all__ = ["BatchingReport", "batching_report"]


@dataclass(frozen=True, slots=True)
class BatchingReport:
    """Figures of one minibatch.

    Attributes:
        n_examples, n_nodes: trees in the minibatch, and nodes of these trees.
        n_launches: kernels run for their forward pass.
        bound: launches that no schedule can do without.
        reason: the most frequent reason for nodes not being batched.
        one_by_one_per_second: examples a second in the loop, `batched=False`.
        loss_difference: largest difference between batched and one by one over the losses of the examples.
        gradient_difference: the same over all elements of all gradients.
    """

    n_examples: int
    n_nodes: int
    n_launches: int
    bound: int
    reason: str
    one_by_one_per_second: float
    loss_difference: float
    gradient_difference: float


def batching_report(model: TreeClassifier, batch: Sequence[Tree], seed: int = 0) -> BatchingReport:
    """Run a minibatch batched and one by one, forward and backward, with the same dropout."""
    with ab.profile() as profile:
        losses, gradients = _losses_and_gradients(model, batch, seed, batched=True)
    ab.seed(seed)
    reasons = batching_reasons([loss for loss, _ in ab.map(model.scored, batch)])
    start = time.perf_counter()
    single_losses, single_gradients = _losses_and_gradients(model, batch, seed, batched=False)
    seconds = time.perf_counter() - start
    return BatchingReport(
        n_examples=len(batch),
        n_nodes=sum(tree.n_nodes for tree in batch),
        n_launches=profile.launches,
        bound=profile.bound,
        reason=reasons.most_frequent(),
        one_by_one_per_second=len(batch) / seconds,
        loss_difference=float(np.abs(losses - single_losses).max()),
        gradient_difference=max(
            float(np.abs(mine - other).max()) for mine, other in zip(gradients, single_gradients, strict=True)
        ),
    )


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
