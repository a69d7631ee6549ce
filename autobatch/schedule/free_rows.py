"""Rows that no later launch reads are written again.

Input: the consecutive blocks of `place`, and the last launch that reads each value. Output: the same
arrays, with blocks moved. A block is free once the last launch has run that reads one of its values, directly or
through views, and a later launch takes its rows: the first of a few free ranges that is large enough. Neighbouring free
ranges become one. Cost: O(nodes + arguments).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base.jit import njit
from .structures import KERNEL, PAYLOAD, Ints

__all__ = ["last_launch", "reuse"]

Bools = np.ndarray[Any, np.dtype[np.bool_]]

PROBES = 16
"""Free ranges looked at before a block goes to the end of its pool: what keeps placing linear."""


@njit
def last_launch(
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
def reuse(
    kind: Ints, result_of: Ints, result_pool: Ints, sig: Ints, value_of: Ints, live: Ints,
    nodes: Ints, launch_of: Ints, launch_sig: Ints, count: Ints, last: Ints,
    start: Ints, write_of: Ints, write_start: Ints, write_rows: Ints, pool_rows: Ints,
) -> None:  # fmt: skip
    """Move the blocks that `place` laid out to rows that are free when they are written: the last five arrays change.

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

    # Blocks are writes, then payloads, of which there are fewer than values. Those that end with the same launch form a
    # list.
    n_blocks = write_start.size + value_of[sig.size]
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
