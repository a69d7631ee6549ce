"""The functions of Python's own standard library, module by module: real programs that every Python brings along.

Input: the folder of the library's sources. Output: its largest modules, each with its outermost functions as `ast`
nodes. Tests are left out, and so is what does not parse. Only files that can be among the largest are parsed: the word
`def` stands in a file at least as often as it has functions, so files are parsed in the order of that count until no
further one can have more functions than those already chosen. O(bytes of the library).
"""

from __future__ import annotations

import ast
import os
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..base.errors import message

__all__ = ["LibraryModule", "largest_modules", "outermost_functions"]

Function = ast.FunctionDef | ast.AsyncFunctionDef

_NOT_LIBRARY = {"test", "tests", "idle_test", "site-packages", "dist-packages", "lib-dynload", "__pycache__"}


@dataclass(frozen=True, slots=True)
class LibraryModule:
    """A module and its outermost functions in the order of its source."""

    name: str
    functions: tuple[Function, ...]


def outermost_functions(module: ast.Module) -> tuple[Function, ...]:
    """The functions of a module that stand in no other function, methods included, in the order of the source.

    >>> source = "def f():\\n  def inner(): pass\\nclass C:\\n  def method(self): pass"
    >>> [function.name for function in outermost_functions(ast.parse(source))]
    ['f', 'method']
    """
    found: list[Function] = []
    pending: list[ast.AST] = [module]
    while pending:
        node = pending.pop()
        if isinstance(node, Function):
            found.append(node)
        elif isinstance(node, (ast.Module, ast.stmt, ast.ExceptHandler, ast.match_case)):
            pending.extend(reversed(list(ast.iter_child_nodes(node))))
    return tuple(found)


def largest_modules(count: int = 20, root: str | os.PathLike[str] | None = None) -> list[LibraryModule]:
    """The `count` modules with the most outermost functions, largest first, equal ones by name.

    Arguments:
        count: how many; fewer are returned if there are no more.
        root: folder of the library; by default that of the running Python. A module that is not there, such as tkinter
            on some systems, makes room for the next one.

    Raises:
        FileNotFoundError: the folder has no module with a function, as where only compiled files are installed.

    >>> module = largest_modules(1)[0]
    >>> len(module.functions) > 100
    True
    """
    folder = Path(root if root is not None else sysconfig.get_path("stdlib"))
    candidates = sorted(((source.count(b"def"), name, source) for name, source in _sources(folder)), reverse=True)
    largest: list[LibraryModule] = []
    for most, name, source in candidates:
        if len(largest) == count and most < len(largest[-1].functions):
            break
        try:
            functions = outermost_functions(ast.parse(source))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        if functions:
            largest.append(LibraryModule(name, functions))
            largest.sort(key=lambda module: (-len(module.functions), module.name))
            del largest[count:]
    if not largest:
        raise FileNotFoundError(
            message(
                "largest_modules: no functions found",
                expected=f"Python sources in {folder}",
                got="none that can be read",
                repair="use a Python whose standard library is installed with its sources",
            )
        )
    return largest


def _sources(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and source of every module that is no test."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _NOT_LIBRARY and not name.startswith("config-"))
        for file in sorted(files):
            if file.endswith(".py") and not re.match(r"test_|.*_test\.py$", file):
                path = Path(place, file)
                parts = path.relative_to(folder).with_suffix("").parts
                try:
                    yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path.read_bytes()
                except OSError:
                    continue
