"""Trees and parameters are those of the Tree-LSTM: its trees have a class on every node."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.treelstm import data
from benchmarks.treelstm.data import EMBEDDING, N_CLASSES, Tree
from benchmarks.workload import Product, linear

examples = data.examples
parameters = data.parameters


def products(trees: Sequence[Tree], dim: int) -> list[Product]:
    """The products of one step over these trees, at full width."""
    n_leaves, *inner = data.level_widths(trees)
    n_inner = sum(inner)
    return [
        *linear(n_leaves, EMBEDDING, 3 * dim),
        *linear(n_inner, 2 * dim, 3 * dim),
        *linear(n_inner, dim, dim),
        *linear(n_inner, dim, dim),
        *linear(n_leaves + n_inner, dim, N_CLASSES),
    ]
