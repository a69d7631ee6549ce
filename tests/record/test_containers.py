"""Values in lists: stacked with their gradients, joined with arrays and numbers, from generators; along axis 0."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.errors import OpTypeError
from tests.requested import host


def values_and_gradient(fn: Callable[[Any, Any], Any], batched: bool) -> tuple[list[Any], Any]:
    """Values of `fn(w * x, x)` for three examples, and the gradient of the sum of their squares."""
    w = ab.Parameter([2.0, 3.0])
    results = ab.map(lambda x: fn(w * ab.tensor(x), x), [1.0, -2.0, 0.5], batched=batched)
    ab.sum(ab.map(lambda y: (y * y).sum(), results)).backward()
    return [y.numpy() for y in results], host(w.grad)


PACKED: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "a list": (lambda h, x: ab.tensor([h[0], h[1]]), lambda h, x: h),
    "a nested list": (lambda h, x: ab.tensor([[h, h * 2.0], [h, [1.0, x]]]), lambda h, x: [[h, h * 2], [h, [1, x]]]),
    "with numbers": (lambda h, x: ab.tensor((h[0], x, 3)), lambda h, x: [h[0], x, 3]),
    "a generator": (lambda h, x: ab.tensor(e * 2.0 for e in h), lambda h, x: h * 2),
    "an operand": (lambda h, x: h.__add__([h[1], x]), lambda h, x: h + np.array([h[1], x])),
    "an operand on the left": (lambda h, x: [h[1], x] * h, lambda h, x: np.array([h[1], x]) * h),
    "concat of lists": (lambda h, x: ab.concat([h, [h[0], 1.0], np.ones(1)]), lambda h, x: [*h, h[0], 1, 1]),
    "stack of a generator": (lambda h, x: ab.stack(h * k for k in (1.0, 2.0)), lambda h, x: [h, h * 2]),
    "concat of a generator": (lambda h, x: ab.concat(h * k for k in (1.0, 2.0)), lambda h, x: [*h, *(h * 2)]),
    "sum of a generator": (lambda h, x: ab.sum(h * k for k in (1.0, 2.0)), lambda h, x: h * 3),
    "mean of values of a dict": (lambda h, x: ab.mean({1: h, 2: h * 3.0}.values()), lambda h, x: h * 2),
    "max of a deque": (lambda h, x: ab.max(deque([h, h * 3.0])), lambda h, x: np.maximum(h, h * 3)),
    "sum with arrays": (lambda h, x: ab.sum([np.ones(2), h, [1.0, 2.0]]), lambda h, x: h + np.array([2, 3])),
    "softmax of a list": (lambda h, x: ab.softmax([h[0], h[1]]), lambda h, x: np.exp(h) / np.exp(h).sum()),
    "reshape of a list": (lambda h, x: ab.reshape([h, h], 4), lambda h, x: [*h, *h]),
}


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("name", PACKED)
def test_values_in_containers_keep_their_gradients(name: str, batched: bool) -> None:
    fn, reference = PACKED[name]
    values, gradient = values_and_gradient(fn, batched)
    examples = [1.0, -2.0, 0.5]
    for y, x in zip(values, examples, strict=True):
        np.testing.assert_allclose(y, np.array(reference(np.array([2.0, 3.0]) * x, x)), rtol=1e-5)

    def total(w: Any) -> float:
        return float(sum((np.array(reference(w * x, x)) ** 2).sum() for x in examples))

    step = 1e-6
    slopes = [
        (total(np.array([2.0, 3.0]) + d) - total(np.array([2.0, 3.0]) - d)) / (2 * step) for d in np.eye(2) * step
    ]
    np.testing.assert_allclose(gradient, slopes, rtol=1e-4)


def test_containers_in_a_cell() -> None:
    w = ab.Parameter([2.0, 3.0])

    @ab.cell
    def packs(x: Any) -> Any:
        h = w * x
        return ab.tensor([h[0], 1.0]) + ab.stack(e for e in h) + [h[1], 5.0] + ab.sum([h, np.ones(2)])

    np.testing.assert_allclose(packs(ab.tensor(2.0)).numpy(), [4 + 4 + 6 + 5, 1 + 6 + 5 + 7])


@pytest.mark.parametrize("make", [lambda x: ab.tensor(x) * 1.0, ab.constant, ab.Parameter])
def test_the_first_axis_is_joined_and_split(make: Callable[[Any], Any]) -> None:
    x, y = np.arange(12.0).reshape(4, 3), np.ones((2, 3))
    for _ in range(2):  # the second time the signature is known
        np.testing.assert_array_equal(ab.concat([make(x), make(y)]).numpy(), np.concatenate([x, y]))
        np.testing.assert_array_equal(ab.concat([make(x[0]), make(y[0])]).numpy(), np.concatenate([x[0], y[0]]))
        np.testing.assert_array_equal(ab.stack([make(x), make(x)]).numpy(), np.stack([x, x]))
        for parts in (2, np.int64(4), [1, 3], np.array([-1])):
            for got, wanted in zip(ab.split(make(x), parts), np.split(x, parts), strict=True):
                np.testing.assert_array_equal(got.numpy(), wanted)
        for got, wanted in zip(ab.split(make(x), 3, axis=-1), np.split(x, 3, axis=-1), strict=True):
            np.testing.assert_array_equal(got.numpy(), wanted)


@pytest.mark.parametrize(
    ("action", "parts"),
    [
        (lambda t: ab.mean([(t, t), (t, t)]), ["mean", "tuple", "zip(*results)"]),
        (lambda t: ab.sum([{"loss": t}]), ["sum", "dict"]),
        (lambda t: ab.mean([t, None]), ["mean", "element 1", "None", "return"]),
        (lambda t: ab.max([None, None]), ["max", "None"]),
        (lambda t: ab.stack([t, None]), ["stack", "element 1", "None"]),
        (lambda t: ab.concat(t[0] for _ in range(2)), ["concat", "rank 0"]),
        (lambda t: ab.concat(5), ["concat", "list", "int"]),
        (lambda t: ab.tensor([t, "word"]), ["tensor", "element 1", "str"]),
        (lambda t: t + None, ["add", "operand 2", "NoneType"]),
        (lambda t: "word" * t, ["mul", "operand 1", "str", "word"]),
        (lambda t: t + {1: 2}, ["add", "operand 2", "dict"]),
        (lambda t: t * 10**400, ["mul", "64 bits"]),
        (lambda t: ab.power(2**63, t), ["power", "64 bits"]),
        (lambda t: ab.concat([t, t], axis=0.5), ["concat", "axis", "0.5"]),
        (lambda t: ab.split(t, 1.5), ["split"]),
        (lambda t: ab.reshape(t, 2.0), ["reshape", "2.0"]),
    ],
)
def test_what_is_no_value_is_refused_at_its_line(action: Callable[[Any], Any], parts: list[str]) -> None:
    for make in (lambda: ab.tensor([1.0, 2.0]) * 1.0, lambda: ab.ones(2), lambda: ab.Parameter([1.0, 2.0])):
        with pytest.raises(OpTypeError) as caught:
            action(make())
        for part in [*parts, f"test_containers.py:{action.__code__.co_firstlineno}"]:
            assert part in str(caught.value), caught.value


@pytest.mark.parametrize("axis", [None, -1, 0, (0, 1), (1,), (-1, 0), (2, 0, 1)])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_the_softmax_family_over_several_axes(name: str, axis: Any) -> None:
    ab.set_default_dtype("float64")
    x = np.random.default_rng(0).normal(size=(2, 3, 2))
    e = np.exp(x)
    total = e.sum(axis, keepdims=True)
    wanted = {"softmax": e / total, "log_softmax": np.log(e / total), "logsumexp": np.log(e.sum(axis))}[name]
    fn = getattr(ab, name)
    for batched in (True, False):
        for got in ab.evaluate(ab.map(lambda k: fn(ab.tensor(x) + k * 0.0, axis), [1.0, 2.0], batched=batched)):
            np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_the_softmax_family_of_a_number() -> None:
    one = ab.tensor(3.0) * 1.0
    assert [float(fn(one, axis=None)) for fn in (ab.softmax, ab.log_softmax, ab.logsumexp)] == [1.0, 0.0, 3.0]
