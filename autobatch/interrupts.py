"""Blocks that no signal breaks off: what a handler would raise is raised when the block has ended.

Python runs the handlers of signals in the main thread, between any two instructions: in the middle of a change that
must be whole, or below C code that cannot pass an exception on.
"""

from __future__ import annotations

import signal
import threading
from typing import Any

_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGPROF", "SIGVTALRM")
    if hasattr(signal, name)
]
"""Those for which programs have handlers that raise: Ctrl-C, being ended, timeouts."""


class uninterrupted:
    """Hold back Ctrl-C, and other signals with a handler, until the block has ended.

    Costs 10 µs in the main thread; no other thread is ever interrupted.

    >>> with uninterrupted():
    ...     whole = [1, 2]
    """

    __slots__ = ("arrived", "old")

    def __enter__(self) -> None:
        self.old: list[tuple[int, Any]] = []
        self.arrived: list[tuple[int, Any]] = []
        if threading.current_thread() is not threading.main_thread():
            return
        try:
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler):
                    self.old.append((number, handler))
                    signal.signal(number, self._note)
        except BaseException:
            self._restore()
            raise

    def _note(self, number: int, frame: Any) -> None:
        self.arrived.append((number, frame))

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
        for number, frame in self.arrived:
            handlers[number](number, frame)
