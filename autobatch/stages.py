"""Clocks of the stages: each stage says when it runs, and the profiles that are listening add up its seconds."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any


class _Active(threading.local):
    profiles: tuple[Any, ...] = ()


active = _Active()
"""The profiles of this thread that are open, outermost first."""


@contextlib.contextmanager
def timed(stage: str) -> Iterator[None]:
    """Count the seconds of a block as a stage of every active profile; stages inside it count for themselves."""
    if not active.profiles:
        yield
        return
    outer = [p._inner for p in active.profiles]
    for p in active.profiles:
        p._inner = 0.0
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - start
        for p, before in zip(active.profiles, outer, strict=True):
            p.seconds[stage] += seconds - p._inner
            p._inner = before + seconds
