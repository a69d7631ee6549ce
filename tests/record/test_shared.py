"""Values of parameters and constants alone: they see the numbers they were made with, and are reversed once."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import weakref
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn, optim
from autobatch.errors import NonFiniteError, RecordingError
from autobatch.record.parameter import move, replace
from autobatch.record.shared import Expression
from tests.requested import host

CHANGES = {
    "assigned": lambda w: setattr(w, "value", np.array([5.0, 6.0])),
    "a step": lambda w: (setattr(w, "grad", np.array([-4.0, -4.0], np.float32)), optim.SGD([w], 1.0).step()),
    "loaded": lambda w: replace([(w, np.array([5.0, 6.0]))]),
}
changes = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)

VALUES = {
    "penalty": lambda w: (w * w).sum(),
    "mean of one": lambda w: ab.mean([w]),
    "sum of one": lambda w: ab.sum([w]),
    "transposed": lambda w: ab.reshape(w, (1, 2)).T,
    "transposed vector": lambda w: w.T,
    "scaled": lambda w: w * 0.9 + 0.1,
    "detached": lambda w: w.detach(),
    "reshaped": lambda w: ab.reshape(w, (2, 1)),
    "row": lambda w: w[1],
    "with a constant": lambda w: w * ab.ones(2),
    "stacked": lambda w: ab.stack([w, w]),
}
values = pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)


@changes
@values
def test_a_value_keeps_the_numbers_it_was_made_with(value: Any, change: Any) -> None:
    w = ab.Parameter([1.0, 2.0])
    before = value(ab.Parameter([1.0, 2.0])).numpy()
    held, read = value(w), value(w).numpy()
    assert np.array_equal(read, before)
    change(w)
    assert np.array_equal(held.numpy(), before)
    assert np.array_equal((held * 1.0).numpy(), before)
    assert np.array_equal((held * ab.tensor(1.0)).numpy(), before)
    assert np.array_equal(value(w).numpy(), value(ab.Parameter([5.0, 6.0])).numpy())
    change(w)
    assert np.array_equal(held.numpy(), before)


@values
def test_numbers_stay_through_several_changes(value: Any) -> None:
    w = ab.Parameter([1.0, 2.0])
    held = value(w)
    before = held.numpy()
    w.value = np.array([3.0, 4.0])
    w.value = np.array([5.0, 6.0])
    assert np.array_equal(held.numpy(), before)


def test_values_of_two_parameters_follow_either() -> None:
    a, b = ab.Parameter([1.0]), ab.Parameter([2.0])
    first = a * b + b
    a.value = np.array([3.0])
    second = a * b + b
    b.value = np.array([4.0])
    assert [float(x) for x in (first, second, a * b + b)] == [4.0, 8.0, 16.0]


@changes
def test_reversing_what_has_changed_raises(change: Any) -> None:
    w = ab.Parameter([1.0, 2.0])
    penalty = (w * w).sum()
    change(w)
    w.grad = None
    for loss in (lambda: penalty, lambda: penalty * 2.0, lambda: penalty + ab.tensor(1.0)):
        with pytest.raises(RecordingError, match=r"changed since(.|\n)*test_shared\.py"):
            loss().backward()
    assert w.grad is None
    (penalty.detach() * w.sum()).backward()
    assert np.array_equal(w.grad, [5.0, 5.0])


def test_a_second_backward_raises_unless_the_first_retains() -> None:
    w = ab.Parameter([1.0, 2.0])
    penalty = (w * w).sum()
    penalty.backward(retain=True)
    penalty.backward()
    assert np.array_equal(w.grad, [4.0, 8.0])
    with pytest.raises(RecordingError, match="reversed before"):
        penalty.backward()
    assert float(penalty) == 5.0
    (w * w).sum().backward()
    assert np.array_equal(w.grad, [6.0, 12.0])


def test_a_frozen_value_is_a_constant() -> None:
    w = ab.Parameter([1.0, 2.0])
    with ab.no_grad():
        target = w * 2.0
    w.value = np.array([3.0, 4.0])
    ((w - target) ** 2).sum().backward()
    assert np.array_equal(w.grad, [2.0, 0.0])


def test_a_loop_computes_nothing_anew_that_depends_on_shapes_alone() -> None:
    w = ab.Parameter(np.eye(2))
    ops, kept = set(), []
    for _ in range(4):
        decay = (w * w).sum() * 0.1
        kept.append(decay)
        loss = ab.mean(ab.map(lambda x: (ab.tensor(x) @ w.T).sum(), [[1.0, 2.0], [3.0, 4.0]])) + decay
        signatures = set(map(id, w._expressions.values()))
        loss.backward()
        ops.add(frozenset(signatures))
        w.value = w.value * 0.5
    assert len(ops) == 1
    assert [float(x) for x in kept] == pytest.approx([0.2, 0.05, 0.0125, 0.003125])


def test_a_value_that_nobody_holds_is_not_computed_when_parameters_change() -> None:
    w = ab.Parameter(np.eye(2))
    (ab.tensor([1.0, 2.0]) @ w.T).sum().backward()
    unheld, held = weakref.ref(w.T), w * 2.0
    optim.SGD([w], 0.5).step()
    assert unheld() is w.T
    assert held is not w * 2.0


def test_values_hold_no_dropped_parameter_and_dropped_parameters_hold_no_memory() -> None:
    lasting, ones = ab.Parameter(np.ones(3)), ab.ones(3)
    gone = []
    for _ in range(3):
        w = ab.Parameter(np.ones(3))
        loss = (w * ones).sum() + (lasting * w).sum() + ab.mean([w]).sum()
        loss.backward()
        (ab.tensor([1.0, 2.0, 3.0]) * (w * lasting)).sum().backward()
        (ab.where(ab.tensor([1.0, 2.0, 3.0]) > 1.5, ones, w) * ab.where(ab.tensor(1.0) > 0.5, lasting, w)).sum().numpy()
        gone.append(weakref.ref(w))
    kept = loss
    del w, loss
    gc.collect()
    assert [r() for r in gone] == [None, None, None]
    assert float(kept) == 9.0


def test_the_first_number_that_is_not_finite_is_found() -> None:
    w = ab.Parameter([0.0, 1.0])
    at_line = r"log: the first value that is not finite: -inf(.|\n)*test_shared\.py"
    with pytest.raises(NonFiniteError, match=at_line), ab.check_finite():
        float(ab.log(w).sum())
    with pytest.raises(NonFiniteError, match="sqrt: the first gradient that is not finite: inf"), ab.check_finite():
        ab.sum(ab.sqrt(w)).backward()
    assert w.grad is None


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies(twin_of: Any) -> None:
    w = ab.Parameter([1.0, 2.0])
    assert np.array_equal(twin_of(w.detach() * 2.0).numpy(), [2.0, 4.0])
    with pytest.raises(RecordingError, match="detach"):
        twin_of(w * 2.0)


def test_moving_a_parameter_leaves_values_as_they_are() -> None:
    w = ab.Parameter([1.0, 2.0])
    held = w * 2.0
    move([w], "numpy")
    assert np.array_equal(held.numpy(), [2.0, 4.0])


# Derivatives tell arguments apart.


def test_each_argument_has_its_own_derivative() -> None:
    p = ab.Parameter([2.0, 3.0])
    assert both(ab.grad(lambda xs: (xs[0] ** 2 * xs[1]).sum())([p, p])) == [[8.0, 18.0], [4.0, 9.0]]
    assert both(ab.grad(lambda a, b: (a * p * b).sum(), (0, 1))(p, p)) == [[4.0, 9.0], [4.0, 9.0]]
    mean = ab.mean([p])
    assert both(ab.grad(lambda xs: (xs[0] * xs[1] * p).sum())([p, mean])) == [[4.0, 9.0], [4.0, 9.0]]


def both(found: Any) -> list[list[float]]:
    return [x.tolist() for x in ab.evaluate(found)]


def test_nested_derivatives_of_one_parameter() -> None:
    p = ab.Parameter([2.0, 3.0])
    inner = ab.grad(lambda b: (b**3).sum())
    assert both([ab.grad(lambda a: inner(a).sum())(p)]) == [[12.0, 18.0]]
    mixed = ab.grad(lambda a: ab.grad(lambda b: (a * b * b).sum())(a).sum())
    assert both([mixed(p)]) == [[8.0, 12.0]]


@pytest.mark.parametrize("batched", [True, False])
def test_backward_goes_through_derivatives_by_a_parameter(batched: bool) -> None:
    w = ab.Parameter([[1.0, 2.0], [3.0, 4.0]])

    def steepness(x: list[float]) -> Any:
        return (ab.grad(lambda v: ((ab.tensor(x) @ v.T) ** 2).sum())(w) ** 2).sum()

    ab.sum(ab.map(steepness, [[1.0, 2.0], [0.5, -1.0]], batched=batched)).backward()
    want = np.zeros((2, 2))
    for x in (np.array([1.0, 2.0]), np.array([0.5, -1.0])):
        want += 8.0 * np.outer(host(w.value) @ x, x) * (x @ x)
    np.testing.assert_allclose(host(w.grad), want, rtol=1e-5)


# Cells and recordings that are reused.


class Holder(nn.Module):
    def __init__(self, detached: bool = False) -> None:
        self.w = ab.Parameter([[1.0, 2.0], [3.0, 4.0]])
        self.kept = self.w.detach() * 2.0 if detached else self.w * 2.0

    @ab.cell
    def go(self, x: Any) -> Any:
        return (self.kept @ x).sum()


def test_a_cell_sees_the_numbers_of_what_its_module_holds() -> None:
    model, x = Holder(detached=True), ab.tensor([1.0, 1.0])
    for _ in range(3):
        assert float(model.go(x)) == 20.0
        model.w.value = model.w.value * 2.0


def test_a_cell_refuses_a_value_whose_gradient_is_gone() -> None:
    model, x = Holder(), ab.tensor([1.0, 1.0])
    model.go(x).backward()
    assert np.array_equal(host(model.w.grad), [[2.0, 2.0], [2.0, 2.0]])
    model.w.value = model.w.value * 2.0
    with pytest.raises(RecordingError, match="have changed since"):
        model.go(ab.tensor([1.0, 1.0]))


def test_a_cell_takes_values_of_parameters_as_arguments_and_by_closure() -> None:
    w = ab.Parameter([[1.0, 2.0], [3.0, 4.0]])

    @ab.cell
    def times(v: Any, x: Any) -> Any:
        return (v @ x).sum()

    for k in (1.0, 2.0, 4.0):
        w.grad = None
        doubled = w * 2.0
        inside = ab.cell(lambda x: (doubled @ x).sum())  # noqa: B023
        loss = times(doubled, ab.tensor([1.0, 1.0])) + inside(ab.tensor([1.0, 1.0]))
        loss.backward()
        assert float(loss) == 40.0 * k
        assert np.array_equal(host(w.grad), np.full((2, 2), 4.0))
        w.value = w.value * 2.0
        assert float(times(doubled, ab.tensor([1.0, 1.0]))) == 20.0 * k
    assert times.cell.traces <= 3  # type: ignore[attr-defined]


def test_a_reused_recording_notices_that_a_value_has_settled() -> None:
    w = ab.Parameter([1.0, 2.0])
    target = w.detach()
    data = [[1.0, 1.0], [0.0, 1.0]]

    def distance(x: list[float]) -> Any:
        return ((w * ab.tensor(x) - target) ** 2).sum()

    for _ in range(2):
        assert [float(y) for y in ab.map(distance, data, reuse=True)] == [0.0, 1.0]
    w.value = np.array([2.0, 2.0])
    for _ in range(2):
        assert [float(y) for y in ab.map(distance, data, reuse=True)] == [1.0, 1.0]


def test_no_python_runs_when_an_expression_goes() -> None:
    """Python swallows what a signal handler raises in a callback of a weak reference."""
    w = ab.Parameter(np.ones(2))
    y = w * 2.0
    assert y.shape == (2,) and w._dependents
    called: list[str] = []
    gc.collect()
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None)
    try:
        del y
        w._expressions.clear()
        gc.collect()
    finally:
        sys.setprofile(None)
    assert not w._dependents and not called


def test_a_number_that_varies_is_data() -> None:
    """The first number beside a parameter makes a shared value; another one says that it varies."""
    w = ab.Parameter(np.linspace(0.1, 1.0, 4))
    numbers = [0.25 * k - 1.3 for k in range(12)]

    def fn(x: float) -> ab.Tensor:
        return (ab.exp(-w * x) * ab.tanh(x + w) + ab.maximum(w, x) / 2).sum()

    def outcome(batched: bool, numbers: list[float]) -> tuple[Any, Any, int]:
        w.grad = None
        with ab.profile() as profile:
            losses = ab.map(fn, numbers, batched=batched)
            values = ab.evaluate(losses)
            ab.sum(losses).backward()
        return values, host(w.grad), profile.launches

    outcome(True, numbers[:2])
    for some in (numbers, [x + 0.01 for x in numbers]):
        (values, gradient, launches), (expected, wanted, _) = outcome(True, some), outcome(False, some)
        np.testing.assert_allclose(values, expected, rtol=1e-5)
        np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-5)
        assert launches <= 12


def test_a_number_that_does_not_vary_is_part_of_a_shared_value() -> None:
    w = ab.Parameter([1.0, 2.0])
    assert isinstance(w * 0.5, Expression) and isinstance(0.5 - w, Expression) and isinstance(w * 0.5, Expression)
    assert isinstance(w * 2, Expression) and isinstance(w * 2, Expression)  # of another kind
    held = w * 0.5
    assert not isinstance(w * 0.75, Expression)
    np.testing.assert_array_equal(ab.evaluate([w * 0.5, w * 0.75, held]), [[0.5, 1.0], [0.75, 1.5], [0.5, 1.0]])


def test_numbers_that_a_cell_writes_down_are_part_of_it() -> None:
    w = ab.Parameter([1.0, 2.0])

    @ab.cell
    def cell(x: ab.Tensor) -> ab.Tensor:
        return x * (w * 0.5) + ab.sum([x * (w * k) for k in (0.25, 2.0, 0.5)])

    for _ in range(2):
        np.testing.assert_array_equal(cell(ab.tensor([1.0, 1.0])).numpy(), [3.25, 6.5])


def test_derivatives_by_a_parameter_leave_its_transpose_elsewhere_alone() -> None:
    ab.set_default_dtype("float64")
    w = ab.Parameter(np.array([1.0, 2.0]))
    others: dict[str, Any] = {
        "T": lambda: w.T, "max of a list": lambda: ab.max([w]), "sum of a list": lambda: ab.sum([w])
    }  # fmt: skip
    for name, other in others.items():
        np.testing.assert_array_equal(ab.grad(lambda x, y=other: (x * y()).sum())(w).numpy(), [1.0, 2.0], name)
        np.testing.assert_array_equal(ab.grad(lambda x: (x * x.T).sum())(w).numpy(), [2.0, 4.0])
