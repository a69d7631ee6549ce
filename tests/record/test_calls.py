"""Functions whose nodes are kept: what they write again is what they would write, and nothing else."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.ops.composite import softmax
from autobatch.record import calls, choice

pytestmark = pytest.mark.skipif(choice.compiled is None, reason="the compiled recorder was not built or not chosen")

X = np.linspace(-1.0, 2.0, 12).reshape(4, 3)


class Counted:
    """A function as a known call, and how often it was called itself."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.times = 0

        def counting(*args: Any, **named: Any) -> Any:
            self.times += 1
            return fn(*args, **named)

        self.call = calls.known_call(counting)


def on(fn: Callable[..., Any], *arrays: np.ndarray, **named: Any) -> list[np.ndarray]:
    """The values of a function on several examples of these arrays, each recorded first."""

    def one(_: int) -> Any:
        return fn(*(ab.tensor(array) * 1.0 for array in arrays), **named)

    return [np.asarray(y.numpy()) for y in ab.map(one, range(2))]


def test_it_is_called_once_for_arguments_of_the_same_kinds() -> None:
    counted = Counted(lambda x, axis: softmax(x, axis) * 2.0)
    for _ in range(2):
        for y in on(counted.call, X, axis=1):
            np.testing.assert_allclose(y, 2 * np.exp(X) / np.exp(X).sum(axis=1, keepdims=True), rtol=1e-5)
    assert counted.times == 1
    on(counted.call, X, axis=0)
    assert counted.times == 2
    on(counted.call, X[:, :2], axis=0)
    assert counted.times == 3


@pytest.mark.parametrize(("first", "second"), [(1, True), (1, 1.0), (0.0, -0.0), (1, 2), ("a", "b"), ((1, 2), (2, 1))])
def test_numbers_and_words_are_kept_apart(first: Any, second: Any) -> None:
    counted = Counted(lambda x, _: x + x)
    for argument in (first, second):
        on(lambda x, argument=argument: counted.call(x, argument), X)
    assert counted.times >= 2


def test_names_are_told_from_words() -> None:
    call = calls.known_call(lambda x, word="", factor=1.0: x * factor if word == "factor" else x - factor)
    assert on(lambda x: call(x, "factor", 2), X)[0].tolist() == on(lambda x: x * 2.0, X)[0].tolist()
    assert on(lambda x: call(x, factor=2), X)[0].tolist() == on(lambda x: x - 2.0, X)[0].tolist()


def test_several_nodes_and_results() -> None:
    def fn(x: ab.Tensor, y: ab.Tensor) -> list[ab.Tensor]:
        parts = ab.split(x @ y, 2, axis=-1)
        return [parts[1], parts[0] - 1.0]

    counted = Counted(fn)
    for _ in range(2):
        for k, expected in enumerate([(X @ X.T)[:, 2:], (X @ X.T)[:, :2] - 1.0]):
            for y in on(lambda x, y, k=k: counted.call(x, y)[k], X, X.T):
                np.testing.assert_allclose(y, expected, rtol=1e-5)
    assert counted.times == 1


def test_one_value_twice_says_nothing_about_two() -> None:
    counted = Counted(lambda x, y: x - y)
    assert not on(lambda x: counted.call(x, x), X)[0].any()
    np.testing.assert_allclose(on(counted.call, X, 2 * X)[0], -X, rtol=1e-6)
    np.testing.assert_allclose(on(counted.call, 2 * X, X)[0], X, rtol=1e-6)


def test_lists_of_values_are_arguments_too() -> None:
    counted = Counted(lambda xs, factor: ab.concat(xs) * factor)
    for order in ([0, 1], [1, 0], [0, 1]):
        arrays = [[X[0], X[1, :2]][k] for k in order]
        for y in on(lambda *xs: counted.call(list(xs), 2), *arrays):
            np.testing.assert_allclose(y, 2 * np.concatenate(arrays), rtol=1e-6)
    assert counted.times == 2
    on(lambda x, y: counted.call((x, y), 2), X[0], X[1, :2])  # a tuple is another argument
    on(lambda x, y, z: counted.call([x, y, z], 2), X[0], X[1, :2], X[2])
    assert counted.times == 4
    nested = Counted(lambda xs, y=None: ab.sum(xs) if y is None else ab.sum(xs) * y)
    np.testing.assert_allclose(on(lambda x, y: nested.call([x, y]), X, X)[0], 2 * X, rtol=1e-6)
    np.testing.assert_allclose(on(lambda x, y: nested.call([x], y), X, X)[0], X * X, rtol=1e-6)


