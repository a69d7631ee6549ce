"""The programs of TreeFC compute the same losses and gradients, and those are right."""

from __future__ import annotations

import pytest

from benchmarks.treefc import WORKLOAD
from benchmarks.treefc.data import Leaves, examples, parameters, products
from benchmarks.workload import minibatches
from tests.benchmarks.agreement import check_agreement, check_differences, check_variant, names

SMALL = [Leaves(example.words[:8], example.label) for example in examples()[:12]]
BATCHES = minibatches(SMALL, 4)


@pytest.mark.parametrize("name", names(WORKLOAD))
def test_programs_agree(name: str) -> None:
    check_agreement(WORKLOAD, name, parameters(12), 12, BATCHES)


def test_variant() -> None:
    check_variant(WORKLOAD, 1, parameters(8), 8, BATCHES[:2])


def test_gradients_against_differences() -> None:
    check_differences(WORKLOAD.trainers["numpy"], parameters(8), 8, SMALL[:2])


def test_examples_are_the_specified_ones() -> None:
    drawn = examples()
    assert len(drawn) == 640
    assert {len(example.words) for example in drawn} == {128}
    assert sum(m * k * n for m, k, n in products(drawn[:2], 10)) == 3 * (2 * 127 * 20 * 10 + 2 * 10 * 5)
