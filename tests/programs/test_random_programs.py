"""Random programs: batched equals one by one, both equal central differences, and the two backward passes agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import autobatch as ab
from tests import requested
from tests.nested import leaves
from tests.programs.drawing import CELLS, EVERYTHING, GRADS, PLAIN, Model, Program, programs, run, with_kinks

pytestmark = pytest.mark.usefixtures("numpy_in_float64")

Gradients = dict[str, Any]


def outcome(program: Program, model: Model, batched: bool, cells: bool = True) -> tuple[list[Any], Gradients]:
    """Losses and returned values, and all gradients."""
    return outcomes(lambda e: run(program.routines[e.routine], model, e, cells), program.examples, model, batched)


def outcomes(
    fn: Callable[[Any], Any], examples: Sequence[Any], model: Any, batched: bool
) -> tuple[list[Any], Gradients]:
    """What a function gives for examples, a loss and values for each, and all gradients of the losses' sum."""
    ab.seed(7)
    for p in model.parameters():
        p.grad = None
    results = ab.map(fn, examples, batched=batched)
    nothing = model.number * 0.0  # some programs read no parameter, and have nothing to reverse
    (ab.sum([loss for loss, _ in results]) + nothing).backward()
    gradients = {}
    for name, p in model.named_parameters():
        g = p.grad
        gradients[name] = np.zeros(p.shape) if g is None else requested.host(g)
    return ab.evaluate(results), gradients


def equal(a: Any, b: Any, tolerance: float, what: str) -> None:
    assert a.shape == b.shape, what
    assert np.isfinite(b).all(), what
    assert np.abs(a - b).max(initial=0.0) <= tolerance * (1 + np.abs(b).max(initial=0.0)), f"{what}:\n{a}\n{b}"


def check_against_loop(program: Program, model: Model, cells_in_loop: bool = True) -> Gradients:
    """Batched results and gradients equal those of the loop."""
    values, gradients = outcome(program, model, batched=True)
    expected, wanted = outcome(program, model, batched=False, cells=cells_in_loop)
    for a, b in zip(*(map(np.asarray, leaves(x)) for x in (values, expected)), strict=True):
        equal(a, b, 1e-10, "a value")
    for name, g in wanted.items():
        equal(gradients[name], g, 1e-8, f"the gradient of {name}")
    return gradients


def total(program: Program, model: Model) -> float:
    ab.seed(7)
    with ab.no_grad():
        losses = ab.map(lambda e: run(program.routines[e.routine], model, e)[0], program.examples)
        return float(ab.sum(losses))


def check_against_differences(program: Program, model: Model, gradients: Gradients) -> None:
    """Two entries of each gradient equal central differences of fourth order."""
    step = 1e-3
    for name, p in model.named_parameters():
        original = requested.host(p.value).copy()
        for entry in (0, original.size // 2):
            at = np.unravel_index(entry, original.shape)
            sums = []
            for k in (-2, -1, 1, 2):
                changed = original.copy()
                changed[at] += k * step
                p.value = changed
                sums.append(total(program, model))
            p.value = original
            slope = (sums[0] - 8 * sums[1] + 8 * sums[2] - sums[3]) / (12 * step)
            # the differences are right to about 1e-9 times the fifth derivative
            assert abs(slope - gradients[name][at]) <= 1e-6 * (1 + abs(slope)), (name, at, slope, gradients[name][at])


@settings(max_examples=requested.fewer(150))
@given(programs(EVERYTHING))
def test_ops_batched_equal_loop(program: Program) -> None:
    check_against_loop(program, Model())


@settings(max_examples=requested.fewer(30))
@given(programs(PLAIN, 10))
def test_gradients_equal_differences(program: Program) -> None:
    model = Model()
    gradients = check_against_loop(program, model)
    if not with_kinks(program):
        check_against_differences(program, model, gradients)


@settings(max_examples=requested.fewer(60))
@given(programs(EVERYTHING | CELLS))
def test_cells_batched_equal_loop_without_cells(program: Program) -> None:
    check_against_loop(program, Model(), cells_in_loop=False)


@settings(max_examples=requested.fewer(12))
@given(programs(EVERYTHING | CELLS))
def test_plans_that_are_kept_are_those_of_the_loop(program: Program) -> None:
    model = Model()
    for k in range(4):  # one structure, other numbers: the third time it is looked up
        examples = tuple(
            replace(e, label=(e.label + k) % 3, factor=e.factor + k, own=tuple(x - 0.1 * k for x in e.own))
            for e in program.examples
        )
        check_against_loop(replace(program, examples=examples), model)


@settings(max_examples=requested.fewer(60))
@given(programs(PLAIN | CELLS | GRADS))
def test_inner_gradients_batched_equal_loop(program: Program) -> None:
    check_against_loop(program, Model())


@settings(max_examples=requested.fewer(20))
@given(programs(PLAIN | CELLS | GRADS, 8))
def test_gradients_through_inner_gradients_equal_differences(program: Program) -> None:
    model = Model()
    _, gradients = outcome(program, model, batched=True)
    if not with_kinks(program):
        check_against_differences(program, model, gradients)


@settings(max_examples=requested.fewer(40))
@given(programs(EVERYTHING - {"force"} | CELLS | GRADS))
def test_the_two_backward_passes_agree(program: Program) -> None:
    model = Model()
    _, wanted = outcome(program, model, batched=True)
    ab.seed(7)
    derivatives = ab.map(
        lambda e: ab.grad(lambda m: run(program.routines[e.routine], m, e)[0])(model), program.examples
    )
    found = ab.evaluate(derivatives)
    for name, g in wanted.items():
        equal(np.sum([d[name] for d in found], axis=0), g, 1e-8, f"the gradient of {name}")


def test_a_derivative_under_no_grad_is_a_constant() -> None:
    w = ab.Parameter(3.0)
    with ab.no_grad():
        value, slope = ab.value_and_grad(lambda x: x * x * w)(ab.tensor(2.0))
    assert (float(value), float(slope)) == (12.0, 12.0)
    (slope * w).backward()
    assert float(w.grad) == 12.0


def test_what_was_computed_before_is_constant_to_a_derivative() -> None:
    w = ab.Parameter([1.0, 2.0])
    for before in (ab.tensor([3.0, 4.0]) * w, ab.stack([w])[0] * ab.tensor([3.0, 4.0])):
        slope = ab.grad(lambda v, y=before: (y * v).sum() + ab.stack([v]).sum())(w)
        np.testing.assert_array_equal(slope.numpy(), [4.0, 9.0])


def test_a_shared_operand_of_rows_has_one_derivative_for_each_example() -> None:
    table, w = ab.Parameter(np.ones((3, 2))), ab.Parameter([1.0, 2.0])
    slopes = ab.map(lambda ids: ab.grad(lambda v: (table[ids] * v + v).sum())(w), [[0, 1], [2], [0, 1, 2]])
    np.testing.assert_array_equal(ab.evaluate(slopes), [[4.0, 4.0], [2.0, 2.0], [6.0, 6.0]])
