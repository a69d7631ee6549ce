"""walks: runs of launches that one kernel does, with their weights on the chip.

Input: the launches of a pass in order, the programs they run, and how to run one. Output: a `Walk` for every run of
narrow launches that recur, of programs that ask a library for nothing but products with weights, where these fit on
the chip.
The drivers run as ever, but write down what they call (`compile/cuda/resident` makes the kernel that goes through it).
Invariants: between two calls all blocks meet, unless both are products that do not touch what the other writes, or they
belong to launches that go in step (see `groups`). Cost: the driver of each launch and a few microseconds a call; one
upload for all walks, and a launch for each.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, groupby, zip_longest
from typing import Any

import numpy as np

from ...backends.device import Device
from ...compile.cuda.lower import CudaProgram
from ...compile.cuda.reductions import THREADS
from ...compile.cuda.resident import NAME, PRODUCT, Fit, Resident, fit, write_resident
from .together import run_groups

FEWEST = 4
"""Launches of one program that are a recurrence; and of a run that is worth a walk."""

MOST_WORK = 1 << 28
"""Multiplications of a launch that is narrow. A library makes more of them faster than blocks that go through rows by
fours, by more than a launch takes."""

MOST_PROGRAMS = 8
"""Programs of one kernel: more of them are no recurrence, and would be compiled anew for every minibatch."""


class Part:
    """What launches have in common.

    program: what they run, if anything
    shared: addresses of the inputs that are the same for all
    work: multiplications of products with weights for a node, -1 for a program that asks a library for something else
    """

    __slots__ = ("program", "shared", "work")

    def __init__(self, program: CudaProgram | None, inputs: Sequence[tuple[str, int, int]]) -> None:
        self.program = program
        self.shared = {(kind, k): address for kind, k, address in inputs}
        weights = program.weights if program is not None else None
        self.work = sum(weight.k * weight.p for weight in weights) if weights is not None else -1


Group = Sequence[tuple[int, int, Part, int]]
"""Launches that do not depend on each other: number, nodes, part, and where the scratch memory of each begins."""

Run = Callable[[Any, int, int], None]
"""Runs the launch of a number on a device, or on what stands in for it, with scratch memory that begins at so many
bytes of all there is."""


@dataclass(slots=True)
class Walk:
    """Some groups of launches, as one. `first` says which is the first of them."""

    first: int
    blocks: int
    shared_bytes: int
    kernel: Any
    at: int
    tables: Any = None

    def start(self, device: Device) -> None:
        """Launch it."""
        device.launch_resident(self.kernel, self.blocks, THREADS, self.shared_bytes, self.tables.data.ptr + 8 * self.at)


def run_launches(device: Device, groups: Sequence[Group], call: Run) -> None:
    """Run launches, those of a group in step.

    Args:
        groups: all of them, one after the other.
        call: runs the launch of a number on a device.
    """
    is_possible = device.persistent and device.blocks_at_once
    walks = _find_walks(device, groups, call) if is_possible else {}

    def steps() -> Iterator[Any]:
        for k, group in enumerate(groups):
            walk = walks.get(k)
            if walk is None:
                yield [(number, part.program, at) for number, _, part, at in group]
            elif walk.first == k:
                yield walk

    run_groups(device, steps(), call)


def _find_walks(device: Device, groups: Sequence[Group], call: Run) -> dict[int, Walk]:
    """Place of a group → the walk that does it, for all that are done by one."""
    count = Counter(part for group in groups for _, n, part, _ in group if _is_narrow(n, part))
    recurring = {part for part, n in count.items() if n >= FEWEST}
    programs = {part.program for part in recurring if part.program is not None}
    dtypes = {weight.dtype for program in programs for weight in program.weights or ()}
    if len(dtypes) != 1 or len(programs) > MOST_PROGRAMS:
        return {}
    resident = _resident(tuple(sorted(programs, key=lambda program: program.source)))
    room = device.shared_bytes - resident.shared
    kernel: Any = None
    words: list[int] = []
    found: dict[int, Walk] = {}

    def goes(k: int) -> bool:
        return all(part in recurring and _is_narrow(n, part) for _, n, part, _ in groups[k])

    for is_one, listed in groupby(range(len(groups)), goes):
        run = list(listed)
        parts = [part for k in run for _, _, part, _ in groups[k]]
        weights = _weights(parts) if is_one and len(parts) >= FEWEST else {}
        how = fit(tuple(weights.values()), device.blocks_at_once, room) if weights else None
        if how is None:
            continue
        kernel = kernel or device.resident_kernel(resident.source, NAME)
        walk = Walk(run[0], device.blocks_at_once, how.n_bytes, kernel, len(words))
        calls = _Calls(device.faults, resident, words, list(weights), how, device.blocks_at_once)
        for k in run:
            found[k] = walk
            for number, _, _, at in groups[k]:
                call(calls, number, at)
                calls.end_launch()
            calls.end_group()
        calls.end()
    if found:
        tables = device.upload(np.frombuffer(array("q", words), np.int64))
        for walk in found.values():
            walk.tables = tables
    return found


def _is_narrow(n: int, part: Part) -> bool:
    return 0 <= n * part.work <= MOST_WORK


_resident = lru_cache(write_resident)


Place = tuple[int, int, bool, int, int]
"""Of a weight: address, lead, whether it lies transposed, k, p."""


def _weights(parts: Sequence[Part]) -> dict[Place, Any]:
    """The weights of a run."""
    found: dict[Place, Any] = {}
    for part in dict.fromkeys(parts):
        assert part.program is not None
        for weight in part.program.weights or ():
            address = part.shared[weight.input] + weight.offset
            found[address, weight.lead, weight.flip, weight.k, weight.p] = weight
    return found


Span = tuple[int, int]
"""First byte and end of what lies in memory."""


@dataclass(slots=True)
class _Calls:
    """Takes what drivers ask of a device, and writes it into a table, launch by launch."""

    faults: int
    resident: Resident
    table: list[int]
    weights: list[Place]
    how: Fit
    blocks: int
    numbers: dict[Place, int] = field(default_factory=dict)
    stages: list[list[tuple[int, ...]]] = field(default_factory=list)
    """The calls of a launch, those together that do not wait for each other."""
    products: list[tuple[Span, Span]] = field(default_factory=list)
    """What the products of the last stage read and write."""
    group: list[list[list[tuple[int, ...]]]] = field(default_factory=list)
    """The stages of the launches that go in step."""

    def __post_init__(self) -> None:
        self.table += (0, len(self.weights), self.how.groups)
        for k, (place, columns, at) in enumerate(zip(self.weights, self.how.columns, self.how.places, strict=True)):
            self.table += (*place, columns, at)
            self.numbers[place] = k

    def kernel(self, source: str, name: str) -> int:
        """The code of a kernel."""
        return self.resident.codes[source, name]

    def launch(self, kernel: int, blocks: int, threads: int, arguments: tuple[int, ...]) -> None:
        """See `Device`."""
        if blocks:
            self.stages.append([(kernel, 0, blocks, *arguments)])
            self.products.clear()

    def product(
        self, n: int, k: int, p: int, a: int, lead_a: int, flip_a: bool, b: int, lead_b: int, flip_b: bool, c: int,
        lead_c: int, dtype: Any, add: bool,
    ) -> None:  # fmt: skip
        """See `Device`."""
        if not n:
            return
        size = self.resident.dtype.itemsize
        read, written = (a, a + size * ((n - 1) * lead_a + k)), (c, c + size * ((n - 1) * lead_c + p))
        if not self.products or any(
            _touch(read, other[1]) or _touch(written, other[0]) or _touch(written, other[1]) for other in self.products
        ):
            self.stages.append([])
            self.products.clear()
        self.products.append((read, written))
        self.stages[-1].append((PRODUCT, 0, self.numbers[b, lead_b, flip_b, k, p], n, a, lead_a, c, lead_c, add))

    def end_launch(self) -> None:
        """What comes next belongs to another launch."""
        self.group.append(self.stages)
        self.stages = []
        self.products.clear()

    def end_group(self) -> None:
        """Write down the calls of a group; all blocks meet behind every stage."""
        table, words = self.table, self.resident.words
        zeros = (0,) * words
        for stages in zip_longest(*self.group, fillvalue=()):
            shift = 0
            for row in chain.from_iterable(stages):
                table += row
                table += zeros[len(row) :]
                if shift:
                    table[1 - words] = 2 * (
                        shift % (self.blocks // self.how.groups if row[0] == PRODUCT else self.blocks)
                    )
                shift += 1 if row[0] == PRODUCT else row[2]
            table[1 - words] += 1
        self.group.clear()

    def end(self) -> None:
        """Close the table: nobody waits behind the last call."""
        self.table[1 - self.resident.words] -= 1
        self.table += (-1,) * self.resident.words


def _touch(a: Span, b: Span) -> bool:
    return a[0] < b[1] and b[0] < a[1]
