"""What users of NumPy and PyTorch expect of a value: formats, numbers, whole divisions, bits, lists that hold it."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.errors import AutobatchError, CellError, OpTypeError
from tests.requested import backends, host


def kinds(x: Any) -> list[Any]:
    """The same numbers as every kind of value."""
    return [ab.tensor(x), ab.tensor(x) + 0, ab.constant(x), ab.constant(x) + 0, nn.Buffer(x)]


def test_numbers_of_every_kind_of_value() -> None:
    for one in [*kinds(1.5), ab.Parameter(1.5), ab.Parameter(0.5) * 3.0]:
        assert (f"{one:.2f}", f"{one:6.1f}|", one.item(), one.tolist(), float(one), int(one), bool(one)) == (
            ("1.50", "   1.5|", 1.5, 1.5, 1.5, 1, True)
        )
        assert f"{one}" == repr(one)
    for many in kinds([[1.5], [2.5]]):
        assert many.tolist() == [[1.5], [2.5]]
        for action in (many.item, lambda many=many: float(many), lambda many=many: bool(many)):
            with pytest.raises(OpTypeError, match="one element"):
                action()
        with pytest.raises(OpTypeError, match="tolist"):
            f"{many:.2f}"
    for index in kinds(2):
        assert [10, 20, 30][index] == 30
    with pytest.raises(TypeError, match="integers"):
        [1, 2][ab.tensor(1.0)]


def test_values_that_are_traced_have_no_numbers() -> None:
    for action in (lambda x: f"{x:.2f}", lambda x: x.tolist(), lambda x: x.item(), lambda x: x.numpy(), np.asarray):
        with pytest.raises(CellError, match="forced inside a cell"):
            ab.cell(lambda x, action=action: action(x))(ab.tensor(1.0))
        with pytest.raises(AutobatchError, match=r"forced inside a cell|formats one number"):
            ab.cell(lambda xs, action=action: action(ab.stack(xs)))([ab.ones(2), ab.ones(2)])
    assert float(ab.cell(lambda x: x * len(f"{x}"[:1]))(ab.tensor(2.0))) == 2.0


REALS = [np.array([0.3, -1.7, 2.5, -0.4]), np.array([0.7, -0.4, 1.0, -2.0])]
WHOLE = [np.array([7, -7, 9, -(2**40)]), np.array([2, 2, -4, 3])]
TRUTH = [np.array([True, True, False, False]), np.array([True, False, True, False])]

OPERATORS: list[tuple[Callable[..., Any], list[list[Any]]]] = [
    (operator.floordiv, [REALS, WHOLE]),
    (operator.mod, [REALS, WHOLE]),
    (lambda x, y: divmod(x, y)[0], [REALS, WHOLE]),
    (lambda x, y: divmod(x, y)[1], [REALS, WHOLE]),
    (operator.and_, [WHOLE, TRUTH]),
    (operator.or_, [WHOLE, TRUTH]),
    (operator.xor, [WHOLE, TRUTH]),
]


@pytest.mark.parametrize("number", range(len(OPERATORS)))
def test_operators_equal_numpys(number: int) -> None:
    ab.set_default_dtype("float64")
    fn, samples = OPERATORS[number]
    for x, y in samples:
        for backend in backends("numpy", "numba"):
            with ab.backend(backend):
                for make in (lambda a: ab.tensor(a), lambda a: ab.tensor(a)[::-1][::-1], ab.constant):
                    for left, right in ((make(x), make(y)), (make(x), y), (x, make(y)), (ab.constant(x[0]), make(y))):
                        got, wanted = fn(left, right), fn(*(np.array(e.tolist()) for e in (left, right)))
                        np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-13)
                        assert got.dtype == wanted.dtype
                number_on_the_right = y[0].item()
                np.testing.assert_allclose(fn(ab.tensor(x) + 0, number_on_the_right), fn(x, number_on_the_right))
                np.testing.assert_allclose(fn(number_on_the_right, ab.tensor(x)), fn(number_on_the_right, x))
                cell = ab.cell(lambda a, b, fn=fn: fn(a, b))
                np.testing.assert_allclose(cell(ab.tensor(x), ab.tensor(y)).numpy(), fn(x, y), rtol=1e-13)


def test_inverting() -> None:
    for x in (WHOLE[0], TRUTH[0]):
        for value in (ab.tensor(x), ab.tensor(x)[::-1][::-1], ab.constant(x), nn.Buffer(x)):
            np.testing.assert_array_equal((~value).numpy(), ~x)
            assert value.dtype == x.dtype


@pytest.mark.parametrize("digits", [None, 0, 1, 3, -1])
def test_rounding(digits: int | None) -> None:
    ab.set_default_dtype("float64")
    x = np.array([0.5, 1.5, -2.5, 12.34567, -0.049, np.inf])
    for value in kinds(x):
        assert isinstance(round(value, digits), ab.Tensor)
        np.testing.assert_array_equal(round(value, digits).numpy(), np.round(x, digits or 0))
    np.testing.assert_array_equal(round(ab.tensor([5, -3])).numpy(), [5, -3])
    assert round(ab.tensor(2.6)) == 3.0


def test_gradients_of_whole_divisions() -> None:
    ab.set_default_dtype("float64")
    x, y = ab.Parameter([5.3, -1.2]), ab.Parameter([2.0, 0.7])
    ab.sum([(x % y * ab.tensor([1.0, 3.0])).sum(), (x // y).sum(), round(x * y).sum()]).backward()
    assert host(x.grad).tolist() == [1.0, 3.0] and host(y.grad).tolist() == [-2.0, 6.0]


@pytest.mark.parametrize(
    ("action", "parts"),
    [
        (lambda b, x: -b, ["neg", "bool", "~x"]),
        (lambda b, x: b - b, ["sub", "bool", "a != b"]),
        (lambda b, x: b // b, ["floor_divide", "bool"]),
        (lambda b, x: x & b, ["bitwise_and", "f32"]),
        (lambda b, x: ~x, ["invert", "f32"]),
        (lambda b, x: x.astype("complex64"), ["astype", "complex64"]),
        (lambda b, x: x.astype("int8"), ["astype", "int8"]),
        (lambda b, x: x * 1j, ["mul", "operand 2", "complex"]),
        (lambda b, x: x + np.ma.masked_array([1.0, 2.0], [True, False]), ["masked", "filled"]),
        (lambda b, x: ab.tensor(np.ma.masked_array([1.0, 2.0], [True, False])), ["masked", "1 of 2"]),
        (lambda b, x: ab.full((2,), None), ["full", "NoneType"]),
        (lambda b, x: ab.full(2, x), ["full", "ab.ones(shape) * x"]),
        (lambda b, x: ab.zeros(2, "complex64"), ["zeros", "complex64"]),
        (lambda b, x: ab.ones((2, -1)), ["ones", "-1"]),
        (lambda b, x: ab.normal((-1,)), ["normal", "-1"]),
        (lambda b, x: ab.uniform((2, 0.5)), ["uniform", "0.5"]),
        (lambda b, x: ab.uniform(2, "int64"), ["uniform", "int64"]),
        (lambda b, x: nn.Embedding(3, 2)("word"), ["word", "Vocabulary", "Embedding"]),
        (lambda b, x: nn.Embedding(3, 2)["word"], ["word", "Vocabulary", "Embedding"]),
        (lambda b, x: nn.Embedding(3, 2)(["a", "word"]), ["word", "Vocabulary"]),
        (lambda b, x: x["word"], ["word", "Vocabulary"]),
    ],
)
def test_errors_come_at_their_line(action: Callable[[Any, Any], Any], parts: list[str]) -> None:
    with pytest.raises(OpTypeError) as caught:
        action(ab.tensor([1.0, 2.0]) > 1.5, ab.tensor([1.0, 2.0]) * 1.0)
    for part in [*parts, f"test_tensor.py:{action.__code__.co_firstlineno}"]:
        assert part in str(caught.value), caught.value


def test_an_error_in_a_cell_names_the_operand() -> None:
    with pytest.raises(AutobatchError, match="operand 2 is neither a value nor a number"):
        ab.cell(lambda x: x + None)(ab.tensor(1.0))
    with pytest.raises(AutobatchError, match="64 bits"):
        ab.cell(lambda x, n: x * n)(ab.tensor(1.0), 2**63)


def test_half_precision_goes_in_and_out() -> None:
    x = np.array([0.1, 1e-7, 5e-8, 70000.0, -65519.0, 1 / 3, np.nan, -np.inf, 2.0**-14, -0.0])
    with np.errstate(over="ignore"):
        wanted = x.astype(np.float32).astype(np.float16).astype(np.float32)
        for backend in backends("numpy", "numba"):
            with ab.backend(backend):
                for value in kinds(x):
                    got = value.astype("float16")
                    assert got.dtype == np.float32
                    np.testing.assert_array_equal(got.numpy(), wanted)
        np.testing.assert_array_equal(ab.tensor(x, dtype="float16").numpy(), wanted)
        assert ab.tensor(x.astype(np.float16)).dtype == np.float32
        np.testing.assert_array_equal((ab.tensor(wanted.astype(np.float16)) + 0.0).numpy(), wanted)
    assert ab.full(1, 0.1, np.float16).tolist() == [float(np.float16(0.1))]
    w = ab.Parameter([0.1, 3.0])
    (w.astype(np.float16) * ab.tensor([1.0, 2.0])).sum().backward()
    assert host(w.grad).tolist() == [1.0, 2.0]


# Lists that hold values.


@pytest.mark.parametrize("make", [lambda x: ab.tensor(x) * 1.0, ab.constant, ab.Parameter])
def test_lists_look_for_the_object(make: Callable[[Any], Any]) -> None:
    a, b, c = make([1.0, 2.0]), make([1.0, 2.0, 3.0]), make([1.0, 2.0])
    values = [b, a, c]
    for _ in range(20):  # until Python has specialised the instructions
        assert values.index(c) == 2 and values.index(a, 0) == 1 and values.count(a) == 1
        assert values.index(values[values.index(c if a in values else b)]) == 2
        assert (b, c).index(c) == 1 and deque(values).index(c) == 2 and deque(values).count(b) == 1
        find = values.index
        found = find(c)
        assert found == 2
        rest = list(values)
        rest.remove(c)
        assert len(rest) == 2 and rest[1] is a
        assert c in values and c not in rest and c in {c: 1} and c not in {a}
    with pytest.raises(ValueError, match="not in list"):
        [a].index(c)


def test_equality_compares_numbers() -> None:
    a, c = ab.tensor([1.0, 2.0]), ab.tensor([1.0, 3.0])
    equal = operator.eq
    for got in (a == c, operator.eq(a, c), equal(a, c), next(map(operator.eq, [a], [c]))):
        assert got.tolist() == [True, False]
    assert [a == None, a != None, a == "word", a == {}, a != {1}] == [False, True, False, False, True]  # noqa: E711
    assert (a == [1.0, 3.0]).tolist() == [True, False]


def test_cells_tell_functions_of_numpy_apart() -> None:
    def made(fn: Any) -> Any:
        return ab.cell(lambda x: fn(x))

    x = ab.tensor([0.5, 1.5])
    for fn in (np.tanh, np.exp, np.ones_like, np.zeros_like, np.negative):
        np.testing.assert_allclose(made(fn)(x).numpy(), fn(x.numpy()), rtol=1e-6)
