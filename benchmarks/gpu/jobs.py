"""Processes side by side, each with its time: one that hangs is killed, with all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MOST_TRIES = 5
LEAST_SECONDS = 4.0
"""A process that would have less is not started."""


@dataclass(slots=True)
class Job:
    """A command that may be started again when it breaks off.

    seconds: it may take, each time; slots: of the processors
    complete: exit statuses that say that it came to its end
    tries: how often it was started at most
    """

    name: str
    command: Sequence[str]
    seconds: float
    slots: int = 1
    complete: tuple[int, ...] = (0,)
    environment: Mapping[str, str | None] = field(default_factory=dict)
    folder: Path | None = None
    tries: int = MOST_TRIES


Note = Callable[[Job, str, float], None]
"""Is told of each process that ended: its job, how it ended, and the seconds that it took."""


@dataclass(slots=True)
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    start: float
    end: float


def run_jobs(jobs: Sequence[Job], n_slots: int, end: float, log: Path, note: Note) -> None:
    """Run all jobs until `end`, a moment of `time.monotonic()`; in order, as far as there are slots for them."""
    waiting, tries = list(jobs), {id(job): 0 for job in jobs}
    running: list[_Running] = []
    try:
        while waiting or running:
            now = time.monotonic()
            for one in list(running):
                how = _ended(one, now)
                if how is not None:
                    running.remove(one)
                    note(one.job, how, now - one.start)
                    if how not in _complete(one.job) and tries[id(one.job)] < one.job.tries:
                        waiting.append(one.job)
            free = n_slots - sum(one.job.slots for one in running)
            for job in list(waiting):
                if end - now < LEAST_SECONDS:
                    waiting.remove(job)
                    note(job, "not started: no time", 0.0)
                elif min(job.slots, n_slots) <= free:
                    waiting.remove(job)
                    tries[id(job)] += 1
                    free -= job.slots
                    running.append(_Running(job, _start(job, log), now, min(now + job.seconds, end)))
            time.sleep(0.02)
    finally:
        for one in running:
            _kill(one.process)


def _complete(job: Job) -> list[str]:
    return [f"exit {status}" for status in job.complete]


def _start(job: Job, log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **{key: value for key, value in job.environment.items() if value is not None}}
    for key, value in job.environment.items():
        if value is None:
            environment.pop(key, None)
    with log.open("ab") as output:
        return subprocess.Popen(
            list(job.command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment,
            cwd=job.folder, start_new_session=True,
        )  # fmt: skip


def _ended(one: _Running, now: float) -> str | None:
    """How it ended, None while it runs."""
    status = one.process.poll()
    if status is None and now > one.end:
        _kill(one.process)
        return f"killed after {now - one.start:.0f} s"
    if status is None:
        return None
    _kill(one.process)  # what it left behind
    return f"exit {status}" if status >= 0 else f"ended by {signal.Signals(-status).name}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    try:
        process.wait(timeout=2.0)
    except subprocess.TimeoutExpired:  # it waits for the driver; it goes when that lets it
        return
