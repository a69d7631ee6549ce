"""The benchmark's trees are those of its specification: counts, sums and single nodes, drawn independently once."""

from __future__ import annotations

import numpy as np

from benchmarks.treelstm.data import Tree, examples, level_widths, nodes, parameters, products
from benchmarks.treelstm.level_plan import plan_levels
from benchmarks.workload import minibatches


def test_trees_are_the_specified_ones() -> None:
    trees = examples()
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
    first = minibatches(examples(), 64)[0]
    assert level_widths(first) == [1224, 327, 215, 150, 113, 93, 72, 50, 39, 30, 23, 16, 8, 7, 5, 5, 2, 2, 1, 1, 1]


def test_level_plan_puts_children_before_parents() -> None:
    for batch in minibatches(examples(), 64)[:3]:
        plan = plan_levels(batch)
        assert [plan.n_leaves, *np.diff(plan.bounds)] == level_widths(batch)
        assert (plan.slot_of[plan.node_at] == np.arange(len(plan.node_at))).all()
        for first, last in plan.levels():
            assert plan.node_at[2 * first : 2 * last].max() < plan.n_leaves + first
        assert plan.labels.tolist() == [tree.label for tree in batch]


def test_parameters_are_the_same_in_every_call() -> None:
    first, second = parameters(8), parameters(8)
    assert all((first[name] == second[name]).all() and first[name].dtype == np.float32 for name in first)


def test_products_of_one_tree() -> None:
    tree = Tree.branch(0, Tree.leaf(0, 1), Tree.branch(1, Tree.leaf(2, 3), Tree.leaf(4, 5)))
    multiplications = sum(m * k * n for m, k, n in products([tree], 8))
    assert multiplications == 3 * (3 * 128 * 24 + 2 * 16 * 24 + 2 * 2 * 8 * 8 + 8 * 5)
