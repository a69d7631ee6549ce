"""Lists, tuples and dicts, rebuilt around other parts."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any


def parts_of(x: Any) -> Sequence[Any]:
    """What a list or tuple holds, or a dict under its keys."""
    return tuple(x.values()) if isinstance(x, dict) else x


def keys_of(x: Any) -> tuple[Any, ...]:
    """The keys of a dict, none for a list or tuple."""
    return tuple(x) if isinstance(x, dict) else ()


def made_like(x: Any, parts: Iterable[Any]) -> Any:
    """A container of the class of `x` and with its keys that holds other parts."""
    return filled(kind_of(x), keys_of(x), parts)


def kind_of(x: Any) -> Any:
    """What `filled` makes containers like `x` from: its class, or an empty copy of a list or dict of another class."""
    if type(x) in (list, tuple, dict) or isinstance(x, tuple):
        return type(x)
    if isinstance(x, dict):
        return _dict_like(x, ())
    empty = copy.copy(x)
    empty.clear()
    return empty


def filled(kind: Any, keys: tuple[Any, ...], parts: Iterable[Any]) -> Any:
    """A container of a kind that holds these parts."""
    if kind is list or kind is tuple:
        return kind(parts)
    if kind is dict:
        return dict(zip(keys, parts, strict=True))
    if isinstance(kind, type):
        return kind(*parts) if hasattr(kind, "_fields") else kind(parts)
    if isinstance(kind, dict):
        return _dict_like(kind, zip(keys, parts, strict=True))
    made = copy.copy(kind)
    made.extend(parts)
    return made


def attributes_of_dict(x: dict[Any, Any]) -> dict[str, Any] | None:
    """The attributes of an object of a class derived from dict, where these are not its items."""
    return vars(x) if type(x).__dictoffset__ and vars(x) is not x else None


def _dict_like(x: dict[Any, Any], items: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    made: dict[Any, Any] = dict.__new__(type(x))
    put = OrderedDict.__setitem__ if isinstance(x, OrderedDict) else dict.__setitem__
    for key, value in items:
        put(made, key, value)
    if isinstance(x, defaultdict):
        object.__setattr__(made, "default_factory", x.default_factory)
    if type(x).__dictoffset__:
        attributes = attributes_of_dict(x)
        object.__setattr__(made, "__dict__", made if attributes is None else dict(attributes))
    return made
