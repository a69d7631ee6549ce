"""The programs of the MV-RNN compute the same losses and gradients, and those are right."""

from __future__ import annotations

import pytest

from benchmarks.mvrnn import WORKLOAD
from benchmarks.mvrnn.data import examples, parameters
from benchmarks.treelstm.data import nodes
from benchmarks.workload import minibatches
from tests.benchmarks.agreement import check_agreement, check_differences, check_variant, names

BATCHES = minibatches(examples()[:18], 6)


@pytest.mark.parametrize("name", names(WORKLOAD))
def test_programs_agree(name: str) -> None:
    check_agreement(WORKLOAD, name, parameters(8), 8, BATCHES)


def test_variant() -> None:
    check_variant(WORKLOAD, 2, parameters(8), 8, BATCHES[:2])


def test_gradients_against_differences() -> None:
    check_differences(WORKLOAD.trainers["numpy"], parameters(8), 8, examples()[:3])


def test_examples_are_the_specified_ones() -> None:
    trees = examples()
    leaves = [[node.word for node in nodes(tree) if node.is_leaf] for tree in trees]
    assert len(trees) == 1042
    assert max(len(words) for words in leaves) == 20
    assert max(max(words) for words in leaves) == 499
