"""Packed copies of shared operands for matmuls, cached until the numbers change.

`kept(v)` gives `tiles.panels(v)`: made for the first matmul, and again after `forget(v)`, which code that changes an
array in place calls. A copy is freed with its array. So training transposes a weight once a step, however many
launches read it, and inference once.
"""

from __future__ import annotations

import functools
import weakref
from typing import Any

import numpy as np

from ...base.types import Array
from .tiles import panels


class _Record:
    """The copies of one array that owns its data: by shape, since a view may be reshaped."""

    __slots__ = ("owner", "packed")

    def __init__(self, owner: Array) -> None:
        gone = functools.partial(_records.pop, id(owner))  # no Python: it would swallow a Ctrl-C
        self.owner = weakref.ref(owner, gone)
        self.packed: dict[tuple[int, ...], Array] = {}


_records: dict[int, _Record] = {}


def _owner(array: Array) -> Any:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def kept(v: Array) -> Array:
    """`panels(v)`, kept where `v` shows, in order, all numbers of the array that owns them; else made again.

    >>> v = np.ones((2, 3), np.float32)
    >>> kept(v) is kept(v), kept(v[:1]) is kept(v[:1])
    (True, False)
    """
    owner = v if v.base is None else _owner(v)
    if owner.base is not None or owner.size != v.size or not (v.flags.c_contiguous and owner.flags.c_contiguous):
        return panels(v)
    record = _records.get(id(owner))
    if record is None or record.owner() is not owner:
        record = _records[id(owner)] = _Record(owner)
    found = record.packed.get(v.shape)
    if found is None:
        found = record.packed[v.shape] = panels(v)
    return found


def forget(array: Array) -> None:
    """Drop the copies of an array whose numbers change; arrays of a device have none."""
    if not isinstance(array, np.ndarray):
        return
    _records.pop(id(_owner(array)), None)


def kept_bytes() -> int:
    """Memory that the copies take."""
    return sum(packed.nbytes for record in list(_records.values()) for packed in record.packed.values())
