"""Exceptions that signal handlers raise: blocks that none interrupts, and exceptions raised below compiled code.

Python runs signal handlers in the main thread, between any two instructions: in the middle of a change that
must be atomic, or below C code that cannot propagate an exception.
"""

from __future__ import annotations

import functools
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGPROF", "SIGVTALRM")
    if hasattr(signal, name)
]
"""Those for which programs have handlers that raise: Ctrl-C, being ended, timeouts."""


class uninterrupted:
    """Hold back Ctrl-C, and other signals with a handler, until the block has ended.

    Costs 10 µs in the main thread; no other thread is ever interrupted. Should an exception that another thread sends
    break the exit off, the next signal finds that the block is no longer running, and goes to its handler.

    >>> with uninterrupted():
    ...     whole = [1, 2]
    """

    __slots__ = ("arrived", "frame", "old")

    def __init__(self) -> None:
        self.old: list[tuple[int, Any]] = []
        self.arrived: list[tuple[int, Any]] = []
        self.frame: FrameType | None = None

    def __enter__(self) -> None:
        self.old, self.arrived = [], []
        if threading.current_thread() is not threading.main_thread():
            return
        self.frame = sys._getframe(1)
        try:
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler):
                    self.old.append((number, handler))
                    signal.signal(number, self._note)
        except BaseException:
            self._restore()
            raise

    def _note(self, number: int, frame: FrameType | None) -> None:
        running = frame
        while running is not None and running is not self.frame:
            running = running.f_back
        if running is not None:
            self.arrived.append((number, frame))
        else:
            handlers = dict(self.old)
            self._restore()
            handlers[number](number, frame)

    def _restore(self) -> None:
        try:
            while self.old:
                number, handler = self.old[-1]
                if signal.getsignal(number) == self._note:
                    signal.signal(number, handler)
                self.old.pop()
        finally:  # also where a handler that is back in its place raises
            if self.old:
                self._restore()

    def __exit__(self, *error: object) -> None:
        handlers = dict(self.old)
        self._restore()
        self.frame = None
        for number, frame in self.arrived:
            handlers[number](number, frame)


ATTEMPTS = 64
"""How often an interrupted action is run."""


def run_whole(action: Callable[[], None]) -> None:
    """Run an action to its end; what signal handlers and other threads raise meanwhile is raised afterwards.

    The action can be run again: it does what is left to do, and nothing that it has done. What can fail comes before.

    >>> run_whole(lambda: None)
    """
    hold = uninterrupted()
    try:
        with hold:
            _to_the_end(action)
    finally:
        hold._restore()  # again: an exception sent by another thread may have cut the exit short


def _to_the_end(action: Callable[[], None]) -> None:
    """Run the action until it ends; then raise what interrupted it first."""
    raised: BaseException | None = None
    for _ in range(ATTEMPTS):
        try:
            action()
            break
        except BaseException as error:
            raised = raised or error
    if raised is not None:
        raise raised


def original(error: SystemError) -> BaseException:
    """What a handler raised while compiled code ran: Python makes a `SystemError` of it where the C code around that
    code returns a result all the same, as Numba's does.

    >>> error = SystemError("CPUDispatcher(...) returned a result with an exception set")
    >>> error.__cause__ = KeyboardInterrupt()
    >>> original(error)
    KeyboardInterrupt()
    """
    found: BaseException = error
    while isinstance(found, SystemError) and found.__cause__ is not None:
        found = found.__cause__
    return found


def passing_on(fn: Callable[_P, _R]) -> Callable[_P, _R]:
    """A function that runs compiled code, raising what a signal handler raised there."""

    @functools.wraps(fn)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return fn(*args, **kwargs)
        except SystemError as error:
            raise original(error) from None

    return wrapper
