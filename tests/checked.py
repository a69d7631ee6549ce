"""The checks of the stages, after every stage of whatever a test runs.

    record ──> Tape ──expand──> Tape ──schedule──> Schedule ──place──> Plan ──execute──> values
             check()          check()       check_schedule()  check_plan()

`check_stages` wraps the stages where they are called from; `tests/conftest.py` does so around every test but those that
sabotage a stage and look at the numbers (marked `unchecked`). A plan that is kept is checked as it is executed, with
the data that were filled in. Checks are loops in Python: tapes of more than `MOST` nodes go unchecked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from autobatch.engine import forward as running
from autobatch.engine.forward import needed_later
from autobatch.expand import expand, patterns
from autobatch.explain import inspection
from autobatch.run.execute import Run
from autobatch.schedule.check import check_plan, check_schedule
from autobatch.schedule.structures import Plan, Schedule, Tape

MOST = 2000
"""Most nodes of a tape that is checked."""

Stage = Callable[..., Any]


def check_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check what the stages give, as they are now, until the patch is undone."""
    checks = Checks()
    monkeypatch.setattr(expand, "join_and_cut", checks.after_expand(expand.join_and_cut))
    for module in (running, inspection, patterns):
        monkeypatch.setattr(module, "schedule", checks.after_schedule(module.schedule))
    for module in (running, inspection):
        monkeypatch.setattr(module, "place", checks.after_place(module.place))
    for name in ("execute", "execute_on_device"):
        monkeypatch.setattr(running, name, checks.before_execute(getattr(running, name)))


class Checks:
    """The stages with their checks. What was checked last is not checked again by the stage that takes it."""

    def __init__(self) -> None:
        self.last_tape: Tape | None = None
        self.last_plan: Plan | None = None

    def holds(self, tape: Tape) -> bool:
        """Check a tape; whether it is small enough for that."""
        if tape.sig.size > MOST:
            return False
        if tape is not self.last_tape:
            tape.check()
            self.last_tape = tape
        return True

    def after_expand(self, expand: Stage) -> Stage:
        """`join_and_cut`, with the tapes before and after it checked."""

        def checked(tape: Tape, signatures: Sequence[Any], *rest: Any) -> Any:
            self.holds(tape)
            expansion, found = expand(tape, signatures, *rest)
            self.holds(expansion.tape)
            return expansion, found

        return checked

    def after_schedule(self, schedule: Stage) -> Stage:
        """`schedule`, with the tape and the schedule checked."""

        def checked(tape: Tape, *more: Any) -> Schedule:
            is_small = self.holds(tape)
            made: Schedule = schedule(tape, *more)
            if is_small:
                check_schedule(tape, made)
            return made

        return checked

    def after_place(self, place: Stage) -> Stage:
        """`place`, with the plan checked."""

        def checked(tape: Tape, launches: Schedule, keep: Any = True) -> Plan:
            plan: Plan = place(tape, launches, keep)
            if self.holds(tape):
                check_plan(tape, launches, plan, keep)
                self.last_plan = plan
            return plan

        return checked

    def before_execute(self, execute: Stage) -> Stage:
        """`execute`, with the plan checked if it was kept from earlier."""

        def checked(run: Run, *rest: Any) -> None:
            if run.plan is not self.last_plan and self.holds(run.tape):
                check_plan(run.tape, run.schedule, run.plan, needed_later(run.tape, run.needs))
            self.last_plan = None  # its data may be filled in anew
            execute(run, *rest)

        return checked
