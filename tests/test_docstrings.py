"""What docstrings of public names say: parameters, shapes of tensors, what is raised, and where a formula comes from.

Examples run as doctests."""

from __future__ import annotations

import ast
import inspect
import re
import runpy
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autobatch import nn, optim, structured

_reference = runpy.run_path(str(Path(__file__).parent.parent / "docs" / "reference.py"))
PARTS, public_names = _reference["PARTS"], _reference["public_names"]
PUBLIC = [named for part in PARTS for named in public_names(part)]
CALLED = {named.name: named.thing for named in PUBLIC if inspect.isclass(named.thing) or inspect.isroutine(named.thing)}
NAMED = [named for named in PUBLIC if named.name in CALLED]
OF_OURS = {nn.Buffer, nn.Lambda, nn.MLP, nn.Module, nn.Stack, optim.lr_scheduler.LRScheduler}
"""Classes of `nn` and `optim` whose docstring names no source: they are of no paper."""


def text_of(thing: Any) -> str:
    """A docstring without examples; of a class, with those that it inherits."""
    held = thing.__mro__ if inspect.isclass(thing) else [thing]
    docs = [inspect.getdoc(x) or "" for x in held if x.__module__.startswith("autobatch")]
    return re.sub(r"^(>>>|\.\.\.).*$", "", "\n".join(docs), flags=re.MULTILINE)


def with_others(thing: Any) -> str:
    """The same, and what it refers to by name, as in "as `sum`"."""
    text = text_of(thing)
    others = (CALLED.get(name.split(".")[-1]) for name in re.findall(r"`(\w+(?:\.\w+)*)`", text))
    return "\n".join([text, *(text_of(other) for other in others if other is not None)])


def functions_of(thing: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    """A function, or the constructor and public methods of a class, as they were written."""
    if not inspect.isclass(thing):
        yield "", inspect.unwrap(thing)
        return
    for name, member in vars(thing).items():
        function = inspect.unwrap(getattr(member, "__func__", member))
        is_ours = inspect.isfunction(function) and function.__module__.startswith("autobatch")
        if is_ours and (not name.startswith("_") or name == "__init__"):
            yield name, function


def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    listed = list(inspect.signature(function).parameters.values())
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p for p in listed if p.name not in ("self", "cls") and p.name[0] != "_" and p.kind not in kinds]


def raises(function: Callable[..., Any], seen: set[Any]) -> bool:
    """Whether its own lines raise, or those of functions of its module that it calls."""
    if function in seen or not inspect.isfunction(function):  # the compiled recorder's have no text to read
        return False
    seen.add(function)
    if function.__code__.co_filename == "<string>" or function.__qualname__.startswith("__create_fn__"):
        return False
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        if isinstance(node, ast.Raise) and node.exc is not None:
            return True
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called = inspect.unwrap(function).__globals__.get(node.func.id)
            if inspect.isfunction(called) and called.__module__ == function.__module__ and raises(called, seen):
                return True
    return False


@pytest.mark.parametrize("part", PARTS)
def test_every_public_name_has_a_docstring_with_an_example_that_runs(part: str) -> None:
    """The examples run as doctests of the module that a name comes from."""
    for _, name, thing in public_names(part):
        if inspect.isclass(thing) or inspect.isroutine(thing):
            assert ">>> " in (inspect.getdoc(thing) or ""), f"{part}.{name} has no example"


def test_every_parameter_is_named() -> None:
    unnamed = []
    for part, name, thing in NAMED:
        if inspect.isclass(thing) and issubclass(thing, BaseException):
            continue
        text = with_others(thing)
        for method, function in functions_of(thing):
            if method in ("", "__init__"):
                words = set(re.findall("[A-Za-z_0-9]+", text))
                unnamed += [f"{part}.{name}: {p.name}" for p in parameters_of(function) if p.name not in words]
    assert unnamed == []


def test_what_raises_says_so() -> None:
    silent = []
    for part, name, thing in NAMED:
        for method, function in functions_of(thing):
            said = f"{with_others(thing)}\n{text_of(function)}"
            if raises(function, set()) and not re.search("[Rr]aise|Error", said):
                silent.append(f"{part}.{name}.{method}")
    assert silent == []


SHAPES = r"\w\[[^\]]*\]|[Ss]calar|[Ee]lementwise|\baxis\b|\baxes\b|\bshape\b|[Vv]ector|[Mm]atri|[Ee]ach number"


def test_what_takes_tensors_says_of_which_shapes() -> None:
    """Functions, and `forward` of layers, which says what comes out, too."""
    silent = []
    for part, name, thing in NAMED:
        for method, function in functions_of(thing):
            takes = any("Tensor" in str(p.annotation) for p in parameters_of(function))
            if method == "" and takes and not re.search(SHAPES, with_others(thing)):
                silent.append(f"{part}.{name}")
            if method == "forward" and takes and not re.search("→|As `", text_of(function)):
                silent.append(f"{part}.{name}.forward")
    assert silent == []


def test_what_comes_from_elsewhere_says_from_where() -> None:
    """Layers, optimisers, schedules, and sums over structures: a paper by its year, or what has it by the same name."""
    silent = []
    for name in structured.__all__:
        thing = getattr(structured, name)
        if callable(thing) and not re.search(r"\b(19|20)\d\d\b", with_others(thing)):
            silent.append(name)
    for part, name, thing in NAMED:
        if part.startswith(("autobatch.nn", "autobatch.optim")) and inspect.isclass(thing) and thing not in OF_OURS:
            own = re.sub(r"^(>>>|\.\.\.).*$", "", inspect.getdoc(thing) or "", flags=re.MULTILINE)
            others = [CALLED[other] for other in re.findall(r"`(\w+)`", own) if other in CALLED]
            texts = [own, *(inspect.getdoc(other) or "" for other in others)]
            if not any(re.search(r"\b(19|20)\d\d\b|PyTorch|torch\.", text) for text in texts):
                silent.append(f"{part}.{name}")
    assert silent == []


def test_the_checks_see_what_they_are_for() -> None:
    """An error of a helper, a parameter that is not named, text that is an example, and a name that is referred to."""

    def silent(index: int, other: int = 0) -> int:
        """Something of `sum`.

        >>> index = 1
        """
        return index + other

    silent.__module__ = "autobatch"
    assert raises(inspect.unwrap(structured.linear_chain), set()) and not raises(silent, set())
    assert "index" not in text_of(silent) and "keepdims" in with_others(silent)
    assert [p.name for p in parameters_of(silent)] == ["index", "other"]
