"""Floors: the matmuls of a training step and nothing else, into reused outputs.

At *full width* each product runs once over all rows of the minibatch (`Workload.products`): no program that multiplies
all rows by the same library can be faster. At *the widths of the schedule* the products are those of the launches that
autobatch made (`ab.profile().products`): what it could reach if everything but products took no time.

They run with NumPy's BLAS, or with the library that autobatch multiplies with (`ab.set_products`), in the layout that
suits it best. Products of one inner size and one width share their right operand, as launches share weights; left
operands and outputs advance through one block of rows for each width, as rows do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

Made = tuple[Callable[..., Any], tuple[Any, ...]]
Shape = tuple[int, ...]  # (m, k, n), or (count, m, k, n): so many products of matrices of their own


class ProductFloor:
    """The products of some minibatches. Arrays are made once and shared by all of them.

    >>> floor = ProductFloor([[(64, 128, 384), (128, 64, 384)], [(60, 128, 384), (2, 8, 8, 8)]])
    >>> floor.step(0)
    >>> [operands[2].shape for _, operands in floor.made[1]]
    [(60, 384), (2, 8, 8)]

    numpy: with NumPy's BLAS, whatever autobatch multiplies with.
    """

    def __init__(self, minibatches: Iterable[Sequence[Shape]], numpy: bool = True) -> None:
        self.numpy = numpy
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
        for function, operands in self.made[k % len(self.made)]:
            function(*operands)

    def _make(self, products: Sequence[Shape]) -> list[Made]:
        from autobatch.backends.host.matmul import library

        made: list[Made] = []
        readers = Counter(_parts(product)[1][0] for product in products)
        used: dict[tuple[object, ...], int] = {}
        for product in products:
            *count, m, k, n = product
            arrays = []
            for (key, n_numbers), shape in zip(_parts(product), ((m, k), (k, n), (m, n)), strict=True):
                first = used.get(key, 0)
                arrays.append(self.memory[key][first : first + n_numbers].reshape(*count, *shape))
                if key[0] != "right":
                    used[key] = first + n_numbers
            left, right, output = arrays
            if self.numpy:
                made.append((np.matmul, (left, right, output)))
            elif count:
                made.append((library().gemm_batched, (left, right, output)))
            elif readers[_parts(product)[1][0]] > 1:  # a weight: read as autobatch reads weights
                made.append((library().gemm_transposed, (left, right.reshape(n, k), output, True)))
            else:
                made.append((library().gemm, (left, right, output)))
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
