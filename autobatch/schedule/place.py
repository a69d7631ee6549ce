"""Decide where every value is stored, and so what every launch reads and writes.

Input: a `Tape` and its `Schedule`. Output: a `Plan`.

All values of one width and dtype are in one pool. Payloads come first, in tape order; all of them are written before
the first launch. Then, launch by launch, each result of a launch becomes one block of rows: node after node in the
order of the launch. A view has no rows of its own: it lists those of its operand, and where these follow one
another it is a range like any other value. A launch reads each slot through a vector of row numbers, or as one block
where these follow one another.

Rows that are not read again are reused by later launches, unless they are kept: for the backward pass, or because the
value is a root (see `free_rows`).

Invariants, held by `check`: when a launch reads a value, the value's rows hold what was written for it; a launch
writes no row that it reads; what is kept is there in the end; the plan tells every launch the rows of exactly its
values.

Cost: O(nodes + arguments + rows read), in compiled loops over flat arrays.

The launches of the example in `schedule`, all values being rows of the first of two pools (`2 @ 5` is two rows from row
5 on, `2:` is two scattered rows):

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
from ..base.jit import njit
from .free_rows import last_launch, reuse
from .structures import (
    AS_SLOT,
    CONCAT_ROWS,
    EACH,
    FIXED,
    LIST,
    OF_LIST,
    ONE,
    PAYLOAD,
    PER_ELEMENT,
    TAKE_ROWS,
    Ints,
    Plan,
    Schedule,
    Tape,
)

__all__ = ["place"]

Longs = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


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
        last = last_launch(s.kind, t.sig, t.slot_of, t.arg_of, t.args, t.value_of, live, launch, len(launch_sig), kept)
        reuse(
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
    n_bytes = sum(
        n * width * np.dtype(dtype).itemsize for n, (width, dtype) in zip(pool_rows.tolist(), t.pools, strict=True)
    )
    return Plan(
        start=start, count=count, scattered=scattered, pool_rows=pool_rows, peak_bytes=n_bytes,
        access_of=access_of, rows_of=rows_of, rows=rows, block=block, offsets_of=offsets_of, offsets=offsets,
        write_of=write_of, write_start=write_start, write_rows=write_rows,
        ints=ints, floats=floats, int_of=int_of, float_of=float_of,
    )  # fmt: skip


@njit(early="3xint32:1")
def _number(nodes: Ints, launch_of: Ints, launch: Ints) -> None:
    """The launch of each node, -1 where there is none, into `launch`."""
    launch[:] = -1
    for l in range(launch_of.size - 1):
        for k in range(launch_of[l], launch_of[l + 1]):
            launch[nodes[k]] = l


@njit(early="13xint32:1 int64:1 4xint32:1")
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
        if kind[s] == TAKE_ROWS:
            count[value_of[i]] = ints[int_of[i] + 2]
            n_view_rows += count[value_of[i]]
            continue
        for r in range(result_of[s], result_of[s + 1]):
            if rule[r] == FIXED:
                n_rows = factor[r]
            elif rule[r] == OF_LIST:
                n_rows = 1
                for k in range(2):
                    if ref[r] >> k & 1:
                        n_rows *= ints[int_of[i] + k]
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


@njit(early="11xint32:1 int")
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


@njit(early="7xint32:1 int64:1 3xint32:1 int")
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
        if not live[i] or (kind[sig[i]] != CONCAT_ROWS and kind[sig[i]] != TAKE_ROWS):
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
            at = int_of[i]
            first = ints[at]
            step = ints[at + 1]
            if begin >= 0 and step == 1:
                start[value] = begin + first
                continue
            whole = True
            for r in range(n_rows):
                row = first + step * r if step != 0 else ints[at + 3 + r]
                scattered[used + r] = begin + row if begin >= 0 else scattered[-begin - 2 + row]
                whole = whole and scattered[used + r] == scattered[used] + r
            if whole:
                start[value] = scattered[used]
            else:
                start[value] = -used - 2
                used += n_rows
    return scattered[:used].copy()


@njit(early="14xint32:1 int")
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


@njit(early="3xint32:1 int64:1 3xint32:1")
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
