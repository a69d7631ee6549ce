"""The kernel cache on disk: only complete files written by this user or root are read.

Input: a name and bytes. Output: the bytes stored under that name, or None. Invariants: no fault here stops a
run, unreadable files count as missing, unwritable ones are not stored, and one warning for each kind of fault says
so; before a byte is taken, owner and mode of the file and of all folders above it are checked, and a digest; several
processes read, write and clear at once. Cost: 50 µs to read 50 KB.

The folder is AUTOBATCH_CACHE_DIR, else autobatch in XDG_CACHE_HOME, else ~/.cache/autobatch. A folder that others can
write to is not used, a read-only one is only read: new files then go to a temporary folder until the
process ends. All files together take at most AUTOBATCH_CACHE_SIZE megabytes (1000): the least recently used are
longest.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator

from .errors import CacheWarning
from .files import clear_unfinished, put

_MAGIC = b"autobatch kernel 1\n"
_DIGEST = hashlib.sha256().digest_size
_NAME = re.compile(r"\w[\w.]*-[0-9a-f]{32}\.nbc")
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_READ_ONLY = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
_DAY = 86400.0
_MEGABYTE = 1_000_000

_trusted: dict[str, str] = {}
"""Folders that were checked and belong to this user alone, as they were named → real path."""

_temporary: list[str] = []
_warned: set[str] = set()
_since_look: list[int] = []
"""Bytes written since the total size was last measured."""


class _Refused(Exception):
    """A file that is damaged, or that another user could have written."""


def chosen() -> str | None:
    """The folder that the environment names, whether it can be used or not; None where there is none.

    >>> os.path.isabs(chosen() or os.sep)
    True
    """
    found = os.environ.get("AUTOBATCH_CACHE_DIR")
    if found:
        return os.path.abspath(os.path.expanduser(found))
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # as its specification says
        home = os.path.expanduser("~")
        if not os.path.isabs(home) or home == os.sep:
            return None
        base = os.path.join(home, ".cache")
    return os.path.join(base, "autobatch")


def folder() -> str | None:
    """The folder for new files, created if missing. None if there is none."""
    wanted = chosen()
    if wanted is None:
        return _elsewhere(wanted, "there is no home folder")
    path, fault = _look(wanted, make=True)
    usable = path is not None and os.access(path, os.W_OK | os.X_OK)
    return path if usable else _elsewhere(wanted, fault or "it is read-only")


def read(name: str) -> bytes | None:
    """The bytes stored under a name."""
    for path in _readable():
        try:
            return _read(path, name)
        except OSError:
            continue
        except _Refused as error:
            report_damage(f"{os.path.join(path, name)}: {error}")
    return None


def is_kept(name: str) -> bool:
    """Whether there is a file of this name. It may be damaged: then `read` finds nothing."""
    return any(os.path.exists(os.path.join(path, name)) for path in _readable())


def write(name: str, data: bytes) -> None:
    """Store bytes under a name."""
    path = folder()
    if path is None:
        return
    chunks = [_MAGIC, _digest(name, data), data]
    try:
        put(os.path.join(path, name), chunks, 0o600)
    except OSError as error:
        if path in _temporary:
            return
        path = _elsewhere(path, _reason(error))
        if path is None:
            return
        with contextlib.suppress(OSError):
            put(os.path.join(path, name), chunks, 0o600)
    _make_room(path, len(data))


def report_damage(what: str) -> None:
    """Warn that a file is rebuilt."""
    _warn("damaged", f"kernel cache: a file is damaged or not this user's own, and is rebuilt: {what}")


def usage() -> tuple[int, int]:
    """How many files there are in the chosen folder, and their bytes."""
    found = [size for _, size, _ in _files(chosen() or os.devnull)]
    return len(found), sum(found)


def clear() -> None:
    """Remove all files of the chosen folder that are the cache's."""
    path = chosen() or os.devnull
    for _, _, file in _files(path):
        with contextlib.suppress(OSError):
            os.unlink(file)
    with contextlib.suppress(OSError):
        clear_unfinished(path)


def limit() -> int:
    """How many bytes all files may take.

    >>> limit() > 0
    True
    """
    text = os.environ.get("AUTOBATCH_CACHE_SIZE", "1000")
    try:
        size = int(float(text) * _MEGABYTE)
        if size < 0:
            raise ValueError
        return size
    except (ValueError, OverflowError):
        _warn("size", f"kernel cache: AUTOBATCH_CACHE_SIZE is no number of megabytes: {text!r}; 1000 is taken")
        return 1000 * _MEGABYTE


# Whom a file may come from.


def _look(wanted: str, make: bool = False) -> tuple[str | None, str]:
    """Where a folder really is, and why it cannot be used: one of the two. `make` it where it is missing."""
    try:
        if make:
            _make(wanted)
        found = _trusted.get(wanted)
        if found is not None:
            return found, ""
        real = os.path.realpath(wanted)
        fault = _fault(wanted) or _fault(real)
        if not fault and os.path.isdir(real):
            _trusted[wanted] = real
    except OSError as error:
        return None, _reason(error)
    return (None, fault) if fault else (real, "")


