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

from autobatch import inspection, patterns, running
from autobatch.run.execute import Run
from autobatch.run.place import check_plan
from autobatch.run.program import Plan, Schedule, Tape
from autobatch.run.schedule import check_schedule

MOST = 2000
"""Most nodes of a tape that is checked."""

Stage = Callable[..., Any]


def check_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check what the stages give, as they are now, until the patch is undone."""
    monkeypatch.setattr(running, "expand_recording", _checked_expand(running.expand_recording))
    for module in (running, inspection, patterns):
        monkeypatch.setattr(module, "schedule", _checked_schedule(module.schedule))
    last: list[Plan] = []
    for module in (running, inspection):
        monkeypatch.setattr(module, "place", _checked_place(module.place, last))
    for name in ("execute", "execute_on_device"):
        monkeypatch.setattr(running, name, _checked_execute(getattr(running, name), last))


def _is_small(tape: Tape) -> bool:
    return tape.sig.size <= MOST


def _checked_expand(expand: Stage) -> Stage:
    def checked(tape: Tape, signatures: Sequence[Any], *rest: Any) -> Any:
        if _is_small(tape):
            tape.check()
        expansion, found = expand(tape, signatures, *rest)
        if _is_small(tape) and expansion.tape is not tape:
            expansion.tape.check()
        return expansion, found

    return checked


def _checked_schedule(schedule: Stage) -> Stage:
    def checked(tape: Tape, *policy: str) -> Schedule:
        if _is_small(tape):
            tape.check()
        made: Schedule = schedule(tape, *policy)
        if _is_small(tape):
            check_schedule(tape, made)
        return made

    return checked


def _checked_place(place: Stage, last: list[Plan]) -> Stage:
    def checked(tape: Tape, launches: Schedule, keep: Any = True) -> Plan:
        plan: Plan = place(tape, launches, keep)
        if _is_small(tape):
            check_plan(tape, launches, plan, keep)
            last[:] = [plan]
        return plan

    return checked


def _checked_execute(execute: Stage, last: list[Plan]) -> Stage:
    def checked(run: Run, *rest: Any) -> None:
        just_made = bool(last) and last.pop() is run.plan
        if _is_small(run.tape) and not just_made:
            check_plan(run.tape, run.schedule, run.plan, bool((run.needs & run.schedule.live).any()))
        execute(run, *rest)

    return checked
