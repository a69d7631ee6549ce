"""The generated door of a cell: straight-line code for one structure of arguments.

For `(self, (T, T), (T, T))` with two results the source is about

    def door(cell, args):
        tape = state.tape
        a0, a1, a2 = args
        if a1.__class__ is not tuple or len(a1) != 2: return MISS
        ...
        hit = tape.cache.get((TOKEN, id(cell), id(a0), a1_0._type, …))
        number, types, checked, … = hit
        if checked != epoch[0]: return MISS
        tape.stream += (number, a1_0._id, …)
        ...
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .errors import OpIndexError, message, user_line
from .guarding import unchanged
from .guards import epoch
from .tape import state
from .tensor import Tensor, is_user_code, known_row, user_place

MISS = object()

_doors: dict[Any, tuple[Callable[..., Any], object]] = {}


UNBOUNDED = 1 << 62


def limits(bounds: tuple[tuple[int, int], ...], n_numbers: int) -> tuple[int, ...] | None:
    """For each number of a call the length of the axis it indexes; None where none does."""
    if not bounds:
        return None
    smallest = [UNBOUNDED] * n_numbers
    for k, n in bounds:
        smallest[k] = min(smallest[k], n)
    return tuple(smallest)


def _out_of_range(index: int, n: int) -> None:
    raise OpIndexError(message(f"index {index} is out of range for an axis of {n}", where=user_line(2)))


def fast_path(structure: Any, outputs: Any, n_args: int, is_method: bool) -> tuple[Callable[..., Any], object] | None:
    """The door for this structure, or None where the structure has none."""
    shape = _shape(structure, is_method)
    results = _results(outputs)
    if shape is None or results is None:
        return None
    key = (shape, results)
    found = _doors.get(key)
    if found is None:
        found = _doors[key] = _generate(shape, results, n_args)
    return found


def _shape(structure: Any, is_method: bool) -> Any:
    """The structure without types and values; None where something in it is not covered."""
    parts: list[Any] = []
    for k, p in enumerate(structure):
        if k == 0 and is_method:
            parts.append("self")
            continue
        kind = p[0]
        if kind in ("T", "i", "f"):
            parts.append(kind)
        elif kind == "static" and p[1] in (bool, str, type(None)):
            parts.append("static")
        elif kind == "tuple" and p[1] is tuple and all(e[0] == "T" for e in p[2]):
            parts.append(("tuple", len(p[2])))
        elif kind == "empty":
            parts.append("empty")
        elif kind == "list" and p[1][0] == "T":
            parts.append(("list", 0))
        elif kind == "list" and p[1][0] == "tuple" and p[1][1] is tuple and all(e[0] == "T" for e in p[1][2]):
            parts.append(("list", len(p[1][2])))
        else:
            return None
    return tuple(parts)


def _results(outputs: Any) -> int | None:
    """0 for one tensor, n for a tuple of n tensors."""
    if outputs == ("leaf", 0):
        return 0
    if outputs[0] == "seq" and outputs[1] is tuple and all(p == ("leaf", k) for k, p in enumerate(outputs[2])):
        return len(outputs[2])
    return None


def _generate(shape: tuple[Any, ...], results: int, n_args: int) -> tuple[Callable[..., Any], object]:
    names = [f"a{k}" for k in range(n_args)]
    lines = [
        "def door(cell, args):",
        "    tape = state.tape",
        f"    if tape is None or len(args) != {n_args}: return MISS",
        f"    {', '.join(names)}{',' if n_args == 1 else ''} = args" if n_args else "    pass",
    ]
    key = ["TOKEN", "id(cell)"]
    owner = "0"
    stream: list[str] = []
    numbers: list[str] = []
    ints: list[str] = []
    floats: list[str] = []

    def tensor(name: str, indent: str = "    ") -> None:
        lines.append(f"{indent}if {name}.__class__ is not Tensor:")
        lines.append(f"{indent}    {name} = row_of({name}, tape)")
        lines.append(f"{indent}    if {name} is None: return MISS")
        lines.append(f"{indent}elif {name}._tape is not tape: return MISS")

    types: list[str] = []
    for name, part in zip(names, shape, strict=True):
        if part == "self":
            owner = f"id({name})"
        elif part == "T":
            tensor(name)
            types.append(f"{name}._type")
            stream.append(f"{name}._id")
        elif part in ("i", "f"):
            lines.append(f"    if {name}.__class__ is not {'int' if part == 'i' else 'float'}: return MISS")
            numbers.append(name)
            (ints if part == "i" else floats).append(name)
        elif part == "static":
            types.append(f"({name}.__class__, {name})")
        elif part == "empty":
            lines.append(f"    if {name}.__class__ is not list or {name}: return MISS")
        elif part[0] == "tuple":
            n = part[1]
            inner = [f"{name}_{i}" for i in range(n)]
            lines.append(f"    if {name}.__class__ is not tuple or len({name}) != {n}: return MISS")
            if n:
                lines.append(f"    {', '.join(inner)}{',' if n == 1 else ''} = {name}")
            for x in inner:
                tensor(x)
                types.append(f"{x}._type")
                stream.append(f"{x}._id")
        else:
            n = part[1]
            inner = [f"{name}_{i}" for i in range(n)] if n else [f"{name}_0"]
            lines.append(f"    if {name}.__class__ is not list or not {name}: return MISS")
            for x in inner:
                lines.append(f"    {x}l = []")
                lines.append(f"    {x}t = None")
            lines.append(f"    for e in {name}:")
            if n:
                lines.append(f"        if e.__class__ is not tuple or len(e) != {n}: return MISS")
                lines.append(f"        {', '.join(inner)}{',' if n == 1 else ''} = e")
            else:
                lines.append(f"        {inner[0]} = e")
            for x in inner:
                tensor(x, "        ")
                lines.append(f"        if {x}._type is not {x}t:")
                lines.append(f"            if {x}t is not None: return MISS")
                lines.append(f"            {x}t = {x}._type")
                lines.append(f"        {x}l.append({x}._id)")
                types.append(f"{x}t")
                stream.append(f"len({x}l), *{x}l")
    key += [owner, *types]
    lines += [
        f"    hit = tape.cache.get(({', '.join(key)}))",
        "    if hit is None: return MISS",
        "    number, types, checked, containers, limits, training, _ = hit",
        "    if checked != epoch[0]: return MISS",
        "    if containers and not unchanged(containers): return MISS",
    ]
    if owner == "0":
        lines.append("    if training is not state.training: return MISS")
    if numbers:
        lines.append("    if limits is not None:")
        for k, name in enumerate(numbers):
            lines.append(f"        if not -limits[{k}] <= {name} < limits[{k}]: out_of_range({name}, limits[{k}])")
    if not stream:
        lines.append("    if state.builder is not None or tape.torn: return MISS")
    count = max(results, 1)
    lines += ["    n = tape.count", f"    tape.count = n + {count}"]
    for where, values in (("ints", ints), ("floats", floats)):
        if len(values) == 1:
            lines.append(f"    tape.{where}.append({values[0]})")
        elif values:
            lines.append(f"    tape.{where} += ({', '.join(values)})")
    lines += [
        f"    tape.stream += ({', '.join(['number', *stream])},)",
        "    frame = getframe(2)",
        "    code = frame.f_code",
        "    if code is not tape.user_code and not is_user_code(tape, code): tape.places += place()",
        "    else: tape.places += (frame.f_code, frame.f_lasti)",
    ]
    if count == 1:
        lines.append("    t0, = types")
    else:
        lines.append(f"    {', '.join(f't{k}' for k in range(count))} = types")
    for k in range(count):
        lines += [
            f"    r{k} = new(Tensor)",
            f"    r{k}._tape = tape",
            f"    r{k}._type = t{k}",
            f"    r{k}._id = n + {k}" if k else "    r0._id = n",
        ]
    made = ", ".join(f"r{k}" for k in range(count))
    if count == 1:
        lines.append("    tape.tensors.append(r0)")
        lines.append("    return r0" if results == 0 else "    return (r0,)")
    else:
        lines.append(f"    tape.tensors += ({made})")
        lines.append(f"    return {made}")
    token = object()
    scope: dict[str, Any] = {
        "state": state,
        "MISS": MISS,
        "Tensor": Tensor,
        "epoch": epoch,
        "unchanged": unchanged,
        "getframe": sys._getframe,
        "new": object.__new__,
        "TOKEN": token,
        "out_of_range": _out_of_range,
        "is_user_code": is_user_code,
        "place": user_place,
        "row_of": known_row,
    }
    exec(compile("\n".join(lines), "<door of a cell>", "exec"), scope)
    return scope["door"], token
