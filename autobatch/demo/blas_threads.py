"""How many threads matrix products use: the library's own, and those of NumPy.

With NumPy's BLAS a second thread gains a tenth on the small products of trees on an idle machine, and where its core
has other work to do, every product waits for it, ten times as long as it takes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import autobatch as ab

__all__ = ["blas_function", "blas_threads"]

_PREFIXES, _SUFFIXES = ("scipy_openblas", "openblas"), ("64_", "")


@contextmanager
def blas_threads(count: int) -> Iterator[bool]:
    """Let matrix products use `count` threads inside the block, and as many as before after it.

    Gives whether that could be done for NumPy's too: it is where NumPy brings its own OpenBLAS, as its wheels do.

    >>> with blas_threads(1):
    ...     float((np.ones((2, 2)) @ np.ones((2, 2))).sum())
    8.0
    """
    found = _openblas()
    own = ab.get_num_threads()
    before = found[0]() if found else 0
    ab.set_num_threads(count)
    if found:
        found[1](count)
    try:
        yield found is not None
    finally:
        ab.set_num_threads(own)
        if found:
            found[1](before)


def _openblas() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """What gets and what sets the number of threads of the OpenBLAS that NumPy has loaded."""
    get_count, set_count = blas_function("get_num_threads"), blas_function("set_num_threads")
    return (get_count, set_count) if get_count is not None and set_count is not None else None


def blas_function(name: str) -> Any:
    """A function of the OpenBLAS that NumPy has loaded, through ctypes; None where NumPy does not bring its own."""
    package = Path(np.__file__).parent
    for path in (*package.parent.glob("numpy.libs/*openblas*"), *package.glob(".dylibs/*openblas*")):
        try:
            library = ctypes.CDLL(str(path))  # loaded already: this finds it
        except OSError:
            continue
        for prefix in _PREFIXES:
            for suffix in _SUFFIXES:
                found = getattr(library, f"{prefix}_{name}{suffix}", None)
                if found is not None:
                    return found
    return None
