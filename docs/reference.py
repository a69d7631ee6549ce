"""Writes the reference: a page for each part of the library, with every public name and its docstring, as Markdown.

    python docs/reference.py docs/reference

Docstrings are plain text with a few conventions: paragraphs, lines such as `x: f32[n, d]`, headings such as
`Arguments:`, indented blocks, and examples that begin with `>>>`.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

TITLES = {
    "autobatch": "The library: values, ops, recording, differentiation",
    "autobatch.nn": "Layers and modules",
    "autobatch.nn.init": "Initial values of parameters",
    "autobatch.optim": "Optimisers",
    "autobatch.optim.lr_scheduler": "Schedules of the learning rate",
    "autobatch.optim.swa_utils": "Averages of parameters",
    "autobatch.train": "Training, evaluation and checkpoints",
    "autobatch.data": "Trees, files and minibatches",
    "autobatch.models": "Models ready to train",
    "autobatch.errors": "Errors",
}
"""What is in public modules; of others their docstring says it."""


def parts() -> dict[str, str]:
    """Public modules and their titles: those above, and what the public names of these lead to."""
    found = dict(TITLES)
    waiting = list(TITLES)
    for module in waiting:
        held = importlib.import_module(module)
        for name in getattr(held, "__all__", ()):
            inner = getattr(held, name)
            if isinstance(inner, types.ModuleType) and inner.__name__ not in found:
                found[inner.__name__] = (inner.__doc__ or name).splitlines()[0].rstrip(".")
                waiting.append(inner.__name__)
    return found


PARTS = parts()

GROUPS = {
    "Values": "base.types ops.value record.array_api record.creation record.parameter record.recorder",
    "Mapping and cells": "map record.cells",
    "Running and looking": "engine errors explain",
    "Derivatives": "record.grad record.jacobians record.modes",
    "Losses": "ops.losses",
    "Nonlinearities": "ops.nonlinearities",
    "Products and matrices": "ops.decompositions ops.einsum ops.linalg ops.matrices record.attention"
    " record.convolution",
    "Reductions": "ops.scan ops.segments ops.sorting record.reductions",
    "Shapes and indices": "ops.gathering ops.movement ops.shapes record.view_paths",
    "Random numbers": "record.random",
    "Saving": "nn.saving",
    "Backends, schedules, threads": "backends schedule",
}
"""Headings of the page of the library itself, and the modules and rooms whose names stand below them; others are
elementwise ops."""

OTHERS = {
    "Derivatives": "flip_gradient stop_gradient",
    "Losses": "cross_entropy squared_error",
    "Nonlinearities": "log_softmax relu sigmoid softmax softplus tanh",
    "Products and matrices": "layer_norm",
    "Reductions": "all any count_nonzero logsumexp norm",
    "Shapes and indices": "concat one_hot pad split",
    "Backends, schedules, threads": "recorder",
}
"""Names that stand below another heading than those of their module."""

HEADINGS = {place: heading for heading, places in GROUPS.items() for place in places.split()}
HEADING_OF = {name: heading for heading, names in OTHERS.items() for name in names.split()}
ORDER = [*GROUPS, "Elementwise ops"]


class Named(NamedTuple):
    """A public name: its module, the name, and what it is."""

    module: str
    name: str
    thing: Any


def public_names(module: str) -> list[Named]:
    """The public names of a module that are not modules themselves, in alphabetical order."""
    held = importlib.import_module(module)
    names = getattr(held, "__all__", None)
    if names is None:
        names = [n for n, x in vars(held).items() if not n.startswith("_") and getattr(x, "__module__", "") == module]
        names = [n for n in names if inspect.isroutine(getattr(held, n)) or inspect.isclass(getattr(held, n))]
    found = [Named(module, name, getattr(held, name)) for name in sorted(names, key=str.lower)]
    return [named for named in found if not isinstance(named.thing, types.ModuleType)]


def group_of(named: Named) -> str:
    """The heading that a name of the library itself stands below."""
    if named.name in HEADING_OF:
        return HEADING_OF[named.name]
    thing = inspect.unwrap(named.thing) if callable(named.thing) else named.thing
    home = str(getattr(thing, "__module__", "")).removeprefix("autobatch.")
    while home:
        if home in HEADINGS:
            return HEADINGS[home]
        home = home.rpartition(".")[0]
    return "Values" if not callable(named.thing) else "Elementwise ops"


def page(module: str) -> str:
    """The page of a module."""
    lines = [f"# `{module}`", "", PARTS[module] + ".", ""]
    groups: dict[str, list[Named]] = {}
    for named in public_names(module):
        groups.setdefault(group_of(named) if module == "autobatch" else "", []).append(named)
    for group in sorted(groups, key=lambda g: ORDER.index(g) if g else -1):
        if group:
            lines += [f"## {group}", ""]
        for named in groups[group]:
            lines += [*entry(named), ""]
    return "\n".join(lines)


def entry(named: Named) -> Iterator[str]:
    """The description of a name, and of the public methods of a class."""
    thing, is_class = named.thing, inspect.isclass(named.thing)
    role = "class" if is_class else "function" if callable(thing) and hasattr(thing, "__name__") else "data"
    if is_class and issubclass(thing, BaseException):
        role = "exception"
    fence = "`" * (5 if is_class else 4)
    yield f"{fence}{{py:{role}}} {named.name}{'' if role in ('data', 'exception') else signature(thing)}"
    yield f":module: {named.module}"
    yield ""
    yield markdown(inspect.getdoc(thing) or "") if role != "data" or is_documented(thing) else f"`{str(thing)[:200]}`"
    if is_class:
        for name, member in vars(thing).items():
            function = member.__func__ if isinstance(member, staticmethod | classmethod) else member
            if name.startswith("_") or not (callable(function) or isinstance(member, property)):
                continue
            if isinstance(function, type) or not (doc := inspect.getdoc(member)):
                continue
            yield ""
            if isinstance(member, property):
                yield f"````{{py:property}} {name}"
            else:
                yield f"````{{py:method}} {name}{signature(function, True)}"
            yield from ("", markdown(doc), "````")
    yield fence


def is_documented(thing: Any) -> bool:
    """Whether something that is neither function nor class has a docstring of its own."""
    return getattr(thing, "__doc__", None) != type(thing).__doc__ and bool(getattr(thing, "__doc__", None))


def signature(thing: Any, is_method: bool = False) -> str:
    """Parameters with types and defaults, as they were written."""
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):
        return "()"
    parts = list(found.parameters.values())
    if is_method and parts and parts[0].name in ("self", "cls"):
        parts = parts[1:]
    text = str(found.replace(parameters=parts))
    text = re.sub(r": '([^']*)'", r": \1", text)
    text = re.sub(r" -> '([^']*)'", r" -> \1", text)
    return re.sub(r"<[^>]*>", "…", text)


def markdown(doc: str) -> str:
    """A docstring as Markdown."""
    lines = []
    for block in re.split(r"\n[ \t]*\n", doc):
        lines += ["", *_block(block)]
    return "\n".join(lines).strip("\n")


_ITEM = re.compile(r"^(\*{0,2}[\w`.]+(?:, \*{0,2}[\w`.]+)*)(?: \([^)]*\))?:(?: |$)")


def _block(block: str) -> list[str]:
    lines = block.splitlines()
    if ">>>" in lines[0]:
        text = textwrap.dedent(block)
        return ["```pycon", *[re.sub(r"  # doctest: .*", "", line) for line in text.splitlines()], "```"]
    if lines[0].startswith(" "):
        return ["```text", *textwrap.dedent(block).splitlines(), "```"]
    found: list[str] = []
    for k, line in enumerate(lines):
        if line.startswith(" ") and k and (found[-1].endswith(":") or _ITEM.match(line.strip())):
            found.append(f"- {escaped(line.strip())}")
        elif line.startswith(" "):
            found[-1] += " " + escaped(line.strip())
        elif _ITEM.match(line) and (k == 0 or found[-1].startswith("- ")) and len(lines) > 1:
            found.append(f"- {escaped(line)}")
        elif found and found[-1].startswith("- "):
            found[-1] += " " + escaped(line)
        else:
            found.append(escaped(line))
    spaced: list[str] = []
    for line in found:
        if line.startswith("- ") and spaced and not spaced[-1].startswith("- "):
            spaced.append("")
        spaced.append(line)
    return spaced


def escaped(line: str) -> str:
    """A line of text, where nothing but backticks is Markdown."""
    parts = line.split("`")
    for k in range(0, len(parts), 2):
        text = re.sub(r"([\\*<\[\]{}|~$])", r"\\\1", parts[k])
        text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\_", text)
        parts[k] = re.sub(r"^([#%>+=-]|\d+\.)", r"\\\1", text) if k == 0 else text
    return "`".join(parts)


def write(folder: Path) -> None:
    """Write all pages; those that have not changed are left as they are."""
    folder.mkdir(exist_ok=True)
    pages = {module.replace(".", "_"): page(module) for module in PARTS}
    names = "\n".join(pages)
    pages["index"] = f"# Reference\n\nEvery public name, by module.\n\n```{{toctree}}\n:maxdepth: 2\n\n{names}\n```\n"
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
