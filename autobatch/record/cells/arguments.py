"""Arguments of a cell call: flattened into operands, data and signature, and unflattened with tracers."""

from __future__ import annotations

import enum
import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import EllipsisType, FunctionType
from typing import Any

import numpy as np

from ...base.errors import CellError, op_error, user_error
from ...base.types import ELEMENTS, LEADING, Type
from ...ir.trace import in_range
from ...ops.value import Tensor
from ..containers import attributes_of_dict, made_like, parts_of
from ..creation import as_array
from ..links import lift, remember_array, shared_row
from ..shared import Shared
from ..tape import Recording
from ..tensor import RecordedTensor, iterate_tensors
from ..views import laid_out


@dataclass(slots=True)
class Flat:
    """A flattened call.

    structure: nested tuples that say where everything was, types of tensors included; it is the key
    slots: a tensor, or for a list of varying length a list of tensors, in order
    numbers: data, in order; objects: what is guarded, `owner` last; held: kept alive for the sake of identity
    n_args, named, inside: how many arguments have no name, the names of the others, and which variables of the closure
    fast_key: what a fast path compares by identity; lifted: whether something is there that it does not take
    """

    owner: Any = None
    n_args: int = 0
    named: tuple[str, ...] = ()
    inside: tuple[int, ...] = ()
    structure: Any = None
    key: Any = None
    slots: list[Any] = field(default_factory=list)
    numbers: list[Any] = field(default_factory=list)
    objects: list[Any] = field(default_factory=list)
    held: tuple[Any, ...] = ()
    fast_key: list[Any] = field(default_factory=list)
    lifted: bool = False


def flatten_arguments(flat: Flat, args: Sequence[Any], static: Sequence[bool], tape: Recording) -> Flat:
    """Flatten a call. The owner, `self` of a method, is guarded separately."""
    parts = []
    for k, (x, fixed) in enumerate(zip(args, static, strict=True)):
        if k == 0 and flat.owner is not None and x is flat.owner:
            parts.append(("object", "self", x))
        else:
            parts.append(_static(x, flat) if fixed else _part(x, flat, tape))
    flat.objects.append(flat.owner)
    flat.structure = tuple(parts)
    flat.key = tuple(_key(p) for p in parts)
    return flat


def is_operand(x: Any) -> bool:
    """Whether what a closure of a cell holds is an argument of it: values, numbers, and containers of them."""
    if isinstance(x, list):
        return (
            bool(x) and not _has_own_code(type(x)) and all(isinstance(e, tuple | _VALUES) and is_operand(e) for e in x)
        )
    if isinstance(x, tuple | dict):
        return bool(x) and all(map(is_operand, x.values() if isinstance(x, dict) else x))
    return isinstance(x, _VALUES | str | bytes | enum.Enum | None)


_VALUES = Tensor | np.ndarray | np.generic | bool | int | float


def _static(x: Any, flat: Flat) -> Any:
    try:
        hash(x)
    except TypeError:
        raise user_error(CellError, "cell: a static argument must be hashable", got=repr(x)[:60]) from None
    flat.held = (*flat.held, x)
    flat.fast_key.append((type(x), x))
    return "static", type(x), x


def _part(x: Any, flat: Flat, tape: Recording, listed: bool = False) -> Any:
    """A part of the structure; `listed` says that numbers are values of their own, for they are part of an element."""
    if isinstance(x, RecordedTensor):
        flat.slots.append(x)
        flat.fast_key.append(x._type)
        return "T", x._type
    if isinstance(x, slice) and all(b is None or isinstance(b, int | np.integer) for b in (x.start, x.stop, x.step)):
        flat.lifted = True
        return "slice", tuple(b if b is None else int(b) for b in (x.start, x.stop, x.step))
    if isinstance(x, bool | np.bool_ | str | bytes | enum.Enum | EllipsisType | None):
        return _static(bool(x) if isinstance(x, np.bool_) else x, flat)
    if listed and isinstance(x, int | float | np.number):
        number = lift(np.asarray(x, np.int64 if isinstance(x, int | np.integer) else np.float64), tape)
        flat.slots.append(number)
        flat.lifted = True
        return "number", number._type
    if isinstance(x, int | np.integer):
        flat.numbers.append(in_range("cell", int(x)))
        return ("i",)
    if isinstance(x, float | np.floating):
        flat.numbers.append(float(x))
        return ("f",)
    if isinstance(x, Shared):
        inner = x.operand
        if x.ndim <= 1 or inner is None:
            return _part(shared_row(x, tape), flat, tape)
        flat.held = (*flat.held, inner)
        flat.fast_key.append(inner)
        return "P", inner
    if isinstance(x, np.ndarray):
        lifted = lift(as_array(x), tape)
        remember_array(x, lifted, tape)
        return _part(lifted, flat, tape)
    if isinstance(x, tuple):
        kind = type(x) if hasattr(x, "_fields") else tuple
        return "tuple", kind, tuple(_part(e, flat, tape, listed) for e in x)
    if isinstance(x, dict):
        flat.lifted = True
        if type(x) is not dict:
            factory = x.default_factory if isinstance(x, defaultdict) else None
            flat.objects += (type(x), factory, attributes_of_dict(x))
        return "dict", tuple(x), tuple(_part(e, flat, tape, listed) for e in x.values()), x
    if isinstance(x, list):
        return _list(x, flat, tape)
    if hasattr(x, "__dict__") or callable(x):
        flat.objects.append(x)
        flat.lifted = True
        return "object", x.__class__, x
    what = f"an argument of type {type(x).__name__} is neither value, number nor module"
    raise op_error("cell", what, got=repr(x)[:60], repair="name it in static= if it belongs to the signature")


