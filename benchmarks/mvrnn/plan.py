"""Plan of a minibatch for the MV-RNN by hand: the levels of the Tree-LSTM's plan, with all roots in one last level.

Nothing reads the matrix of a root, so it is not computed; where the roots come last, what is computed is one block of
rows. Each level is one block too, and each operand has a slot: the left or right side of its parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.treelstm.data import Tree
from benchmarks.treelstm.level_plan import plan_levels


@dataclass(slots=True)
class MergePlan:
    """Where the values of one minibatch live.

    words:   i64[n_leaves]  the word of each leaf
    levels:  first and last (exclusive) inner row of each level, lowest first; the last level is the roots, in order
    parent:  i64[n_leaves + n_read]  the inner row that reads a node: leaves first, then the inner rows but the roots
    side:    i64[n_leaves + n_read]  0 where it reads it as its left child, else 1
    labels:  i64[n_trees]   the class of each root
    """

    words: np.ndarray
    levels: list[tuple[int, int]]
    parent: np.ndarray
    side: np.ndarray
    labels: np.ndarray

    @property
    def n_leaves(self) -> int:
        return len(self.words)

    @property
    def n_read(self) -> int:
        return self.levels[-1][0]

    @property
    def n_inner(self) -> int:
        return self.levels[-1][1]


def plan_merges(trees: Sequence[Tree]) -> MergePlan:
    """Number the inner nodes of a minibatch by height, roots last. Every tree has two leaves or more."""
    plan = plan_levels(trees)
    n_leaves, n_inner = plan.n_leaves, plan.n_inner
    roots = plan.node_at[2 * n_inner :] - n_leaves
    read = np.ones(n_inner, bool)
    read[roots] = False
    row_of = np.cumsum(read) - 1  # new row of each inner node
    row_of[roots] = np.arange(n_inner - len(roots), n_inner)
    bounds = np.r_[0, np.cumsum(read)][plan.bounds].tolist()
    levels = [(first, last) for first, last in zip(bounds, [*bounds[1:], n_inner], strict=True) if last > first]
    slot = np.concatenate([plan.slot_of[:n_leaves], plan.slot_of[n_leaves:][read]])
    return MergePlan(plan.words, levels, row_of[slot >> 1], slot & 1, plan.labels)
