"""Threads for large compiled loops: free threads take parts from a common counter.

The caller takes part itself and never waits for a thread that has not begun: if the other cores are busy it does all
parts alone. It waits for parts that others have begun. Which thread does a part does not show in the result, as parts
write different numbers.

Where the other cores are busy, an offer would only cost time: the threads have a scheduling class that does not preempt
the caller when they wake (20 µs otherwise, 4 so); after a few offers in which no thread took part, or one in
which the caller waited for longer than it worked, none is made until so many parts were done alone.

    if is_help_likely(n_parts): share(function, arguments, n_parts, state)

`function(*arguments)` is compiled, holds no lock and knows `state`, integers that begin with two zeros. It takes
parts, adding to state[0] atomically, until there are none left; adds how many it did to state[1]; and gives what
state[1] then was, or -1 if it did none.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from time import perf_counter
from typing import Any

from ...base.errors import message

PATIENCE = 6
"""Offers in a row without help, after which the next one waits: each twice as long as the one before."""

LONGEST = 1024
"""Parts that are done alone between two offers, at most: 30 to 60 ms."""

_Job = tuple[Callable[..., int], tuple[Any, ...], int, Any, Any]


def default_threads() -> int:
    """OMP_NUM_THREADS if it is set, else the cores that this process may use."""
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if text.isdigit() and int(text) > 0:
        return int(text)
    return n_cores()


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Team:
    """Threads that wait for jobs; they are daemons, started when first needed and anew in a forked process."""

    def __init__(self) -> None:
        self.size = default_threads()
        self.jobs: SimpleQueue[_Job] = SimpleQueue()
        self.started = 0
        self.lock = threading.Lock()
        self.in_vain = 0  # offers since one was taken
        self.alone = 0  # parts to be done alone before the next

    def hire(self) -> None:
        with self.lock:
            while self.started < self.size - 1:
                name = f"autobatch-{self.started}"
                threading.Thread(target=_work, args=(self,), name=name, daemon=True).start()
                self.started += 1


def _work(team: _Team) -> None:
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # where a sandbox forbids it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    while True:
        function, arguments, n_parts, state, finished = team.jobs.get()
        try:
            n_done = function(*arguments)
        except Exception:  # arguments that it does not take, which the caller finds out too: no part was begun
            n_done = -1
        if n_done != -1:
            team.in_vain = team.alone = 0
        if n_done == n_parts:
            finished.release()
        del function, arguments, state, finished  # release the arrays while waiting


_team = [_Team()]


def _forked() -> None:
    size = _team[0].size
    _team[0] = _Team()
    _team[0].size = size


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def is_help_likely(n_parts: int) -> bool:
    """Whether a call should be shared; asked once for each call that is large enough."""
    team = _team[0]
    if team.size == 1 or n_parts < 2:
        return False
    team.alone -= n_parts
    if team.alone > 0:
        return False
    team.in_vain += 1
    team.alone = min(LONGEST, 16 << min(team.in_vain - PATIENCE, 8)) if team.in_vain > PATIENCE else 0
    return True


def share(function: Callable[..., int], arguments: tuple[Any, ...], n_parts: int, state: Any) -> None:
    """Run all parts, on as many threads as are set; returns when all are done."""
    team = _team[0]
    if team.started < team.size - 1:
        team.hire()
    finished = threading.Lock()
    finished.acquire()
    interrupted = False
    for _ in range(min(team.size, n_parts) - 1):
        team.jobs.put((function, arguments, n_parts, state, finished))
    begun, worked = perf_counter(), 0.0
    while int(state[1]) != n_parts:
        try:
            is_done = function(*arguments) == n_parts
            worked = worked or perf_counter() - begun
            if not is_done:
                finished.acquire(timeout=0.05)  # no longer: Ctrl-C may come between acquiring and knowing it
        except KeyboardInterrupt:  # raised when the others no longer write
            interrupted = True
    if perf_counter() - begun > 2 * worked:
        team.alone = LONGEST
    if interrupted:
        raise KeyboardInterrupt


def set_num_threads(n: int) -> None:
    """Use up to `n` threads for large products, loops and updates of parameters, from now on.

    Results do not depend on it, to the last bit. The default is OMP_NUM_THREADS, or as many as there are cores.

    Raises ValueError unless `n` is an integer from 1 on.

    >>> before = ab.get_num_threads()
    >>> ab.set_num_threads(1)
    >>> ab.get_num_threads()
    1
    >>> ab.set_num_threads(before)
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        what, expected = "set_num_threads: a count of threads", "an integer from 1 on"
        raise ValueError(message(what, expected=expected, got=repr(n)))
    _team[0].size = n


def get_num_threads() -> int:
    """How many threads large products, loops and updates may use.

    >>> ab.get_num_threads() >= 1
    True
    """
    return _team[0].size
