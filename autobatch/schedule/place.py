"""Decide where every value lies, and with that what every launch reads and writes.

Input: a `Tape` and its `Schedule`. Output: a `Plan`.

All values of one width and dtype lie in one pool. Payloads come first, in tape order; all of them are written before
the first launch. Then, launch by launch, each result of a launch becomes one block of rows: node after node in the
order of the launch. A view has rows of its own nowhere: it lists those of what it looks at, and where these follow one
another it is a range like any other value. A launch reads each slot through a vector of row numbers, or as one block
where these follow one another.

What nobody will read again makes room for later launches, unless it is to be kept: for the reverse pass, or because it
is a root. A block is free once the last launch has run that reads one of its values, directly or through views, and a
later launch takes its rows: the first of a few free ranges that is large enough. Neighbouring free ranges become one.

Invariants, held by `check_plan`: when a launch reads a value, the value's rows hold what was written for it; a launch
writes no row that it reads; what is kept is there in the end; the plan tells every launch the rows of exactly its
values.

Cost: O(nodes + arguments + rows read), in compiled loops over flat arrays.

The launches of the example in `schedule`, all values being rows of the first of two pools (`2 @ 5` is two rows from row
5 on, `2:` is two rows here and there):

    Plan: 4 launches, 7 values; rows of the pools: 7 0; 112 bytes
      launch  reads                             writes
           0  nothing                           3 @ 0
           1  1 @ 0, 1 @ 1                      1 @ 3
           2  1 @ 3, 1 @ 2                      1 @ 4
           3  2: 0 4                            2 @ 5
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.host.arena import Lease
from ..base.errors import CompilerBug
from ..base.jit import njit
from .structures import (
    AS_SLOT,
    CONCAT_ROWS,
    EACH,
    FIXED,
    KERNEL,
    LIST,
    ONE,
    PAYLOAD,
    PER_ELEMENT,
    SLICE_ROWS,
    Ints,
    Plan,
    Schedule,
    Tape,
)

__all__ = ["check_plan", "place"]

Longs = np.ndarray[Any, np.dtype[np.int64]]
Reals = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

PROBES = 16
"""Free ranges looked at before a block goes to the end of its pool: what keeps placing linear."""


def place(tape: Tape, schedule: Schedule, keep: bool | Bools = True) -> Plan:
    """Give every live value its rows, and every launch the rows that it reads and writes.

    Args:
        tape: what was recorded; not changed.
        schedule: its launches.
        keep: the values whose rows no later launch may take: all, none but the roots, or [V] true for those that
            gradients will need. Roots are always kept.
    """
    t, s = tape, tape.signatures
    live, nodes, launch_of, launch_sig = schedule.live, schedule.nodes, schedule.launch_of, schedule.launch_sig
    lease = Lease()
    launch = lease.empty((t.sig.size,), np.int32)
    _number(nodes, launch_of, launch)
    count, access_of, rows_of, write_of, write_rows, n_view_rows, n_offsets = _count_rows(
        s.kind, s.slot_of, s.slot_kind, s.result_of, s.result_rule, s.result_ref, s.result_rows,
        t.sig, t.slot_of, t.arg_of, t.args, t.value_of, t.int_of, t.ints, live, launch, launch_of, launch_sig,
    )  # fmt: skip
    start, write_start, pool_rows = _write(
        s.kind, s.result_of, s.result_pool, t.sig, t.value_of, live, launch, launch_sig, count, write_of, write_rows,
        len(t.pools),
    )  # fmt: skip
    if keep is not True:
        kept = np.zeros(t.value_of[-1], np.bool_) if keep is False else np.array(keep, np.bool_)
        kept[t.roots] = True
        last = _last_launch(s.kind, t.sig, t.slot_of, t.arg_of, t.args, t.value_of, live, launch, len(launch_sig), kept)
        _reuse(
            s.kind, s.result_of, s.result_pool, t.sig, t.value_of, live, nodes, launch_of, launch_sig, count, last,
            start, write_of, write_start, write_rows, pool_rows,
        )  # fmt: skip
    scattered = _resolve_views(
        s.kind, t.sig, t.slot_of, t.arg_of, t.args, t.value_of, t.int_of, t.ints, live, start, count, n_view_rows
    )
    rows, block, offsets_of, offsets = _read(
        s.slot_of, s.slot_kind, t.sig, t.slot_of, t.arg_of, t.args, launch, launch_of, launch_sig, start, count,
        scattered, access_of, rows_of, n_offsets,
    )  # fmt: skip
    int_of, ints = _columns(s.n_ints, t.sig, t.int_of, t.ints, launch, launch_of, launch_sig)
    float_of, floats = _columns(s.n_floats, t.sig, t.float_of, t.floats, launch, launch_of, launch_sig)
    return Plan(
        start=start, count=count, scattered=scattered, pool_rows=pool_rows, peak_bytes=_n_bytes(tape, pool_rows),
        access_of=access_of, rows_of=rows_of, rows=rows, block=block, offsets_of=offsets_of, offsets=offsets,
        write_of=write_of, write_start=write_start, write_rows=write_rows,
        ints=ints, floats=floats, int_of=int_of, float_of=float_of,
    )  # fmt: skip


def _n_bytes(tape: Tape, pool_rows: Ints) -> int:
    return sum(
        n_rows * width * np.dtype(dtype).itemsize
        for n_rows, (width, dtype) in zip(pool_rows.tolist(), tape.pools, strict=True)
    )


@njit
def _number(nodes: Ints, launch_of: Ints, launch: Ints) -> None:
    """The launch of each node, -1 where there is none, into `launch`."""
    launch[:] = -1
    for l in range(launch_of.size - 1):
        for k in range(launch_of[l], launch_of[l + 1]):
            launch[nodes[k]] = l


@njit
def _count_rows(
    kind: Ints, sig_slot_of: Ints, slot_kind: Ints, result_of: Ints, rule: Ints, ref: Ints, factor: Ints,
    sig: Ints, slot_of: Ints, arg_of: Ints, args: Ints, value_of: Ints, int_of: Ints, ints: Longs, live: Ints,
    launch: Ints, launch_of: Ints, launch_sig: Ints,
) -> tuple[Ints, Ints, Ints, Ints, Ints, int, int]:  # fmt: skip
    """The rows of every live value, those that each access reads and each write writes; room for views and offsets."""
    n_launches = launch_sig.size
    access_of = np.zeros(n_launches + 1, np.int32)
    write_of = np.zeros(n_launches + 1, np.int32)
    n_offsets = 0
    for l in range(n_launches):
        s = launch_sig[l]
        access_of[l + 1] = access_of[l] + sig_slot_of[s + 1] - sig_slot_of[s]
        write_of[l + 1] = write_of[l] + result_of[s + 1] - result_of[s]
        for q in range(sig_slot_of[s], sig_slot_of[s + 1]):
            if slot_kind[q] != ONE:
                n_offsets += launch_of[l + 1] - launch_of[l] + 1
    rows_of = np.zeros(access_of[n_launches] + 1, np.int32)
    write_rows = np.zeros(write_of[n_launches], np.int32)
    count = np.zeros(value_of[sig.size], np.int32)
    n_view_rows = 0
    for i in range(sig.size):
        if not live[i]:
            continue
        s = sig[i]
        l = launch[i]
        n_read = 0
        for q in range(slot_of[i], slot_of[i + 1]):
            n_here = 0
            for a in range(arg_of[q], arg_of[q + 1]):
                n_here += count[args[a]]
            n_read += n_here
            if l >= 0:
                rows_of[access_of[l] + q - slot_of[i] + 1] += n_here
        if kind[s] == CONCAT_ROWS:
            count[value_of[i]] = n_read
            n_view_rows += n_read
            continue
        if kind[s] == SLICE_ROWS:
            count[value_of[i]] = ints[int_of[i] + 2]
            n_view_rows += count[value_of[i]]
            continue
        for r in range(result_of[s], result_of[s + 1]):
            if rule[r] == FIXED:
                n_rows = factor[r]
            else:
                slot = slot_of[i] + ref[r]
                n_rows = 0
                if rule[r] == PER_ELEMENT and slot_kind[sig_slot_of[s] + ref[r]] == LIST:
                    n_rows = arg_of[slot + 1] - arg_of[slot]
                elif rule[r] == PER_ELEMENT or rule[r] == AS_SLOT:
                    for a in range(arg_of[slot], arg_of[slot + 1]):
                        n_rows += count[args[a]]
                else:
                    n_rows = ints[int_of[i] + 2]
                if rule[r] == PER_ELEMENT:
                    n_rows *= factor[r]
            count[value_of[i] + r - result_of[s]] = n_rows
            if l >= 0:
                write_rows[write_of[l] + r - result_of[s]] += n_rows
    for access in range(access_of[n_launches]):
        rows_of[access + 1] += rows_of[access]
    return count, access_of, rows_of, write_of, write_rows, n_view_rows, n_offsets


@njit
def _last_launch(
    kind: Ints, sig: Ints, slot_of: Ints, arg_of: Ints, args: Ints, value_of: Ints, live: Ints,
    launch: Ints, n_launches: int, kept: Bools,
) -> Ints:  # fmt: skip
    """The last launch that makes or reads each value, directly or through views; behind all if kept."""
    n = sig.size
    last = np.full(value_of[n], -1, np.int32)
    for i in range(n - 1, -1, -1):
        if not live[i]:
            continue
        until = launch[i]
        for value in range(value_of[i], value_of[i + 1]):
            last[value] = n_launches if kept[value] else max(last[value], launch[i])
            if kind[sig[i]] != KERNEL:
                until = max(until, last[value])
        for a in range(arg_of[slot_of[i]], arg_of[slot_of[i + 1]]):
            last[args[a]] = max(last[args[a]], until)
    return last


@njit
def _write(
    kind: Ints, result_of: Ints, result_pool: Ints, sig: Ints, value_of: Ints, live: Ints, launch: Ints,
    launch_sig: Ints, count: Ints, write_of: Ints, write_rows: Ints, n_pools: int,
) -> tuple[Ints, Ints, Ints]:  # fmt: skip
    """The rows of payloads and of what is computed, one block behind the other, and the rows of the pools."""
    start = np.full(value_of[sig.size], -1, np.int32)
    pool_rows = np.zeros(n_pools, np.int32)
    for i in range(sig.size):
        if live[i] and kind[sig[i]] == PAYLOAD:
            for j in range(value_of[i + 1] - value_of[i]):
                pool = result_pool[result_of[sig[i]] + j]
                start[value_of[i] + j] = pool_rows[pool]
                pool_rows[pool] += count[value_of[i] + j]
    write_start = np.empty(write_rows.size, np.int32)
    for l in range(launch_sig.size):
        for w in range(write_of[l], write_of[l + 1]):
            pool = result_pool[result_of[launch_sig[l]] + w - write_of[l]]
            write_start[w] = pool_rows[pool]
            pool_rows[pool] += write_rows[w]
    row = write_start.copy()
    for i in range(sig.size):  # nodes of a launch stand in tape order
        if launch[i] >= 0:
            w = write_of[launch[i]]
            for value in range(value_of[i], value_of[i + 1]):
                start[value] = row[w]
                row[w] += count[value]
                w += 1
    return start, write_start, pool_rows


@njit
def _reuse(
    kind: Ints, result_of: Ints, result_pool: Ints, sig: Ints, value_of: Ints, live: Ints,
    nodes: Ints, launch_of: Ints, launch_sig: Ints, count: Ints, last: Ints,
    start: Ints, write_of: Ints, write_start: Ints, write_rows: Ints, pool_rows: Ints,
) -> None:  # fmt: skip
    """Move the blocks that `_write` laid out to rows that are free when they are written: the last five arrays change.

    Free ranges are a doubly linked list for each pool, a range being named by its first row; its length stands at its
    first row and behind its last, so that a block finds free neighbours without a search.
    """
    n_launches = launch_sig.size
    n_pools = pool_rows.size
    mark_of = np.zeros(n_pools + 1, np.int64)  # first of each pool in the four arrays below
    for pool in range(n_pools):
        mark_of[pool + 1] = mark_of[pool] + pool_rows[pool] + 1
    free_from = np.zeros(mark_of[n_pools], np.int32)  # length of the free range that starts at a row, or 0
    free_until = np.zeros(mark_of[n_pools], np.int32)  # length of the free range that ends before a row, or 0
    following = np.empty(mark_of[n_pools], np.int32)
    preceding = np.empty(mark_of[n_pools], np.int32)
    first_free = np.full(n_pools, -1, np.int32)
    top = np.zeros(n_pools, np.int32)

    # Blocks are writes, then payloads. Those that end with the same launch form a list.
    n_blocks = write_start.size
    for i in range(sig.size):
        if live[i] and kind[sig[i]] == PAYLOAD:
            n_blocks += value_of[i + 1] - value_of[i]
    ending = np.full(n_launches, -1, np.int32)
    next_block = np.empty(n_blocks, np.int32)
    block_start = np.empty(n_blocks, np.int32)
    block_rows = np.empty(n_blocks, np.int32)
    block_pool = np.empty(n_blocks, np.int32)
    b = write_start.size
    for i in range(sig.size):
        if live[i] and kind[sig[i]] == PAYLOAD:
            for j in range(value_of[i + 1] - value_of[i]):
                value = value_of[i] + j
                pool = result_pool[result_of[sig[i]] + j]
                top[pool] += count[value]
                block_start[b] = start[value]
                block_rows[b] = count[value]
                block_pool[b] = pool
                if 0 <= last[value] < n_launches and count[value] > 0:
                    next_block[b] = ending[last[value]]
                    ending[last[value]] = b
                b += 1
    pool_rows[:] = top

    for l in range(n_launches):
        for j in range(write_of[l + 1] - write_of[l]):
            b = write_of[l] + j
            n_rows = write_rows[b]
            if n_rows == 0:
                continue
            pool = result_pool[result_of[launch_sig[l]] + j]
            marks = mark_of[pool]
            found = first_free[pool]
            probes = 1
            while found >= 0 and free_from[marks + found] < n_rows:
                found = following[marks + found] if probes < PROBES else -1
                probes += 1
            if found < 0:
                begin = top[pool]
                top[pool] += n_rows
                pool_rows[pool] = max(pool_rows[pool], top[pool])
            else:
                rest = free_from[marks + found] - n_rows
                begin = found + rest
                if rest == 0:
                    _unlink(found, marks, pool, first_free, free_from, free_until, following, preceding)
                else:
                    free_until[marks + begin + n_rows] = 0
                    free_until[marks + begin] = rest
                    free_from[marks + found] = rest
            end = 0
            for k in range(launch_of[l], launch_of[l + 1]):
                value = value_of[nodes[k]] + j
                start[value] += begin - write_start[b]
                end = max(end, last[value])
            write_start[b] = begin
            block_start[b] = begin
            block_rows[b] = n_rows
            block_pool[b] = pool
            if end < n_launches:
                next_block[b] = ending[end]
                ending[end] = b
        b = ending[l]
        while b >= 0:
            pool = block_pool[b]
            marks = mark_of[pool]
            begin = block_start[b]
            end = begin + block_rows[b]
            behind = free_from[marks + end]
            if behind > 0:
                _unlink(end, marks, pool, first_free, free_from, free_until, following, preceding)
                end += behind
            before = free_until[marks + begin]
            if before > 0:
                begin -= before
                _unlink(begin, marks, pool, first_free, free_from, free_until, following, preceding)
            if end == top[pool]:
                top[pool] = begin
            else:
                head = first_free[pool]
                free_from[marks + begin] = end - begin
                free_until[marks + end] = end - begin
                following[marks + begin] = head
                preceding[marks + begin] = -1
                if head >= 0:
                    preceding[marks + head] = begin
                first_free[pool] = begin
            b = next_block[b]


@njit
def _unlink(
    row: int, marks: int, pool: int, first_free: Ints, free_from: Ints, free_until: Ints, following: Ints,
    preceding: Ints,
) -> None:  # fmt: skip
    """Take a free range out of its pool's list."""
    before, after = preceding[marks + row], following[marks + row]
    free_until[marks + row + free_from[marks + row]] = 0
    free_from[marks + row] = 0
    if before >= 0:
        following[marks + before] = after
    else:
        first_free[pool] = after
    if after >= 0:
        preceding[marks + after] = before


