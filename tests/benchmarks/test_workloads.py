"""The benchmark's trees are those of its specification: counts, sums and single nodes, drawn independently once."""

from __future__ import annotations

import numpy as np

from benchmarks.level_plan import plan_levels
from benchmarks.workloads import level_widths, minibatches, nodes, tree_lstm_parameters, tree_lstm_trees


def test_trees_are_the_specified_ones() -> None:
    trees = tree_lstm_trees()
    leaves = [[node for node in nodes(tree) if node.is_leaf] for tree in trees]
    rng = np.random.default_rng(1234)
    counts = np.clip(np.rint(np.exp(rng.normal(2.83, 0.5, size=25 * 64))), 2, 52)
    assert [len(each) for each in leaves] == counts.tolist()
    assert trees[0].label == rng.integers(0, 5)  # the first number after the counts
    assert sum(len(each) for each in leaves) == 30_820
    assert sum(1 for tree in trees for _ in nodes(tree)) == 60_040
    assert sum(leaf.word for each in leaves for leaf in each) == 33_511_477
    assert max(leaf.word for each in leaves for leaf in each) == 9_996
    assert sum(node.label for tree in trees for node in nodes(tree)) == 119_614
    assert sum(tree.label for tree in trees) == 3_108


def test_levels_of_the_first_minibatch() -> None:
    first = minibatches(tree_lstm_trees(), 64)[0]
    assert level_widths(first) == [1224, 327, 215, 150, 113, 93, 72, 50, 39, 30, 23, 16, 8, 7, 5, 5, 2, 2, 1, 1, 1]


def test_level_plan_puts_children_before_parents() -> None:
    for batch in minibatches(tree_lstm_trees(), 64)[:3]:
        plan = plan_levels(batch)
        assert [plan.n_leaves, *np.diff(plan.bounds)] == level_widths(batch)
        assert (plan.slot_of[plan.node_at] == np.arange(len(plan.node_at))).all()
        for first, last in plan.levels():
            assert plan.node_at[2 * first : 2 * last].max() < plan.n_leaves + first
        assert plan.labels.tolist() == [tree.label for tree in batch]


def test_parameters_are_the_same_in_every_call() -> None:
    first, second = tree_lstm_parameters(8), tree_lstm_parameters(8)
    assert all((first[name] == second[name]).all() and first[name].dtype == np.float32 for name in first)
