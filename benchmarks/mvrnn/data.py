"""Trees and parameters of the MV-RNN.

The trees are those of the Tree-LSTM that have at most 20 leaves, two thirds of them. A matrix for each of 10,000 words
would be 160 MB at width 64, so the vocabulary is of 500: a word is its number in the trees modulo 500.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.treelstm import data
from benchmarks.treelstm.data import N_CLASSES, Tree
from benchmarks.workload import Parameters, Product, linear

MAX_LEAVES = 20
N_WORDS = 500


def examples() -> list[Tree]:
    """All trees, the same on every machine."""
    chosen = []
    for tree in data.examples():
        leaves = [node for node in data.nodes(tree) if node.is_leaf]
        if len(leaves) <= MAX_LEAVES:
            for leaf in leaves:
                leaf.word %= N_WORDS
            chosen.append(tree)
    return chosen


def parameters(dim: int, seed: int = 1) -> Parameters:
    """Initial parameters, float32. Layouts are (outputs, inputs); a and A are of the left child, b and B of the right.

    | name       | shape       | use                                          |
    |------------|-------------|----------------------------------------------|
    | `vectors`  | (500, d)    | a = vectors[word]                            |
    | `matrices` | (500, d, d) | A = matrices[word]: identity and small noise |
    | `node_w`   | (d, 2 d)    | p = tanh(node_w [B a; A b] + node_b)         |
    | `node_b`   | (d,)        |                                              |
    | `pair_w`   | (d, 2 d)    | P = pair_w [A; B], rows of A over rows of B  |
    | `out_w`    | (5, d)      | logits = out_w p + out_b                     |
    | `out_b`    | (5,)        |                                              |
    """
    rng = np.random.default_rng(seed)

    def weight(n_out: int, n_in: int) -> np.ndarray:
        bound = (6.0 / (n_in + n_out)) ** 0.5
        return rng.uniform(-bound, bound, size=(n_out, n_in)).astype(np.float32)

    def bias(n: int) -> np.ndarray:
        return rng.uniform(-0.05, 0.05, size=n).astype(np.float32)

    noise = rng.normal(0.0, 0.01, size=(N_WORDS, dim, dim))
    mean = np.tile(np.eye(dim) / 2, 2)  # P starts near the mean of A and B
    return {
        "vectors": rng.normal(0.0, 0.5, size=(N_WORDS, dim)).astype(np.float32),
        "matrices": (np.eye(dim) + noise).astype(np.float32),
        "node_w": weight(dim, 2 * dim),
        "node_b": bias(dim),
        "pair_w": (mean + rng.normal(0.0, 0.01, size=(dim, 2 * dim))).astype(np.float32),
        "out_w": weight(N_CLASSES, dim),
        "out_b": bias(N_CLASSES),
    }


def products(trees: Sequence[Tree], dim: int) -> list[Product]:
    """The products of one step over these trees, at full width.

    No loss depends on the matrices of the roots. Gradients of A and B through A b and B a are outer products, which
    are elementwise work.
    """
    n_inner = sum(data.level_widths(trees)[1:])
    return [
        *linear((n_inner - len(trees)) * dim, 2 * dim, dim),
        (2 * n_inner, 1, dim, dim),
        (2 * n_inner, 1, dim, dim),
        *linear(n_inner, 2 * dim, dim),
        *linear(len(trees), dim, N_CLASSES),
    ]