@njit
def _resolve_views(
    kind: Ints, sig: Ints, slot_of: Ints, arg_of: Ints, args: Ints, value_of: Ints, int_of: Ints, ints: Longs,
    live: Ints, start: Ints, count: Ints, n_view_rows: int,
) -> Ints:  # fmt: skip
    """Set the start of every live view; the row numbers of those that are not a range are returned.

    Listed rows never follow one another, or the value would be a range. So a join with one of them is listed too.
    """
    scattered = np.empty(n_view_rows, np.int32)
    used = 0
    for i in range(sig.size):
        if not live[i] or (kind[sig[i]] != CONCAT_ROWS and kind[sig[i]] != SLICE_ROWS):
            continue
        value = value_of[i]
        n_rows = count[value]
        first_arg, end_arg = arg_of[slot_of[i]], arg_of[slot_of[i + 1]]
        if n_rows == 0:
            start[value] = 0
        elif kind[sig[i]] == CONCAT_ROWS:
            while count[args[first_arg]] == 0:
                first_arg += 1
            begin = start[args[first_arg]]
            end = begin + count[args[first_arg]]
            whole = True
            for a in range(first_arg + 1, end_arg):
                if count[args[a]] > 0:
                    whole = whole and begin >= 0 and start[args[a]] == end
                    end += count[args[a]]
            if whole:
                start[value] = begin
            else:
                start[value] = -used - 2
                for a in range(first_arg, end_arg):
                    begin = start[args[a]]
                    for r in range(count[args[a]]):
                        scattered[used] = begin + r if begin >= 0 else scattered[-begin - 2 + r]
                        used += 1
        else:
            begin = start[args[first_arg]]
            first = ints[int_of[i]]
            step = ints[int_of[i] + 1]
            if begin >= 0:
                if n_rows == 1 or step == 1:
                    start[value] = begin + first
                else:
                    start[value] = -used - 2
                    for r in range(n_rows):
                        scattered[used] = begin + first + step * r
                        used += 1
            else:
                listed = -begin - 2 + first
                r = 1
                while r < n_rows and scattered[listed + step * r] == scattered[listed] + r:
                    r += 1
                if r == n_rows:
                    start[value] = scattered[listed]
                elif step == 1:
                    start[value] = -listed - 2
                else:
                    start[value] = -used - 2
                    for r in range(n_rows):
                        scattered[used] = scattered[listed + step * r]
                        used += 1
    return scattered[:used].copy()


