"""Level plan: a minibatch of trees → the row numbers that a level-batched program written by hand works from.

Nodes are numbered by height: all leaves first, then the nodes over leaves, and so on, so that each level is one block
of rows. Every node but a root has one parent, so each *slot* (a parent's left or right side, or the seat of a root) is
filled by exactly one node: a program that writes each result to its slot reads its operands without gathering.

Invariants: `node_at` is a permutation of all nodes, `slot_of` its inverse. Cost: O(nodes), one visit in Python each.

    two leaves under one root  →  words [3, 7], bounds [0, 1], node_at [0, 1, 2], slot_of [0, 1, 2]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from benchmarks.treelstm.data import Tree

_HEIGHT = 32  # a node's code while visiting: its height, shifted by this, plus its position in its level


@dataclass(slots=True)
class LevelPlan:
    """Where the values of one minibatch live.

    words:    i64[n_leaves]  the word of each leaf
    bounds:   inner level k is rows bounds[k]:bounds[k + 1] of the inner nodes
    node_at:  i64[n_nodes]   which node fills a slot; 2 p and 2 p + 1 are the children of inner node p, roots come last
    slot_of:  i64[n_nodes]   the slot that a node fills; leaves first, then the inner nodes
    labels:   i64[n_trees]   the class of each root; or i64[n_nodes], of every node
    """

    words: np.ndarray
    bounds: list[int]
    node_at: np.ndarray
    slot_of: np.ndarray
    labels: np.ndarray

    @property
    def n_leaves(self) -> int:
        return len(self.words)

    @property
    def n_inner(self) -> int:
        return self.bounds[-1]

    def levels(self) -> list[tuple[int, int]]:
        """First and last (exclusive) inner row of every level, lowest first."""
        return list(zip(self.bounds[:-1], self.bounds[1:], strict=True))


def plan_levels(trees: Sequence[Tree], all_labels: bool = False) -> LevelPlan:
    """Number the nodes of a minibatch by height. Recursive: trees are as deep as Python's stack allows."""
    words: list[int] = []
    labels: list[list[int]] = [[]]  # of every height, if all are wanted
    children: list[list[int]] = []  # of every inner level: left and right child of each node, as codes

    def visit(node: Tree) -> int:
        if node.is_leaf:
            words.append(node.word)
            if all_labels:
                labels[0].append(node.label)
            return len(words) - 1
        left = visit(node.left)
        right = visit(node.right)
        height = (left if left > right else right) >> _HEIGHT
        if height == len(children):
            children.append([])
            labels.append([])
        if all_labels:
            labels[height + 1].append(node.label)
        level = children[height]
        level.append(left)
        level.append(right)
        return (height + 1 << _HEIGHT) + (len(level) >> 1) - 1

    roots = [visit(tree) for tree in trees]
    codes = np.fromiter(chain(*children, roots), np.int64, sum(map(len, children)) + len(roots))
    bounds = [0, *np.cumsum([len(level) // 2 for level in children]).tolist()]
    first = np.array([0, *bounds[:-1]]) + len(words)  # the first node of every height
    first[0] = 0
    node_at = first[codes >> _HEIGHT] + (codes & (1 << _HEIGHT) - 1)
    slot_of = np.empty_like(node_at)
    slot_of[node_at] = np.arange(len(node_at))
    classes = list(chain(*labels)) if all_labels else [tree.label for tree in trees]
    return LevelPlan(np.array(words, np.int64), bounds, node_at, slot_of, np.array(classes, np.int64))
