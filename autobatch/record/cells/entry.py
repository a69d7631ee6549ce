"""The entry of a cell: the function that users call, generated with a fast door for each structure of arguments it met.

An entry begins without doors, and calls the cell. When a call of a new structure was written the long way, the entry's
code is replaced by one that has a door for it. For `(self, (T, T), (T, T))` with two results it is about

    def call(self, left, right):
        tape = state.tape
        while tape is not None:
            if left.__class__ is not tuple: break
            try: x0, x1 = left
            except ValueError: break
            if x0.__class__ is not RecordedTensor or x0._tape is not tape: break
            ...
            try: number, checked, …, k0, k1, …, t0, t1 = tape.cache[TOKEN]
            except KeyError: number, checked, …, k0, k1, …, t0, t1 = NEVER
            if k0 is not self or k1 is not x0._type or …:
                ... look all of them up, or break
            if checked != epoch[0]: break
            if scope["SCALE"] is not scale or scope["helper"] is not helper or helper.__code__ is not code: break
            tape.stream.extend((number, x0._id, …))
            ...
            r0 = tape.tensors[n]
            ...
            return r0, r1
        return cell.call((self, left, right), {})

What a recording knows of a cell stands in its cache: under TOKEN what the last call found, and under TOKEN with all
that is compared every call.
"""

from __future__ import annotations

import inspect
import itertools
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ...base.errors import OpIndexError, user_error
from ...base.module_epoch import changed, epoch
from ...base.tracebacks import PACKAGE
from ...ops.index import not_in_range
from ..links import known_row
from ..nodes import SCOPE, writing
from ..tape import state
from ..tensor_list import AHEAD
from .guard import Fact, can_be_weak, same

DOORS = 4
"""Most structures that an entry has a door for: the last ones."""

WATCHED = 64
"""Most facts that the doors of an entry check."""

UNBOUNDED = 1 << 62

_PLAIN = inspect.Parameter.POSITIONAL_OR_KEYWORD


def limits(bounds: tuple[tuple[int, int, int], ...], n_numbers: int) -> tuple[int, ...] | None:
    """For each number of a call what it must be below, then for each the lowest it may be; None without bounds."""
    if not bounds:
        return None
    above, below = [UNBOUNDED] * n_numbers, [-UNBOUNDED] * n_numbers
    for k, lowest, n in bounds:
        above[k], below[k] = min(above[k], n), max(below[k], lowest)
    return (*above, *below)


def _out_of_range(index: int, n: int, lowest: int) -> None:
    raise user_error(OpIndexError, not_in_range(index, n, lowest))


class _Watched(NamedTuple):
    """A fact as the generated code has it; what has to be bound stands in the code's scope, weakly where it can."""

    function: Callable[[Any], Any]
    argument: Any
    name: str
    is_weak: bool
    text: str


