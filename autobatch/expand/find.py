"""Find runs of neighbouring nodes that recur, so that each run can become one node.

Input: a `Tape`, what is known of its signatures, and for each node a number that says where it was recorded. Output:
`Recurring` runs, each with the nodes at which it begins.

Neighbours that nearly always follow each other become one symbol, again and again (Larsson and Moffat, Off-line
dictionary-based compression, 2000, section 2). Two symbols A B are one where
* the same results of A are read by B in the same places, and the two have to do with each other: B reads A, or both
  read one value;
* in nine of ten cases B follows A and A stands before B. Where only one of these holds, the other of the two must be
  without weights: it is as good in this context as in any other, whereas weights are read once for each launch;
* weights are not read in many more launches, counted by chains of nodes that wait for each other: a projection that
  could run for all steps at once does not become part of the recurrence that reads it, unless that is cheaper than to
  pass its results on.

A step of a recurrence stays one node a step: no symbol is joined with itself, nor with what begins or ends with it.
Cost: once for a set of signatures, O(nodes) for each pair that is looked at, on a tape of bounded length.

    h = lookup, z = matmul h, a = tanh z, h' = lookup, z' = matmul h', a' = tanh z', …   →   (lookup matmul tanh) × n
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base.jit import njit
from ..schedule.structures import Ints, Tape
from .costs import LAUNCH, WEIGHT

__all__ = ["EITHER", "MAX_NODES", "NEARLY_ALWAYS", "Facts", "Recurring", "recurring"]

NEARLY_ALWAYS = 0.9
MAX_NODES = 64
"""Most nodes of a run."""

MIN_TIMES = 8
MIN_SHARE = 0.001
"""A run recurs at least so often, and covers at least this part of the nodes."""

EITHER = 2


@dataclass(frozen=True, slots=True)
class Facts:
    """What has to be known of the signatures of a tape, beside its table.

    joinable: [S] whether nodes can become part of a run
    constant: [S] 1: results carry no gradient, 0: they may, EITHER: they are no numbers that could
    weights: [S] numbers read from shared operands by matmuls, once for each launch
    slot_type: [slots] of a value that can be passed inside a run, else -1
    result_type: [results] of a value that can be passed on, else -2
    """

    joinable: Ints
    constant: Ints
    weights: np.ndarray[Any, np.dtype[np.int64]]
    slot_type: Ints
    result_type: Ints


@dataclass(frozen=True, slots=True)
class Recurring:
    """Runs of `size` nodes with the same signatures that hand the same values to each other.

    starts: the first node of each
    """

    size: int
    starts: Ints


@dataclass(slots=True)
class _Symbol:
    """parts: the symbols of single nodes that it is made of."""

    parts: tuple[int, ...]
    weights: int
    constant: int


def recurring(tape: Tape, facts: Facts, places: Ints) -> list[Recurring]:
    """The runs that recur, the one that covers most nodes first.

    Args:
        tape: what was recorded; not changed.
        facts: of its signatures.
        places: [n] the same number for nodes that the same line of code recorded; all the same where that is unknown.
    """
    return _Search(tape, facts, places).runs()


class _Search:
    """The nodes of a tape as a row of symbols, which grows shorter."""

    def __init__(self, tape: Tape, facts: Facts, places: Ints) -> None:
        self.tape, self.facts = tape, facts
        n = tape.sig.size
        self.joinable = facts.joinable[tape.sig] != 0
        keys = tape.sig.astype(np.int64) * (int(places.max(initial=0)) + 1) + places
        _, first, symbol = np.unique(keys, return_index=True, return_inverse=True)
        sigs = tape.sig[first]
        self.symbols = [
            _Symbol((k,), int(facts.weights[s]), int(facts.constant[s])) for k, s in enumerate(sigs.tolist())
        ]
        self.symbol = np.where(self.joinable, symbol, -1)
        self.start = np.arange(n + 1, dtype=np.int32)
        self.refused: set[tuple[int, int]] = set()
        self.repeated: set[tuple[int, ...]] = set()
        self.producer = np.repeat(np.arange(n, dtype=np.int32), np.diff(tape.value_of))
        self.last_reader = np.full(int(tape.value_of[-1]), -1, np.int64)
        np.maximum.at(self.last_reader, tape.args, np.repeat(np.arange(n), np.diff(tape.arg_of[tape.slot_of])))
        self.last_reader[tape.roots] = n
        self.min_times = max(MIN_TIMES, n // 4000)

    def runs(self) -> list[Recurring]:
        while self._round():
            pass
        n = self.tape.sig.size
        found = []
        for k in np.unique(self.symbol[self.symbol >= 0]).tolist():
            starts = self.start[:-1][self.symbol == k]
            size = len(self.symbols[k].parts)
            if size > 1 and starts.size >= self.min_times and starts.size * size >= MIN_SHARE * n:
                found.append(Recurring(size, starts))
        return sorted(found, key=lambda run: (-run.size * run.starts.size, run.starts[0]))

    def _round(self) -> bool:
        """Join the best pairs that do not touch each other; whether there was one."""
        a, b = self.symbol[:-1], self.symbol[1:]
        times = np.bincount(self.symbol[self.symbol >= 0], minlength=len(self.symbols))
        for k in np.unique(self.symbol[:-2][(a[:-1] == a[1:]) & (b[:-1] == b[1:]) & (a[:-1] >= 0)]).tolist():
            self.repeated.add(self.symbols[k].parts)
        at = np.flatnonzero((a >= 0) & (b >= 0) & (a != b))
        keys, first, of_pair, counts = np.unique(
            a[at] * len(self.symbols) + b[at], return_index=True, return_inverse=True, return_counts=True
        )
        touched: set[int] = set()
        best_tier = None
        middle = at[np.argsort(of_pair, kind="stable")[np.cumsum(counts) - counts + counts // 2]]
        for tier, _, _, _, k in sorted(self._candidates(keys, first, middle, counts, times)):
            if best_tier is not None and tier > best_tier:
                break
            pair = divmod(int(keys[k]), times.size)
            if touched.isdisjoint(pair) and self._join(*pair, at[of_pair == k], times):
                touched.update(pair)
                best_tier = tier
        if touched:
            keep = self.symbol >= 0
            keep |= self.symbol == -1
            self.start = np.append(self.start[:-1][keep], self.start[-1])
            self.symbol = self.symbol[keep]
        return bool(touched)

    def _candidates(
        self, keys: Any, first: Any, middle: Any, counts: Any, times: Any
    ) -> Iterator[tuple[int, float, int, int, int]]:
        """The pairs that may be joined, the better ones lower: of those that stand together as often, that which keeps
        more values to itself, as one in the middle shows; then the first."""
        for k, (key, count) in enumerate(zip(keys.tolist(), counts.tolist(), strict=True)):
            a, b = divmod(key, times.size)
            tier = self._tier(a, b, count, times)
            if tier is not None and (a, b) not in self.refused and not self._is_step(a, b):
                yield tier, -count / max(times[a], times[b]), -self._n_inner(int(middle[k])), int(first[k]), k

    def _n_inner(self, at: int) -> int:
        """How many results of the symbol at a position only the next one reads."""
        start, middle, end = self.start[at : at + 3].tolist()
        readers = self.last_reader[self.tape.value_of[start] : self.tape.value_of[middle]]
        return int(np.count_nonzero((readers >= middle) & (readers < end)))

    def _tier(self, a: int, b: int, count: int, times: Any) -> int | None:
        """How good it is to join two symbols: 0 where they always stand together; None: not at all."""
        if count < self.min_times:
            return None
        follows, precedes = count >= NEARLY_ALWAYS * times[a], count >= NEARLY_ALWAYS * times[b]
        if follows and precedes:
            return 0
        if follows and not self.symbols[b].weights:
            return 1
        return 2 if precedes and not self.symbols[a].weights else None

    def _is_step(self, a: int, b: int) -> bool:
        """Whether two symbols must stay apart for what they are made of."""
        x, y = self.symbols[a], self.symbols[b]
        if len(x.parts) + len(y.parts) > MAX_NODES or x.constant + y.constant == 1:
            return True
        if x.parts in self.repeated and y.parts[: len(x.parts)] == x.parts:
            return True
        return y.parts in self.repeated and x.parts[-len(y.parts) :] == y.parts

    def _join(self, a: int, b: int, at: Any, times: Any) -> bool:
        """Make one symbol of two where they are at these positions and pass on the same values."""
        t, table = self.tape, self.tape.signatures
        hashes = _handed(
            self.start[at], self.start[at + 2], t.sig, table.slot_of, table.slot_kind, t.slot_of, t.arg_of, t.args,
            t.value_of,
        )  # fmt: skip
        found, counts = np.unique(hashes, return_counts=True)
        at = at[hashes == found[np.argmax(counts)]]
        saved = 0
        if self._tier(a, b, at.size, times) is not None:
            saved = min(self._handed_over(*self.start[k : k + 3].tolist()) for k in (at[0], at[at.size // 2], at[-1]))
        if not saved or not self._pays(a, b, at, saved * at.size):
            self.refused.add((a, b))
            return False
        x, y = self.symbols[a], self.symbols[b]
        constant = y.constant if x.constant == EITHER else x.constant
        self.symbols.append(_Symbol(x.parts + y.parts, x.weights + y.weights, constant))
        self.symbol[at] = len(self.symbols) - 1
        self.symbol[at + 1] = -2
        return True

    def _handed_over(self, first: int, middle: int, end: int) -> int:
        """Numbers that two neighbours hand to each other or read both; 0 where they have nothing to do with each
        other, or what is passed has the wrong type."""
        t, table, facts = self.tape, self.tape.signatures, self.facts
        base, own = int(t.value_of[first]), int(t.value_of[middle])
        common = set(t.args[t.arg_of[t.slot_of[first]] : t.arg_of[t.slot_of[middle]]].tolist())
        values: set[int] = set()
        for node in range(middle, end):
            for k, slot in enumerate(range(t.slot_of[node], t.slot_of[node + 1])):
                wanted = facts.slot_type[table.slot_of[t.sig[node]] + k]
                for value in t.args[t.arg_of[slot] : t.arg_of[slot + 1]].tolist():
                    if value >= base and wanted != facts.result_type[self._result(value)]:
                        return 0
                    if base <= value < own or (value < base and value in common):
                        values.add(value)
        results = [self._result(value) for value in values]
        return sum(int(t.pools[table.result_pool[r]][0] * max(table.result_rows[r], 1)) for r in results)

    def _result(self, value: int) -> int:
        """The entry of a value in the table of results."""
        node = self.producer[value]
        return int(self.tape.signatures.result_of[self.tape.sig[node]] + value - self.tape.value_of[node])

    def _pays(self, a: int, b: int, at: Any, saved: int) -> bool:
        """Whether so many numbers that do not go through memory, and the launches that are saved, are worth the reads
        of weights in more launches."""
        if not self.symbols[a].weights and not self.symbols[b].weights:
            return True
        whole = np.arange(self.symbol.size)
        second = np.zeros(self.symbol.size, np.int32)
        second[at + 1] = 1
        joined = whole - np.cumsum(second)
        flags = np.zeros(self.symbol.size, np.uint8)
        flags[joined[at]] = 1
        longest = self._longest(joined, flags)
        saved -= longest * LAUNCH
        for k in (a, b):
            before = self._longest(whole, (self.symbol == k).astype(np.uint8))
            saved += before * LAUNCH - int(max(longest - before, 0) * self.symbols[k].weights * WEIGHT)
        return saved > 0

    def _longest(self, groups: Any, flags: Any) -> int:
        t = self.tape
        group = np.repeat(groups, np.diff(self.start)).astype(np.int32)
        return int(_longest_chain(group, flags, self.producer, t.slot_of, t.arg_of, t.args))


@njit(early="9xint32:1")
def _handed(start, end, sig, sig_slot_of, slot_kind, slot_of, arg_of, args, value_of):  # type: ignore[no-untyped-def]
    """For each range of nodes a hash of which values inside it each operand reads."""
    found = np.empty(start.size, np.uint64)
    for p in range(start.size):
        base = value_of[start[p]]
        h = np.uint64(1469598103934665603)
        for node in range(start[p], end[p]):
            for slot in range(slot_of[node], slot_of[node + 1]):
                inside = -1
                for a in range(arg_of[slot], arg_of[slot + 1]):
                    if args[a] >= base:
                        inside = args[a] - base
                        if slot_kind[sig_slot_of[sig[node]] + slot - slot_of[node]] != 0:
                            inside = 1 << 20  # elements of a list come from outside
                h = (h ^ np.uint64(inside + 2)) * np.uint64(1099511628211)
        found[p] = h
    return found


@njit(early="int32:1 uint8:1 4xint32:1")
def _longest_chain(group, flags, producer, slot_of, arg_of, args):  # type: ignore[no-untyped-def]
    """The most flagged groups of nodes each of which waits for the one before."""
    chain = np.zeros(flags.size, np.int32)
    n = group.size
    longest = 0
    length = 0
    for i in range(n):
        g = group[i]
        if i == 0 or group[i - 1] != g:
            length = 0
        for a in range(arg_of[slot_of[i]], arg_of[slot_of[i + 1]]):
            source = group[producer[args[a]]]
            if source != g:
                length = max(length, chain[source])
        if i == n - 1 or group[i + 1] != g:
            chain[g] = length + flags[g]
            longest = max(longest, chain[g])
    return longest