def _fault(path: str) -> str:
    """Why another user could have written to a path: an empty string where only this user and root could."""
    if not hasattr(os, "geteuid"):
        return ""
    at, is_whole = path, True
    while True:
        with contextlib.suppress(FileNotFoundError):
            status = os.lstat(at)
            if status.st_uid not in (0, os.geteuid()):
                return f"{at} belongs to another user"
            is_guarded = not is_whole and status.st_mode & stat.S_ISVTX
            if not stat.S_ISLNK(status.st_mode) and not is_guarded and _others_write(status):
                return f"other users can write to {at}"
        if os.path.dirname(at) == at:
            return ""
        at, is_whole = os.path.dirname(at), False
    return ""


def _others_write(status: os.stat_result) -> bool:
    """Whether others than the owner may write; a group of this user alone does not count."""
    if status.st_mode & _OTHERS_WRITE != stat.S_IWGRP:
        return bool(status.st_mode & _OTHERS_WRITE)
    try:
        import grp
        import pwd

        user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(status.st_gid)
    except (ImportError, KeyError):
        return True
    return group.gr_name != user or not set(group.gr_mem) <= {user}


def _readable() -> Iterator[str]:
    wanted = chosen()
    if wanted is not None:
        path, fault = _look(wanted)
        if path is not None:
            yield path
        else:
            _elsewhere(wanted, fault)
    yield from _temporary


def _read(path: str, name: str) -> bytes:
    handle = os.open(os.path.join(path, name), _READ_ONLY)
    with open(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise _Refused("it is no file")
        if hasattr(os, "geteuid") and (status.st_uid not in (0, os.geteuid()) or status.st_mode & _OTHERS_WRITE):
            raise _Refused("another user could have written it")
        content = file.read()
        data = content[len(_MAGIC) + _DIGEST :]
        if content[: len(_MAGIC) + _DIGEST] != _MAGIC + _digest(name, data):
            raise _Refused("it is not what was written")
        if status.st_mtime < time.time() - _DAY:  # its last use, for `_make_room`
            with contextlib.suppress(OSError):
                os.utime(handle if os.utime in os.supports_fd else file.name)
    return data


def _digest(name: str, data: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + data).digest()


# Where files are kept.


def _make(wanted: str) -> None:
    """Make a folder, and those above it, for this user alone."""
    if not os.path.isdir(wanted):
        above = os.path.dirname(wanted)
        if above != wanted:
            _make(above)
        with contextlib.suppress(FileExistsError):
            os.mkdir(wanted, 0o700)
        _trusted.pop(wanted, None)


def _elsewhere(wanted: str | None, fault: str) -> str | None:
    """A temporary folder, and a warning that says why."""
    if not _temporary or not os.path.isdir(_temporary[0]):
        _temporary.clear()
        with contextlib.suppress(OSError):
            made = os.path.realpath(tempfile.mkdtemp(prefix="autobatch-"))
            atexit.register(_remove, made, os.getpid())
            if not _fault(made):
                _temporary.append(made)
    where = f"they are cached in {_temporary[0]} until the process ends" if _temporary else "they are not cached"
    what = f"{wanted} cannot be used" if wanted else "there is no folder"
    _warn("elsewhere", f"kernel cache: {what} for compiled functions ({fault}); {where}")
    return _temporary[0] if _temporary else None


def _remove(path: str, process: int) -> None:
    if os.getpid() == process:  # and not a fork of it
        shutil.rmtree(path, ignore_errors=True)


def _files(path: str) -> list[tuple[float, int, str]]:
    """Last use, bytes and path of each file of the cache in a folder."""
    found = []
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    found.append((status.st_mtime, status.st_size, entry.path))
    return found


def _make_room(path: str, written: int) -> None:
    """Remove the least recently used files while the total is too large."""
    most = limit()
    is_first = not _since_look
    _since_look.append(written)
    if not is_first and sum(_since_look) < most // 20:
        return
    _since_look[:] = [0]
    files = sorted(_files(path))
    total = sum(size for _, size, _ in files)
    if total > most:
        for _, size, file in files:
            with contextlib.suppress(OSError):
                os.unlink(file)
            total -= size
            if total <= most * 9 // 10:
                break
    with contextlib.suppress(OSError):
        clear_unfinished(path)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _warn(kind: str, text: str) -> None:
    if kind not in _warned:
        _warned.add(kind)
        warnings.warn(text, CacheWarning, stacklevel=_level())


def _level() -> int:
    """How far up the first frame is that is neither the library's nor Numba's."""
    level, frame = 0, sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("autobatch", "numba"):
        level, frame = level + 1, frame.f_back  # type: ignore[assignment]
    return level + 1
