"""Floors of a training step on a device: its matmuls alone, and its bytes at the speed of a copy.

There are the products of the whole minibatch at full width, and those of the launches that autobatch made. Bytes that
no program avoids: operands and results of the products at full width, and of each parameter but the table what Adam
reads (value, gradient, two moments) and writes (value, two moments).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from autobatch.backends.device import current_device
from benchmarks.gpu.place import Clock
from benchmarks.workload import Product

FLOAT32 = np.dtype(np.float32)
ADAM_PASSES = 7
COPIED = 1 << 28  # bytes, far beyond the caches


class ProductsOnDevice:
    """The products of one minibatch; operands of each lie behind those of the one before, weights are shared."""

    def __init__(self, products: Sequence[Product]) -> None:
        self.products = [(1, *product) if len(product) == 3 else product for product in products]
        self.device = current_device()
        sizes = [max(1, sum(each)) for each in zip(*map(_numbers, self.products), strict=True)] or [1, 1, 1]
        sizes[1] = max((_numbers(product)[1] for product in self.products), default=1)
        self.memory = [self.device.array(np.full(size, 0.5, FLOAT32)) for size in sizes]

    def step(self) -> None:
        """Launch all of them."""
        left, right, result = (array.data.ptr for array in self.memory)
        for count, m, k, n in self.products:
            x, w, y = (left, k, False, m * k), (right, n, False, k * n), (result, n, m * n)
            self.device.gemm((m, k, n), x, w, y, FLOAT32, False, count)
            left, result = left + 4 * count * m * k, result + 4 * count * m * n


def _numbers(product: Sequence[int]) -> tuple[int, int, int]:
    count, m, k, n = product
    return count * m * k, count * k * n, count * m * n


def n_bytes(products: Sequence[Product], parameters: Mapping[str, np.ndarray]) -> int:
    """Bytes of float32 that a step must move.

    >>> n_bytes([(2, 3, 4), (5, 2, 3, 4)], {"w": np.zeros((3, 4)), "table": np.zeros((100, 3))})
    936
    """
    moved = sum(sum(_numbers((1, *p) if len(p) == 3 else p)) for p in products)
    return 4 * (moved + ADAM_PASSES * sum(value.size for name, value in parameters.items() if name != "table"))


def bandwidth(clock: Clock, copied: int = COPIED) -> float:
    """Bytes a second that a copy on the device reads and writes."""
    device = current_device()
    source, target = (device.array(np.zeros(copied // 4, FLOAT32)) for _ in range(2))

    def copy() -> Any:
        target[...] = source

    return 2e3 * copied / queued(clock, copy, 5)


def queued(clock: Clock, launch: Any, repeat: int, host_milliseconds: float = 0.0) -> float:
    """Milliseconds that the device takes for what `launch` launches, without waiting for the host: a median."""
    times = []
    for k in range(repeat + 1):
        clock.synchronize()
        clock.hold(2.0 * host_milliseconds + 1.0)
        start = clock.mark()
        launch()
        end = clock.mark()
        clock.synchronize()
        if k:
            times.append(clock.milliseconds(start, end))
    return float(np.median(times))
