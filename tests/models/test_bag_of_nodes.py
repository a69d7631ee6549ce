"""The bag-of-nodes baseline: its features, its gradient, its optimum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autobatch.models.bag_of_nodes import BagOfNodes
from autobatch.models.feature_matrix import FeatureMatrix, inverse_frequencies
from autobatch.models.lbfgs import minimise

bags = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=9), min_size=1, max_size=8)


def dense(bags: Any, importance: Any) -> Any:
    counts = np.stack([np.bincount(bag, minlength=len(importance)) for bag in bags])
    values = np.log1p(counts) * importance
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return np.hstack([values, np.ones((len(bags), 1))])


@given(bags)
def test_products_are_those_of_the_dense_matrix(bags: Any) -> None:
    importance = np.linspace(0.5, 2.0, 6, dtype=np.float32)
    matrix, wanted = FeatureMatrix.of_bags(bags, importance), dense(bags, importance)
    np.testing.assert_allclose(matrix.times(np.eye(7, dtype=np.float32)), wanted, atol=1e-6)
    np.testing.assert_allclose(matrix.transposed_times(np.eye(len(bags), dtype=np.float32)), wanted.T, atol=1e-6)


def test_no_bags_give_no_rows() -> None:
    matrix = FeatureMatrix.of_bags([], np.ones(3, np.float32))
    assert matrix.times(np.ones((4, 2), np.float32)).shape == (0, 2)
    assert matrix.transposed_times(np.ones((0, 2), np.float32)).tolist() == [[0, 0]] * 4


@given(bags)
def test_features_of_every_bag_weigh_least(bags: Any) -> None:
    weights = inverse_frequencies(bags, 6)
    having = [sum(feature in bag for bag in bags) for feature in range(6)]
    np.testing.assert_allclose(weights, [1 + np.log((1 + len(bags)) / (1 + n)) for n in having], rtol=1e-6)


def test_minimise_finds_the_valley_of_rosenbrock() -> None:
    def rosenbrock(x: Any) -> Any:
        across, along = x[1] - x[0] ** 2, 1 - x[0]
        return 100 * across**2 + along**2, np.array([-400 * x[0] * across - 2 * along, 200 * across])

    np.testing.assert_allclose(minimise(rosenbrock, np.array([-1.2, 1.0]), tolerance=1e-8), [1, 1], atol=1e-6)


def test_minimise_ends_where_it_starts_if_nothing_is_lower() -> None:
    start = np.array([0.0, 3.0])
    assert minimise(lambda x: (1.0, np.zeros(2)), start) is start
    assert minimise(lambda x: (1.0, np.ones(2)), start) is start  # a gradient that lies


def examples(n: int = 200, seed: int = 0) -> Any:
    """Bags that tell their class by which of two features is more frequent; a third one says nothing."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 2, n)
    return [[c] * 3 + [1 - c] * 2 + [2] * int(k) for c, k in zip(classes, rng.integers(0, 5, n), strict=True)], classes


def test_fit_reaches_the_optimum() -> None:
    bags, classes = examples()
    bags = [[*bag, int(n % 3)] for n, bag in enumerate(bags)]
    model = BagOfNodes(3, 2, penalty=1e-2).fit(bags, classes)
    rows = dense(bags, model.importance.astype(float))

    def loss(weight: Any) -> Any:
        scores = rows @ weight
        scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return -scores[np.arange(len(bags)), classes].mean() + 1e-2 / 2 * (weight[:-1] ** 2).sum()

    best, weight = loss(model.weight.astype(float)), model.weight.astype(float)
    for row in range(4):
        for column in range(2):
            for step in (-1e-2, 1e-2):
                moved = weight.copy()
                moved[row, column] += step
                assert loss(moved) > best - 1e-6


def test_counts_are_seen_and_not_only_presence() -> None:
    bags, classes = examples()
    assert BagOfNodes(3, 2).fit(bags, classes).accuracy(*examples(seed=1)) == 1.0


def test_the_arrangement_is_not_seen() -> None:
    model = BagOfNodes(3, 2).fit([[0, 1, 1], [2]], [0, 1])
    assert model.predict([[0, 1, 1]]) == model.predict([[1, 0, 1]]) == [0]


def test_a_feature_outside_the_table_raises() -> None:
    with pytest.raises(IndexError):
        BagOfNodes(3, 2).predict([[3]])
