"""Orders chosen launch by launch, among what is ready.

A node's *height* is the most nodes of its own signature on a path that begins in it, its *path* the most launches on
any such path. All ready nodes of a signature run together. If all of its nodes of the greatest height are ready, the
launch lowers what the signature needs at least: it costs nothing against the bound, and goes first; of several such
signatures the one of lowest mean depth. So nodes that nothing waits for come last, together, and a signature that
recurs waits for those of its nodes on which most others depend. Where there is no such signature, a launch more than
the bound is needed, and some rule has to choose: the longest path, as in list scheduling (Graham, Bounds on
multiprocessing timing anomalies, SIAM J. Appl. Math. 17, 1969), or one of the others that `run_ready` takes.

Cost: O(nodes × signatures) for heights, in vectors of signatures; O(nodes + arguments + launches × signatures) for an
order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...backends.host.arena import Lease
from ...base.jit import njit
from ..structures import KERNEL, Ints
from .chains import MOST_SIGNATURES, columns, own_chains
from .policy import Waits

__all__ = ["AS_USUAL", "MOST_BITS", "Ready", "Trace", "hashed", "readers_of"]

Longs = np.ndarray[Any, np.dtype[np.int64]]

AS_USUAL = 63
"""The decision to take the signature of the longest path, beside those to take the signature of a bit."""

MOST_BITS = 63
"""Most signatures whose decisions can be written down."""

NO_INTS, NO_LONGS = np.zeros(0, np.int32), np.zeros(0, np.int64)


@dataclass(slots=True)
class Trace:
    """The decisions of one order: where no launch came without cost.

    steps: [4, n_nodes] of each decision the signatures that were ready, as bits; the choice, a bit or `AS_USUAL`; the
        signature that was launched; the number of the launch. The first `n_decisions` columns are in use.
    """

    n_nodes: int
    steps: Longs = field(init=False)
    n_decisions: int = 0

    def __post_init__(self) -> None:
        self.steps = np.empty((4, self.n_nodes), np.int64)


@dataclass(slots=True)
class Ready:
    """A tape with what orders need to know of it, prepared once for any number of them."""

    waits: Waits
    reader_of: Ints = field(init=False)
    readers: Ints = field(init=False)
    height: Ints = field(init=False)
    path: Ints = field(init=False)

    def __post_init__(self) -> None:
        w = self.waits
        n = w.sig.size
        self.reader_of, self.readers = readers_of(n, w.sources, _waiting_nodes(w.source_of, w.sources.size))
        self.path = _paths(w.kind, w.sig, w.live, w.source_of, w.sources)
        column, n_columns = columns(w.kind, w.sig, w.live)
        if n_columns > MOST_SIGNATURES:  # heights are not counted: a launch is free where all of its nodes are ready
            self.height = np.ones(n, np.int32)
        else:
            lease = Lease()
            self.height = own_chains(w, column, n_columns, lease, (self.reader_of, self.readers)).copy()

    def run(
        self,
        *,
        by_depth: bool = False,
        first: Ints = NO_INTS,
        bit: Ints = NO_INTS,
        keys: Longs = NO_LONGS,
        choices: Ints = NO_INTS,
        chance: float = 0.0,
        seed: int = 0,
        trace: Trace | None = None,
    ) -> tuple[Ints, int]:
        """The launch of each node, and the number of launches. With many arguments, of which a policy uses a few.

        by_depth: whether each launch is of the signature of lowest mean depth, whatever it costs
        first: signatures for the first decisions; later ones go by the tables
        bit: the bit of each signature, where decisions are written down or looked up
        keys, choices: a table of decisions by what is ready (see `hashed`); what is not in it goes by the longest path
        chance, seed: how often something else is chosen at random
        trace: where decisions are written down
        """
        w = self.waits
        launch = np.full(w.sig.size, -1, np.int32)
        steps = np.empty((4, 0), np.int64) if trace is None else trace.steps
        number, n_decisions = run_ready(
            w.kind, w.sig, w.live, w.depth, w.source_of, self.reader_of, self.readers, self.height, self.path,
            by_depth, first, bit, keys, choices, chance, seed, steps, launch,
        )  # fmt: skip
        if trace is not None:
            trace.n_decisions = int(n_decisions)
        return launch, int(number)


@njit
def readers_of(n: int, sources: Ints, reader: Ints) -> tuple[Ints, Ints]:
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


@njit
def _waiting_nodes(source_of: Ints, n_sources: int) -> Ints:
    """Which node waits for each source."""
    edge_to = np.empty(n_sources, np.int32)
    for i in range(source_of.size - 1):
        edge_to[source_of[i] : source_of[i + 1]] = i
    return edge_to


@njit
def _paths(kind: Ints, sig: Ints, live: Ints, source_of: Ints, sources: Ints) -> Ints:
    """For each node the most launches on a path that begins in it."""
    path = np.zeros(sig.size, np.int32)
    for i in range(sig.size - 1, -1, -1):
        if live[i]:
            path[i] += kind[sig[i]] == KERNEL
            for e in range(source_of[i], source_of[i + 1]):
                path[sources[e]] = max(path[sources[e]], path[i])
    return path


@njit
def hashed(keys: Longs, mask: int) -> int:
    """The place of a key in a table whose size is a power of two, or the empty place (0) where it would stand."""
    place = (mask ^ (mask >> 31)) * 0x9E3779B1
    place = (place ^ (place >> 15)) & (keys.size - 1)
    while keys[place] != 0 and keys[place] != mask:
        place = (place + 1) & (keys.size - 1)
    return place


@njit
def run_ready(
    kind: Ints, sig: Ints, live: Ints, depth: Ints, source_of: Ints, reader_of: Ints, readers: Ints, height: Ints,
    path: Ints, by_depth: bool, first: Ints, bit: Ints, keys: Longs, choices: Ints, chance: float, seed: int,
    steps: Longs, launch: Ints,
) -> tuple[int, int]:  # fmt: skip
    """See `Ready.run`. Gives the number of launches, and of decisions."""
    n = sig.size
    n_sigs = kind.size
    depth_left = np.zeros(n_sigs, np.int64)
    nodes_left = np.zeros(n_sigs, np.int64)
    highest = np.zeros(n_sigs, np.int32)
    waiting = np.empty(n, np.int32)
    for i in range(n):
        waiting[i] = source_of[i + 1] - source_of[i]
        if live[i] and kind[sig[i]] == KERNEL:
            depth_left[sig[i]] += depth[i]
            nodes_left[sig[i]] += 1
            highest[sig[i]] = max(highest[sig[i]], height[i])
    # at[s] + h: nodes of signature s and height h that have not run, and those of them that are ready.
    at = np.zeros(n_sigs + 1, np.int64)
    queue_start = np.zeros(n_sigs, np.int64)
    total = 0
    for s in range(n_sigs):
        at[s + 1] = at[s] + highest[s] + 1
        queue_start[s] = total
        total += nodes_left[s]
    queue_end = queue_start.copy()
    queue = np.empty(total, np.int32)
    left = np.zeros(at[n_sigs], np.int32)
    ready = np.zeros(at[n_sigs], np.int32)
    longest = np.zeros(n_sigs, np.int32)  # path of what is ready
    done = np.empty(n, np.int32)
    n_done = 0
    for i in range(n):
        if live[i]:
            s = sig[i]
            if kind[s] == KERNEL:
                left[at[s] + height[i]] += 1
                if waiting[i] == 0:
                    queue[queue_end[s]] = i
                    queue_end[s] += 1
                    ready[at[s] + height[i]] += 1
                    longest[s] = max(longest[s], path[i])
            elif waiting[i] == 0:
                done[n_done] = i
                n_done += 1
    number = 0
    n_decisions = 0
    n_left = total
    random = np.uint64(seed)
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
                        ready[at[s] + height[reader]] += 1
                        longest[s] = max(longest[s], path[reader])
                    else:
                        done[n_done] = reader
                        n_done += 1
        if n_left == 0:
            return number, n_decisions
        best = -1
        best_whole = False
        best_path = 0
        best_mean = 0.0
        for s in range(n_sigs):
            if queue_end[s] == queue_start[s]:
                continue
            while left[at[s] + highest[s]] == 0:
                highest[s] -= 1
            whole = not by_depth and ready[at[s] + highest[s]] == left[at[s] + highest[s]]
            way = 0 if whole or by_depth else longest[s]
            mean = depth_left[s] / nodes_left[s]
            if whole and not best_whole:
                is_better = True
            elif whole != best_whole:
                is_better = False
            else:
                is_better = way > best_path or (way == best_path and mean < best_mean)
            if best < 0 or is_better:
                best, best_whole, best_path, best_mean = s, whole, way, mean
        if not best_whole and not by_depth and (first.size > 0 or bit.size > 0):
            mask = 0
            n_ready = 0
            for s in range(n_sigs):
                if bit.size > 0 and queue_end[s] > queue_start[s]:
                    mask |= 1 << bit[s]
                    n_ready += 1
            choice = AS_USUAL
            if n_decisions < first.size:
                best = first[n_decisions]
                choice = bit[best] if bit.size > 0 else AS_USUAL
            elif keys.size > 0:
                place = hashed(keys, mask)
                if keys[place] == mask:
                    choice = choices[place]
                if chance > 0.0:
                    random = random * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
                    if np.float64(random >> np.uint64(33)) < chance * 2147483648.0:
                        random = random * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
                        nth = np.int64(random >> np.uint64(33)) % (n_ready + 1)
                        choice = AS_USUAL
                        for s in range(n_sigs):
                            if queue_end[s] > queue_start[s]:
                                if nth == 0:
                                    choice = bit[s]
                                nth -= 1
                if choice != AS_USUAL:
                    for s in range(n_sigs):
                        if queue_end[s] > queue_start[s] and bit[s] == choice:
                            best = s
            if n_decisions < steps.shape[1]:
                steps[0, n_decisions] = mask
                steps[1, n_decisions] = choice
                steps[2, n_decisions] = best
                steps[3, n_decisions] = number
            n_decisions += 1
        for q in range(queue_start[best], queue_end[best]):
            i = queue[q]
            launch[i] = number
            depth_left[best] -= depth[i]
            left[at[best] + height[i]] -= 1
            ready[at[best] + height[i]] -= 1
            done[n_done] = i
            n_done += 1
        n_run = queue_end[best] - queue_start[best]
        nodes_left[best] -= n_run
        n_left -= n_run
        queue_start[best] = queue_end[best]
        longest[best] = 0
        number += 1
