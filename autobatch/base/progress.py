"""A line on the terminal while functions are compiled, which is gone when they are.

    autobatch: compiling loop, function 12, 4 s so far; they are cached in ~/.cache/autobatch

It is written where somebody sees it: to a terminal, or in a notebook; not where stderr is a file or a pipe, in other
processes than that of the user, in other threads than the main one, or where AUTOBATCH_QUIET is 1. Where a progress
bar has the terminal, the line is shown in that.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable

PATIENCE = 0.3
"""Seconds of compilation that nobody asks about."""

bars: list[Callable[[str], None]] = []
"""What shows the line, or the empty line, while there is a bar: the last one does."""

_shown: list[int] = []
"""Length of the line that is on the terminal, if one is."""


def is_watched() -> bool:
    """Whether somebody sees what is written to stderr."""
    if os.environ.get("AUTOBATCH_QUIET", "") not in ("", "0"):
        return False
    if threading.current_thread() is not threading.main_thread() or _is_child():
        return False
    with contextlib.suppress(AttributeError, OSError, ValueError):  # no stream, or one that was closed
        return sys.stderr.isatty() or type(sys.stderr).__module__.partition(".")[0] == "ipykernel"
    return False


def _is_child() -> bool:
    """Whether this is a process of `multiprocessing`."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    return multiprocessing is not None and multiprocessing.parent_process() is not None


def show(text: str) -> None:
    """Write a line in place of the one before."""
    if not is_watched():
        return
    text = f"autobatch: {text}"
    before = _shown.pop() if _shown else 0
    if bars:
        bars[-1](text)
    else:
        _write("\r" + text.ljust(before))
    _shown.append(len(text))


def clear() -> None:
    """Remove the line."""
    if not _shown:
        return
    before = _shown.pop()
    if bars:
        bars[-1]("")
    else:
        _write("\r" + " " * before + "\r")


def _write(text: str) -> None:
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


class Compiling:
    """While functions are compiled: `begin` says that one is, `end` that the outermost call of the compiler returns."""

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.since: float | None = None

    def begin(self, name: str, where: str | None) -> None:
        """A function is compiled now, and kept there."""
        self.count += 1
        if self.since is None:
            self.since = time.monotonic()
        if self.seconds > PATIENCE:
            kept = f"; they are cached in {where}" if where else ""
            show(f"compiling {name}, function {self.count}, {self.seconds:.0f} s so far{kept}")

    def end(self) -> None:
        """Nothing is compiled any more."""
        if self.since is not None:
            self.seconds += time.monotonic() - self.since
            self.since = None
        clear()
