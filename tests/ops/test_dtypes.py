"""Integers and booleans are NumPy's: dtypes of results, arithmetic that wraps round, sums that count."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.ops import OPS, Op, apply
from autobatch.ops.reduce import REDUCTIONS
from tests import requested
from tests.ops.checks import GOOD, default

Array = np.ndarray[Any, Any]
OPERANDS = {
    "bool": [True, False, True, False],
    "int32": [2**31 - 1, -(2**31), -7, 3],
    "int64": [2**63 - 1, -(2**63), 2**53 + 1, -2],
    "float64": [1.5, -0.0, 1e300, np.nan],
}
ARITY = {case.op: len(case.sample.operands) for case in GOOD if case.op.batch == "elementwise"}
CASES = [
    (op, dtypes)
    for op, arity in ARITY.items()
    if op.dtypes in ("promote", "float") and arity < 3
    for dtypes in itertools.product(OPERANDS, repeat=arity)
]
COMPILED = [
    case
    for number, op in enumerate(ARITY)
    for k, case in enumerate(case for case in CASES if case[0] is op)
    if len(case[1]) == 1 or k % 5 == 0 or k % 15 == number % 15
]
"""What is also compiled: of two operands, pairs of one dtype, and a mixed pair, another one for each op."""


def recorded(fn: Callable[..., Any], operands: tuple[Any, ...], *backends: str) -> list[Array]:
    """The second of two examples, batched and one by one, on the backends."""
    results = []
    for backend in requested.backends(*(backends or ("numpy", "numba"))):
        for batched in (True, False):
            with ab.backend(backend):
                values = ab.map(
                    lambda _: fn(*(ab.tensor(x) if isinstance(x, np.ndarray) else x for x in operands)),
                    range(2),
                    batched=batched,
                )
                results.append(values[1].numpy())
    return results


def assert_equal(fn: Callable[..., Any], wanted: Any, *operands: Any, on: tuple[str, ...] = ()) -> None:
    """All ways to compute it give the dtype and the numbers wanted."""
    wanted = np.asarray(wanted)
    for actual in recorded(fn, operands, *on):
        assert actual.dtype == wanted.dtype and actual.shape == wanted.shape
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(actual, wanted, rtol=1e-12)
        else:
            assert np.array_equal(actual, wanted), f"{actual}, not {wanted}"


@pytest.mark.parametrize(("op", "dtypes"), CASES, ids=str)
def test_elementwise_ops_on_all_dtypes(op: Op, dtypes: tuple[str, ...]) -> None:
    operands = [np.array(OPERANDS[dtype][k:] + OPERANDS[dtype][:k], dtype) for k, dtype in enumerate(dtypes)]
    whole = all(x.dtype.kind != "f" for x in operands)
    on = ("numpy", "numba") if (op, dtypes) in COMPILED else ("numpy",)
    assert op.numpy is not None
    with default("float64"), np.errstate(all="ignore"):
        try:
            wanted = op.numpy(*(x.astype(np.float64) if op.dtypes == "float" and whole else x for x in operands))
            if wanted.dtype == np.int8:  # True // True, which is refused
                raise TypeError
        except TypeError:  # -True
            with pytest.raises((ab.AutobatchError, TypeError)):
                recorded(lambda *xs: apply(op, xs), tuple(operands), *on)
            return
        assert_equal(lambda *xs: apply(op, xs), wanted, *operands, on=on)


@pytest.mark.parametrize("dtype", ["bool", "int32", "int64"])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_of_whole_numbers(name: str, dtype: str) -> None:
    x = np.array([OPERANDS[dtype], OPERANDS[dtype][::-1], [1, 1, 1, 0]], dtype)
    function, numpys = getattr(ab, name), getattr(np, name)
    with default("float64"):
        for axis in (None, 0, 1, (0, 1)):
            assert_equal(lambda x, axis=axis: function(x, axis=axis), numpys(x, axis=axis), x)
        assert_equal(function, numpys(x[0, 0]), x[0, 0])
        for n in (1, 2, 3):
            assert_equal(lambda x, n=n: function([x[k] for k in range(n)]), numpys(x[:n], axis=0), x)
            rows = [ab.constant(row) for row in x[:n]]
            assert_equal(lambda x, rows=rows: function(rows), numpys(x[:n], axis=0), x)

        @ab.cell
        def of_list(xs: Any) -> Any:
            return function(xs)

        @ab.cell
        def of_two(x: Any, y: Any) -> Any:
            return function([x, y])

        for n in (1, 2, 3):
            assert_equal(lambda x, n=n: of_list([x[k] for k in range(n)]), numpys(x[:n], axis=0), x)
        assert_equal(lambda x: of_two(x[0], x[1]), numpys(x[:2], axis=0), x)


def test_comparisons_are_counted() -> None:
    x = np.array([[1.0, 5.0], [7.0, 9.0]], np.float32)
    assert_equal(lambda x: (x > 3.0).sum(), np.int64(3), x)
    assert_equal(lambda x: ab.sum([x[0] > 3.0, x[1] > 3.0]), np.array([1, 2]), x)
    assert_equal(lambda x: ab.mean(x > 3.0), np.float32(0.75), x)
    assert ab.sum([], like=ab.tensor([True])).dtype == np.int64
    assert ab.sum([ab.tensor(1), ab.tensor(np.float32(0.5))]).dtype == np.float32


@pytest.mark.parametrize("dtype", ["bool", "int32", "int64"])
def test_powers_of_whole_numbers(dtype: str) -> None:
    x = np.array(OPERANDS[dtype], dtype)
    base = x.astype(np.int64) if dtype == "bool" else x
    for exponent in (0, 1, 2, 3, 5, 40, np.int64(2), True):
        assert_equal(lambda x, p=exponent: x**p, base ** int(exponent), x)
    with default("float64"), np.errstate(invalid="ignore"):
        for real in (2.0, 0.5, -1.0):
            if dtype != "bool" or real > 0:
                assert_equal(lambda x, p=real: x**p, x.astype(np.float64) ** real, x)
    with pytest.raises(ab.AutobatchError, match=r"(?s)whole power.*test_dtypes"):
        ab.tensor(x) ** -1

    @ab.cell
    def square(n: int) -> Any:
        return n**2

    assert_equal(lambda: square(2**53 + 1 - 2**53), np.int64(1))
    assert square(3_000_000_001).numpy() == 3_000_000_001**2


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ab.tensor([2**63]),
        lambda: ab.tensor(np.array([2**64 - 1], np.uint64)),
        lambda: ab.tensor([1]) + 2**63,
        lambda: ab.tensor([1.0]) * 10**400,
        lambda: ab.tensor([1], "int32") * 2**31,
        lambda: ab.tensor([1], "int32") + np.int64(2**40),
        lambda: ab.constant(np.array([1], np.int32)) * 2**31,
        lambda: ab.tensor([1.0]) ** 10**400,
    ],
)
def test_whole_numbers_out_of_range_raise(wrong: Callable[[], Any]) -> None:
    for _ in range(2):  # the second time the op is known
        with pytest.raises((ab.AutobatchError, OverflowError)):
            wrong()


@ab.cell
def loss_in_a_cell(logits: Any, label: Any) -> Any:
    return ab.cross_entropy(logits, label)


LABELLED = {
    "as it is": ab.cross_entropy,
    "in a cell": loss_in_a_cell,
    "array": lambda x, label: ab.cross_entropy(x, np.array(label)),
    "number of NumPy": lambda x, label: ab.cross_entropy(x, np.array(label)[()]),
    "tensor": lambda x, label: ab.cross_entropy(x, ab.tensor(label)),
    "tensor in a cell": lambda x, label: loss_in_a_cell(x, ab.tensor(label)),
    "computed": lambda x, label: ab.cross_entropy(x, ab.tensor(label) * ab.tensor(label).astype(bool)),
    "logits of all examples": lambda x, label: ab.cross_entropy(ab.zeros(3), label),
}


@pytest.mark.parametrize("way", LABELLED)
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("backend", requested.backends("numpy", "numba"))
def test_labels_are_whole_numbers_in_range(backend: str, batched: bool, way: str) -> None:
    def losses(labels: list[Any]) -> Any:
        with ab.backend(backend):
            results = ab.map(lambda label: LABELLED[way](ab.tensor([0.0, 0.0, 0.0]), label), labels, batched=batched)
            return ab.evaluate(results)

    np.testing.assert_allclose(losses([0, 1, 2, 0]), np.log(3.0), rtol=1e-6)
    for wrong in (-1, 3, 1.0, 1.5, float("nan"), True):
        for labels in ([wrong], [1, wrong]):  # the second time the op is known
            with pytest.raises(ab.AutobatchError):
                losses(labels)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ab.normal((-1,)),
        lambda: ab.uniform((2, 2.5)),
        lambda: ab.uniform(2.5),
        lambda: ab.normal("ab"),
        lambda: ab.normal(2, dtype=int),
        lambda: ab.dropout(ab.ones(2), -0.1),
        lambda: ab.dropout(ab.ones(2), 1.5),
        lambda: ab.dropout(ab.ones(2), float("nan")),
    ],
)
def test_wrong_draws_raise_at_their_line(wrong: Callable[[], Any]) -> None:
    state = ab.uniform(1).numpy()
    ab.seed(0)
    with pytest.raises(ab.AutobatchError, match="test_dtypes"):
        wrong()
    assert ab.uniform(1).numpy() == state  # no draw was used up


def test_every_arithmetic_op_is_tried() -> None:
    assert {op.name for op in OPS.values() if op.batch == "elementwise"} == {op.name for op in ARITY}


def test_numbers_chosen_by_a_condition_take_the_default_dtype() -> None:
    """Also where both are numbers of the example: the condition is a value, so the result is no number any more."""
    condition = ab.tensor([True, False])
    choose = ab.cell(lambda c, k: ab.where(c, k, 0.0))
    for usual in ("float32", "float64"):
        ab.set_default_dtype(usual)
        for chosen in (ab.where(condition, 1.0, 0.0), ab.where(condition, 1.0, 0), choose(condition, 0.5)):
            assert chosen.dtype == usual
            assert chosen.numpy().dtype == usual
