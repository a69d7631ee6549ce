"""Facts about what code read, and whether it has changed. Cost: 50 ns for each fact."""

from __future__ import annotations

import enum
import types
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...base.module_epoch import epoch

FOLLOWED = 64
"""Most elements of a container that are looked at on every call, and followed."""


class Fact(NamedTuple):
    """`function(argument) is value`; as generated code with holder h and value v in `text`."""

    function: Callable[[Any], Any]
    argument: Any
    value: Any
    holder: Any = None
    text: str = ""


class Content(NamedTuple):
    """`function(argument) == value`, a list of numbers or bytes; `held` keeps the objects whose ids these are."""

    function: Callable[[Any], Any]
    argument: Any
    value: Any
    held: Any = None


@dataclass(slots=True)
class Guard:
    """What code read; see `guard`.

    leaves: objects that count by identity, which have to live as long as the prints are compared
    unseen: names of what is read but not looked into
    """

    prints: tuple[Any, ...]
    facts: tuple[Fact, ...]
    lasting: tuple[Fact, ...]
    contents: tuple[Content, ...]
    large: tuple[Content, ...]
    leaves: tuple[Any, ...]
    unseen: tuple[str, ...]
    checked: int

    def is_bound_anew(self, now: Guard) -> bool:
        """Whether anything was rebound since, attributes of modules included; `now` is about the same objects."""
        if now.checked != self.checked and now.prints != self.prints:
            return True  # attributes of modules are no facts: setting one moves the epoch
        return not (same(self.facts, ()) and same(self.lasting, ()))

    def unchanged(self) -> bool:
        """Whether nothing was rebound or changed in place. Only for the very objects that the guard is about."""
        return self.checked == epoch[0] and same(self.facts, self.contents) and same(self.lasting, self.large)


def same(facts: Iterable[Any], contents: Iterable[Any]) -> bool:
    """Whether facts and contents are unchanged."""
    try:
        for function, argument, value, *_ in facts:
            if function(argument) is not value:
                return False
        for function, argument, value, *_ in contents:
            if function(argument) != value:
                return False
    except (LookupError, AttributeError, ValueError, ReferenceError):  # what was read is gone
        return False
    return True


_LASTING = (
    bool, int, float, complex, str, bytes, enum.Enum, type, np.ufunc, types.ModuleType, types.CodeType,
    types.FunctionType, types.BuiltinFunctionType,
)  # fmt: skip


def is_lasting(x: Any) -> bool:
    """Whether code may hold on to what a global name is bound to."""
    return (
        x is None
        or isinstance(x, _LASTING)
        or (x.__class__ is tuple and len(x) <= FOLLOWED and all(map(is_lasting, x)))
    )


def can_be_weak(x: Any) -> bool:
    """Whether code should hold a global by a weak reference."""
    return bool(type(x).__weakrefoffset__) and not is_lasting(x)


def weakly(x: Any) -> Callable[[], Any]:
    """A reference that does not keep `x` alive, where that is possible."""
    return weakref.ref(x) if type(x).__weakrefoffset__ else lambda: x
