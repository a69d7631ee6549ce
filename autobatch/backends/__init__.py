"""Where kernels run: `numpy`, the reference, each op a call; `numba`, the default, generated loops and matmuls
of the host; `cupy`, generated CUDA C on a GPU. Where NUMBA_DISABLE_JIT is set, `numpy` is the default.

In reading order: this file has the choice of backend, `device` the protocol of a device, `transfer` copies between host
and device; `host/` and `cuda/` are the two kinds of machine. Nothing here knows of nodes, launches or ops.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

from ..base.errors import BackendError, message
from ..base.jit import is_disabled
from .device import current_device
from .transfer import DEVICES

BACKENDS = ("numba", "numpy", "cupy")

_default = ["numpy" if is_disabled() else "numba"]
_chosen: contextvars.ContextVar[str | None] = contextvars.ContextVar("autobatch_backend", default=None)


def current_backend() -> str:
    """The backend that the next flush runs on."""
    return _chosen.get() or _default[0]


def set_backend(name: str, *, tf32: bool = False) -> None:
    """Run kernels on "numba" (default), "numpy" or "cupy" from now on, in all threads.

    With "cupy" new parameters live on the GPU; those that are there already move with `model.to("cupy")`. `tf32` lets a
    GPU round the operands of float32 products to 10 bits, which is faster; nothing else is rounded. Raises
    `BackendError` for a name that is not a backend, and where a backend lacks something: then it says what; ValueError
    for an option of another backend.

    >>> ab.set_backend("numba")
    """
    if tf32 and name not in DEVICES:
        raise ValueError(f"set_backend: tf32 is an option of cupy, {name} has none of this name")
    checked(name)
    if name in DEVICES:
        current_device().tf32 = tf32
    _default[0] = name


@contextlib.contextmanager
def backend(name: str) -> Iterator[None]:
    """Run kernels on the backend `name` inside the block; what is pending when it ends runs wherever it is forced.

    Raises `BackendError` for a backend that is unknown or missing.

    >>> with ab.backend("numpy"):
    ...     float(ab.tensor(2.0) * 3)
    6.0
    """
    token = _chosen.set(checked(name))
    try:
        yield
    finally:
        _chosen.reset(token)


def checked(name: str) -> str:
    """The name of a backend that can run here; raises `BackendError` where it cannot."""
    if name not in BACKENDS:
        what, expected = f"set_backend: no backend is called {name!r}", f"one of {', '.join(BACKENDS)}"
        raise BackendError(message(what, expected=expected))
    if name == "numba" and is_disabled():
        what, repair = "set_backend: Numba compiles nothing where NUMBA_DISABLE_JIT is set", "unset it, or use numpy"
        raise BackendError(message(what, repair=repair))
    if name in DEVICES:
        current_device()
    return name
