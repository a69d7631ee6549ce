"""Decide which nodes run together, and in which order.

Input: a `Tape`. Output: a `Schedule`, the launches in order. A launch runs nodes of one signature that do not depend on
each other. Only nodes that some root needs are scheduled. Payloads are ready from the start, and a view is ready as
soon as its operand is: neither is ever launched.

Invariants, held by `check`: every live kernel node runs exactly once; what a node reads was made by an earlier
launch; all nodes of a launch have its signature and stand in tape order. The same tape always gives the same schedule,
unless the policy learns.

The order is that of a policy (see `policies`). Cost: O(nodes + arguments), and what the policy says, in compiled loops
over flat arrays, without recursion. Loops run in tape order where they can: one example's nodes are contiguous, so that
large tapes pass through the cache once and not once for each launch.

No order needs fewer launches than `lower_bound`. Two leaves, a cell above them, one leaf more, a cell above both, an
output on the first leaf and one on the upper cell:

    Schedule: 4 launches of 7 nodes; 7 of 7 nodes are live
      launch  signature  nodes
           0          0      3: 0 1 3
           1          1      1: 2
           2          1      1: 4
           3          2      2: 5 6
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..backends.host.arena import Lease
from ..base.jit import njit
from .policies import POLICIES
from .policies.chains import longest_chains
from .policies.policy import Decides, Waits
from .structures import KERNEL, PAYLOAD, Ints, Schedule, Tape

__all__ = ["leading_to", "lower_bound", "schedule"]


def schedule(
    tape: Tape, policy: str = "frontier", signatures: Sequence[Decides] | None = None, recurs: bool = False
) -> Schedule:
    """Put the nodes that the roots of a tape need into launches.

    policy: a name in `policies.POLICIES`; signatures: of the tape, where something may be learned of them; recurs:
    whether tapes of this structure come again, so that a better order is worth more time
    """
    lease = Lease()
    waits = _waits(tape, lease)
    order = POLICIES[policy].order(waits, signatures, recurs)
    nodes, launch_of, launch_sig = _gather(order.launch, order.number, tape.sig)
    return Schedule(waits.live, nodes, launch_of, launch_sig, waits.depth, order.by, order.is_settled)


def lower_bound(tape: Tape, schedule: Schedule) -> int:
    """The sum over signatures of the longest chain of that signature: no schedule of `tape` has fewer launches.

    A chain is nodes of one signature each of which needs the one before, directly or through others.
    O(nodes × signatures): meant for reports.
    """
    lease = Lease()
    return int(longest_chains(_waits(tape, lease)).sum())


def leading_to(tape: Tape, schedule: Schedule, roots: Sequence[int]) -> tuple[Tape, Schedule]:
    """The part of a schedule that some values need: the same launches in the same order, without all other nodes."""
    tape = dataclasses.replace(tape, roots=np.array(sorted(roots), np.int32))
    lease = Lease()
    waits = _waits(tape, lease)
    live = waits.live
    if (live == schedule.live).all():
        return tape, schedule
    n_launches = schedule.launch_sig.size
    here = live[schedule.nodes] != 0
    launch = np.repeat(np.arange(n_launches), np.diff(schedule.launch_of))[here]
    sizes = np.bincount(launch, minlength=n_launches)
    launch_of = np.concatenate([[0], np.cumsum(sizes[sizes > 0])]).astype(np.int32)
    launch_sig = schedule.launch_sig[sizes > 0]
    return tape, Schedule(live, schedule.nodes[here], launch_of, launch_sig, waits.depth, schedule.by)


def _waits(tape: Tape, lease: Lease) -> Waits:
    """`_dependencies`; what is waited for is leased."""
    t, n = tape, tape.sig.size
    memory = lease.empty((int(t.value_of[-1]) + n + 1 + t.args.size,), np.int32)
    live, depth = np.zeros(n, np.int32), np.zeros(n, np.int32)
    source_of, sources = _dependencies(
        t.signatures.kind, t.sig, t.slot_of, t.arg_of, t.args, t.value_of, t.roots, live, depth, memory
    )
    return Waits(t.signatures.kind, t.sig, live, depth, source_of, sources)


@njit(early="10xint32:1")
def _dependencies(
    kind: Ints, sig: Ints, slot_of: Ints, arg_of: Ints, args: Ints, value_of: Ints, roots: Ints,
    live: Ints, depth: Ints, memory: Ints,
) -> tuple[Ints, Ints]:  # fmt: skip
    """Which nodes are live, how deep they are, and which nodes each live one waits for. `live` and `depth` are zeros.

    Node i waits for `sources[source_of[i]:source_of[i + 1]]`: never for payloads, and only once for a producer of
    neighbouring arguments, such as the two states of an LSTM.
    """
    n = sig.size
    n_values = value_of[n]
    producer = memory[:n_values]
    source_of = memory[n_values : n_values + n + 1]
    sources = memory[n_values + n + 1 :]
    for i in range(n):
        for value in range(value_of[i], value_of[i + 1]):
            producer[value] = i
    for root in roots:
        live[producer[root]] = 1
    for i in range(n - 1, -1, -1):
        if live[i]:
            for a in range(arg_of[slot_of[i]], arg_of[slot_of[i + 1]]):
                live[producer[args[a]]] = 1
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
    return source_of, sources[:n_sources]


@njit(early="int32:1 int int32:1")
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
