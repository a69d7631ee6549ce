"""From recorded nodes to those that are scheduled: runs that match a pattern are joined, then cells are cut into parts.

Which signatures are cut is decided once per signature, from how the first recordings use it.

Work of a cell that does not depend on its recurrence is hoisted out of it where that pays. Left in, its weights are
read once for each launch of the chain; hoisted, once, but its results go through memory, forward and backward. The
decision of a signature is taken on the first tape in which it depends on itself often enough, and stays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ..record.assemble import with_signatures
from ..record.decisions import Cut
from ..record.lengths import switched
from ..record.signature import Signature
from ..record.tape import Recording
from ..schedule.structures import KERNEL, LIST, ONE, Expansion, Part, Result, Slot, Tape
from .costs import WEIGHT, reads_of_weights
from .cut import expand, longest_path, own_chains
from .gradient_flow import gradient_of_nodes, note_constants, set_apart
from .hoist import Half, hoist
from .patterns import Place, join_recording

__all__ = ["expand_recording", "join_and_cut"]

LONG = 4
"""Nodes of one signature that depend on each other before it is decided upon."""


def expand_recording(
    recording: Recording, arrays: Tape, targets: Sequence[int] | None, joined: bool = True
) -> tuple[Expansion, list[Signature], Any]:
    """What is scheduled: tape, signatures, and which nodes carry a gradient.

    Args:
        recording: what was recorded, as `arrays`; not changed.
        targets: values that gradients lead to; None: any value.
        joined: whether runs of nodes that match a pattern become one node.
    """
    if recording.unbatched:
        expansion, signatures = Expansion(arrays), list(recording.signatures)
    else:
        is_settled = recording.since == switched[0]
        expansion, signatures = join_and_cut(arrays, recording.signatures, recording.place, joined, is_settled)
    needs = gradient_of_nodes(recording, expansion, targets)
    if targets is not None:
        expansion = dataclasses.replace(expansion, tape=set_apart(expansion.tape, signatures, needs))
    if not recording.unbatched:
        note_constants(expansion.tape, signatures, needs)
    return expansion, signatures, needs


def join_and_cut(
    tape: Tape, signatures: Sequence[Signature], place: Place, joined: bool = True, is_settled: bool = True
) -> tuple[Expansion, list[Signature]]:
    """The tape to schedule, and its signatures: the recorded ones, those of patterns and those of parts. `place` gives
    the code object and the instruction that recorded a node; `is_settled` is as in `join_recording`."""
    first = Expansion(tape)
    if joined:
        first, signatures = join_recording(tape, signatures, place, is_settled)
    second, found = _cut(first.tape, signatures)
    return first.then(second), found


def _cut(tape: Tape, signatures: Sequence[Signature]) -> tuple[Expansion, list[Signature]]:
    found = list(signatures)
    parts: list[list[Part] | None] = []
    is_open = not all(s.decisions.is_cut_decided for s in signatures)
    is_deep = is_open and bool(longest_path(tape.slot_of, tape.arg_of, tape.args, tape.value_of) >= LONG)
    for s, signature in enumerate(signatures):
        decisions = signature.decisions
        if not decisions.is_cut_decided and (decided := _decide(tape, s, signature, is_deep))[0]:
            decisions.decide_cut(decided[1])
        first, cut = len(found), decisions.cut
        own = [dataclasses.replace(part, sig=first + k) for k, part in enumerate(cut.parts)] if cut else None
        parts.append(own)
        found += cut.signatures if cut else ()
    if not any(parts):
        return Expansion(tape), found
    return expand(with_signatures(tape, found), parts), found


def _decide(tape: Tape, s: int, signature: Signature, is_deep: bool) -> tuple[bool, Cut | None]:
    """Whether a decision can be taken on this tape, and what it is; only on one that is deep signatures depend on
    themselves often enough."""
    if signature.kind != KERNEL or signature.by_rows or any(slot.kind not in (ONE, LIST) for slot in signature.slots):
        return True, None
    lists = [k for k, slot in enumerate(signature.slots) if slot.kind == LIST]
    reads = signature.decisions.reads_of_weights
    if reads is None:
        reads = signature.decisions.reads_of_weights = reads_of_weights(signature.graph)
    if len(reads) < 2 or not signature.slots or all(len(slots) == len(signature.slots) for slots, *_ in reads):
        return True, None
    if not is_deep:
        return False, None
    n_nodes, chain, leads_back = own_chains(
        tape.sig, tape.slot_of, tape.arg_of, tape.args, tape.value_of, s, len(signature.slots)
    )
    if chain < LONG:
        return False, None
    early = {k for k, slot in enumerate(signature.slots) if not leads_back[k] and slot.kind == ONE}
    saved = sum(inner * columns for slots, inner, columns in reads if slots <= early) * (chain - 1)
    through_memory = sum(columns for slots, _, columns in reads if slots <= early) * n_nodes
    if saved * WEIGHT <= through_memory:
        return True, None
    found = hoist(signature.graph, early, lists)
    if found is None:
        return True, None
    handed = tuple(Result(type.width, type.dtype, rows=type.rows) for type in found.types)
    extra = tuple(Slot(ONE, type) for type in found.types)
    first = _half(signature, found.hoisted, f"{signature.name}.hoisted", handed, extra)
    second = _half(signature, found.rest, signature.name, signature.results, extra)
    parts = (
        Part(0, found.hoisted.rows, (-1,) * len(handed), *_columns(signature, found.hoisted)),
        Part(1, found.rest.rows, tuple(range(len(signature.results))), *_columns(signature, found.rest)),
    )
    return True, Cut((first, second), parts)


def _half(whole: Signature, half: Half, name: str, results: tuple[Result, ...], extra: tuple[Slot, ...]) -> Signature:
    renumber = {k: new for new, k in enumerate(half.rows)}
    results = tuple(dataclasses.replace(r, ref=renumber.get(r.ref, 0)) if r.ref else r for r in results)
    data = "".join(whole.data[k] for k in half.data)
    made = dataclasses.replace(
        whole,
        name=name,
        slots=tuple(whole.slots[k] if k >= 0 else extra[-1 - k] for k in half.rows),
        results=results,
        graph=half.graph,
        shared=tuple(whole.shared[k] for k in half.shared),
        data=data,
    )
    made.decisions.decide_cut(None)
    return made


def _columns(whole: Signature, half: Half) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Columns of the int and the float data of the whole that a half reads."""
    column = [whole.data[:k].count(kind) for k, kind in enumerate(whole.data)]
    return (
        tuple(column[k] for k in half.data if whole.data[k] == "i"),
        tuple(column[k] for k in half.data if whole.data[k] == "f"),
    )
