"""Matrix products of pairs, compiled: the primitive of `ops.pairs` on host arrays, and what attention is made of, too.

    pair_product(x, y, numbers of nodes of rows and columns, first pairs of rows, counts, what is made, out)

Node by node and head by head, vectors and pairs are read where they lie by the tiles of matrix products, but for
columns that are multiplied by rows: those of one node are transposed before. Each sum is taken in order, so no bit
depends on the other nodes.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from ...base.jit import compiled, njit
from ...ops.pairs import COLUMNS, PAIRS
from .tile_code import PANEL_BYTES, ROWS, tile

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


@njit(**OPTIONS)
def multiply(x, x_at, x_row, x_inner, w, w_at, w_row, n_inner, y, y_at, y_row, n_rows, n_columns, add):  # type: ignore[no-untyped-def]
    """y = x w, or added to what y holds, as `tile` has them, in matrices of any size."""
    width = PANEL_BYTES // y.itemsize
    for i in range(0, n_rows, ROWS):
        for j in range(0, n_columns, width):
            rows, columns, x_i, y_ij = (
                min(ROWS, n_rows - i),
                min(width, n_columns - j),
                x_at + i * x_row,
                y_at + i * y_row + j,
            )
            tile(rows, x, x_i, x_row, x_inner, w, w_at + j, w_row, n_inner, y, y_ij, y_row, columns, add)


@njit(**OPTIONS)
def transpose(x, at, row, n_rows, width, factor, out, out_at):  # type: ignore[no-untyped-def]
    """out = factor xᵀ, with n_rows numbers in a row."""
    for i in range(n_rows):
        for j in range(width):
            out[out_at + j * n_rows + i] = factor * x[at + i * row + j]


@njit(**OPTIONS)
def end_of_run(numbers, at, number):  # type: ignore[no-untyped-def]
    """The end of a run of one number."""
    while at < numbers.size and numbers[at] == number:
        at += 1
    return at


@njit(**OPTIONS)
def copy_block(s, out, at, row, step, rows, keys):  # type: ignore[no-untyped-def]
    """A block to the places of its pairs."""
    for r in range(rows):
        for c in range(keys):
            out[at + r * row + c * step] = s[r * keys + c]


def for_signature(function: Any, dtype: np.dtype[Any], arguments: str) -> Any:
    """A function compiled for arrays of a dtype (x, and o that is written), row numbers, extents and a factor."""
    real = types.float32 if dtype == np.float32 else types.float64
    kinds = {
        "x": types.Array(real, 1, "C", readonly=True),
        "o": types.Array(real, 1, "C"),
        "n": types.Array(types.int64, 1, "C", readonly=True),
        "i": types.intp,
        "f": types.float64,
    }
    return compiled(function.py_func, types.void(*(kinds[kind] for kind in arguments)), **OPTIONS)


def flat(x: Any) -> Any:
    return np.ascontiguousarray(x).reshape(-1)


@functools.cache
def _product_of(dtype: np.dtype[Any]) -> Any:
    """The function for a dtype, of flat arrays and extents."""

    @njit(**OPTIONS)
    def pair_product(x, y, n_heads, d, of_rows, of_columns, made, out):  # type: ignore[no-untyped-def]
        if made == COLUMNS:
            out[:] = 0
        row = n_heads * d
        i = j = pair = 0
        while i < of_rows.size:
            i_end = end_of_run(of_rows, i, of_rows[i])
            while j < of_columns.size and of_columns[j] < of_rows[i]:
                j += 1
            j_end = end_of_run(of_columns, j, of_rows[i])
            n, m = i_end - i, j_end - j
            across = np.empty(d * m if made == PAIRS else 0, x.dtype)
            block = np.empty(n * m if made == PAIRS and n_heads > 1 else 0, x.dtype)
            for h in range(n_heads):
                at, at_i, at_j = pair * n_heads + h, i * row + h * d, j * row + h * d
                if made == COLUMNS:
                    multiply(y, at, n_heads, m * n_heads, x, at_i, row, n, out, at_j, row, m, d, 0)
                elif made != PAIRS:
                    multiply(y, at, m * n_heads, n_heads, x, at_j, row, m, out, at_i, row, n, d, 0)
                else:
                    transpose(y, at_j, row, m, d, x.dtype.type(1), across, 0)
                    if n_heads == 1:
                        multiply(x, at_i, row, 1, across, 0, m, d, out, pair, m, n, m, 0)
                    else:
                        multiply(x, at_i, row, 1, across, 0, m, d, block, 0, m, n, m, 0)
                        copy_block(block, out, at, m * n_heads, n_heads, n, m)
            pair += n * m
            i, j = i_end, j_end

    return for_signature(pair_product, dtype, "xxiinnio")


def pair_product(x: Any, y: Any, of_rows: Any, of_columns: Any, starts: Any, counts: Any, made: int, out: Any) -> None:
    """`ops.pairs.PAIR_PRODUCT`, written to the last argument."""
    _product_of(x.dtype)(*map(flat, (x, y)), *x.shape[1:], of_rows, of_columns, made, out.reshape(-1))
