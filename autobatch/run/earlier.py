"""earlier: values that other runs computed, read from where they lie, and rows of many values at once.

Input: numbers of values. Output: their rows in the pools of a run, or copies of their numbers from the memory of the
runs that computed them. Invariant: nothing here looks at values one by one in Python. Cost: some ns a row.

A table says of each value of a run or of a block where it is in memory:

    address of its first row | address of its row numbers, 0 where rows follow one another | 1 if it carries gradient

An address of 0 is a value that is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import CompilerBug
from ..base.jit import njit
from ..base.memory import copy_bytes, word
from ..base.types import Array

if TYPE_CHECKING:
    from .execute import HostRun, Run
    from .layout import Layout

ALIGNMENT = 8
"""Bytes that copies are aligned to."""

_COLUMNS = 3
_NOTHING = np.zeros(0, np.int32)


def address_of(array: Array) -> int:
    """Where an array begins in memory."""
    found: int = array.__array_interface__["data"][0]
    return found


# Where values lie.


def table_of_run(run: HostRun, n_values: int) -> Array:
    """The table of the recorded values of a run; none carries gradient."""
    tape, plan, number = run.tape, run.plan, run.expansion.number
    widths = np.array([width * np.dtype(dtype).itemsize for width, dtype in tape.pools])
    return _table(
        np.array([address_of(pool) for pool in run.pools], np.int64), widths, tape.value_of, tape.sig,
        tape.signatures.result_of, tape.signatures.result_pool, plan.start, plan.scattered, address_of(plan.scattered),
        _NOTHING if number is None else number, n_values,
    )  # fmt: skip


def table_of_blocks(blocks: Sequence[tuple[dict[int, int], Any]]) -> Array | None:
    """The table of values that were copied to blocks: of each block the place of a value by its number. None where
    one is no array of the host."""
    last = max((max(places) for places, _ in blocks if places), default=-1)
    table = np.zeros((last + 1, _COLUMNS), np.int64)
    for places, block in blocks:
        if not isinstance(block, np.ndarray) or not block.flags.c_contiguous:
            return None
        if places:
            table[list(places), 0] = address_of(block) + np.array(list(places.values())) * (block.nbytes // len(block))
    return table


@njit
def _table(  # type: ignore[no-untyped-def]
    bases, widths, value_of, sig, result_of, result_pool, start, scattered, scattered_at, number, n_values
):
    by_value = np.zeros((start.size, 2), np.int64)
    for node in range(sig.size):
        first = result_of[sig[node]]
        for v in range(value_of[node], value_of[node + 1]):
            if start[v] == -1:
                continue
            pool = result_pool[first + v - value_of[node]]
            if start[v] >= 0:
                by_value[v, 0] = bases[pool] + start[v] * widths[pool]
            else:
                by_value[v, 0] = bases[pool]
                by_value[v, 1] = scattered_at + 4 * (-start[v] - 2)
    table = np.zeros((n_values, 3), np.int64)
    for v in range(n_values):
        w = number[v] if number.size else v
        if w >= 0:
            table[v, 0] = by_value[w, 0]
            table[v, 1] = by_value[w, 1]
    return table


# Copies of values of other runs.


@dataclass(slots=True)
class Brought:
    """Numbers of values of earlier runs, copied together.

    values: what they are in the recording that reads them, ascending
    numbers: bytes; at: [values + 1] where those of each begin
    """

    values: Array
    numbers: Array
    at: Array


def bring(
    tables: Array, sizes: Array, source: Array, value: Array, here: Array, rows: Array, row_bytes: Array
) -> Brought:
    """Copy values from where they lie.

    Args:
        tables: addresses of those of the sources; sizes: of how many values they are.
        source, value: of each value its table, and its number there; here: its number in what reads it.
        rows, row_bytes: how many rows it has, and of how many bytes.
    """
    at = np.zeros(value.size + 1, np.int64)
    np.cumsum(-(-rows.astype(np.int64) * row_bytes // ALIGNMENT) * ALIGNMENT, out=at[1:])
    numbers = np.empty(at[-1], np.uint8)
    fault = _bring(tables, sizes, source, value, rows, row_bytes, at, address_of(numbers))
    if fault >= 0:
        raise CompilerBug(f"links: value {value[fault]} of an earlier recording is not there")
    return Brought(here, numbers, at)


@njit
def _bring(tables, sizes, source, value, rows, row_bytes, at, to):  # type: ignore[no-untyped-def]
    for k in range(value.size):
        if value[k] >= sizes[source[k]]:
            return k
        entry = tables[source[k]] + 24 * value[k]
        base, listed = word(entry), word(entry + 8)
        if base == 0:
            return k
        if listed == 0:
            copy_bytes(to + at[k], base, rows[k] * row_bytes[k])
        else:
            for r in range(rows[k]):
                pair = word((listed + 4 * r) & ~7)
                row = pair >> 32 if (listed + 4 * r) & 4 else pair & 0xFFFFFFFF
                copy_bytes(to + at[k] + r * row_bytes[k], base + row * row_bytes[k], row_bytes[k])
    return -1


@njit
def carried(tables, source, value):  # type: ignore[no-untyped-def]
    """Which values carry gradient; the addresses of the tables of the sources."""
    found = np.zeros(value.size, np.bool_)
    for k in range(value.size):
        found[k] = word(tables[source[k]] + 24 * value[k] + 16) != 0
    return found


@njit
def node_of(value_of, v):  # type: ignore[no-untyped-def]
    """The node that computes a value, as `np.searchsorted` finds it, which takes 0.3 s to compile and 0.15 to load."""
    first, end = 0, value_of.size
    while first < end:
        middle = (first + end) >> 1
        if value_of[middle] <= v:
            first = middle + 1
        else:
            end = middle
    return first - 1


def put(layout: Layout, brought: Brought) -> None:
    """Write copied values to their rows in a layout; those that nothing reads are left out."""
    tape, plan, number = layout.tape, layout.plan, layout.expansion.number
    bases = np.array([address_of(pool) for pool in layout.pools], np.int64)
    widths = np.array([width * np.dtype(dtype).itemsize for width, dtype in tape.pools])
    _put(
        brought.values, address_of(brought.numbers), brought.at, bases, widths, tape.value_of, tape.sig,
        tape.signatures.result_of, tape.signatures.result_pool, plan.start, plan.count,
        _NOTHING if number is None else number,
    )  # fmt: skip


@njit
def _put(values, numbers, at, bases, widths, value_of, sig, result_of, result_pool, start, count, number):  # type: ignore[no-untyped-def]
    for k in range(values.size):
        v = number[values[k]] if number.size else values[k]
        if v < 0 or start[v] < 0:
            continue
        node = node_of(value_of, v)
        pool = result_pool[result_of[sig[node]] + v - value_of[node]]
        copy_bytes(bases[pool] + start[v] * widths[pool], numbers + at[k], count[v] * widths[pool])


# Rows of several values.


@dataclass(slots=True)
class Rows:
    """Rows of several values: the pool of each, its rows among all of them, [values + 1], and these."""

    pool: Array
    first: Array
    rows: Array


def rows_of(run: Run, recorded: Array) -> Rows:
    """The rows of values of a run; none of one that was not computed."""
    tape, plan, number = run.tape, run.plan, run.expansion.number
    found = _rows_of(
        recorded, _NOTHING if number is None else number, tape.value_of, tape.sig, tape.signatures.result_of,
        tape.signatures.result_pool, plan.start, plan.count, plan.scattered,
    )  # fmt: skip
    return Rows(*found)


@njit(early="int64:1 8xint32:1")
def _rows_of(values, number, value_of, sig, result_of, result_pool, start, count, scattered):  # type: ignore[no-untyped-def]
    n = values.size
    pool = np.zeros(n, np.int32)
    first = np.zeros(n + 1, np.int64)
    for k in range(n):
        v = number[values[k]] if number.size else values[k]
        first[k + 1] = first[k]
        if v >= 0 and start[v] != -1:
            node = node_of(value_of, v)
            pool[k] = result_pool[result_of[sig[node]] + v - value_of[node]]
            first[k + 1] += count[v]
    rows = np.empty(first[n], np.int32)
    for k in range(n):
        v = number[values[k]] if number.size else values[k]
        for r in range(first[k + 1] - first[k]):
            rows[first[k] + r] = start[v] + r if start[v] >= 0 else scattered[-start[v] - 2 + r]
    return pool, first, rows


@njit
def add_rows(pool: Array, rows: Array, block: Array) -> None:
    """Add the rows of a block to rows of a pool, in their order."""
    for r in range(rows.size):
        for j in range(pool.shape[1]):
            pool[rows[r], j] += block[r, j]
