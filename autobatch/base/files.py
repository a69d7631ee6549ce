"""Atomic file writes: complete or absent, even if the process is killed, the machine stops or the disk is full."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Any

_FORGOTTEN = 3600.0
"""Seconds after which an unfinished file counts as abandoned."""

_SUFFIX = ".part"


def put(path: str, chunks: Sequence[Any], mode: int = 0o666) -> None:
    """Make or replace the file at `path` by these buffers, one after the other.

    It is written without a name where the system can do that, so that nothing is left of it when the process is
    killed; elsewhere under a hidden name beside `path`, of which later calls clear away what was left. It is synced
    before it takes the place of `path`. `mode` is subject to the umask. Raises OSError where it cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     put(folder + "/a", [b"one ", b"two"])
    ...     os.listdir(folder), os.path.getsize(folder + "/a")
    (['a'], 7)
    """
    folder, name = os.path.split(path)
    start = f".{name[:200]}."
    hidden = os.path.join(folder, f"{start}{secrets.token_hex(8)}{_SUFFIX}")
    try:
        if not _written_without_name(folder or ".", hidden, chunks, mode):
            clear_unfinished(folder or ".", start)
            _write_under_name(hidden, chunks, mode)
        os.replace(hidden, path)
    except BaseException as error:
        _remove(hidden)
        if isinstance(error, OSError) and error.errno and error.filename is None:  # as that of a full disk
            error.filename = path
        raise


def _written_without_name(folder: str, hidden: str, chunks: Iterable[Any], mode: int) -> bool:
    """Write a file that has no name, and give it one; False where the system or the folder cannot do that."""
    try:
        handle = os.open(folder, os.O_WRONLY | os.O_TMPFILE, mode)
    except (AttributeError, OSError):
        return False
    try:
        _write(handle, chunks)
        try:
            # Only with a folder given does Python call the function that follows links.
            os.link(f"/proc/self/fd/{handle}", hidden, src_dir_fd=handle, follow_symlinks=True)
        except OSError:
            return False
    finally:
        os.close(handle)
    return True


def _write_under_name(hidden: str, chunks: Iterable[Any], mode: int) -> None:
    handle = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    try:
        _write(handle, chunks)
    finally:
        os.close(handle)


def _write(handle: int, chunks: Iterable[Any]) -> None:
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest.nbytes:
            rest = rest[os.write(handle, rest) :]
    os.fsync(handle)


def clear_unfinished(folder: str, start: str = ".") -> None:
    """Remove files that an interrupted `put` left behind long ago."""
    before = time.time() - _FORGOTTEN
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(start) and entry.name.endswith(_SUFFIX):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(entry.path)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
