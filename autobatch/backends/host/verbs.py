"""Array verbs of the NumPy programs: reading and adding to rows of a pool."""

from __future__ import annotations

from typing import Any

import numpy as np


def gather(pool: Any, rows: Any, block: int) -> Any:
    """Rows of a pool: the slice itself where they are consecutive, else a copy.

    >>> gather(np.arange(6.0).reshape(3, 2), np.array([2, 0]), -1)
    array([[4., 5.],
           [0., 1.]])
    """
    if block >= 0:
        return pool[block : block + len(rows)]
    return np.take(pool, rows, axis=0, mode="clip") if len(pool) else np.empty((0, pool.shape[1]), pool.dtype)


def take(table: Any, index: Any, target: Any) -> None:
    """Write rows of a table, whose numbers are known to be in range, into an array."""
    if len(table):
        np.take(table, index, axis=0, out=target, mode="clip")
    else:
        target[...] = 0


def add_rows(target: tuple[Any, Any, int], values: Any) -> None:
    """Add values to rows of a pool, (pool, rows, block), in order; rows may repeat."""
    pool, rows, block = target
    values = np.reshape(values, (len(rows), pool.shape[1]))
    if block >= 0:
        pool[block : block + len(rows)] += values
    else:
        np.add.at(pool, rows, values)


def store_rows(target: tuple[Any, Any, int], values: Any) -> None:
    """Write values to rows of a pool, (pool, rows, block); no row is there twice."""
    pool, rows, _ = target
    pool[rows] = np.reshape(values, (len(rows), pool.shape[1]))


def store(target: Any, values: Any) -> None:
    """Write values of any shape into an array of as many elements."""
    target[...] = np.reshape(values, target.shape)