class Entry:
    """The function that calls a cell, and its doors.

    Attributes:
        call: the function; it stays the same when doors are added.
    """

    def __init__(self, fn: Callable[..., Any], cell: Any) -> None:
        parameters = inspect.signature(fn).parameters
        self.names = list(parameters)
        self.is_plain = all(p.kind is _PLAIN for p in parameters.values())
        self.is_method = next(iter(parameters), "") == "self"
        self.doors: dict[Any, object] = {}
        self.watched: dict[tuple[int, str], _Watched] = {}
        self.lock = threading.Lock()
        self.made = itertools.count()
        # Names that no parameter has.
        self.prefix = "_"
        while any(name.startswith(self.prefix) for name in self.names):
            self.prefix += "_"
        self.scope: dict[str, Any] = {
            self.prefix + name: value
            for name, value in {
                **SCOPE,
                "state": state,
                "epoch": epoch,
                "same": same,
                "out_of_range": _out_of_range,
                "row_of": known_row,
                "cell": cell,
                "none": type(None),
                **{
                    kind.__name__: kind
                    for kind in (bool, int, float, str, tuple, list, ValueError, KeyError, NameError)
                },
                **{function.__name__: function for function in (id, len)},
            }.items()
        }
        exec(self._compiled(), self.scope)
        self.call = self.scope.pop("call")
        if self.is_plain:
            self.call.__defaults__ = fn.__defaults__

    def watch(self, facts: Sequence[Fact]) -> None:
        """Let all doors check these facts. The epoch moves where one differs from what they checked."""
        with self.lock:
            old = [key for key, one in self.watched.items() if not same([(*one[:2], self._value(one))], ())]
            keys = [(id(fact.holder), fact.text) for fact in facts]
            new = {key: fact for key, fact in zip(keys, facts, strict=True) if key not in self.watched or key in old}
            if not new and not old:
                return
            if self.doors:
                changed()  # first: what was found under the facts of before has to be looked at again
            if len(self.watched) + len(new) > WATCHED:
                old, new = list(self.watched), dict(zip(keys, facts, strict=True))
            for key in old:
                name = self.watched.pop(key).name
                del self.scope[f"{name}h"], self.scope[f"{name}v"]
            for key, fact in new.items():
                name, is_weak = f"{self.prefix}w{next(self.made)}", can_be_weak(fact.value)
                text = fact.text.format(h=f"{name}h", v=f"{name}v()" if is_weak else f"{name}v")
                self.watched[key] = _Watched(fact.function, fact.argument, name, is_weak, text)
                self.scope[f"{name}h"] = fact.holder
                self.scope[f"{name}v"] = weakref.ref(fact.value) if is_weak else fact.value
            if self.doors:
                self._compile()

    def _value(self, watched: _Watched) -> Any:
        value = self.scope[f"{watched.name}v"]
        return value() if watched.is_weak else value

    def door(self, structure: Any, outputs: Any, n_args: int) -> object | None:
        """The token of the door for calls of this structure, added if it is new; None where there can be none."""
        shape = _shape(structure, self.is_method)
        results = _results(outputs)
        if shape is None or results is None or results > AHEAD or (self.is_plain and n_args != len(self.names)):
            return None
        key = (shape, results)
        with self.lock:
            token = self.doors.get(key)
            if token is None:
                token = self.doors[key] = object()
                for oldest in list(self.doors)[:-DOORS]:
                    del self.doors[oldest]
                self._compile()
        return token

    def _compile(self) -> None:
        self.call.__code__ = next(c for c in self._compiled().co_consts if hasattr(c, "co_code"))

    def _differs(self) -> str:
        """An expression that says whether a fact does not hold any more."""
        return " or ".join(watched.text for watched in self.watched.values())

    def _compiled(self) -> Any:
        p = self.prefix
        lines = [f"def call({', '.join(self.names)}):" if self.is_plain else f"def call(*{p}args, **{p}named):"]
        if self.doors:
            lines.append(f"    {p}tape = {p}state.tape")
        for k, ((shape, results), token) in enumerate(self.doors.items()):
            self.scope[f"{p}TOKEN{k}"] = token
            names = self.names if self.is_plain else None
            self.scope[f"{p}NEVER{k}"], door = _door(p, k, shape, results, names, self._differs())
            lines += [f"    {line}" for line in door]
        if self.is_plain:
            lines.append(f"    return {p}cell.call(({''.join(f'{name}, ' for name in self.names)}), {{}})")
        else:
            lines.append(f"    return {p}cell.call({p}args, {p}named)")
        return compile("\n".join(lines), f"{PACKAGE}<entry of a cell>", "exec")


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
            parts.append(("static", "none" if p[1] is type(None) else p[1].__name__))
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


def _names(prefix: str, n: int) -> str:
    """The left side of an unpacking assignment."""
    return ", ".join(f"{prefix}{k}" for k in range(n)) + ("," if n == 1 else "")


