"""Where kernels run: `numpy`, the reference, each op a call; `numba`, the default, generated loops, BLAS products."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

from ..errors import BackendError

BACKENDS = ("numba", "numpy")

_default = ["numba"]
_chosen: contextvars.ContextVar[str | None] = contextvars.ContextVar("autobatch_backend", default=None)


def current_backend() -> str:
    """The backend that the next flush runs on."""
    return _chosen.get() or _default[0]


def set_backend(name: str) -> None:
    """Run kernels on "numba" (default) or "numpy" from now on, in all threads.

    Raises `BackendError` for a name that is not a backend.

    >>> import autobatch as ab
    >>> ab.set_backend("numba")
    """
    _default[0] = _checked(name)


@contextlib.contextmanager
def backend(name: str) -> Iterator[None]:
    """Run kernels on another backend inside the block; what is pending when it ends runs wherever it is forced.

    >>> import autobatch as ab
    >>> with ab.backend("numpy"):
    ...     float(ab.tensor(2.0) * 3)
    6.0
    """
    token = _chosen.set(_checked(name))
    try:
        yield
    finally:
        _chosen.reset(token)


def _checked(name: str) -> str:
    if name not in BACKENDS:
        raise BackendError(f"set_backend: no backend is called {name!r}\n  expected one of {', '.join(BACKENDS)}")
    return name