@njit
def _read(
    sig_slot_of: Ints, slot_kind: Ints, sig: Ints, slot_of: Ints, arg_of: Ints, args: Ints, launch: Ints,
    launch_of: Ints, launch_sig: Ints, start: Ints, count: Ints, scattered: Ints, access_of: Ints, rows_of: Ints,
    n_offsets: int,
) -> tuple[Ints, Ints, Ints, Ints]:  # fmt: skip
    """The rows that every launch reads, slot by slot. Nodes of a launch stand in tape order: every access has a place
    where its next row goes, and where its next offset.
    """
    n_accesses = rows_of.size - 1
    rows = np.empty(rows_of[n_accesses], np.int32)
    offsets_of = np.full(n_accesses, -1, np.int32)
    offsets = np.empty(n_offsets, np.int32)
    n_offsets = 0
    for l in range(launch_sig.size):
        for access in range(access_of[l], access_of[l + 1]):
            if slot_kind[sig_slot_of[launch_sig[l]] + access - access_of[l]] != ONE:
                offsets_of[access] = n_offsets
                offsets[n_offsets] = 0
                n_offsets += launch_of[l + 1] - launch_of[l] + 1
    place = rows_of.copy()
    offset = offsets_of.copy()
    begin = np.full(n_accesses, -1, np.int32)
    end = np.full(n_accesses, -1, np.int32)
    whole = np.ones(n_accesses, np.bool_)
    for i in range(sig.size):
        l = launch[i]
        if l < 0:
            continue
        for slot in range(slot_of[i], slot_of[i + 1]):
            j = slot - slot_of[i]
            access = access_of[l] + j
            form = slot_kind[sig_slot_of[sig[i]] + j]
            n_elements = 0
            at = place[access]
            for a in range(arg_of[slot], arg_of[slot + 1]):
                row = start[args[a]]
                n = count[args[a]]
                n_elements += n if form == EACH else 1
                if n == 0:
                    continue
                if row >= 0:
                    if begin[access] < 0:
                        begin[access] = row
                    elif row != end[access]:
                        whole[access] = False
                    end[access] = row + n
                    for r in range(n):
                        rows[at + r] = row + r
                else:
                    whole[access] = False
                    for r in range(n):
                        rows[at + r] = scattered[-row - 2 + r]
                at += n
            place[access] = at
            if form != ONE:
                offset[access] += 1
                offsets[offset[access]] = offsets[offset[access] - 1] + n_elements
    block = np.empty(n_accesses, np.int32)
    for access in range(n_accesses):
        block[access] = max(begin[access], 0) if whole[access] else -1
    return rows, block, offsets_of, offsets