def _door(
    p: str, number: int, shape: tuple[Any, ...], results: int, names: list[str] | None, differs: str
) -> tuple[Any, list[str]]:
    """What a recording that does not know the cell has under its token, and the lines of a door.

    Args:
        p: what names of our own begin with.
        number: of the door in its entry.
        shape: of the arguments.
        results: as `_results` says.
        names: of the parameters; None where arguments come as a tuple.
        differs: an expression that says whether globals and the like were bound anew; or nothing.
    """
    if names is None:
        names = [f"{p}a{k}" for k in range(len(shape))]
        lines = [f"while {p}tape is not None and not {p}named and {p}len({p}args) == {len(shape)}:"]
        lines += [f"    {_names(p + 'a', len(shape))} = {p}args"] if shape else []
    else:
        lines = [f"while {p}tape is not None:"]
    keys: list[tuple[str, str]] = []  # what is compared by identity, and the same as part of a key of a dict
    stream: list[str] = []
    numbers: list[str] = []
    ints: list[str] = []
    floats: list[str] = []
    n_operands = 0

    def operand() -> str:
        nonlocal n_operands
        n_operands += 1
        return f"{p}x{n_operands - 1}"

    def tensor(name: str, indent: str, leave: str) -> list[str]:
        return [
            f"{indent}if {name}.__class__ is not {p}Tensor:",
            f"{indent}    {name} = {p}row_of({name}, {p}tape)",
            f"{indent}    if {name} is None: {leave}",
            f"{indent}elif {name}._tape is not {p}tape: {leave}",
        ]

    def unpacked(inner: list[str], name: str, indent: str) -> list[str]:
        if not inner:
            return [f"{indent}if {name}.__class__ is not {p}tuple or {name}: break"]
        return [
            f"{indent}if {name}.__class__ is not {p}tuple: break",
            f"{indent}try: {', '.join(inner)}{',' if len(inner) == 1 else ''} = {name}",
            f"{indent}except {p}ValueError: break",
        ]

    for name, part in zip(names, shape, strict=True):
        if part == "self":
            keys.append((name, f"{p}id({name})"))
        elif part == "T":
            x = operand()
            lines += [f"    {x} = {name}", *tensor(x, "    ", "break")]
            keys.append((f"{x}._type",) * 2)
            stream.append(f"{x}._id")
        elif part in ("i", "f"):
            lines.append(f"    if {name}.__class__ is not {p}{'int' if part == 'i' else 'float'}: break")
            numbers.append(name)
            (ints if part == "i" else floats).append(name)
        elif part == "empty":
            lines.append(f"    if {name}.__class__ is not {p}list or {name}: break")
        elif part[0] == "static":
            lines.append(f"    if {name}.__class__ is not {p}{part[1]}: break")
            keys.append((name, f"({p}{part[1]}, {name})"))
        elif part[0] == "tuple":
            inner = [operand() for _ in range(part[1])]
            lines += unpacked(inner, name, "    ")
            for x in inner:
                lines += tensor(x, "    ", "break")
                keys.append((f"{x}._type",) * 2)
                stream.append(f"{x}._id")
        else:
            inner = [operand() for _ in range(max(part[1], 1))]
            lines.append(f"    if {name}.__class__ is not {p}list or not {name}: break")
            lines += [f"    {x}l, {x}t = [], None" for x in inner]
            lines.append(f"    for {p}e in {name}:")
            if part[1]:
                lines += unpacked(inner, f"{p}e", "        ")
            else:
                lines.append(f"        {inner[0]} = {p}e")
            for x in inner:
                lines += tensor(x, "        ", "break")
                lines.append(f"        if {x}._type is not {x}t:")
                lines.append(f"            if {x}t is not None: break")
                lines.append(f"            {x}t = {x}._type")
                lines.append(f"        {x}l.append({x}._id)")
                keys.append((f"{x}t",) * 2)
                stream.append(f"{p}len({x}l), *{x}l")
            lines.append(f"    if {p}len({inner[-1]}l) != {p}len({name}): break")
    count = max(results, 1)
    facts = [f"{p}{name}" for name in ("number", "checked", "facts", "limits", "training")]
    facts += [f"{p}k{k}" for k in range(len(keys))] + [f"{p}t{k}" for k in range(count)]
    lines += [
        f"    try: {', '.join(facts)} = {p}tape.cache[{p}TOKEN{number}]",
        f"    except {p}KeyError: {', '.join(facts)} = {p}NEVER{number}",
    ]
    others = " or ".join(f"{p}k{k} is not {now}" for k, (now, _) in enumerate(keys)) or f"{p}number is None"
    lines += [
        f"    if {others}:",
        f"        {p}hit = {p}tape.cache.get(({p}TOKEN{number}, {''.join(f'{key}, ' for _, key in keys)}))",
        f"        if {p}hit is None: break",
        f"        {p}tape.cache[{p}TOKEN{number}] = {p}hit",
        f"        {', '.join(facts)} = {p}hit",
        f"    if {p}checked != {p}epoch[0]: break",
        f"    if {p}facts is not None and not {p}same(*{p}facts): break",
    ]
    if differs:
        lines += [
            "    try:",
            f"        if {differs}: break",
            f"    except ({p}KeyError, {p}ValueError, {p}NameError): break",
        ]
    if "self" not in shape:
        lines.append(f"    if {p}training is not {p}state.training: break")
    if numbers:
        lines.append(f"    if {p}limits is not None:")
        for k, name in enumerate(numbers):
            n, lowest = f"{p}limits[{k}]", f"{p}limits[{len(numbers) + k}]"
            lines.append(f"        if not (0 <= {name} < {n} or {lowest} <= {name} < 0):")
            lines.append(f"            {p}out_of_range({name}, {n}, {lowest})")
    if not stream:
        lines.append(f"    if {p}tape.count is {p}WRITING or {p}tape.is_aside: break")
    types = [f"{p}t{k}" for k in range(count)]
    lines += [f"    {line}" for line in writing(f"{p}number", stream, types, ints, floats, p=p)]
    made = ", ".join(f"{p}r{k}" for k in range(count))
    lines.append(f"    return {made}{',' if results == 1 else ''}")
    never = object()
    return (None, -1, None, None, None, *(never for _ in keys), *(None for _ in range(count))), lines
