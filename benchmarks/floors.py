"""Floors: the matrix products of a training step and nothing else, with NumPy's BLAS, into reused outputs.

At *full width* each product runs once over all rows of the minibatch (`Workload.products`): no program that multiplies
all rows can be faster with this BLAS. At *the widths of the schedule* the products are those of the launches that
autobatch made (`ab.profile().products`): what it could reach if everything but products took no time.

Operands lie as suits this BLAS best: rows in C order, weights as (inputs, outputs). Products of one inner size and one
width share their right operand, as launches share weights; left operands and outputs advance through one block of
rows for each width, as rows do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

Made = tuple[np.ndarray, np.ndarray, np.ndarray]  # left, right, output
Shape = tuple[int, ...]  # (m, k, n), or (count, m, k, n): so many products of matrices of their own


class ProductFloor:
    """The products of some minibatches. Arrays are made once and shared by all of them.

    >>> floor = ProductFloor([[(64, 128, 384), (128, 64, 384)], [(60, 128, 384), (2, 8, 8, 8)]])
    >>> floor.step(0)
    >>> [output.shape for _, _, output in floor.made[1]]
    [(60, 384), (2, 8, 8)]
    """

    def __init__(self, minibatches: Iterable[Sequence[Shape]]) -> None:
        listed = [list(products) for products in minibatches]
        self.memory: dict[tuple[object, ...], np.ndarray] = {}
        for products in listed:
            needed: dict[tuple[object, ...], int] = {}
            for key, n_numbers in (part for product in products for part in _parts(product)):
                shared = key[0] == "right"
                needed[key] = max(needed.get(key, 0), n_numbers) if shared else needed.get(key, 0) + n_numbers
            for key, n_numbers in needed.items():
                if self.memory.get(key, np.empty(0)).size < n_numbers:
                    self.memory[key] = np.random.default_rng(0).standard_normal(n_numbers, np.float32)
        self.made = [self._make(products) for products in listed]

    def step(self, k: int) -> None:
        """The products of minibatch k; they start over behind the last."""
        for left, right, output in self.made[k % len(self.made)]:
            np.matmul(left, right, out=output)

    def _make(self, products: Sequence[Shape]) -> list[Made]:
        made = []
        used: dict[tuple[object, ...], int] = {}
        for product in products:
            *count, m, k, n = product
            arrays = []
            for (key, n_numbers), shape in zip(_parts(product), ((m, k), (k, n), (m, n)), strict=True):
                first = used.get(key, 0)
                arrays.append(self.memory[key][first : first + n_numbers].reshape(*count, *shape))
                if key[0] != "right":
                    used[key] = first + n_numbers
            made.append((arrays[0], arrays[1], arrays[2]))
        return made


def _parts(product: Shape) -> list[tuple[tuple[object, ...], int]]:
    """Memory and numbers of the left operand, the right one and the output."""
    *count, m, k, n = product
    many = count[0] if count else 1
    return [(("left", k), many * m * k), (("right", k, n, bool(count)), many * k * n), (("output", n), many * m * n)]


def n_operations(products: Sequence[Shape]) -> int:
    """Multiplications and additions of these products.

    >>> n_operations([(2, 3, 4), (5, 2, 3, 4)])
    288
    """
    return sum(2 * int(np.prod(product, dtype=np.int64)) for product in products)
