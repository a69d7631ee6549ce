"""Compiled loops, kept: one content-addressed module per distinct source.

Input: the text of a module that defines `loop`. Output: that function, compiled on first call. Invariants: the file's
name is the SHA-256 of its text, of the functions it calls, of Python, Numba and llvmlite and of the CPU, so a
file never changes after it was written; it is written to a temporary name and renamed, so readers never see a part of
it; Numba's own index lies beside it. Cost: a dictionary lookup for a known text, 2-3 ms for one known on disk, a tenth
of a second to a whole one for a new one. `workers` compiles several new ones side by side.

The folder is AUTOBATCH_CACHE_DIR, or ~/.cache/autobatch; where it cannot be written, a temporary one of this process.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ..backends import parts, scalar_functions

_LLVM_OPTION = "--runtime-memory-check-threshold=1000"
"""Loops read and write a dozen arrays; LLVM vectorises them only if it may compare all of their addresses first."""

llvmlite.binding.set_option("", _LLVM_OPTION)

_NO_ALIAS = "arrays of a loop do not overlap"

_loaded: dict[str, Callable[..., Any]] = {}
_modules: dict[str, Callable[..., Any]] = {}
_lock = threading.Lock()
_fallback: list[tempfile.TemporaryDirectory[str]] = []
_salt: list[bytes] = []


def cache_folder() -> Path:
    """Where generated modules are kept."""
    chosen = os.environ.get("AUTOBATCH_CACHE_DIR")
    return Path(chosen) if chosen else Path.home() / ".cache" / "autobatch"


def _environment() -> bytes:
    if not _salt:
        texts = (
            _LLVM_OPTION,
            _NO_ALIAS,
            sys.version,
            numba.__version__,
            llvmlite.__version__,
            llvmlite.binding.get_host_cpu_name(),
            llvmlite.binding.get_host_cpu_features().flatten(),
            *(Path(str(module.__file__)).read_text("utf-8") for module in (scalar_functions, parts)),
        )
        _salt.append("\0".join(texts).encode())
    return _salt[0]


def key_of(source: str) -> str:
    """The name under which a source is kept.

    >>> len(key_of("def loop(): pass"))
    32
    """
    return hashlib.sha256(source.encode() + b"\0" + _environment()).hexdigest()[:32]


def _write(folder: Path, name: str, source: str) -> Path:
    path = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(source)
        os.utime(temporary, (1, 1))  # Numba's index holds the time: equal for whoever writes this text
        os.replace(temporary, path)
    elif not os.access(folder, os.W_OK):
        raise OSError(f"{folder} is read-only")
    return path


def _file(source: str) -> Path:
    name = f"loop_{key_of(source)}.py"
    try:
        return _write(cache_folder(), name, source)
    except OSError:
        if not _fallback:
            _fallback.append(tempfile.TemporaryDirectory(prefix="autobatch-"))
        return _write(Path(_fallback[0].name), name, source)


def _without_aliases(flags: Any) -> Any:
    """Compiler flags that promise what `loops` holds: what a loop writes through one array it touches through no other.

    Numba's decorator has no option for it. Without the promise LLVM compares the addresses of all arrays for every row.
    """
    flags.noalias = True
    return flags


def load(source: str) -> Callable[..., Any]:
    """The function `loop` of a module text; the same object for the same text."""
    found = _loaded.get(source)
    if found is None:
        with _lock:
            found = _loaded.get(source)
            if found is None:
                found = _loaded[source] = load_file(_file(source))
    return found


def load_file(path: Path) -> Callable[..., Any]:
    """The function `loop` of a module that is on disk."""
    found = _modules.get(str(path))
    if found is not None:
        return found
    spec = importlib.util.spec_from_file_location(f"autobatch_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Numba pickles by module name
    spec.loader.exec_module(module)
    module.loop._compiler._customize_flags = _without_aliases
    return _modules.setdefault(str(path), module.loop)


def path_of(loop: Callable[..., Any]) -> Path:
    """The module that a loop was loaded from."""
    return Path(loop.__code__.co_filename)


def is_compiled(loop: Any) -> bool:
    """Whether a loop was compiled before, by this process or by another."""
    return bool(loop.signatures) or os.path.exists(loop._cache._cache_file._index_path)


def compile_for(loop: Any, arguments: str) -> None:
    """Compile a loop, or load it from disk: `arguments` are "int", or dtype and number of axes of a contiguous array.

    >>> source = "from numba import njit\\n\\n@njit\\ndef loop(n, x):\\n    return x[n]\\n"
    >>> compile_for(load(source), "int float32:1")
    >>> load(source).signatures
    [(int64, Array(float32, 1, 'C', False, aligned=True))]
    """
    found = []
    for text in arguments.split():
        dtype, _, rank = text.partition(":")
        found.append(types.Array(from_dtype(np.dtype(dtype)), int(rank), "C") if rank else types.intp)
    loop.compile(tuple(found))
