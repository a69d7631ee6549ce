"""The trees and parameters of the Tree-LSTM, drawn from fixed seeds so that every program sees the same.

The examples are 1,600 random binary trees, 25 minibatches of 64. Leaf counts are log-normal (median 17), the
shape is skewed as parses are (over half of the inner nodes have a single leaf on their left), and words follow Zipf's
law.

    trees = examples()
    weights = parameters(256)  # dict of float32 arrays, the starting point of every program
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.workload import Product, linear

N_TREES = 25 * 64
N_WORDS = 10_000
N_CLASSES = 5
EMBEDDING = 128


class Tree:
    """A labelled binary tree: a leaf has a `word`, its row in the embedding table; any other has `left` and `right`."""

    __slots__ = ("is_leaf", "label", "left", "right", "word")
    is_leaf: bool
    label: int
    word: int
    left: Tree
    right: Tree

    @classmethod
    def leaf(cls, label: int, word: int) -> Tree:
        tree = cls()
        tree.is_leaf, tree.label, tree.word = True, label, word
        return tree

    @classmethod
    def branch(cls, label: int, left: Tree, right: Tree) -> Tree:
        tree = cls()
        tree.is_leaf, tree.label, tree.left, tree.right = False, label, left, right
        return tree


def examples() -> list[Tree]:
    """The 1,600 trees, the same on every machine."""
    rng = np.random.default_rng(1234)
    n_leaves = np.clip(np.rint(np.exp(rng.normal(2.83, 0.5, size=N_TREES))), 2, 52).astype(int)

    def grow(n: int) -> Tree:
        label = int(rng.integers(0, N_CLASSES))
        if n == 1:
            return Tree.leaf(label, int(N_WORDS ** rng.random()) - 1)
        k = 1 if rng.random() < 0.45 else int(rng.integers(1, n))
        left = grow(k)
        return Tree.branch(label, left, grow(n - k))

    return [grow(int(n)) for n in n_leaves]


def nodes(tree: Tree) -> Iterator[Tree]:
    """All nodes of a tree, parents before children, left before right."""
    stack = [tree]
    while stack:
        node = stack.pop()
        yield node
        if not node.is_leaf:
            stack += (node.right, node.left)


def level_widths(trees: Sequence[Tree]) -> list[int]:
    """How many nodes stand at each height over the leaves: leaves first, then the inner levels."""
    widths: list[int] = []
    for tree in trees:
        height: dict[int, int] = {}
        for node in reversed(list(nodes(tree))):
            h = 0 if node.is_leaf else 1 + max(height[id(node.left)], height[id(node.right)])
            height[id(node)] = h
            if h == len(widths):
                widths.append(0)
            widths[h] += 1
    return widths


def parameters(dim: int, seed: int = 1) -> dict[str, np.ndarray]:
    """Initial parameters, float32. Layouts are (outputs, inputs); gates stand in the order i, o, u.

    | name         | shape           | use                                |
    |--------------|-----------------|------------------------------------|
    | `table`      | (10000, 128)    | e = table[word]                    |
    | `leaf_w`     | (3 H, 128)      | i, o, u = leaf_w e + leaf_b        |
    | `node_w`     | (3 H, 2 H)      | i, o, u = node_w [h1; h2] + node_b |
    | `forget_l`   | (H, H)          | f1 = forget_l h1 + forget_b        |
    | `forget_r`   | (H, H)          | f2 = forget_r h2 + forget_b        |
    | `out_w`      | (5, H)          | logits = out_w h + out_b           |
    """
    rng = np.random.default_rng(seed)

    def weight(n_out: int, n_in: int) -> np.ndarray:
        bound = (6.0 / (n_in + n_out)) ** 0.5
        return rng.uniform(-bound, bound, size=(n_out, n_in)).astype(np.float32)

    def bias(n: int) -> np.ndarray:
        return rng.uniform(-0.05, 0.05, size=n).astype(np.float32)

    return {
        "table": rng.normal(0.0, 0.1, size=(N_WORDS, EMBEDDING)).astype(np.float32),
        "leaf_w": weight(3 * dim, EMBEDDING),
        "leaf_b": bias(3 * dim),
        "node_w": weight(3 * dim, 2 * dim),
        "node_b": bias(3 * dim),
        "forget_l": weight(dim, dim),
        "forget_r": weight(dim, dim),
        "forget_b": bias(dim) + np.float32(1.0),
        "out_w": weight(N_CLASSES, dim),
        "out_b": bias(N_CLASSES),
    }


def products(trees: Sequence[Tree], dim: int) -> list[Product]:
    """The products of one step over these trees, at full width."""
    n_leaves, *inner = level_widths(trees)
    n_inner = sum(inner)
    return [
        *linear(n_leaves, EMBEDDING, 3 * dim),
        *linear(n_inner, 2 * dim, 3 * dim),
        *linear(n_inner, dim, dim),
        *linear(n_inner, dim, dim),
        *linear(len(trees), dim, N_CLASSES),
    ]
