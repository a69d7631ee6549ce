"""together: launches that run in step: what they ask of the device in common is asked once.

Input: groups of launches of one program that do not depend on each other (see `groups`), each with memory of its own.
Their drivers run first, and what they ask for is written down; then the lists are gone through in step. Calls of one
kernel become one call of its kernel for several (see `compile.cuda.together`), products of equal shape one call for
several, which finds their addresses in tables: one upload for all tables of a pass. So do products that follow each
other within a launch. What one launch alone asks for stays a call of its own. Invariants: what depends on a call comes
after it. Cost: a few microseconds a call.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ...compile.cuda.lower import CudaProgram
from ...compile.cuda.together import together

Call = tuple[Any, Sequence[tuple[Any, ...]]]
"""What is equal in one or several calls (a kernel, or a tuple for products), and the other arguments of each."""

Member = tuple[int, CudaProgram, int]
"""A launch: its number, its program, and where its scratch memory begins."""

WORD = 8


class Step(Protocol):
    """Something else that stands between groups."""

    def start(self, device: Any) -> None:
        """Launch it."""


def run_groups(device: Any, groups: Iterable[Sequence[Member] | Step], call: Callable[[Any, int, int], None]) -> None:
    """Run launches, those of a group in step.

    Args:
        device: that they run on, or what stands in for it.
        groups: one after the other.
        call: runs the launch of a number on what it is given, with scratch memory that begins at so many bytes.
    """
    steps: Iterable[Any] = _written_down(device, groups, call) if device.groups else groups
    for step in steps:
        if isinstance(step, list | tuple):
            for number, _, at in step:
                call(device, number, at)
        else:
            step.start(device)


@dataclass(slots=True)
class _Calls:
    """What the launches of a group ask for, in step. `tables` gets an array of addresses before it starts."""

    calls: list[Call]
    tables: list[Any]
    at: int

    def start(self, device: Any) -> None:
        """Launch it."""
        at = self.tables[0].data.ptr + self.at if self.tables else 0
        for key, parts in self.calls:
            at = _call(device, key, parts, at)


def _written_down(device: Any, groups: Iterable[Any], call: Callable[[Any, int, int], None]) -> list[Any]:
    """Groups with their calls in place of their launches, and the tables of these, on the device."""
    steps: list[Any] = []
    addresses: list[int] = []
    tables: list[Any] = []
    for group in groups:
        is_alone = isinstance(group, list | tuple) and len(group) == 1
        if not isinstance(group, list | tuple) or (is_alone and (group[0][1].products < 2 or group[0][1].sorts)):
            steps.append(group)
            continue
        calls = in_step(_lists(device, group, call))
        if group[0][1].products > 1:
            calls = joined(calls)
        steps.append(_Calls(calls, tables, WORD * len(addresses)))
        for key, parts in calls:
            if type(key) is tuple and len(parts) > 1:
                addresses += itertools.chain.from_iterable(zip(*parts, strict=True))
    if addresses:
        tables.append(device.upload(np.array(addresses, np.int64)))
    return steps


class _Kernel:
    """A kernel for one launch, and for several once that is asked for."""

    __slots__ = ("alone", "find", "joined", "name", "source")

    def __init__(self, find: Callable[[str, str], Any], source: str, name: str) -> None:
        self.find, self.source, self.name = find, source, name
        self.alone = find(source, name)
        self.joined: dict[int, Any] = {}

    def of(self, count: int) -> Any:
        """The one for so many launches."""
        found = self.joined.get(count)
        if found is None:
            found = self.joined[count] = self.find(together(self.source, count), self.name)
        return found


class _List:
    """Stands in for a device, and writes down what a driver asks of it."""

    def __init__(self, device: Any) -> None:
        self.device = weakref.ref(device)
        self.find, self.faults = device.kernel, device.faults
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []
        self.kernels: dict[tuple[str, str], _Kernel] = {}

    def kernel(self, source: str, name: str) -> _Kernel:
        found = self.kernels.get((source, name))
        if found is None:
            found = self.kernels[source, name] = _Kernel(self.find, source, name)
        return found

    def launch(self, kernel: _Kernel, blocks: int, threads: int, arguments: tuple[int, ...]) -> None:
        if blocks:
            self.calls.append((kernel, (blocks, threads, arguments)))

    def product(
        self, n: int, k: int, p: int, a: int, lead_a: int, flip_a: bool, b: int, lead_b: int, flip_b: bool, c: int,
        lead_c: int, dtype: Any, add: bool,
    ) -> None:  # fmt: skip
        self.calls.append(((n, k, p, lead_a, flip_a, lead_b, flip_b, lead_c, dtype, add), (a, b, c)))

    def products(self, *arguments: Any) -> None:
        self.calls.append((arguments, ()))  # no two are equal: their results lie apart


class _OfThread(threading.local):
    list: _List | None = None


_of_thread = _OfThread()


def _lists(device: Any, group: Sequence[Member], call: Callable[[Any, int, int], None]) -> list[list[tuple[Any, Any]]]:
    """What the launches of a group ask for."""
    taken = _of_thread.list
    if taken is None or taken.device() is not device:
        taken = _of_thread.list = _List(device)
    found = []
    for number, _, at in group:
        taken.calls = []
        call(taken, number, at)
        found.append(taken.calls)
    taken.calls = []
    return found


def in_step(lists: Sequence[Sequence[tuple[Any, Any]]]) -> list[Call]:
    """Calls with equal keys together, as far as the order of each list allows.

    >>> in_step([[("f", 1), ("g", 2)], [("g", 3)], [("f", 4), ("h", 5)]])
    [('f', (1, 4)), ('g', (2, 3)), ('h', (5,))]
    """
    keys = [[key for key, _ in calls] for calls in lists]
    if all(own == keys[0] for own in keys[1:]):
        return list(zip(keys[0], zip(*([part for _, part in calls] for calls in lists), strict=True), strict=True))
    found: list[Call] = []
    at = [0] * len(lists)
    while True:
        heads: dict[Any, list[int]] = {}
        for k, own in enumerate(keys):
            if at[k] < len(own):
                heads.setdefault(own[at[k]], []).append(k)
        if not heads:
            return found
        key = next((key for key in heads if not _comes_later(key, keys, at)), next(iter(heads)))
        found.append((key, tuple(lists[k][at[k]][1] for k in heads[key])))
        for k in heads[key]:
            at[k] += 1


def joined(calls: Sequence[Call]) -> list[Call]:
    """Calls with those products in one that follow each other, are of equal shape, and do not read what another of them
    writes."""
    found: list[Call] = []
    first = 0  # of the products that follow each other at the end of `found`
    for key, parts in calls:
        if type(key) is not tuple or not parts[0]:
            found.append((key, parts))
            first = len(found)
            continue
        at = next((k for k in range(first, len(found)) if found[k][0] == key), len(found))
        if at == len(found) or not all(_are_apart(key, parts, *other) for other in found[at:]):
            found.append((key, parts))
        else:
            found[at] = key, (*found[at][1], *parts)
    return found


def _are_apart(key: Any, parts: Sequence[tuple[Any, ...]], other: Any, others: Sequence[tuple[Any, ...]]) -> bool:
    """Whether none of some products writes what one of the others reads or writes."""
    theirs = [_spans(other, *part) for part in others]
    for part in parts:
        a, a_end, b, b_end, c, c_end = _spans(key, *part)
        for x, x_end, y, y_end, z, z_end in theirs:
            if c < z_end and z < c_end:
                return False
            if (c < x_end and x < c_end) or (c < y_end and y < c_end):
                return False
            if (z < a_end and a < z_end) or (z < b_end and b < z_end):
                return False
    return True


def _spans(key: Any, a: int, b: int, c: int) -> tuple[int, int, int, int, int, int]:
    """First byte and end of each of the three matrices of a product."""
    n, k, p, lead_a, flip_a, lead_b, flip_b, lead_c, dtype, _ = key
    size = dtype.itemsize
    a_numbers = (k - 1) * lead_a + n if flip_a else (n - 1) * lead_a + k
    b_numbers = (p - 1) * lead_b + k if flip_b else (k - 1) * lead_b + p
    return a, a + size * a_numbers, b, b + size * b_numbers, c, c + size * ((n - 1) * lead_c + p)


def _comes_later(key: Any, keys: Sequence[Sequence[Any]], at: Sequence[int]) -> bool:
    """Whether some list has a call with this key, but not now."""
    return any(own[begin] != key and key in own[begin:] for own, begin in zip(keys, at, strict=True) if own[begin:])


def _call(device: Any, key: Any, parts: Sequence[tuple[Any, ...]], at: int) -> int:
    """One call for several. `at` is where its table would lie; returns where the next does."""
    count = len(parts)
    if type(key) is not tuple:
        blocks, threads, arguments = parts[0]
        if count == 1:
            device.launch(key.alone, blocks, threads, arguments)
        elif count == 2:
            more, _, others = parts[1]
            device.launch(key.of(2), blocks + more, threads, (blocks, *arguments, *others))
        else:
            ends = list(itertools.accumulate(part[0] for part in parts))
            arguments = tuple(itertools.chain(ends[:-1], *(part[2] for part in parts)))
            device.launch(key.of(count), ends[-1], threads, arguments)
    elif not parts[0]:
        device.products(*key)
    else:
        n, k, p, lead_a, flip_a, lead_b, flip_b, lead_c, dtype, add = key
        if count == 1:
            a, b, c = parts[0]
            device.product(n, k, p, a, lead_a, flip_a, b, lead_b, flip_b, c, lead_c, dtype, add)
            return at
        a, b, c = at, at + WORD * count, at + 2 * WORD * count
        device.products_at(count, n, k, p, a, lead_a, flip_a, b, lead_b, flip_b, c, lead_c, dtype, add)
        return c + WORD * count
    return at
