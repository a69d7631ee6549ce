"""The inline cache of a cell: the function that users call, with a fast path for each structure of arguments.

With the compiled recorder the paths are its `Path`s, and the function is its `entry_function`. With the one in Python
the function is generated. It begins without fast paths, and calls the cell. When a call of a new structure was written
by the general path, the code of the function is replaced by one that has a fast path for it. For `(self, (T, T), (T,
T))` with two results it is about

    def call(self, left, right):
        tape = state.tape
        while tape is not None:
            if left.__class__ is not tuple: break
            try: x0, x1 = left
            except ValueError: break
            if x0.__class__ is not RecordedTensor: break
            elif x0._tape is not tape:
                x0 = local(x0, tape)
                if x0._tape is not tape: break
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

import functools
import inspect
import itertools
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from types import FunctionType
from typing import Any, NamedTuple

from ...base.errors import OpIndexError, user_error
from ...base.module_epoch import changed, epoch
from ...base.tracebacks import PACKAGE
from ...ops.index import not_in_range
from ..choice import compiled
from ..links import SHARED_CLASSES, local, row_of
from ..nodes import SCOPE, writing
from ..tape import current_tape, state
from ..tensor_list import AHEAD
from .facts import Fact, can_be_weak, same

PATHS = 4
"""Most structures of arguments that a cell has a fast path for: the last ones."""

WATCHED = 64
"""Most facts that the fast paths of a cell check."""

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


class InlineCache:
    """The function that calls a cell, and its fast paths.

    Attributes:
        call: the function; it stays the same when paths are added.
    """

    def __init__(self, fn: Callable[..., Any], cell: Any) -> None:
        parameters = inspect.signature(fn).parameters
        self.names = list(parameters)
        self.is_plain = all(p.kind is _PLAIN for p in parameters.values())
        self.is_method = next(iter(parameters), "") == "self"
        self.paths: dict[tuple[Any, Any, tuple[tuple[int, int], ...]], object] = {}
        self.watched: dict[tuple[int, str], _Watched] = {}
        self.lock = threading.RLock()  # Ctrl-C may come just before it is released; this thread can go on then
        self.made = itertools.count()
        # Names that no parameter has.
        self.prefix = "_"
        while any(name.startswith(self.prefix) for name in self.names):
            self.prefix += "_"
        kinds = (bool, int, float, str, tuple, list, ValueError, KeyError, NameError)
        scope = {
            **SCOPE,
            "state": state,
            "epoch": epoch,
            "same": same,
            "out_of_range": _out_of_range,
            "row_of": row_of,
            "local": local,
            "SHARED_CLASSES": SHARED_CLASSES,
            "cell": cell,
            "none": type(None),
            **{x.__name__: x for x in (*kinds, id, len)},
        }
        self.scope: dict[str, Any] = {self.prefix + name: value for name, value in scope.items()}
        if compiled is not None:
            self.entry = compiled.Entry(cell, tuple(self.names) if self.is_plain else None, fn.__defaults__)
            self.call = compiled.entry_function(self.entry)
            return
        exec(self._compiled(), self.scope)
        self.call = self.scope.pop("call")
        if self.is_plain:
            self.call.__defaults__ = fn.__defaults__

    def watch(self, facts: Sequence[Fact]) -> None:
        """Let all fast paths check these facts. The epoch moves where one differs from what they checked."""
        with self.lock:
            old = [key for key, one in self.watched.items() if not same([(*one[:2], self._value(one))], ())]
            keys = [(id(fact.holder), fact.text) for fact in facts]
            new = {key: fact for key, fact in zip(keys, facts, strict=True) if key not in self.watched or key in old}
            if not new and not old:
                return
            if self.paths:
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
            if self.paths:
                self._compile()

    def _as_watched(self, watched: _Watched) -> tuple[Any, ...]:
        """What is watched as `compiled.Entry` has it."""
        holder, value = self.scope[f"{watched.name}h"], self.scope[f"{watched.name}v"]
        if holder.__class__ is dict and watched.text.startswith(f"{watched.name}h["):
            return holder, watched.argument, value, watched.is_weak
        if isinstance(holder, FunctionType) and watched.text.startswith(f"{watched.name}h.__code__"):
            return holder, None, value, watched.is_weak
        return None, functools.partial(watched.function, watched.argument), value, watched.is_weak

    def _value(self, watched: _Watched) -> Any:
        value = self.scope[f"{watched.name}v"]
        return value() if watched.is_weak else value

    def path(
        self, structure: Any, outputs: Any, n_args: int, same_length: tuple[tuple[int, int], ...] = ()
    ) -> object | None:
        """The token of the fast path for calls of this structure, added if it is new; None where there can be none.

        `same_length` are slots of lists that have to be as long as another one is.
        """
        shape = _shape(structure, self.is_method)
        results = _results(outputs)
        if shape is None or results is None or _count(results) > AHEAD:
            return None
        if self.is_plain and n_args != len(self.names):
            return None
        key = (shape, results, same_length)
        with self.lock:
            token = self.paths.get(key)
            if token is None:
                token = self.paths[key] = object()
                for oldest in list(self.paths)[:-PATHS]:
                    del self.paths[oldest]
                self._compile()
        return token

    def _compile(self) -> None:
        if compiled is not None:
            self.entry.watched = [self._as_watched(one) for one in self.watched.values()]
            self.entry.paths = [
                compiled.Path(token, shape, results, _count(results), lengths, self.entry.cell)
                for (shape, results, lengths), token in self.paths.items()
            ]
            return
        self.call.__code__ = next(c for c in self._compiled().co_consts if hasattr(c, "co_code"))

    def _compiled(self) -> Any:
        """The code of the function. In its text `$` stands for the prefix of names of our own."""
        lines = [f"def call({', '.join(self.names)}):" if self.is_plain else "def call(*$args, **$named):"]
        if self.paths:
            lines.append("    $tape = $state.tape")
        differs = " or ".join(watched.text for watched in self.watched.values())
        for k, ((shape, results, lengths), token) in enumerate(self.paths.items()):
            path = _FastPath(k, shape, results, self.names if self.is_plain else None, differs, lengths)
            self.scope[f"{self.prefix}TOKEN{k}"], self.scope[f"{self.prefix}NEVER{k}"] = token, path.never
            lines += [f"    {line}" for line in path.lines]
        arguments = f"({''.join(f'{name}, ' for name in self.names)}), {{}}" if self.is_plain else "$args, $named"
        lines.append(f"    return $cell.call({arguments})")
        return compile("\n".join(lines).replace("$", self.prefix), f"{PACKAGE}<entry of a cell>", "exec")


def _shape(structure: Any, is_method: bool) -> Any:
    """The structure without types and values; None where something in it is not covered."""
    parts: list[Any] = []
    for k, p in enumerate(structure):
        kind = p[0]
        if k == 0 and is_method:
            parts.append("self")
        elif kind in ("T", "P", "i", "f", "empty"):
            parts.append(kind)
        elif kind == "static" and p[1] in (bool, str, type(None)):
            parts.append(("static", "none" if p[1] is type(None) else p[1].__name__))
        elif _is_tuple_of_tensors(p):
            parts.append(("tuple", len(p[2])))
        elif kind == "list" and p[1][0] == "T":
            parts.append(("list", 0))
        elif kind == "list" and _is_tuple_of_tensors(p[1]):
            parts.append(("list", len(p[1][2])))
        else:
            return None
    return tuple(parts)


def _is_tuple_of_tensors(p: Any) -> bool:
    return p[0] == "tuple" and p[1] is tuple and all(e[0] == "T" for e in p[2])


def _results(outputs: Any) -> Any:
    """The results as numbers of the node's results, in nested tuples; None where something else is among them."""
    if outputs[0] == "leaf":
        return outputs[1]
    if outputs[0] != "parts" or outputs[1] is not tuple:
        return None
    parts = tuple(_results(part) for part in outputs[2])
    return None if None in parts else parts


