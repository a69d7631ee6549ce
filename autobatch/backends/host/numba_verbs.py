"""Array verbs of the compiled programs: what is not elementwise and what NumPy does slowly.

Each verb has the arguments of the op of the same name. Adding goes row by row in order, so results do not depend on
anything but the operands.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...base.jit import njit


@njit(error_model="numpy")
def _add_into(total, index, values):  # type: ignore[no-untyped-def]
    w = total.shape[1]
    for i in range(len(index)):
        y = total[index[i], :w]
        x = values[i, :w]
        for j in range(w):
            y[j] += x[j]


@njit(error_model="numpy")
def _max_into(total, index, values):  # type: ignore[no-untyped-def]
    w = total.shape[1]
    for i in range(len(index)):
        y = total[index[i], :w]
        x = values[i, :w]
        for j in range(w):
            z = x[j] if x[j] >= y[j] else y[j]
            y[j] = x[j] if x[j] != x[j] else z


@njit(error_model="numpy")
def gather_into(pool, rows, target):  # type: ignore[no-untyped-def]
    """Copy rows of a pool into f[m, n w]: n rows of w numbers for each m, at once where they follow one another."""
    w = pool.shape[1]
    n = target.shape[1] // max(w, 1)
    numbers = pool.reshape(-1)
    for i in range(target.shape[0]):
        a = 0
        while a < n:
            first = rows[i * n + a]
            b = a + 1
            while b < n and rows[i * n + b] == first + b - a:
                b += 1
            y = target[i, a * w : b * w]
            x = numbers[first * w : (first + b - a) * w]
            for j in range(x.size):
                y[j] = x[j]
            a = b


@njit(error_model="numpy")
def _bounded_into(index, n, lowest, target):  # type: ignore[no-untyped-def]
    low, high = 0, -1
    for i in range(index.size):
        k = index[i]
        low = min(low, k)
        high = max(high, k)
        target[i] = k + n if k < 0 else k
    return lowest <= low and high < n


def bounded(index: Any, n: int, lowest: int, target: Any) -> bool:
    """Write an index made non-negative into a contiguous array; whether all of it is in range."""
    return bool(_bounded_into(np.ascontiguousarray(index).reshape(-1), n, lowest, target.reshape(-1)))


def _two(x: Any, n: int, rest: tuple[int, ...]) -> Any:
    width = 1
    for extent in rest:
        width *= extent
    return np.ascontiguousarray(x).reshape(n, width)


def scatter_add(g: Any, index: Any, n: int) -> Any:
    """A table of `n` rows of zeros to whose rows the rows of `g` are added."""
    rest = g.shape[index.ndim :]
    total = np.zeros((n, *rest), g.dtype)
    if g.size:
        _add_into(_two(total, n, rest), np.ascontiguousarray(index).reshape(-1), _two(g, index.size, rest))
    return total


def segment_max(x: Any, segments: Any, n: int) -> Any:
    """Largest of the rows of each segment; -inf for an empty one."""
    total = np.full((n, *x.shape[1:]), -np.inf, x.dtype)
    if x.size:
        _max_into(_two(total, n, x.shape[1:]), np.ascontiguousarray(segments), _two(x, len(x), x.shape[1:]))
    return total


OPS = {"scatter_add": scatter_add, "segment_max": segment_max}
"""What stands in for `op.numpy`, for floating dtypes."""
