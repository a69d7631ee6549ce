"""Data of the MLP workload: 1,600 vectors with classes that a fixed random map gives them, and the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from benchmarks.workload import Parameters, Product

N_EXAMPLES = 25 * 64
N_INPUTS = 256
N_CLASSES = 10

Example = tuple[np.ndarray, int]
"""A vector f32[256] and its class."""


def examples() -> list[Example]:
    """Normal vectors; the class is the largest of ten fixed random projections."""
    rng = np.random.default_rng(2020)
    vectors = rng.standard_normal((N_EXAMPLES, N_INPUTS), np.float32)
    classes = (vectors @ rng.standard_normal((N_INPUTS, N_CLASSES), np.float32)).argmax(axis=1)
    return [(vector.copy(), int(label)) for vector, label in zip(vectors, classes, strict=True)]


def parameters(dim: int, seed: int = 1) -> Parameters:
    """Three layers, 256 → dim → dim → 10: weights `w1`, `w2`, `w3` of (outputs, inputs), biases `b1`, `b2`, `b3`."""
    rng = np.random.default_rng(seed)
    widths = (N_INPUTS, dim, dim, N_CLASSES)
    made = {}
    for k, (n_in, n_out) in enumerate(pairwise(widths), start=1):
        bound = n_in**-0.5
        made[f"w{k}"] = rng.uniform(-bound, bound, (n_out, n_in)).astype(np.float32)
        made[f"b{k}"] = rng.uniform(-bound, bound, n_out).astype(np.float32)
    return made


def products(examples: Sequence[Example], dim: int) -> list[Product]:
    """Three forward, three for weights; the gradient of the input is not needed."""
    n = len(examples)
    forward = [(n, N_INPUTS, dim), (n, dim, dim), (n, dim, N_CLASSES)]
    inputs = [(n, N_CLASSES, dim), (n, dim, dim)]
    weights = [(dim, n, N_INPUTS), (dim, n, dim), (N_CLASSES, n, dim)]
    return forward + inputs + weights