def test_a_list_with_something_else_is_left_to_the_function() -> None:
    counted = Counted(ab.stack)
    for _ in range(2):
        for y in on(lambda x: counted.call([x, X[1]]), X[0]):
            np.testing.assert_allclose(y, X[:2], rtol=1e-6)
    assert counted.times == 4
    many = Counted(ab.sum)
    for n in (1, 23, 24, 25, 100):
        expected = X[0] * n * (n + 1) / 2
        for y in on(lambda x, n=n: many.call([x * float(k) for k in range(1, n + 1)]), X[0]):
            np.testing.assert_allclose(y, expected, rtol=1e-5)


def test_arguments_met_by_turns() -> None:
    """More kinds of arguments than are found at once, and kinds that take the place of others."""
    counted = Counted(lambda x, k: x * (k + 0.0))
    for _ in range(2):
        for k in range(1000, 1200):
            np.testing.assert_allclose(on(lambda x, k=k: counted.call(x, k), X[0])[0], X[0] * k, rtol=1e-6)
    assert counted.times == 200


def test_values_between_that_nobody_holds() -> None:
    counted = Counted(lambda x: (x * 2.0 + 1.0) * x)

    def fn(_: int) -> ab.Tensor:
        x = ab.tensor(X) * w
        y = counted.call(x)
        return y.sum()

    w = ab.Parameter(np.ones(3))
    for _ in range(2):
        w.grad = None
        ab.sum(ab.map(fn, range(2))).backward()
        np.testing.assert_allclose(w.grad, 2 * (4 * X * X + X).sum(0), rtol=1e-5)
    assert counted.times < 4


def test_what_is_written_once_for_a_recording_is_not_kept() -> None:
    rows, table = ab.Parameter(X[0]), ab.constant(X[1])
    counted = Counted(lambda x: ab.stack([x, rows, table]))
    for _ in range(2):
        for y in on(counted.call, X[2]):
            np.testing.assert_allclose(y, X[[2, 0, 1]], rtol=1e-6)


def test_random_draws_are_not_kept() -> None:
    counted = Counted(lambda x: ab.dropout(x, 0.5, training=True))
    one, two = on(counted.call, np.ones(64))
    assert counted.times == 2 and (one != two).any()


def test_host_inputs_are_not_kept() -> None:
    numbers = [1.0, 2.0, 3.0, 4.0]
    counted = Counted(lambda x: x * np.array([numbers.pop()] * 3))
    assert [y[0, 0] for y in on(counted.call, X)] == [-4.0, -3.0]


def test_shared_values_are_told_apart_and_let_go() -> None:
    made = [nn.LayerNorm(3) for _ in range(2)]
    made[1].bias.value = np.ones(3)
    for layer, expected in zip(made * 2, [0.0, 3.0, 0.0, 3.0], strict=True):
        np.testing.assert_allclose(on(lambda x, layer=layer: layer(x).sum(axis=1), X)[0], expected, atol=1e-4)
    gone = [weakref.ref(layer.weight) for layer in made]
    del made, layer
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


def test_under_no_grad_values_with_and_without_gradient_are_told_apart() -> None:
    w = ab.Parameter(X)

    def fn(_: int) -> ab.Tensor:
        x = ab.tensor(X) * 1.0
        y = x * w
        with ab.no_grad():
            constant = (x * 2.0).reshape(2, 2, 3)
            viewed = y.reshape(2, 2, 3)
        return (constant * 0.0 + viewed).sum() + y.reshape(2, 2, 3).sum()

    for _ in range(2):
        w.grad = None
        ab.sum(ab.map(fn, range(3))).backward()
        assert w.grad is not None
        np.testing.assert_allclose(w.grad, 3 * X, rtol=1e-5)


