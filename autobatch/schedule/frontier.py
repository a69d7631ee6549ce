"""The order of launches: first the signatures all of whose nodes are ready.

A node's *chain* is the most nodes of its own signature on a path that ends in it. All nodes of one signature and chain
are a *class*. No order needs fewer launches than there are classes, so a class that is ready as a whole can be launched
at no cost (Chen et al., ED-Batch, ICML 2023, lemma 1). Of several such classes the one runs whose signature has the
lowest mean depth of nodes not yet run. While there is always one, classes and what they wait for are all that matters:
`_run_classes` reads the nodes a few times in tape order and works on classes alone. Where none is ready as a whole, one
signature has to be launched in parts: `_run_nodes` then goes node by node, and where no class is whole runs all ready
nodes of the signature of lowest mean depth (Neubig, Goldberg and Dyer, On-the-fly Operation Batching in Dynamic
Computation Graphs, NeurIPS 2017, section 3.2).

Cost: O(nodes × signatures) for the chains, in vectors of signatures; O(nodes + arguments + launches × signatures) for
the rest. Of a tape of many signatures chains are not counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.host.arena import Lease
from ..base.jit import njit
from .structures import KERNEL, PAYLOAD, Ints

__all__ = ["by_frontier", "longest_chains"]

MOST_SIGNATURES = 128
"""Most signatures for which chains are counted, and how many are counted at once."""
BLOCK = 8


def by_frontier(kind: Ints, sig: Ints, live: Ints, depth: Ints, source_of: Ints, sources: Ints) -> tuple[Ints, int]:
    """The launch of each node, and the number of launches."""
    column, n_columns = _columns(kind, sig, live)
    if n_columns > MOST_SIGNATURES:  # chains are not counted: a signature is whole where all of its nodes are ready
        launch, number = _run_nodes(kind, sig, live, depth, source_of, sources, np.ones(sig.size, np.int32))
        return launch, int(number)
    lease = Lease()
    chain = _chains(column, n_columns, sig, live, int(depth.max(initial=0)), source_of, sources, lease)
    item = lease.empty((sig.size,), np.int32)
    launch = np.full(sig.size, -1, np.int32)
    number = _run_classes(kind, sig, live, depth, source_of, sources, chain, item, launch)
    if number < 0:
        launch, number = _run_nodes(kind, sig, live, depth, source_of, sources, chain)
    return launch, int(number)


def longest_chains(kind: Ints, sig: Ints, live: Ints, depth: Ints, source_of: Ints, sources: Ints) -> Ints:
    """The longest chain of each signature: [S], 0 where no node of it is launched."""
    column, n_columns = _columns(kind, sig, live)
    longest = np.zeros(kind.size, np.int32)
    lease = Lease()
    for first in range(0, n_columns, MOST_SIGNATURES):
        here = np.where((column >= first) & (column < first + MOST_SIGNATURES), column - first, -1).astype(np.int32)
        n_here = min(n_columns - first, MOST_SIGNATURES)
        own = _chains(here, n_here, sig, live, int(depth.max(initial=0)), source_of, sources, lease)
        np.maximum.at(longest, sig, own)
    return longest


def _chains(
    column: Ints, n_columns: int, sig: Ints, live: Ints, deepest: int, source_of: Ints, sources: Ints, lease: Lease
) -> Ints:
    """`_own_chains`, with counts in as few bytes as the longest path allows."""
    width = -(-n_columns // BLOCK) * BLOCK
    counts = lease.empty((sig.size * width,), np.int16 if deepest <= np.iinfo(np.int16).max else np.int32)
    own = lease.empty((sig.size,), np.int32)
    _own_chains(column, width, sig, live, source_of, sources, counts, own)
    return own


@njit
def _columns(kind: Ints, sig: Ints, live: Ints) -> tuple[Ints, int]:
    """Numbers for the signatures that are launched, -1 for others, and how many they are."""
    column = np.full(kind.size, -1, np.int32)
    n_columns = 0
    for i in range(sig.size):
        if live[i] and column[sig[i]] < 0 and kind[sig[i]] == KERNEL:
            column[sig[i]] = n_columns
            n_columns += 1
    return column, n_columns


@njit
def _own_chains(
    column: Ints, width: int, sig: Ints, live: Ints, source_of: Ints, sources: Ints, counts: Any, own: Ints
) -> None:
    """For each node the most nodes of its signature on a path that ends in it; 0 where it is dead or has no column.

    counts: [n * width] memory: a row for each node, with such a count for every column. Work goes by `BLOCK` of them at
    a time, which is one vector.
    """
    n = sig.size
    one = np.zeros(column.size * width, counts.dtype)  # what a node adds: 1 in its own column
    for s in range(column.size):
        if column[s] >= 0:
            one[s * width + column[s]] = 1
    for i in range(n):
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


@njit
def _left_of(n_sigs: int, sig: Ints, live: Ints, depth: Ints, chain: Ints) -> tuple[Any, Any, Ints]:
    """For each signature the sum of depths of its live nodes, their number, and its longest chain."""
    depth_left = np.zeros(n_sigs, np.int64)
    nodes_left = np.zeros(n_sigs, np.int64)
    longest = np.zeros(n_sigs, np.int32)
    for i in range(sig.size):
        if live[i]:
            s = sig[i]
            depth_left[s] += depth[i]
            nodes_left[s] += 1
            longest[s] = max(longest[s], chain[i])
    return depth_left, nodes_left, longest


@njit
def _readers_of(n: int, sources: Ints, reader: Ints) -> tuple[Ints, Ints]:
    """Which items wait for each of n, `readers[reader_of[k]:reader_of[k + 1]]`; `reader[e]` waits for `sources[e]`."""
    reader_of = np.zeros(n + 2, np.int32)
    for source in sources:
        reader_of[source + 2] += 1
    for k in range(n):
        reader_of[k + 2] += reader_of[k + 1]
    readers = np.empty(sources.size, np.int32)
    for e in range(sources.size):
        place = sources[e] + 1
        readers[reader_of[place]] = reader[e]
        reader_of[place] += 1
    return reader_of, readers


_FILTER_BITS = 12


@njit
def _run_classes(
    kind: Ints, sig: Ints, live: Ints, depth: Ints, source_of: Ints, sources: Ints, chain: Ints,
    item: Ints, launch: Ints,
) -> int:  # fmt: skip
    """Launch whole classes; the number of launches is -1 if there comes a point where none is ready as a whole.

    Nodes of one class that still has to run are the lowest of their signature: those above wait for one of them. So a
    launch of a class is a launch of all that is ready of its signature.

    A live view is an item of its own beside the classes: it is there as soon as what it looks at is.
    item: [n] memory for the item of each node; launch: [n] where the launches go, -1 everywhere
    """
    n = sig.size
    n_sigs = kind.size
    depth_left, nodes_left, longest = _left_of(n_sigs, sig, live, depth, chain)
    n_views = 0
    class_of = np.zeros(n_sigs + 1, np.int32)
    for s in range(n_sigs):
        class_of[s + 1] = class_of[s] + longest[s]
        if kind[s] != KERNEL and kind[s] != PAYLOAD:
            n_views += nodes_left[s]
    n_classes = class_of[n_sigs]
    n_items = n_classes + n_views

    # What items wait for. Most nodes of a class wait for the same classes: a filter of pairs met lately drops most
    # repetitions; those that slip through are counted on both sides.
    class_nodes = np.zeros(n_classes, np.int64)
    class_depth = np.zeros(n_classes, np.int64)
    waiting = np.zeros(n_items, np.int32)
    edge_from = np.empty(sources.size, np.int32)
    edge_to = np.empty(sources.size, np.int32)
    n_edges = 0
    recent = np.full(1 << _FILTER_BITS, -1, np.int64)
    n_views = 0
    for i in range(n):
        if not live[i] or kind[sig[i]] == PAYLOAD:
            continue
        if kind[sig[i]] == KERNEL:
            reader = class_of[sig[i]] + chain[i] - 1
            class_nodes[reader] += 1
            class_depth[reader] += depth[i]
        else:
            reader = n_classes + n_views
            n_views += 1
        item[i] = reader
        for e in range(source_of[i], source_of[i + 1]):
            source = item[sources[e]]
            pair = np.int64(source) * n_items + reader
            place = (reader + source * 31) & ((1 << _FILTER_BITS) - 1)
            if recent[place] != pair:
                recent[place] = pair
                edge_from[n_edges] = source
                edge_to[n_edges] = reader
                n_edges += 1
                waiting[reader] += 1
    reader_of, readers = _readers_of(n_items, edge_from[:n_edges], edge_to)

    done = np.empty(n_items, np.int32)
    n_done = 0
    for k in range(n_classes, n_items):
        if waiting[k] == 0:
            done[n_done] = k
            n_done += 1
    launch_of_item = np.full(n_items, -1, np.int32)
    lowest = class_of[:n_sigs].copy()
    number = 0
    while True:
        while n_done > 0:
            n_done -= 1
            k = done[n_done]
            for r in range(reader_of[k], reader_of[k + 1]):
                reader = readers[r]
                waiting[reader] -= 1
                if waiting[reader] == 0 and reader >= n_classes:
                    done[n_done] = reader
                    n_done += 1
        if number == n_classes:
            break
        best = -1
        best_mean = 0.0
        for s in range(n_sigs):
            if lowest[s] < class_of[s + 1] and waiting[lowest[s]] == 0:
                mean = depth_left[s] / nodes_left[s]
                if best < 0 or mean < best_mean:
                    best, best_mean = s, mean
        if best < 0:
            return -1
        k = lowest[best]
        lowest[best] += 1
        depth_left[best] -= class_depth[k]
        nodes_left[best] -= class_nodes[k]
        launch_of_item[k] = number
        done[n_done] = k
        n_done += 1
        number += 1
    for i in range(n):
        if live[i] and kind[sig[i]] == KERNEL:
            launch[i] = launch_of_item[item[i]]
    return number


@njit
def _run_nodes(
    kind: Ints, sig: Ints, live: Ints, depth: Ints, source_of: Ints, sources: Ints, chain: Ints
) -> tuple[Ints, int]:
    """Node by node: all ready nodes of a signature whose lowest class is ready as a whole, or else of any."""
    n = sig.size
    n_sigs = kind.size
    waiting = np.empty(n, np.int32)
    edge_to = np.empty(sources.size, np.int32)
    for i in range(n):
        waiting[i] = source_of[i + 1] - source_of[i]
        edge_to[source_of[i] : source_of[i + 1]] = i
    reader_of, readers = _readers_of(n, sources, edge_to)
    depth_left, nodes_left, longest = _left_of(n_sigs, sig, live, depth, chain)
    # at[s] + c: nodes of signature s with own chain c that have not run, and those of them that are ready.
    at = np.zeros(n_sigs + 1, np.int64)
    for s in range(n_sigs):
        at[s + 1] = at[s] + longest[s] + 2
    left = np.zeros(at[n_sigs], np.int32)
    ready = np.zeros(at[n_sigs], np.int32)
    lowest = np.ones(n_sigs, np.int32)
    queue_start = np.zeros(n_sigs, np.int64)
    total = 0
    for s in range(n_sigs):
        queue_start[s] = total
        total += nodes_left[s]
    queue_end = queue_start.copy()
    queue = np.empty(total, np.int32)
    done = np.empty(n, np.int32)
    n_done = 0
    n_left = 0
    for i in range(n):
        if live[i]:
            if kind[sig[i]] == KERNEL:
                left[at[sig[i]] + chain[i]] += 1
                n_left += 1
                if waiting[i] == 0:
                    queue[queue_end[sig[i]]] = i
                    queue_end[sig[i]] += 1
                    ready[at[sig[i]] + chain[i]] += 1
            elif waiting[i] == 0:
                done[n_done] = i
                n_done += 1
    launch = np.full(n, -1, np.int32)
    number = 0
    while True:
        while n_done > 0:
            n_done -= 1
            i = done[n_done]
            for e in range(reader_of[i], reader_of[i + 1]):
                reader = readers[e]
                waiting[reader] -= 1
                if waiting[reader] == 0:
                    s = sig[reader]
                    if kind[s] == KERNEL:
                        queue[queue_end[s]] = reader
                        queue_end[s] += 1
                        ready[at[s] + chain[reader]] += 1
                    else:
                        done[n_done] = reader
                        n_done += 1
        if n_left == 0:
            return launch, number
        best = -1
        best_whole = False
        best_mean = 0.0
        for s in range(n_sigs):
            if queue_end[s] == queue_start[s]:
                continue
            while left[at[s] + lowest[s]] == 0:
                lowest[s] += 1
            whole = ready[at[s] + lowest[s]] == left[at[s] + lowest[s]]
            mean = depth_left[s] / nodes_left[s]
            if best < 0 or (whole and not best_whole) or (whole == best_whole and mean < best_mean):
                best, best_whole, best_mean = s, whole, mean
        for q in range(queue_start[best], queue_end[best]):
            i = queue[q]
            launch[i] = number
            depth_left[best] -= depth[i]
            left[at[best] + chain[i]] -= 1
            ready[at[best] + chain[i]] -= 1
            done[n_done] = i
            n_done += 1
        n_run = queue_end[best] - queue_start[best]
        nodes_left[best] -= n_run
        n_left -= n_run
        queue_start[best] = queue_end[best]
        number += 1
