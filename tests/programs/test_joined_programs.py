"""Random programs whose recurring runs are joined, however few: batched equals one by one, values and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autobatch as ab
from autobatch.expand import expand, patterns
from autobatch.expand import find as recurring
from tests import requested
from tests.found_cells import forget
from tests.programs.drawing import CELLS, EVERYTHING, GRADS, PLAIN, Model, Program, programs
from tests.programs.test_random_programs import check_against_loop


@pytest.fixture(autouse=True)
def join_whatever_recurs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(patterns, "MIN_NODES", 2)
    monkeypatch.setattr(patterns, "SEARCHES", 1 << 30)
    monkeypatch.setattr(patterns, "effort", patterns._Effort(recorded=1 << 40))
    monkeypatch.setattr(patterns, "_useful", lambda tape, signatures, found: list(found))
    monkeypatch.setattr(recurring, "MIN_SHARE", 0.0)
    monkeypatch.setattr(recurring._Search, "_pays", lambda *_: True)
    ab.set_default_dtype("float64")
    yield
    ab.set_default_dtype("float32")
    forget()


def check(program: Program, often: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Hold a program equal to its loop; how many of its nodes were joined."""
    forget()
    monkeypatch.setattr(recurring, "MIN_TIMES", often)
    joined = [0]
    original = expand.join_and_cut

    def counted(tape: Any, *rest: Any) -> Any:
        expansion, found = original(tape, *rest)
        members = np.array([len(s.members) for s in found])
        joined[0] += int(members[expansion.tape.sig].sum())
        return expansion, found

    with monkeypatch.context() as patch:
        patch.setattr(expand, "join_and_cut", counted)
        check_against_loop(program, Model())
    return joined[0]


@pytest.mark.parametrize(
    ("name", "drawn", "examples"),
    [
        ("ops", programs(EVERYTHING, 20), 100),
        ("cells", programs(EVERYTHING | CELLS), 40),
        ("derivatives", programs(PLAIN | CELLS | GRADS), 40),
    ],
)
def test_joined_equals_loop(name: str, drawn: Any, examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ab.set_backend(requested.backend("numpy"))
    joined = [0]

    @settings(max_examples=requested.fewer(examples))
    @given(drawn, st.integers(1, 2))
    def hold(program: Program, often: int) -> None:
        joined[0] += check(program, often, monkeypatch)

    hold()
    assert joined[0] > 10 * requested.fewer(examples)


def test_joined_equals_loop_in_compiled_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    joined = [0]

    @settings(max_examples=6)
    @given(programs(EVERYTHING, 8))
    def hold(program: Program) -> None:
        joined[0] += check(program, 1, monkeypatch)

    hold()
    assert joined[0] > 20
