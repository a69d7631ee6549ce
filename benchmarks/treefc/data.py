"""Words for complete binary trees, and parameters, drawn from fixed seeds.

There are 640 examples: a class and the words of 128 leaves from left to right, by Zipf's law; node k of a level has the
nodes 2 k and 2 k + 1 of the level below as children.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.workload import Parameters, Product, linear

N_EXAMPLES = 10 * 64
N_LEAVES = 128
N_WORDS = 10_000
N_CLASSES = 5


@dataclass(slots=True)
class Leaves:
    """One example: the words of the leaves, a power of two, and the class of the root."""

    words: list[int]
    label: int


def examples() -> list[Leaves]:
    """All examples, the same on every machine."""
    rng = np.random.default_rng(2345)
    words = (N_WORDS ** rng.random((N_EXAMPLES, N_LEAVES))).astype(np.int64) - 1
    labels = rng.integers(0, N_CLASSES, size=N_EXAMPLES)
    return [Leaves(row, label) for row, label in zip(words.tolist(), labels.tolist(), strict=True)]


def parameters(dim: int, seed: int = 1) -> Parameters:
    """Initial parameters, float32. Layouts are (outputs, inputs).

    | name     | shape        | use                                |
    |----------|--------------|------------------------------------|
    | `table`  | (10000, H)   | h = table[word] at a leaf          |
    | `node_w` | (H, 2 H)     | h = relu(node_w [h1; h2] + node_b) |
    | `node_b` | (H,)         |                                    |
    | `out_w`  | (5, H)       | logits = out_w h + out_b           |
    | `out_b`  | (5,)         |                                    |
    """
    rng = np.random.default_rng(seed)

    def uniform(bound: float, *shape: int) -> np.ndarray:
        return rng.uniform(-bound, bound, size=shape).astype(np.float32)

    return {
        "table": rng.normal(0.0, 1.0, size=(N_WORDS, dim)).astype(np.float32),
        "node_w": uniform((3.0 / dim) ** 0.5, dim, 2 * dim),  # keeps the variance of the hidden states
        "node_b": uniform(0.05, dim),
        "out_w": uniform((6.0 / (dim + N_CLASSES)) ** 0.5, N_CLASSES, dim),
        "out_b": uniform(0.05, N_CLASSES),
    }


def products(batch: Sequence[Leaves], dim: int) -> list[Product]:
    """The products of one step over these examples, at full width."""
    n_inner = sum(len(example.words) - 1 for example in batch)
    return [*linear(n_inner, 2 * dim, dim), *linear(len(batch), dim, N_CLASSES)]
