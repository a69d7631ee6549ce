"""Moves: a rule and all that it reads, ready to run on one array, so that many arrays change, or none.

`move_of` makes a `Move` where its array lies, and whatever can fail, fails there: nothing has changed. `changing` then
compiles what is left to compile, and returns a function that does nothing but run the moves, in place. Each of them
counts the parts it has taken, so that one that an exception broke off between two instructions can be run again, and
does what is left.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..backends import current_backend
from ..backends.device import Device, current_device
from ..backends.host.parts import ALONE, SHARED, rows_of_a_part, share_counted
from ..backends.transfer import is_on_device
from ..record.parameter import SparseRows
from .rules import Rule

Array = Any


class Move(Protocol):
    """What happens to one array."""

    def part(self) -> int:
        """How many rows are one part."""

    def prepare(self) -> None:
        """Compile what has to be compiled."""

    def run(self, array: Array, counter: Array) -> None:
        """Change the array, and what the rule stores beside it; parts that the counter has as taken are left out."""


def move_of(
    rule: Rule, w: Array, g: Array | SparseRows | None, kept: Mapping[str, Array], scalars: Mapping[str, Any]
) -> Move:
    """The move of one array, which nothing changes before it runs.

    Arguments:
        w: the array.
        g: its gradient, or the rows of one; None for a rule that has none.
        kept: the other arrays in the order of the rule, as large as `w`, contiguous, and where it is.
        scalars: at least those of the rule, as `numbers` gives them.
    """
    if is_on_device(w):
        return _on_device(rule, w, g, kept, scalars)
    if current_backend() == "numpy" or not (w.flags.c_contiguous and w.flags.aligned):
        return _ArrayMove(*_by_numpy(rule, w, g, kept, scalars))
    numbers = tuple(map(scalars.__getitem__, rule.scalars))
    if isinstance(g, SparseRows):
        shape = g.shape[0], math.prod(g.shape[1:])
        arrays = [g.values.reshape(len(g.rows), shape[1]), *(array.reshape(shape) for array in kept.values())]
        return _LoopMove(rule.loop_by_rows, shape, len(g.rows), (g.rows, *arrays, numbers))
    arrays = [array.reshape(-1) for array in (*(() if g is None else (g,)), *kept.values())]
    return _LoopMove(rule.loop, (-1,), w.size, (*arrays, numbers))


def numbers(scalars: Mapping[str, float], dtype: np.dtype[Any]) -> dict[str, Any]:
    """Scalars in a dtype."""
    return dict(zip(scalars, np.array([*scalars.values()], dtype), strict=True))


def changing(moves: Sequence[Move]) -> Callable[[Sequence[Array]], None]:
    """A function that runs the moves on their arrays, and run again does what is left."""
    for move in moves:
        move.prepare()
    counters = np.array([(0, 0, move.part()) for move in moves], np.int64).reshape(-1, 3)

    def change(arrays: Sequence[Array]) -> None:
        for array, move, counter in zip(arrays, moves, counters, strict=True):
            move.run(array, counter)

    return change


_compiled: set[tuple[Callable[..., int], np.dtype[Any]]] = set()
"""Loops that ran in this process, with the dtypes that they ran for."""


@dataclass(slots=True)
class _LoopMove:
    """A compiled loop: `loop(n, width, array, *arguments, parts)`, with the array as `shape`.

    n: numbers, of width 1, or rows. They are cut into parts (`backends.host.parts`), which threads may share; none is
    met twice.
    """

    loop: Callable[..., int]
    shape: tuple[int, ...]
    n: int
    arguments: tuple[Any, ...]

    @property
    def _width(self) -> int:
        return self.shape[1] if len(self.shape) == 2 else 1

    def part(self) -> int:
        touches = 2 * len(self.arguments) * self._width
        return max(self.n, 1) if self.n * touches < SHARED else rows_of_a_part(self.n, self._width, touches)

    def prepare(self) -> None:
        # A call on no numbers: nothing is left to compile, or to load, once arrays change.
        dtype = np.dtype(type(self.arguments[-1][0]))
        if (self.loop, dtype) not in _compiled:
            none = (x[:0] if isinstance(x, np.ndarray) else x for x in self.arguments)
            self.loop(0, 1, np.empty((0, *self.shape[1:]), dtype), *none, ALONE)
            _compiled.add((self.loop, dtype))

    def run(self, array: Array, counter: Array) -> None:
        arguments = self.n, self._width, array.reshape(self.shape), *self.arguments
        if counter[2] < self.n:
            share_counted(self.loop, arguments, counter)
        else:
            self.loop(*arguments, counter.__array_interface__["data"][0])


@dataclass(slots=True)
class _ArrayMove:
    """What NumPy has computed, to be written; `rows`: those of the arrays that it belongs to."""

    value: Array
    kept: list[tuple[Array, Array]]
    rows: Any

    def part(self) -> int:
        return 1

    def prepare(self) -> None: ...

    def run(self, array: Array, counter: Array) -> None:
        for target, value in ((array, self.value), *self.kept):
            target[self.rows] = value


def _by_numpy(
    rule: Rule, w: Array, g: Array | SparseRows | None, kept: Mapping[str, Array], scalars: Mapping[str, Any]
) -> tuple[Array, list[tuple[Array, Array]], Any]:
    rows: Any = g.rows if isinstance(g, SparseRows) else ...
    read = {name: array[rows] for name, array in {"w": w, **kept}.items()}
    if g is not None:
        read["g"] = g.values.reshape(read["w"].shape) if isinstance(g, SparseRows) else g
    value, *others = rule.values(read, scalars)
    targets = [kept[name] for name in rule.stored[1:]]
    return value, list(zip(targets, others, strict=True)), rows


# On a device. Settings go to kernels as the bits of a double; every argument has 64 bits. Nothing waits for the device.

THREADS = 256


def bits(x: float) -> int:
    """A double as an integer."""
    return int(struct.unpack("<q", struct.pack("<d", float(x)))[0])


def kind_of(dtype: np.dtype[Any]) -> str:
    """The type of C of this dtype."""
    return "float" if dtype.itemsize == 4 else "double"


@dataclass(slots=True)
class _DeviceMove:
    """A kernel, and its arguments after the array's address; `arrays`: what has to stay until it ran."""

    device: Device
    kernel: Any
    n: int
    arguments: tuple[int, ...]
    arrays: tuple[Any, ...]

    def part(self) -> int:
        return max(self.n, 1)

    def prepare(self) -> None: ...

    def run(self, array: Array, counter: Array) -> None:
        if not counter[1]:
            self.device.launch(self.kernel, -(-self.n // THREADS), THREADS, (array.data.ptr, *self.arguments))
            counter[1] = 1


def _on_device(
    rule: Rule, w: Array, g: Array | SparseRows | None, kept: Mapping[str, Array], scalars: Mapping[str, Any]
) -> Move:
    device = current_device()
    rows, width, n = None, 1, int(w.size)
    if isinstance(g, SparseRows):
        rows, width, n = device.upload(g.rows), math.prod(w.shape[1:]), int(g.values.size)
        g = g.values
    read = (*(() if g is None else (g,)), *kept.values())
    kernel = device.kernel(rule.kernels[kind_of(w.dtype)], "update")
    places = *(int(array.data.ptr) for array in read), 0 if rows is None else int(rows.data.ptr)
    arguments = *places, n, width, *(bits(scalars[name]) for name in rule.scalars)
    return _DeviceMove(device, kernel, n, arguments, (*read, rows))
