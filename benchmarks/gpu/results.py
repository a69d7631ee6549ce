"""What a check found, one JSON object a line: appended at once, by any number of processes, and read while they run.

A line has a `name`. One with `begun` says that it was started; the line that says what became of it comes later, or
never, if its process crashed or was killed. Whoever is started again does not begin anew what was begun before: so one
program that hangs or ruins the device costs the others nothing.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import one_line

MOST_BYTES = 15_000_000
MOST_TEXT = 6000
RUINED = 70
"""Exit status of a process whose device cannot be used any more, since a kernel faulted."""

_FAULTS = (
    "illegal memory access",
    "illegaladdress",
    "illegal_address",
    "misaligned",
    "illegal instruction",
    "illegal_instruction",
    "launch failure",
    "launchfailure",
    "launch_failed",
    "device-side assert",
    "cudaerrorassert",
    "hardwarestackerror",
    "launchtimeout",
)


class Results:
    """One file of lines. `add` appends, `lines` reads; lines that were not written whole are left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.begun_before = {line["name"] for line in self.lines()}

    def add(self, name: str, **found: Any) -> None:
        """Append a line; texts are cut to a few pages, and nothing is added to a file that is full."""
        kept = {key: clipped(value) if isinstance(value, str) else value for key, value in found.items()}
        line = (json.dumps({"name": name, **kept}, default=str) + "\n").encode()
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file).st_size + len(line) <= MOST_BYTES:
                os.write(file, line)
        finally:
            os.close(file)

    def lines(self) -> list[dict[str, Any]]:
        """All lines, in order."""
        found = []
        for line in self.path.read_text("utf-8").splitlines() if self.path.exists() else ():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """The last line of each name that says more than that it was begun."""
        return {line["name"]: line for line in self.lines() if not line.get("begun")}

    def lost(self) -> list[str]:
        """What was begun, and of which nothing was heard: its process crashed, or was killed because it hung."""
        heard = self.outcomes()
        return list(dict.fromkeys(line["name"] for line in self.lines() if line["name"] not in heard))

    def measure(self, name: str, action: Callable[[], Mapping[str, Any] | None], seconds: float | None = None) -> None:
        """Do something that no process before this one began, and keep what it gives, or how it failed. Leaves the
        process if the device is ruined, or if it takes longer than it may."""
        if name in self.begun_before:
            return
        self.add(name, begun=True)
        start = time.perf_counter()
        try:
            with watched(seconds):
                found = dict(action() or {})
        except Exception as error:
            text = traceback.format_exc()
            self.add(name, ok=False, seconds=time.perf_counter() - start, error=one_line(error), traceback=text)
            if is_ruined(text):
                leave()
            return
        self.add(name, ok=True, seconds=time.perf_counter() - start, **found)


def clipped(text: str) -> str:
    """The beginning and the end of a long text."""
    half = MOST_TEXT // 2
    return text if len(text) <= MOST_TEXT else f"{text[:half]}\n[…]\n{text[-half:]}"


def is_ruined(text: str) -> bool:
    """Whether an error says that a kernel faulted, after which the process cannot use the device.

    >>> is_ruined("cudaErrorIllegalAddress: an illegal memory access was encountered"), is_ruined("no room")
    (True, False)
    """
    lowered = text.lower()
    return any(fault in lowered for fault in _FAULTS)


@contextlib.contextmanager
def watched(seconds: float | None) -> Iterator[None]:
    """End the process with status 1 if the block takes longer, also while it waits for a driver; where it was is
    printed."""
    if seconds is not None:
        faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def leave() -> None:
    """End the process at once: what the device's libraries do at exit would hang or fault, too."""
    os._exit(RUINED)
