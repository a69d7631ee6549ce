"""The programs that go on by their own values: batched, one by one and in PyTorch they decide and compute the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from benchmarks.decisions import PROGRAMS, table
from benchmarks.decisions.program import Outcome, Program, gradients_of
from tests import requested

pytestmark = [pytest.mark.unchecked, pytest.mark.usefixtures("numpy_in_float64")]
NAMES = [program.title for program in PROGRAMS]
OF_NAME = dict(zip(NAMES, PROGRAMS, strict=True))


def numbers(nested: Any) -> Iterator[Any]:
    """What is decided, in order, as NumPy has it."""
    if isinstance(nested, list | tuple):
        for part in nested:
            yield from numbers(part)
    elif nested is not None:
        yield np.asarray(nested.detach() if hasattr(nested, "detach") else requested.host(nested))


def assert_same(found: list[Outcome], expected: list[Outcome], tolerance: float) -> None:
    """Losses and decisions are equal, whole numbers exactly."""
    for mine, other in zip(found, expected, strict=True):
        for a, b in zip(numbers(mine), numbers(other), strict=True):
            assert a.shape == b.shape and np.isfinite(b).all()
            limit = tolerance * (1.0 + np.abs(b).max(initial=0.0)) if b.dtype.kind == "f" else 0
            assert np.abs(a - b).max(initial=0.0) <= limit, (mine, other)


def assert_gradients(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = 1.0 + np.abs(gradient).max(initial=0.0)
        assert np.abs(found[name] - gradient).max(initial=0.0) <= 1e-8 * scale, name


LAUNCHES = {
    "parser, own decisions": 130,
    "parser, parsing": 120,
    "beam search, width 3": 40,
    "beam search, width 4": 40,
    "minimum risk, width 3": 65,
    "early exit": 30,
    "REINFORCE": 96,
    "adaptive ODE solver": 25,
}
"""At most so many for the minibatch that is timed: nearly as many as its longest example takes alone."""


@pytest.mark.parametrize("name", LAUNCHES)
def test_launches(name: str) -> None:
    program = OF_NAME[name]
    forced, launches = table.counts(program, program.examples(program.n_examples))
    assert forced > program.n_examples
    assert launches <= LAUNCHES[name]


@pytest.mark.parametrize("name", NAMES)
def test_batched_equals_one_by_one(name: str) -> None:
    program: Program = OF_NAME[name]
    model, examples = program.model(), program.examples(5)
    found = program.outcomes(model, examples, batched=True)
    gradients = gradients_of(model)
    assert_same(found, program.outcomes(model, examples, batched=False), 1e-10)
    if program.trains:
        assert any(np.abs(g).max(initial=0.0) > 0 for g in gradients.values())
        assert_gradients(gradients, gradients_of(model))


@pytest.mark.parametrize("name", NAMES)
def test_batched_equals_pytorch(name: str) -> None:
    pytest.importorskip("torch")
    program: Program = OF_NAME[name]
    model, examples = program.model(), program.examples(5)
    twin = program.twin(model)
    assert_same(program.outcomes(model, examples, batched=True), program.twins_outcomes(twin, examples), 1e-8)
    if program.trains:
        assert_gradients(gradients_of(model), twin.gradients())


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    ab.set_default_dtype("float32")
    assert table.main(["early_exit", "--quick"]) == 0
    printed = capsys.readouterr().out
    assert "early exit" in printed
    assert "FAILED" not in printed
