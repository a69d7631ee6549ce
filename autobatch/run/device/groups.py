"""groups: which launches of a pass are run in step, because nothing passes from one of them to another.

Input: for each launch, in order, a program's number and the rows of pools that it reads and writes. Output: `Group`s of
launches. Invariants: a launch runs with an earlier one of the same program, its leader, only if no launch that it has a
row in common with, which one of the two writes, runs with the leader or after it; so whatever reads, writes or adds to
a row does so in the order of the launches, and sums are the same bit by bit. Cost: O(rows), once for a plan.

    launch   0 1 2 3 4 5          a BiLSTM: 0 2 4 go forward, 1 3 5 backward
    program  0 0 0 0 0 0
    leader   0 0 2 2 4 4
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...compile.cuda.lower import CudaProgram
from ...jit import njit
from ..layout import Array, pool_number
from .memory import ALIGNMENT

MOST = 4
"""Launches that run in step."""

Slots = Sequence[Sequence[int]]
Group = list[tuple[Any, int]]
"""Launches, and where the scratch memory of each begins."""
ProgramOf = Callable[[Any], CudaProgram | None]
"""What a launch runs, None for nothing."""


@dataclass(frozen=True, slots=True)
class Accesses:
    """What launches read and write, in the order in which they run.

    program: [launches] number of what each runs, -1 for one that runs by itself
    rows: row numbers, of all pools
    listed_of: [launches + 1] first list of each launch
    listed: [lists, 2] begin and end of each in `rows`
    listed_base: [lists] first row of its pool among those of all pools
    blocks_of: [launches + 1] first block of each launch
    blocks: [blocks, 2] first row and end of each, among the rows of all pools
    lists_are_written: whether launches write lists and read blocks, as in reverse, or read lists and write blocks
    n_rows: of all pools
    """

    program: Array
    rows: Array
    listed_of: Array
    listed: Array
    listed_base: Array
    blocks_of: Array
    blocks: Array
    lists_are_written: bool
    n_rows: int


def grouped(
    run: Any, launches: Sequence[Any], program_of: ProgramOf, slots: Slots, reverse: bool
) -> tuple[list[Group], int]:
    """Launches in the order in which they run, those together that run in step, if the device has `groups` on, or
    `persistent`, where fewer barriers are needed then; and how many bytes of scratch memory a group needs at most.

    Args:
        launches: in the order in which they run one by one, all with nodes.
        slots: those of each signature that its launches read or, in reverse, write.
    """
    programs = _numbers(launches, program_of) if run.device.groups or run.device.persistent else []
    if not any(number >= 0 for number in programs):
        return [[(launch, 0)] for launch in launches], 0
    found: list[list[Any]] = [[] for _ in launches]
    led_by = leaders(accesses_of(run, launches, programs, slots, reverse)).tolist()
    for leader, launch in zip(led_by, launches, strict=True):
        found[leader].append(launch)
    return _placed(filter(None, found), program_of)


def grouped_by_program(device: Any, things: Sequence[Any], program_of: ProgramOf) -> tuple[list[Group], int]:
    """The same for things that have sizes and do not depend on each other at all."""
    if not device.groups:
        return [[(thing, 0)] for thing in things], 0
    by_program: dict[int, list[Any]] = {}
    for thing in things:
        program = program_of(thing)
        by_program.setdefault(id(thing) if program is None or program.sorts else id(program), []).append(thing)
    alike = by_program.values()
    return _placed([some[k : k + MOST] for some in alike for k in range(0, len(some), MOST)], program_of)


def _placed(groups: Iterable[Sequence[Any]], program_of: ProgramOf) -> tuple[list[Group], int]:
    """Groups with places for the scratch memory of their members."""
    found: list[Group] = []
    most = 0
    for group in groups:
        if len(group) == 1:
            found.append([(group[0], 0)])
            continue
        at, members = 0, []
        for launch in group:
            members.append((launch, at))
            at += scratch_of(program_of(launch), launch.sizes)
        found.append(members)
        most = max(most, at)
    return found, most


def scratch_of(program: Any, sizes: Sequence[int]) -> int:
    """Bytes of scratch memory that a launch takes where others run with it."""
    return -(-int(program.scratch(sizes[0], sizes)) // ALIGNMENT) * ALIGNMENT


def _numbers(launches: Sequence[Any], program_of: ProgramOf) -> list[int]:
    """A number for the program of each launch, -1 for one that runs by itself: a program that sorts, which asks for
    memory as it goes; and one of a single signature, whose launches are not one because they wait for each other."""
    programs = [program_of(launch) for launch in launches]
    sigs: dict[int, int] = {}
    found: dict[int, int] = {}
    for launch, program in zip(launches, programs, strict=True):
        if program is not None and not program.sorts and sigs.setdefault(id(program), launch.sig) != launch.sig:
            found.setdefault(id(program), len(found))
    return [found.get(id(program), -1) for program in programs]


def accesses_of(run: Any, launches: Sequence[Any], programs: Sequence[int], slots: Slots, reverse: bool) -> Accesses:
    """What launches of a run read and write."""
    plan, table = run.plan, run.tape.signatures
    first_row = np.concatenate(([0], np.cumsum(plan.pool_rows)))
    launch = np.array([x.number for x in launches], np.int64)
    sig = run.schedule.launch_sig[launch]
    access, of_access = _spread(plan.access_of, launch)
    slot_of = np.concatenate(([0], np.cumsum([len(s.slots) for s in run.signatures])))
    pool = np.array([pool_number(run, slot) for s in run.signatures for slot in s.slots], np.int64)
    is_listed = np.zeros(pool.size, bool)
    for s, own in enumerate(slots):
        is_listed[slot_of[s] + np.array(own, np.int64)] = True
    slot = slot_of[sig[of_access]] + access - plan.access_of[launch[of_access]]
    access, of_access, slot = (column[is_listed[slot]] for column in (access, of_access, slot))
    write, of_write = _spread(plan.write_of, launch)
    result = table.result_of[sig[of_write]] + write - plan.write_of[launch[of_write]]
    start = first_row[table.result_pool[result]] + plan.write_start[write]
    return Accesses(
        np.array(programs, np.int64),
        plan.rows,
        np.searchsorted(of_access, np.arange(launch.size + 1)),
        np.column_stack([plan.rows_of[access], plan.rows_of[access + 1]]).astype(np.int64),
        first_row[pool[slot]],
        np.searchsorted(of_write, np.arange(launch.size + 1)),
        np.column_stack([start, start + plan.write_rows[write]]).astype(np.int64),
        reverse,
        int(first_row[-1]),
    )


def _spread(bounds: Array, launch: Array) -> tuple[Array, Array]:
    """The numbers `bounds[x] ... bounds[x + 1] - 1` for each x of `launch`, and which x each belongs to."""
    count = bounds[launch + 1] - bounds[launch]
    owner = np.repeat(np.arange(launch.size), count)
    before = np.cumsum(count) - count
    return bounds[launch[owner]] + np.arange(owner.size) - before[owner], owner


def leaders(accesses: Accesses, most: int = MOST) -> Array:
    """For each launch the one that it runs with: itself, or an earlier one."""
    a = accesses
    found = np.empty(a.program.size, np.int64)
    seen = np.full((2, a.n_rows), -1, np.int64)
    n_programs = int(a.program.max(initial=-1)) + 1
    _find_leaders(
        a.program, a.rows, a.listed_of, a.listed, a.listed_base, a.blocks_of, a.blocks, a.lists_are_written, seen[0],
        seen[1], np.full(n_programs, -1, np.int64), np.zeros(found.size, np.int64), most, found,
    )  # fmt: skip
    return found


@njit
def _find_leaders(  # type: ignore[no-untyped-def]
    program, rows, listed_of, listed, listed_base, blocks_of, blocks, lists_are_written, in_lists, in_blocks, newest,
    count, most, found,
):  # fmt: skip
    # in_lists, in_blocks: for each row the last leader whose group has it in a list, or in a block
    for launch in range(program.size):
        after = -1
        for a in range(listed_of[launch], listed_of[launch + 1]):
            for r in range(listed[a, 0], listed[a, 1]):
                row = listed_base[a] + rows[r]
                after = max(after, in_blocks[row])
                if lists_are_written:
                    after = max(after, in_lists[row])
        for b in range(blocks_of[launch], blocks_of[launch + 1]):
            for row in range(blocks[b, 0], blocks[b, 1]):
                after = max(after, in_lists[row])
                if not lists_are_written:
                    after = max(after, in_blocks[row])
        p = program[launch]
        leader = launch
        if p >= 0:
            if newest[p] > after and count[newest[p]] < most:
                leader = newest[p]
            newest[p] = leader
        count[leader] += 1
        found[launch] = leader
        for a in range(listed_of[launch], listed_of[launch + 1]):
            for r in range(listed[a, 0], listed[a, 1]):
                row = listed_base[a] + rows[r]
                in_lists[row] = max(in_lists[row], leader)
        for b in range(blocks_of[launch], blocks_of[launch + 1]):
            for row in range(blocks[b, 0], blocks[b, 1]):
                in_blocks[row] = max(in_blocks[row], leader)
