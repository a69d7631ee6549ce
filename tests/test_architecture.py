"""Imports go one way. This test reads the import statements; nothing is imported by it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import autobatch as ab

PACKAGE = Path(__file__).parent.parent / "autobatch"

ROOMS = [
    *(
        "tracebacks",
        "errors",
        "interrupts",
        "files",
        "disk",
        "jit",
        "guards",
        "stages",
        "collector",
        "references",
        "integers",
        "tasks",
        "forcing",
        "types",
        "backends",
        "ops",
        "graph",
        "compile",
        "run",
    ),
    *(
        "shared",
        "parameter",
        "signature",
        "tape",
        "gradient_flow",
        "tensor",
        "fast_ops",
        "random",
        "reductions",
        "numpy_functions",
    ),
    *(
        "guarding",
        "cell_arguments",
        "cell_fast",
        "cells",
        "patterns",
        "expansion",
        "planned",
        "finite",
        "running",
        "reverse",
        "engine",
        "grad",
    ),
    *("reuse", "mapping"),
    *("profile", "inspection", "reasons", "explain", "saving"),
    *("data", "nn", "optim", "models", "cli", "__main__"),
]
"""Files and folders of the package. Each imports from those before it, and from itself."""

UPWARD = {
    ("shared", "engine"): "x.backward() of a value made of parameters alone",
    ("tensor", "engine"): "x.numpy() and x.backward() run what is pending",
    ("tape", "tensor"): "the type of what a recording holds, for the type checker alone",
    ("saving", "nn"): "the type of what is saved, for the type checker alone",
}
"""Imports against the direction, each inside a function or for the type checker, and why they are there."""

LATE = {
    ("backends.device", "backends.cupy_device"): "loaded where a GPU is the backend",
    ("compile.lower", "backends.numba_verbs"): "loaded where Numba is the backend",
    ("compile.lower", "compile.cache"): "loaded where Numba is the backend",
    ("compile.lower", "compile.loops"): "loaded where Numba is the backend",
    ("ops.reduce", "ops.segment"): "a reduction over rows becomes one over a list, whose file needs reductions",
}
"""Other imports inside functions."""

BUILT_ON_PUBLIC_NAMES = ("nn", "optim", "data", "models", "cli")
ALSO_ALLOWED = {
    "backends.cuda": {"HEADER"},
    "backends.device": {"Device", "current_device"},
    "backends.transfer": {"is_on_device", "to_device", "to_host"},
    "errors": None,
    "backends.parts": None,
    "parameter": None,
    "guards": {"Noted", "changed"},
    "disk": {"clear", "folder", "limit", "usage"},
    "jit": {"njit"},
    "interrupts": {"passing_on", "run_whole"},
    "random": {"in_mode", "initial_generator"},
    "reasons": {"batching_reasons"},
    "saving": {"as_array"},
    "tape": {"state"},
    "types": {"short_dtype"},
}
"""Names beside those of `autobatch` itself that the rooms built on it may use; None: all of the file."""


@cache
def modules() -> dict[str, Path]:
    """Name within the package, "" for the package itself → file."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(module: str) -> Iterator[tuple[str, str | None, str]]:
    """(module, name taken from it, "at once", "late" or "typing") of each import from within the package."""
    path = modules()[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    stack: list[tuple[ast.AST, str]] = [(ast.parse(path.read_text(encoding="utf-8")), "at once")]
    while stack:
        node, when = stack.pop()
        if isinstance(node, ast.FunctionDef):
            when = "late"
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            when = "typing"
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "autobatch":
                    yield name.name.removeprefix("autobatch").removeprefix("."), None, when
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(part for part in (*package[: len(package) - node.level + 1], node.module) if part)
            if not node.level:
                if (node.module or "").split(".")[0] != "autobatch":
                    continue
                base = (node.module or "").removeprefix("autobatch").removeprefix(".")
            for name in node.names:
                inner = f"{base}.{name.name}".removeprefix(".")
                yield (inner, None, when) if inner in modules() else (base, name.name, when)
        else:
            stack.extend((child, when) for child in ast.iter_child_nodes(node))


def room(module: str) -> str:
    return module.split(".")[0]


def test_every_room_is_listed() -> None:
    assert {room(m) for m in modules()} - {""} == set(ROOMS)


def test_imports_go_one_way() -> None:
    place = {name: k for k, name in enumerate(ROOMS)}
    upward = set()
    for module in modules():
        if not module:
            continue
        for target, _, when in imports(module):
            if not target or room(target) == room(module):
                continue
            if place[room(target)] >= place[room(module)]:
                assert when != "at once", f"{module} imports {target}, which stands above it"
                upward.add((room(module), room(target)))
    assert upward == set(UPWARD)


def test_imports_inside_functions_are_those_that_are_explained() -> None:
    late = set()
    for module in modules():
        for target, _, when in imports(module):
            if when == "late" and (room(module), room(target)) not in UPWARD:
                late.add((module, target))
    assert late == set(LATE)


def test_only_rooms_built_on_the_package_import_all_of_it() -> None:
    for module in modules():
        if any(target == "" and name is None for target, name, _ in imports(module)):
            assert room(module) in BUILT_ON_PUBLIC_NAMES, f"{module} imports all of autobatch"


@pytest.mark.parametrize("built", BUILT_ON_PUBLIC_NAMES)
def test_what_is_built_on_the_package_uses_public_names(built: str) -> None:
    public = {name for name in vars(ab) if not name.startswith("_")}
    for module in (m for m in modules() if room(m) == built):
        for target, name, _ in imports(module):
            if room(target) in BUILT_ON_PUBLIC_NAMES:
                continue
            if target == "":
                assert name is None or name in public, f"{module} takes {name}"
                continue
            assert target in ALSO_ALLOWED, f"{module} looks into autobatch.{target}"
            allowed = ALSO_ALLOWED[target]
            assert name is not None and not name.startswith("_"), f"{module} takes {name} from {target}"
            assert allowed is None or name in allowed, f"{module} takes {name} from {target}"
        tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ab":
                value = getattr(ab, node.attr)
                is_module = type(value).__name__ == "module"
                assert not is_module or node.attr in ("errors", "nn", "optim", "data"), f"{module} uses ab.{node.attr}"


PARTS = {"run.schedule": ("run.policies", "run.frontier")}
"""Files that hold a part of one stage alone."""


def test_stages_know_only_the_structures_of_each_other() -> None:
    """expand, schedule and place import the file of the structures, and nothing of one another."""
    for stage in ("run.expand", "run.schedule", "run.place"):
        targets = {target for target, _, _ in imports(stage)}
        assert targets <= {"run.program", "run.memory", "errors", "jit", *PARTS.get(stage, ())}
