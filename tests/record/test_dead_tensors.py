"""Tensors are made of those that have died: nothing of these is left in them. Operators reach ops however called."""

from __future__ import annotations

import gc
import operator
import weakref
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.record import choice


def test_a_new_tensor_has_nothing_of_a_dead_one() -> None:
    for _ in range(3):
        x = ab.tensor([1.0] * 3)
        y = x + x
        y.numpy()
        calls: list[int] = []
        reference = weakref.ref(y, lambda _, calls=calls: calls.append(1))
        del y
        assert reference() is None and calls == [1]
        z = x * 5.0
        assert weakref.getweakrefcount(z) == 0
        assert "5." not in repr(z)  # pending
        np.testing.assert_array_equal(z.numpy(), [5.0] * 3)
        assert calls == [1]


@pytest.mark.parametrize("n", [10, 5000])
def test_many_die_at_once(n: int) -> None:
    for _ in range(2):
        x = ab.tensor([1.0] * 2)
        made = [x * float(k) for k in range(n)]
        last = made[-1]
        del made
        again = [x + float(k) for k in range(n)]
        np.testing.assert_array_equal(last.numpy(), [n - 1.0] * 2)
        np.testing.assert_array_equal(again[-1].numpy(), [float(n)] * 2)
        assert len({id(t) for t in [*again, last]}) == n + 1


def test_a_tensor_holds_its_recording_and_no_longer_than_it_lives() -> None:
    x: Any = ab.tensor([1.0] * 2) * 2.0
    tape = weakref.ref(x._tape)
    x.numpy()
    del x
    ab.tensor([1.0] * 1).numpy()
    gc.collect()
    assert tape() is None


@pytest.mark.skipif(choice.compiled is None, reason="the recorder in Python keeps its tensors for later ones")
def test_the_collector_knows_tensors_that_live() -> None:
    x = ab.tensor([1.0] * 2)
    for _ in range(2):
        y = x * 2.0
        assert gc.is_tracked(y)
        holder: list[Any] = [y]
        holder.append(holder)
        reference = weakref.ref(y)
        del y, holder
        gc.collect()
        assert reference() is None


def test_operators_from_both_sides() -> None:
    x = ab.tensor([1.0, 4.0])
    for other in (2.0, 3, np.float32(2), np.array([2.0, 5.0]), [2.0, 5.0], ab.Parameter([2.0, 5.0]), x + x):
        number = other.numpy() if isinstance(other, ab.Tensor) else other
        for op in (operator.add, operator.sub, operator.mul, operator.truediv):
            for _ in range(2):
                np.testing.assert_allclose(op(x, other).numpy(), op(x.numpy(), number), rtol=1e-6)
                np.testing.assert_allclose(op(other, x).numpy(), op(number, x.numpy()), rtol=1e-6)
            name = op.__name__
            method = getattr(x, f"__r{name}__")
            np.testing.assert_allclose(method(other).numpy(), op(number, x.numpy()), rtol=1e-6)
            np.testing.assert_allclose(getattr(x, f"__{name}__")(other).numpy(), op(x.numpy(), number), rtol=1e-6)
    for other in (np.eye(2), ab.Parameter(np.eye(2)) * 2.0, x):
        number = other.numpy() if isinstance(other, ab.Tensor) else other
        np.testing.assert_allclose((x @ other).numpy(), x.numpy() @ number, rtol=1e-6)
        np.testing.assert_allclose((other @ x).numpy(), number @ x.numpy(), rtol=1e-6)


@pytest.mark.parametrize("other", ["a", None, object(), {}])
def test_operands_that_are_none(other: object) -> None:
    x = ab.tensor([1.0] * 2)
    for op in (operator.add, operator.sub, operator.mul, operator.truediv, operator.matmul):
        for operands in ((x, other), (other, x)):
            with pytest.raises((TypeError, ab.errors.OpTypeError)):
                op(*operands)


class Foreign:
    """Something that knows tensors."""

    def __radd__(self, other: object) -> str:
        return "radd"

    def __add__(self, other: object) -> str:
        return "add"


def test_what_knows_tensors_on_the_left_is_asked() -> None:
    assert Foreign() + ab.tensor([1.0] * 2) == "add"
