"""Plans that are kept: a recording with the structure of earlier ones takes over how those were expanded, scheduled and
placed.

Minibatches of a fixed shape record the same nodes every time, on other numbers; expanding, scheduling and placing a few
hundred nodes takes as long as many a launch. Two recordings have the same structure if their signatures, the arguments
of all nodes, and the values that are asked for are the same, compared in full. The first with a structure leaves a
note, the second leaves what was planned, with places in its data instead of data; all later ones look it up.

Kept with a signature of the recording, and so as long as the parameters that it reads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .run.expand import Expansion
from .run.program import FROM_DATA, Plan, Schedule, SignatureTable, Tape
from .signature import Signature

__all__ = ["Planned", "Structure", "structure_of"]

LARGEST = 1000
"""Most nodes of a recording whose plan is kept; in larger ones cells may still be found."""

MOST = 32
"""Most structures kept with one signature."""


@dataclass(slots=True)
class Planned:
    """What follows from the structure of a recording alone: the results of the stages before the first launch.

    table: of the recording; facts: what later stages find out from these, by what they were asked
    places: of the data in that of the recording: whole numbers of tape and plan, then other numbers of both
    """

    table: SignatureTable
    expansion: Expansion
    signatures: list[Signature]
    needs: Any
    schedule: Schedule
    plan: Plan
    facts: dict[Any, Any] = field(default_factory=dict)
    places: tuple[Any, Any, Any, Any] | None = None

    def of(self, arrays: Tape) -> Planned:
        """The same for a recording of this structure, with its data in place of places in it."""
        assert self.places is not None
        ints, planned_ints, floats, planned_floats = self.places
        tape = dataclasses.replace(self.expansion.tape, ints=arrays.ints[ints], floats=arrays.floats[floats])
        plan = dataclasses.replace(self.plan, ints=arrays.ints[planned_ints], floats=arrays.floats[planned_floats])
        expansion = Expansion(tape, self.expansion.number, self.expansion.origin)
        return Planned(self.table, expansion, self.signatures, self.needs, self.schedule, plan, self.facts)


@dataclass(slots=True)
class Structure:
    """The structure of a recording, and where its plan is kept.

    known: its plan, if it is kept; is_met: whether there was a recording of this structure before
    """

    arrays: Tape
    kept: dict[Any, Planned | None]
    key: Any
    known: Planned | None
    is_met: bool

    def numbered(self) -> Tape:
        """The recording with the place of each datum instead of the datum."""
        arrays = self.arrays
        return dataclasses.replace(
            arrays, ints=np.arange(arrays.ints.size), floats=np.arange(arrays.floats.size, dtype=np.float64)
        )

    def keep(self, planned: Planned | None) -> None:
        """Keep a plan of the numbered recording, or a note that there was one of this structure."""
        if planned is not None:
            tape, plan = planned.expansion.tape, planned.plan
            planned.places = tape.ints, plan.ints, tape.floats.astype(np.int64), plan.floats.astype(np.int64)
        if len(self.kept) >= MOST and self.key not in self.kept:
            self.kept.clear()
        self.kept[self.key] = planned


def structure_of(
    arrays: Tape, signatures: Sequence[Signature], targets: Sequence[int] | None, joined: bool
) -> Structure | None:
    """The structure of a recording without links; None where its plan depends on data, or is not worth keeping."""
    table = arrays.signatures
    holder = next((s for s in signatures if s.shared), None)
    if holder is None or arrays.sig.size > LARGEST or (table.result_rule == FROM_DATA).any():
        return None
    # What is found out of a signature later on changes how it is expanded.
    found = [("cut" in s.__dict__) + 2 * len(s.__dict__.get("patterns", ())) for s in signatures]
    parts = (arrays.sig, arrays.arg_of, arrays.args, arrays.roots)
    key = (
        None if targets is None else tuple(targets),
        joined,
        tuple(found),
        id(table),
        *(part.tobytes() for part in parts),
    )
    kept: dict[Any, Planned | None] = holder.__dict__.setdefault("planned", {})
    known = kept.get(key)
    if known is not None and known.table is not table:
        known = None
    return Structure(arrays, kept, key, known, key in kept)
