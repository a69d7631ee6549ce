"""Timers of the stages: each stage is timed, and the open profiles add up its seconds."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Any

profiles: ContextVar[tuple[Any, ...]] = ContextVar("autobatch_profiles", default=())
"""The profiles that are open in this context, outermost first."""


class timed:
    """Add the seconds of a block to a stage of every active profile; nested stages are counted separately.

    A class of its own: a step enters some ten stages, and a generator would take three times as long.
    """

    __slots__ = ("outer", "profiles", "stage", "start")

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def __enter__(self) -> None:
        self.profiles = profiles.get()
        if self.profiles:
            self.outer = [p._inner for p in self.profiles]
            for p in self.profiles:
                p._inner = 0.0
            self.start = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        if self.profiles:
            seconds = time.perf_counter() - self.start
            for p, before in zip(self.profiles, self.outer, strict=True):
                p.seconds[self.stage] += seconds - p._inner
                p._inner = before + seconds
