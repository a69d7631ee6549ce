"""Wrong rules, wrong schedules and wrong plans are caught by the checks that the right ones pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from autobatch.base.types import tensor_type
from autobatch.engine import forward as running
from autobatch.errors import CompilerBug
from autobatch.ops import OPS, Op, Sample, apply
from autobatch.ops.elementwise import ABS, ADD, MAXIMUM, MUL, WHERE
from autobatch.ops.functions import EXP, POWER_OF, SIGMOID, TANH
from autobatch.ops.index import TAKE
from autobatch.ops.linalg import PRODUCT
from autobatch.ops.movement import CONCAT, SLICE, TRANSPOSE
from autobatch.ops.reduce import LIST_MAX, LIST_SUM, MAX, SPREAD, SUM
from autobatch.schedule.check import check_schedule
from autobatch.schedule.place import place
from autobatch.schedule.schedule import schedule
from tests.ops.checks import cases, check_batched, check_types, check_vjp, default, has_floats, masks, trace

Change = dict[str, Any]


def wrong(op: Op, **changes: Any) -> Op:
    """A copy of an op, not in the table, under a name that no kernel is kept for."""
    return dataclasses.replace(op, name=f"wrong_{op.name}", **changes)


def smooth(op: Op) -> list[Sample]:
    return [case.sample for case in cases(op) if case.sample.smooth and case.sample.error is None]


def derivative_holds(op: Op, samples: list[Sample], order: int = 1) -> None:
    with default("float64"):
        for sample in samples:
            check_vjp(trace(op, sample.operands, sample.attrs), sample.operands, order)


def types_hold(op: Op) -> None:
    with default("float32"):
        for sample in smooth(op):
            operands = [x.astype(np.float32) for x in sample.operands]
            check_types(trace(op, operands, sample.attrs), operands)


VJPS: dict[str, tuple[Op, Callable[..., Any]]] = {
    "off by a twentieth of a percent": (TANH, lambda g, y, x, a: (g * (1.0 - y * y) * 1.0005,)),
    "operands swapped": (MUL, lambda g, y, x, a: (g * x[0], g * x[1])),
    "second operand forgotten": (MUL, lambda g, y, x, a: (g * x[1], None)),
    "sign lost": (ABS, lambda g, y, x, a: (g,)),
    "exponent not lowered": (POWER_OF, lambda g, y, x, a: (g * a[0] * y,)),
    "not transposed": (PRODUCT, lambda g, y, x, a: (g * 0.0 + 1.0, None)),
    "the other branch": (WHERE, lambda g, y, x, a: (None, apply(WHERE, (x[0], 0.0, g)), apply(WHERE, (x[0], g, 0.0)))),
    "sum averaged": (SUM, lambda g, y, x, a: SUM.vjp and (SUM.vjp(g, y, x, a)[0] * 0.5,)),
    "given to all": (MAX, lambda g, y, x, a: SUM.vjp and SUM.vjp(g, y, x, a)),
    "larger for smaller": (MAXIMUM, lambda g, y, x, a: MAXIMUM.vjp and MAXIMUM.vjp(g, y, x, a)[::-1]),
    "list given once": (LIST_SUM, lambda g, y, x, a: (apply(SPREAD, (g * 0.5,), a),)),
    "maximum of a list given to all": (LIST_MAX, lambda g, y, x, a: (apply(SPREAD, (g,), a),)),
    "same order of axes": (TRANSPOSE, lambda g, y, x, a: (apply(TRANSPOSE, (g,), a),)),
}


@pytest.mark.parametrize("name", VJPS)
def test_wrong_derivative_is_caught(name: str) -> None:
    op, vjp = VJPS[name]
    samples = [sample for sample in smooth(op) if has_floats(sample.operands)]
    derivative_holds(op, samples)
    with pytest.raises((AssertionError, CompilerBug, ValueError)):
        derivative_holds(wrong(op, vjp=vjp), samples)


def test_derivative_that_is_right_once_only_is_caught_at_second_order() -> None:
    def constant_slope(g: Any, y: Any, x: Any, a: Any) -> Any:
        return (g * (1.0 - y.detach() * y.detach()),)

    samples = smooth(TANH)
    derivative_holds(wrong(TANH, vjp=constant_slope), samples)
    derivative_holds(TANH, samples, order=2)
    with pytest.raises(AssertionError):
        derivative_holds(wrong(TANH, vjp=constant_slope), samples, order=2)


TYPES: dict[str, tuple[Op, Change]] = {
    "wider than said": (EXP, {"numpy": lambda x: np.exp(x.astype(np.float64))}),
    "axis kept": (SUM, {"numpy": lambda x, axes, keepdims: np.sum(x, axes, keepdims=True)}),
    "transposed not": (TRANSPOSE, {"infer": lambda types, attrs: types[0]}),
    "half as long": (CONCAT, {"infer": lambda types, attrs: tensor_type(types[0].dtype, types[0].shape)}),
}


@pytest.mark.parametrize("name", TYPES)
def test_wrong_type_is_caught(name: str) -> None:
    op, changes = TYPES[name]
    types_hold(op)
    with pytest.raises((AssertionError, CompilerBug)):
        types_hold(wrong(op, **changes))


BATCHING: dict[str, tuple[Op, Change, Sample]] = {
    "ranks not aligned": (ADD, {"batch": "axes", "lead": None}, Sample((np.ones((7, 2)), np.arange(2.0)))),
    "axes not moved": (TRANSPOSE, {"batch": "reshape"}, Sample((np.arange(6.0).reshape(3, 2),), ((1, 0),))),
    "rows of the first table": (TAKE, {"batch": "axes"}, Sample((np.arange(6.0).reshape(3, 2), np.array([2, 0])))),
    "axes carried that are mixed": (
        MAX,
        {"lead": lambda ndims, shared, attrs: (True,), "over_list": None},
        Sample((np.arange(18.0).reshape(3, 3, 2),), ((-3,), False)),
    ),
    "slice of the nodes": (SLICE, {"batch": "broadcast"}, Sample((np.arange(6.0),), (-1, 1, 3, 1))),
}


@pytest.mark.parametrize("name", BATCHING)
def test_wrong_batching_rule_is_caught(name: str) -> None:
    op, changes, sample = BATCHING[name]
    shared = masks(sample)[0]
    check_batched(op, sample, 7, shared, "float64", "numpy")
    with pytest.raises(Exception):  # noqa: B017 - a wrong rule may also stop the library
        check_batched(wrong(op, **changes), sample, 7, shared, "float64", "numpy")


@pytest.mark.parametrize(
    ("op", "scalar"),
    [(TANH, "tanh({0}) * 1.001"), (MUL, "{0} * {0}"), (SIGMOID, "tanh({0})"), (MAXIMUM, "minimum({0}, {1})")],
    ids=str,
)
def test_wrong_scalar_expression_is_caught(op: Op, scalar: str) -> None:
    sample = smooth(op)[0]
    check_batched(op, sample, 7, masks(sample)[0], "float32", "numba")
    with pytest.raises(AssertionError):
        check_batched(wrong(op, scalar=scalar), sample, 7, masks(sample)[0], "float32", "numba")


def test_a_maximum_that_forgets_nan_is_caught() -> None:
    special = next(case.sample for case in cases(MAXIMUM) if not case.sample.smooth and case.sample.error is None)
    check_batched(MAXIMUM, special, 7, (False, False), "float32", "numba")
    bad = wrong(MAXIMUM, scalar="{0} if {0} > {1} else {1}")
    with pytest.raises(AssertionError):
        check_batched(bad, special, 7, (False, False), "float32", "numba")


def backwards(tape: Any) -> Any:
    """The launches in reverse order."""
    right = schedule(tape)
    sizes = np.diff(right.launch_of)[::-1]
    parts = np.split(right.nodes, right.launch_of[1:-1])[::-1]
    return dataclasses.replace(
        right,
        nodes=np.concatenate(parts).astype(right.nodes.dtype),
        launch_sig=right.launch_sig[::-1].copy(),
        launch_of=np.concatenate([[0], np.cumsum(sizes)]).astype(right.launch_of.dtype),
    )


def one_missing(tape: Any) -> Any:
    """The last launch is forgotten."""
    right = schedule(tape)
    return dataclasses.replace(
        right,
        nodes=right.nodes[: right.launch_of[-2]],
        launch_of=right.launch_of[:-1],
        launch_sig=right.launch_sig[:-1],
    )


@pytest.mark.unchecked
@pytest.mark.parametrize("sabotage", [backwards, one_missing])
def test_wrong_schedule_is_caught(sabotage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def spoil(tape: Any, *more: Any) -> Any:
        seen.append((tape, sabotage(tape)))
        return seen[-1][1]

    softmax_holds()
    monkeypatch.setattr(running, "schedule", spoil)
    with pytest.raises(Exception):  # noqa: B017 - wrong numbers, or the plan cannot be made
        softmax_holds()
    tape, wrong_one = seen[0]
    check_schedule(tape, schedule(tape))
    with pytest.raises(CompilerBug):
        check_schedule(tape, wrong_one)


@pytest.mark.unchecked
def test_wrong_rows_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(*args: Any) -> Any:
        plan = place(*args)
        return dataclasses.replace(plan, rows=np.roll(plan.rows, 1), block=np.full_like(plan.block, -1))

    softmax_holds()
    monkeypatch.setattr(running, "place", spoil)
    with pytest.raises(AssertionError):
        softmax_holds()


def softmax_holds() -> None:
    sample = smooth(OPS["softmax"])[0]
    check_batched(OPS["softmax"], sample, 7, masks(sample)[0], "float64", "numpy")
