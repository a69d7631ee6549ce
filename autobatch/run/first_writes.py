"""first writes: which launches of the backward pass may store their cotangents, and which rows must be zero before.

Input: a `Run`, and which of its launches are reversed. Output: `FirstWrites`. A launch of the backward pass writes the
cotangents of the rows that it read. Where it is the first to write each of them, and writes none twice, it stores; else
it adds, and what it is the first to add to must be zero. So must what is read and was never written.

Invariants: a row is stored at most once, before anything is added to it; a row that is added to or read holds what was
stored there, or was zeroed. Cost: O(rows read), in one compiled loop.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..base.jit import njit
from ..base.types import Array
from .earlier import rows_of
from .execute import Run
from .layout import pool_number

UNTOUCHED, TOUCHED, HERE = 0, 1, 2


@dataclass(slots=True)
class FirstWrites:
    """stores: [launches] 1 where a launch stores; zero: for each pool 1 for the rows to be zeroed."""

    stores: Array
    zero: list[Array]


def first_writes(run: Run, wanted: Sequence[bool], zeroed: Array, slots: Sequence[Sequence[int]]) -> FirstWrites:
    """Look through the launches that will be reversed.

    Args:
        run: what was executed.
        wanted: which launches are reversed.
        zeroed: recorded values whose cotangents must be there from the start: seeds, and what is read afterwards.
        slots: for each signature the slots whose cotangents are written.
    """
    plan, schedule, table = run.plan, run.schedule, run.tape.signatures
    first_row = np.concatenate(([0], np.cumsum([len(pool) for pool in run.pools])))
    touched = np.zeros(first_row[-1], np.uint8)
    zero = np.zeros(first_row[-1], np.uint8)
    found = rows_of(run, zeroed)
    rows = np.repeat(first_row[found.pool], np.diff(found.first)) + found.rows
    touched[rows] = TOUCHED
    zero[rows] = 1
    n_slots = int(table.slot_of[-1])
    slot_row = np.full(n_slots, -1, np.int64)
    for s, written in enumerate(slots):
        for k in written:
            slot_row[table.slot_of[s] + k] = first_row[pool_number(run.tape, run.signatures[s].slots[k])]
    stores = np.zeros(len(wanted), np.uint8)
    _first_writes(
        np.array(wanted, np.uint8), schedule.launch_sig, plan.access_of, plan.rows_of, plan.rows, plan.write_of,
        plan.write_start, plan.write_rows, table.slot_of, table.result_of, first_row[table.result_pool], slot_row,
        touched, zero, stores,
    )  # fmt: skip
    return FirstWrites(stores, [zero[a:b] for a, b in itertools.pairwise(first_row)])


@njit(early="uint8:1 9xint32:1 2xint64:1 3xuint8:1")
def _first_writes(  # type: ignore[no-untyped-def]
    wanted, launch_sig, access_of, rows_of, rows, write_of, write_start, write_rows, slot_of, result_of, result_row,
    slot_row, touched, zero, stores,
):  # fmt: skip
    for l in range(wanted.size - 1, -1, -1):
        if wanted[l] == 0:
            continue
        s = launch_sig[l]
        for j in range(write_of[l + 1] - write_of[l]):
            first = result_row[result_of[s] + j] + write_start[write_of[l] + j]
            for row in range(first, first + write_rows[write_of[l] + j]):
                if touched[row] == 0:
                    touched[row] = 1
                    zero[row] = 1
        alone = True
        for k in range(slot_of[s + 1] - slot_of[s]):
            first = slot_row[slot_of[s] + k]
            if first >= 0:
                for r in range(rows_of[access_of[l] + k], rows_of[access_of[l] + k + 1]):
                    if touched[first + rows[r]] == 0:
                        touched[first + rows[r]] = 2
                    else:
                        alone = False
        stores[l] = alone
        for k in range(slot_of[s + 1] - slot_of[s]):
            first = slot_row[slot_of[s] + k]
            if first >= 0:
                for r in range(rows_of[access_of[l] + k], rows_of[access_of[l] + k + 1]):
                    if touched[first + rows[r]] == 2:
                        touched[first + rows[r]] = 1
                        if not alone:
                            zero[first + rows[r]] = 1


@njit
def clear_rows(pool: Array, zero: Array) -> None:
    """Fill the marked rows of a pool with zeros."""
    for row in range(zero.size):
        if zero[row]:
            pool[row, :] = 0
