"""What a model is worth, and what it says: without gradients, in evaluation mode."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import autobatch as ab
from autobatch import nn

from ..base.errors import message
from .metrics import Metrics, Sums, counted

__all__ = ["evaluate", "loss_of", "losses_of", "predict"]


def loss_of(model: Any, loss: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """The loss that is asked for, or the model's own."""
    if loss is None and not hasattr(model, "loss"):
        what, repair = f"{type(model).__name__} has no method `loss`", "pass loss=, a function of an example"
        raise TypeError(message(what, repair=repair))
    found: Callable[[Any], Any] = loss or model.loss
    return found


def losses_of(loss: Callable[[Any], Any], batch: Sequence[Any]) -> tuple[list[Any], list[Any] | None]:
    """Losses of the examples, and what the metrics look at, if they come with them. Nothing is computed yet."""
    found = ab.map(loss, batch)
    if found and isinstance(found[0], tuple):
        return [pair[0] for pair in found], [pair[1] for pair in found]
    return found, None


def evaluate(
    model: nn.Module,
    batches: Iterable[Sequence[Any]],
    loss: Callable[[Any], Any] | None = None,
    metrics: Metrics | None = None,
) -> dict[str, float]:
    """Mean loss, and metrics, over minibatches, in evaluation mode; arguments as those of `fit`. Empty without any.

    >>> layer = nn.Linear(2, 1)
    >>> layer.weight.value, layer.bias.value = np.array([[1.0, 1.0]]), np.array([0.0])
    >>> ab.train.evaluate(layer, [[[1.0, 1.0]], [[0.0, 0.0], [1.0, 1.0]]], loss=lambda x: ab.sum(layer(ab.tensor(x))))
    {'loss': 1.3333333333333333}
    """
    sums, fn = Sums(), loss_of(model, loss)
    with _evaluating(model):
        for batch in batches:
            found: Any = losses_of(fn, batch)
            losses, outputs = ab.evaluate(found)
            sums.add({"loss": (math.fsum(map(float, losses)), len(losses))})
            if metrics is not None:
                sums.add(counted(metrics, batch, outputs))
    return sums.means()


def predict(
    model: nn.Module, examples: Iterable[Any], fn: Callable[[Any], Any] | None = None, batch_size: int = 256
) -> list[Any]:
    """What the model says of each example, as NumPy arrays, in evaluation mode.

    Arguments:
        fn: of an example; by default `model` itself.
        batch_size: examples that are run together.

    >>> model = nn.Linear(2, 3)
    >>> [y.shape for y in ab.train.predict(model, [np.ones(2), np.zeros(2)])]
    [(3,), (3,)]
    """
    with _evaluating(model):
        batches = ab.data.minibatches(examples, batch_size)
        return [result for batch in batches for result in ab.evaluate(ab.map(fn or model, batch))]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    before = model.training
    model.eval()
    try:
        with ab.no_grad():
            yield
    finally:
        model.train(before)
