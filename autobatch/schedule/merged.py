"""Recordings that were split, merged into the one tape that they would have been.

Input: `Piece`, one for each recording that ran, in their order: what was scheduled, and which of its arrays from
outside are values of an earlier one. Output: a tape without data, which can be scheduled, and counted by `lower_bound`.
Values that only decided what was recorded next leave no trace in it: it is what would have been recorded had the
decisions been known. Cost: O(nodes + arguments), in whole arrays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..base.types import Array
from .schedule import lower_bound, schedule
from .structures import CONCAT_ROWS, Expansion, Tape, bounds

__all__ = ["Piece", "counts_together", "merge"]


class HasGraph(Protocol):
    """What is asked of a signature: the identity of its graph."""

    @property
    def graph(self) -> object: ...


@dataclass(slots=True)
class Piece:
    """One recording that ran.

    number: names it; expansion: what was scheduled; signatures: of its tape
    links: [n, 3] host inputs that are values of other pieces: value, number of the piece, value there, as recorded
    """

    number: int
    expansion: Expansion
    signatures: Sequence[HasGraph]
    links: Array = field(default_factory=lambda: np.zeros((0, 3), np.int64))


def merge(pieces: Sequence[Piece]) -> Tape:
    """The tape of some recordings, at least one, merged; a value linked from one to the next is a view.

    Signatures of one graph count as one, whether or not gradients go through: that depends on what is asked later.
    """
    number_of: dict[int, int] = {}
    kinds = [CONCAT_ROWS]  # signature 0: of linked values
    first_value: dict[int, tuple[int, Expansion]] = {}
    sigs, slots, lengths, args, results, roots = [], [], [], [], [], []
    n_values = 0
    for piece in pieces:
        expansion, tape = piece.expansion, piece.expansion.tape
        numbers = np.empty(len(piece.signatures), np.int32)
        for s, signature in enumerate(piece.signatures):
            numbers[s] = number_of.setdefault(id(signature.graph), len(kinds))
            if numbers[s] == len(kinds):
                kinds.append(int(tape.signatures.kind[s]))
        links = piece.links[np.argsort(piece.links[:, 0])]
        links = links[np.isin(links[:, 1], list(first_value))]
        came, there = expansion.values(links[:, 0]), np.zeros(len(links), np.int64)
        for number in np.unique(links[:, 1]).tolist():
            first, earlier = first_value[number]
            here = links[:, 1] == number
            there[here] = first + earlier.values(links[here, 2])
        over = tape.node_of(came)
        sig, n_slots = numbers[tape.sig], np.diff(tape.slot_of)
        sig[over] = 0
        n_slots[over] += 1
        sigs.append(sig)
        slots.append(n_slots)
        lengths.append(np.insert(np.diff(tape.arg_of), tape.slot_of[over], 1))
        args.append(np.insert(tape.args + n_values, tape.arg_of[tape.slot_of[over]], there))
        results.append(np.diff(tape.value_of))
        roots.append(tape.roots + n_values)
        first_value[piece.number] = n_values, expansion
        n_values += int(tape.value_of[-1])
    last = pieces[-1].expansion.tape
    return dataclasses.replace(
        last,
        signatures=dataclasses.replace(last.signatures, kind=np.array(kinds, np.int32)),
        sig=np.concatenate(sigs).astype(np.int32),
        slot_of=bounds(np.concatenate(slots)),
        arg_of=bounds(np.concatenate(lengths)),
        args=np.concatenate(args).astype(np.int32),
        value_of=bounds(np.concatenate(results)),
        roots=np.concatenate(roots).astype(np.int32),
    )


def counts_together(pieces: Sequence[Piece]) -> tuple[int, int]:
    """Launches of some recordings scheduled as one, and the fewest that any order needs."""
    tape = merge(pieces)
    launches = schedule(tape)
    return launches.launch_sig.size, lower_bound(tape, launches)
