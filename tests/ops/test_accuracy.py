"""Elementwise ops in float32 over all of its exponents: values and derivatives have a relative error of at most 1e-6.

The reference is the op's own NumPy reference and derivative in float64, on the same operands. A formula that loses
digits by subtraction loses them in float32 long before float64 does, so that the two differ.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numba import njit

import autobatch as ab
from autobatch.backends.host import scalar_functions
from autobatch.backends.host.scalar_functions import FLOAT_FUNCTIONS
from autobatch.ir.interpret import interpret
from autobatch.ops import Op, apply
from tests import requested
from tests.ops.checks import GOOD, Values, default, differentiate, trace

Array = np.ndarray[Any, Any]
LIMIT = 1e-6
TINY = float(np.finfo(np.float32).tiny)
SWEPT = {
    (case.op, case.sample.attrs): len(case.sample.operands)
    for case in GOOD
    if case.op.batch == "elementwise" and case.op.dtypes != "where" and case.op.name not in ("cast", "stop_gradient")
    if any(np.asarray(x).dtype.kind == "f" for x in case.sample.operands)
}


def sweep() -> Array:
    """float32 of all exponents and both signs, subnormal ones, zeros, infinities and NaN; more of them near 0."""
    rng = np.random.default_rng(0)
    fractions = np.concatenate([[0, 1, 2**22, 2**23 - 1], rng.integers(0, 2**23, 12)]).astype(np.uint32)
    x = ((np.arange(255, dtype=np.uint32)[:, None] << 23) | fractions).reshape(-1).view(np.float32)
    x = np.concatenate([x, rng.uniform(0, 110, 2000).astype(np.float32), rng.uniform(0, 2, 2000).astype(np.float32)])
    return np.concatenate([x, -x, np.array([np.inf, -np.inf, np.nan], np.float32)])


def operands_of(arity: int) -> list[Array]:
    """Operands for one op; several are drawn apart, and meet in all combinations of what is special."""
    x = sweep()
    if arity == 1:
        return [x]
    rng = np.random.default_rng(1)
    special = np.array([0.0, -0.0, 1.0, -1.0, 2.5, 1e-40, 3e38, -3e38, np.inf, -np.inf, np.nan], np.float32)
    pairs = [np.array(v).reshape(-1) for v in np.meshgrid(special, special)]
    near = rng.normal(size=(2, 4000)).astype(np.float32) * np.float32(3)
    return [np.concatenate([rng.permutation(x), pairs[k], near[k]]) for k in range(arity)]


def exact(op: Op, attrs: Any, operands: list[Array]) -> tuple[Array, list[Array]]:
    """The value and the derivatives in float64."""
    wide = [x.astype(np.float64) for x in operands]
    with default("float64"), np.errstate(all="ignore"):
        graph = trace(op, wide, attrs)
        (value,) = interpret(graph, Values(wide))
        if value.dtype.kind != "f":
            return value, [np.zeros(x.shape) for x in wide]
        reverse, places = differentiate(graph)
        slopes = interpret(reverse, Values([*wide, np.ones_like(value)]))
    return value, [np.zeros(x.shape) if p is None else slopes[p] for x, p in zip(wide, places, strict=True)]


def assert_accurate(actual: Array, wanted: Array, operands: list[Array], what: str) -> None:
    """Relative error at most 1e-6; absolute where the result is subnormal; what overflows or is NaN does so too."""
    if wanted.dtype.kind != "f":
        assert np.array_equal(actual, wanted), what
        return
    with np.errstate(all="ignore"):
        rounded = wanted.astype(np.float32)
        error = np.abs(actual - wanted) / np.maximum(np.abs(wanted), TINY / LIMIT)
        good = np.where(np.isfinite(rounded), error <= LIMIT, actual == rounded)
        good |= np.isnan(rounded) & np.isnan(actual)
        nearly = (np.abs(wanted) > 3.4e38) & (np.abs(actual) > 3.4e38)  # overflows by rounding, or just not
        good |= nearly & (np.sign(wanted) == np.sign(actual))
    bad = np.flatnonzero(~good)[:8]
    at = [tuple(float(x[k]) for x in operands) for k in bad]
    assert not len(bad), f"{what} at {at}: {actual[bad]}, exactly {wanted[bad]}; {np.sum(~good)} such"


def check_accuracy(op: Op, attrs: Any, backend: str) -> None:
    """Values and derivatives of two examples in one launch, each with operands of all exponents."""
    operands = operands_of(SWEPT[op, attrs])
    value, slopes = exact(op, attrs, operands)
    with ab.backend(backend):
        tables = [ab.Parameter(np.stack([x, x])) for x in operands]
        results = ab.map(lambda i: apply(op, tuple(t[i] for t in tables), attrs), [0, 1])
        for y in results:
            assert_accurate(y.numpy(), value, operands, f"{op} on {backend}")
        if value.dtype.kind != "f" or not any(np.any(s) for s in slopes):
            return
        ab.sum([y.sum() for y in results]).backward()
    for k, (table, slope) in enumerate(zip(tables, slopes, strict=True)):
        gradient = np.zeros(table.shape) if table.grad is None else requested.host(table.grad)
        for row in gradient:
            assert_accurate(row, slope, operands, f"derivative {k} of {op} on {backend}")


@pytest.mark.parametrize(("op", "attrs"), SWEPT, ids=str)
def test_accuracy_over_all_exponents(op: Op, attrs: Any) -> None:
    for backend in requested.backends("numpy", "numba"):
        check_accuracy(op, attrs, backend)


@pytest.mark.parametrize("backend", requested.backends("numpy", "numba"))
def test_logarithms_of_small_sigmoids(backend: str) -> None:
    """What a classifier is surprised by: -log(sigmoid(x)) is softplus(-x), as long as sigmoid(x) is no zero."""
    x = np.linspace(-80, 20, 201).astype(np.float32)
    w = ab.Parameter(np.ones(201, np.float32))
    with ab.backend(backend):
        surprise = ab.map(lambda x: -ab.log(ab.sigmoid(w * ab.tensor(x))), [x, x])
        ab.sum([s.sum() for s in surprise]).backward()
    wide = x.astype(np.float64)
    np.testing.assert_allclose(surprise[1].numpy(), np.logaddexp(0.0, -wide), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(requested.host(w.grad), -2 * wide / (1 + np.exp(wide)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", FLOAT_FUNCTIONS)
def test_loops_over_scalar_functions_are_vectorised(name: str) -> None:
    function = getattr(scalar_functions, f"{name}_f32")
    if function.py_func.__code__.co_argcount > 1:
        pytest.skip("powers and divisions with remainder call the C library")

    @njit(error_model="numpy")
    def loop(x, y):  # type: ignore[no-untyped-def]
        for i in range(len(x)):
            y[i] = function(x[i])

    x = np.ones(64, np.float32)
    loop(x, np.empty_like(x))
    (text,) = loop.inspect_llvm().values()
    assert re.search(r"store <\d+ x (float|i32)>", text)


@pytest.mark.parametrize("backend", requested.backends("numpy", "numba"))
def test_softmax_and_losses_of_extreme_logits(backend: str) -> None:
    """Against float64."""
    rng = np.random.default_rng(0)
    rows = np.stack([rng.uniform(-1, 1, 5) * scale for scale in (1e-40, 1e-3, 1.0, 30.0, 100.0, 1e4, 1e30, 1.5e38)])
    x = np.concatenate([rows, [[88, 89, 90, -88, -89], [0, -90, -100, -104, -1e3], [17, -17, 17, 0, -0.0]]])
    x = x.astype(np.float32)
    wide = x.astype(np.float64)
    top = wide.max(1, keepdims=True)
    logs = wide - top - np.log(np.exp(wide - top).sum(1, keepdims=True))
    shares, chosen = np.exp(logs), np.eye(5)[1]
    with ab.backend(backend):
        w = ab.Parameter(x)
        found = ab.map(
            lambda k: (ab.softmax(w[k]), ab.log_softmax(w[k]), ab.logsumexp(w[k]), ab.cross_entropy(w[k], 1)),
            range(len(x)),
        )
        ab.sum([loss for *_, loss in found]).backward()
        values = [np.stack(column) for column in zip(*ab.evaluate(found), strict=True)]
    np.testing.assert_allclose(values[0], shares, atol=1e-6)
    np.testing.assert_allclose(values[1], logs, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(values[2], (wide - logs)[:, 0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(values[3], -logs[:, 1], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(requested.host(w.grad), shares - chosen, atol=2e-6)
