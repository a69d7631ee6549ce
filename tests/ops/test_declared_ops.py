"""Every op against its declaration: types, derivatives to second order, batched against loop, wrong operands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.ir.interpret import interpret
from autobatch.ops import OPS, Op, apply
from autobatch.ops.composing import COMPOSED
from tests import requested
from tests.ops.checks import (
    GOOD,
    OF_BATCHES,
    WRONG,
    Case,
    Values,
    check_batched,
    check_types,
    check_vjp,
    close,
    converted,
    default,
    has_floats,
    masks,
    trace,
)

DTYPES = ("float32", "float64")
SMOOTH = [case for case in GOOD if case.sample.smooth]
DIFFERENTIABLE = [case for case in SMOOTH if has_floats(case.sample.operands)]
RECORDED = [case for case in GOOD if case.op.batch not in OF_BATCHES and case.op.name != "spread"]
FEW = {"elementwise": (0,), "reduce": (0, 2), "list": (0, 2)}
COMPILED = [
    case
    for case in RECORDED
    if case.op.name not in COMPOSED
    if requested.is_deep() or case.number in FEW.get(case.op.batch or "", (0, 1, 2, 3))
]
"""What is also compiled, which takes half a second each. Loops of elementwise ops differ in the expression alone, which
test_accuracy and test_dtypes compile, too; functions that are composed of ops are so in `test_library`."""


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


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_derivatives_equal_differences_to_second_order(case: Case) -> None:
    with default("float64"):
        check_vjp(trace(case.op, case.sample.operands, case.sample.attrs), case.sample.operands, order=2)


@pytest.mark.parametrize("case", RECORDED, ids=str)
def test_batched_equals_loop(case: Case) -> None:
    """In float64 whichever operands are shared; in float32, and for no example or one, where none and where all are."""
    every = masks(case.sample)
    few = every[:: max(1, len(every) - 1)]
    backend = requested.backend("numpy")
    for shared in few if requested.on_device() else every:
        check_batched(case.op, case.sample, 7, shared, "float64", backend)
    for shared, m in zip(few * 3, (0, 1, 7) if len(few) == 1 else (0, 1, 1, 0, 7, 7), strict=False):
        check_batched(case.op, case.sample, m, shared, "float32", backend)


@pytest.mark.parametrize("case", COMPILED, ids=str)
def test_batched_equals_loop_on_numba(case: Case) -> None:
    shared, *_ = masks(case.sample)
    dtype = DTYPES[case.number % 2]  # one of the two: each loop is compiled
    check_batched(case.op, case.sample, 7, shared, dtype, "numba")


@pytest.mark.parametrize("case", WRONG, ids=str)
def test_wrong_operands_raise(case: Case) -> None:
    assert case.sample.error is not None
    with pytest.raises(case.sample.error):
        ab.evaluate(
            apply(
                case.op,
                [ab.tensor(x) if isinstance(x, np.ndarray) else x for x in case.sample.operands],
                case.sample.attrs,
            )
        )


def _softmax(x: Any, axis: int) -> Any:
    e = np.exp(x - _largest(x, axis))
    return e / e.sum(axis, keepdims=True)


def _log_softmax(x: Any, axis: int) -> Any:
    shifted = x - _largest(x, axis)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def _largest(x: Any, axis: int) -> Any:
    return x.max(axis, keepdims=True)


def _layer_norm(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * weight + bias


def _conv1d(*args: Any) -> Any:
    *operands, has_bias = args
    bias = operands.pop() if has_bias else 0.0
    *xs, weight = operands
    return np.einsum("kni,oik->no", np.stack(xs), weight) + bias


def _cross_entropy(x: Any, i: Any) -> Any:
    p = _softmax(x, -1)
    return -np.log(p[i] if x.ndim == 1 else p[np.arange(len(i)), i])


def _cross_entropy_terms(x: Any, i: Any, *rest: Any) -> Any:
    *given, ignored, smoothing, term = rest
    weight = given[0] if given else np.ones(x.shape[1])
    rows, losses = np.arange(len(i)), -np.log(_softmax(x, -1))
    own, others = weight[i] * losses[rows, i], (losses * weight).mean(1)
    found = weight[i] if term == "weight" else (1.0 - smoothing) * own + smoothing * others
    return np.where(i == ignored, 0.0, found)


COMPOSITES: dict[str, Callable[..., Any]] = {
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "logsumexp": lambda x, axis: np.logaddexp.reduce(x, axis),
    "layer_norm": _layer_norm,
    "conv1d": _conv1d,
    "cross_entropy": _cross_entropy,
    "cross_entropy_terms": _cross_entropy_terms,
    "squared_error": lambda x, y: np.sum((x - y) ** 2),
    "mean": lambda x, axes, keepdims: np.mean(x, axes, keepdims=keepdims),
    "matmul": np.matmul,
    "einsum": lambda *args: np.einsum(f"{','.join(args[-2])}->{args[-1]}", *args[:-2]),
    "stack": lambda *xs: np.stack(xs[:-1], xs[-1]),
    "lookup": lambda x, *i: x[i],
    "window": lambda x, start, length, step: x[start + step * np.arange(length)],
    **{
        f"{name} rows": lambda like, stream, draw, shape, dtype, draws=name: OPS[draws].numpy(
            stream, draw, (len(like), *shape), dtype
        )
        for name in ("uniform", "normal")
    },
    "list_mean": lambda xs, k: np.mean(xs, 0),
    "list_softmax": lambda xs, k: _softmax(np.stack(xs), 0),
    "list_log_softmax": lambda xs, k: _log_softmax(np.stack(xs), 0),
    "list_logsumexp": lambda xs, k: np.logaddexp.reduce(xs, 0),
    "var": lambda x, axes, keepdims, ddof: np.var(x, axes, keepdims=keepdims, ddof=ddof),
    "list_var": lambda xs, k, ddof: np.var(xs, 0, ddof=ddof),
    "argmax": lambda x, axes, keepdims: np.argmax(x, axes[0], keepdims=keepdims),
    "argmin": lambda x, axes, keepdims: np.argmin(x, axes[0], keepdims=keepdims),
    "list_argmax": lambda xs, k: np.argmax(xs, 0),
    "list_argmin": lambda xs, k: np.argmin(xs, 0),
}


@pytest.mark.parametrize("case", [case for case in GOOD if case.op.name in COMPOSITES], ids=str)
def test_composite_equals_numpy(case: Case) -> None:
    with default("float64"), np.errstate(all="ignore"):
        graph = trace(case.op, case.sample.operands, case.sample.attrs)
        (actual,) = interpret(graph, Values(case.sample.operands))
        expected = np.asarray(COMPOSITES[case.op.name](*case.sample.operands, *case.sample.attrs))
    close(actual, expected, 1e-12)


def test_every_composite_is_compared_with_numpy() -> None:
    """Or with PyTorch, in `tests/parity/library`; those of segments in `tests/record/test_segments`."""
    composites = {op.name for op in OPS.values() if op.body is not None and not op.name.startswith("segment_")}
    assert composites == {*COMPOSITES, "dropout", *COMPOSED}


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_softmax_family_at_infinity(name: str) -> None:
    inf, nan = np.inf, np.nan
    wanted = {
        "softmax": [[1.0, 0.0], [nan, nan], [0.5, 0.5], [nan, nan], [1.0, 0.0]],
        "log_softmax": [[0.0, -inf], [nan, nan], [np.log(0.5)] * 2, [nan, nan], [0.0, -inf]],
        "logsumexp": [2.0, -inf, 3e38, nan, inf],
    }
    rows = [[2.0, -inf], [-inf, -inf], [3e38, 3e38], [nan, 1.0], [inf, 1.0]]
    for backend in requested.backends("numpy", "numba"):
        with ab.backend(backend):
            actual = ab.evaluate(ab.map(lambda row: apply(OPS[name], (ab.tensor(row),), (-1,)), rows))
        for y, expected, row in zip(actual, wanted[name], rows, strict=True):
            if inf in row and name != "logsumexp":
                expected = [nan, 0.0] if name == "softmax" else [nan, -inf]  # inf - inf
            close(y, np.asarray(expected, np.float32), 1e-6, f"{name}({row}) on {backend}")