def test_a_length_that_begins_to_vary_is_learned_again() -> None:
    counted = Counted(lambda x: ab.softmax(x, axis=0) * 2.0)

    def launches(lengths: list[int]) -> int:
        arrays = [np.ones((n, 7)) for n in lengths]
        with ab.profile() as profile:
            results = ab.map(lambda x: counted.call(ab.tensor(x) * 1.0), arrays)
            for x, y in zip(arrays, ab.evaluate(results), strict=True):
                np.testing.assert_allclose(y, 2 * x / len(x), rtol=1e-6)
        return profile.launches

    launches([3, 4, 3])  # the first length met again, in the recording that has its first form
    launches([3, 4, 5])
    assert launches([3, 4, 5, 6]) == launches([4])


def test_the_default_dtype_is_told_apart() -> None:
    counted = Counted(lambda x: ab.mean(ab.gelu(x)))
    before = on(counted.call, X)[0].dtype
    ab.set_default_dtype(np.float64)
    try:
        assert on(counted.call, X)[0].dtype == np.float64 != before
    finally:
        ab.set_default_dtype(np.float32)


def test_it_looks_as_it_was_declared() -> None:
    assert ab.softmax.__name__ == "softmax" and ab.softmax.__doc__ == softmax.__doc__


def test_rows_of_a_list_are_looked_up_as_of_an_array() -> None:
    table = ab.Parameter(X)
    for index in ([0, 2, -1], [3]):
        as_list, as_array = (ab.map(lambda i: table[i] * 1.0, [given])[0] for given in (index, np.array(index)))
        np.testing.assert_array_equal(as_list.numpy(), as_array.numpy())
    for wrong in ([4], [-5, 0], [1 << 70]):
        with pytest.raises((IndexError, ab.errors.OpTypeError)):
            ab.map(lambda i: table[i], [wrong])


def test_the_only_element_of_a_list_is_its_sum() -> None:
    counted = Counted(ab.sum)

    def fn(_: int) -> ab.Tensor:
        x = ab.tensor(X) * w
        y = counted.call([x])
        assert y is x
        with ab.no_grad():
            constant = counted.call([x]) + counted.call([x * 2.0])
        return (y * constant).sum()

    w = ab.Parameter(np.ones(3))
    times = []
    for _ in range(3):
        w.grad = None
        ab.sum(ab.map(fn, range(2))).backward()
        np.testing.assert_allclose(w.grad, 2 * (3 * X * X).sum(0), rtol=1e-5)
        times.append(counted.times)
    assert times[2] == times[1] < 7  # what is called while a length is seen to vary is not kept
    np.testing.assert_array_equal(on(lambda x: counted.call([x > 0.0]), X)[0], X > 0)


PARTS = [
    slice(2),
    slice(1, 3),
    slice(-2, None),
    slice(None, None, -1),
    slice(3, 1),
    slice(0, 99),
    slice(None),
    slice(1, 2),
]


@pytest.mark.parametrize("part", [*PARTS, slice(np.int64(1), 3), 0, 3, -1, -4, np.int64(2)])
def test_parts_of_vectors(part: Any) -> None:
    vector = X[:, 0].copy()

    def fn(_: int) -> ab.Tensor:
        return (w * ab.tensor(vector))[part] * 2.0

    w = ab.Parameter(np.ones(4))
    expected = np.zeros(4)
    expected[part] = 2.0 * vector[part]
    for _ in range(3):
        w.grad = None
        results = ab.map(fn, range(2))
        np.testing.assert_allclose(results[1].numpy(), 2.0 * vector[part], rtol=1e-6)
        ab.sum([y.sum() for y in results]).backward()
        np.testing.assert_allclose(w.grad, 2 * expected, rtol=1e-5)
        with ab.no_grad():
            np.testing.assert_allclose(ab.map(fn, range(2))[0].numpy(), 2.0 * vector[part], rtol=1e-6)


