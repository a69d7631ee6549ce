"""What a recording depends on besides the example: the function, what it reaches, and the modes.

Recordings are replayed where all of this is as it was. `Surroundings.of(fn)` gives it as something that can be
compared: code of the function, of functions in its closure and of those it names; modules reached, by all their
attributes (`guarding.py`); numbers, strings, parameters and tensors met on the way; anything else by identity. Small
lists, tuples and dicts, and dataclasses, are looked through; a `self` that is no module counts by the attributes that
its method names. Names are looked up as globals where code of the function's own package, or a method of a module with
a name that such code uses, mentions them.

Cost: a few µs for a method of a module that has not changed; a walk over the module where one has.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
from collections.abc import Callable
from typing import Any

from ..backends import current_backend
from ..guarding import Guard, unchanged
from ..guards import epoch
from ..shared import Shared, is_frozen
from ..tape import state
from ..types import default_dtype

__all__ = ["Surroundings"]

_SCALARS = (bool, int, str, bytes, type(None))
_LOOKED_THROUGH = 32
_ALWAYS = ("__call__", "forward")
_ABSENT = object()
_LIBRARY = __name__.partition(".")[0]


class Surroundings:
    """Remembers modules, and which globals code names, so that a second look is cheap."""

    def __init__(self) -> None:
        self._modules: dict[int, tuple[Any, Guard, int]] = {}
        self._numbers: dict[Any, tuple[int, Any]] = {}
        self._names: dict[Any, tuple[list[tuple[dict[str, Any], str]], Any]] = {}

    def of(self, fn: Callable[..., Any]) -> tuple[Any, list[Any]]:
        """What a call of `fn` depends on, as a key, and the objects whose identity is part of it."""
        look = _Look(self._module, fn)
        local = look.root(fn)
        codes = [(f.__code__, f.__globals__) for f in look.functions]
        key = (tuple((id(code), id(scope)) for code, scope in codes), tuple(map(self._module, look.modules)))
        names, _ = self._names.get(key) or self._names.setdefault(key, (look.names(), codes))
        reached = tuple(look.of(scope.get(name, _ABSENT)) for scope, name in names)
        return (local, reached, is_frozen(), state.training, default_dtype(), current_backend()), look.kept

    def _module(self, module: Any) -> int:
        """A number that is the same while the module, and all in it, looks the same."""
        found = self._modules.get(id(module))
        if found is not None:
            _, guard, number = found
            if guard.checked == epoch[0] and not guard.volatile and unchanged(guard.containers):
                return number
        guard = Guard(module, ())
        number, _ = self._numbers.setdefault((id(module), guard.prints), (len(self._numbers), guard.kept))
        self._modules[id(module)] = module, guard, number
        return number


class _Look:
    """One look at a function and at what it reaches."""

    def __init__(self, module: Callable[[Any], int], fn: Callable[..., Any]) -> None:
        self.module = module
        self.kept: list[Any] = []
        self.seen: dict[int, int] = {}
        self.functions: list[types.FunctionType] = []
        self.modules: list[Any] = []
        function = _plain(fn)
        self.package = _package(function) if function is not None else type(fn).__module__.partition(".")[0]

    def root(self, fn: Callable[..., Any]) -> Any:
        """What can be told of the function itself."""
        if isinstance(fn, types.FunctionType | types.MethodType | functools.partial):
            return self.of(fn)
        return self._owner(fn, _plain(type(fn).__call__)), self.of(type(fn).__call__)

    def of(self, x: Any, depth: int = 0) -> Any:
        """What can be told of a value."""
        if x.__class__ in _SCALARS or isinstance(x, enum.Enum):
            return x.__class__, x
        if x.__class__ is float:
            return float, x.hex()
        if id(x) in self.seen:
            return "seen", self.seen[id(x)]
        if isinstance(x, types.FunctionType) and "cell" in x.__dict__:
            self._see(x)
            return "cell", id(x), self.of(x.__dict__["__wrapped__"])
        if isinstance(x, types.FunctionType) and _package(x) == self.package:
            self._see(x)
            return self._function(x)
        if isinstance(x, types.MethodType):
            owner = self._owner(x.__self__, _plain(x))
            return "method", owner, self.of(x.__func__)
        if isinstance(x, functools.partial):
            self._see(x)
            return "partial", self.of(x.func), self.of(x.args), self.of(x.keywords)
        if hasattr(x, "training") and not isinstance(x, type | Shared | types.ModuleType):
            return self._owner(x)
        if depth < 3:
            if isinstance(x, list | tuple | dict) and len(x) <= _LOOKED_THROUGH:
                self._see(x)
                parts = (*x, *x.values()) if isinstance(x, dict) else x
                return type(x), tuple(self.of(e, depth + 1) for e in parts)
            if dataclasses.is_dataclass(x) and not isinstance(x, type):
                self._see(x)
                return (
                    type(x),
                    id(x),
                    tuple(self.of(getattr(x, f.name, None), depth + 1) for f in dataclasses.fields(x)),
                )
        self.kept.append(x)
        return "is", id(x)

    def _see(self, x: Any) -> None:
        self.seen[id(x)] = len(self.seen)
        self.kept.append(x)

    def _owner(self, x: Any, method: types.FunctionType | None = None) -> Any:
        """A module by all that it holds; any other object by those attributes that its method names."""
        if id(x) in self.seen:
            return "seen", self.seen[id(x)]
        self._see(x)
        if isinstance(x, type | types.ModuleType):
            return "is", id(x)
        if hasattr(x, "training"):
            self.modules.append(x)
            return "module", self.module(x)
        words = _words_of_method(x.__class__, method.__code__) if method is not None else frozenset()
        attributes = getattr(x, "__dict__", {})
        return "object", id(x), tuple((k, self.of(v, 1)) for k, v in attributes.items() if k in words)

    def _function(self, f: types.FunctionType) -> Any:
        self.functions.append(f)
        closure = []
        for c in f.__closure__ or ():
            try:
                closure.append(self.of(c.cell_contents))
            except ValueError:
                closure.append("empty")
        return "function", id(f.__code__), tuple(closure), self.of(f.__defaults__), self.of(f.__kwdefaults__)

    def names(self) -> list[tuple[dict[str, Any], str]]:
        """Globals that the functions name, and that functions of their package name which are reached through those."""
        if self.package == _LIBRARY:
            return []
        found: dict[tuple[int, str], tuple[dict[str, Any], str]] = {}
        words: set[str] = set(_ALWAYS)
        done: set[int] = set()
        waiting = list(self.functions)
        classes = {
            c
            for module in self.modules
            for part in (module.modules() if hasattr(module, "modules") else (module,))
            for c in type(part).__mro__
        }
        while waiting:
            while waiting:
                f = waiting.pop()
                if id(f.__code__) in done or _package(f) != self.package:
                    continue
                done.add(id(f.__code__))
                for word in _words(f.__code__):
                    words.add(word)
                    if word in f.__globals__:
                        found[id(f.__globals__), word] = f.__globals__, word
                        waiting += _plain_or_none(f.__globals__[word])
            methods = [
                f for c in classes for word in words & c.__dict__.keys() for f in _plain_or_none(c.__dict__[word])
            ]
            waiting = [f for f in methods if id(f.__code__) not in done and _package(f) == self.package]
        return list(found.values())


@functools.lru_cache(maxsize=256)
def _words_of_method(kind: Any, code: types.CodeType) -> frozenset[str]:
    """Names and strings in a method, and in methods of the class whose names are among them."""
    words: set[str] = set()
    waiting = [code]
    while waiting:
        fresh = {*_words(waiting.pop())} - words
        words |= fresh
        waiting += [f.__code__ for word in fresh for f in _plain_or_none(getattr(kind, word, None))]
    return frozenset(words)


def _words(code: types.CodeType) -> list[str]:
    """Names and strings in code and in the code of functions defined in it."""
    words: list[str] = []
    waiting = [code]
    while waiting:
        here = waiting.pop()
        words += [*here.co_names, *(c for c in here.co_consts if isinstance(c, str))]
        waiting += [c for c in here.co_consts if isinstance(c, types.CodeType)]
    return words


def _plain(x: Any) -> types.FunctionType | None:
    """The function behind a cell, a class or static method, or a property."""
    if isinstance(x, property):
        x = x.fget
    x = getattr(x, "__func__", x)
    while isinstance(x, types.FunctionType) and isinstance(x.__dict__.get("__wrapped__"), types.FunctionType):
        x = x.__dict__["__wrapped__"]
    return x if isinstance(x, types.FunctionType) else None


def _plain_or_none(x: Any) -> list[types.FunctionType]:
    f = _plain(x)
    return [] if f is None else [f]


def _package(f: types.FunctionType) -> str:
    return str(f.__globals__.get("__name__", "")).partition(".")[0]
