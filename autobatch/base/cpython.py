"""What compiled loops read from the memory of a list: reference counts of its objects, and small integers.

A recording asks at its flush which of its tensors the user still references. `sys.getrefcount` takes 20 ns a tensor,
three times that where the tensors have left the cache; a compiled loop over the memory of the objects takes a few.
Where objects are in memory is an implementation detail of CPython: the loop is used if the sizes of objects and lists
are those it was written for and it agrees with Python on a sample; otherwise Python is asked.

    reference count | type | … | weak references | …        an object
    reference count | type | length | address of items | …   a list
    reference count | type | how many digits, and the sign | digits of 30 bits       an integer

NumPy asks each number of a list what it is, which takes 18 ns; a loop over their memory takes a few. A list with any
other object or number goes to NumPy.
"""

from __future__ import annotations

import functools
import sys
import weakref
from itertools import islice
from typing import Any

import numpy as np

from .jit import njit
from .memory import word
from .types import Array

_WORD = 8
_ITEMS = 3 * _WORD  # where a list has the address of its items


@njit
def _referenced(listed, first, last, nothing, weak):  # type: ignore[no-untyped-def]
    """1 for each object that has more than one reference, 2 for those that have one and weak references.

    listed: address of the list; nothing: address of None; weak: where an object has its weak references
    """
    items = word(listed + _ITEMS)
    flags = np.zeros(last - first, np.uint8)
    for k in range(first, last):
        x = word(items + _WORD * k)
        if x == nothing:
            continue
        if word(x) & 0xFFFFFFFF > 1:
            flags[k - first] = 1
        elif word(x + weak) != 0:
            flags[k - first] = 2
    return flags


def referenced(objects: list[Any], kind: type, first: int, last: int) -> tuple[Array, Array]:
    """Positions in `objects[first:last]`, each of this class or None, of those referenced from outside of the list,
    and of those with weak references only."""
    if not memory_is_readable():
        return asked(objects, first, last)
    return _read_references(objects, kind, first, last)


def _read_references(objects: list[Any], kind: type, first: int, last: int) -> tuple[Array, Array]:
    flags = _referenced(id(objects), first, last, id(None), kind.__weakrefoffset__)
    return first + np.flatnonzero(flags == 1), first + np.flatnonzero(flags == 2)


def asked(objects: list[Any], first: int, last: int) -> tuple[Array, Array]:
    """The same, by asking Python."""
    n = last - first
    counts = np.fromiter(map(sys.getrefcount, islice(objects, first, last)), np.int64, n)
    weak = np.fromiter(map(weakref.getweakrefcount, islice(objects, first, last)), np.int64, n)
    counts[[x is None for x in islice(objects, first, last)]] = 0
    held = counts > _BASELINE
    return first + np.flatnonzero(held), first + np.flatnonzero(~held & (weak > 0))


_BASELINE = max(map(sys.getrefcount, islice([object()], 0, 1)))
"""What `asked` returns for an object that only the list references."""


class _Sample:
    __slots__ = ("__weakref__",)


def _objects_are_usual() -> bool:
    """Whether objects and lists have the sizes that are expected here."""
    sizes = object.__basicsize__, list.__basicsize__
    return sys.implementation.name == "cpython" and sys.byteorder == "little" and sizes == (2 * _WORD, 5 * _WORD)


@functools.cache
def memory_is_readable() -> bool:
    """Whether objects lie in memory as the compiled loop reads them."""
    if not _objects_are_usual():
        return False
    objects: list[Any] = [_Sample() for _ in range(9)]
    objects[4] = None
    also = [objects[2], objects[7]]
    watching = [weakref.ref(x) for x in (objects[3], objects[7], objects[8])]
    found = _read_references(objects, _Sample, 1, 9)
    as_asked = all(map(np.array_equal, found, asked(objects, 1, 9)))
    return as_asked and [len(positions) for positions in found] == [len(also), len(watching) - 1]


# Integers.

_DIGITS = 3 * _WORD
_DIGIT = (1 << 30) - 1


@njit
def _size_field(address):  # type: ignore[no-untyped-def]
    return word(address + 2 * _WORD)


@njit
def _read(listed, kind, none, one, numbers):  # type: ignore[no-untyped-def]
    """Fill in the numbers of a list; whether all are of this class, with no digit or one.

    none, one: what stands where an int says how many digits it has
    """
    items = word(listed + _ITEMS)
    for k in range(numbers.size):
        x = word(items + _WORD * k)
        if word(x + _WORD) != kind:
            return False
        size = word(x + 2 * _WORD)
        if size == one:
            numbers[k] = word(x + _DIGITS) & _DIGIT
        elif size == none:
            numbers[k] = 0
        else:
            return False
    return True


@functools.cache
def _sizes() -> tuple[int, int] | None:
    """What stands where a number says how many digits it has: of 0, of others; None if they are not as expected."""
    if not _objects_are_usual() or int.__basicsize__ != _DIGITS or int.__itemsize__ != _WORD // 2:
        return None
    none, one = _size_field(id(0)), _size_field(id(1))
    sample = [0, 1, 7, 256, 257, 70_000, _DIGIT]
    numbers = np.empty(len(sample), np.int32)
    others = [-1, -70_000, _DIGIT + 1, 1 << 40, True, 1.0]
    if none == one or not _read(id(sample), id(int), none, one, numbers) or numbers.tolist() != sample:
        return None
    if any(_read(id(wrong), id(int), none, one, numbers[:1]) for wrong in [[x] for x in others]):
        return None
    return none, one


def as_int32(listed: list[int]) -> Array:
    """The numbers of a list as int32."""
    sizes = _sizes()
    if sizes is not None:
        numbers = np.empty(len(listed), np.int32)
        if _read(id(listed), id(int), *sizes, numbers):
            return numbers
    return np.array(listed, np.int32)
