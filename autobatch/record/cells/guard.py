"""Guards: what code read when it was traced or recorded, and whether it has changed.

Input: a function, and objects that it is handed. Output: a `Guard`. Followed are, through the user's own functions:
globals that their bytecode loads, closures, defaults, attributes of modules, of other objects those that the code
names, and their class, class attributes and methods that it names, in all classes of the user; containers, arrays and
the environment by what they hold, context variables and weak references by what they stand for. Parameters and tensors
count by identity. Of this library, of NumPy, of the standard library and of what is installed beside them only the
name's binding counts.

    prints   flat description, equal where code would read the same; compared in full, never by hash alone
    facts    `function(argument) is value`: whether anything was rebound, without describing it again
    lasting  facts about globals, and functions and classes reached through these, which generated code can check
    contents `function(argument) == value`: which objects a container holds, the bytes of an array
    large    contents of what is long, and code of methods: looked at once for each recording, in between the length is

A number that the code itself counts up in a class (`Model.calls += 1`) is not guarded. An array of more than 64 KB
counts by identity (`unseen` names it). What a container of more than 64 elements holds is followed no deeper.
Cost: a fact 50 ns; a walk some microseconds for each object.
"""

from __future__ import annotations

import array
import contextvars
import enum
import functools
import operator
import os
import sys
import types
import weakref
from collections import ChainMap, UserDict, UserList, UserString, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...base.module_epoch import Noted, epoch
from ...ops.value import Tensor
from ..shared import Expression, Shared
from .facts import FOLLOWED, Content, Fact, Guard, can_be_weak, is_lasting
from .reads import FUNCTIONS, is_filled, is_installed, package_of, plain, reads_of, wrapped

LARGE_ARRAY = 1 << 16
"""Bytes of an array from which on it counts by identity."""

Skip = Callable[[str, Any], bool]
"""Says of the name and contents of a variable of a closure whether it is left out."""

_LIBRARY = __name__.partition(".")[0]
_CONTAINERS = (list, tuple, set, frozenset, dict, deque, types.MappingProxyType)
_MADE_OF_ATTRIBUTES = (UserDict, UserList, UserString, ChainMap, type(os.environ))
"""Containers of the standard library that hold their elements in attributes which no code of the user names."""
_ENVIRONMENT = {"environ": os.environ, "getenv": os.environ}
"""What the user's code reads of `os` that may change, by the names it reads it by."""
_DESCRIBED = "__dict__", "vars", "asdict", "astuple", "fields"
"""Names by which code reads all attributes of an object."""
_CONSTRUCTORS = ("__new__", "__init__", "__post_init__")
_CODE = (types.FunctionType, classmethod, staticmethod, property)
_SELDOM_CALLED = frozenset((*_CONSTRUCTORS, "__init_subclass__", "__repr__", "__str__", "__del__", "__reduce__"))


def guard(functions: Sequence[Any], objects: Sequence[Any] = (), skip: Skip | None = None) -> Guard:
    """Look at functions and objects, and at all that the functions' code reads of them and of their surroundings;
    `skip` says which contents of the functions' own closures are left out, since cells take them as arguments."""
    return _Walk(functions, objects, skip).guard()


