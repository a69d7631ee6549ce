"""The policy `frontier`: first the signatures all of whose nodes are ready.

A node's *chain* is the most nodes of its own signature on a path that ends in it. All nodes of one signature and chain
are a *class*. No order needs fewer launches than there are classes, so a class that is ready as a whole can be launched
at no cost (Chen et al., ED-Batch, ICML 2023, lemma 1). Of several such classes the one runs whose signature has the
lowest mean depth of nodes not yet run. While there is always one, classes and what they wait for are all that matters:
`run_classes` reads the nodes a few times in tape order and works on classes alone. Where it comes to a point at which
none is ready as a whole, it gives up, and the order is chosen node by node, looking ahead (see `ready`).

Cost: O(nodes × signatures) for the chains, in vectors of signatures; O(nodes + arguments + launches × signatures) for
the rest. Of a tape of many signatures chains are not counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backends.host.arena import Lease
from ...base.jit import njit
from ..structures import KERNEL, PAYLOAD, Ints
from .chains import MOST_SIGNATURES, columns, own_chains
from .policy import Order, Policy, Waits
from .ready import Ready, readers_of

__all__ = ["FRONTIER", "by_classes"]


def by_frontier(waits: Waits) -> Order:
    """By classes where that is possible, else node by node."""
    found = by_classes(waits)
    if found is not None:
        return found
    launch, number = Ready(waits).run()
    return Order(launch, number, FRONTIER.name)


def by_classes(waits: Waits) -> Order | None:
    """An order of whole classes, which needs as many launches as the bound; None where there is none."""
    w = waits
    column, n_columns = columns(w.kind, w.sig, w.live)
    if n_columns > MOST_SIGNATURES:
        return None
    lease = Lease()
    chain = own_chains(w, column, n_columns, lease)
    item = lease.empty((w.sig.size,), np.int32)
    launch = np.full(w.sig.size, -1, np.int32)
    number = run_classes(w.kind, w.sig, w.live, w.depth, w.source_of, w.sources, chain, item, launch)
    return None if number < 0 else Order(launch, int(number), FRONTIER.name)


FRONTIER = Policy("frontier", lambda waits, signatures, recurs: by_frontier(waits))


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


_FILTER_BITS = 12


@njit(early="9xint32:1")
def run_classes(
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
    reader_of, readers = readers_of(n_items, edge_from[:n_edges], edge_to)

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
