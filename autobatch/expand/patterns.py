"""Cells found by themselves: runs of nodes that recur in a recording become one node each.

Un-annotated code records every op as a node, and each would be a launch of its own whose values go through memory. On
the first large recording of some signatures, runs that recur are found and made into patterns, each with a signature
whose graph is that of its nodes joined. From then on they are matched, in every recording. A pattern is kept with the
signature of a node in it, and so lives as long as the parameters that it reads.

All patterns of a recording are searched for at once, so that few kernels are compiled. There is another search where
many nodes have signatures of which no search has seen half as many, or no longer match, as when other values are kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import CodeType
from typing import Any

import numpy as np

from ..base.types import Type
from ..record.assemble import with_signatures
from ..record.decisions import FoundCell
from ..record.signature import Signature
from ..schedule.schedule import schedule
from ..schedule.structures import FIXED, KERNEL, ONE, Expansion, Ints, Result, Slot, Tape
from .chain import Chain
from .costs import LAUNCH, WEIGHT, numbers_of, weights_of
from .find import EITHER, Facts, Recurring, recurring
from .match import Pattern, join, rules_of

__all__ = ["Place", "join_recording"]

MIN_NODES = 1000
"""Fewest nodes worth a search."""

LOOKED_AT = 32_768
"""Most nodes that a search looks at: the first of a recording."""

MOST = 64
"""Most patterns of a search, and of the signatures that they are kept with."""

SEARCHES = 3
"""Most searches for one signature."""

EARNED = 10
"""So many nodes must have been recorded for each that is searched, beyond those of the first few searches."""

FREE = 16 * LOOKED_AT


Place = Callable[[int], tuple[CodeType | None, int]]
"""The code object and the instruction that recorded a node."""


@dataclass
class _Effort:
    """Nodes recorded and nodes searched in this process."""

    recorded: int = 0
    searched: int = 0

    def allows(self, n: int) -> bool:
        return self.searched + n <= FREE + self.recorded // EARNED


effort = _Effort()


def join_recording(
    tape: Tape, signatures: Sequence[Signature], place: Place, is_settled: bool = True
) -> tuple[Expansion, list[Signature]]:
    """The tape with one node for each run that matches a pattern, and its signatures: the recorded ones and those of
    patterns. `place` gives the code object and the instruction that recorded a node. Nothing is searched for before
    `is_settled`: where a length was first seen to vary within the recording, some of its nodes have forms that do not
    come again."""
    n = tape.sig.size
    if n >= MIN_NODES and is_settled:
        effort.recorded += n
        counts = np.bincount(tape.sig[:LOOKED_AT], minlength=len(signatures))
        is_new = np.array([s.kind == KERNEL and not s.decisions.searches for s in signatures])
        unseen = is_new & (counts > 2 * np.array([s.decisions.searched for s in signatures]))
        if int(counts[unseen].sum()) >= MIN_NODES // 4:
            _search(tape, signatures, place)
    expansion, found, refused = _apply(tape, signatures, _known(signatures))
    if is_settled and refused >= max(MIN_NODES, n // 4) and max(s.decisions.searches for s in signatures) < SEARCHES:
        _search(tape, signatures, place)
        expansion, found, _ = _apply(tape, signatures, _known(signatures))
    return expansion, found


def _known(signatures: Sequence[Signature]) -> list[FoundCell]:
    """The patterns whose nodes have these signatures."""
    here = frozenset(signatures)
    return [p for s in signatures for p in s.decisions.found_cells if p.distinct <= here]


def _apply(
    tape: Tape, signatures: Sequence[Signature], patterns: Sequence[FoundCell]
) -> tuple[Expansion, list[Signature], int]:
    if not patterns:
        return Expansion(tape), list(signatures), 0
    number = {s: k for k, s in enumerate(signatures)}
    found = list(dict.fromkeys([*signatures, *(p.signature for p in patterns)]))
    new_number = {s: k for k, s in enumerate(found)}
    rules = [
        Pattern(tuple(number[m] for m in p.members), p.slots, p.reads, p.results, new_number[p.signature])
        for p in sorted(patterns, key=lambda p: len(p.signature.results))
    ]
    whole = with_signatures(tape, found)
    expansion, refused = join(whole, rules_of(tuple(rules), len(signatures)))
    if expansion.tape is whole:
        return Expansion(tape), list(signatures), refused
    return expansion, found, refused


# Searching.


def _search(tape: Tape, signatures: Sequence[Signature], place: Place) -> None:
    """Find the patterns of a recording, and keep those that make it better."""
    head = _head(tape, LOOKED_AT)
    n = head.sig.size
    if not effort.allows(n):
        return
    effort.searched += n
    facts = _facts(signatures)
    patterns = _useful(head, signatures, _patterns(head, signatures, facts, place))
    for pattern in patterns:
        keeper = next((m for m in pattern.members if m.shared), pattern.members[0])
        kept = keeper.decisions.found_cells
        if len(kept) < MOST and all(known.signature is not pattern.signature for known in kept):
            keeper.decisions.keep_cell(pattern)
    counts = np.bincount(head.sig, minlength=len(signatures))
    joined = {m for p in patterns for m in p.members}
    for signature, count in zip(signatures, counts.tolist(), strict=True):
        decisions = signature.decisions
        decisions.searched = max(decisions.searched, count)
        if count >= MIN_NODES // 10 or signature in joined:
            decisions.searches += 1


def _head(tape: Tape, n: int) -> Tape:
    """The first nodes of a tape; what later nodes read is a root."""
    if tape.sig.size <= n:
        return tape
    n_slots, n_values = int(tape.slot_of[n]), int(tape.value_of[n])
    n_args = int(tape.arg_of[n_slots])
    read = np.concatenate([tape.roots, tape.args[n_args:]])
    return dataclasses.replace(
        tape,
        sig=tape.sig[:n],
        slot_of=tape.slot_of[: n + 1],
        arg_of=tape.arg_of[: n_slots + 1],
        args=tape.args[:n_args],
        value_of=tape.value_of[: n + 1],
        int_of=tape.int_of[: n + 1],
        float_of=tape.float_of[: n + 1],
        roots=np.unique(read[read < n_values]),
    )


def _facts(signatures: Sequence[Signature]) -> Facts:
    """What a search has to know of signatures."""
    types: dict[Type, int] = {}

    def ints(values: Any) -> Ints:
        return np.array(list(values), np.int32)

    handed: list[int] = []
    for s in signatures:
        for k, r in enumerate(s.results):
            type = s.graph.nodes[s.graph.outputs[k]].type if s.kind == KERNEL else None
            plain = type is not None and r.rule == FIXED and (r.width, r.rows) == (type.width, type.rows)
            handed.append(types.setdefault(type, len(types)) if plain and type is not None else -2)
    return Facts(
        joinable=ints(
            s.kind == KERNEL
            and not (s.by_rows or s.is_paired or s.is_custom)  # equal custom derivatives are not one
            and bool(s.slots or s.data)
            for s in signatures
        ),
        constant=ints(_constant(s) for s in signatures),
        weights=np.array([weights_of(s) for s in signatures], np.int64),
        slot_type=ints(
            types.setdefault(slot.type, len(types)) if slot.kind == ONE else -1 for s in signatures for slot in s.slots
        ),
        result_type=ints(handed),
    )


def _constant(signature: Signature) -> int:
    return int(signature.frozen) if any(r.dtype.kind == "f" for r in signature.results) else EITHER


def _patterns(tape: Tape, signatures: Sequence[Signature], facts: Facts, place: Place) -> list[FoundCell]:
    """The runs that recur as patterns, those that are the same joined."""
    n = tape.sig.size
    lines: dict[Any, int] = {}
    place_of = np.array([lines.setdefault(place(node), len(lines)) for node in range(n)], np.int32)
    last_reader = np.full(int(tape.value_of[-1]), -1, np.int64)
    np.maximum.at(last_reader, tape.args, np.repeat(np.arange(n), np.diff(tape.arg_of[tape.slot_of])))
    last_reader[tape.roots] = n
    same: dict[Any, list[Ints]] = {}
    for run in recurring(tape, facts, place_of):
        same.setdefault(_handing(tape, signatures, run), []).append(run.starts)
    found: list[FoundCell] = []
    for (members, inside), starts in list(same.items())[:MOST]:
        name = _name(members, place, int(starts[0][0]))
        pattern = _pattern(tape, members, inside, np.sort(np.concatenate(starts)), last_reader, name)
        if pattern is not None:
            found.append(pattern)
    return found


def _handing(tape: Tape, signatures: Sequence[Signature], run: Recurring) -> Any:
    """The signatures of a run, and for each of its slots the value of the run that it reads, or -1."""
    first = int(run.starts[0])
    base = int(tape.value_of[first])
    members = tuple(signatures[s] for s in tape.sig[first : first + run.size].tolist())
    inside = []
    for slot in range(int(tape.slot_of[first]), int(tape.slot_of[first + run.size])):
        read = tape.args[tape.arg_of[slot] : tape.arg_of[slot + 1]]
        inside.append(max(int(read[0]) - base, -1) if read.size == 1 else -1)
    return members, tuple(inside)


def _pattern(
    tape: Tape, members: Sequence[Signature], inside: Sequence[int], starts: Ints, last_reader: Any, name: str
) -> FoundCell | None:
    """The pattern of runs: what is read by two slots in all of them is one operand, what any reader outside wants is a
    result."""
    slots: list[int] = []
    reads: list[int] = []
    known: dict[Any, int] = {}
    forms = [slot for member in members for slot in member.slots]
    for k, (value, form) in enumerate(zip(inside, forms, strict=True)):
        if value >= 0:
            slots.append(value)
            continue
        operands = tape.args[tape.arg_of[tape.slot_of[starts] + k]].tobytes() if form.kind == ONE else k
        operand = known.setdefault((form if form.kind == ONE else k, operands), len(reads))
        if operand == len(reads):
            reads.append(k)
        slots.append(-1 - operand)
    values = np.arange(sum(len(m.results) for m in members))
    wanted = (last_reader[tape.value_of[starts][:, None] + values] >= (starts + len(members))[:, None]).any(axis=0)
    if not wanted.any():
        return None
    results = np.where(wanted, np.cumsum(wanted) - 1, -1).tolist()
    signature = _joined(members, slots, [forms[k] for k in reads], results, name)
    return FoundCell(tuple(members), tuple(slots), tuple(reads), tuple(results), signature, frozenset(members))


def _joined(
    members: Sequence[Signature], slots: Sequence[int], forms: Sequence[Slot], results: Sequence[int], name: str
) -> Signature:
    """The signature of a pattern."""
    keeper = next((m for m in members if m.shared), members[0])
    cache = keeper.decisions.joined
    key = (tuple(members), tuple(slots), tuple(forms), tuple(results))
    if key in cache:
        return cache[key]
    joiner = Chain()
    made: list[Result] = []
    lists: list[int] = []
    first = 0
    for member in members:
        own = slots[first : first + len(member.slots)]
        first += len(member.slots)
        lists += [len(member.lists)]
        joiner.add(member.graph, own, member.shared, len(member.data), len(member.lists))
        made += [dataclasses.replace(r, ref=-1 - own[r.ref]) if r.rule != FIXED else r for r in member.results]
    operands: dict[int, Slot] = {}
    before = [0, *accumulate(lists)]
    at = 0
    for m, member in enumerate(members):
        for slot in member.slots:
            if slots[at] < 0:
                shifted = dataclasses.replace(slot, list=slot.list + before[m]) if slot.kind != ONE else slot
                operands.setdefault(-1 - slots[at], shifted)
            at += 1
    exported = [v for v, result in enumerate(results) if result >= 0]
    signature = cache[key] = Signature(
        name=name,
        kind=KERNEL,
        slots=tuple(operands[k] for k in range(len(operands))),
        results=tuple(made[v] for v in exported),
        graph=joiner.finish(exported),
        shared=tuple(joiner.shared),
        data="".join(m.data for m in members),
        frozen=max(_constant(m) % EITHER for m in members) == 1 or all(m.frozen for m in members),
        members=tuple(members),
    )
    return signature


def _name(members: Sequence[Signature], place: Place, first: int) -> str:
    """The function that recorded a run; its first ops where there were several."""
    codes = {place(node)[0] for node in range(first, first + len(members))}
    if len(codes) == 1:
        code = codes.pop()
        if isinstance(code, CodeType) and code.co_name.isidentifier():
            return code.co_name
    return " ".join([m.name for m in members[:3]] + ["…"] * (len(members) > 3))


def _useful(tape: Tape, signatures: Sequence[Signature], patterns: Sequence[FoundCell]) -> list[FoundCell]:
    """The patterns that pay: the recording takes no more launches than without, and each makes it cheaper
    in launches, reads of weights and numbers that go through memory."""

    def cost(patterns: Sequence[FoundCell]) -> tuple[int, float]:
        expansion, found, _ = _apply(tape, signatures, patterns)
        new = expansion.tape
        launches = schedule(new)
        weights = np.array([weights_of(s) for s in found])
        numbers = np.array([numbers_of(s) for s in found])
        n = launches.launch_sig.size
        return n, n * LAUNCH + weights[launches.launch_sig].sum() * WEIGHT + numbers[new.sig[launches.nodes]].sum()

    most, kept = cost([])[0], list(patterns)
    now = cost(kept)
    for pattern in patterns:
        rest = [p for p in kept if p is not pattern]
        without = cost(rest)
        if without[1] < now[1]:
            kept, now = rest, without
    for pattern in reversed(patterns):
        rest = [p for p in kept if p is not pattern]
        if now[0] > most and pattern in kept and (without := cost(rest))[0] < now[0]:
            kept, now = rest, without
    return kept if now[0] <= most else []
