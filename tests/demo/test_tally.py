"""Counting losses and right answers over minibatches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from autobatch.demo.tally import Tally


def one_hot(*answers: Any) -> Any:
    return np.eye(3)[list(answers)]


def test_sums_over_minibatches() -> None:
    tally = Tally()
    tally.add(2.0, [one_hot(0, 1, 2), one_hot(1)], [[0, 0, 2], [0]])
    tally.add(5.0, [one_hot(2)], [[2]])
    assert (tally.n_examples, tally.n_nodes) == (3, 5)
    assert tally.loss == (2 * 2.0 + 5.0) / 3
    assert tally.node_accuracy == 3 / 5
    assert tally.root_accuracy == 2 / 3


def test_logits_of_whole_trees_are_vectors() -> None:
    tally = Tally()
    tally.add(1.0, [one_hot(1)[0], one_hot(2)[0]], [[1], [0]])
    assert (tally.n_nodes, tally.node_accuracy, tally.root_accuracy) == (2, 0.5, 0.5)


def test_nothing_counted_is_no_number() -> None:
    tally = Tally()
    tally.add(0.0, [], [])
    assert math.isnan(tally.loss) and math.isnan(tally.node_accuracy) and math.isnan(tally.root_accuracy)
