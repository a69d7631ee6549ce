"""What can be said of a tree from its nodes alone, without their arrangement: the baselines that tree models must beat.

A tree is the multiset of its nodes' features. Multinomial logistic regression on log(1 + count) × inverse document
frequency, scaled to length 1, by scikit-learn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data import SyntaxTreeTask, Tree

__all__ = ["bag_of_features", "baseline_accuracies"]

PENALTY = 5e-5
"""Half the sum of squared weights is multiplied by it and added to the mean loss."""


def bag_of_features(bags: Sequence[Sequence[int]], classes: Sequence[int]) -> Any:
    """A scikit-learn pipeline, fitted to bags, each the features of one example as often as they occur.

    >>> model = bag_of_features([[0, 0, 1], [1], [2, 1], [2]], [0, 0, 1, 1])
    >>> model.predict([[0, 1, 1], [2, 2]]).tolist()
    [0, 1]
    """
    from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    steps = (
        CountVectorizer(analyzer=list, dtype=np.float32),
        FunctionTransformer(np.log1p, accept_sparse=True),
        TfidfTransformer(),
        LogisticRegression(C=1 / (PENALTY * len(bags)), tol=1e-5, max_iter=1000),
    )
    return make_pipeline(*steps).fit(bags, classes)


def baseline_accuracies(task: SyntaxTreeTask) -> dict[str, float]:
    """Held-out accuracy of models that do not see the arrangement of the nodes, the best first."""
    classes = [tree.label for tree in task.train]
    wanted = [tree.label for tree in task.held_out]

    def types(tree: Tree) -> list[int]:
        return [task.type_of_word[node.word] for node in tree]

    def types_and_words(tree: Tree) -> list[int]:
        return types(tree) + [len(task.types) + node.word for node in tree]

    def accuracy(features: Any) -> float:
        model = bag_of_features([features(tree) for tree in task.train], classes)
        return float(model.score([features(tree) for tree in task.held_out], wanted))

    majority, _ = Counter(classes).most_common(1)[0]
    return {
        "bag of nodes": accuracy(types_and_words),
        "the same without identifiers": accuracy(types),
        "majority": wanted.count(majority) / len(wanted),
    }
