"""What the code of a function reads: from its bytecode, and through what wraps it."""

from __future__ import annotations

import dis
import functools
import os
import sys
import types
from typing import Any, NamedTuple

from ..choice import compiled

_GLOBALS = frozenset(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"))
_ATTRIBUTES = frozenset(("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "IMPORT_FROM"))


class Reads(NamedTuple):
    """What code reads: names of globals, of attributes (and strings that may be some), of Python modules that it
    imports, and names that it counts up."""

    globals: tuple[str, ...]
    attributes: frozenset[str]
    imports: tuple[str, ...]
    counters: frozenset[str]


@functools.lru_cache(maxsize=4096)
def reads_of(code: types.CodeType) -> Reads:
    loaded: dict[str, None] = {}
    imported: dict[str, None] = {}
    attributes: set[str] = set()
    counters: set[str] = set()
    waiting = [code]
    while waiting:
        here = waiting.pop()
        waiting += [c for c in here.co_consts if isinstance(c, types.CodeType)]
        attributes.update(c for c in here.co_consts if isinstance(c, str) and c.isidentifier())
        since = 99
        for instruction in dis.get_instructions(here):
            name = instruction.opname
            since = 0 if name == "BINARY_OP" and instruction.argrepr.endswith("=") else since + 1
            if name in _GLOBALS:
                loaded[instruction.argval] = None
            elif name in _ATTRIBUTES:
                attributes.add(instruction.argval)
            elif name == "IMPORT_NAME":
                imported[instruction.argval] = None
            elif name in ("STORE_GLOBAL", "STORE_ATTR") and since < 4:
                counters.add(instruction.argval)
    return Reads(tuple(loaded), frozenset(attributes), tuple(imported), frozenset(counters))


@functools.lru_cache(maxsize=1024)
def is_installed(package: str) -> bool:
    """Whether a package is of the standard library, or installed beside it."""
    file = getattr(sys.modules.get(package), "__file__", None)
    if file is None:
        return package in sys.stdlib_module_names
    return "-packages" in file or file.startswith(os.path.dirname(os.__file__))


def package_of(module: Any) -> str:
    return str(module or "").partition(".")[0]


FUNCTIONS = (types.FunctionType,) if compiled is None else (types.FunctionType, type(compiled.entry_function))
"""Classes of functions: Python's, and those of the compiled recorder, as which cells are called."""


def plain(x: Any) -> types.FunctionType | None:
    """The function behind a cell, a bound, class or static method, or a callable object."""
    if isinstance(x, functools.partial):
        return plain(x.func)
    x = getattr(x, "__func__", x)
    if isinstance(x, FUNCTIONS):
        return x.__dict__["cell"].fn if "cell" in x.__dict__ else x
    call = type(x).__call__ if callable(x) else None
    return call if isinstance(call, FUNCTIONS) else None


def wrapped(x: Any) -> Any:
    """What a class or static method, a cached property or a cached function is made of."""
    if isinstance(x, staticmethod | classmethod):
        return x.__func__
    if isinstance(x, functools.cached_property):
        return x.func
    return x.__wrapped__ if isinstance(x, functools._lru_cache_wrapper) else None


def is_filled(variable: types.CellType) -> bool:
    """Whether a variable of a closure is bound."""
    try:
        variable.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
