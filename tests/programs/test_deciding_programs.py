"""Random programs that go on by their own values: batched they decide and compute what the loop does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autobatch as ab
from tests import requested
from tests.programs.deciding import Block, Example, Model, blocks, examples, run

pytestmark = pytest.mark.usefixtures("numpy_in_float64")


def outcome(block: Block, drawn: list[Example], cells: bool = True, **options: Any) -> tuple[list[Any], dict[str, Any]]:
    """(loss, decisions) of each example, and the gradients of their sum."""
    ab.seed(3)
    model = Model()
    found = ab.map(lambda example: run(model, block, example, cells), drawn, **options)
    ab.sum([loss for loss, _ in found]).backward()
    gradients = {}
    for name, parameter in model.named_parameters():
        gradient = requested.host(parameter.grad)
        gradients[name] = np.zeros(parameter.shape) if gradient is None else gradient
    return [(float(loss), decided) for loss, decided in found], gradients


def assert_equal(found: tuple[list[Any], dict[str, Any]], expected: tuple[list[Any], dict[str, Any]]) -> None:
    for (loss, decided), (wanted, decisions) in zip(found[0], expected[0], strict=True):
        assert_same_decisions(decided, decisions)
        assert abs(loss - wanted) <= 1e-10 * (1 + abs(wanted))
    for name, gradient in expected[1].items():
        assert np.isfinite(gradient).all()
        assert np.abs(found[1][name] - gradient).max() <= 1e-8 * (1 + np.abs(gradient).max()), name


def assert_same_decisions(found: Any, expected: Any) -> None:
    """Numbers may be rounded differently, all else is equal."""
    assert type(found) is type(expected)
    if isinstance(expected, list):
        for a, b in zip(found, expected, strict=True):
            assert_same_decisions(a, b)
    else:
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(max_examples=requested.fewer(50))
@given(blocks(), examples(), st.booleans())
def test_batched_equals_loop(block: Block, drawn: list[Example], cells_in_loop: bool) -> None:
    assert_equal(outcome(block, drawn), outcome(block, drawn, cells_in_loop, batched=False))


@settings(max_examples=requested.fewer(20))
@given(blocks(), examples(), st.integers(1, 4))
def test_few_at_once_equal_loop(block: Block, drawn: list[Example], at_once: int) -> None:
    assert_equal(outcome(block, drawn, at_once=at_once), outcome(block, drawn, batched=False))


@settings(max_examples=requested.fewer(20))
@given(blocks(), examples())
def test_no_example_depends_on_the_others(block: Block, drawn: list[Example]) -> None:
    """Each example decides and computes what it does beside others that stop at once."""
    together, _ = outcome(block, drawn)
    alone, _ = outcome(block, [*drawn[:-1], Example((), 0)])
    assert_equal((together[:-1], {}), (alone[:-1], {}))
