"""What can be said of a tree from its nodes alone, without their arrangement: the baseline that tree models must beat.

A tree is the multiset of its nodes' features. Multinomial logistic regression on the counts, damped by a logarithm,
weighted by how few trees have the feature, and scaled to length 1; trained to convergence. Plain NumPy. Cost a step:
O(distinct features of all examples × classes).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .feature_matrix import FeatureMatrix, inverse_frequencies
from .lbfgs import minimise

__all__ = ["BagOfNodes"]

Array = np.ndarray


class BagOfNodes:
    """A linear classifier of bags of features.

    Arguments:
        n_features: features are numbers below this.
        n_classes: classes are numbers below this.
        penalty: half the sum of squared weights is multiplied by it and added to the mean loss.

    Attributes:
        weight: f32[n_features + 1, n_classes], the last row being the bias; zeros before `fit`.
        importance: f32[n_features], what the features are multiplied by; ones before `fit`.

    >>> bags, classes = [[0, 0, 1], [1], [2, 1], [2]], [0, 0, 1, 1]
    >>> model = BagOfNodes(n_features=3, n_classes=2).fit(bags, classes)
    >>> model.predict([[0, 1, 1], [2, 2]]).tolist(), model.accuracy(bags, classes)
    ([0, 1], 1.0)
    """

    def __init__(self, n_features: int, n_classes: int, penalty: float = 5e-5) -> None:
        self.penalty = penalty
        self.weight = np.zeros((n_features + 1, n_classes), np.float32)
        self.importance = np.ones(n_features, np.float32)

    def fit(self, bags: Sequence[Sequence[int]], classes: Sequence[int]) -> BagOfNodes:
        """Train on bags, each the features of one example as often as they occur, and their classes; returns the
        model."""
        self.importance = inverse_frequencies(bags, len(self.importance))
        rows = FeatureMatrix.of_bags(bags, self.importance)
        own = (np.arange(len(bags)), np.asarray(classes))
        held_down = np.full((len(self.weight), 1), self.penalty, np.float32)
        held_down[-1] = 0  # the bias is free

        def loss(weight: Array) -> tuple[float, Array]:
            scores = rows.times(weight)
            scores -= scores.max(axis=1, keepdims=True)
            shares = np.exp(scores)
            sums = shares.sum(axis=1)
            pulled = held_down * weight
            value = float((np.log(sums) - scores[own]).mean()) + float(np.vdot(pulled, weight)) / 2
            shares /= sums[:, None]
            shares[own] -= 1
            return value, rows.transposed_times(shares / np.float32(len(bags))) + pulled

        self.weight = minimise(loss, np.zeros_like(self.weight), tolerance=1e-5)
        return self

    def predict(self, bags: Sequence[Sequence[int]]) -> Array:
        """The likeliest class of each bag: i[len(bags)]."""
        return FeatureMatrix.of_bags(bags, self.importance).times(self.weight).argmax(axis=1)

    def accuracy(self, bags: Sequence[Sequence[int]], classes: Sequence[int]) -> float:
        """Share of the bags whose likeliest class is theirs."""
        return float((self.predict(bags) == np.asarray(classes)).mean())
