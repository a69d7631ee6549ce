"""Kernels on the CPU: the CUDA C of a program, built as C++ by g++ and started on host memory.

Everything works on addresses, as a device does. Shared libraries are kept by the hash of their source.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import itertools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from autobatch.backends.cuda import HEADER
from autobatch.base import disk

COMPILER = shutil.which("g++") or ""
MISSING = "" if COMPILER else "there is no C++ compiler (g++) to build kernels with"
"""Why kernels cannot run here, or an empty string."""

EMULATED = (Path(__file__).parent / "emulated.h").read_text("utf-8")
_NAMES = re.compile(r"^AB_KERNEL (\w+)\(", re.MULTILINE)

Pointer = ctypes.POINTER(ctypes.c_longlong)


OPTIONS = ("-O0",)
"""Options for the compiler: arrays of tests are small, and building takes a quarter of the time."""


def distinct(sources: Sequence[str]) -> tuple[list[dict[str, str]], dict[str, str]]:
    """What the kernels of several programs are called when those of equal text are one, and the text of each: for every
    source, name → new name; new name → text."""
    entries: list[dict[str, str]] = []
    parts: dict[str, str] = {}
    for source in sources:
        kernels = source.removeprefix(HEADER)
        starts = [(match.start(), match[1]) for match in _NAMES.finditer(kernels)] + [(len(kernels), "")]
        here = {}
        for (start, name), (end, _) in itertools.pairwise(starts):
            text = kernels[start:end].replace(f"{name}(", "NAME(", 1)
            here[name] = parts.setdefault(text, f"kernel_{len(parts)}")
        entries.append(here)
    return entries, {name: text.replace("NAME(", f"{name}(", 1) for text, name in parts.items()}


def build(sources: Sequence[str]) -> list[dict[str, Any]]:
    """The kernels of several programs by name, built as one library; kernels of equal text are built once."""
    entries, texts = distinct(sources)
    lines = [EMULATED, HEADER]
    for name, text in texts.items():
        lines.append(text)
        lines.append(f'extern "C" long long start_{name}(long long blocks, long long threads, long long backwards,')
        lines.append("const long long* arguments) {")
        lines.append(f"    return ab_launch({name}, blocks, threads, backwards, arguments);\n}}")
    library = ctypes.CDLL(str(_library("\n".join(lines)))) if texts else None
    found = []
    for here in entries:
        kernels_of = {}
        for name, built in here.items():
            start = getattr(library, f"start_{built}")
            start.argtypes = [ctypes.c_longlong, ctypes.c_longlong, ctypes.c_longlong, Pointer]
            start.restype = ctypes.c_longlong
            kernels_of[name] = start
        found.append(kernels_of)
    return found


def _library(text: str) -> Path:
    key = hashlib.sha256("\0".join([text, *OPTIONS]).encode()).hexdigest()[:32]
    folder = Path(disk.folder() or tempfile.gettempdir()) / "stand_in"
    path = folder / f"kernels_{key}.so"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        source = folder / f"kernels_{key}_{os.getpid()}.cpp"
        source.write_text(text, "utf-8")
        made = source.with_suffix(".part")
        command = [COMPILER, "-std=c++17", "-shared", "-fPIC", "-w", *OPTIONS, str(source), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{source} was not built\n{done.stderr[:4000]}")
        os.replace(made, path)
        source.unlink()
    return path


_built: dict[str, dict[str, Any]] = {}
_backwards = [False]


def build_together(sources: Sequence[str]) -> None:
    """Build the kernels of several programs at once, so that `compiled` finds them."""
    new = [source for source in dict.fromkeys(sources) if source not in _built]
    _built.update(zip(new, build(new), strict=True))


def compiled(source: str, name: str) -> Any:
    """A kernel of a program."""
    if source not in _built:
        build_together([source])
    return _built[source][name]


def launch(kernel: Any, blocks: int, threads: int, arguments: tuple[int, ...]) -> None:
    """Run a kernel."""
    assert all(type(argument) is int for argument in arguments), arguments
    fault = kernel(blocks, threads, _backwards[0], (ctypes.c_longlong * len(arguments))(*arguments))
    assert not fault, "a kernel has no barrier between two of its phases"


@contextlib.contextmanager
def backwards() -> Iterator[None]:
    """Blocks, and threads between barriers, run from the last to the first inside the block."""
    _backwards[0] = True
    try:
        yield
    finally:
        _backwards[0] = False
