"""The bag-of-nodes baseline sees how often nodes occur, and not their arrangement."""

from __future__ import annotations

from typing import Any

import numpy as np

from autobatch.demo.baselines import PENALTY, bag_of_features


def examples(n: int = 200, seed: int = 0) -> Any:
    """Bags that tell their class by which of two features is more frequent; a third one says nothing."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 2, n)
    return [[c] * 3 + [1 - c] * 2 + [2] * int(k) for c, k in zip(classes, rng.integers(0, 5, n), strict=True)], classes


def test_features_are_log_counts_by_inverse_frequency_of_length_one() -> None:
    bags, classes = examples()
    bags = [[*bag, 3] if n % 3 else bag for n, bag in enumerate(bags)]
    counts = np.stack([np.bincount(bag, minlength=4) for bag in bags])
    wanted = np.log1p(counts) * (1 + np.log((1 + len(bags)) / (1 + (counts > 0).sum(axis=0))))
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    found = bag_of_features(bags, classes)[:-1].transform(bags).toarray()
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_the_fit_is_an_optimum() -> None:
    bags, classes = examples()
    bags = [[*bag, int(n % 3)] for n, bag in enumerate(bags)]
    model = bag_of_features(bags, classes)
    rows = model[:-1].transform(bags).toarray()

    def loss(weight: Any, bias: Any) -> Any:
        margin = (rows @ weight + bias) * np.where(classes, 1, -1)
        return np.logaddexp(0, -margin).mean() + PENALTY / 2 * (weight**2).sum()

    weight, bias = model[-1].coef_[0], model[-1].intercept_[0]
    best = loss(weight, bias)
    for step in (-0.1, 0.1):
        assert loss(weight, bias + step) > best - 1e-5
        for k in range(3):
            assert loss(weight + step * np.eye(3)[k], bias) > best - 1e-5


def test_counts_are_seen_and_not_only_presence() -> None:
    assert bag_of_features(*examples()).score(*examples(seed=1)) == 1.0


def test_the_arrangement_is_not_seen() -> None:
    model = bag_of_features([[0, 1, 1], [2]], [0, 1])
    assert model.predict([[0, 1, 1]]) == model.predict([[1, 0, 1]]) == [0]