class _Walk:
    """One look. Objects get numbers in the order in which they are met; each is described once, in that order."""

    def __init__(self, functions: Sequence[Any], objects: Sequence[Any], skip: Skip | None) -> None:
        self.checked = epoch[0]
        self.prints: list[Any] = []
        self.facts: list[Fact] = []
        self.lasting: list[Fact] = []
        self.contents: list[Content] = []
        self.large: list[Content] = []
        self.leaves: list[Any] = []
        self.unseen: list[str] = []
        self.words = {"forward"}  # which modules call
        self.counters: set[str] = set()
        self.watched: list[_Holder] = []
        self.classes: set[int] = set()
        self.globals: set[tuple[int, str]] = set()
        self.number: dict[int, int] = {}
        self.met: list[tuple[Any, bool]] = []
        self.home = {package_of(f.__globals__.get("__name__")) for f in map(plain, functions) if f is not None}
        self.roots, self.skip = functions, skip
        for x in functions:
            self.prints.append(self.token(x, True))
        for x in objects:
            self.prints.append(self.token(x, False))

    def guard(self) -> Guard:
        """Describe until nothing new is found."""
        at, known = 0, 0
        done: set[str] = set()
        while at < len(self.met) or self.words - done or known < len(self.watched):
            while at < len(self.met):
                x, lasting = self.met[at]
                at += 1
                self._describe(x, lasting)
            fresh = sorted(self.words - done)
            done |= self.words
            everything = sorted(done)
            before, known = known, len(self.watched)
            for k in range(known):
                self._read(k, everything if k >= before else fresh, k >= before)
        return Guard(
            tuple(self.prints),
            tuple(self.facts),
            tuple(self.lasting),
            tuple(self.contents),
            tuple(self.large),
            tuple(self.leaves),
            tuple(dict.fromkeys(self.unseen)),
            self.checked,
        )

    def token(self, x: Any, lasting: bool) -> Any:
        """A value as part of the prints: itself, or the number of an object that is described elsewhere."""
        if x is None or x.__class__ in (bool, int, str, bytes):
            return x.__class__, x
        if isinstance(x, float) and not isinstance(x, enum.Enum):
            return x.__class__, float.hex(x)
        if isinstance(x, complex) and not isinstance(x, enum.Enum):
            return x.__class__, repr(x)
        found = self.number.get(id(x))
        if found is None:
            found = self.number[id(x)] = len(self.met)
            self.met.append((x, lasting))
        return (x.__class__, x) if isinstance(x, enum.Enum) else found

    def fact(self, lasting: bool, function: Any, argument: Any, value: Any, holder: Any, text: str) -> None:
        """Note a fact; `text` is its code."""
        lasting = lasting and (is_lasting(value) or can_be_weak(value))
        (self.lasting if lasting else self.facts).append(Fact(function, argument, value, holder, text))

    def item(self, lasting: bool, mapping: Mapping[str, Any], name: str) -> Any:
        """Note what is bound to a name."""
        value = mapping[name]
        self.fact(lasting, mapping.__getitem__, name, value, mapping, f"{{h}}[{name!r}] is not {{v}}")
        return value

    # Objects, by their kind.

    def _describe(self, x: Any, lasting: bool) -> None:
        if isinstance(x, Shared | Tensor):
            self._leaf(x)
            if isinstance(x, Expression):  # until a parameter changes
                self.fact(False, _operand, x, x.operand, x, "{h}.operand is not {v}")
                self.prints.append(id(x.operand))
        elif isinstance(x, enum.Enum):
            self._class(x.__class__, lasting)
            self.watched.append(_Holder(x.__dict__, "object"))
        elif isinstance(x, type):
            self._class(x.__class__, lasting)
            self._class(x, lasting)
            self._leaf(x)
            for c in x.__mro__:
                if id(c) in self.classes:
                    found = (name for name in _CONSTRUCTORS if name in c.__dict__)
                    self.prints += (self.token(self.item(lasting, c.__dict__, name), lasting) for name in found)
        elif isinstance(x, types.ModuleType):
            if self._is_users(x.__name__):
                self.prints.append("python module")
                self.watched.append(_Holder(x.__dict__, "module", lasting))
            else:
                self._leaf(x)
                if x is os:
                    self.watched.append(_Holder(_ENVIRONMENT, "module"))
        elif isinstance(x, _CONTAINERS):
            self._container(x)
        elif isinstance(x, array.array | bytearray | memoryview | np.ndarray | np.generic):
            self._array(x)
        elif isinstance(x, types.BuiltinFunctionType) or x.__class__.__module__.partition(".")[0] == "numpy":
            self._leaf(x)  # functions of NumPy have attributes, too
        elif isinstance(x, FUNCTIONS):
            self._function(x, lasting)
        elif isinstance(x, types.MethodType):
            self.prints += ("method", self.token(x.__func__, lasting), self.token(x.__self__, False))
        elif isinstance(x, functools.partial | functools.partialmethod):
            self.prints += ("partial", *(self.token(y, lasting) for y in (x.func, x.args, x.keywords)))
        elif isinstance(x, property):
            self.prints += ("property", *(self.token(f, lasting) for f in (x.fget, x.fset) if f is not None))
        elif isinstance(x, contextvars.ContextVar):
            value = _value_of(x)
            self.fact(False, _value_of, x, value, None, "")
            self.prints += ("context", self.token(value, False))
        elif isinstance(x, weakref.ref):
            self.contents.append(Content(_id_of_referent, x, _id_of_referent(x)))
            self.prints += ("weak", self.token(x(), False))
        elif isinstance(x, operator.attrgetter):
            names = x.__reduce__()[1]
            self.words.update(part for name in names for part in name.split("."))
            self.prints += ("getter", *names)
        elif (inner := wrapped(x)) is not None:
            self.prints += (x.__class__.__name__, self.token(inner, lasting))
        else:
            self._object(x, lasting)

    def _leaf(self, x: Any) -> None:
        self.leaves.append(x)
        self.prints.append(("is", id(x)))

    def _container(self, x: Any) -> None:
        is_mapping = isinstance(x, dict | types.MappingProxyType)
        parts = (*x, *x.values()) if is_mapping else tuple(x)
        if not isinstance(x, tuple | frozenset):
            where = self.contents
            if len(x) > FOLLOWED:
                where = self.large
                self.contents.append(Content(len, x, len(x)))
            ids = _ids_of_dict if is_mapping else _ids
            where.append(Content(ids, x, ids(x), parts))
        if len(x) > FOLLOWED:
            self.leaves += parts
            self.prints.append((x.__class__, tuple(map(id, parts))))
        else:
            self.prints.append((x.__class__, tuple(self.token(e, False) for e in parts)))
        if x.__class__ not in _CONTAINERS and hasattr(x, "__dict__"):
            self._object(x, False)

    def _array(self, x: Any) -> None:
        if isinstance(x, np.ndarray) and x.dtype == object:
            self.prints.append(("array", x.shape))
            self._container(x.ravel().tolist())
            self.contents[-1:] = [Content(_ids_of_array, x, _ids_of_array(x), self.contents[-1].held)]
        elif isinstance(x, np.ndarray) and x.nbytes > LARGE_ARRAY:
            self.unseen.append(f"an array of shape {x.shape}")
            self._leaf(x)
        else:
            kind = getattr(x, "dtype", getattr(x, "typecode", getattr(x, "format", "")))
            self.prints.append(("array", str(kind), *_bytes(x)))
            if not isinstance(x, np.generic):
                self.contents.append(Content(_bytes, x, _bytes(x)))

    def _function(self, f: types.FunctionType, lasting: bool) -> None:
        cell = f.__dict__.get("cell")
        if cell is not None:
            self.prints += ("cell", tuple(sorted(cell.static)), self.token(cell.fn, lasting))
            return
        if not self._is_users(f.__globals__.get("__name__"), f.__code__.co_filename):
            self._leaf(f)
            found = (f.__dict__[name] for name in ("__wrapped__", "registry") if name in f.__dict__)
            self.prints += (self.token(inner, lasting) for inner in found)  # the second is of functools.singledispatch
            if f is os.getenv:
                self.prints.append(self.token(os.environ, False))
            return
        code = f.__code__
        self.leaves.append(code)
        if lasting:
            self.fact(lasting, _code, f, code, f, "{h}.__code__ is not {v}")
        else:  # a method: it is replaced by being set in its class, and seldom given other code
            self.large.append(Content(_code, f, code))
        self.prints.append(("function", id(code)))
        if f.__defaults__ is not None:
            self.fact(lasting, _defaults, f, f.__defaults__, f, "{h}.__defaults__ is not {v}")
            self.prints.append(tuple(self.token(x, False) for x in f.__defaults__))
        if f.__kwdefaults__ is not None:
            self.fact(lasting, _kwdefaults, f, f.__kwdefaults__, f, "{h}.__kwdefaults__ is not {v}")
            self.prints.append(self.token(f.__kwdefaults__, False))
        if f.__dict__:
            self.watched.append(_Holder(f.__dict__, "function"))
        skip = self.skip if any(f is g for g in self.roots) else None
        for name, variable in zip(code.co_freevars, f.__closure__ or (), strict=True):
            self._variable(name, variable, lasting, skip)
        reads = reads_of(code)
        self.words |= reads.attributes
        self.counters |= reads.counters
        for name in reads.imports:
            if name in sys.modules:
                self.prints.append(self.token(sys.modules[name], lasting))
        for name in reads.globals:
            self._global(f.__globals__, name)

    def _variable(self, name: str, variable: types.CellType, lasting: bool, skip: Skip | None) -> None:
        if not is_filled(variable):
            self.fact(False, is_filled, variable, False, None, "")
            self.prints.append("empty")
            return
        value = variable.cell_contents
        if skip is not None and skip(name, value):
            return
        self.prints.append(self.token(value, lasting))
        self.fact(lasting, _contents, variable, value, variable, "{h}.cell_contents is not {v}")

    def _global(self, scope: dict[str, Any], name: str) -> None:
        if (id(scope), name) in self.globals:
            return
        self.globals.add((id(scope), name))
        if name in scope:
            self.prints += (name, self.token(self.item(True, scope, name), True))
        else:
            self.prints += (name, "builtin")
            self.fact(True, scope.__contains__, name, False, scope, f"{name!r} in {{h}}")

    def _object(self, x: Any, lasting: bool) -> None:
        kind = x.__class__
        attributes = getattr(x, "__dict__", None)
        slots = [s for c in kind.__mro__ for s in _names(c.__dict__.get("__slots__", ())) if not s.startswith("__")]
        if attributes is None and not slots:
            self._leaf(x)
            return
        self._class(kind, lasting)
        self.leaves.append(kind)
        self.prints.append(("object", id(kind)))
        is_module, is_noted = hasattr(kind, "training"), isinstance(kind, Noted)
        if not is_noted and kind.__flags__ & _HEAP_TYPE:
            self.fact(False, _class_of, weakref.proxy(x) if type(x).__weakrefoffset__ else x, kind, None, "")
        if is_module:
            self.prints.append(bool(x.training))  # of the class, until it is set
        if attributes is not None:
            is_whole = is_module or isinstance(x, _MADE_OF_ATTRIBUTES)
            self.watched.append(_Holder(attributes, "object", whole=is_whole, is_noted=is_noted))
            if not is_noted:
                self.contents.append(Content(len, attributes, len(attributes)))
        if slots:
            self.watched.append(_Holder(_Slots(x, slots), "object", whole=is_module, is_noted=is_noted))

    def _class(self, kind: type, lasting: bool) -> None:
        for c in kind.__mro__:
            if id(c) not in self.classes and self._is_users(c.__module__):
                self.classes.add(id(c))
                self.leaves.append(c)
                self.words |= _read_by_layers(c)
                is_noted = isinstance(c, Noted)
                self.watched.append(_Holder(c.__dict__, "class", lasting, is_noted=is_noted))
                if not is_noted:
                    self.contents.append(Content(len, c.__dict__, len(c.__dict__)))

    def _read(self, k: int, words: list[str], first: bool) -> None:
        """Describe what holder k has under some names."""
        holder = self.watched[k]
        held = holder.mapping
        whole = holder.whole and first
        if holder.kind == "object" and not set(words).isdisjoint(_DESCRIBED):
            whole = True
        chosen = sorted(held) if whole else [] if holder.whole else [word for word in words if word in held]
        if holder.whole and "training" in chosen:
            chosen.remove("training")  # described with the object
        if holder.kind in ("class", "function"):
            chosen = [n for n in chosen if not (n in self.counters and isinstance(held[n], int | float))]
            if first and holder.kind == "class":
                special = ((n, v) for n, v in held.items() if n[:2] == "__" and n not in _SELDOM_CALLED)
                chosen += [n for n, v in special if isinstance(v, _CODE)]
        for name in chosen:
            value = held[name] if holder.is_noted else self.item(holder.lasting, held, name)
            self.prints += (k, name, self.token(value, holder.lasting))

    def _is_users(self, module: Any, filename: str = "") -> bool:
        package = package_of(module)
        if package == _LIBRARY:
            return False
        return package in self.home or not (is_installed(package) or "-packages" in filename)


