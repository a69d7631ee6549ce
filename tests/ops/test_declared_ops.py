"""Every op against its declaration: types, derivatives to second order, batched against loop, wrong operands."""

from __future__ import annotations

import numpy as np
import pytest

import autobatch as ab
from autobatch.ops import OPS, Op, apply
from tests.ops.checks import GOOD, WRONG, Case, check_batched, check_types, check_vjp, converted, default, masks, trace

DTYPES = ("float32", "float64")
SMOOTH = [case for case in GOOD if case.sample.smooth]
RECORDED = [case for case in GOOD if case.op.batch != "batched" and case.op.name != "spread"]


def test_every_op_has_samples() -> None:
    assert [op.name for op in OPS.values() if op.samples is None] == []


@pytest.mark.parametrize("op", OPS.values(), ids=str)
def test_every_op_is_declared_in_full(op: Op) -> None:
    assert op.doc
    whole = op.infer is not None and op.vjp is not None and bool(op.batch)
    assert (op.body is not None) != (whole or op.name == "arange")  # integers have no derivative


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", GOOD, ids=str)
def test_inferred_type_is_the_actual_one(case: Case, dtype: str) -> None:
    with default(dtype):
        operands = [converted(x, np.dtype(dtype)) for x in case.sample.operands]
        check_types(trace(case.op, operands, case.sample.attrs), operands)


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_derivatives_equal_differences_to_second_order(case: Case) -> None:
    with default("float64"):
        check_vjp(trace(case.op, case.sample.operands, case.sample.attrs), case.sample.operands, order=2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", RECORDED, ids=str)
def test_batched_equals_loop(case: Case, dtype: str) -> None:
    for shared in masks(case.sample):
        for m in (0, 1, 7):
            check_batched(case.op, case.sample, m, shared, dtype, "numpy")


@pytest.mark.parametrize("case", RECORDED, ids=str)
def test_batched_equals_loop_on_numba(case: Case) -> None:
    shared, *_ = masks(case.sample)
    for dtype in DTYPES:
        check_batched(case.op, case.sample, 7, shared, dtype, "numba")


@pytest.mark.parametrize("case", WRONG, ids=str)
def test_wrong_operands_raise(case: Case) -> None:
    assert case.sample.error is not None
    with pytest.raises(case.sample.error):
        ab.evaluate(apply(case.op, [ab.tensor(x) if isinstance(x, np.ndarray) else x for x in case.sample.operands],
                          case.sample.attrs))
