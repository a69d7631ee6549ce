"""The namespace of the array API gives the values, shapes and dtypes of `array-api-strict`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autobatch as ab
from autobatch.errors import OpTypeError
from autobatch.record import array_api
from tests.nested import leaves

strict = pytest.importorskip("array_api_strict")

pytestmark = pytest.mark.usefixtures("numpy_in_float64")

FLOATS = [
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "ceil",
    "cos",
    "cosh",
    "exp",
    "expm1",
    "floor",
    "log",
    "log10",
    "log1p",
    "log2",
    "reciprocal",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
    "mean",
    "var",
    "std",
    "signbit",
]
REAL = [
    "abs",
    "isfinite",
    "isinf",
    "isnan",
    "negative",
    "positive",
    "round",
    "sign",
    "square",
    "sum",
    "prod",
    "max",
    "min",
    "argmax",
    "argmin",
]
ANY = ["all", "any", "count_nonzero", "flip", "squeeze", "ones_like", "zeros_like", "empty", "empty_like"]
TWO_FLOATS = ["atan2", "copysign", "divide", "hypot", "logaddexp", "pow"]
TWO_REAL = [
    "add",
    "subtract",
    "multiply",
    "floor_divide",
    "remainder",
    "maximum",
    "minimum",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "equal",
    "not_equal",
]
TWO_BOOLS = ["bitwise_and", "bitwise_or", "bitwise_xor", "logical_and", "logical_or", "logical_xor"]

Call = Callable[[Any, Any, Any], Any]

OTHERS: dict[str, Call] = {
    "astype": lambda xp, x, y: xp.astype(x, xp.float32),
    "bitwise_invert": lambda xp, x, y: xp.bitwise_invert(x > 0),
    "broadcast_arrays": lambda xp, x, y: xp.broadcast_arrays(x, y[:1, ...]),
    "broadcast_to": lambda xp, x, y: xp.broadcast_to(x, (2, *x.shape)),
    "can_cast": lambda xp, x, y: xp.can_cast(x, xp.float64),
    "clip": lambda xp, x, y: (xp.clip(x, -1, 1), xp.clip(x, min=0), xp.clip(x, max=y)),
    "concat": lambda xp, x, y: (xp.concat((x, y)), xp.concat([x, y], axis=-1), xp.concat([x, y], axis=None)),
    "cumulative_sum": lambda xp, x, y: (
        xp.cumulative_sum(x, axis=-1),
        xp.cumulative_sum(x, axis=0, include_initial=True),
    ),
    "cumulative_prod": lambda xp, x, y: (
        xp.cumulative_prod(x, axis=-1),
        xp.cumulative_prod(x, axis=0, include_initial=True),
    ),
    "sort": lambda xp, x, y: (xp.sort(x), xp.sort(x, axis=0, descending=True)),
    "argsort": lambda xp, x, y: xp.argsort(x, axis=0),
    "take": lambda xp, x, y: xp.take(x, xp.asarray([0, 0]), axis=1),
    "take_along_axis": lambda xp, x, y: xp.take_along_axis(x, xp.zeros_like(x, dtype=xp.int64), axis=1),
    "diff": lambda xp, x, y: (xp.diff(x, axis=0, prepend=y), xp.diff(x, axis=-1, n=1)),
    "expand_dims": lambda xp, x, y: (xp.expand_dims(x, axis=0), xp.expand_dims(x, axis=-1)),
    "arange": lambda xp, x, y: (xp.arange(5), xp.arange(1, 7, 2), xp.arange(2.0, dtype=xp.float32)),
    "linspace": lambda xp, x, y: (xp.linspace(0.0, 1.0, 5), xp.linspace(0.0, 1.0, 5, endpoint=False)),
    "eye": lambda xp, x, y: (xp.eye(2), xp.eye(2, 3, k=1, dtype=xp.int64)),
    "zeros": lambda xp, x, y: (xp.zeros((2, 1)), xp.zeros(3, dtype=xp.int32)),
    "ones": lambda xp, x, y: xp.ones((2,), dtype=xp.float32),
    "full": lambda xp, x, y: (xp.full((2,), 3), xp.full(2, 1.5), xp.full(2, True)),
    "full_like": lambda xp, x, y: xp.full_like(x, 1),
    "asarray": lambda xp, x, y: (xp.asarray([1, 2]), xp.asarray(2.0), xp.asarray([True])),
    "matmul": lambda xp, x, y: xp.matmul(x, xp.matrix_transpose(y)),
    "matrix_transpose": lambda xp, x, y: xp.matrix_transpose(x),
    "mT": lambda xp, x, y: x.mT,
    "meshgrid": lambda xp, x, y: (
        *xp.meshgrid(x[0, ...], y[0, ...]),
        *xp.meshgrid(x[0, ...], y[0, ...], indexing="ij"),
    ),
    "moveaxis": lambda xp, x, y: xp.moveaxis(x, 0, -1),
    "nonzero": lambda xp, x, y: xp.nonzero(x),
    "permute_dims": lambda xp, x, y: xp.permute_dims(x, (1, 0)),
    "repeat": lambda xp, x, y: (xp.repeat(x, 2), xp.repeat(x, 2, axis=0)),
    "reshape": lambda xp, x, y: xp.reshape(x, (-1, 1)),
    "result_type": lambda xp, x, y: str(xp.result_type(x, y)).removeprefix("array_api_strict."),
    "isdtype": lambda xp, x, y: (xp.isdtype(x.dtype, "real floating"), xp.isdtype(x.dtype, ("integral", "bool"))),
    "finfo": lambda xp, x, y: float(xp.finfo(xp.float32).max),
    "iinfo": lambda xp, x, y: int(xp.iinfo(xp.int32).max),
    "roll": lambda xp, x, y: (xp.roll(x, 1), xp.roll(x, -1, axis=0)),
    "searchsorted": lambda xp, x, y: xp.searchsorted(xp.asarray([0, 1, 2]), xp.asarray([[1, 5]])),
    "stack": lambda xp, x, y: (xp.stack([x, y]), xp.stack((x, y), axis=-1)),
    "sums": lambda xp, x, y: (xp.sum(x, axis=0, keepdims=True), xp.sum(x, axis=(0, 1)), xp.sum(x, dtype=xp.float64)),
    "tensordot": lambda xp, x, y: (xp.tensordot(x, y), xp.tensordot(x, y, axes=((0,), (0,)))),
    "tile": lambda xp, x, y: xp.tile(x, (2, 1)),
    "tril": lambda xp, x, y: (xp.tril(x), xp.tril(x, k=-1)),
    "triu": lambda xp, x, y: (xp.triu(x), xp.triu(x, k=1)),
    "unique_values": lambda xp, x, y: xp.unique_values(x),
    "unique_counts": lambda xp, x, y: tuple(xp.unique_counts(x)),
    "unstack": lambda xp, x, y: xp.unstack(x, axis=-1),
    "vecdot": lambda xp, x, y: (xp.vecdot(x, y), xp.vecdot(x, y, axis=-2)),
    "where": lambda xp, x, y: xp.where(x > 0, x, y),
    "indices": lambda xp, x, y: (x[0, ...], x[..., None, -1], x[:, ::-1], x[..., :1]),
    "operators": lambda xp, x, y: (x + y * 2 - x, abs(-x), x**2, x >= y, 1 + x, +x),
    "from_dlpack": lambda xp, x, y: xp.from_dlpack(np.arange(3)),
}
VARIANTS: dict[str, Call] = {
    "squeeze": lambda xp, x, y: xp.squeeze(xp.expand_dims(x, axis=1), axis=1),
    "empty": lambda xp, x, y: (xp.empty((2, 3)).shape, xp.empty(2, dtype=xp.int32) * 0),
    "empty_like": lambda xp, x, y: (xp.empty_like(x).shape, xp.empty_like(x, dtype=xp.int32) * 0),
    "isin": lambda xp, x, y: xp.isin(x, y),
    "var": lambda xp, x, y: (xp.var(x, correction=0.5), xp.var(x, axis=0, keepdims=True)),
    "std": lambda xp, x, y: (xp.std(x, correction=0.5), xp.std(x, axis=-1)),
    "argmax": lambda xp, x, y: (xp.argmax(x), xp.argmax(x, axis=1, keepdims=True)),
    "pow": lambda xp, x, y: xp.pow(xp.abs(x), y),
}
TWO_INTEGERS = ["isin"]
CONSTANTS = ["e", "inf", "nan", "newaxis", "pi"]
DTYPES = ["bool", "float32", "float64", "int32", "int64"]


def calls(kind: str) -> dict[str, Call]:
    """What is called with arrays of a kind of dtype."""
    one, two = [*ANY], []
    if kind == "f":
        one, two = [*one, *REAL, *FLOATS], [*TWO_REAL, *TWO_FLOATS]
    elif kind == "i":
        one, two = [*one, *REAL, "floor", "ceil", "trunc"], [*TWO_REAL, *TWO_INTEGERS]
    else:
        one, two = [*one, "logical_not"], TWO_BOOLS
    others = OTHERS if kind != "b" else {}
    unary = {name: VARIANTS.get(name, lambda xp, x, y, name=name: getattr(xp, name)(x)) for name in one}
    binary = {name: VARIANTS.get(name, lambda xp, x, y, name=name: getattr(xp, name)(x, y)) for name in two}
    return {**unary, **binary, **others}


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dtype=st.sampled_from(["float64", "float32", "int64", "int32", "bool"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=5)
def test_functions_give_what_the_standard_says(shape: tuple[int, int], dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype).kind
    made = (rng.normal(size=(2, *shape)) * 3).astype(dtype)
    made[1] += made[1] == 0  # a divisor
    x, y = made
    xp = ab.tensor(x, dtype).__array_namespace__(api_version="2025.12")
    here: list[Any] = []
    there: list[Any] = []
    names: list[str] = []
    with np.errstate(all="ignore"):
        for name, call in calls(kind).items():
            wanted = leaves(call(strict, strict.asarray(x), strict.asarray(y)))
            got = leaves(call(xp, ab.tensor(x, dtype), ab.tensor(y, dtype)))
            assert len(got) == len(wanted), name
            here, there, names = here + got, there + wanted, names + [name] * len(got)
    numbers = ab.evaluate(here)
    for name, value, known, w in zip(names, here, numbers, there, strict=True):
        if not isinstance(value, ab.Tensor):
            assert value == w, name
            continue
        assert (value.shape, str(value.dtype)) == (w.shape, str(w.dtype).removeprefix("array_api_strict.")), name
        if name.startswith("unique"):  # in any order
            known, w = np.sort(known), np.sort(np.asarray(w))
        tolerance = 1e-12 if value.dtype == np.float64 else 1e-5
        np.testing.assert_allclose(known, np.asarray(w), rtol=tolerance, atol=tolerance, err_msg=name)


def test_every_name_is_tested_and_the_standards() -> None:
    called = {*FLOATS, *REAL, *ANY, *TWO_FLOATS, *TWO_REAL, *TWO_INTEGERS, *TWO_BOOLS, *OTHERS, "logical_not"}
    beside = {"indices", "mT", "operators", "sums"}  # calls of no name of their own
    assert {*called, *CONSTANTS, *DTYPES} == {*array_api.__all__, *beside}
    missing = [name for name in array_api.__all__ if not hasattr(strict, name)]
    assert not missing
    for name in CONSTANTS:
        np.testing.assert_equal(getattr(array_api, name), getattr(strict, name))
    assert [np.dtype(getattr(array_api, name)).name for name in DTYPES] == DTYPES
    info = array_api.__array_namespace_info__()
    assert set(info.dtypes(kind="real floating")) == {"float32", "float64"}
    assert info.default_dtypes()["real floating"] == np.float64
    with pytest.raises(ValueError, match="1999"):
        ab.ones(2).__array_namespace__(api_version="1999.12")


def test_what_needs_values_waits_or_raises() -> None:
    w = ab.Parameter([1.0, 0.0, 2.0])

    def places(x: Any) -> Any:
        (found,) = x.__array_namespace__().nonzero(x * w)
        return (found * 1.0).sum()

    with ab.profile() as profile:
        sums = [float(s) for s in ab.map(places, [ab.tensor([1.0, 1.0, k]) for k in (0.0, 1.0, 1.0)])]
    assert sums == [0.0, 2.0, 2.0]
    assert profile.launches < 8
    with pytest.raises(OpTypeError, match="detach"):
        array_api.unique_values(w * 2.0)


def test_memory_is_exchanged() -> None:
    w = ab.Parameter([1.0, 2.0])
    t = ab.tensor([1.0, 2.0]) * 3.0
    assert np.from_dlpack(t).tolist() == [3.0, 6.0]
    assert (t.device, t.to_device("cpu") is t, t.__dlpack_device__()) == ("cpu", True, (1, 0))
    with pytest.raises(OpTypeError, match="detach"):
        np.from_dlpack(w * 2.0)
    with pytest.raises(ValueError, match="copied"):
        t.__dlpack__(copy=False)
    with pytest.raises(OpTypeError, match="host"):
        t.to_device("cuda")

    class Exchanged:
        """An array that knows DLPack alone."""

        def __init__(self, array: Any) -> None:
            self.__dlpack__, self.__dlpack_device__ = array.__dlpack__, array.__dlpack_device__

    for make in (ab.tensor, ab.from_dlpack, ab.constant, ab.Parameter):
        assert make(Exchanged(np.array([1.0, 2.0]))).tolist() == [1.0, 2.0]
    assert ab.from_dlpack(np.ones(2, np.float32)).dtype == np.float32
    assert ab.tensor(strict.asarray([1, 2])).dtype == np.int64


def test_options_that_are_none_are_left_out() -> None:
    for arange in (ab.arange, array_api.arange):
        assert arange(3, step=None).tolist() == [0, 1, 2]
        assert arange(1, 3, None).tolist() == [1, 2]
        assert arange(5, None, 2).tolist() == [0, 2, 4]
        with pytest.raises(OpTypeError, match="arange: start is not a number"):
            arange(None, 3)
        with pytest.raises(OpTypeError, match="arange: the step is 0"):
            arange(1, 3, 0)


def test_asking_for_a_device_records_nothing() -> None:
    t = ab.tensor([1.0]) * 2.0
    before = t._tape.n_nodes  # type: ignore[attr-defined]
    t.to_device("cpu")
    assert t._tape.n_nodes == before  # type: ignore[attr-defined]
