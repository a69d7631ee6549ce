"""Which library multiplies matrices, and the verbs by which compiled programs ask for it.

    own     tiles compiled for this machine (`tiles`), the default
    numpy   `np.matmul`, with the BLAS that NumPy brings
    mkl     Intel's library, from the optional package `mkl` (`mkl`)

It is chosen when autobatch is imported, by AUTOBATCH_PRODUCTS, or by `set_products`; which code runs for a product then
depends on dtype, shapes and strides alone, never on a measurement.
"""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import llvmlite.binding
import numpy as np

from ..errors import BackendError
from . import mkl, tiles
from .packed import kept

Array = np.ndarray[Any, Any]


class Library(ABC):
    """Products of operands of one floating dtype into an array whose last axis is contiguous."""

    @abstractmethod
    def describe(self) -> str:
        """The library, and what of it runs here."""

    @abstractmethod
    def product(self, x: Array, w: Array, y: Array) -> None:
        """y = x w."""

    @abstractmethod
    def product_transposed(self, x: Array, v: Array, y: Array, keep: bool) -> None:
        """y = x vᵀ; `keep` says that v is a shared operand, which further products will read."""

    @abstractmethod
    def product_many(self, x: Array, w: Array, y: Array) -> None:
        """y[b] = x[b] w[b]."""

    def product_summed(self, x: Array, v: Array, y: Array) -> None:
        """y = Σ_b x[b] v[b]ᵀ; here as one product of copies in which the sum is the inner index."""
        left = x.transpose(1, 0, 2).reshape(y.shape[0], -1)
        right = v.transpose(0, 2, 1).reshape(-1, y.shape[1])
        self.product(left, right, y)


class Numpy(Library):
    """`np.matmul`."""

    def describe(self) -> str:
        return f"NumPy, {np.show_config(mode='dicts')['Build Dependencies']['blas']['name']}"

    def product(self, x: Array, w: Array, y: Array) -> None:
        np.matmul(x, w, y)

    def product_transposed(self, x: Array, v: Array, y: Array, keep: bool) -> None:
        np.matmul(x, v.T, y)

    def product_many(self, x: Array, w: Array, y: Array) -> None:
        np.matmul(x, w, y)


class Own(Library):
    """Tiles. A product with one column is a sum along rows, which they are not made for: that is NumPy's."""

    def describe(self) -> str:
        return f"own tiles, {8 * tiles.VECTOR_BYTES}-bit vectors, {llvmlite.binding.get_host_cpu_name()}"

    def product(self, x: Array, w: Array, y: Array) -> None:
        if y.shape[1] == 1:
            np.matmul(x, w, y)
        elif w.strides[1] == w.itemsize:
            tiles.multiply(x, w, y)
        elif w.strides[0] == w.itemsize:
            tiles.multiply_panels(x, tiles.panels(w.T), y)
        else:
            tiles.multiply(x, np.ascontiguousarray(w), y)

    def product_transposed(self, x: Array, v: Array, y: Array, keep: bool) -> None:
        if y.shape[1] == 1:
            np.matmul(x, v.T, y)
        elif v.strides[1] == v.itemsize:
            tiles.multiply_panels(x, kept(v) if keep else tiles.panels(v), y)
        else:
            self.product(x, v.T, y)

    def product_many(self, x: Array, w: Array, y: Array) -> None:
        if y.shape[2] > 1 and w.strides[2] == w.itemsize:
            tiles.multiply_many(x, w, y)
        else:
            np.matmul(x, w, y)

    def product_summed(self, x: Array, v: Array, y: Array) -> None:
        if v.strides[2] == v.itemsize:
            tiles.multiply_summed(x, v, y)
        else:
            super().product_summed(x, v, y)


class Mkl(Library):
    """MKL; NumPy where it cannot read operands as they lie."""

    def __init__(self) -> None:
        self.library = mkl.load()

    def describe(self) -> str:
        return f"MKL {self.library.version}, one thread, deterministic mode"

    def product(self, x: Array, w: Array, y: Array) -> None:
        self.product_many(x[None], w[None], y[None])

    def product_transposed(self, x: Array, v: Array, y: Array, keep: bool) -> None:
        self.product_many(x[None], v.T[None], y[None])

    def product_many(self, x: Array, w: Array, y: Array) -> None:
        if not self.library.multiply_many(x, w, y):
            np.matmul(x, w, y)


LIBRARIES: dict[str, type[Library]] = {"own": Own, "numpy": Numpy, "mkl": Mkl}


def _made(name: str) -> Library:
    if name not in LIBRARIES:
        raise BackendError(f"set_products: no library is called {name!r}\n  expected one of {', '.join(LIBRARIES)}")
    return LIBRARIES[name]()


_chosen = [_made(os.environ.get("AUTOBATCH_PRODUCTS", "own"))]


def set_products(name: str) -> None:
    """Multiply matrices by "own" (default), "numpy" or "mkl" from now on, in all threads.

    "own" are loops compiled for the vectors of this machine, "numpy" is `np.matmul`, "mkl" Intel's library from the
    extra `autobatch-compiler[mkl]`. The environment variable AUTOBATCH_PRODUCTS chooses at start. Recordings that are
    pending run with the library chosen when they run. On the backend "numpy" products are always `np.matmul`.

    Raises `BackendError` for another name, `MissingExtraError` where MKL is not installed.

    >>> import autobatch as ab
    >>> ab.set_products("own")
    """
    _chosen[0] = _made(name)


@contextlib.contextmanager
def products(name: str) -> Iterator[None]:
    """Multiply matrices by another library inside the block, in all threads.

    >>> import autobatch as ab
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

    >>> import autobatch as ab
    >>> ab.products_in_use()
    'own tiles, ...'
    """
    return _chosen[0].describe()


def is_own() -> bool:
    """Whether our own tiles multiply."""
    return isinstance(_chosen[0], Own)


# Verbs of compiled programs.


def product(x: Array, w: Array, y: Array) -> None:
    """y = x w for matrices."""
    _chosen[0].product(x, w, y)


def product_transposed(x: Array, v: Array, y: Array, keep: bool) -> None:
    """y = x vᵀ for matrices."""
    _chosen[0].product_transposed(x, v, y, keep)


def product_many(x: Array, w: Array, y: Array) -> None:
    """y[b] = x[b] w[b]."""
    _chosen[0].product_many(x, w, y)


def product_summed(x: Array, v: Array, y: Array) -> None:
    """y = Σ_b x[b] v[b]ᵀ."""
    _chosen[0].product_summed(x, v, y)
