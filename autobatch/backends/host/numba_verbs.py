"""Array verbs of the compiled programs: operations that are not elementwise and slow in NumPy.

Rows are reduced one after the other, so results do not depend on anything but the operands.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...base.jit import njit
from ...ops.declare import Op
from .scalar_functions import combiner


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
    return np.ascontiguousarray(x).reshape(n, math.prod(rest))


@functools.cache
def segments_verb(op: Op, dtype: np.dtype[Any]) -> Callable[[Any, Any, int], Any]:
    """`op.numpy` of `scatter_add` and of reductions over segments, made from the combiner."""
    assert op.combine is not None
    combine = combiner(op.combine.scalar, dtype.itemsize * 8)

    @njit(error_model="numpy")
    def reduce_into(total, index, values):  # type: ignore[no-untyped-def]
        w = total.shape[1]
        for i in range(len(index)):
            y = total[index[i], :w]
            x = values[i, :w]
            for j in range(w):
                y[j] = combine(y[j], x[j])

    def reduce(x: Any, index: Any, n: int) -> Any:
        rest = x.shape[index.ndim :]
        total = np.full((n, *rest), op.identity, dtype) if op.identity else np.zeros((n, *rest), dtype)
        if x.size:
            reduce_into(_two(total, n, rest), np.ascontiguousarray(index).reshape(-1), _two(x, index.size, rest))
        return total

    return reduce


@functools.cache
def scan_verb(op: Op, dtype: np.dtype[Any]) -> Callable[[Any, Any, bool], Any]:
    """`op.numpy` of scans of the rows of segments, made from the combiner."""
    assert op.combine is not None
    combine = combiner(op.combine.scalar, dtype.itemsize * 8)

    @njit(error_model="numpy")
    def scan_into(y, index, x, first, step):  # type: ignore[no-untyped-def]
        w = x.shape[1]
        i = first
        for k in range(len(index)):
            here = y[i, :w]
            value = x[i, :w]
            if k == 0 or index[i] != index[i - step]:
                for j in range(w):
                    here[j] = value[j]
            else:
                before = y[i - step, :w]
                for j in range(w):
                    here[j] = combine(before[j], value[j])
            i += step

    def scan(x: Any, index: Any, reverse: bool) -> Any:
        y = np.empty(x.shape, dtype)
        if x.size:
            n, rest = index.size, x.shape[1:]
            first, step = (n - 1, -1) if reverse else (0, 1)
            scan_into(y.reshape(n, math.prod(rest)), np.ascontiguousarray(index), _two(x, n, rest), first, step)
        return y

    return scan
