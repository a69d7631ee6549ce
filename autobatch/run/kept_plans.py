"""Cached plans: a recording with the structure of earlier ones reuses how those were expanded, scheduled,
placed and laid out.

Minibatches of a fixed shape record the same nodes every time, on other numbers; expanding, scheduling and placing a few
hundred nodes takes as long as many launches, and so does preparing their arguments. Two recordings have
the same structure if their signatures, the arguments of all nodes, and the roots are the same,
compared in full. The first with a structure stores its arrays, the second its plan, with indices into its data
instead of data, and its layout when its run is freed; all later ones fill in their own numbers.

Kept with what the signatures share (`record.operands`), and so as long as the parameters that they read.
"""

from __future__ import annotations

import collections
import dataclasses
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..base.types import Array
from ..schedule.structures import Expansion, Plan, Schedule, Tape
from .backward import Asked, ToReverse
from .layout import Layout, lay_out, working_with
from .protocols import Signature

__all__ = ["PlanCache", "Planned", "Question", "numbered"]

MOST = 32
"""Most structures kept with one signature."""

LAYOUTS = 8
"""Plans whose layout waits for their next run: those used last."""

LAYOUT_BYTES = 1 << 23
"""Most memory of a layout that waits. Larger runs return theirs; the cost is small beside the rest of their step."""


Question = tuple[tuple[int, ...] | None, bool, int, str]
"""What a plan depends on beside the structure: the values that gradients are wanted of, whether cells are found, the
version of what is decided about the signatures, and the schedule policy."""


class _Waiting(weakref.ref["Use"]):
    """A use of a layout, and the layout, which waits when the use has gone."""

    __slots__ = ("layout",)
    layout: Layout


Idle = collections.deque[_Waiting]
"""Where the layout of a plan waits: at most one."""

_used: list[weakref.ref[Idle]] = []
"""Where the layouts of the plans that ran last wait, the latest at the end."""


@dataclass(slots=True)
class Planned:
    """What follows from the structure of a recording alone: the results of the stages before the first launch.

    facts: what backward passes do, by what was asked
    places: of the data in that of the recording: integers of tape and plan, then other numbers of both
    idle: where its layout waits for the next run
    """

    expansion: Expansion
    signatures: Sequence[Signature]
    needs: Array
    schedule: Schedule
    plan: Plan
    facts: dict[Asked, ToReverse] = field(default_factory=dict)
    places: tuple[Array, Array, Array, Array] | None = None
    idle: Idle = field(default_factory=lambda: collections.deque(maxlen=1))

    def of(self, arrays: Tape) -> Planned:
        """The same for a recording of this structure, with its data in place of places in it."""
        assert self.places is not None
        ints, planned_ints, floats, planned_floats = self.places
        tape = self.expansion.tape.with_data(arrays.ints[ints], arrays.floats[floats])
        plan = dataclasses.replace(self.plan, ints=arrays.ints[planned_ints], floats=arrays.floats[planned_floats])
        expansion = Expansion(tape, self.expansion.number, self.expansion.origin)
        return Planned(expansion, self.signatures, self.needs, self.schedule, plan, self.facts)

    def layout(self, backend: str) -> Layout:
        """Memory and launches of its own."""
        return lay_out(self.expansion, self.schedule, self.plan, self.signatures, self.needs, backend)

    def layout_of(self, arrays: Tape, backend: str) -> tuple[Layout, Use]:
        """Memory and launches for a recording of this structure, and a use of them, after which they wait."""
        assert self.places is not None
        try:
            layout = self.idle.pop().layout
        except IndexError:
            layout = None
        _note_use(self.idle)
        if layout is None or layout.backend != backend or layout.works_with != working_with():
            layout = self.of(arrays).layout(backend)
            return layout, Use(layout, self.idle)
        use, tape, plan = Use(layout, self.idle), layout.tape, layout.plan
        for numbers, into, part in zip(
            (arrays.ints, arrays.ints, arrays.floats, arrays.floats),
            (tape.ints, plan.ints, tape.floats, plan.floats), self.places, strict=True,
        ):  # fmt: skip
            if numbers.size:
                numbers.take(part, out=into, mode="clip")  # to check the places again would copy twice
        return layout, use


class Use:
    """A run's use of a layout, which waits for the next run when this one is freed; there must be no views then.

    It puts itself there by no line of Python: an exception that a signal handler raises in a finaliser is lost.
    """

    __slots__ = ("__weakref__", "waiting")

    def __init__(self, layout: Layout, idle: Idle) -> None:
        layout.is_shared = True
        waiting = _Waiting(self, idle.append)
        waiting.layout = layout
        self.waiting: _Waiting | None = waiting
        self.note_size(layout)

    def note_size(self, layout: Layout) -> None:
        """Free the layout with its run if it has become too large to wait."""
        if layout.n_bytes > LAYOUT_BYTES:
            self.waiting = None


def _note_use(idle: Idle) -> None:
    """Note where the layout of a plan waits; the least recently used one is dropped."""
    if _used and _used[-1]() is idle:
        return
    others = [place for place in (reference() for reference in _used) if place is not None and place is not idle]
    for place in others[: 1 - LAYOUTS]:
        place.clear()
    _used[:] = [weakref.ref(place) for place in (*others[1 - LAYOUTS :], idle)]


@dataclass(slots=True)
class PlanCache:
    """What recordings of one structure have in common.

    arrays: theirs, but for the data
    plans: by what was asked; None: it was asked before, and there is no plan yet
    """

    arrays: Tape
    plans: dict[Question, Planned | None] = field(default_factory=dict)

    def keep(self, question: Question, planned: Planned | None, is_settled: bool = True) -> None:
        """Keep a plan of the numbered recording if it is settled; else a note that it was asked for."""
        if planned is not None:
            tape, plan = planned.expansion.tape, planned.plan
            planned.places = tape.ints, plan.ints, tape.floats.astype(np.int64), plan.floats.astype(np.int64)
        if len(self.plans) >= MOST and question not in self.plans:
            self.plans.clear()
        self.plans[question] = planned if is_settled else None


def numbered(arrays: Tape) -> Tape:
    """A recording with the place of each datum instead of the datum."""
    return arrays.with_data(np.arange(arrays.ints.size), np.arange(arrays.floats.size, dtype=np.float64))
