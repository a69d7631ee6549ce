"""segments: which of the rows that a launch adds to are the same, so that each is added to once, in a fixed order; and
which launches add to no row twice, which need no order.

Input: the concatenated row numbers of many accesses. Output: `Segments`. Where an access has some row twice, its
entries are sorted by row, stably: `order` says which entry comes where, `starts` where each row begins. Invariants: the
sums of a row are taken in the order of its entries. Cost: O(rows), and a sort of those accesses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...base.jit import njit
from ...base.types import Array


@dataclass(slots=True)
class Segments:
    """count: [accesses] segments of each access, 0 where all its rows are different; order_of, starts_of: [accesses]
    first entry of each in `order` and in `starts`; order: int32; starts: int32, one more than segments."""

    count: Array
    order_of: Array
    starts_of: Array
    order: Array
    starts: Array


def sorted_rows(rows: Array) -> tuple[Array, Array, Array]:
    """Row numbers, from 0 on, sorted stably: `order` and `starts` as of `Segments`, and each number once, ascending."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    begins = np.flatnonzero(np.diff(ordered, prepend=-1))
    return order.astype(np.int32), np.append(begins, rows.size).astype(np.int32), ordered[begins]


def segments_of(rows: Array, first: Array, last: Array, n_rows: int) -> Segments:
    """The segments of `rows[first[a]:last[a]]` for every a; numbers are below `n_rows`."""
    twice = apart(rows, first, last, np.zeros_like(first), np.arange(first.size), n_rows) == 0
    n_entries = np.where(twice, last - first, 0)
    order_of = np.concatenate(([0], np.cumsum(n_entries)))
    starts_of = np.concatenate(([0], np.cumsum(np.where(twice, n_entries + 1, 0))))
    count = np.zeros(first.size, np.int64)
    order, starts = np.empty(order_of[-1], np.int32), np.zeros(starts_of[-1], np.int32)
    for a in np.flatnonzero(twice).tolist():
        own_order, own_starts, once = sorted_rows(rows[first[a] : last[a]])
        count[a] = once.size
        order[order_of[a] : order_of[a + 1]] = own_order
        starts[starts_of[a] : starts_of[a] + own_starts.size] = own_starts
    return Segments(count, order_of[:-1], starts_of[:-1], order, starts)


def apart(rows: Array, first: Array, last: Array, first_row: Array, owner: Array, n_rows: int) -> Array:
    """For each owner 1 where all rows of its accesses are different.

    Args:
        rows, first, last: row numbers, and where those of each access begin and end.
        first_row: of the pool of each access.
        owner: of each, ascending.
        n_rows: of all pools.
    """
    found = np.ones(int(owner.max(initial=-1)) + 1, np.uint8)
    _find_meeting(rows, first, last, first_row, owner, np.full(n_rows, -1, np.int64), found)
    return found


@njit
def _find_meeting(rows, first, last, first_row, owner, seen, found):  # type: ignore[no-untyped-def]
    for q in range(first.size):
        for r in range(first[q], last[q]):
            row = first_row[q] + rows[r]
            if seen[row] == owner[q]:
                found[owner[q]] = 0
                break
            seen[row] = owner[q]
