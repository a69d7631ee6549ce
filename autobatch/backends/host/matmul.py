"""Which library multiplies matrices, and the verbs that compiled programs call.

    own     tiles compiled for this machine (`tiles`), the default
    numpy   `np.matmul`, with the BLAS that NumPy brings
    mkl     Intel's library, from the optional package `mkl` (`mkl`)

It is chosen when autobatch is imported, by AUTOBATCH_PRODUCTS, or by `set_products`; which code runs for a matmul then
depends on dtype, shapes and strides alone, never on a measurement.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import llvmlite.binding
import numpy as np

from ...base.errors import BackendError, message
from ...base.types import Array
from . import mkl, tile_code, tiles
from .packed_weights import kept
from .verbs import add_rows, gather, store_rows

Operand = Any
"""One matrix for all, or a matrix for each node: an array of them, or (pool, rows, n, is transposed) where each is n
rows of a pool, or the transpose of that."""

Terms = Sequence[tuple[Operand, Operand]]
RowsOf = tuple[Array, Array, int]


class Library:
    """Matmuls of operands of one floating dtype into an array whose last axis is contiguous; by `np.matmul`."""

    def describe(self) -> str:
        """The library, and what of it runs here."""
        return f"NumPy, {np.show_config(mode='dicts')['Build Dependencies']['blas']['name']}"

    def gemm(self, x: Array, w: Array, y: Array) -> None:
        """y = x w."""
        np.matmul(x, w, y)

    def gemm_transposed(self, x: Array, v: Array, y: Array, keep: bool) -> None:
        """y = x vᵀ; `keep` says that v is a shared operand, which further matmuls will read."""
        np.matmul(x, v.T, y)

    def gemm_batched(self, x: Array, w: Array, y: Array) -> None:
        """y[b] = x[b] w[b]."""
        np.matmul(x, w, y)

    def gemm_batched_sum(self, terms: Terms, y: Array) -> None:
        """y[b] = Σ x[b] w[b] over the terms (x, w); here of copies of the operands."""
        for number, (x, w) in enumerate(terms):
            left, right = _gathered(x), _gathered(w)
            if left.ndim == 2:
                left = np.broadcast_to(left, (len(y), *left.shape))
            if number == 0:
                self.gemm_batched(left, right, y)
            else:
                term = np.empty_like(y)
                self.gemm_batched(left, right, term)
                y += term

    def gemm_batched_sum_to_rows(self, terms: Terms, target: RowsOf, n: int, add: bool) -> None:
        """The same, each matrix added to n rows of a pool, or stored there; here of an array that is added."""
        pool, rows, _ = target
        y = np.empty((len(rows) // n, n, pool.shape[1]), pool.dtype)
        self.gemm_batched_sum(terms, y)
        (add_rows if add else store_rows)(target, y)

    def gemm_batch_reduce(self, x: Operand, parts: Sequence[Operand], y: Array) -> None:
        """y = Σ_b x[b] v[b]ᵀ for each part v, concatenated; here of copies in which the sum is the inner index."""
        left = _gathered(x).transpose(1, 0, 2).reshape(y.shape[0], -1)
        start = 0
        for part in parts:
            v = _gathered(part)
            right = v.transpose(0, 2, 1).reshape(-1, v.shape[1])
            self.gemm(left, right, y[:, start : start + v.shape[1]])
            start += v.shape[1]

    def gemm_segments(self, x: Array, w: Array, segments: Array, y: Array) -> None:
        """y[b] = Σ x[e]ᵀ w[e] over the elements e of node b; `segments` are the nodes of elements, ascending."""
        bounds = np.searchsorted(segments, np.arange(len(y) + 1)).tolist()
        for b, (start, end) in enumerate(itertools.pairwise(bounds)):
            if start == end:
                y[b] = 0
            else:
                left, right = x[start:end].reshape(-1, x.shape[2]), w[start:end].reshape(-1, w.shape[2])
                self.gemm(left.T, right, y[b])


def _gathered(x: Operand) -> Array:
    """An operand as an array."""
    if not isinstance(x, tuple):
        return x
    pool, rows, n, is_transposed = x
    stack = gather(pool, rows, -1).reshape(len(rows) // n, n, pool.shape[1])
    return stack.transpose(0, 2, 1) if is_transposed else stack


def _placed(x: Operand) -> tuple[Array, Array, bool]:
    """An operand as tiles take it: the matrices or a pool, row numbers if it is a pool, whether each is transposed."""
    if isinstance(x, tuple):
        pool, rows, n, is_transposed = x
        return (pool[None] if len(rows) else pool[:0].reshape(0, n, pool.shape[1])), rows, is_transposed
    return (x if x.ndim == 3 else x[None]), tiles.NO_ROWS, False


class Own(Library):
    """Tiles. A matmul with one column is a sum along rows, which tiles are slow at: NumPy does it."""

    def describe(self) -> str:
        return f"own tiles, {8 * tile_code.VECTOR_BYTES}-bit vectors, {llvmlite.binding.get_host_cpu_name()}"

    def gemm(self, x: Array, w: Array, y: Array) -> None:
        if y.shape[1] == 1:
            np.matmul(x, w, y)
        elif w.strides[1] == w.itemsize:
            tiles.multiply(x, w, y)
        elif w.strides[0] == w.itemsize:
            tiles.multiply_panels(x, tiles.panels(w.T), y)
        else:
            tiles.multiply(x, np.ascontiguousarray(w), y)

    def gemm_transposed(self, x: Array, v: Array, y: Array, keep: bool) -> None:
        if y.shape[1] == 1:
            np.matmul(x, v.T, y)
        elif v.strides[1] == v.itemsize:
            tiles.multiply_panels(x, kept(v) if keep else tiles.panels(v), y)
        else:
            self.gemm(x, v.T, y)

    def gemm_batched(self, x: Array, w: Array, y: Array) -> None:
        if y.shape[2] > 1 and w.strides[2] == w.itemsize:
            tiles.multiply_many(x, w, y)
        else:
            np.matmul(x, w, y)

    def gemm_batched_sum(self, terms: Terms, y: Array) -> None:
        if y.shape[2] != 1:
            tiles.multiply_stacked([(_placed(x), _placed(w)) for x, w in terms], y)
        elif all(isinstance(x, tuple) for x, _ in terms):
            for number, ((pool, rows, n, is_transposed), w) in enumerate(terms):
                tiles.multiply_columns(pool, rows, n, is_transposed, _gathered(w), y, add=number > 0)
        else:
            super().gemm_batched_sum(terms, y)

    def gemm_batched_sum_to_rows(self, terms: Terms, target: RowsOf, n: int, add: bool) -> None:
        pool, rows, _ = target
        tiles.multiply_stacked([(_placed(x), _placed(w)) for x, w in terms], pool[None], rows, n, add)

    def gemm_batch_reduce(self, x: Operand, parts: Sequence[Operand], y: Array) -> None:
        if all(isinstance(v, tuple) or v.strides[2] == v.itemsize for v in parts):
            tiles.multiply_summed(_placed(x), [_placed(v) for v in parts], y)
        else:
            super().gemm_batch_reduce(x, parts, y)


class Mkl(Library):
    """MKL; NumPy where it cannot read the layout of an operand."""

    def __init__(self) -> None:
        self.library = mkl.load()

    def describe(self) -> str:
        return f"MKL {self.library.version}, one thread, deterministic mode"

    def gemm(self, x: Array, w: Array, y: Array) -> None:
        self.gemm_batched(x[None], w[None], y[None])

    def gemm_transposed(self, x: Array, v: Array, y: Array, keep: bool) -> None:
        self.gemm_batched(x[None], v.T[None], y[None])

    def gemm_batched(self, x: Array, w: Array, y: Array) -> None:
        if not self.library.multiply_many(x, w, y):
            np.matmul(x, w, y)


LIBRARIES: dict[str, type[Library]] = {"own": Own, "numpy": Library, "mkl": Mkl}


def _made(name: str, asked_by: str = "set_products") -> Library:
    if name not in LIBRARIES:
        what, expected = f"{asked_by}: no library is called {name!r}", f"one of {', '.join(LIBRARIES)}"
        raise BackendError(message(what, expected=expected))
    return LIBRARIES[name]()


_chosen = [_made(os.environ.get("AUTOBATCH_PRODUCTS") or "own", "AUTOBATCH_PRODUCTS")]


def set_products(name: str) -> None:
    """Multiply matrices by "own" (default), "numpy" or "mkl" from now on, in all threads.

    "own" are loops compiled for the vectors of this machine, "numpy" is `np.matmul`, "mkl" Intel's library from the
    extra `autobatch-compiler[mkl]`. The environment variable AUTOBATCH_PRODUCTS chooses at start. Recordings that are
    pending run with the library chosen when they run. On the backend "numpy" products are always `np.matmul`.

    Raises `BackendError` for another name, `MissingExtraError` where MKL is not installed.

    >>> ab.set_products("own")
    """
    _chosen[0] = _made(name)


@contextlib.contextmanager
def products(name: str) -> Iterator[None]:
    """Multiply matrices by the library `name` inside the block, in all threads.

    Raises `BackendError` for a library that is unknown or missing.

    >>> with ab.products("numpy"):
    ...     ab.products_in_use()
    'NumPy, ...'
    """
    before = _chosen[0]
    _chosen[0] = _made(name)
    try:
        yield
    finally:
        _chosen[0] = before


def products_in_use() -> str:
    """The library that multiplies matrices, and what of it runs on this machine.

    >>> ab.products_in_use()
    'own tiles, ...'
    """
    return _chosen[0].describe()


def is_own() -> bool:
    """Whether our own tiles multiply."""
    return isinstance(_chosen[0], Own)


def library() -> Library:
    """The library in use: compiled programs call its verbs."""
    return _chosen[0]
