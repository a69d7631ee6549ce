"""tiles: matmuls of the library's own, without a BLAS.

    multiply(x, w, y)                 y = x w, w row-major
    multiply_panels(x, panels(v), y)  y = x vᵀ
    multiply_many(x, w, y)            y[b] = x[b] w[b]
    multiply_stacked(terms, y)        y[b] = Σ x[b] w[b] over the terms (x, w)
    multiply_columns(pool, …, w, y)   y[b] = x[b] w[b] for vectors w[b]
    multiply_summed(x, …, v, …, y)    y = Σ_b x[b] v[b]ᵀ

The last three read matrices in a pool, where each is some rows, and the first of them leaves its results there.

A tile is at most `ROWS` rows of x by `PANEL_BYTES` of columns of w. Its sums stay in registers while the inner
index runs; every sum adds its terms one after the other, in the order of the inner index, whatever the tile's size, the
alignment of the arrays or the number of threads, so that a row of a product has the same bits among few rows and among
many. Blocks of rows and of the inner index are chosen so that what is read again stays in the second-level cache.

Weights are stored as (outputs, inputs), while a tile reads them row-major as (inputs, outputs): the forward pass of a
linear map reads `panels` of its weights; gradients of rows and of weights read their operands where they are. Compiled
functions have more than 8 arguments: places and extents are passed as numbers, since a view costs more than a small
tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from ...base.jit import compiled, njit
from .parts import ALONE, parts_done, share_parts, take_part
from .threads import is_help_likely
from .tile_code import PANEL_BYTES, ROWS, VECTOR_BYTES, VECTORS, prefetch, tile, transpose_block

LINE = 64
"""Bytes of a cache line."""

N_INNER, N_ROWS = (512, 240) if VECTOR_BYTES == 64 else (256, 120)
"""Rows and inner index of a block: 480 KB of x in float32 with the widest vectors, 120 KB elsewhere."""


NONE = np.int64(0)
"""Nothing, for compiled functions: for a plain 0 Numba would compile what is called once more."""

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


@njit(**_OPTIONS)
def _block(x, w, panel, width, y, i0, i1, first, last, add, soon, end, also, also_end):  # type: ignore[no-untyped-def]
    """Rows i0 to i1, at most N_ROWS, of panels `first` to `last`; with `add` the sums start from what y holds.

    What is at addresses `soon` to `end`, and `also` to its end, is read next: it is prefetched meanwhile, a share by
    each tile, since prefetching all of it at once would stall the tiles.
    """
    k = x.shape[1]
    n = y.shape[1]
    size = x.itemsize
    x_row, x_inner = x.strides[0] // size, x.strides[1] // size
    w_row, y_row = w.strides[0] // size, y.strides[0] // size
    if k == 0 and add == 0:
        y[i0:i1, first * width : last * width] = 0
    n_tiles = max(1, (last - first) * ((i1 - i0 + ROWS - 1) // ROWS) * ((k + N_INNER - 1) // N_INNER))
    share, also_share = (end - soon + n_tiles - 1) // n_tiles, (also_end - also + n_tiles - 1) // n_tiles
    for k0 in range(0, k, N_INNER):
        n_inner = min(N_INNER, k - k0)
        for p in range(first, last):
            w_at = p * panel + k0 * w_row
            columns = min(width, n - p * width)
            for i in range(i0, i1, ROWS):
                for address in range(soon, min(soon + share, end), LINE):
                    prefetch(address)
                for address in range(also, min(also + also_share, also_end), LINE):
                    prefetch(address)
                soon += share
                also += also_share
                n_rows, x_at, y_at = min(ROWS, i1 - i), i * x_row + k0 * x_inner, i * y_row + p * width
                tile(n_rows, x, x_at, x_row, x_inner, w, w_at, w_row, n_inner, y, y_at, y_row, columns, k0 + add)


def _multiply(x, w, panel, width, y, parts):  # type: ignore[no-untyped-def]
    """Parts are so many panels, counted through all blocks of rows."""
    m, n = y.shape
    n_panels = (n + width - 1) // width
    n_all = (m + N_ROWS - 1) // N_ROWS * n_panels
    n_done = 0
    first, last = take_part(parts, 0, n_all)
    while first < last:
        while first < last:
            i0, p = first // n_panels * N_ROWS, first % n_panels
            p_end = min(n_panels, p + last - first)
            _block(x, w, panel, width, y, i0, min(m, i0 + N_ROWS), p, p_end, NONE, NONE, NONE, NONE, NONE)
            first += p_end - p
        n_done += 1
        first, last = take_part(parts, n_all, n_all)
    return parts_done(parts, n_done)


def _multiply_many(x, w, width, y, parts):  # type: ignore[no-untyped-def]
    """Parts are so many matmuls."""
    n_panels = (y.shape[2] + width - 1) // width
    n_done = 0
    first, last = take_part(parts, 0, y.shape[0])
    while first < last:
        for b in range(first, last):
            for i0 in range(0, y.shape[1], N_ROWS):
                i1 = min(y.shape[1], i0 + N_ROWS)
                _block(x[b], w[b], width, width, y[b], i0, i1, NONE, n_panels, NONE, NONE, NONE, NONE, NONE)
        n_done += 1
        first, last = take_part(parts, y.shape[0], y.shape[0])
    return parts_done(parts, n_done)


def _pack(v, lanes, out):  # type: ignore[no-untyped-def]
    n, k = v.shape
    width = out.shape[1]
    v_row = v.strides[0] // v.itemsize
    for p in range(out.shape[0] // max(k, 1)):
        for j0 in range(0, width, lanes):
            first = p * width + j0
            n_blocks = k // lanes if first + lanes <= n else 0
            for b in range(n_blocks):
                transpose_block(v, first * v_row + b * lanes, v_row, out, (p * k + b * lanes) * width + j0, width)
            for j in range(j0, j0 + lanes):
                for kk in range(n_blocks * lanes, k):
                    out[p * k + kk, j] = v[p * width + j, kk] if p * width + j < n else 0


_pack_one = njit(**_OPTIONS)(_pack)


@njit(**_OPTIONS)
def _matrix(x, rows, n, b):  # type: ignore[no-untyped-def]
    """Matrix b of a stack, of one matrix for all, or of a pool in which each is n rows: a copy if these lie apart."""
    if rows.size == 0:
        return x[b if x.shape[0] > 1 else 0]
    first = rows[b * n]
    if _is_run(rows, b * n, n):
        return x[0, first : first + n]
    copy = np.empty((n, x.shape[2]), x.dtype)
    for k in range(n):
        copy[k] = x[0, rows[b * n + k]]
    return copy


@njit(**_OPTIONS)
def _place(x, rows, n, b, n_nodes):  # type: ignore[no-untyped-def]
    """Addresses where matrix b of a pool begins and ends; empty if there is none, or no pool.

    Matrices can be anywhere in a pool, so the hardware does not prefetch the next one.
    """
    if rows.size == 0 or b >= n_nodes:
        return 0, 0
    first = x.ctypes.data + rows[b * n] * x.strides[1]
    return first, first + n * x.strides[1]


@njit(**_OPTIONS)
def _is_run(rows, at, n):  # type: ignore[no-untyped-def]
    """Whether n row numbers follow one another."""
    gaps = 0
    for k in range(n):
        gaps |= rows[at + k] - rows[at] - k
    return gaps == 0


def _multiply_stacked(  # type: ignore[no-untyped-def]
    x, x_rows, x_trans, w, w_rows, u, u_rows, u_trans, v, v_rows, n_nodes, width, y, y_rows, n, add, parts
):
    """y[b] = x[b] w[b] + u[b] v[b], without the second product where v is empty; parts are so many nodes."""
    n_x, n_w = x_rows.size // n_nodes, w_rows.size // n_nodes
    n_u, n_v = u_rows.size // n_nodes, v_rows.size // n_nodes
    n_terms = 2 if v.size > 0 else 1
    n_panels = (y.shape[2] + width - 1) // width
    n_done = 0
    first, last = take_part(parts, 0, n_nodes)
    while first < last:
        for b in range(first, last):
            apart = y_rows.size > 0 and not _is_run(y_rows, b * n, n)
            if apart:
                yb = np.empty((n, y.shape[2]), y.dtype)
            elif y_rows.size > 0:
                yb = y[0, y_rows[b * n] : y_rows[b * n] + n]
            else:
                yb = y[b]
            for k in range(n_terms):  # one call of `_block`, which is long once it is compiled
                if k == 0:
                    left, right, is_trans = _matrix(x, x_rows, n_x, b), _matrix(w, w_rows, n_w, b), x_trans
                else:
                    left, right, is_trans = _matrix(u, u_rows, n_u, b), _matrix(v, v_rows, n_v, b), u_trans
                if is_trans:
                    left = left.T
                again = 1 if k > 0 or (add and not apart) else 0
                if k + 1 < n_terms:
                    soon, end = _place(v, v_rows, n_v, b, last)
                else:
                    soon, end = _place(w, w_rows, n_w, b + 1, last)
                for i0 in range(0, yb.shape[0], N_ROWS):
                    i1 = min(yb.shape[0], i0 + N_ROWS)
                    _block(left, right, width, width, yb, i0, i1, NONE, n_panels, again, soon, end, NONE, NONE)
                    end = soon
            if apart:
                for k in range(n):
                    row = y[0, y_rows[b * n + k]]
                    for j in range(row.size):
                        row[j] = row[j] + yb[k, j] if add else yb[k, j]
        n_done += 1
        first, last = take_part(parts, n_nodes, n_nodes)
    return parts_done(parts, n_done)


def _multiply_columns(pool, rows, n, is_trans, w, y, add, parts):  # type: ignore[no-untyped-def]
    """y[b] = x[b] w[b] for vectors w[b], where x[b], or its transpose, is n rows of a pool; parts are so many nodes."""
    n_done = 0
    first, last = take_part(parts, 0, y.shape[0])
    while first < last:
        for b in range(first, last):
            yb = y[b]
            if not add:
                yb[:] = 0
            for k in range(n):
                row = pool[rows[b * n + k]]
                if is_trans:
                    factor = w[b, k]
                    for j in range(row.size):
                        yb[j] += row[j] * factor
                else:
                    wb = w[b]
                    total = pool.dtype.type(0)
                    for j in range(row.size):
                        total += row[j] * wb[j]
                    yb[k] += total
        n_done += 1
        first, last = take_part(parts, y.shape[0], y.shape[0])
    return parts_done(parts, n_done)


@njit(**_OPTIONS)
def _sum(x, x_rows, v, v_rows, u, u_rows, n_nodes, width, lanes, y, i0, i1, j0, j1):  # type: ignore[no-untyped-def]
    """Rows i0 to i1, at most N_ROWS, of columns j0 to j1: each v[b] and u[b] is packed, and read from the cache."""
    m, inner = y.shape[0], x.shape[2]
    n_v = v_rows.size // n_nodes if v_rows.size else v.shape[1]
    n_u = y.shape[1] - n_v
    packed = np.empty(((j1 - j0 + width - 1) // width * inner, width), y.dtype)
    for b in range(n_nodes):
        xb = _matrix(x, x_rows, m, b)
        also, also_end = _place(x, x_rows, m, b + 1, n_nodes)
        for k in range(2):  # one call of `_block`, which is long once it is compiled
            begin, end = (j0, min(j1, n_v)) if k == 0 else (max(j0, n_v), j1)
            if begin >= end:
                continue
            if k == 0:
                part = _matrix(v, v_rows, n_v, b)[begin:end]
                soon, soon_end = _place(u, u_rows, n_u, b, n_nodes)
            else:
                part = _matrix(u, u_rows, n_u, b)[begin - n_v : end - n_v]
                soon, soon_end = _place(v, v_rows, n_v, b + 1, n_nodes)
            _pack_one(part, lanes, packed)
            n_panels = (end - begin + width - 1) // width
            yk = y[:, begin:end]
            _block(xb, packed, width * inner, width, yk, i0, i1, 0, n_panels, b, soon, soon_end, also, also_end)
            also = also_end


def _multiply_summed(  # type: ignore[no-untyped-def]
    x, x_rows, v, v_rows, u, u_rows, n_nodes, width, lanes, y, parts
):
    """y = Σ_b x[b] v[b]ᵀ beside Σ_b x[b] u[b]ᵀ; parts are so many panels, counted through all blocks of rows."""
    m, n = y.shape
    n_panels = (n + width - 1) // width
    n_all = (m + N_ROWS - 1) // N_ROWS * n_panels
    n_done = 0
    first, last = take_part(parts, 0, n_all)
    while first < last:
        while first < last:
            i0, p = first // n_panels * N_ROWS, first % n_panels
            p_end = min(n_panels, p + last - first)
            i1, j1 = min(m, i0 + N_ROWS), min(n, p_end * width)
            _sum(x, x_rows, v, v_rows, u, u_rows, n_nodes, width, lanes, y, i0, i1, p * width, j1)
            first += p_end - p
        n_done += 1
        first, last = take_part(parts, n_all, n_all)
    return parts_done(parts, n_done)


class _Compiled(dict[Any, Any]):
    """A function compiled for a dtype when first asked for: once, whatever the strides, and for read-only operands."""

    def __init__(self, function: Any, arguments: str, result: Any = types.void, **options: Any) -> None:
        super().__init__()
        self.function, self.arguments, self.result = function, arguments, result
        self.options = _OPTIONS | options

    def is_kept(self, dtype: np.dtype[Any]) -> bool:
        """Whether it was compiled for a dtype before, by this process or by another."""
        return dtype in self or njit(self.function, **self.options).is_kept(self._signature(dtype))

    def __missing__(self, dtype: np.dtype[Any]) -> Any:
        found = self[dtype] = compiled(self.function, self._signature(dtype), **self.options)
        return found

    def types(self, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """The types of the arguments."""
        found: tuple[Any, ...] = self._signature(dtype).args
        return found

    def _signature(self, dtype: np.dtype[Any]) -> Any:
        real = types.float32 if dtype == np.float32 else types.float64
        kinds: dict[str, Any] = {"n": types.intp, "r": types.Array(types.int32, 1, "C", readonly=True)}
        kinds["2c"], kinds["2cw"] = types.Array(real, 2, "C", readonly=True), types.Array(real, 2, "C")
        for ndim in (2, 3):
            kinds[f"{ndim}"] = types.Array(real, ndim, "A", readonly=True)
            kinds[f"{ndim}w"] = types.Array(real, ndim, "A")
        return self.result(*(kinds[name] for name in self.arguments.split()))


_products = _Compiled(_multiply, "2 2 n n 2w n", types.intp)
_stacked_products = _Compiled(_multiply_many, "3 3 n 3w n", types.intp)
_sums_of_products = _Compiled(_multiply_stacked, "3 r n 3 r 3 r n 3 r n n 3w r n n n", types.intp)
_columns = _Compiled(_multiply_columns, "2c r n n 2c 2cw n n", types.intp, fastmath={"reassoc", "contract"})
_summed_products = _Compiled(_multiply_summed, "3 r 3 r 3 r n n n 2w n", types.intp)
_packers = _Compiled(_pack, "2 n 2w")

COMPILED = {"products": _products, "packing": _packers}
"""What most programs call, by name: it can be compiled before it is called."""


SHARED = 1 << 23
"""Multiplications from which a product is shared among threads: 60 µs with the widest vectors."""

PART = 1 << 21
"""Multiplications of a part that is made of whole products, about."""


def _run(function: Any, arguments: tuple[Any, ...], n: int, size: int, n_multiplications: int) -> None:
    """Call it, on several threads in parts of `size` if there is enough to do."""
    if n_multiplications >= SHARED and is_help_likely(-(-n // size)):
        share_parts(function, arguments, n, size)
    else:
        function(*arguments, ALONE)


def product_of(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """What multiplies one matrix by another, compiled, and the types of its arguments: `_multiply`."""
    return _products[dtype], _products.types(dtype)


def _multiply_blocks(x: Any, w: Any, panel: int, width: int, y: Any) -> None:
    m, n = y.shape
    n_parts = -(-m // N_ROWS) * -(-n // width)
    _run(_products[y.dtype], (x, w, panel, width, y), n_parts, 1, m * n * x.shape[1])


def multiply(x: Any, w: Any, y: Any) -> None:
    """y = x w for matrices of one floating dtype; w and y are row-major."""
    width = PANEL_BYTES // y.itemsize
    _multiply_blocks(x, w, width, width, y)


def multiply_panels(x: Any, packed: Any, y: Any) -> None:
    """y = x vᵀ for `packed = panels(v)`."""
    width = packed.shape[1]
    _multiply_blocks(x, packed, width * x.shape[1], width, y)


def multiply_many(x: Any, w: Any, y: Any) -> None:
    """y[b] = x[b] w[b]; each w[b] and y[b] is row-major."""
    width = PANEL_BYTES // y.itemsize
    of_each = y.shape[1] * y.shape[2] * x.shape[2]
    size = max(1, PART // max(1, of_each))
    _run(_stacked_products[y.dtype], (x, w, width, y), y.shape[0], size, y.shape[0] * of_each)


NO_ROWS = np.empty(0, np.int32)
"""In place of row numbers where matrices are no rows of a pool."""

Stack = tuple[Any, Any, bool]
"""Matrices (b, m, k), or (1, m, k) for all; or a pool (1, rows, k) and row numbers; and whether each is transposed."""


def multiply_stacked(
    terms: list[tuple[Stack, Stack]], y: Any, rows: Any = NO_ROWS, n: int = 0, add: bool = False
) -> None:
    """y[b] = Σ x[b] w[b] over the terms (x, w); with `rows` each is n rows of a pool y, stored there or added."""
    n_nodes = len(rows) // n if n else y.shape[0]
    width = PANEL_BYTES // y.itemsize
    for k in range(0, len(terms), 2):
        (x, x_rows, x_trans), w = terms[k][0], _columns_together(terms[k][1])
        u, u_rows, u_trans, v = x[:0], NO_ROWS, False, (x[:0], NO_ROWS)
        inner = len(w[1]) // max(1, n_nodes) if w[1].size else w[0].shape[1]
        of_each = (n or y.shape[1]) * y.shape[2] * inner
        if k + 1 < len(terms):
            (u, u_rows, u_trans), v = terms[k + 1][0], _columns_together(terms[k + 1][1])
        again = add or k > 0
        arguments = (
            x, x_rows, int(x_trans), *w, u, u_rows, int(u_trans), *v, n_nodes, width, y, rows, n, int(again)
        )  # fmt: skip
        size = max(1, PART // max(1, of_each))
        if n_nodes:  # rows that are added to may repeat
            _run(_sums_of_products[y.dtype], arguments, n_nodes, size, 0 if add and n else n_nodes * of_each)


def _columns_together(w: Stack) -> tuple[Any, Any]:
    """The right operand of a matmul, each matrix row-major."""
    matrices, rows, _ = w
    return (matrices if matrices.strides[2] == matrices.itemsize else np.ascontiguousarray(matrices)), rows


def multiply_columns(pool: Any, rows: Any, n: int, is_trans: bool, w: Any, y: Any, add: bool = False) -> None:
    """y[b] = x[b] w[b] for w (b, k, 1), where x[b], or its transpose, is n rows of a pool, all in order."""
    vectors = np.ascontiguousarray(w).reshape(w.shape[:2])
    arguments = (pool, rows, n, int(is_trans), vectors, y.reshape(y.shape[:2]), int(add))
    of_each = n * pool.shape[1]
    size = max(1, PART // max(1, 16 * of_each))  # reads each number once: as long as 16 multiplications elsewhere
    _run(_columns[y.dtype], arguments, y.shape[0], size, 16 * y.shape[0] * of_each)


def multiply_summed(x: Stack, parts: list[Stack], y: Any) -> None:
    """y = Σ_b x[b] v[b]ᵀ for each part v, concatenated; each v[b] is row-major."""
    of_x, x_rows, _ = x
    m = y.shape[0]
    n_nodes = len(x_rows) // m if x_rows.size else of_x.shape[0]
    n_inner = n_nodes * of_x.shape[2]
    if n_inner == 0:
        y[...] = 0
        return
    width, start = PANEL_BYTES // y.itemsize, 0
    for k in range(0, len(parts), 2):
        two = [*parts[k : k + 2], (of_x[:0], NO_ROWS, False)]
        n = sum(len(rows) // n_nodes if rows.size else v.shape[1] for v, rows, _ in parts[k : k + 2])
        target = y[:, start : start + n]
        arguments = (of_x, x_rows, *two[0][:2], *two[1][:2], n_nodes, width, width // VECTORS, target)
        _run(_summed_products[y.dtype], arguments, -(-m // N_ROWS) * -(-n // width), 1, m * n * n_inner)
        start += n


def panels(v: Any) -> Any:
    """Matrix v (n, k), row-major, transposed: f[panels · k, width], zeros beyond n.

    >>> float(panels(np.ones((2, 3), np.float32)).sum())
    6.0
    """
    out = np.empty(panels_shape(v.shape[0], v.shape[1], v.itemsize), v.dtype)
    _packers[v.dtype](v, out.shape[1] // VECTORS, out)
    return out


def panels_shape(n: int, k: int, itemsize: int) -> tuple[int, int]:
    """The shape of the panels of a matrix (n, k) of such numbers."""
    width = PANEL_BYTES // itemsize
    return -(-n // width) * k, width