@dataclass(slots=True)
class _Holder:
    """The attributes of an object, function, class or Python module.

    whole: whether all are read, not only those that are named; is_noted: whether the epoch says of changes
    """

    mapping: Mapping[str, Any]
    kind: str
    lasting: bool = False
    whole: bool = False
    is_noted: bool = False


class _Slots(Mapping[str, Any]):
    """Attributes in slots."""

    def __init__(self, owner: Any, names: Iterable[str]) -> None:
        self.owner, self.names = owner, tuple(names)

    def __getitem__(self, name: str) -> Any:
        if name not in self.names or not hasattr(self.owner, name):
            raise KeyError(name)
        return getattr(self.owner, name)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.names if hasattr(self.owner, name))

    def __len__(self) -> int:
        return len(tuple(iter(self)))


def _read_by_layers(kind: type) -> set[str]:
    """Names in a class that is derived from a layer of the library, whose code may read them: it is not searched."""
    *layers, _ = [c for c in kind.__mro__ if package_of(c.__module__) == _LIBRARY] or [kind]
    replaced = {name for c in layers for name in c.__dict__ if name[:2] != "__"}
    return {name for name, v in kind.__dict__.items() if layers and (isinstance(v, property) or name in replaced)}


def _id_of_referent(x: weakref.ref[Any]) -> int:
    return id(x())


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _ids(x: Iterable[Any]) -> list[int]:
    return [*map(id, x)]


def _ids_of_dict(x: dict[Any, Any]) -> list[int]:
    return [*map(id, x), *map(id, x.values())]


def _ids_of_array(x: Any) -> list[int]:
    return [*map(id, x.ravel().tolist())]


def _bytes(x: Any) -> tuple[Any, bytes]:
    return getattr(x, "shape", None), bytes(x) if isinstance(x, bytearray) else x.tobytes()


_HEAP_TYPE = 1 << 9
"""The flag of classes that are defined in Python: those of objects that can get another class."""
_value_of = operator.methodcaller("get", None)
_class_of = operator.attrgetter("__class__")
_code = operator.attrgetter("__code__")
_defaults = operator.attrgetter("__defaults__")
_kwdefaults = operator.attrgetter("__kwdefaults__")
_contents = operator.attrgetter("cell_contents")
_operand = operator.attrgetter("operand")