@njit
def _columns(
    n_data: Ints, sig: Ints, data_of: Ints, data: Any, launch: Ints, launch_of: Ints, launch_sig: Ints
) -> tuple[Ints, Any]:
    """The data of the nodes, launch by launch, column by column."""
    n_launches = launch_sig.size
    column_of = np.zeros(n_launches + 1, np.int32)
    for l in range(n_launches):
        column_of[l + 1] = column_of[l] + n_data[launch_sig[l]] * (launch_of[l + 1] - launch_of[l])
    columns = np.empty(column_of[n_launches], data.dtype)
    if columns.size == 0:
        return column_of, columns
    place = column_of.copy()
    for i in range(sig.size):
        l = launch[i]
        if l >= 0 and n_data[sig[i]] > 0:
            for c in range(n_data[sig[i]]):
                columns[place[l] + c * (launch_of[l + 1] - launch_of[l])] = data[data_of[i] + c]
            place[l] += 1
    return column_of, columns


def check_plan(tape: Tape, schedule: Schedule, plan: Plan, keep: bool | Bools = True) -> None:
    """Hold the invariants of the stage by running the plan on names: a row holds what was written there last.

    Args:
        tape, schedule, keep: what `place` was given.
        plan: what it gave.

    Raises:
        CompilerBug: one of them is broken; the message shows the structures.
    """
    s = tape.signatures
    n = len(tape.sig)
    kind, sig, live = s.kind.tolist(), tape.sig.tolist(), schedule.live.tolist()
    result_of, result_pool, rule = s.result_of.tolist(), s.result_pool.tolist(), s.result_rule.tolist()
    arg_of, args, slot_of = tape.arg_of.tolist(), tape.args.tolist(), tape.slot_of.tolist()
    value_of, ints, floats = tape.value_of.tolist(), tape.ints.tolist(), tape.floats.tolist()
    start, count, scattered = plan.start.tolist(), plan.count.tolist(), plan.scattered.tolist()
    pool_rows = plan.pool_rows.tolist()

    def hold(true: bool | np.bool_, what: str) -> None:
        if not true:
            raise CompilerBug(f"place: {what}\n{tape}\n{schedule}\n{plan}")

    def rows_of(value: int) -> list[int]:
        first, n_rows = start[value], count[value]
        return list(range(first, first + n_rows)) if first >= 0 else scattered[-first - 2 : -first - 2 + n_rows]

    # What each row of a value holds, as (value that was written, row of it), found from the tape alone.
    held: list[list[tuple[int, int]]] = [[] for _ in range(value_of[-1])]
    pool_of = [-1] * value_of[-1]
    holds: list[dict[int, tuple[int, int]]] = [{} for _ in tape.pools]

    def write(value: int, row: int) -> None:
        for r in range(count[value]):
            holds[pool_of[value]][row + r] = (value, r)

    hold(len(start) == len(count) == value_of[-1], "not one entry for each value")
    for i in range(n):
        slots = [args[arg_of[q] : arg_of[q + 1]] for q in range(slot_of[i], slot_of[i + 1])]
        for j, value in enumerate(range(value_of[i], value_of[i + 1])):
            if not live[i]:
                hold(start[value] == -1, f"value {value} is dead and has rows")
                continue
            r = result_of[sig[i]] + j
            pool_of[value] = result_pool[r]
            if kind[sig[i]] == CONCAT_ROWS:
                held[value] = [row for arg in slots[0] for row in held[arg]]
            elif kind[sig[i]] == SLICE_ROWS:
                first, step, n_rows = ints[tape.int_of[i] : tape.int_of[i] + 3]
                base = held[slots[0][0]]
                hold(
                    n_rows == 0 or (0 <= first < len(base) and 0 <= first + step * (n_rows - 1) < len(base)),
                    f"node {i} takes rows that value {slots[0][0]} has not",
                )
                held[value] = [base[first + step * k] for k in range(n_rows)]
            else:
                ref = int(s.result_ref[r])
                if rule[r] == FIXED:
                    n_rows = int(s.result_rows[r])
                elif rule[r] == AS_SLOT:
                    n_rows = sum(len(held[arg]) for arg in slots[ref])
                elif rule[r] == PER_ELEMENT:
                    listed = s.slot_kind[s.slot_of[sig[i]] + ref] == LIST
                    n_rows = int(s.result_rows[r]) * (len(slots[ref]) if listed else len(held[slots[ref][0]]))
                else:
                    n_rows = ints[tape.int_of[i] + 2]
                held[value] = [(value, k) for k in range(n_rows)]
            hold(count[value] == len(held[value]), f"value {value} has {len(held[value])} rows, not {count[value]}")
            rows = rows_of(value)
            hold(len(rows) == count[value] and start[value] != -1, f"value {value} has no rows")
            hold(all(0 <= row < pool_rows[pool_of[value]] for row in rows), f"value {value} lies outside its pool")
            if kind[sig[i]] == PAYLOAD:
                hold(start[value] >= 0, f"value {value} is not one block")
                hold(holds[pool_of[value]].keys().isdisjoint(rows), f"value {value} lies on another payload")
                write(value, start[value])

    def lies(value: int, when: str) -> None:
        held_there = [holds[pool_of[value]].get(row) for row in rows_of(value)]
        hold(held_there == held[value], f"the rows of value {value} do not hold it {when}")

    n_nodes = np.diff(schedule.launch_of)
    for name, sizes in (
        ("access_of", np.diff(s.slot_of)[schedule.launch_sig]),
        ("write_of", np.diff(s.result_of)[schedule.launch_sig]),
        ("int_of", s.n_ints[schedule.launch_sig] * n_nodes),
        ("float_of", s.n_floats[schedule.launch_sig] * n_nodes),
    ):
        hold(np.array_equal(getattr(plan, name), np.append(0, np.cumsum(sizes))), f"{name} is wrong")
    n_rows_read = np.diff(plan.rows_of)
    hold(len(n_rows_read) == plan.access_of[-1] and plan.rows_of[0] == 0, "not one run of rows for each access")
    hold((n_rows_read >= 0).all() and plan.rows_of[-1] == len(plan.rows), "rows that no launch reads")
    for l, launched in enumerate(schedule.launch_sig.tolist()):
        nodes = schedule.nodes[schedule.launch_of[l] : schedule.launch_of[l + 1]].tolist()
        accesses = range(plan.access_of[l], plan.access_of[l + 1])
        read: set[tuple[int, int]] = set()
        for j, access in enumerate(accesses):
            form, n_rows = int(s.slot_kind[s.slot_of[launched] + j]), int(s.slot_rows[s.slot_of[launched] + j])
            values = [args[arg_of[slot_of[i] + j] : arg_of[slot_of[i] + j + 1]] for i in nodes]
            for value in (value for listed in values for value in listed):
                lies(value, f"when launch {l} reads it")
                hold(form != LIST or count[value] == n_rows, f"launch {l} lists value {value}, not of {n_rows} rows")
                read.update((pool_of[value], row) for row in rows_of(value))
            rows = plan.rows[plan.rows_of[access] : plan.rows_of[access + 1]].tolist()
            expected = [row for listed in values for value in listed for row in rows_of(value)]
            hold(rows == expected, f"launch {l}, slot {j}: reads {rows}, its values have {expected}")
            first = rows[0] if rows else 0
            block = first if rows == list(range(first, first + len(rows))) else -1
            hold(plan.block[access] == block, f"launch {l}, slot {j}: its block is {block}, not {plan.block[access]}")
            if form == ONE:
                hold(all(len(listed) == 1 for listed in values), f"launch {l}, slot {j}: not one value")
                hold(plan.offsets_of[access] == -1, f"launch {l}, slot {j}: offsets, but no list")
            else:
                elements = [len(listed) if form == LIST else sum(count[v] for v in listed) for listed in values]
                offsets = plan.offsets[plan.offsets_of[access] :][: len(nodes) + 1]
                hold(
                    np.array_equal(offsets, np.append(0, np.cumsum(elements))),
                    f"launch {l}, slot {j}: offsets are {offsets}",
                )
        writes = range(plan.write_of[l], plan.write_of[l + 1])
        written: set[tuple[int, int]] = set()
        for j, w in enumerate(writes):
            row = first = int(plan.write_start[w])
            for i in nodes:
                value = value_of[i] + j
                hold(start[value] == row, f"value {value} is not at its place in the block of launch {l}")
                write(value, row)
                row += count[value]
            hold(row - first == plan.write_rows[w], f"launch {l} writes {row - first} rows, not {plan.write_rows[w]}")
            block_rows = {(result_pool[result_of[launched] + j], r) for r in range(first, row)}
            hold(written.isdisjoint(block_rows), f"results of launch {l} overlap")
            written |= block_rows
        hold(written.isdisjoint(read), f"launch {l} writes rows that it reads")
        for columns, column_of, data, data_of, n_data in (
            (plan.ints, plan.int_of, ints, tape.int_of, s.n_ints),
            (plan.floats, plan.float_of, floats, tape.float_of, s.n_floats),
        ):
            wanted = [data[data_of[i] + c] for c in range(n_data[launched]) for i in nodes]
            given = columns[column_of[l] : column_of[l + 1]]
            hold(np.array_equal(given, np.array(wanted, given.dtype), equal_nan=True), f"launch {l} has other data")

    kept = np.full(value_of[-1], keep) if isinstance(keep, bool) else np.array(keep)
    kept[tape.roots] = True
    for value in np.flatnonzero(kept).tolist():
        if pool_of[value] >= 0:
            lies(value, "in the end")
    hold(plan.peak_bytes == _n_bytes(tape, plan.pool_rows), "peak bytes are not those of the pools")
