"""Clipping by the common norm of all gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest

import autobatch as ab
from autobatch import optim
from autobatch.record.parameter import SparseRows
from tests.requested import host, of_the_host


def parameter(gradient: np.ndarray | SparseRows | None, dtype: type = np.float64) -> ab.Parameter:
    p = ab.Parameter(np.zeros((2, 2) if gradient is None else gradient.shape), dtype=dtype)
    p.grad = gradient
    return p


def test_the_norm_is_that_of_all_gradients_together_sparse_rows_included() -> None:
    rows = SparseRows(rows=np.array([1, 3]), values=np.array([[2.0, 0.0], [0.0, 4.0]]), shape=(5, 2))
    params = [parameter(np.array([[3.0], [4.0]])), parameter(None), parameter(rows), parameter(np.array(2.0))]
    assert float(optim.clip_grad_norm(params, 3.5)) == 7.0
    np.testing.assert_allclose(host(params[0].grad), [[1.5], [2.0]], rtol=1e-15)
    np.testing.assert_allclose(host(params[2].grad.values), [[1.0, 0.0], [0.0, 2.0]], rtol=1e-15)
    np.testing.assert_allclose(host(params[3].grad), 1.0, rtol=1e-15)
    assert params[1].grad is None
    assert float(optim.clip_grad_norm(params, 3.5)) == pytest.approx(3.5, rel=1e-15)


def test_gradients_within_the_bound_are_left_alone() -> None:
    p = parameter(np.array([3.0, 4.0]))
    assert float(optim.clip_grad_norm([p], 5.0)) == 5.0
    np.testing.assert_array_equal(host(p.grad), [3.0, 4.0])


def test_no_gradient_has_norm_0() -> None:
    assert float(optim.clip_grad_norm([parameter(None)], 1.0)) == 0.0
    assert float(optim.clip_grad_norm([], 1.0)) == 0.0
    assert optim.clip_grad_norm([parameter(np.zeros((0, 2)))], 1.0) == 0.0


def test_a_parameter_listed_twice_counts_once() -> None:
    p = parameter(np.array([3.0, 4.0]))
    assert float(optim.clip_grad_norm(iter([p, p]), 2.5)) == 5.0
    np.testing.assert_allclose(host(p.grad), [1.5, 2.0], rtol=1e-15)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_norm_that_is_not_finite_is_returned_and_changes_nothing(bad: float, dtype: type) -> None:
    params = [parameter(np.array([1.0, bad], dtype), dtype), parameter(np.array([3.0], dtype), dtype)]
    norm = float(optim.clip_grad_norm(params, 1.0))
    assert math.isnan(norm) if math.isnan(bad) else norm == math.inf
    np.testing.assert_array_equal(host(params[0].grad), np.array([1.0, bad], dtype))
    np.testing.assert_array_equal(host(params[1].grad), [3.0])


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e170, 1e300])
def test_squares_that_overflow_or_vanish_do_not_spoil_the_norm(scale: float) -> None:
    p = parameter(np.array([3.0, 4.0]) * scale)
    assert float(optim.clip_grad_norm([p], scale)) == pytest.approx(5 * scale, rel=1e-14)
    np.testing.assert_allclose(host(p.grad), np.array([0.6, 0.8]) * scale, rtol=1e-14)


def test_float32_gradients_are_added_in_float64() -> None:
    p = parameter(np.full(1_000_000, 1e-3, np.float32), np.float32)
    assert float(optim.clip_grad_norm([p], 10.0)) == pytest.approx(np.float64(np.float32(1e-3)) * 1000, rel=1e-12)
    huge = parameter(np.array([3e38, 3e38], np.float32), np.float32)
    assert float(optim.clip_grad_norm([huge], 1.0)) == pytest.approx(
        np.float64(np.float32(3e38)) * math.sqrt(2), rel=1e-12
    )
    np.testing.assert_allclose(host(huge.grad), np.sqrt([0.5, 0.5]), rtol=1e-6)


@of_the_host("a device array is contiguous")
def test_strided_gradients_are_scaled_in_place() -> None:
    whole = np.arange(12.0).reshape(3, 4)
    p = parameter(whole[:, ::2])
    norm = float(optim.clip_grad_norm([p], 1.0))
    assert norm == pytest.approx(np.linalg.norm(np.arange(12.0).reshape(3, 4)[:, ::2]))
    assert np.linalg.norm(host(p.grad)) == pytest.approx(1.0)


@pytest.mark.parametrize("bound", [-1.0, math.nan])
def test_a_bound_that_cannot_be_is_refused(bound: float) -> None:
    with pytest.raises(ValueError, match="expected max_norm >= 0"):
        optim.clip_grad_norm([parameter(np.ones(2))], bound)


def test_one_parameter_is_enough() -> None:
    w = parameter(np.array([3.0, 4.0]))
    assert optim.clip_grad_norm(w, 1.0) == 5.0
    assert np.allclose(w.grad, [0.6, 0.8])


def test_values_are_bounded_one_by_one_sparse_rows_included() -> None:
    rows = SparseRows(rows=np.array([1, 3]), values=np.array([[2.0, 0.0], [0.5, -4.0]]), shape=(5, 2))
    params = [parameter(np.array([[3.0], [np.nan]])), parameter(None), parameter(rows), parameter(np.array(-2.0))]
    assert optim.clip_grad_value(params, 1.5) is None
    np.testing.assert_array_equal(host(params[0].grad), [[1.5], [np.nan]])
    np.testing.assert_array_equal(host(params[2].grad.values), [[1.5, 0.0], [0.5, -1.5]])
    np.testing.assert_array_equal(host(params[3].grad), -1.5)
    with pytest.raises(ValueError, match="clip_value out of range\n  expected >= 0, got -1"):
        optim.clip_grad_value(params, -1)
