"""Reductions: what their declarations say, gradients where zeros and equal elements occur, one declared in a test."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.errors import OpTypeError
from autobatch.ops import OPS, Op, Sample
from autobatch.ops.elementwise import elementwise
from autobatch.ops.reduce import REDUCTIONS, reducing
from tests import requested
from tests.compile.cuda.agreement import build_all
from tests.compile.cuda.test_samples import Whole
from tests.ops.checks import Case, cases, check_batched, check_vjp, default, masks, trace
from tests.stand_in import kernels

COMBINING = [op for op in OPS.values() if op.combine]
VALUES = {"float32": [2.5, -1.0, 0.0], "int64": [7, -3, 0], "int32": [7, -3, 0], "bool": [True, False, True]}


@pytest.mark.parametrize("dtype", VALUES)
@pytest.mark.parametrize("op", COMBINING, ids=str)
def test_identity_changes_nothing(op: Op, dtype: str) -> None:
    assert op.combine is not None and op.combine.numpy is not None
    x = np.array(VALUES[dtype], dtype)
    if op.dtypes == "count" and dtype == "bool":
        x = x.astype(np.int64)
    identity = np.array(op.identity_of(x.dtype), x.dtype)
    np.testing.assert_array_equal(op.combine.numpy(identity, x), x)


@pytest.mark.parametrize("name", [op.name for op in REDUCTIONS.values() if op.combine])
def test_forms_are_folds_of_the_combiner(name: str) -> None:
    op = REDUCTIONS[name]
    assert op.combine is not None and op.combine.numpy is not None
    rows = [np.array(x, np.float32) for x in ([2.0, -1.5], [0.5, 3.0], [-4.0, 0.25])]
    wanted = functools.reduce(op.combine.numpy, rows)
    function = getattr(ab, name)
    for backend in requested.backends("numpy", "numba"):
        with ab.backend(backend):
            of_list, of_rows, of_columns = ab.map(
                lambda how: function(
                    [ab.tensor(x) for x in rows] if how == 0 else ab.tensor(np.stack(rows, how - 1)), *[how - 1][:how]
                ),
                range(3),
            )
        for y in (of_list, of_rows, of_columns):
            np.testing.assert_allclose(np.asarray(y), wanted, rtol=1e-6)


def derivatives(x: list[float], name: str) -> tuple[list[float], list[float]]:
    """The gradient of a reduction, and that of the gradient's product with 1, 2, 3, …"""
    weights = ab.tensor(np.arange(1.0, len(x) + 1.0))
    slope = ab.grad(lambda y: getattr(ab, name)(y))
    return slope(ab.tensor(x)).numpy().tolist(), ab.grad(lambda y: (slope(y) * weights).sum())(
        ab.tensor(x)
    ).numpy().tolist()


@pytest.mark.parametrize(
    ("x", "first", "second"),
    [
        ([2.0, 3.0, 4.0], [12.0, 8.0, 6.0], [17.0, 10.0, 7.0]),
        ([2.0, 0.0, 4.0], [0.0, 8.0, 0.0], [8.0, 10.0, 4.0]),
        ([0.0, 0.0, 4.0], [0.0, 0.0, 0.0], [8.0, 4.0, 0.0]),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
    ],
)
def test_derivatives_of_a_product_with_zeros(x: list[float], first: list[float], second: list[float]) -> None:
    np.testing.assert_allclose(derivatives(x, "prod"), (first, second), rtol=1e-6)
    p = ab.Parameter(x)
    ab.prod([p[k] * 1.0 for k in range(len(x))]).backward()
    np.testing.assert_allclose(requested.host(p.grad), first, rtol=1e-6)


def test_equal_elements_share_the_derivative() -> None:
    assert derivatives([1.0, 5.0, 1.0], "min") == ([0.5, 0.0, 0.5], [0.0, 0.0, 0.0])
    p = ab.Parameter([1.0, 5.0, 1.0])
    ab.min([p[k] * 1.0 for k in range(3)]).backward()
    np.testing.assert_allclose(requested.host(p.grad), [0.5, 0.0, 0.5], rtol=1e-6)


def test_nan_wins() -> None:
    rows = [[1.0, np.nan, -np.inf], [np.inf, 2.0, -0.0]]
    for backend in requested.backends("numpy", "numba"):
        with ab.backend(backend):
            least = [np.asarray(y) for y in ab.map(lambda row: ab.tensor(row).min(), rows)]
        np.testing.assert_array_equal(least, [np.nan, 0.0])


def test_reductions_of_nothing() -> None:
    assert ab.prod([], shape=(2,)).numpy().tolist() == [1.0, 1.0]
    assert ab.prod([], like=ab.tensor([True])).dtype == np.int64
    assert ab.prod(ab.zeros((0, 2)), axis=0).numpy().tolist() == [1.0, 1.0]
    for action in (lambda: ab.min([]), lambda: ab.min(ab.zeros((0,))), lambda: ab.prod([])):
        with pytest.raises(OpTypeError, match="empty"):
            action()


@pytest.fixture
def norm() -> Iterator[Op]:
    """The Euclidean norm, as a reduction by hypot."""
    before = set(OPS)
    hypot = elementwise(
        "length_of_two",
        "sqrt(x^2 + y^2)",
        np.hypot,
        "sqrt({0} * {0} + {1} * {1})",
        lambda g, y, x, a: (g * x[0] / y, g * x[1] / y),
    )

    def slope(g: Any, y: Any, x: Any, spread: Any, reduce: Any) -> Any:
        return spread(g / y) * x

    yield reducing("euclidean", "Euclidean norm", hypot, 0.0, slope)[0]
    for name in set(OPS) - before:
        del OPS[name]


def norm_cases(norm: Op) -> list[Case]:
    """Samples of both forms for which the combiner is no other than the norm: it has one axis, and two elements."""
    assert norm.over_list is not None
    found = [
        Case(norm, k, Sample((np.full((3, 20), 0.5) + np.arange(20) % 3,), ((axis,), False)))
        for k, axis in enumerate((-1, -2))
    ]
    return [*found, *(case for case in cases(norm.over_list) if case.number in (0, 2))]


def test_a_reduction_is_one_declaration(norm: Op) -> None:
    for case in norm_cases(norm):
        with default("float64"):
            check_vjp(trace(case.op, case.sample.operands, case.sample.attrs), case.sample.operands, order=2)
        for backend in requested.backends("numpy", "numba"):
            if case.op is norm:  # a list op is recorded under the name of its reduction
                check_batched(case.op, case.sample, 7, masks(case.sample)[0], "float32", backend)


@pytest.mark.skipif(bool(kernels.MISSING), reason=kernels.MISSING)
def test_a_declared_reduction_has_kernels_in_cuda(norm: Op) -> None:
    with default("float32"):
        wholes = [Whole(case, masks(case.sample)[0], "float32") for case in norm_cases(norm)]
    build_all([agreement for whole in wholes for agreement in whole.programs.values()])
    for whole in wholes:
        whole.check(7)