def test_parts_that_are_none() -> None:
    def fn(index: Any) -> Any:
        return (ab.tensor(X[0]) * 1.0)[index]

    for _ in range(2):
        assert fn(2).shape == () and fn(slice(1)).shape == (1,)
        for wrong in (3, -4, 1 << 70):
            with pytest.raises(ab.errors.OpIndexError, match="out of range"):
                fn(wrong)
        for other in (slice("a"), slice(None, None, 0), 1.5, "a"):
            with pytest.raises((TypeError, ValueError)):
                fn(other)


def test_a_row_of_an_embedding_follows_its_table() -> None:
    layer = nn.Embedding(4, 3)

    def expect(table: np.ndarray) -> None:
        for index in (1, -1, np.int64(2)):
            for _ in range(2):
                found = ab.map(lambda _, index=index: layer[index] * 1.0 + layer[index], range(2))
                np.testing.assert_allclose(found[1].numpy(), 2.0 * table[index], rtol=1e-6)
        for wrong in (4, -5):
            with pytest.raises(IndexError):
                ab.map(lambda _, wrong=wrong: layer[wrong], range(1))

    expect(layer.weight.numpy())
    layer.weight.value = X
    expect(X)
    layer.weight = ab.Parameter(2 * X)
    expect(2 * X)
    vars(layer)["weight"] = ab.constant(3 * X)
    expect(3 * X)
    vars(layer)["weight"] = ab.Parameter(X) * 4.0
    expect(4 * X)


def test_a_linear_layer_follows_its_attributes() -> None:
    layer = nn.Linear(3, 2)

    def expect(weight: np.ndarray, bias: np.ndarray | None) -> None:
        for y in on(layer, X):
            np.testing.assert_allclose(y, X @ weight.T + (0 if bias is None else bias), rtol=1e-5, atol=1e-6)

    weight, bias = layer.weight.numpy(), layer.bias.numpy()
    for _ in range(2):
        expect(weight, bias)
    layer.weight.value = weight * 2
    expect(weight * 2, bias)
    layer.weight = ab.Parameter(weight * 3)
    expect(weight * 3, bias)
    vars(layer)["bias"] = ab.constant(bias + 1)
    expect(weight * 3, bias + 1)
    layer.bias = None
    expect(weight * 3, None)
    nn.freeze(layer)
    expect(weight * 3, None)
    vars(layer)["weight"] = ab.Parameter(weight) * 4.0
    expect(weight * 4, None)
    layer.forward = lambda x: x[:, :2]  # type: ignore[method-assign]
    np.testing.assert_allclose(on(layer, X)[0], X[:, :2], rtol=1e-6)


def test_a_linear_layer_lets_its_parameters_go() -> None:
    layer = nn.Linear(3, 2)
    on(layer, X)
    on(layer, X)
    gone = weakref.ref(layer.weight), weakref.ref(layer.bias)
    del layer
    gc.collect()
    assert [reference() for reference in gone] == [None, None]
    other = nn.Linear(3, 2)
    np.testing.assert_allclose(on(other, X)[0], X @ other.weight.numpy().T + other.bias.numpy(), rtol=1e-5, atol=1e-6)


def test_wrong_arguments_of_a_layer_raise_as_of_the_function() -> None:
    layer = nn.Linear(3, 2)
    on(layer, X)
    with pytest.raises(ab.errors.OpTypeError, match="matmul"):
        on(layer, X[:, :2])
    with pytest.raises(TypeError):
        layer(X, X)  # type: ignore[call-arg]
    np.testing.assert_allclose(on(lambda x: layer(x=x), X)[0], on(layer, X)[0])


def test_extremes_are_known_alike() -> None:
    assert {ab.argmin.__module__, ab.argmax.__module__, ab.min.__module__, ab.max.__module__} == {calls.__name__}


def test_kinds_of_arguments_are_told_from_arguments() -> None:
    def fn(_: int) -> ab.Tensor:
        a, b = ab.tensor(X[0]), ab.tensor(X[0])
        for _ in range(3):
            joined = ab.concat([a, b])
        with pytest.raises(TypeError):
            ab.concat(list, a, b, ())  # type: ignore[call-arg]
        return joined

    ab.evaluate(ab.map(fn, range(3)))
