"""The policy `auto`: `frontier`, and for small tapes whose structure recurs the best order that a short search finds.

Where `frontier` needs more launches than the bound, each of its decisions is tried anew, the first one first: every
signature that was ready takes the place of the one that was chosen, `frontier` goes on from there, and the order of the
fewest launches stays (a rollout; Bertsekas, Tsitsiklis and Wu, Rollout algorithms for combinatorial optimization,
J. Heuristics 3, 1997). The other policies are tried, too. A launch that is saved is saved whenever the structure
recurs, since its plan is kept.
"""

from __future__ import annotations

import numpy as np

from .agenda import AGENDA
from .chains import columns, longest_chains
from .depth import DEPTH
from .frontier import FRONTIER, by_classes
from .policy import Order, Policy, Waits
from .ready import MOST_BITS, Ready, Trace

__all__ = ["AUTO"]

MOST_TRIES = 64
"""Most orders that a search looks at."""


def by_count(waits: Waits, recurs: bool) -> Order:
    """An order of few launches; the search for fewer is only worth it where a structure recurs."""
    found = by_classes(waits)
    if found is not None:
        return found
    ready = Ready(waits)
    if not recurs:
        launch, number = ready.run()
        return Order(launch, number, FRONTIER.name)
    orders = [_searched(ready), AGENDA.order(waits, None, True), DEPTH.order(waits, None, True)]
    return min(orders, key=lambda order: order.number)


def _searched(ready: Ready) -> Order:
    """The best order that differs from that of `frontier` in some decisions."""
    waits = ready.waits
    bit, n_columns = columns(waits.kind, waits.sig, waits.live)
    if n_columns > MOST_BITS:
        return Order(*ready.run(), FRONTIER.name)
    bound = int(longest_chains(waits).sum())
    trace = Trace(waits.sig.size)
    launch, number = ready.run(bit=bit, trace=trace)
    by, chosen, n_tries = FRONTIER.name, np.zeros(0, np.int32), 1
    while chosen.size < trace.n_decisions and number > bound and n_tries < MOST_TRIES:
        mask, _, usual, _ = trace.steps[:, chosen.size].tolist()
        for signature in np.flatnonzero((bit >= 0) & (mask >> np.maximum(bit, 0) & 1 == 1)).tolist():
            if signature != usual:
                first = np.append(chosen, np.int32(signature)).astype(np.int32)
                tried = Trace(waits.sig.size)
                there, needed = ready.run(first=first, bit=bit, trace=tried)
                n_tries += 1
                if needed < number:
                    launch, number, trace, by = there, needed, tried, f"{FRONTIER.name}, searched"
        chosen = np.append(chosen, trace.steps[2, chosen.size]).astype(np.int32)
    return Order(launch, number, by)


AUTO = Policy("auto", lambda waits, signatures, recurs: by_count(waits, recurs))
