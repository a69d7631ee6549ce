"""The policy `learned`: what to run where no launch is free is learned on the first minibatches.

After ED-Batch (Chen et al., ICML 2023): the state is which signatures are ready, an action one of them, and the cost of
a state the launches over the bound from there on, a launch that lies k launches ahead counting γᵏ. Here a table
(Q-learning; Watkins and Dayan, Machine Learning 8, 1992) is asked only where `frontier` has no launch that is free
against the bound, since all others cost nothing, and one more action is to do as `frontier` does: the signature of the
longest path.

Each of the first `MINIBATCHES` tapes of a set of signatures is ordered three times: by `frontier`, by the table with
actions at random now and then, and by the table. All three teach it, and the one of the fewest launches is run. Then
the table is frozen, and used if it needed fewer launches than `frontier` in the second half of these minibatches. A
state that it has not met goes by `frontier`.

Signatures are told apart by their kernels, and by their order where several have the same one: constants that are made
anew for each minibatch make signatures anew. A table is kept with a signature that reads parameters, and gone with it;
a few are kept with each, and a table has a fixed size. The same minibatches give the same table. One thread at a time
teaches it: meanwhile others go by `frontier`.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...base.jit import njit
from ..structures import KERNEL, Ints
from .frontier import FRONTIER, by_classes
from .policy import Decides, Order, Policy, Waits
from .ready import AS_USUAL, MOST_BITS, Ready, Trace, hashed

__all__ = ["LEARNED", "MINIBATCHES", "Learner", "teach"]

MINIBATCHES = 10
CHANCE = 0.25
DISCOUNT = 0.9
SLOTS = 512
"""Places of a table; at most half of them are used."""
MOST_TABLES = 8
"""Most sets of signatures for which a table is kept with one signature."""

Known = tuple[object, int]
"""What a signature is known by: its kernel, and how many signatures of that kernel come before it."""

Reals = np.ndarray[Any, np.dtype[np.float64]]
Longs = np.ndarray[Any, np.dtype[np.int64]]


class Learner:
    """What was learned of one set of signatures.

    bits: of each signature in states; keys: states; cost, visits: [states, bits], the last of them for
        `AS_USUAL`; choices: the action of least cost of each state
    n_seen: minibatches that taught it; totals: launches of their second half, by `frontier` and by the table
    pays: whether a frozen table is used
    """

    def __init__(self, signatures: Sequence[Known]) -> None:
        self.bits = {known: bit for bit, known in enumerate(signatures)}
        self.keys = np.zeros(SLOTS, np.int64)
        self.cost = np.zeros((SLOTS, AS_USUAL + 1))
        self.visits = np.zeros((SLOTS, AS_USUAL + 1), np.int32)
        self.choices = np.full(SLOTS, AS_USUAL, np.int32)
        self.n_seen = 0
        self.totals = [0, 0]
        self.lock = threading.RLock()  # one that Ctrl-C leaves taken can be taken again

    @property
    def is_frozen(self) -> bool:
        """Whether it learns no more."""
        return self.n_seen >= MINIBATCHES

    @property
    def pays(self) -> bool:
        """Whether its orders have fewer launches than those of `frontier`."""
        return self.totals[1] < self.totals[0]

    def order(self, ready: Ready, known: dict[int, Known]) -> Order:
        """An order of a tape, whose signatures are known by these; it teaches, until the table is frozen."""
        bit = np.full(ready.waits.kind.size, -1, np.int32)
        for s, signature in known.items():
            bit[s] = self.bits[signature]
        if not self.is_frozen and self.lock.acquire(blocking=False):
            try:
                if not self.is_frozen:
                    return self._taught(ready, bit)
            finally:
                self.lock.release()
        if not self.is_frozen or not self.pays:
            return Order(*ready.run(), FRONTIER.name, self.is_frozen)
        return Order(*ready.run(bit=bit, keys=self.keys, choices=self.choices), LEARNED.name)

    def _taught(self, ready: Ready, bit: Ints) -> Order:
        """The best of three orders, all of which teach."""
        orders = []
        for keys, chance in ((np.zeros(0, np.int64), 0.0), (self.keys, CHANCE), (self.keys, 0.0)):
            trace = Trace(ready.waits.sig.size)
            launch, number = ready.run(
                bit=bit, keys=keys, choices=self.choices, chance=chance, seed=self.n_seen + 1, trace=trace
            )
            teach(trace.steps[:, : trace.n_decisions], self.keys, self.cost, self.visits, self.choices)
            orders.append(Order(launch, number, f"{LEARNED.name}, learning", False))
        if self.n_seen >= MINIBATCHES // 2:
            self.totals[0] += orders[0].number
            self.totals[1] += orders[2].number
        self.n_seen += 1
        return min(orders, key=lambda order: order.number)


@njit
def teach(steps: Longs, keys: Longs, cost: Reals, visits: Ints, choices: Ints) -> None:
    """Update costs by the decisions of one order, the last one first: a cost is 1 and the least one of what followed.

    An action is not taken before it has been met: its cost is not known.
    """
    n_used = 0
    for place in range(keys.size):
        n_used += keys[place] != 0
    following = 0.0
    for k in range(steps.shape[1] - 1, -1, -1):
        mask, choice = steps[0, k], steps[1, k]
        if k + 1 < steps.shape[1]:
            following *= DISCOUNT ** (steps[3, k + 1] - steps[3, k])
        place = hashed(keys, mask)
        if keys[place] == 0:
            if 2 * n_used >= keys.size:
                following += 1.0
                continue
            keys[place] = mask
            n_used += 1
        visits[place, choice] += 1
        rate = max(1.0 / visits[place, choice], 0.1)
        cost[place, choice] += rate * (1.0 + following - cost[place, choice])
        best = choice
        for action in range(cost.shape[1]):
            if visits[place, action] > 0 and (
                cost[place, action] < cost[place, best] or (cost[place, action] == cost[place, best] and action > best)
            ):
                best = action
        choices[place] = best
        following = cost[place, best]


def _launched(waits: Waits) -> list[int]:
    """The signatures that are launched."""
    counts = np.bincount(waits.sig[waits.live != 0], minlength=waits.kind.size)
    return np.flatnonzero((counts > 0) & (waits.kind == KERNEL)).tolist()


def _learner(launched: Sequence[Decides], known: Sequence[Known]) -> Learner:
    """The table of a set of signatures, kept with the first that reads parameters of those that it was met with."""
    key = frozenset(known)
    for signature in launched:
        found = signature.decisions.learners.get(key)
        if found is not None:
            return found
    kept = next((s for s in launched if s.trainable), launched[0]).decisions.learners
    if len(kept) >= MOST_TABLES:
        kept.pop(next(iter(kept)), None)
    return kept.setdefault(key, Learner(known))


def by_table(waits: Waits, signatures: Sequence[Decides] | None) -> Order:
    """By the table of these signatures; by `frontier` where there is none, or nothing to decide."""
    found = by_classes(waits)
    if found is not None:
        return found
    ready = Ready(waits)
    launched = _launched(waits)
    if signatures is None or len(launched) > MOST_BITS:
        return Order(*ready.run(), FRONTIER.name)
    known: dict[int, Known] = {}
    before: Counter[object] = Counter()
    for s in launched:
        kernel = signatures[s].kernel
        known[s] = kernel, before[kernel]
        before[kernel] += 1
    return _learner([signatures[s] for s in launched], list(known.values())).order(ready, known)


LEARNED = Policy("learned", lambda waits, signatures, recurs: by_table(waits, signatures))
