"""Timers of stages and launches: each is timed where profiles are open, and these add up its seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
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
            end = time.perf_counter()
            seconds = end - self.start
            for p, before in zip(self.profiles, self.outer, strict=True):
                p.note_stage(self.stage, self.start, end, seconds - p._inner)
                p._inner = before + seconds


def timed_calls(calls: Iterable[Any], piece: str, name_of: Callable[[int], str]) -> Iterable[Any]:
    """The same calls of kernels, one after the other; open profiles get what was done with each for its seconds.

    piece: "forward" or "backward"; name_of: the name of the launch of a number, which a call ends with
    """
    opened = profiles.get()
    return _timed_calls(calls, piece, name_of, opened) if opened else calls


def _timed_calls(calls: Iterable[Any], piece: str, name_of: Callable[[int], str], opened: Any) -> Iterator[Any]:
    for call in calls:
        start = time.perf_counter()
        yield call
        end = time.perf_counter()
        for p in opened:
            p.note_launch(name_of(call[-1]), piece, start, end)
