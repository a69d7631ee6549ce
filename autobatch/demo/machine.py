"""What a command runs on: threads, and a backend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import autobatch as ab

from ..base.extras import fault

__all__ = ["command_settings"]


@contextmanager
def command_settings(threads: int, backend: str) -> Iterator[None]:
    """Threads of the library's matmuls and of NumPy's, and what runs kernels.

    With NumPy's BLAS a second thread gains a tenth on the small matmuls of trees on an idle machine, and where its core
    has other work to do, every matmul waits for it, ten times as long as it takes.
    """
    limits: Any = nullcontext()
    if not fault("threadpoolctl"):
        from threadpoolctl import ThreadpoolController

        limits = ThreadpoolController().select(internal_api="openblas").limit(limits=threads)
    own = ab.get_num_threads()
    ab.set_num_threads(threads)
    try:
        with limits, ab.backend(backend):
            yield
    finally:
        ab.set_num_threads(own)
