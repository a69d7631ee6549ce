"""Workers: loops that are not on disk yet are compiled in parallel, in processes of their own.

Input: the pieces of kernels that a run is going to call. Output: a `Team`, at work while this process goes on; when it
has finished, the functions are on disk, from where their first call loads them. Invariants: nothing depends on
workers: what is missing because they died, were stopped or found the disk full, is compiled when it is
called; a worker is a fresh interpreter, never a fork; it ends with its team and with this process. Cost: a worker takes
half a second to start, so it is worth it from a number of loops on, and only where there is another core.

Where nothing is on disk yet, a worker begins with matmuls when the first parameter is made (`compile_early`); the
team of the first step takes it over. That step does not wait for the library's own functions, which Python runs at
first (`jit`): a worker goes on with them.

    autobatch: compiling 17 loops of compose, word, cross_entropy in 2 processes; they are cached in ~/.cache/autobatch
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...backends import current_backend
from ...backends.host import matmul, tiles
from ...backends.host.threads import n_cores
from ...base import disk, jit, progress
from ...base.interrupts import uninterrupted
from ..kernel import Kernel
from . import cache

MANY = 6
"""Loops for each process, at least: they take a second and a half."""

MOST = 8
"""Workers, at most; each takes 150 MB."""

WAIT = 5.0
"""How many times as long Python runs a function that a worker is going to compile."""

_DONE = ".done"

PATIENCE = 60.0
"""Seconds after which workers are given up, when nothing else is left to do."""

_START = f"import sys; sys.path[:] = sys.argv[2:]; from {__name__} import work; work(sys.argv[1])"


@dataclass(frozen=True, slots=True)
class Task:
    """One function to compile.

    kind: "loop", "own" or a name of `tiles.COMPILED`; arguments: as `jit.argument_types` reads them, of tiles a dtype
    source: text of a loop, or module and name of the library's own; weight: how long it takes, in loops
    """

    kind: str
    arguments: str
    source: str = ""
    weight: int = 1

    def run(self) -> None:
        """Compile it, and keep it on disk."""
        if self.kind == "loop":
            cache.compile_for(cache.load(self.source), self.arguments)
        elif self.kind == "own":
            module, _, name = self.source.rpartition(".")
            cache.compile_for(getattr(importlib.import_module(module), name), self.arguments)
        else:
            tiles.COMPILED[self.kind][np.dtype(self.arguments)]


class Team:
    """Tasks, and the workers on them. Workers and this process take tasks by making files, which only one can do.

    wanted: tasks that `finish` waits for; is_first: whether it is for the first run, which leaves other tasks behind
    """

    def __init__(self, tasks: Sequence[Task] = (), n_workers: int = 0, kept_in: str = "") -> None:
        self.wanted: list[Task] = []
        self.is_first = False
        self.tasks: dict[Task, int] = {}
        self.n_lists = 0
        self.kept_in = kept_in
        self.process = os.getpid()
        self.workers: list[subprocess.Popen[bytes]] = []
        self.folder: str | None = None
        if n_workers:
            self.want(tasks, n_workers)

    def want(self, tasks: Sequence[Task], n_workers: int) -> None:
        """More tasks that are waited for, and as many workers as these are worth."""
        self.wanted += tasks
        self.add(tasks, n_workers)

    def add(self, tasks: Sequence[Task], n_workers: int) -> None:
        """Tasks to be done next; those that are known already are moved to the front."""
        for task in tasks:
            self.tasks.setdefault(task, len(self.tasks))
        # Without processes, an interpreter or room for the tasks: those that started, and this process, do it.
        with uninterrupted(), contextlib.suppress(OSError):
            if self.folder is None:
                self.folder = tempfile.mkdtemp(prefix="autobatch-")
                atexit.register(self.stop)
            if tasks:
                self._write([(self.tasks[task], task.kind, task.arguments, task.source) for task in tasks])
            self._hire(n_workers - sum(worker.poll() is None for worker in self.workers))

    def _write(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """A list of tasks for the workers; an empty one is the last."""
        assert self.folder is not None
        path = Path(self.folder, f"list{self.n_lists}")
        path.with_suffix(".new").write_text(json.dumps(rows), "utf-8")
        path.with_suffix(".new").rename(path)
        self.n_lists += 1

    def _hire(self, n_workers: int) -> None:
        assert self.folder is not None
        paths = [*sys.path, str(Path(__file__).parents[3])]
        command = [sys.executable, "-I", "-c", _START, self.folder, *paths]
        environment = {**os.environ, "AUTOBATCH_CACHE_DIR": self.kept_in}
        for _ in range(n_workers):
            self.workers.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=environment,
                )
            )

    def __enter__(self) -> Team:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is not None or self.wanted:
            self.stop()

    def finish(self) -> None:
        """Help with what is wanted and no worker has begun, and wait for the rest. Other tasks are left to workers."""
        begun = []
        for task in self.wanted:
            if self._take(task):
                task.run()
            else:
                begun.append(task)
        if self.is_first:
            ordered = sorted(jit.BEGUN_EARLY, key=lambda own: own[0].patience)  # first what Python takes longest for
            self.add(list(map(_own_function, ordered)), 1)
        if self.folder is None:
            return
        with contextlib.suppress(OSError):
            self._write(())
        end = time.monotonic() + PATIENCE
        while begun and self.is_at_work() and time.monotonic() < end:
            begun = [task for task in begun if not Path(self.folder, f"{self.tasks[task]}{_DONE}").exists()]
            time.sleep(0.005)
        if begun or len(self.wanted) == len(self.tasks):
            self.stop()
        else:
            _behind.append(self)
            progress.clear()
        self.wanted.clear()

    def _take(self, task: Task) -> bool:
        return self.folder is not None and take(self.folder, self.tasks[task])

    def is_at_work(self) -> bool:
        """Whether a worker has not ended."""
        return any(worker.poll() is None for worker in self.workers)

    def stop(self) -> None:
        """End all workers, whatever they do."""
        progress.clear()
        if (not self.workers and self.folder is None) or self.process != os.getpid():
            return
        with uninterrupted():
            for worker in self.workers:
                worker.kill()
                worker.wait()
                assert worker.stdin is not None
                worker.stdin.close()
            self.workers.clear()
            if self.folder is not None:
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder = None
            atexit.unregister(self.stop)


_NOBODY = Team()


def compile_ahead(pieces: Sequence[tuple[Kernel, str]], backend: str) -> Team:
    """Begin to compile what these pieces of kernels call and what is not on disk, where workers are worth it."""
    for team in list(_behind):
        if not team.is_at_work():
            with contextlib.suppress(ValueError):  # another thread has done so
                _behind.remove(team)
            team.stop()
    if backend != "numba" or not pieces:
        return _NOBODY
    tasks: dict[Task, None] = {}
    names: dict[str, None] = {}
    for kernel, piece in pieces:
        programs = [kernel.program(piece, backend)]
        if piece == "backward" and kernel.pieces.slots:
            programs.append(kernel.program(piece, backend, add=False))
        found = [
            Task("loop", types, cache.source_of(loop))
            for program in programs
            for loop, types in program.loops
            if not cache.is_compiled(loop, types)
        ]
        for dtype in programs[0].gemm_dtypes:
            tasks.update(dict.fromkeys(_missing_tiles(dtype)))
        if found:
            tasks.update(dict.fromkeys(found))
            names[kernel.name] = None
    early = _early.pop() if _early else None
    if early is not None:
        missing = (own for own in jit.BEGUN_EARLY if not own[0].is_python and not cache.is_compiled(*own))
        tasks.update(dict.fromkeys(map(_own_function, missing)))
    if not tasks:
        return early or _NOBODY
    weight = sum(task.weight for task in tasks)
    n_workers = max(0, min(n_cores() - 1, weight // MANY, MOST)) if _can_start() else 0
    kept_in = disk.folder()
    if kept_in is None:
        n_workers = 0
    if names:
        n_processes = 1 + (max(1, n_workers) if early is not None else n_workers)
        _announce(list(names), sum(task.kind == "loop" for task in tasks), n_processes, kept_in)
    ordered = sorted(tasks, key=lambda task: (-task.weight, -len(task.source)))
    if early is not None:
        early.want(ordered, n_workers)
        return early
    return Team(ordered, n_workers, kept_in) if n_workers and kept_in is not None else _NOBODY


def _missing_tiles(dtype: str) -> list[Task]:
    """What matmuls of a dtype call and is not on disk."""
    names = [name for name, compiled in tiles.COMPILED.items() if not compiled.is_kept(np.dtype(dtype))]
    return [Task(name, dtype, weight=4) for name in names] if matmul.is_own() else []


def _can_start() -> bool:
    """Whether this process can start interpreters."""
    return bool(sys.executable) and not hasattr(sys, "frozen")


_asked: list[bool] = []
_early: list[Team] = []
"""The team that began early, until a run takes it over."""

_behind: list[Team] = []
"""Teams with tasks that nobody waits for."""


def compile_early(dtype: np.dtype[Any]) -> None:
    """Once in a process, where there is another core and the library's own functions are not on disk: let Python run
    them for longer, until the team of the first run has compiled them. Begin now if matmuls of a dtype are missing."""
    if _asked:
        return
    _asked.append(True)
    if current_backend() != "numba" or n_cores() < 2 or not _can_start():
        return
    kept_in = disk.folder()
    if kept_in is None or all(cache.is_compiled(*early) for early in jit.BEGUN_EARLY):
        return
    for function, _ in jit.BEGUN_EARLY:
        function.patience *= WAIT
    team = Team(kept_in=kept_in)
    team.is_first = True
    _early.append(team)
    missing = _missing_tiles(dtype.name)
    if missing:
        team.add([*missing, *map(_own_function, sorted(jit.BEGUN_EARLY, key=_order))], 1)


def _own_function(own: tuple[Any, str]) -> Task:
    function = own[0].py_func
    return Task("own", own[1], f"{function.__module__}.{function.__name__}")


def _order(own: tuple[Any, str]) -> tuple[bool, bool, bool, int]:
    """First what Python cannot run; last what a first step calls first: of much data, this process comes to it before a
    worker would."""
    function = own[0].py_func
    rooms = function.__module__.split(".")
    return own[0].is_python, "schedule" not in rooms, "run" not in rooms, -len(function.__code__.co_code)


def _announce(names: list[str], n_loops: int, n_processes: int, kept_in: str | None) -> None:
    """Say what is compiled, until it is."""
    whose = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    how = f" in {n_processes} processes" if n_processes > 1 else ""
    where = f"they are cached in {kept_in}" if kept_in else "they are not cached"
    progress.show(f"compiling {n_loops} loops of {whose}{how}; {where}")


# In a worker.


def work(folder: str) -> None:
    """Do tasks until none is left; ends the process, also when the process that started it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    waiting: list[list[Any]] = []
    n_lists, is_last = 0, False
    idle_since = time.monotonic()
    while time.monotonic() < idle_since + PATIENCE:
        path = Path(folder, f"list{n_lists}")
        if path.exists():
            rows = json.loads(path.read_text("utf-8"))
            waiting[:0] = rows
            n_lists, is_last = n_lists + 1, not rows
        elif waiting:
            number, *task = waiting.pop(0)
            if take(folder, number):
                try:
                    Task(*task).run()
                finally:
                    Path(folder, f"{number}{_DONE}").touch()
            idle_since = time.monotonic()
        elif is_last:
            break
        else:
            time.sleep(0.02)
    os._exit(0)


def _end_with_parent(folder: str) -> None:
    sys.stdin.buffer.read()  # nothing is ever written there
    for _ in range(10):  # its owner could not; meanwhile the other thread may take one more task
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def take(folder: str, number: int) -> bool:
    """Take a task, unless another process has."""
    try:
        os.close(os.open(os.path.join(folder, str(number)), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except OSError:
        return False
    return True
