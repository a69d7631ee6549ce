"""Training a classifier of trees: epochs of minibatches, a falling learning rate, a progress bar.

Input: a model, its training examples, those it is tested on, and `TrainingOptions`. Output: an `Epoch` after each pass
over the training examples. The loop itself is `train_epoch`; it is what a user would write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import autobatch as ab
from autobatch import optim

from ..data import Minibatches, Tree, minibatches
from .progress import progress_bar
from .tally import Tally

__all__ = ["Epoch", "TrainingOptions", "evaluate", "train", "train_epoch"]


class TreeClassifier(Protocol):
    """What the models of this package have in common."""

    def scored(self, tree: Tree) -> tuple[Any, Any]:
        """The loss of one tree and the logits it comes from."""

    def labels(self, tree: Tree) -> list[int]:
        """What the rows of the logits are scored against."""

    def parameters(self) -> Iterator[ab.Parameter]: ...

    def train(self, mode: bool = True) -> Any: ...

    def eval(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How to train.

    Attributes:
        epochs: number of passes over the training examples.
        batch_size: number of examples in a minibatch.
        lr: Adam's learning rate at the start; it falls to 0 in a straight line.
        seed: of the initial values, of dropout and of the order of the examples.
        max_norm: longer gradients are scaled down to this length.
    """

    epochs: int
    batch_size: int
    lr: float
    seed: int = 0
    max_norm: float = 5.0


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training examples, and what the model then knew.

    Attributes:
        number: from 1.
        train: counted while training, with dropout, each minibatch before its step.
        test: counted after the epoch.
        seconds: of the training alone.
    """

    number: int
    train: Tally
    test: Tally
    seconds: float

    @property
    def examples_per_second(self) -> float:
        return self.train.n_examples / self.seconds


def train_epoch(
    model: TreeClassifier,
    optimizer: optim.Adam,
    batches: Minibatches[Tree],
    max_norm: float,
    before_step: Callable[[int], None] = lambda number: None,
    after_step: Callable[[Tally], None] = lambda tally: None,
) -> Tally:
    """Train on every minibatch once. A minibatch is counted after the step of the next was launched, so that a device
    never waits for the host to ask.

    Arguments:
        before_step: called with the number of the minibatch, from 0.
        after_step: called with what has been counted in this epoch.
    """
    tally = Tally()
    waiting: tuple[Any, Any, Any] | None = None

    def count(loss: Any, scored: Any, batch: Sequence[Tree]) -> None:
        tally.add(float(loss), ab.evaluate([logits for _, logits in scored]), [model.labels(tree) for tree in batch])
        after_step(tally)

    for number, batch in enumerate(batches):
        before_step(number)
        optimizer.zero_grad()
        scored = ab.map(model.scored, batch)
        loss = ab.mean([loss for loss, _ in scored])
        loss.backward()
        optim.clip_grad_norm(model.parameters(), max_norm)
        optimizer.step()
        if waiting is not None:
            count(*waiting)
        waiting = loss, scored, batch
    if waiting is not None:
        count(*waiting)
    return tally


def evaluate(model: TreeClassifier, examples: Sequence[Tree], batch_size: int = 256) -> Tally:
    """Loss and accuracy over `examples`, without dropout."""
    tally = Tally()
    model.eval()
    try:
        with ab.no_grad():
            for batch in minibatches(examples, batch_size):
                scored = ab.map(model.scored, batch)
                loss, logits = ab.evaluate((ab.mean([loss for loss, _ in scored]), [logits for _, logits in scored]))
                tally.add(float(loss), logits, [model.labels(tree) for tree in batch])
    finally:
        model.train()
    return tally


def train(
    model: TreeClassifier, examples: Sequence[Tree], test_examples: Sequence[Tree], options: TrainingOptions
) -> Iterator[Epoch]:
    """Train, showing a progress bar with loss, accuracy and examples a second; yields after each epoch."""
    optimizer = optim.Adam(model.parameters(), lr=options.lr)
    batches = minibatches(examples, options.batch_size, shuffle=True, seed=options.seed)
    n_steps = len(batches) * options.epochs
    for number in range(options.epochs):

        def set_lr(step: int, first: int = number * len(batches)) -> None:
            optimizer.lr = options.lr * (1 - (first + step) / n_steps)

        with progress_bar(f"epoch {number + 1}/{options.epochs}", len(examples)) as show:
            start = time.perf_counter()
            tally = train_epoch(model, optimizer, batches, options.max_norm, set_lr, show)
            seconds = time.perf_counter() - start
        yield Epoch(number + 1, tally, evaluate(model, test_examples), seconds)
