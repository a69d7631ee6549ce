"""What is counted beside the loss: sums and counts over minibatches, whose quotients are the metrics of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..base.errors import message

__all__ = ["Metrics", "Sums", "accuracy", "counted"]

Metrics = Callable[[Sequence[Any], Sequence[Any]], Mapping[str, tuple[float, float]]]
"""(examples, what the model said of each) → sum and count of each metric."""


class Sums:
    """A sum and a count for each name.

    >>> sums = Sums()
    >>> sums.add({"loss": (6.0, 4), "accuracy": (3, 4)})
    >>> sums.add({"loss": (1.0, 1)})
    >>> sums.means()
    {'loss': 1.4, 'accuracy': 0.75}
    """

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, float]] = {}

    def add(self, found: Mapping[str, tuple[float, float]]) -> None:
        """Add to the sums and counts of these names."""
        for name, (value, count) in found.items():
            so_far, number = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = so_far + float(value), number + float(count)

    def means(self) -> dict[str, float]:
        """The quotients; NaN where nothing was counted."""
        return {name: value / count if count else float("nan") for name, (value, count) in self.sums.items()}


_TAKEN = ("epoch", "loss", "lr", "seconds", "examples_per_second")
"""Names that records of the history have beside metrics, as have those that begin with `test_`."""


def counted(metrics: Metrics, examples: Sequence[Any], outputs: Any) -> dict[str, tuple[float, float]]:
    """What the metrics count; ValueError for a name that is taken, TypeError where they are no sums and counts.

    >>> counted(lambda examples, outputs: {"length": (sum(map(len, examples)), len(examples))}, ["ab", "c"], None)
    {'length': (3.0, 2.0)}
    """
    found: Any = metrics(examples, outputs)
    try:
        pairs = {name: (float(value), float(count)) for name, (value, count) in found.items()}
    except (AttributeError, TypeError, ValueError):
        what, expected = "metrics: these are no sums and counts", '{"name": (sum, count)}'
        raise TypeError(message(what, expected=expected, got=repr(found)[:60])) from None
    for name in pairs:
        if name in _TAKEN or name.startswith("test_"):
            what, expected = f"metrics: the name {name!r} is taken", f"none of {', '.join(_TAKEN)}, test_..."
            raise ValueError(message(what, expected=expected, repair="choose another name"))
    return pairs


def accuracy(labels: Callable[[Any], Any]) -> Metrics:
    """The metric "accuracy": the share of logits whose largest is that of the label.

    Arguments:
        labels: of an example, its label; or a label for each row, where the model gives a matrix of logits.

    For `fit` and `evaluate`, with a loss that gives (loss, logits f[classes] or f[rows, classes]).

    Raises TypeError where the loss gives no logits; ValueError for a single logit, which says yes or no by its sign,
    and where labels are not as many as rows of logits.

    >>> metric = ab.train.accuracy(lambda example: example["label"])
    >>> metric([{"label": 1}, {"label": 0}], [np.array([0.2, 0.8]), np.array([0.4, 0.6])])
    {'accuracy': (1, 2)}
    """

    def found(examples: Sequence[Any], logits: Sequence[Any]) -> dict[str, tuple[float, float]]:
        if not examples:
            return {"accuracy": (0, 0)}
        if logits is None:
            what, repair = "accuracy: the loss gives no logits", "return (loss, logits) from the function that is loss="
            raise TypeError(message(what, repair=repair))
        tables = [np.atleast_2d(rows) for rows in logits]
        if any(rows.shape[1] < 2 for rows in tables):
            what, repair = "accuracy: one logit is no choice between classes", "give [0, x], or count by the sign"
            raise ValueError(message(what, expected="2 classes or more", got="1", repair=repair))
        given = [np.atleast_1d(labels(example)) for example in examples]
        for rows, own in zip(tables, given, strict=True):
            if len(rows) != len(own):
                what, expected = "accuracy: labels are not as many as rows of logits", f"{len(rows)}"
                raise ValueError(message(what, expected=expected, got=f"{len(own)}"))
        answers, wanted = np.concatenate([rows.argmax(axis=1) for rows in tables]), np.concatenate(given)
        return {"accuracy": (int((answers == wanted).sum()), len(wanted))}

    return found
