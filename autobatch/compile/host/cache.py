"""Compiled loops: one function for each distinct source.

Input: the text of a module that defines `loop`. Output: that function, compiled on first call, or loaded from disk
where it was compiled before (`jit`). Invariants: the module's name is a digest of its text, so that it is the same in
every process; the text is run from memory and is never a file. Cost: a dictionary lookup for a known text, a
millisecond for a new one, and when it is called 2 ms if it is on disk, a tenth of a second to a whole one if it must be
compiled. `workers` compiles several new ones in parallel.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ...base.jit import argument_types

_loaded: dict[str, Callable[..., Any]] = {}
_lock = threading.Lock()


def load(source: str) -> Callable[..., Any]:
    """The function `loop` of a module text; the same object for the same text."""
    found = _loaded.get(source)
    if found is None:
        with _lock:
            found = _loaded.get(source)
            if found is None:
                found = _loaded[source] = _run(source)
    return found


def _run(source: str) -> Callable[..., Any]:
    name = f"autobatch_loop_{hashlib.sha256(source.encode()).hexdigest()[:32]}"
    module = ModuleType(name)
    module.__dict__["__source__"] = source
    exec(compile(source, f"<{name}>", "exec"), module.__dict__)
    sys.modules[name] = module  # where Numba looks when it loads what was compiled
    found: Callable[..., Any] = module.loop
    return found


def source_of(loop: Any) -> str:
    """The text that a loop was loaded from."""
    source: str = loop.py_func.__globals__["__source__"]
    return source


def is_compiled(loop: Any, arguments: str) -> bool:
    """Whether a loop was compiled for these arguments before, by this process or by another."""
    return bool(loop.is_kept(argument_types(arguments)))


def compile_for(loop: Any, arguments: str) -> None:
    """Compile a loop, or load it from disk.

    >>> loop = load("from autobatch.base.jit import njit\\n\\n@njit\\ndef loop(n, x):\\n    return x[n]\\n")
    >>> compile_for(loop, "int float32:1")
    >>> loop.signatures
    [(int64, Array(float32, 1, 'C', False, aligned=True))]
    """
    loop.compile(argument_types(arguments))
