"""Workers: loops that are not on disk yet are compiled in parallel, in processes of their own.

Input: the pieces of kernels that a run is going to call. Output: a `Team`, at work while this process goes on; when it
has finished, the functions are on disk, from where their first call loads them. Invariants: nothing depends on
workers: what is missing because they died, were stopped or found the disk full, is compiled when it is
called; a worker is a fresh interpreter, never a fork; it ends with its team and with this process. Cost: a worker takes
half a second to start, so it is worth it from a number of loops on, and only where there is another core.

    autobatch: compiling 17 loops of compose, word, cross_entropy in 2 processes; they are cached in ~/.cache/autobatch
"""

from __future__ import annotations

import contextlib
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

from ...backends.host import matmul, tiles
from ...backends.host.threads import n_cores
from ...base import disk
from ...base.interrupts import uninterrupted
from ..kernel import Kernel
from . import cache

MANY = 6
"""Loops for each process, at least: they take a second and a half."""

MOST = 8
"""Workers, at most; each takes 150 MB."""

PATIENCE = 60.0
"""Seconds after which workers are given up, when nothing else is left to do."""

_START = f"import sys; sys.path[:] = sys.argv[2:]; from {__name__} import work; work(sys.argv[1])"


@dataclass(frozen=True, slots=True)
class Task:
    """One function to compile.

    kind: "loop", or a name of `tiles.COMPILED`; arguments: of a loop as `cache.compile_for` reads them, else a dtype
    source: text of a loop; weight: how long it takes, in loops
    """

    kind: str
    arguments: str
    source: str = ""
    weight: int = 1

    def run(self) -> None:
        """Compile it, and keep it on disk."""
        if self.kind == "loop":
            cache.compile_for(cache.load(self.source), self.arguments)
        else:
            tiles.COMPILED[self.kind][np.dtype(self.arguments)]


class Team:
    """Tasks, and the workers on them. Workers and this process take tasks by making files, which only one can do."""

    def __init__(self, tasks: Sequence[Task] = (), n_workers: int = 0, kept_in: str = "") -> None:
        self.tasks = tasks
        self.workers: list[subprocess.Popen[bytes]] = []
        self.folder: tempfile.TemporaryDirectory[str] | None = None
        if n_workers:
            # Without processes, an interpreter or room for the tasks: those that started, and this process, do it.
            with uninterrupted(), contextlib.suppress(OSError):
                self._start(n_workers, kept_in)

    def _start(self, n_workers: int, kept_in: str) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="autobatch-", ignore_cleanup_errors=True)
        rows = [(task.kind, task.arguments, task.source) for task in self.tasks]
        Path(self.folder.name, "tasks").write_text(json.dumps(rows), "utf-8")
        paths = [*sys.path, str(Path(__file__).parents[3])]
        command = [sys.executable, "-I", "-c", _START, self.folder.name, *paths]
        environment = {**os.environ, "AUTOBATCH_CACHE_DIR": kept_in}
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

    def __exit__(self, *error: object) -> None:
        self.stop()

    def finish(self) -> None:
        """Help with what no worker has begun, and wait for the rest."""
        if self.folder is not None:
            n_own = 0
            for number, task in enumerate(self.tasks):
                if take(self.folder.name, number):
                    n_own += 1
                    task.run()
            end = time.monotonic() + PATIENCE
            for worker in self.workers if n_own < len(self.tasks) else ():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.wait(max(0.0, end - time.monotonic()))
            self.stop()

    def stop(self) -> None:
        """End all workers, whatever they do."""
        if not self.workers and self.folder is None:
            return
        with uninterrupted():
            for worker in self.workers:
                worker.kill()
                worker.wait()
                assert worker.stdin is not None
                worker.stdin.close()
            self.workers.clear()
            if self.folder is not None:
                self.folder.cleanup()
                self.folder = None


_NOBODY = Team()


def compile_ahead(pieces: Sequence[tuple[Kernel, str]], backend: str) -> Team:
    """Begin to compile what these pieces of kernels call and what is not on disk, where workers are worth it."""
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
        for dtype in programs[0].gemm_dtypes if matmul.is_own() else ():
            for name, compiled in tiles.COMPILED.items():
                if not compiled.is_kept(np.dtype(dtype)):
                    tasks[Task(name, dtype, weight=4)] = None
        if found:
            tasks.update(dict.fromkeys(found))
            names[kernel.name] = None
    if not tasks:
        return _NOBODY
    weight = sum(task.weight for task in tasks)
    can_start = bool(sys.executable) and not hasattr(sys, "frozen")
    n_workers = max(0, min(n_cores() - 1, weight // MANY, MOST)) if can_start else 0
    kept_in = disk.folder()
    if kept_in is None:
        n_workers = 0
    if names:
        _announce(list(names), sum(task.kind == "loop" for task in tasks), n_workers, kept_in)
    if not n_workers or kept_in is None:
        return _NOBODY
    return Team(sorted(tasks, key=lambda task: (-task.weight, -len(task.source))), n_workers, kept_in)


_announced: list[bool] = []


def _announce(names: list[str], n_loops: int, n_workers: int, kept_in: str | None) -> None:
    """A line for the first loops that a process compiles, and whenever there are many."""
    if _announced and n_loops < MANY:
        return
    _announced.append(True)
    whose = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    how = f" in {n_workers + 1} processes" if n_workers else ""
    where = f"they are cached in {kept_in}" if kept_in else "they are not cached"
    with contextlib.suppress(OSError, ValueError):  # a stream that was closed
        print(f"autobatch: compiling {n_loops} loops of {whose}{how}; {where}", file=sys.stderr)


# In a worker.


def work(folder: str) -> None:
    """Do tasks until none is left; ends the process, also when the process that started it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    rows: list[list[Any]] = json.loads(Path(folder, "tasks").read_text("utf-8"))
    for number, row in enumerate(rows):
        if take(folder, number):
            Task(*row).run()
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
