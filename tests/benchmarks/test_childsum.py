"""The programs of the child-sum Tree-LSTM compute the same losses and gradients, and those are right."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.childsum import WORKLOAD
from benchmarks.childsum.data import LARGEST, N_CLASSES, SMALLEST
from benchmarks.childsum.level_plan import plan_levels
from benchmarks.workload import minibatches
from tests.benchmarks.agreement import check_agreement, check_differences, check_variant, names

DIM = 16
EXAMPLES = WORKLOAD.examples()
BATCHES = minibatches(EXAMPLES[:18], 6)


@pytest.mark.parametrize("name", names(WORKLOAD))
def test_programs_agree(name: str) -> None:
    check_agreement(WORKLOAD, name, WORKLOAD.parameters(DIM), DIM, BATCHES)


def test_variant_agrees_with_its_loop() -> None:
    check_variant(WORKLOAD, 1, WORKLOAD.parameters(DIM), DIM, BATCHES[:2])


def test_gradients_against_differences() -> None:
    check_differences(WORKLOAD.trainers["numpy"], WORKLOAD.parameters(DIM), DIM, BATCHES[0])


def test_examples_are_functions_of_the_sizes_asked_for() -> None:
    assert len(EXAMPLES) == 1600
    sizes = [tree.n_nodes for tree in EXAMPLES]
    assert SMALLEST <= min(sizes) <= max(sizes) <= LARGEST
    assert {tree.label for tree in EXAMPLES} == set(range(N_CLASSES))
    assert len({len(node.children) for tree in EXAMPLES for node in tree}) > 10
    assert WORKLOAD.parameters(DIM)["table"].shape[0] > max(node.word for tree in EXAMPLES for node in tree)


def test_level_plan_puts_children_before_parents() -> None:
    for batch in minibatches(EXAMPLES, 64)[:3]:
        plan = plan_levels(batch)
        n_nodes = sum(tree.n_nodes for tree in batch)
        assert (plan.slot_of[plan.node_at] == np.arange(n_nodes)).all()
        assert sorted(plan.words) == sorted(node.word for tree in batch for node in tree)
        assert plan.levels[-1].last == plan.n_inner
        for level in plan.levels:
            first, last = level.slots
            assert plan.node_at[first:last].max() < plan.n_leaves + level.first
            counts = [b - a for a, b in level.parts]
            assert counts[0] == level.last - level.first
            assert counts == sorted(counts, reverse=True)
        assert plan.words[plan.node_at[plan.n_children :]].tolist() == [tree.word for tree in batch]
