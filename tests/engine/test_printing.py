"""`ab.print`: values are printed when they are computed, and nothing is computed for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autobatch as ab


@ab.cell
def halved(x: Any) -> Any:
    y = x * 0.5
    ab.print("half", y)
    return y


def test_a_value_is_printed_once_it_is_computed(capsys: pytest.CaptureFixture[str]) -> None:
    with ab.profile() as profile:
        y = ab.tensor([1.0, 2.0]) * 2.0
        ab.print("y", y)
        z = y.sum()
        assert profile.launches == 0 and capsys.readouterr().out == ""
        assert float(z) == 6.0
    assert capsys.readouterr().out == "y: [2. 4.]\n"
    ab.print("again", y)
    ab.print("array", np.ones(2))
    ab.print("weight", ab.Parameter([3.0]))
    assert capsys.readouterr().out == "again: [2. 4.]\narray: [1. 1.]\nweight: [3.]\n"


@pytest.mark.parametrize("batched", [True, False])
def test_examples_are_numbered_and_gradients_stay(batched: bool, capsys: pytest.CaptureFixture[str]) -> None:
    w = ab.Parameter([1.0, 2.0])

    def loss(x: list[float]) -> Any:
        h = halved(ab.tensor(x) * w)
        ab.print("h", h)
        return h.sum()

    ab.sum(ab.map(loss, [[1.0, 2.0], [4.0, 6.0]], batched=batched)).backward()
    assert capsys.readouterr().out.splitlines() == [
        *("half, example 0: [0.5 2. ]", "h, example 0: [0.5 2. ]"),
        *("half, example 1: [2. 6.]", "h, example 1: [2. 6.]"),
    ]
    assert np.asarray(w.grad).tolist() == [2.5, 4.0]


def test_a_print_does_not_suspend_its_example(capsys: pytest.CaptureFixture[str]) -> None:
    order = []

    def fn(x: float) -> Any:
        y = ab.tensor(x) * 2.0
        order.append(x)
        ab.print("y", y)
        order.append(x)
        if y > 3.0:
            ab.print("large", y)
        return y

    with ab.profile() as profile:
        ab.evaluate(ab.map(fn, [1.0, 2.0]))
    assert order == [1.0, 1.0, 2.0, 2.0]
    assert profile.forced.phases == 1
    assert capsys.readouterr().out.splitlines() == ["y, example 0: 2.", "y, example 1: 4.", "large, example 1: 4."]


def test_a_cell_that_stops_printing_is_traced_again(capsys: pytest.CaptureFixture[str]) -> None:
    class Model(ab.nn.Module):
        loud = True

        @ab.cell
        def step(self, x: Any) -> Any:
            y = ab.tanh(x) * 2.0
            if self.loud:
                ab.print("y", y)
            return y

    model = Model()
    with ab.profile() as profile:
        float(model.step(ab.tensor(0.0)))
    assert profile.launches == 2 and capsys.readouterr().out == "y: 0.\n"
    model.loud = False
    with ab.profile() as profile:
        float(model.step(ab.tensor(0.0)))
    assert profile.launches == 1 and capsys.readouterr().out == ""


def test_a_print_is_refused_where_the_function_is_not_called_again() -> None:
    with pytest.raises(ab.errors.RecordingError, match="a value is printed inside a function whose recordings"):
        ab.map(lambda x: ab.print("x", ab.tensor(x)), [1.0], reuse=True)
