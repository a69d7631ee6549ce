"""Turn calls of cells, and runs of nodes, into the nodes that are scheduled.

Input: a `Tape` as recorded, and the `Part`s that a node of a signature, or a run of nodes, becomes. Output: an
`Expansion`: the tape of the parts, and how recorded values are numbered in it.

A cell of which some work does not depend on what is computed step by step, such as the projection of the inputs of a
recurrent network, becomes two nodes: one for that work, which can then run for all steps at once, and one for the rest.

Invariants: the input is not changed; a recorded value has its number in the new tape, or -1 where it is none; the
arguments of a node are smaller than its own values. Cost: O(nodes + arguments), in one compiled loop; nothing where no
signature has parts.

    cell(x, h)  ──expand──>  z = cell.hoisted(x), cell(h, z)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..base.jit import njit
from ..schedule.structures import TAKE_ROWS, Expansion, Ints, Part, SignatureTable, Tape, bounds, ragged

__all__ = ["expand", "longest_path", "own_chains", "rewrite", "rule_arrays"]


def expand(tape: Tape, parts: Sequence[Sequence[Part] | None]) -> Expansion:
    """The tape whose nodes are the parts to schedule.

    Args:
        tape: what was recorded; not changed.
        parts: for each signature of its nodes the parts in order; None: it stays. Their signatures are in its table.
    """
    rules = [found for found in parts if found]
    if not rules:
        return Expansion(tape)
    rule = np.arange(len(parts), dtype=np.int32)
    rule[[s for s, found in enumerate(parts) if found]] = tape.signatures.kind.size + np.arange(len(rules))
    return rewrite(tape, rule[tape.sig], rule_arrays(tape.signatures, rules, [1] * len(rules)))


def rule_arrays(s: SignatureTable, rules: Sequence[Sequence[Part]], sizes: Sequence[int]) -> tuple[Ints, ...]:
    """What `rewrite` needs to know of rules.

    Args:
        s: the signatures of the tape, and of the parts.
        rules: the parts of each; they count the slots, results and data of a run together.
        sizes: the nodes of a run of each.
    """
    flat = [part for parts in rules for part in parts]
    n_sigs, sigs = s.kind.size, np.arange(s.kind.size)
    part_of = np.concatenate([sigs, n_sigs + bounds(map(len, rules))])
    part_sig = np.concatenate([sigs, [part.sig for part in flat]])
    size = np.concatenate([np.ones_like(sigs), sizes])
    return (
        size, part_of, part_sig,
        *_behind(s.slot_of, [part.slots for part in flat]), *_behind(s.result_of, [part.results for part in flat]),
        *_behind(bounds(s.n_ints), [part.ints for part in flat]),
        *_behind(bounds(s.n_floats), [part.floats for part in flat]),
    )  # fmt: skip


def rewrite(tape: Tape, rule: Ints, rules: tuple[Ints, ...]) -> Expansion:
    """The tape with the parts of a rule in the place of each run of nodes that has one.

    Args:
        tape: what was recorded; not changed.
        rule: [n] for the first node of a run S + k for rule k, S being the size of the table; else the signature.
        rules: as `rule_arrays` gives them.
    """
    sig, slot_of, arg_of, args, value_of, int_of, float_of, ints, floats, number, origin = _rewrite(
        tape.sig, tape.slot_of, tape.arg_of, tape.args, tape.value_of, tape.int_of, tape.float_of, tape.ints,
        tape.floats, tape.signatures.kind, rule, *rules,
    )  # fmt: skip
    new = dataclasses.replace(
        tape, sig=sig, slot_of=slot_of, arg_of=arg_of, args=args, value_of=value_of, int_of=int_of,
        float_of=float_of, ints=ints, floats=floats, roots=number[tape.roots],
    )  # fmt: skip
    return Expansion(new, number, origin)


def _behind(own: Ints, lists: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    """0, 1, … for each range of `own`, and some lists behind them, as `ragged`."""
    counted = np.arange(own[-1], dtype=np.int32) - np.repeat(own[:-1], np.diff(own))
    starts, elements = ragged(lists)
    return np.concatenate([own, own[-1] + starts[1:]]), np.concatenate([counted, elements])


@njit(early="7xint32:1 int64:1 float64:1 2xint32:1 3xint64:1 8xint32:1")
def _rewrite(  # type: ignore[no-untyped-def]
    sig, slot_of, arg_of, args, value_of, int_of, float_of, ints, floats, kind, rule, size,
    part_of, part_sig, part_slot_of, part_slots, part_result_of, part_results, part_int_of, part_ints, part_float_of,
    part_floats,
):  # fmt: skip
    n = sig.size
    n_nodes = n_slots = n_args = n_values = n_ints = n_floats = 0
    i = 0
    while i < n:
        for p in range(part_of[rule[i]], part_of[rule[i] + 1]):
            n_nodes += 1
            n_values += part_result_of[p + 1] - part_result_of[p]
            is_view = kind[part_sig[p]] == TAKE_ROWS  # which may have more integers than others of its signature
            n_ints += int_of[i + 1] - int_of[i] if is_view else part_int_of[p + 1] - part_int_of[p]
            n_floats += part_float_of[p + 1] - part_float_of[p]
            n_slots += part_slot_of[p + 1] - part_slot_of[p]
            for q in range(part_slot_of[p], part_slot_of[p + 1]):
                k = part_slots[q]
                n_args += 1 if k < 0 else arg_of[slot_of[i] + k + 1] - arg_of[slot_of[i] + k]
        i += size[rule[i]]
    new_sig = np.empty(n_nodes, np.int32)
    new_slot_of = np.empty(n_nodes + 1, np.int32)
    new_arg_of = np.empty(n_slots + 1, np.int32)
    new_args = np.empty(n_args, np.int32)
    new_value_of = np.empty(n_nodes + 1, np.int32)
    new_int_of = np.empty(n_nodes + 1, np.int32)
    new_float_of = np.empty(n_nodes + 1, np.int32)
    new_ints = np.empty(n_ints, np.int64)
    new_floats = np.empty(n_floats, np.float64)
    number = np.full(value_of[n], -1, np.int32)
    origin = np.empty(n_nodes, np.int32)
    node = slot = arg = value = at_int = at_float = 0
    i = 0
    while i < n:
        first = value
        for p in range(part_of[rule[i]], part_of[rule[i] + 1]):
            new_sig[node] = part_sig[p]
            new_slot_of[node] = slot
            new_value_of[node] = value
            new_int_of[node] = at_int
            new_float_of[node] = at_float
            origin[node] = i
            node += 1
            for q in range(part_slot_of[p], part_slot_of[p + 1]):
                new_arg_of[slot] = arg
                slot += 1
                k = part_slots[q]
                if k < 0:
                    new_args[arg] = first - 1 - k
                    arg += 1
                else:
                    for a in range(arg_of[slot_of[i] + k], arg_of[slot_of[i] + k + 1]):
                        new_args[arg] = number[args[a]]
                        arg += 1
            for r in range(part_result_of[p], part_result_of[p + 1]):
                if part_results[r] >= 0:
                    number[value_of[i] + part_results[r]] = value
                value += 1
            if kind[part_sig[p]] == TAKE_ROWS:
                for c in range(int_of[i], int_of[i + 1]):
                    new_ints[at_int] = ints[c]
                    at_int += 1
            else:
                for c in range(part_int_of[p], part_int_of[p + 1]):
                    new_ints[at_int] = ints[int_of[i] + part_ints[c]]
                    at_int += 1
            for c in range(part_float_of[p], part_float_of[p + 1]):
                new_floats[at_float] = floats[float_of[i] + part_floats[c]]
                at_float += 1
        i += size[rule[i]]
    new_slot_of[node] = slot
    new_arg_of[slot] = arg
    new_value_of[node] = value
    new_int_of[node] = at_int
    new_float_of[node] = at_float
    return (
        new_sig, new_slot_of, new_arg_of, new_args, new_value_of, new_int_of, new_float_of, new_ints, new_floats,
        number, origin,
    )  # fmt: skip


@njit(early="4xint32:1")
def longest_path(slot_of, arg_of, args, value_of):  # type: ignore[no-untyped-def]
    """The most nodes on a path."""
    longest = 0
    length = np.zeros(value_of[-1], np.int32)
    for i in range(slot_of.size - 1):
        own = 0
        for a in range(arg_of[slot_of[i]], arg_of[slot_of[i + 1]]):
            own = max(own, length[args[a]])
        length[value_of[i] : value_of[i + 1]] = own + 1
        longest = max(longest, own + 1)
    return longest


@njit(early="5xint32:1 2xint")
def own_chains(sig, slot_of, arg_of, args, value_of, s, n_slots):  # type: ignore[no-untyped-def]
    """How signature `s` depends on itself: (nodes, longest chain, which slots lead back to it [n_slots])."""
    n = sig.size
    producer = np.empty(value_of[n], np.int32)
    chain = np.zeros(n, np.int32)
    leads_back = np.zeros(n_slots, np.uint8)
    n_nodes = 0
    longest = 0
    for i in range(n):
        for value in range(value_of[i], value_of[i + 1]):
            producer[value] = i
        length = 0
        for q in range(slot_of[i], slot_of[i + 1]):
            for a in range(arg_of[q], arg_of[q + 1]):
                source = chain[producer[args[a]]]
                length = max(length, source)
                if source > 0 and sig[i] == s:
                    leads_back[q - slot_of[i]] = 1
        if sig[i] == s:
            length += 1
            n_nodes += 1
            longest = max(longest, length)
        chain[i] = length
    return n_nodes, longest, leads_back
