"""The checks around every stage run in every test: a stage that gives something wrong fails whatever test meets it.

Stages are spoiled from inside, so that it is the patch of `tests/conftest.py` that has to see it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.errors import CompilerBug
from autobatch.record import assemble
from autobatch.run import kept_plans as planned
from autobatch.schedule import place, schedule
from autobatch.schedule.structures import Expansion
from tests import checked

TABLE = np.random.default_rng(0).normal(size=(5, 3))


def losses(table: Any, words: list[int], batched: bool = True) -> Any:
    """Two launches that depend on each other, the second of which reads a list and a number of each example."""

    def one(word: int) -> Any:
        x = ab.tanh(table[word])
        return (ab.sum([x, x * (1.0 + word)]) * table[0]).sum()

    return ab.sum(ab.map(one, words, batched=batched))


def run(batched: bool = True) -> None:
    table = ab.Parameter(TABLE, "float64")
    with ab.backend("numpy"):
        losses(table, [1, 2, 0, 3], batched).backward()


def parse_backwards(*args: Any) -> tuple[int, int]:
    n_slots, n_args = _PARSE(*args)
    args[9][:n_args] = args[9][:n_args][::-1].copy()  # what nodes read
    return n_slots, n_args


def roll(of: Callable[..., Any], which: int) -> Callable[..., Any]:
    """A function with one of its results turned by one place."""

    def spoiled(*args: Any) -> Any:
        made = list(of(*args))
        made[which] = np.roll(made[which], 1)
        return tuple(made)

    return spoiled


_PARSE = assemble._parse

SPOILED = {
    "the tape": (assemble, "_parse", parse_backwards, "record: "),
    "the launches": (schedule, "_gather", roll(schedule._gather, 0), "schedule: "),
    "what is live": (schedule, "_gather", roll(schedule._gather, 2), "schedule: "),
    "rows that are read": (place, "_read", roll(place._read, 0), "place: "),
    "rows that are written": (place, "_write", roll(place._write, 1), "place: "),
    "data of the launches": (place, "_columns", roll(place._columns, 1), "place: "),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_spoiled_stage_is_seen(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, spoiled, message = SPOILED[what]
    run()
    monkeypatch.setattr(module, name, spoiled)
    with pytest.raises(CompilerBug, match=message):
        run()


@pytest.mark.parametrize("what", ["the tape", "the launches"])
def test_a_spoiled_stage_is_seen_in_the_loop(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, spoiled, message = SPOILED[what]
    run(batched=False)
    monkeypatch.setattr(module, name, spoiled)
    with pytest.raises(CompilerBug, match=message):
        run(batched=False)


def test_a_tape_that_expansion_spoils_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(first: Expansion, second: Expansion) -> Expansion:
        both = then(first, second)
        return replace(both, tape=replace(both.tape, args=both.tape.args[::-1].copy()))

    then = Expansion.then
    run()
    monkeypatch.setattr(Expansion, "then", spoiled)
    with pytest.raises(CompilerBug, match="record: "):
        run()


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_spoiled_data_of_a_kept_plan_are_seen(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = ab.Parameter(TABLE, "float64")

    def steps() -> None:
        for words in ([1, 2, 0, 3], [2, 4, 1, 0], [3, 3, 0, 1], [4, 1, 2, 3]):
            losses(table, words).backward()

    def spoiled(self: Any, asked: Any, found: Any, *more: Any) -> None:
        keep(self, asked, found, *more)
        if found is not None:
            ints, planned_ints, *rest = found.places
            found.places = ints, np.roll(planned_ints, 1), *rest

    keep = planned.PlanCache.keep
    with ab.backend(backend):
        steps()
        table = ab.Parameter(TABLE, "float64")
        monkeypatch.setattr(planned.PlanCache, "keep", spoiled)
        with pytest.raises(CompilerBug, match="has other data"):
            steps()


@pytest.mark.unchecked
def test_a_marked_test_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, spoiled, _ = SPOILED["data of the launches"]
    with monkeypatch.context() as patch:
        patch.setattr(module, name, spoiled)
        run()
    checked.check_stages(monkeypatch)
    monkeypatch.setattr(module, name, spoiled)
    with pytest.raises(CompilerBug):
        run()


def test_tapes_beyond_the_limit_run_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, spoiled, _ = SPOILED["data of the launches"]
    monkeypatch.setattr(module, name, spoiled)
    with pytest.raises(CompilerBug):
        run()
    monkeypatch.setattr(checked, "MOST", 3)
    run()
