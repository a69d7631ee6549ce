"""Instructions and lines of Python: counted, and broken off by an exception, as a signal handler or another thread
raises it."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import autobatch as ab

PACKAGE = str(Path(ab.__file__).parent)


class Broken(BaseException):
    """What is raised before an instruction."""


@dataclass
class Count:
    """How many instructions ran so far."""

    n: int = 0


@contextmanager
def counted(within: str = "", break_at: int = -1) -> Iterator[Count]:
    """Count the instructions in files whose names begin so, and raise `Broken` before the one of this number."""
    count = Count()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(within):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            count.n += 1
            if count.n == break_at:
                raise Broken
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks for one such frame as it begins
    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(before)


def breaking(action: Callable[[], Any], at: int) -> tuple[Any, int, bool]:
    """Run `action`, raising before its nth instruction in the library: result, instructions seen, whether it raised."""
    try:
        with counted(PACKAGE, at) as count:
            result = action()
    except Broken:
        return None, count.n, True
    return result, count.n, False


def interrupted(action: Callable[[], object], at: int, within: str | tuple[str, ...] = "") -> tuple[int, bool]:
    """Run `action` with Ctrl-C at its nth line in files whose names begin so: lines seen, whether it was hit."""
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(within) or _in_finaliser(frame):
            return None
        if event == "line":
            lines += 1
            if lines == at:
                signal.raise_signal(signal.SIGINT)
        return trace

    before, collects = sys.gettrace(), gc.isenabled()
    gc.disable()  # Python swallows what is raised in a callback that its collector runs
    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt:
        return lines, True
    finally:
        sys.settrace(before)
        if collects:
            gc.enable()
    return lines, False


def _in_finaliser(frame: FrameType | None) -> bool:
    """Whether a `__del__` is running: Python swallows what is raised there, too."""
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None