@functools.cache
def _has_own_code(kind: type) -> bool:
    """Whether a class derived from list has methods or properties of its own."""
    return kind is not list and any(
        isinstance(v, FunctionType | property) and name != "__init__"
        for c in kind.__mro__
        for name, v in c.__dict__.items()
    )


def _list(x: list[Any], flat: Flat, tape: Recording) -> Any:
    if _has_own_code(type(x)):
        what = "cell: a list argument is traced once for any length, and loses its class"
        repair = "pass list(...) of it, and a function or object for what its methods do"
        raise user_error(CellError, what, got=f"a {type(x).__name__}, which has methods of its own", repair=repair)
    if not x:
        return ("empty",)
    columns: list[list[Any]] = []
    shape: Any = None
    for e in x:
        one = Flat()
        is_number = isinstance(e, int | float | np.number) and not isinstance(e, bool)
        structure = _part(lift(as_array(e), tape) if is_number else e, one, tape, listed=True)
        if any(not isinstance(s, RecordedTensor) for s in one.slots) or one.objects:
            what = "a list argument holds something other than values or tuples of values"
            raise op_error("cell", what, repair="name the argument in static=, or pass tuples")
        if shape is None:
            shape = structure
            columns = [[] for _ in one.slots]
        elif _key(structure) != _key(shape):
            if any(t._type.layout for t in iterate_tensors(x)):
                return _list(made_like(x, map(_in_default_layout, x)), flat, tape)
            alike = _with_floats(x)
            if alike is not x:
                return _list(alike, flat, tape)
            what = "elements of a list argument differ in structure, shape or dtype"
            expected = _show(shape)
            raise op_error("cell", what, expected=expected, got=_show(structure), repair="name the argument in static=")
        flat.held = (*flat.held, *one.held)
        flat.lifted = flat.lifted or one.lifted or not isinstance(e, RecordedTensor | tuple)
        for column, t in zip(columns, one.slots, strict=True):
            column.append(t)
    flat.slots.extend(columns)
    flat.fast_key.extend(c[0]._type for c in columns)
    return "list", shape


def _with_floats(x: list[Any]) -> list[Any]:
    """The elements of a list with floats for integers where there are both; the list itself where there is nothing to
    change."""
    first = x[0]
    if any(isinstance(e, float | np.floating) for e in x) and any(isinstance(e, int | np.integer) for e in x):
        is_number = all(isinstance(e, int | float | np.number) and not isinstance(e, bool) for e in x)
        return [float(e) for e in x] if is_number else x
    if not all(isinstance(e, tuple) and len(e) == len(first) for e in x):
        return x
    places = [list(column) for column in zip(*x, strict=True)]
    changed = [_with_floats(column) for column in places]
    if all(a is b for a, b in zip(places, changed, strict=True)):
        return x
    return [made_like(e, parts) for e, parts in zip(x, zip(*changed, strict=True), strict=True)]


def _in_default_layout(x: Any) -> Any:
    """An element of a list whose values do not lie alike."""
    if isinstance(x, RecordedTensor):
        return laid_out(x, LEADING)
    return made_like(x, map(_in_default_layout, parts_of(x))) if isinstance(x, tuple) else x


def _key(part: Any) -> Any:
    """A part of the structure with parameters replaced by their identity, and objects, which are guarded, left out."""
    if part[0] == "P":
        return part[0], id(part[1])
    if part[0] == "object":
        return part[:2]
    if part[0] in ("tuple", "dict"):
        return part[0], part[1], tuple(_key(p) for p in part[2]), *map(type, part[3:])
    if part[0] == "list":
        return "list", _key(part[1])
    if part[0] == "static" and part[1] is float:
        return "static", float, part[2].hex()
    return part


def matrices(flat: Flat) -> tuple[list[int], int, Any]:
    """Slots of matrices with as many rows as the first, this number, and the key of the call with no number of them."""
    lengths = [_length(x._type) if isinstance(x, RecordedTensor) else -1 for x in flat.slots]
    n = next((length for length in lengths if length >= 0), -1)
    rows = [k for k, length in enumerate(lengths) if length == n >= 0]
    return rows, n, _without_length(flat.key, n) if rows else None


def _length(type: Type) -> int:
    """The length of the leading axis, where its elements are rows; else -1."""
    are_rows = type.ndim > 1 if type.layout == LEADING else type.layout == ELEMENTS and type.ndim == 1
    return type.shape[0] if are_rows else -1


def _without_length(part: Any, n: int) -> Any:
    if isinstance(part, Type):
        return (part.dtype, part.shape[1:]) if _length(part) == n else part
    return tuple(_without_length(p, n) for p in part) if isinstance(part, tuple) else part


def _show(part: Any) -> str:
    if part[0] == "T":
        return str(part[1])
    if part[0] == "tuple":
        return f"({', '.join(_show(p) for p in part[2])})"
    return str(part[0])
