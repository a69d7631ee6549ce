"""The policy `agenda`, which needs no more than one look at what is ready.

A policy takes kind[S], sig[n], live[n], depth[n] and what each node waits for (source_of[n + 1], sources), and gives
the launch of each node, -1 where it is not launched, and the number of launches. Cost: O(nodes + arguments), and a
logarithm of the number of signatures for each launch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base.jit import njit
from .structures import KERNEL, Ints

__all__ = ["by_agenda", "readers_of"]

Reals = np.ndarray[Any, np.dtype[np.float64]]


@njit
def readers_of(n: int, source_of: Ints, sources: Ints) -> tuple[Ints, Ints, Ints]:
    """How many nodes each node waits for, and which wait for it: `readers[reader_of[i]:reader_of[i + 1]]`."""
    waiting = np.empty(n, np.int32)
    reader_of = np.zeros(n + 2, np.int32)
    for i in range(n):
        waiting[i] = source_of[i + 1] - source_of[i]
        for e in range(source_of[i], source_of[i + 1]):
            reader_of[sources[e] + 2] += 1
    for i in range(n):
        reader_of[i + 2] += reader_of[i + 1]
    readers = np.empty(sources.size, np.int32)
    for i in range(n):
        for e in range(source_of[i], source_of[i + 1]):
            place = sources[e] + 1
            readers[reader_of[place]] = i
            reader_of[place] += 1
    return waiting, reader_of, readers


@njit
def by_agenda(kind: Ints, sig: Ints, live: Ints, depth: Ints, source_of: Ints, sources: Ints) -> tuple[Ints, int]:
    """All ready nodes of the ready signature of lowest mean depth, again and again.

    The mean of a signature changes only when it is launched, when it is not in the heap: keys in the heap stay true.
    """
    n = sig.size
    n_sigs = kind.size
    waiting, reader_of, readers = readers_of(n, source_of, sources)
    queue_end = np.zeros(n_sigs + 1, np.int32)
    depth_left = np.zeros(n_sigs, np.int64)
    nodes_left = np.zeros(n_sigs, np.int64)
    for i in range(n):
        if live[i]:
            depth_left[sig[i]] += depth[i]
            nodes_left[sig[i]] += 1

    # The nodes of signature s enter its queue as they become ready; those from queue_start[s] on have not run.
    queue = np.empty(n, np.int32)
    for s in range(n_sigs):
        queue_end[s + 1] = queue_end[s] + nodes_left[s]
    queue_end = queue_end[:n_sigs].copy()
    queue_start = queue_end.copy()
    heap = np.empty(n_sigs, np.int32)
    mean = np.empty(n_sigs, np.float64)
    size = 0
    launch = np.full(n, -1, np.int32)
    done = np.empty(n, np.int32)
    n_done = 0
    for i in range(n):
        if live[i] and waiting[i] == 0:
            s = sig[i]
            if kind[s] == KERNEL:
                if queue_end[s] == queue_start[s]:
                    mean[s] = depth_left[s] / nodes_left[s]
                    _push(heap, size, mean, s)
                    size += 1
                queue[queue_end[s]] = i
                queue_end[s] += 1
            else:
                done[n_done] = i
                n_done += 1
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
                        if queue_end[s] == queue_start[s]:
                            mean[s] = depth_left[s] / nodes_left[s]
                            _push(heap, size, mean, s)
                            size += 1
                        queue[queue_end[s]] = reader
                        queue_end[s] += 1
                    else:
                        done[n_done] = reader
                        n_done += 1
        if size == 0:
            return launch, number
        s = heap[0]
        size -= 1
        _pop(heap, size, mean)
        for q in range(queue_start[s], queue_end[s]):
            i = queue[q]
            launch[i] = number
            depth_left[s] -= depth[i]
            done[n_done] = i
            n_done += 1
        nodes_left[s] -= queue_end[s] - queue_start[s]
        queue_start[s] = queue_end[s]
        number += 1


@njit
def _before(mean: Reals, s: int, t: int) -> bool:
    return mean[s] < mean[t] or (mean[s] == mean[t] and s < t)


@njit
def _push(heap: Ints, size: int, mean: Reals, s: int) -> None:
    """Add signature s to the binary heap `heap[:size]`."""
    at = size
    while at > 0:
        parent = (at - 1) // 2
        if not _before(mean, s, heap[parent]):
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = s


@njit
def _pop(heap: Ints, size: int, mean: Reals) -> None:
    """Take away `heap[0]`, so that `heap[:size]` is a heap of the others."""
    s = heap[size]
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and _before(mean, heap[child + 1], heap[child]):
            child += 1
        if _before(mean, s, heap[child]):
            break
        heap[at] = heap[child]
        at = child
    heap[at] = s
