"""Which objects of a list somebody else holds: their reference counts, looked at all at once.

A recording asks at its flush which of its tensors the user still has. `sys.getrefcount` takes 20 ns a tensor, three
times that where the tensors have left the cache; a compiled loop over the memory of the objects takes a few. Where
objects lie in memory is CPython's own affair: the loop is used if the sizes of objects and lists are those it was
written for and it sees what Python sees in a sample, and else Python is asked.

    reference count | type | … | weak references | …        an object
    reference count | type | length | address of items | …   a list
"""

from __future__ import annotations

import functools
import sys
import weakref
from itertools import islice
from typing import Any

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from .jit import njit

__all__ = ["ITEMS", "WORD", "asked", "memory_is_readable", "objects_are_usual", "referenced", "word"]

Ints = np.ndarray[Any, Any]

WORD = 8
ITEMS = 3 * WORD  # where a list has the address of its items


def _load(typing_context, address):  # type: ignore[no-untyped-def]
    """The 64 bits at an address."""

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        kind = context.get_value_type(types.int64)
        return builder.load(builder.inttoptr(args[0], kind.as_pointer()))

    return types.int64(types.int64), build


word: Any = intrinsic(_load)


@njit
def _referenced(listed, first, last, nothing, weak):  # type: ignore[no-untyped-def]
    """Positions of the objects that have more than one reference, and of those that have one and weak references.

    listed: address of the list; nothing: address of None; weak: where an object has its weak references
    """
    items = word(listed + ITEMS)
    flags = np.zeros(last - first, np.uint8)
    n_held = 0
    n_watched = 0
    for k in range(first, last):
        x = word(items + WORD * k)
        if x == nothing:
            continue
        if word(x) & 0xFFFFFFFF > 1:
            flags[k - first] = 1
            n_held += 1
        elif word(x + weak) != 0:
            flags[k - first] = 2
            n_watched += 1
    held = np.empty(n_held, np.int64)
    watched = np.empty(n_watched, np.int64)
    if n_held + n_watched:
        n_held = 0
        n_watched = 0
        for k in range(flags.size):
            if flags[k] == 1:
                held[n_held] = first + k
                n_held += 1
            elif flags[k] == 2:
                watched[n_watched] = first + k
                n_watched += 1
    return held, watched


def referenced(objects: list[Any], kind: type, first: int, last: int) -> tuple[Ints, Ints]:
    """Positions in `objects[first:last]`, each of this class or None, of those that somebody besides the list holds,
    and of those that nobody else holds but to which there are weak references."""
    if memory_is_readable():
        held, watched = _referenced(id(objects), first, last, id(None), kind.__weakrefoffset__)
        return held, watched
    return asked(objects, first, last)


def asked(objects: list[Any], first: int, last: int) -> tuple[Ints, Ints]:
    """The same, by asking Python."""
    n = last - first
    counts = np.fromiter(map(sys.getrefcount, islice(objects, first, last)), np.int64, n)
    weak = np.fromiter(map(weakref.getweakrefcount, islice(objects, first, last)), np.int64, n)
    counts[[x is None for x in islice(objects, first, last)]] = 0
    held = counts > _BASELINE
    return first + np.flatnonzero(held), first + np.flatnonzero(~held & (weak > 0))


_BASELINE = max(map(sys.getrefcount, islice([object()], 0, 1)))
"""What `asked` sees of an object that only the list holds."""


class _Sample:
    __slots__ = ("__weakref__",)


def objects_are_usual() -> bool:
    """Whether objects and lists have the sizes that are expected here."""
    sizes = object.__basicsize__, list.__basicsize__
    return sys.implementation.name == "cpython" and sys.byteorder == "little" and sizes == (2 * WORD, 5 * WORD)


@functools.cache
def memory_is_readable() -> bool:
    """Whether objects lie in memory as the compiled loop reads them."""
    if not objects_are_usual():
        return False
    objects: list[Any] = [_Sample() for _ in range(9)]
    objects[4] = None
    also = [objects[2], objects[7]]
    watching = [weakref.ref(x) for x in (objects[3], objects[7], objects[8])]
    found = _referenced(id(objects), 1, 9, id(None), _Sample.__weakrefoffset__)
    as_asked = all(map(np.array_equal, found, asked(objects, 1, 9)))
    return as_asked and [len(positions) for positions in found] == [len(also), len(watching) - 1]
