"""Random programs over rows of any number: batched equals one by one, in values, gradients and second gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings

import autobatch as ab
from tests import requested
from tests.programs.drawing_rows import CELLS, EVERYTHING, NOT_TWICE, programs
from tests.programs.row_programs import Example, Model, Program, run
from tests.programs.test_random_programs import Gradients, equal, leaves, outcomes

pytestmark = pytest.mark.usefixtures("numpy_in_float64")


Loss = Callable[[Program, Model, Example], Any]


def plain(program: Program, model: Model, example: Example) -> Any:
    """Loss and returned values."""
    return run(program, model, example)


def squared_gradient(program: Program, model: Model, example: Example) -> Any:
    """The gradient of the first value, summed after a tanh, and the gradient itself."""
    first = ab.tensor(example.array(*program.steps[0].rest))
    loss, gradient = ab.value_and_grad(lambda x: run(program, model, example, x)[0])(first)
    return loss * 0.1 + (ab.tanh(gradient) * gradient).sum(), [gradient]


def outcome(
    program: Program, examples: Sequence[Example], loss: Loss, model: Model, batched: bool
) -> tuple[list[Any], Gradients]:
    """Losses and returned values, and all gradients."""
    return outcomes(lambda e: loss(program, model, e), examples, model, batched)


def check_against_loop(program: Program, loss: Loss = plain) -> None:
    """Examples of one length come first, then all: how values are laid out may depend on which lengths were met."""
    model = Model()
    for examples in (program.examples[:1] * 2, program.examples, program.examples[::-1]):
        values, gradients = outcome(program, examples, loss, model, batched=True)
        expected, wanted = outcome(program, examples, loss, model, batched=False)
        for a, b in zip(leaves(values), leaves(expected), strict=True):
            equal(a, b, 1e-10, "a value")
        for name, g in wanted.items():
            equal(gradients[name], g, 1e-8, f"the gradient of {name}")


@settings(max_examples=requested.fewer(40))
@given(programs(EVERYTHING - CELLS))
def test_ops_batched_equal_loop(program: Program) -> None:
    check_against_loop(program)


@settings(max_examples=requested.fewer(15))
@given(programs(EVERYTHING))
def test_cells_batched_equal_loop(program: Program) -> None:
    check_against_loop(program)


@settings(max_examples=requested.fewer(15))
@given(programs(EVERYTHING - NOT_TWICE, 8))
def test_second_gradients_batched_equal_loop(program: Program) -> None:
    check_against_loop(program, squared_gradient)
