"""Which nodes carry a gradient, and what signatures can leave out because of it.

Before anything runs, a value asks whether a gradient would be lost if it became an array (`carries_gradient`). Of the
tape that is scheduled, `expand` asks which nodes carry a gradient to the targets: those that do not get signatures of
their own (`set_apart`), and slots that never read a gradient have none computed (`note_constants`).

Cost: O(nodes) for each recording; `carries_gradient` while a recording is open, at every question.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base.jit import njit
from ..base.types import Array
from ..ops.elementwise import STOP_GRADIENT
from ..record.assemble import assemble, with_signatures
from ..record.forcing import engine
from ..record.links import links_of
from ..record.signature import Signature
from ..record.tape import OPEN, Recording, state
from ..run.backward import gradient_needed
from ..schedule.structures import KERNEL, Expansion, Tape

__all__ = ["carries_gradient", "gradient_of_nodes", "note_constants", "set_apart"]

_flows: weakref.WeakKeyDictionary[Recording, Array] = weakref.WeakKeyDictionary()
"""Of recordings that ran, for each node whether its results carry a gradient."""


def carries_gradient(recording: Recording, value: int) -> bool:
    """Whether a parameter leads to a value by ops that have derivatives, in its recording or in earlier ones."""
    if recording.lines is not None:
        return value in recording.lines and value not in recording.constants
    if recording.state == OPEN and state.tape is not recording:
        return False  # of another thread or given up: it cannot be read
    waiting = [recording]
    while waiting:
        earlier = [old for old in links_of(waiting[-1]).sources if old not in _flows and old.arrays is not None]
        if earlier:
            waiting += earlier
            continue
        tape = waiting.pop()
        if tape is recording and tape.state == OPEN:
            arrays = assemble(tape, ())
            return bool(_flow(tape, arrays)[arrays.node_of(value)])
        if tape not in _flows:
            assert tape.arrays is not None
            _flows[tape] = _flow(tape, tape.arrays)
    assert recording.arrays is not None
    return bool(_flows[recording][recording.arrays.node_of(value)])


engine.carries_gradient = carries_gradient


def _flow(tape: Recording, arrays: Tape) -> Array:
    """For each node whether its results carry a gradient; recordings that values were brought from come first."""
    links, linked = links_of(tape), []
    for k, old in enumerate(links.sources):
        own = links.only(links.source == k)
        if old.arrays is not None:
            own = own.only(_flows[old][old.arrays.node_of(own.value)] != 0)
        linked.append(own.here)  # of one that has been released no more is known than when it was linked
    frozen = np.array([s.frozen or s.name == STOP_GRADIENT.name for s in tape.signatures], np.int32)
    found = _needed(arrays, np.concatenate(linked) if linked else links.here, frozen, None)
    if tape.replays:
        found[arrays.node_of(np.array(list(tape.replays), np.int64))] = 1
    return found


def gradient_of_nodes(tape: Recording, expansion: Expansion, targets: Sequence[int] | None) -> Array:
    """For each node of an expansion whether it carries a gradient to `targets`, or to any value."""
    linked = expansion.values(links_of(tape).here)
    wanted = None if targets is None else [expansion.value(value) for value in targets]
    return _needed(expansion.tape, linked, expansion.tape.signatures.frozen, wanted)


def _needed(arrays: Tape, linked: Array, frozen: Any, targets: Sequence[int] | None) -> Array:
    brought = np.zeros(arrays.sig.size, np.uint8)
    brought[arrays.node_of(linked)] = 1
    target = np.full(int(arrays.value_of[-1]), targets is None, np.uint8)
    if targets is not None:
        target[targets] = 1
    found: Array = gradient_needed(
        arrays.sig, arrays.slot_of, arrays.arg_of, arrays.args, arrays.value_of, arrays.signatures.trainable, frozen,
        brought, target,
    )  # fmt: skip
    return found


def set_apart(arrays: Tape, signatures: list[Signature], needs: Array) -> Tape:
    """Give nodes without gradient a signature of their own, so that they share no launch with nodes that have one."""
    kinds = arrays.signatures.kind
    sig = arrays.sig.copy()
    for s in np.unique(arrays.sig[(needs == 0) & (kinds[arrays.sig] == KERNEL)]).tolist():
        here = arrays.sig == s
        if signatures[s].frozen or not needs[here].any():
            continue
        decisions = signatures[s].decisions
        if decisions.frozen_variant is None:
            decisions.frozen_variant = dataclasses.replace(signatures[s], frozen=True, late=True)
        sig[here & (needs == 0)] = len(signatures)
        signatures.append(decisions.frozen_variant)
    if len(signatures) == kinds.size:
        return arrays
    return dataclasses.replace(with_signatures(arrays, signatures), sig=sig)


def note_constants(arrays: Tape, signatures: list[Signature], needs: Array) -> None:
    """Where all nodes of a signature read values without gradient in a slot, put a variant in its place, whose backward
    pass computes nothing for that slot: the input of a network, say.

    The first recording of a signature says which slots these are. Later ones may take slots away, but add none, so that
    few variants are compiled.
    """
    table = arrays.signatures
    passed, reads = _gradients_passed(
        arrays.sig, arrays.slot_of, arrays.arg_of, arrays.args, arrays.value_of, needs, table.slot_of
    )
    for s, signature in enumerate(signatures):
        first, last = int(table.slot_of[s]), int(table.slot_of[s + 1])
        if signature.kind != KERNEL or first == last or not reads[s] or not signature.trainable:
            continue  # without parameters there are no matmuls to be saved, and a signature that all models share
        decisions = signature.decisions
        before = decisions.constant_slots
        if before is not None and not before:
            continue
        slots = enumerate(zip(signature.slots, passed[first:last].tolist(), strict=True))
        now = frozenset(k for k, (slot, is_passed) in slots if not is_passed and slot.type.dtype.kind == "f")
        found = decisions.constant_slots = now if before is None else before & now
        if found:
            if found not in decisions.constant_variants:
                decisions.constant_variants[found] = dataclasses.replace(signature, constant=found)
            signatures[s] = decisions.constant_variants[found]


@njit(early="5xint32:1 uint8:1 int32:1")
def _gradients_passed(sig, slot_of, arg_of, args, value_of, needs, sig_slot_of):  # type: ignore[no-untyped-def]
    """For each slot of the signatures whether a node with gradient reads a value with gradient in it; for each
    signature whether it has a node with gradient."""
    n = sig.size
    carries = np.zeros(value_of[n], np.bool_)
    passed = np.zeros(sig_slot_of[sig_slot_of.size - 1], np.bool_)
    reads = np.zeros(sig_slot_of.size - 1, np.bool_)
    for i in range(n):
        if needs[i] == 0:
            continue
        for v in range(value_of[i], value_of[i + 1]):
            carries[v] = True
        reads[sig[i]] = True
        slot = sig_slot_of[sig[i]]
        for q in range(slot_of[i], slot_of[i + 1]):
            if not passed[slot]:
                for a in range(arg_of[q], arg_of[q + 1]):
                    if carries[args[a]]:
                        passed[slot] = True
                        break
            slot += 1
    return passed, reads
