"""Level plan: a minibatch of trees with any number of children → row numbers for programs batched by hand.

Nodes are numbered by height: all leaves first, then the nodes over leaves, and so on, so that each level is one block
of rows. Within a level nodes stand by number of children, most first. Every node but a root has one parent, so each
*slot* (a place among a parent's children, or the seat of a root) is filled by exactly one node. The slots of a level
are its nodes' first children, then their second children, and so on: what its nodes do with their k-th children is work
on two blocks, the slots of the k-th children and the first rows of the level.

Invariants: `node_at` is a permutation of all nodes, `slot_of` its inverse. Cost: O(nodes), one visit in Python each.

    a root over a leaf and a node over one leaf  →  levels: rows 0:1 with parts (0, 1); rows 1:2 with (1, 2), (2, 3)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from autobatch.data import Tree

_HEIGHT = 32  # a node's code while visiting: its height, shifted by this, plus its position in its level


@dataclass(frozen=True, slots=True)
class Level:
    """Rows `first:last` of the inner nodes; `parts[k]` are the first and last (exclusive) slot of the k-th children."""

    first: int
    last: int
    parts: list[tuple[int, int]]

    @property
    def slots(self) -> tuple[int, int]:
        """First and last (exclusive) slot of all children."""
        return self.parts[0][0], self.parts[-1][1]


@dataclass(frozen=True, slots=True)
class LevelPlan:
    """Where the values of one minibatch live.

    words:    i64[n_nodes]  the word of each node, leaves first
    n_leaves: how many leaves there are
    levels:   the inner levels, lowest first
    slot_of:  i64[n_nodes]  the slot that a node fills; roots fill the last ones, in the order of the trees
    node_at:  i64[n_nodes]  which node fills a slot
    labels:   i64[n_trees]  the class of each root
    """

    words: np.ndarray
    n_leaves: int
    levels: list[Level]
    slot_of: np.ndarray
    node_at: np.ndarray
    labels: np.ndarray

    @property
    def n_inner(self) -> int:
        return len(self.words) - self.n_leaves

    @property
    def n_children(self) -> int:
        """Slots before those of the roots."""
        return len(self.words) - len(self.labels)


def plan_levels(trees: Sequence[Tree]) -> LevelPlan:
    """Number the nodes of a minibatch. Recursive: trees are as deep as Python's stack allows."""
    leaf_words: list[int] = []
    words: list[list[int]] = []  # of every inner level
    children: list[list[list[int]]] = []  # of every inner level, the codes of each node's children

    def visit(node: Tree) -> int:
        if not node.children:
            leaf_words.append(node.word)
            return len(leaf_words) - 1
        codes = [visit(child) for child in node.children]
        height = max(codes) >> _HEIGHT
        if height == len(words):
            words.append([])
            children.append([])
        words[height].append(node.word)
        level = children[height]
        level.append(codes)
        return (height + 1 << _HEIGHT) + len(level) - 1

    roots = [visit(tree) for tree in trees]
    levels, slot_codes = [], []
    places = [np.arange(len(leaf_words))]  # of every height: position while visiting → node
    n_rows, n_slots = 0, 0
    for k, level in enumerate(children):
        order = sorted(range(len(level)), key=lambda p, level=level: -len(level[p]))
        place = np.empty(len(level), np.int64)
        place[order] = np.arange(len(level)) + (len(leaf_words) + n_rows)
        places.append(place)
        words[k] = [words[k][p] for p in order]
        parts, ordered = [], [level[p] for p in order]
        for position in range(len(ordered[0])):
            while len(ordered[-1]) <= position:
                ordered.pop()
            slot_codes.append([codes[position] for codes in ordered])
            parts.append((n_slots, n_slots + len(ordered)))
            n_slots += len(ordered)
        levels.append(Level(n_rows, n_rows + len(level), parts))
        n_rows += len(level)
    codes = np.fromiter(chain(*slot_codes, roots), np.int64, n_slots + len(roots))
    starts = np.cumsum([0, *map(len, places[:-1])])
    node_at = np.concatenate(places)[starts[codes >> _HEIGHT] + (codes & (1 << _HEIGHT) - 1)]
    slot_of = np.empty_like(node_at)
    slot_of[node_at] = np.arange(len(node_at))
    all_words = np.fromiter(chain(leaf_words, *words), np.int64, len(node_at))
    labels = np.array([tree.label for tree in trees], np.int64)
    return LevelPlan(all_words, len(leaf_words), levels, slot_of, node_at, labels)
