"""Chains: how many nodes of one signature follow one another.

Cost: O(nodes × signatures), in vectors of signatures.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backends.host.arena import Lease
from ...base.jit import njit
from ..structures import KERNEL, Ints
from .policy import Waits

__all__ = ["MOST_SIGNATURES", "columns", "longest_chains", "own_chains"]

MOST_SIGNATURES = 128
"""Most signatures for which chains are counted, and how many are counted at once."""
BLOCK = 8


def longest_chains(waits: Waits) -> Ints:
    """The longest chain of each signature: [S], 0 where no node of it is launched."""
    column, n_columns = columns(waits.kind, waits.sig, waits.live)
    longest = np.zeros(waits.kind.size, np.int32)
    lease = Lease()
    for first in range(0, n_columns, MOST_SIGNATURES):
        here = np.where((column >= first) & (column < first + MOST_SIGNATURES), column - first, -1).astype(np.int32)
        own = own_chains(waits, here, min(n_columns - first, MOST_SIGNATURES), lease)
        np.maximum.at(longest, waits.sig, own)
    return longest


def own_chains(
    waits: Waits, column: Ints, n_columns: int, lease: Lease, readers: tuple[Ints, Ints] | None = None
) -> Ints:
    """For each node the most nodes of its signature on a path that ends in it; with the readers of nodes, on a path
    that begins in it. Counted in as few bytes as the longest path allows; leased."""
    width, n = -(-n_columns // BLOCK) * BLOCK, waits.sig.size
    deepest = int(waits.depth.max(initial=0))
    counts = lease.empty((n * width,), np.int16 if deepest <= np.iinfo(np.int16).max else np.int32)
    own = lease.empty((n,), np.int32)
    bounds, others = (waits.source_of, waits.sources) if readers is None else readers
    _own_chains(column, width, waits.sig, waits.live, bounds, others, readers is None, counts, own)
    return own


@njit(early="3xint32:1")
def columns(kind: Ints, sig: Ints, live: Ints) -> tuple[Ints, int]:
    """Numbers for the signatures that are launched, -1 for others, and how many they are."""
    column = np.full(kind.size, -1, np.int32)
    n_columns = 0
    for i in range(sig.size):
        if live[i] and column[sig[i]] < 0 and kind[sig[i]] == KERNEL:
            column[sig[i]] = n_columns
            n_columns += 1
    return column, n_columns


@njit(early="int32:1 int 4xint32:1 bool int16:1 int32:1")
def _own_chains(
    column: Ints, width: int, sig: Ints, live: Ints, source_of: Ints, sources: Ints, forward: bool, counts: Any,
    own: Ints,
) -> None:  # fmt: skip
    """For each node the most nodes of its signature on a path that ends in it; 0 where it is dead or has no column.

    counts: [n * width] memory: a row for each node, with such a count for every column. Work goes by `BLOCK` of them at
    a time, which is one vector.
    """
    n = sig.size
    one = np.zeros(column.size * width, counts.dtype)  # what a node adds: 1 in its own column
    for s in range(column.size):
        if column[s] >= 0:
            one[s * width + column[s]] = 1
    for step in range(n):
        i = step if forward else n - 1 - step
        own[i] = 0
        if not live[i]:
            continue
        here = np.uint64(i * width)  # an index without sign needs no look whether it counts from the end
        add = np.uint64(sig[i] * width)
        first = source_of[i]
        if first == source_of[i + 1]:
            for c in range(width):
                counts[here + np.uint64(c)] = one[add + np.uint64(c)]
        else:
            there = np.uint64(sources[first] * width)
            for block in range(0, width, BLOCK):
                for c in range(BLOCK):
                    k = np.uint64(block + c)
                    counts[here + k] = counts[there + k] + one[add + k]
            for e in range(first + 1, source_of[i + 1]):
                there = np.uint64(sources[e] * width)
                for block in range(0, width, BLOCK):
                    for c in range(BLOCK):
                        k = np.uint64(block + c)
                        a = counts[here + k]
                        b = counts[there + k] + one[add + k]
                        counts[here + k] = a if a >= b else b
        c = column[sig[i]]
        if c >= 0:
            own[i] = counts[here + np.uint64(c)]
