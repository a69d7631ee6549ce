"""Losses and right answers, counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Tally"]


@dataclass(slots=True)
class Tally:
    """Sums over examples, each of which is a tree with one or more labelled nodes, its root last.

    >>> tally = Tally()
    >>> tally.add(loss=2.0, logits=[np.array([[0.0, 1.0], [1.0, 0.0]])], labels=[[1, 1]])
    >>> tally.n_examples, tally.loss, tally.node_accuracy, tally.root_accuracy
    (1, 2.0, 0.5, 0.0)
    """

    total_loss: float = 0.0
    n_examples: int = 0
    n_nodes: int = 0
    n_right_nodes: int = 0
    n_right_roots: int = 0

    def add(self, loss: float, logits: Sequence[np.ndarray], labels: Sequence[Sequence[int]]) -> None:
        """Count a minibatch.

        Arguments:
            loss: its mean loss.
            logits: of each example, f[classes] or f[nodes, classes].
            labels: of each example, one for each row of its logits.
        """
        if not logits:
            return
        sizes = np.fromiter(map(len, labels), dtype=np.intp, count=len(labels))
        answers = np.concatenate([np.atleast_2d(rows) for rows in logits]).argmax(axis=1)
        right = answers == np.concatenate([np.asarray(row) for row in labels])
        self.total_loss += loss * len(logits)
        self.n_examples += len(logits)
        self.n_nodes += len(right)
        self.n_right_nodes += int(right.sum())
        self.n_right_roots += int(right[sizes.cumsum() - 1].sum())

    @property
    def loss(self) -> float:
        """Mean over the examples; NaN if there are none."""
        return self.total_loss / self.n_examples if self.n_examples else float("nan")

    @property
    def node_accuracy(self) -> float:
        """Share of the labelled nodes that are answered rightly; NaN if there are none."""
        return self.n_right_nodes / self.n_nodes if self.n_nodes else float("nan")

    @property
    def root_accuracy(self) -> float:
        """Share of the examples whose root is answered rightly; NaN if there are none."""
        return self.n_right_roots / self.n_examples if self.n_examples else float("nan")