def _count(results: Any) -> int:
    return sum(map(_count, results)) if isinstance(results, tuple) else 1


def _expression(results: Any) -> str:
    """The results as an expression: tensors `$r0`, `$r1`, …, in tuples."""
    if isinstance(results, tuple):
        return f"({''.join(f'{_expression(part)}, ' for part in results)})"
    return f"$r{results}"


class _FastPath:
    """The lines of a fast path, as a loop that calls of another structure leave.

    number: of the path in its cell; shape: of the arguments; results: as `_results` says; names: of the parameters,
    None where arguments come as a tuple; differs: an expression that says whether globals were rebound, or nothing;
    same_length: operands that are lists and have to be as long as another one is
    never: what a recording that does not know the cell has under the token
    """

    def __init__(
        self,
        number: int,
        shape: tuple[Any, ...],
        results: Any,
        names: list[str] | None,
        differs: str,
        same_length: tuple[tuple[int, int], ...],
    ) -> None:
        self.number = number
        self.keys: list[tuple[str, str]] = []  # what is compared by identity, and the same as part of a key of a dict
        self.stream: list[str] = []
        self.ints: list[str] = []
        self.floats: list[str] = []
        self.numbers: list[str] = []
        self.n_operands = 0
        self.n_results = _count(results)
        if names is None:
            names = [f"$a{k}" for k in range(len(shape))]
            self.lines = [f"while $tape is not None and not $named and $len($args) == {len(shape)}:"]
            self.lines += [f"    {_listed(names)} = $args"] if shape else []
        else:
            self.lines = ["while $tape is not None:"]
        for name, part in zip(names, shape, strict=True):
            self._argument(name, part)
        self.lines += [f"    if $len($x{a}l) != $len($x{b}l): break" for a, b in same_length]
        self._look_up(names[0] if "self" in shape else "None")
        self._check(differs, "self" in shape)
        self._record(results)
        fields = (*(object() for _ in self.keys), *(None for _ in range(self.n_results)))
        self.never = (None, -1, None, None, None, *fields)

    def _argument(self, name: str, part: Any) -> None:
        """Check the kind of an argument, and take it apart."""
        add = self.lines.append
        kind, n = part if isinstance(part, tuple) else (part, 0)
        if kind == "self":
            self.keys.append((name, f"$id({name})"))
        elif kind == "T":
            add(f"    $x{self.n_operands} = {name}")
            self._tensors(1)
        elif kind == "P":
            operand = f"$p{len(self.keys)}"
            add(f"    {operand} = {name}.operand if {name}.__class__ in $SHARED_CLASSES else None")
            add(f"    if {operand} is None: break")
            self.keys.append((operand, f"$id({operand})"))
        elif kind in ("i", "f"):
            add(f"    if {name}.__class__ is not ${'int' if kind == 'i' else 'float'}: break")
            self.numbers.append(name)
            (self.ints if kind == "i" else self.floats).append(name)
        elif kind == "empty":
            add(f"    if {name}.__class__ is not $list or {name}: break")
        elif kind == "static":
            add(f"    if {name}.__class__ is not ${n}: break")
            self.keys.append((name, f"(${n}, {name})"))
        elif kind == "tuple":
            self._unpack(name, n, "    ")
            self._tensors(n)
        else:
            self._list(name, n)

    def _tensors(self, n: int) -> None:
        for k in range(self.n_operands, self.n_operands + n):
            self._tensor(f"$x{k}", "    ")
            self.keys.append((f"$x{k}._type",) * 2)
            self.stream.append(f"$x{k}._id")
        self.n_operands += n

    def _tensor(self, x: str, indent: str) -> None:
        self.lines += [
            f"{indent}if {x}.__class__ is not $Tensor:",
            f"{indent}    {x} = $row_of({x}, $tape)",
            f"{indent}    if {x} is None: break",
            f"{indent}elif {x}._tape is not $tape:",
            f"{indent}    {x} = $local({x}, $tape)",
            f"{indent}    if {x}._tape is not $tape: break",
        ]

    def _unpack(self, name: str, n: int, indent: str) -> None:
        """The parts of a tuple become the next operands."""
        if not n:
            self.lines.append(f"{indent}if {name}.__class__ is not $tuple or {name}: break")
            return
        self.lines += [
            f"{indent}if {name}.__class__ is not $tuple: break",
            f"{indent}try: {_listed(f'$x{self.n_operands + k}' for k in range(n))} = {name}",
            f"{indent}except $ValueError: break",
        ]

    def _list(self, name: str, n: int) -> None:
        """A list of tensors, or of tuples of n of them."""
        operands = [f"$x{self.n_operands + k}" for k in range(max(n, 1))]
        self.lines.append(f"    if {name}.__class__ is not $list or not {name}: break")
        self.lines += [f"    {x}l, {x}t = [], None" for x in operands]
        self.lines.append(f"    for $e in {name}:")
        if n:
            self._unpack("$e", n, "        ")
        else:
            self.lines.append(f"        {operands[0]} = $e")
        for x in operands:
            self._tensor(x, "        ")
            self.lines += [
                f"        if {x}._type is not {x}t:",
                f"            if {x}t is not None: break",
                f"            {x}t = {x}._type",
                f"        {x}l.append({x}._id)",
            ]
            self.keys.append((f"{x}t",) * 2)
            self.stream.append(f"$len({x}l), *{x}l")
        self.lines.append(f"    if $len({operands[-1]}l) != $len({name}): break")
        self.n_operands += len(operands)

    def _look_up(self, owner: str) -> None:
        """What the recording knows of a call with these types and owners."""
        known = "$number, $checked, $facts, $limits, $training" + "".join(f", $k{k}" for k in range(len(self.keys)))
        known += "".join(f", $t{k}" for k in range(self.n_results))
        differ = " or ".join(f"$k{k} is not {now}" for k, (now, _) in enumerate(self.keys)) or "$number is None"
        token = f"$TOKEN{self.number}"
        self.lines += [
            f"    try: {known} = $tape.cache[{token}]",
            f"    except $KeyError: {known} = $NEVER{self.number}",
            f"    if {differ}:",
            f"        $hit = ({token}, {''.join(f'{key}, ' for _, key in self.keys)})",
            f"        $hit = $tape.cache.get($hit) or $cell.known_call($tape, $hit, {owner})",
            "        if $hit is None: break",
            f"        $tape.cache[{token}] = $hit",
            f"        {known} = $hit",
        ]

    def _check(self, differs: str, is_method: bool) -> None:
        """Whether all that the traced code read is as it was; raise for an index out of range."""
        self.lines += ["    if $checked != $epoch[0]: break", "    if $facts is not None and not $same(*$facts): break"]
        if differs:
            self.lines += [
                "    try:",
                f"        if {differs}: break",
                "    except ($KeyError, $ValueError, $NameError): break",
            ]
        if not is_method:
            self.lines.append("    if $training is not $state.training: break")
        if self.numbers:
            self.lines.append("    if $limits is not None:")
            for k, name in enumerate(self.numbers):
                n, lowest = f"$limits[{k}]", f"$limits[{len(self.numbers) + k}]"
                self.lines.append(f"        if not (0 <= {name} < {n} or {lowest} <= {name} < 0):")
                self.lines.append(f"            $out_of_range({name}, {n}, {lowest})")
        if not self.stream:
            self.lines.append("    if $tape.count is $WRITING or $tape.is_aside: break")

    def _record(self, results: Any) -> None:
        """Write the node, and return its results."""
        types = [f"$t{k}" for k in range(self.n_results)]
        lines = writing("$number", self.stream, types, self.ints, self.floats, p="$")
        self.lines += [f"    {line}" for line in (*lines, f"return {_expression(results)}")]


def _listed(names: Iterable[str]) -> str:
    """A tuple of names, as the left side of an assignment or as a value."""
    names = list(names)
    return ", ".join(names) + ("," if len(names) == 1 else "")


if compiled is not None:
    compiled.install_cells(current_tape, row_of, epoch, same, _out_of_range)
