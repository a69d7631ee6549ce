"""Choosing the largest modules of a library and finding their outermost functions."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest

from autobatch.data.standard_library import largest_modules, outermost_functions

SOURCE = """
import os
def first():
    class Local:
        def inside(self): pass
    def nested(): pass
    return lambda: nested
class Outer:
    def method(self): pass
    class Inner:
        async def deep(self): pass
if os.name == "posix":
    def chosen(): pass
elif os.name:
    for _ in ():
        def looped(): pass
else:
    try:
        def tried(): pass
    except ImportError:
        def caught(): pass
    finally:
        with os:
            def last(): pass
match os:
    case 1:
        def matched(): pass
"""


def test_outermost_functions_in_the_order_of_the_source() -> None:
    names = [function.name for function in outermost_functions(ast.parse(SOURCE))]
    assert names == ["first", "method", "deep", "chosen", "looped", "tried", "caught", "last", "matched"]


def write(folder: Any, **modules: Any) -> None:
    for name, n_functions in modules.items():
        path = folder.joinpath(*name.split("/")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(f"def f{number}(): pass" for number in range(n_functions)))


def test_the_largest_modules_come_first_and_equal_ones_by_name(tmp_path: Path) -> None:
    write(tmp_path, small=1, b=3, a=3, empty=0, **{"package/large": 5, "package/__init__": 4})
    found = largest_modules(4, tmp_path)
    assert [(module.name, len(module.functions)) for module in found] == [
        ("package.large", 5),
        ("package", 4),
        ("a", 3),
        ("b", 3),
    ]
    assert [module.name for module in largest_modules(9, tmp_path)][4:] == ["small"]


def test_the_word_def_alone_makes_no_function(tmp_path: Path) -> None:
    write(tmp_path, real=2)
    tmp_path.joinpath("words.py").write_text("# def def def def\nundefined = 'def'\ndef f():\n  def g(): pass\n")
    found = largest_modules(2, tmp_path)
    assert [(module.name, len(module.functions)) for module in found] == [("real", 2), ("words", 1)]


def test_tests_other_packages_and_what_does_not_parse_are_left_out(tmp_path: Path) -> None:
    write(
        tmp_path,
        test_big=9,
        big_test=9,
        real=1,
        testing=2,
        **{"test/big": 9, "unit/tests/big": 9, "site-packages/big": 9, "config-3/big": 9},
    )
    tmp_path.joinpath("broken.py").write_text("def f(): pass\ndef")
    tmp_path.joinpath("nul.py").write_bytes(b"def f(): pass\0")
    assert [module.name for module in largest_modules(9, tmp_path)] == ["testing", "real"]


def test_a_library_without_sources_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="repair: use a Python whose standard library is installed"):
        largest_modules(root=tmp_path)


def test_the_library_of_this_python_has_twenty_modules_of_some_size() -> None:
    modules = largest_modules(20)
    sizes = [len(module.functions) for module in modules]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] > 50 and len(sizes) == 20
    assert all(module.name.partition(".")[0] in sys.stdlib_module_names for module in modules)
