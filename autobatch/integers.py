"""A list of small whole numbers as an array, read from memory.

NumPy asks each number of a list what it is, which takes 18 ns; a compiled loop over the memory of the numbers takes a
few. As in `references`, the loop is used if it sees what Python sees in a sample, and a list with any other object or
number goes to NumPy.

    reference count | type | how many digits, and the sign | digits of 30 bits       a whole number
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .jit import njit
from .references import ITEMS, WORD, objects_are_usual, word

__all__ = ["as_int32"]

_DIGITS = 3 * WORD
_DIGIT = (1 << 30) - 1


@njit
def _size_field(address):  # type: ignore[no-untyped-def]
    return word(address + 2 * WORD)


@njit
def _read(listed, kind, none, one, numbers):  # type: ignore[no-untyped-def]
    """Fill in the numbers of a list; whether all are of this class, with no digit or one.

    none, one: what stands where an int says how many digits it has
    """
    items = word(listed + ITEMS)
    for k in range(numbers.size):
        x = word(items + WORD * k)
        if word(x + WORD) != kind:
            return False
        size = word(x + 2 * WORD)
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
    if not objects_are_usual() or int.__basicsize__ != _DIGITS or int.__itemsize__ != WORD // 2:
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


def as_int32(listed: list[int]) -> np.ndarray[Any, Any]:
    """The numbers of a list as int32."""
    sizes = _sizes()
    if sizes is not None:
        numbers = np.empty(len(listed), np.int32)
        if _read(id(listed), id(int), *sizes, numbers):
            return numbers
    return np.array(listed, np.int32)
