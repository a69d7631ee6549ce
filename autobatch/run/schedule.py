"""Decide which nodes run together, and in which order.

Input: a `Tape`. Output: a `Schedule`, the launches in order. A launch runs nodes of one signature that do not depend on
each other. Only nodes that some root needs are scheduled. Payloads are there from the start, and a view is there as
soon as what it looks at is: neither is ever launched.

Invariants, held by `check_schedule`: every live kernel node runs exactly once; what a node reads was made by an earlier
launch; all nodes of a launch have its signature and stand in tape order. The same tape always gives the same schedule.

Cost: O(nodes + arguments + launches × signatures), and for `frontier` what is said there, in compiled loops over flat
arrays, without recursion.

A policy takes what nodes wait for and gives every node the number of its launch:

* `depth` runs nodes of one depth and signature together, in order of depth, then of signature. With unequal structures
  equal signatures often stand at different depths, and each depth pays for its own launch.
* `agenda` repeatedly runs all ready nodes of one signature: the ready signature whose nodes not yet run have the lowest
  mean depth, the lower number where two are equal. (Neubig, Goldberg and Dyer, On-the-fly Operation Batching in Dynamic
  Computation Graphs, NeurIPS 2017, section 3.2.)

* `frontier` prefers signatures that are wholly there: it counts for every node how many of its own signature it needs
  below it, and runs first a signature of which all nodes of the lowest such count not yet run are ready. Such a launch
  costs nothing, since the bound demands it (Chen et al., ED-Batch, ICML 2023, lemma 1). Where there is none it runs
  what the agenda would. The count takes O(nodes × signatures), so a tape of many signatures goes by the agenda.

No order needs fewer launches than `lower_bound`. Two leaves, a cell above them, one leaf more, a cell above both, an
output on the first leaf and one on the upper cell, by agenda:

    Schedule by agenda: 4 launches of 7 nodes; 7 of 7 nodes are live
      launch  signature  nodes
           0          0      3: 0 1 3
           1          1      1: 2
           2          1      1: 4
           3          2      2: 5 6
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from ..errors import CompilerBug, message
from .program import KERNEL, PAYLOAD, Ints, Schedule, Tape

__all__ = ["POLICIES", "check_schedule", "lower_bound", "schedule"]

Longs = np.ndarray[Any, np.dtype[np.int64]]
Reals = np.ndarray[Any, np.dtype[np.float64]]


def schedule(tape: Tape, policy: str = "frontier") -> Schedule:
    """Put the nodes that the roots of `tape` need into launches.

    Args:
        tape: what was recorded; not changed.
        policy: a name in `POLICIES`.

    Raises:
        ValueError: the policy is unknown.
    """
    if policy not in POLICIES:
        expected = " or ".join(repr(name) for name in POLICIES)
        raise ValueError(message("schedule: unknown policy", expected=expected, got=repr(policy)))
    kind = tape.signatures.kind
    live, depth, source_of, sources = _dependencies(
        kind, tape.sig, tape.slot_of, tape.arg_of, tape.args, tape.value_of, tape.roots
    )
    launch, n_launches = POLICIES[policy](kind, tape.sig, live, depth, source_of, sources)
    nodes, launch_of, launch_sig = _gather(launch, n_launches, tape.sig)
    return Schedule(policy, live, nodes, launch_of, launch_sig, depth)


def lower_bound(tape: Tape, schedule: Schedule) -> int:
    """The sum over signatures of the longest chain of that signature: no schedule of `tape` has fewer launches.

    A chain is nodes of one signature each of which needs the one before, directly or through others.
    O(nodes × signatures) at worst: meant for reports.
    """
    return int(
        _sum_of_longest_chains(
            tape.signatures.kind, tape.sig, tape.slot_of, tape.arg_of, tape.args, tape.value_of, schedule.live
        )
    )


@njit(cache=True)
def _dependencies(
    kind: Ints, sig: Ints, slot_of: Ints, arg_of: Ints, args: Ints, value_of: Ints, roots: Ints
) -> tuple[Ints, Ints, Ints, Ints]:
    """Which nodes are live, how deep they are, and which nodes each live one waits for.

    Node i waits for `sources[source_of[i]:source_of[i + 1]]`: never for payloads, and only once for a producer of
    neighbouring arguments, such as the two states of an LSTM.
    """
    n = sig.size
    producer = np.empty(value_of[n], np.int32)
    for i in range(n):
        for value in range(value_of[i], value_of[i + 1]):
            producer[value] = i
    live = np.zeros(n, np.int32)
    for root in roots:
        live[producer[root]] = 1
    for i in range(n - 1, -1, -1):
        if live[i]:
            for a in range(arg_of[slot_of[i]], arg_of[slot_of[i + 1]]):
                live[producer[args[a]]] = 1
    depth = np.zeros(n, np.int32)
    source_of = np.empty(n + 1, np.int32)
    sources = np.empty(args.size, np.int32)
    n_sources = 0
    for i in range(n):
        source_of[i] = n_sources
        if live[i]:
            deepest = 0
            previous = -1
            for a in range(arg_of[slot_of[i]], arg_of[slot_of[i + 1]]):
                source = producer[args[a]]
                if source != previous and kind[sig[source]] != PAYLOAD:
                    sources[n_sources] = source
                    n_sources += 1
                    deepest = max(deepest, depth[source])
                    previous = source
            depth[i] = deepest + 1 if kind[sig[i]] == KERNEL else deepest
    source_of[n] = n_sources
    return live, depth, source_of, sources[:n_sources]


@njit(cache=True)
def _by_depth(kind: Ints, sig: Ints, live: Ints, depth: Ints, source_of: Ints, sources: Ints) -> tuple[Ints, int]:
    """Nodes of one depth and signature together: two counting sorts, by signature and then by depth."""
    n = sig.size
    n_kernels = 0
    deepest = 0
    sig_end = np.zeros(kind.size + 1, np.int32)
    for i in range(n):
        if live[i] and kind[sig[i]] == KERNEL:
            sig_end[sig[i] + 1] += 1
            n_kernels += 1
            deepest = max(deepest, depth[i])
    for s in range(kind.size):
        sig_end[s + 1] += sig_end[s]
    by_sig = np.empty(n_kernels, np.int32)
    depth_end = np.zeros(deepest + 2, np.int32)
    for i in range(n):
        if live[i] and kind[sig[i]] == KERNEL:
            by_sig[sig_end[sig[i]]] = i
            sig_end[sig[i]] += 1
            depth_end[depth[i] + 1] += 1
    for d in range(deepest + 1):
        depth_end[d + 1] += depth_end[d]
    order = np.empty(n_kernels, np.int32)
    for k in range(n_kernels):
        i = by_sig[k]
        order[depth_end[depth[i]]] = i
        depth_end[depth[i]] += 1
    launch = np.full(n, -1, np.int32)
    number = -1
    previous = -1
    for k in range(n_kernels):
        i = order[k]
        if previous < 0 or depth[i] != depth[previous] or sig[i] != sig[previous]:
            number += 1
        launch[i] = number
        previous = i
    return launch, number + 1


@njit(cache=True)
def _readers(n: int, source_of: Ints, sources: Ints) -> tuple[Ints, Ints, Ints]:
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


@njit(cache=True)
def _by_agenda(kind: Ints, sig: Ints, live: Ints, depth: Ints, source_of: Ints, sources: Ints) -> tuple[Ints, int]:
    """All ready nodes of the ready signature of lowest mean depth, again and again.

    The mean of a signature changes only when it is launched, when it is not in the heap: keys in the heap stay true.
    """
    n = sig.size
    n_sigs = kind.size
    waiting, reader_of, readers = _readers(n, source_of, sources)
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


@njit(cache=True)
def _before(mean: Reals, s: int, t: int) -> bool:
    return mean[s] < mean[t] or (mean[s] == mean[t] and s < t)


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True)
def _gather(launch: Ints, n_launches: int, sig: Ints) -> tuple[Ints, Ints, Ints]:
    """From the launch of each node to the nodes of each launch, in tape order: a counting sort."""
    end = np.zeros(n_launches + 2, np.int32)
    launch_sig = np.empty(n_launches, np.int32)
    for i in range(launch.size):
        if launch[i] >= 0:
            end[launch[i] + 2] += 1
            launch_sig[launch[i]] = sig[i]
    for l in range(n_launches):
        end[l + 2] += end[l + 1]
    nodes = np.empty(end[n_launches + 1], np.int32)
    for i in range(launch.size):
        if launch[i] >= 0:
            nodes[end[launch[i] + 1]] = i
            end[launch[i] + 1] += 1
    return nodes, end[: n_launches + 1].copy(), launch_sig


@njit(cache=True)
def _sum_of_longest_chains(
    kind: Ints, sig: Ints, slot_of: Ints, arg_of: Ints, args: Ints, value_of: Ints, live: Ints
) -> int:
    n = sig.size
    first = np.full(kind.size, -1, np.int32)
    last = np.full(kind.size, -1, np.int32)
    producer = np.empty(value_of[n], np.int32)
    for i in range(n):
        for value in range(value_of[i], value_of[i + 1]):
            producer[value] = i
        if live[i]:
            last[sig[i]] = i
            if first[sig[i]] < 0:
                first[sig[i]] = i
    chain = np.zeros(n, np.int32)
    total = 0
    for s in range(kind.size):
        if kind[s] != KERNEL or first[s] < 0:
            continue
        # Nodes outside this range cannot stand between two nodes of the signature.
        longest = 0
        for i in range(first[s], last[s] + 1):
            length = 0
            if live[i]:
                for a in range(arg_of[slot_of[i]], arg_of[slot_of[i + 1]]):
                    source = producer[args[a]]
                    if source >= first[s]:
                        length = max(length, chain[source])
                if sig[i] == s:
                    length += 1
                    longest = max(longest, length)
            chain[i] = length
        total += longest
    return total


FRONTIER_SIGNATURES = 32
"""Most signatures that the policy `frontier` counts chains for."""


def _by_frontier(kind: Ints, sig: Ints, live: Ints, depth: Ints, source_of: Ints, sources: Ints) -> tuple[Ints, int]:
    """Signatures that are wholly ready first, else the ready one of lowest mean depth."""
    present = np.unique(sig[live != 0])
    if int((kind[present] == KERNEL).sum()) > FRONTIER_SIGNATURES:
        launch, number = _by_agenda(kind, sig, live, depth, source_of, sources)
    else:
        chain = _own_chains(kind, sig, live, source_of, sources)
        launch, number = _run_frontiers(kind, sig, live, depth, source_of, sources, chain)
    return launch, int(number)


@njit(cache=True)
def _own_chains(kind: Ints, sig: Ints, live: Ints, source_of: Ints, sources: Ints) -> Ints:
    """For each live node the most nodes of its own signature on a path that ends in it."""
    n = sig.size
    own = np.zeros(n, np.int32)
    first = np.full(kind.size, -1, np.int32)
    last = np.full(kind.size, -1, np.int32)
    for i in range(n):
        if live[i]:
            last[sig[i]] = i
            if first[sig[i]] < 0:
                first[sig[i]] = i
    chain = np.zeros(n, np.int32)
    for s in range(kind.size):
        if kind[s] != KERNEL or first[s] < 0:
            continue
        for i in range(first[s], last[s] + 1):
            length = 0
            for e in range(source_of[i], source_of[i + 1]):
                if sources[e] >= first[s]:
                    length = max(length, chain[sources[e]])
            if live[i] and sig[i] == s:
                length += 1
                own[i] = length
            chain[i] = length
    return own


@njit(cache=True)
def _run_frontiers(
    kind: Ints, sig: Ints, live: Ints, depth: Ints, source_of: Ints, sources: Ints, chain: Ints
) -> tuple[Ints, int]:
    n = sig.size
    n_sigs = kind.size
    waiting, reader_of, readers = _readers(n, source_of, sources)
    depth_left = np.zeros(n_sigs, np.int64)
    nodes_left = np.zeros(n_sigs, np.int64)
    longest = np.zeros(n_sigs, np.int32)
    for i in range(n):
        if live[i]:
            depth_left[sig[i]] += depth[i]
            nodes_left[sig[i]] += 1
            longest[sig[i]] = max(longest[sig[i]], chain[i])
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


POLICIES: dict[str, Callable[[Ints, Ints, Ints, Ints, Ints, Ints], tuple[Ints, int]]] = {
    "agenda": _by_agenda,
    "depth": _by_depth,
    "frontier": _by_frontier,
}
"""Each takes kind[S], sig[n], live[n], depth[n] and what each node waits for (source_of[n + 1], sources), and gives the
launch of each node (-1 where it is not launched) and the number of launches."""


def check_schedule(tape: Tape, schedule: Schedule) -> None:
    """Hold the invariants of the stage, by loops that share nothing with it.

    Raises:
        CompilerBug: one of them is broken; the message shows both structures.
    """
    n, n_launches = len(tape.sig), len(schedule.launch_sig)
    kind = tape.signatures.kind.tolist()
    sig, live, depth, args = tape.sig.tolist(), schedule.live.tolist(), schedule.depth.tolist(), tape.args.tolist()
    first_arg = tape.arg_of[tape.slot_of].tolist()
    producer = np.repeat(np.arange(n), np.diff(tape.value_of)).tolist()

    def hold(true: bool, what: str) -> None:
        if not true:
            raise CompilerBug(f"schedule: {what}\n{tape}\n{schedule}")

    needed = [False] * n
    for root in tape.roots.tolist():
        needed[producer[root]] = True
    for i in reversed(range(n)):
        if needed[i]:
            for value in args[first_arg[i] : first_arg[i + 1]]:
                needed[producer[value]] = True
    hold(len(live) == len(depth) == n, "not one entry for each node")
    for i in range(n):
        hold(live[i] == needed[i], f"node {i} is {'not ' * (not live[i])}live")

    bounds, nodes = schedule.launch_of.tolist(), schedule.nodes.tolist()
    hold(
        len(bounds) == n_launches + 1 and bounds[0] == 0 and bounds[-1] == len(nodes), "launches do not cover the nodes"
    )
    launch = [-1] * n
    for l, s in enumerate(schedule.launch_sig.tolist()):
        members = nodes[bounds[l] : bounds[l + 1]]
        hold(bool(members), f"launch {l} is empty")
        for i, following in zip(members, [*members[1:], n], strict=True):
            hold(0 <= i < following, f"launch {l} is not in tape order")
            hold(sig[i] == s, f"node {i} in launch {l} has another signature")
            hold(launch[i] < 0, f"node {i} runs twice")
            launch[i] = l
    made_by = [-1] * n  # the launch after which a node's values are there
    for i in range(n):
        hold((launch[i] >= 0) == (needed[i] and kind[sig[i]] == KERNEL), f"node {i} {'never ' * (launch[i] < 0)}runs")
        if not needed[i]:
            continue
        made_by[i] = launch[i]
        deepest = 0
        for value in args[first_arg[i] : first_arg[i + 1]]:
            source = producer[value]
            deepest = max(deepest, depth[source])
            if kind[sig[i]] == KERNEL:
                hold(made_by[source] != launch[i], f"nodes {source} and {i} in launch {launch[i]} depend on each other")
                hold(made_by[source] < launch[i], f"node {i} runs before node {source}, which it reads")
            else:
                made_by[i] = max(made_by[i], made_by[source])
        hold(depth[i] == deepest + (kind[sig[i]] == KERNEL), f"node {i} is not at depth {depth[i]}")
