"""Attention between queries and keys of many nodes, compiled: the two primitives of `ops.attention` on host arrays.

    attention(q, k, v, bias…, numbers of nodes…, attributes…, out)
    attention_sum(q, k, lse, …, out)

Per node and head, keys are transposed once; then a block of queries at a time, as many as make some ten thousand pairs,
has its scores by tiles, the exponentials in one loop over all of them, and the sums by tiles that read values, and
write results, where they lie. Every query adds up its keys in order, so no bit depends on the other nodes.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...base.jit import njit
from ...ops.attention import KEYS, PAIRS, QUERIES, parsed
from . import scalar_functions
from .pairs import OPTIONS, copy_block, end_of_run, flat, for_signature, multiply, transpose
from .tile_code import ROWS

N_PAIRS = 1 << 14
"""Pairs of a block, about: their scores stay in the second-level cache."""


@njit(**OPTIONS)
def _start(s, rows, keys, n_all, lse, lse_at, lse_row, bias, bias_at, bias_heads, head, causal, first):  # type: ignore[no-untyped-def]
    """What is added to the products of a block: -lse, the bias, and -inf where a query does not attend to a key."""
    for r in range(rows):
        start = -lse[lse_at + r * lse_row] if lse.size > 0 else s.dtype.type(0)
        for c in range(r * keys, (r + 1) * keys):
            s[c] = start
    if bias.size > 0:
        offset = bias_at * bias_heads + (head if bias_heads > 1 else 0)
        for r in range(rows):
            for c in range(keys):
                s[r * keys + c] += bias[offset + (r * n_all + c) * bias_heads]
    if causal:
        for r in range(rows):
            for c in range(r * keys + first + r + 1, (r + 1) * keys):
                s[c] = -np.inf


@njit(**OPTIONS)
def _factors(x, x_at, x_row, n_x, y, m, n_y, w, rows, keys):  # type: ignore[no-untyped-def]
    """The products of a block of queries and of keys; what a query has more than a key is added to its products."""
    for r in range(rows if n_x > n_y else 0):
        start = x[x_at + r * x_row + n_y]
        for c in range(r * keys, (r + 1) * keys):
            w[c] = start
    multiply(x, x_at, x_row, 1, y, 0, m, n_y, w, 0, keys, rows, keys, 1 if n_x > n_y else 0)


@njit(**OPTIONS)
def _times_given(s, given, at, row, step, rows, keys):  # type: ignore[no-untyped-def]
    """A block times numbers of pairs."""
    for r in range(rows):
        for c in range(keys):
            s[r * keys + c] *= given[at + r * row + c * step]


@functools.cache
def _functions_of_rows(bits: str) -> tuple[Any, Any, Any]:
    """Of floating numbers of so many bits: all exponentials, the largest number of a row, and its sum."""
    exp_one, ordered, unordered, lowest = (
        getattr(scalar_functions, f"{name}_f{bits}") for name in ("exp", "ordered", "unordered", "LOWEST")
    )

    @njit(fastmath=scalar_functions.STRICT, **OPTIONS)
    def exponentials(s, n):  # type: ignore[no-untyped-def]
        for c in range(n):
            s[c] = exp_one(s[c])

    @njit(**OPTIONS)
    def largest(s, first, last):  # type: ignore[no-untyped-def]
        top = lowest
        for c in range(first, last):
            top = max(top, ordered(s[c]))
        return unordered(top)

    @njit(fastmath=scalar_functions.LOOSE, **OPTIONS)
    def total_of(s, first, last):  # type: ignore[no-untyped-def]
        total = s.dtype.type(0)
        for c in range(first, last):
            total += s[c]
        return total

    return exponentials, largest, total_of


@functools.cache
def _attention_of(dtype: np.dtype[Any]) -> Any:
    """The function for a dtype, which has many arguments since they are flat arrays and extents."""
    exponentials, largest, total_of = _functions_of_rows(str(8 * dtype.itemsize))

    @njit(**OPTIONS)
    def attention(  # type: ignore[no-untyped-def]
        q, k, v, bias, bias_heads, n_heads, d, e, of_queries, of_keys, causal, scale, out
    ):
        q_row, v_row, out_row = n_heads * d, n_heads * e, n_heads * (e + 1)
        i = j = pair = 0
        while i < of_queries.size:
            i_end = end_of_run(of_queries, i, of_queries[i])
            while j < of_keys.size and of_keys[j] < of_queries[i]:
                j += 1
            j_end = end_of_run(of_keys, j, of_queries[i])
            n, m = i_end - i, j_end - j
            block = min(n, max(ROWS, N_PAIRS // max(m, 1)))
            s, across = np.empty(block * m, q.dtype), np.empty(d * m, q.dtype)
            for h in range(n_heads):
                transpose(k, j * q_row + h * d, q_row, m, d, q.dtype.type(scale), across, 0)
                for first in range(0, n, block):
                    rows = min(block, n - first)
                    keys = min(m, first + rows) if causal else m
                    _start(s, rows, keys, m, q[:0], 0, 0, bias, pair + first * m, bias_heads, h, causal, first)
                    multiply(q, (i + first) * q_row + h * d, q_row, 1, across, 0, m, d, s, 0, keys, rows, keys, 1)
                    to = (i + first) * out_row + h * (e + 1)
                    for r in range(rows):
                        top = largest(s, r * keys, (r + 1) * keys)
                        if top == -np.inf:
                            top = q.dtype.type(0)
                        out[to + r * out_row + e] = top
                        for c in range(r * keys, (r + 1) * keys):
                            s[c] -= top
                    exponentials(s, rows * keys)
                    multiply(s, 0, keys, 1, v, j * v_row + h * e, v_row, keys, out, to, out_row, rows, e, 0)
                    for r in range(rows):
                        total, end = total_of(s, r * keys, (r + 1) * keys), to + r * out_row + e
                        factor = q.dtype.type(1 / total if total != 0 else 0)
                        for c in range(end - e, end):
                            out[c] *= factor
                        out[end] = out[end] + np.log(total) if total != 0 else np.inf
            pair += n * m
            i, j = i_end, j_end

    return for_signature(attention, dtype, "xxxxiiiinnifo")


@functools.cache
def _sum_of(dtype: np.dtype[Any]) -> Any:
    """The function for a dtype, which has many arguments since they are flat arrays and extents."""
    exponentials, _, total_of = _functions_of_rows(str(8 * dtype.itemsize))

    @njit(**OPTIONS)
    def attention_sum(  # type: ignore[no-untyped-def]
        q, k, lse, bias, bias_heads, x, x_at, y, y_at, given, z, n_heads, d, e, of_queries, of_keys, causal, scale,
        side, is_total, out,
    ):  # fmt: skip
        n_products = x_at.size - 1
        n_x, n_y, q_row, width = x_at[n_products], y_at[n_products], n_heads * d, e + is_total
        x_row, y_row, z_row, out_row = n_heads * n_x, n_heads * n_y, n_heads * e, n_heads * width
        if side != QUERIES:
            out[:] = 0
        i = j = pair = 0
        while i < of_queries.size:
            i_end = end_of_run(of_queries, i, of_queries[i])
            while j < of_keys.size and of_keys[j] < of_queries[i]:
                j += 1
            j_end = end_of_run(of_keys, j, of_queries[i])
            n, m = i_end - i, j_end - j
            block = min(n, max(ROWS, N_PAIRS // max(m, 1)))
            s, w, across = np.empty(block * m, q.dtype), np.empty(block * m, q.dtype), np.empty(d * m, q.dtype)
            y_across = np.empty(n_y * m, q.dtype)
            for h in range(n_heads):
                transpose(k, j * q_row + h * d, q_row, m, d, q.dtype.type(scale), across, 0)
                transpose(y, j * y_row + h * n_y, y_row, m, n_y, q.dtype.type(1), y_across, 0)
                for first in range(0, n, block):
                    start, rows = i + first, min(block, n - first)
                    keys = min(m, first + rows) if causal else m
                    at_pairs = (pair + first * m) * n_heads + h
                    at, place = start * n_heads + h, pair + first * m
                    _start(s, rows, keys, m, lse, at, n_heads, bias, place, bias_heads, h, causal, first)
                    multiply(q, start * q_row + h * d, q_row, 1, across, 0, m, d, s, 0, keys, rows, keys, 1)
                    exponentials(s, rows * keys)
                    for p in range(n_products):
                        at, of_x, of_y = start * x_row + h * n_x + x_at[p], x_at[p + 1] - x_at[p], y_at[p + 1] - y_at[p]
                        _factors(x, at, x_row, of_x, y_across[y_at[p] * m :], m, of_y, w, rows, keys)
                        for c in range(rows * keys):
                            s[c] *= w[c]
                    if given.size > 0:
                        _times_given(s, given, at_pairs, m * n_heads, n_heads, rows, keys)
                    if side == PAIRS:
                        copy_block(s, out, at_pairs, m * n_heads, n_heads, rows, keys)
                    elif side == KEYS:
                        at, to = start * z_row + h * e, j * z_row + h * e
                        multiply(s, 0, 1, keys, z, at, z_row, rows, out, to, z_row, keys, e, 1)
                    else:
                        at, to = j * z_row + h * e, start * out_row + h * width
                        multiply(s, 0, keys, 1, z, at, z_row, keys, out, to, out_row, rows, e, 0)
                        for r in range(rows if is_total else 0):
                            out[to + r * out_row + e] = total_of(s, r * keys, (r + 1) * keys)
            pair += n * m
            i, j = i_end, j_end

    return for_signature(attention_sum, dtype, "xxxxixnxnxxiiinnifiio")


def attention(*args: Any) -> None:
    """`ops.attention.ATTENTION`, written to the last argument."""
    *operands, _, causal, scale, biased, out = args
    q, k, v, *rest = operands
    bias = rest[0] if biased else q[:0]
    heads, of_queries, of_keys = q.shape[1], rest[biased], rest[biased + 1]
    _attention_of(q.dtype)(
        *map(flat, (q, k, v, bias)), bias.shape[-1], heads, q.shape[2], v.shape[2], of_queries, of_keys,
        causal, scale, out.reshape(-1),
    )  # fmt: skip


def attention_sum(*args: Any) -> None:
    """`ops.attention.ATTENTION_SUM`, written to the last argument."""
    s, out = parsed(args[:-9], args[-9:-1]), args[-1]
    _, causal, scale, _ = s.first
    heads, nothing = s.q.shape[1], s.q[:0]
    bias = s.bias[0] if s.bias else nothing
    joined = []
    for side, rows in enumerate((s.q, s.k)):
        parts = [pair[side] for pair in s.products]
        whole = parts[0] if len(parts) == 1 else np.concatenate([rows[..., :0], *parts], axis=-1)
        joined += [flat(whole), np.cumsum([0, *(x.shape[-1] for x in parts)])]
    given = (
        functools.reduce(np.multiply, [np.broadcast_to(w, (len(w), heads)) for w in s.given]) if s.given else nothing
    )
    z = s.z[0] if s.z else nothing
    _sum_of(s.q.dtype)(
        *map(flat, (s.q, s.k, s.lse, bias)), bias.shape[-1], *joined, flat(given), flat(z), heads, s.q.shape[2],
        z.shape[-1], *s.nodes[:2], causal, scale, s.side, s.total, out.reshape(-1),
    )  # fmt: skip
