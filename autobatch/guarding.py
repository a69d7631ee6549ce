"""Guards: what a traced cell assumed of `self` and of module arguments, and whether it still holds."""

from __future__ import annotations

import enum
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from .guards import epoch
from .ops.value import Tensor
from .shared import Shared

_is = operator.is_


class Guard:
    """A fingerprint of objects at the time of a trace.

    Setting an attribute of a module moves `guards.epoch`, so that a guard checked in this epoch holds while its lists
    and dicts keep their elements. An object that is no module is `volatile`: it is looked at on every call.
    """

    __slots__ = ("checked", "containers", "kept", "prints", "volatile")

    def __init__(self, owner: Any, objects: Sequence[Any]) -> None:
        walk = _Walk()
        self.prints = tuple(walk.of(x, root=True) for x in (owner, *objects))
        self.kept = walk.kept
        self.containers = tuple(walk.containers)
        self.volatile = walk.volatile
        self.checked = epoch[0]

    def holds(self, owner: Any, objects: Sequence[Any]) -> bool:
        """Whether the objects look as they did."""
        walk = _Walk()
        return self.prints == tuple(walk.of(x, root=True) for x in (owner, *objects))


def unchanged(containers: Sequence[tuple[Any, tuple[Any, ...]]]) -> bool:
    """Whether lists and dicts hold the very objects they held."""
    for container, content in containers:
        now = (*container, *container.values()) if isinstance(container, dict) else container
        if len(now) != len(content) or not all(map(_is, now, content)):
            return False
    return True


def fingerprint(x: Any) -> Any:
    """What a trace may depend on in an object, as something that can be compared."""
    return _Walk().of(x)


def _attributes(x: Any) -> dict[str, Any] | None:
    """Attributes in `__dict__` and in slots; None where there are none of either kind."""
    slots = [s for c in type(x).__mro__ for s in _names(c.__dict__.get("__slots__", ())) if not s.startswith("__")]
    attributes = getattr(x, "__dict__", None)
    if attributes is None and not slots:
        return None
    return {**{s: getattr(x, s) for s in slots if hasattr(x, s)}, **(attributes or {})}


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


class _Walk:
    def __init__(self) -> None:
        self.seen: dict[int, int] = {}
        self.kept: list[Any] = []
        self.containers: list[tuple[Any, tuple[Any, ...]]] = []
        self.volatile = False

    def of(self, x: Any, root: bool = False) -> Any:
        if x is None or isinstance(x, bool | int | str | bytes | enum.Enum):
            return type(x), x
        if isinstance(x, float):
            return float, x.hex()
        if isinstance(x, Shared | type) or (callable(x) and not hasattr(x, "training")) or isinstance(x, Tensor):
            self.kept.append(x)
            return "is", id(x)
        if id(x) in self.seen:
            return "seen", self.seen[id(x)]
        self.seen[id(x)] = len(self.seen)
        if isinstance(x, np.ndarray | np.generic):
            self.volatile = True
            return "array", str(x.dtype), x.shape, np.asarray(x).tobytes() if x.dtype != object else id(x)
        if isinstance(x, set):
            self.volatile = True
        if isinstance(x, list | tuple | set | frozenset):
            if isinstance(x, list):
                self.containers.append((x, tuple(x)))
            return type(x), tuple(self.of(e) for e in x)
        if isinstance(x, dict):
            self.containers.append((x, (*x, *x.values())))
            return dict, tuple((self.of(k), self.of(v)) for k, v in x.items())
        attributes = _attributes(x)
        if attributes is None:
            self.kept.append(x)
            return "is", id(x)
        if hasattr(x, "training"):
            attributes["training"] = x.training  # of the class, until it is set
        else:
            self.volatile = True
        if not root:
            self.kept.append(x)
        # A module's attributes change only through __setattr__, which moves the epoch.
        return "object", id(x) if not root else 0, tuple((k, self.of(v)) for k, v in sorted(attributes.items()))
