"""Floors: the matrix products of a Tree-LSTM training step and nothing else, with NumPy's BLAS, into reused outputs.

Counted are the products of the forward pass, of the gradients of inputs and of the gradients of weights:

    leaves        e  (n, 128)  x (128, 3 H)
    inner nodes   [h1; h2] (n, 2 H) x (2 H, 3 H),  h1 (n, H) x (H, H),  h2 (n, H) x (H, H)
    roots         h  (n, H)    x (H, 5)

At *full width* each is one product over all rows of the minibatch: no program that multiplies all rows can be faster
with this BLAS. At *the widths of a schedule* forward products and gradients of inputs run launch by launch, as their
order demands; gradients of weights stay one product each. Every product has its weights in the layout that suits this
BLAS best with few rows: (inputs, outputs) forward, (outputs, inputs) in reverse.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.treelstm.data import EMBEDDING, N_CLASSES

Product = tuple[np.ndarray, np.ndarray, np.ndarray]  # left, right, output


class ProductFloor:
    """The products of one model width. Arrays are made once and shared by all minibatches.

    floor = ProductFloor(256)
    floor.run(floor.products(64, [1232], [1168]))              # full width
    floor.run(floor.products(64, [1232], [330, 210, ..., 1]))  # inner nodes level by level
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.memory: dict[str, np.ndarray] = {}
        self.rng = np.random.default_rng(0)

    def products(self, n_trees: int, leaf_launches: Sequence[int], inner_launches: Sequence[int]) -> list[Product]:
        """All products of one step, for launches of so many rows."""
        dim = self.dim
        return [
            *self._linear("leaf", leaf_launches, EMBEDDING, 3 * dim),
            *self._linear("gates", inner_launches, 2 * dim, 3 * dim),
            *self._linear("left", inner_launches, dim, dim),
            *self._linear("right", inner_launches, dim, dim),
            *self._linear("out", [n_trees], dim, N_CLASSES),
        ]

    @staticmethod
    def run(products: Sequence[Product]) -> None:
        for left, right, output in products:
            np.matmul(left, right, out=output)

    def _linear(self, name: str, launches: Sequence[int], n_in: int, n_out: int) -> Iterator[Product]:
        n_rows = sum(launches)
        forward_w, reverse_w = self._array(name + " forward", n_in, n_out), self._array(name + " reverse", n_out, n_in)
        x, z, dx = (self._array(name + end, n_rows, n) for end, n in ((" x", n_in), (" z", n_out), (" dx", n_in)))
        first = 0
        for rows in launches:
            block = slice(first, first + rows)
            yield x[block], forward_w, z[block]
            yield z[block], reverse_w, dx[block]
            first += rows
        yield z.T, x, self._array(name + " dw", n_out, n_in)

    def _array(self, name: str, n_rows: int, n_columns: int) -> np.ndarray:
        if len(self.memory.get(name, ())) < n_rows:
            self.memory[name] = self.rng.standard_normal((n_rows, n_columns), np.float32)
        return self.memory[name][:n_rows]
