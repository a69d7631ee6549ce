"""Turn runs of nodes that match a pattern into one node each.

Input: a `Tape` and `Rules`, patterns of its signatures. Output: an `Expansion`: the tape of the joined nodes, and how
recorded values are numbered in it; and how many nodes matched the signatures of a pattern and nothing else of it.

From left to right the longest pattern is taken. What matches is looked at in full: signatures, which operand reads
which value of the run, which operands read the same value from outside, and that no outside node reads, and no root is,
what the joined node does not make.

Invariants: the input is not changed; a recorded value has its number in the new tape, or -1 where it stays inside a
joined node; the arguments of a node are smaller than its own values. Cost: O(nodes + arguments), a few nanoseconds
each, in one compiled loop over a trie.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..base.jit import njit
from ..schedule.structures import Expansion, Ints, Part, SignatureTable, Tape, bounds, ragged
from .cut import rewrite, rule_arrays

__all__ = ["Pattern", "Rules", "join", "rules_of"]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A run of nodes that becomes one.

    sigs: signatures of the nodes
    slots: for each slot of the nodes the value of the run that it reads, or -1 - k: the slot k of the new node
    reads: for each slot of the new node a slot of the run that reads the same
    results: for each value of the run the result of the new node that it is, or -1
    sig: signature of the new node
    """

    sigs: tuple[int, ...]
    slots: tuple[int, ...]
    reads: tuple[int, ...]
    results: tuple[int, ...]
    sig: int


@dataclass(slots=True)
class Rules:
    """Patterns as a trie. Several may have the same signatures: they are tried in their order."""

    next: Ints  # [states, S] the state after a node of a signature, or -1
    end_of: Ints  # [states + 1] first entry in `ends` of each state
    ends: Ints  # patterns that end in the state
    arrays: tuple[Ints, ...]  # the patterns
    patterns: Sequence[Pattern]
    last: tuple[SignatureTable, tuple[Ints, ...]] | None = None  # for `rewrite`, with the table they are about

    def arrays_for(self, s: SignatureTable) -> tuple[Ints, ...]:
        """What `rewrite` needs to know; the same for all recordings with this table."""
        last = self.last
        if last is None or last[0] is not s:
            parts = [[_part(s, pattern)] for pattern in self.patterns]
            self.last = last = s, rule_arrays(s, parts, [len(pattern.sigs) for pattern in self.patterns])
        return last[1]


@functools.lru_cache(maxsize=64)
def rules_of(patterns: tuple[Pattern, ...], n_sigs: int) -> Rules:
    """The trie of patterns over so many signatures."""
    states: list[dict[int, int]] = [{}]
    ends: list[list[int]] = [[]]
    for p, pattern in enumerate(patterns):
        state = 0
        for s in pattern.sigs:
            if s not in states[state]:
                states[state][s] = len(states)
                states.append({})
                ends.append([])
            state = states[state][s]
        ends[state].append(p)
    table = np.full((len(states), n_sigs), -1, np.int32)
    for state, following in enumerate(states):
        for s, target in following.items():
            table[state, s] = target
    arrays = (
        np.array([len(p.sigs) for p in patterns], np.int32),
        *ragged([p.slots for p in patterns]),
        *ragged([p.reads for p in patterns]),
        *ragged([p.results for p in patterns]),
    )
    end_of = bounds(map(len, ends))
    return Rules(table, end_of, np.array([p for here in ends for p in here], np.int32), arrays, patterns)


def join(tape: Tape, rules: Rules) -> tuple[Expansion, int]:
    """The tape with one node for each match, and the number of nodes that matched by their signatures alone.

    Args:
        tape: what was recorded; not changed.
        rules: patterns over the signatures of its nodes; their own are in its table, too.
    """
    match, refused = _match(
        tape.sig, tape.slot_of, tape.arg_of, tape.args, tape.value_of, tape.roots, rules.next, rules.end_of, rules.ends,
        rules.arrays,
    )  # fmt: skip
    if not (match >= 0).any():
        return Expansion(tape), int(refused)
    rule = np.where(match >= 0, tape.signatures.kind.size + match, tape.sig)
    return rewrite(tape, rule, rules.arrays_for(tape.signatures)), int(refused)


def _part(s: SignatureTable, pattern: Pattern) -> Part:
    """The new node of a pattern: its results in order, all data of the run."""
    made = {result: value for value, result in enumerate(pattern.results) if result >= 0}
    n_ints, n_floats = (int(n[list(pattern.sigs)].sum()) for n in (s.n_ints, s.n_floats))
    results = tuple(made[r] for r in range(len(made)))
    return Part(pattern.sig, pattern.reads, results, tuple(range(n_ints)), tuple(range(n_floats)))


@njit
def _fits(p, i, slot_of, arg_of, args, value_of, last_reader, patterns):  # type: ignore[no-untyped-def]
    """Whether the nodes from i on, which have the signatures of pattern p, match it."""
    n_nodes, pat_slot_of, pat_slots, pat_read_of, pat_reads, pat_result_of, pat_results = patterns
    base = value_of[i]
    first = slot_of[i]
    for k in range(pat_slot_of[p + 1] - pat_slot_of[p]):
        code = pat_slots[pat_slot_of[p] + k]
        begin, stop = arg_of[first + k], arg_of[first + k + 1]
        if code >= 0:
            if args[begin] != base + code:
                return False
            continue
        same = arg_of[first + pat_reads[pat_read_of[p] - 1 - code]]
        for a in range(begin, stop):
            if args[a] >= base or args[a] != args[same + a - begin]:
                return False
    end = i + n_nodes[p]
    for v in range(pat_result_of[p + 1] - pat_result_of[p]):
        if pat_results[pat_result_of[p] + v] < 0 and last_reader[base + v] >= end:
            return False
    return True


@njit(early="6xint32:1 int32:2 2xint32:1 int32:1*7")
def _match(  # type: ignore[no-untyped-def]
    sig, slot_of, arg_of, args, value_of, roots, following, end_of, ends, patterns
):
    """For each node the pattern that begins there, or -1; and the nodes of runs that were refused."""
    n = sig.size
    n_nodes = patterns[0]
    last_reader = np.full(value_of[n], -1, np.int32)
    for i in range(n):
        for a in range(arg_of[slot_of[i]], arg_of[slot_of[i + 1]]):
            last_reader[args[a]] = i
    for root in roots:
        last_reader[root] = n
    match = np.full(n, -1, np.int32)
    states = np.empty(following.shape[0] + 1, np.int32)
    refused = 0
    i = np.int64(0)  # type: ignore[assignment]  # of a plain 0 Numba would compile `_fits` once more
    while i < n:
        depth = 0
        state = 0
        while i + depth < n:
            state = following[state, sig[i + depth]]
            if state < 0:
                break
            states[depth] = state
            depth += 1
        found = -1
        longest = 0
        while depth > 0 and found < 0:
            depth -= 1
            for e in range(end_of[states[depth]], end_of[states[depth] + 1]):
                p = ends[e]
                longest = max(longest, n_nodes[p])
                if _fits(p, i, slot_of, arg_of, args, value_of, last_reader, patterns):
                    found = p
                    break
        if found >= 0:
            match[i] = found
            i += n_nodes[found]
        else:
            refused += longest
            i += 1
    return match, refused
