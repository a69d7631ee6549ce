"""Imports go one way. This test reads the import statements; nothing is imported by it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import autobatch as ab

PACKAGE = Path(__file__).parent.parent / "autobatch"

ROOMS = (
    *("base", "ops", "backends", "ir", "schedule", "compile", "run", "record", "expand", "engine", "map", "explain"),
    *("errors", "nn", "structured", "optim", "data", "train", "models", "demo", "__main__"),
)
"""Folders of the package, and its two files. Each imports from those before it, and from itself."""

LATE = {
    ("backends.device", "backends.cuda.cupy_device"): "loaded where a GPU is the backend",
}
"""Imports inside functions, and why they are there."""

BUILT_ON_PUBLIC_NAMES = ("nn", "structured", "optim", "data", "train", "models", "demo")
PUBLIC_MODULES = ("errors", "nn", "structured", "optim", "data", "train")
ALSO_ALLOWED = {
    "backends": {"current_backend"},
    "backends.cuda": {"HEADER"},
    "backends.device": {"Device", "current_device"},
    "backends.host.parts": None,
    "backends.transfer": {"is_on_device", "to_device", "to_host"},
    "base.disk": {"clear", "folder", "limit", "usage"},
    "base.errors": None,
    "base.extras": None,
    "base.files": None,
    "base.interrupts": {"passing_on", "run_whole"},
    "base.jit": {"njit"},
    "base.module_epoch": {"Noted", "changed"},
    "base.notebooks": {"card", "table"},
    "base.progress": {"bars"},
    "base.types": {"short_dtype"},
    "compile.cuda.scalars": {"in_c"},
    "compile.host.cache": {"load"},
    "explain.reasons": {"batching_reasons"},
    "record.layers": {"called_by_forward", "known_forward", "known_row"},
    "record.parameter": None,
    "record.random": {"initial_generator"},
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
    for module in filter(None, modules()):
        for target, _, _ in imports(module):
            if target:
                assert place[room(target)] <= place[room(module)], f"{module} imports {target}, which stands above it"


def test_imports_inside_functions_are_those_that_are_explained() -> None:
    late = set()
    for module in modules():
        for target, _, when in imports(module):
            if when == "late":
                late.add((module, target))
    assert late == set(LATE)


def test_only_rooms_built_on_the_package_import_all_of_it() -> None:
    for module in modules():
        if any(target == "" and name is None for target, name, _ in imports(module)):
            assert room(module) in BUILT_ON_PUBLIC_NAMES, f"{module} imports all of autobatch"


def test_no_private_name_is_imported_from_another_module() -> None:
    for module in modules():
        for target, name, _ in imports(module):
            assert not (name or "").startswith("_"), f"{module} imports {name} from {target}"


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
            assert name is not None and (allowed is None or name in allowed), f"{module} takes {name} from {target}"
        tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ab":
                value = getattr(ab, node.attr)
                is_public = type(value).__name__ != "module" or node.attr in PUBLIC_MODULES
                assert is_public, f"{module} uses ab.{node.attr}"


PARTS = {
    "schedule.schedule": {
        *("backends.host.arena", "schedule.policies", "schedule.policies.chains", "schedule.policies.policy"),
    },
    "schedule.place": {"backends.host.arena", "schedule.free_rows"},
    "expand.cut": set(),
}
"""Stages, and files that hold a part of one alone."""


@pytest.mark.parametrize("stage", PARTS)
def test_stages_know_only_the_structures_of_each_other(stage: str) -> None:
    """Expand, schedule and place import the file of the structures, and nothing of one another."""
    targets = {target for target, _, _ in imports(stage) if room(target) != "base"}
    assert targets <= {"schedule.structures"} | PARTS[stage]


def test_every_room_says_what_is_in_it() -> None:
    """Its docstring is a map: each of its files is named there."""
    for module, path in modules().items():
        if path.name == "__init__.py" and room(module) not in ("", *BUILT_ON_PUBLIC_NAMES[:-1]):
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            for inner in modules():
                parent, _, name = inner.rpartition(".")
                assert parent != module or f"`{name}`" in text or f"`{name}/`" in text, (
                    f"autobatch/{module} does not say what {inner} is"
                )


def test_what_is_long_says_why() -> None:
    """Files have up to 450 lines; functions that Python runs have up to 80 lines and 8 arguments, or give a reason."""
    for module, path in modules().items():
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 450, f"{module} is long"
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                if any(re.search("njit|compiled", ast.unparse(decorator)) for decorator in node.decorator_list):
                    continue
                names = {a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
                why = f"{ast.get_docstring(tree)} {ast.get_docstring(node)}"
                assert (node.end_lineno or 0) - node.lineno < 80 or "so long" in why, f"{module}.{node.name} is long"
                has_reason = re.search("(many|more than 8) arguments", why)
                assert len(names - {"self", "cls"}) <= 8 or has_reason, f"{module}.{node.name} has many arguments"
