"""Products of every library against NumPy in float64: shapes, strides, dtypes, NaN; what they promise about bits."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
from typing import Any

import llvmlite.binding
import numpy as np
import pytest

import autobatch as ab
from autobatch.backends.host import mkl, tile_code, tiles
from autobatch.backends.host.matmul import LIBRARIES
from autobatch.backends.host.matmul import library as blas
from autobatch.errors import BackendError, MissingExtraError

HAS_MKL = importlib.util.find_spec("mkl") is not None or mkl._path() is not None
EACH = pytest.mark.parametrize(
    "library",
    [
        pytest.param(name, marks=pytest.mark.skipif(name == "mkl" and not HAS_MKL, reason="MKL is not installed"))
        for name in LIBRARIES
    ],
)
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
TOLERANCE = {"float32": 1e-5, "float64": 1e-13}
SHAPES = [(m, k, n) for m in (0, 1, 5, 6, 13) for k in (0, 1, 17, 64) for n in (0, 1, 5, 16, 33, 64, 97)]
LARGE = [(250, 1030, 65), (7, 513, 200), (241, 3, 129)]  # more than one block of rows and of the inner index


def draw(rng: Any, dtype: str, *shape: int) -> Any:
    return rng.standard_normal(shape).astype(dtype)


def close(y: Any, expected: Any) -> None:
    np.testing.assert_allclose(
        y, expected, rtol=0, atol=TOLERANCE[str(y.dtype)] * max(1.0, np.abs(expected).max(initial=0))
    )


@EACH
@DTYPES
def test_shapes(library: Any, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    with ab.products(library):
        for m, k, n in SHAPES + LARGE:
            x, w = draw(rng, dtype, m, k), draw(rng, dtype, k, n)
            expected = x.astype("float64") @ w.astype("float64")
            y = np.full((m, n), np.nan, dtype)
            blas().gemm(x, w, y)
            close(y, expected)
            for keep in (True, False):
                y = np.full((m, n), np.nan, dtype)
                blas().gemm_transposed(x, np.ascontiguousarray(w.T), y, keep)
                close(y, expected)


@EACH
@DTYPES
def test_strides(library: Any, dtype: Any) -> None:
    """Transposed, sliced, reversed and broadcast operands; rows of the result that lie apart stay untouched between."""
    rng = np.random.default_rng(1)

    def views(rows: int, columns: int) -> list[Any]:
        wide = draw(rng, dtype, 2 * rows, 2 * columns)
        return [
            draw(rng, dtype, columns, rows).T,
            wide[:rows, 3 : 3 + columns],
            wide[::2, :columns],
            wide[:rows, ::2],
            wide[:rows, :columns][::-1, ::-1],
            np.broadcast_to(draw(rng, dtype, columns), (rows, columns)),
            np.broadcast_to(draw(rng, dtype, rows, 1), (rows, columns)),
        ]

    with ab.products(library):
        for x in views(9, 20):
            for w in views(20, 70):
                expected = x.astype("float64") @ w.astype("float64")
                for run in (
                    functools.partial(blas().gemm, x, w),
                    functools.partial(blas().gemm_transposed, x, w.T, keep=True),
                ):
                    whole = np.full((9, 80), 7, dtype)
                    run(whole[:, 2:72])
                    close(whole[:, 2:72], expected)
                    assert (whole[:, :2] == 7).all() and (whole[:, 72:] == 7).all()


@EACH
@DTYPES
def test_stacks(library: Any, dtype: Any) -> None:
    rng = np.random.default_rng(2)
    with ab.products(library):
        for b, m, k, n in [(0, 2, 3, 4), (3, 0, 2, 2), (4, 3, 0, 5), (5, 1, 20, 9), (5, 7, 20, 70), (3, 8, 8, 1)]:
            x, w = draw(rng, dtype, b, m, k), draw(rng, dtype, b, k, n)
            flipped = np.ascontiguousarray(w.transpose(0, 2, 1)).transpose(0, 2, 1)
            for right in (w, flipped, w[:1] * np.ones((b, 1, 1), dtype), np.broadcast_to(w[:1], w.shape) if b else w):
                y = np.full((b, m, n), np.nan, dtype)
                blas().gemm_batched(x, right, y)
                close(y, x.astype("float64") @ right.astype("float64"))


@EACH
@DTYPES
def test_sums_of_products(library: Any, dtype: Any) -> None:
    """Stacks as they lie, transposed, and sliced; rows of the result that lie apart stay untouched between."""
    rng = np.random.default_rng(8)
    with ab.products(library):
        for b, m, n, k in [
            (0, 2, 3, 4),
            (3, 2, 3, 0),
            (1, 5, 9, 33),
            (4, 250, 7, 20),
            (6, 13, 130, 17),
            (2, 8, 70, 600),
        ]:
            left, right = draw(rng, dtype, b, 2 * m, 2 * k), draw(rng, dtype, b, n, 2 * k)
            turned = np.ascontiguousarray(right.transpose(0, 2, 1)).transpose(0, 2, 1)
            for x, v in ((left[:, m:, k:], right[:, :, :k]), (left[:, ::2, ::2], turned[:, :, k:])):
                whole = np.full((m, n + 4), 7, dtype)
                blas().gemm_batch_reduce(x, (v,), whole[:, 2:-2])
                close(whole[:, 2:-2], np.einsum("bmk,bnk->mn", x.astype("float64"), v.astype("float64")))
                assert (whole[:, :2] == 7).all() and (whole[:, -2:] == 7).all()


@EACH
@DTYPES
def test_sums_over_the_elements_of_each_node(library: Any, dtype: Any) -> None:
    rng = np.random.default_rng(9)
    with ab.products(library):
        for nodes, q, m, n in [([], 1, 2, 3), ([0, 0, 3], 1, 5, 17), ([1] * 40, 3, 6, 1), ([0, 1, 1, 2], 2, 20, 33)]:
            x, w = draw(rng, dtype, len(nodes), q, m), draw(rng, dtype, len(nodes), q, n)
            y = np.full((4, m, n), np.nan, dtype)
            blas().gemm_segments(x, w, np.array(nodes, np.int64), y)
            for k in range(4):
                here = np.array(nodes, int) == k
                close(y[k], np.einsum("eqm,eqn->mn", x[here].astype("float64"), w[here].astype("float64")))


def in_pool(rng: Any, stack: Any, together: bool) -> Any:
    """Matrices as rows of a pool, those of each one after the other or anywhere."""
    b, n, w = stack.shape
    pool = draw(rng, str(stack.dtype), 3 * b * n + 5, w)
    rows = (rng.permutation(2 * b)[:b, None] * n + np.arange(n)).reshape(-1) if together else rng.permutation(b * n)
    pool[rows] = stack.reshape(-1, w)
    return pool, rows.astype(np.int32), n


STACKS = [(0, 2, 3, 4), (1, 5, 3, 7), (3, 1, 20, 9), (4, 7, 20, 70), (3, 8, 9, 1), (2, 250, 33, 65)]


@EACH
@DTYPES
@pytest.mark.parametrize("together", [True, False])
def test_stacks_are_multiplied_in_pools(library: Any, dtype: Any, together: Any) -> None:
    """One product and sums of two and three, one matrix for all or each its own, turned or not; to a pool as well."""
    rng = np.random.default_rng(9)
    with ab.products(library):
        for b, m, k, n in STACKS:
            w, v = draw(rng, dtype, b, k, n), draw(rng, dtype, b, k, n)
            x, turned, shared = draw(rng, dtype, b, m, k), draw(rng, dtype, b, k, m), draw(rng, dtype, m, 2 * k)[:, :k]
            of_w, of_x = ((*in_pool(rng, s, together), False) for s in (w, x))
            of_turned = (*in_pool(rng, turned, together), True)
            plain = w if n == 1 else of_w  # vectors are no rows of a pool
            first, second, third = x @ w, turned.transpose(0, 2, 1) @ v, shared @ w
            for terms, expected in (
                ([(of_x, plain)], first),
                ([(of_turned, v)], second),
                ([(shared, plain)], third),
                ([(of_x, w), (of_turned, v)], first + second),
                ([(shared, w), (x, plain), (of_turned, v)], third + first + second),
            ):
                y = np.full((b, m, n), np.nan, dtype)
                blas().gemm_batched_sum(terms, y)
                close(y, expected)
                if n == 1:
                    continue
                for add in (True, False):
                    pool, rows, _ = in_pool(rng, expected, together)
                    before = pool.copy()
                    blas().gemm_batched_sum_to_rows(terms, (pool, rows, -1), m, add)
                    before[rows] = expected.reshape(-1, n) + (before[rows] if add else 0)
                    close(pool, before)


@EACH
@DTYPES
@pytest.mark.parametrize("together", [True, False])
def test_sums_of_products_read_pools(library: Any, dtype: Any, together: Any) -> None:
    rng = np.random.default_rng(10)
    with ab.products(library):
        for b, m, n, k in [(0, 2, 3, 4), (1, 5, 9, 33), (4, 250, 7, 20), (3, 13, 130, 17), (2, 8, 64, 16)]:
            x, parts = draw(rng, dtype, b, m, k), [draw(rng, dtype, b, rows, k) for rows in (n, 5, n)]
            expected = [np.einsum("bmk,bnk->mn", x.astype("float64"), v.astype("float64")) for v in parts]
            placed = [(*in_pool(rng, v, together), False) for v in parts]
            for of_x in (x, (*in_pool(rng, x, together), False)):
                for count in (1, 2, 3):
                    y = np.full((m, sum(v.shape[1] for v in parts[:count])), np.nan, dtype)
                    blas().gemm_batch_reduce(of_x, [parts[0], *placed[1:count]], y)
                    close(y, np.concatenate(expected[:count], 1))


def test_rows_that_are_added_to_may_repeat() -> None:
    rng = np.random.default_rng(11)
    x, w, pool = draw(rng, "float32", 2, 4, 3), draw(rng, "float32", 2, 3, 20), draw(rng, "float32", 9, 20)
    rows = np.array([2, 3, 4, 5, 2, 3, 4, 5], np.int32)
    expected = pool.copy()
    expected[2:6] += (x @ w).sum(0)
    blas().gemm_batched_sum_to_rows([(x, w)], (pool, rows, -1), 4, True)
    close(pool, expected)


@EACH
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_reach_what_they_touch_and_nothing_else(library: Any, bad: Any) -> None:
    rng = np.random.default_rng(3)
    for n in (3, 64, 70):
        x, w = draw(rng, "float32", 8, 20), draw(rng, "float32", 20, n)
        x[2, 5] = bad
        w[7, n - 1] = bad
        with ab.products(library), np.errstate(all="ignore"):  # as in every pass
            for run in (
                functools.partial(blas().gemm, x, w),
                functools.partial(blas().gemm_transposed, x, w.T.copy(), keep=True),
            ):
                y = np.empty((8, n), np.float32)
                run(y)
                finite = np.isfinite(y)
                assert not finite[2].any() and not finite[:, n - 1].any()
                assert np.delete(np.delete(finite, 2, 0), n - 1, 1).all()


@EACH
@DTYPES
def test_bits_do_not_depend_on_alignment_or_on_the_run(library: Any, dtype: Any) -> None:
    rng = np.random.default_rng(4)
    m, k, n = 21, 130, 75
    x, w = draw(rng, dtype, m, k), draw(rng, dtype, k, n)
    results = []
    with ab.products(library):
        for shift in (0, 0, 1, 3, 8):

            def moved(a: Any, shift: int = shift) -> Any:
                memory = np.empty(a.size + shift, dtype)
                memory[shift:] = a.reshape(-1)
                return memory[shift:].reshape(a.shape)

            y = moved(np.zeros((m, n), dtype))
            blas().gemm(moved(x), moved(w), y)
            results.append(y)
    if library != "numpy":  # NumPy's BLAS promises nothing
        assert all((y == results[0]).all() for y in results)


@DTYPES
def test_own_rows_have_the_same_bits_among_few_and_many_rows_and_in_every_layout(dtype: Any) -> None:
    rng = np.random.default_rng(5)
    x, w = draw(rng, dtype, 250, 600), draw(rng, dtype, 600, 130)
    together = np.empty((250, 130), dtype)
    with ab.products("own"):
        blas().gemm(x, w, together)
        for rows in (slice(3, 4), slice(10, 17), slice(0, 130)):
            for run in (
                lambda y, x: blas().gemm(x, w, y),
                lambda y, x: blas().gemm(np.asfortranarray(x), w, y),
                lambda y, x: blas().gemm_transposed(x, w.T.copy(), y, False),
                lambda y, x: blas().gemm_batched(x[None], w[None], y[None]),
            ):
                y = np.empty_like(together[rows])
                run(y, x[rows])
                assert (y == together[rows]).all()


@pytest.mark.parametrize("features", [{"avx": True}, {"neon": True}, {}], ids=str)
def test_other_machines(features: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiles that machines with narrower vectors get; any machine can run them."""
    monkeypatch.setattr(llvmlite.binding, "get_host_cpu_features", lambda: features)
    for module in (tile_code, tiles):
        name = f"{module.__name__}_{len(features)}_{'_'.join(features)}"
        spec = importlib.util.spec_from_file_location(name, module.__file__)
        assert spec is not None and spec.loader is not None
        other = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, other)
        spec.loader.exec_module(other)
        monkeypatch.setitem(sys.modules, module.__name__, other)
    assert other.PANEL_BYTES * other.ROWS < tile_code.PANEL_BYTES * tile_code.ROWS or tile_code.VECTOR_BYTES < 64
    rng = np.random.default_rng(6)
    for m, k, n in [(1, 9, 3), (13, 40, 21), (130, 270, 37)]:
        x, v = draw(rng, "float32", m, k), draw(rng, "float32", n, k)
        y = np.full((m, n), np.nan, np.float32)
        other.multiply_panels(x, other.panels(v), y)
        close(y, x.astype("float64") @ v.T.astype("float64"))
        again = np.full((m, n), np.nan, np.float32)
        other.multiply(x, np.ascontiguousarray(v.T), again)
        assert (y == again).all()


@EACH
def test_a_model_has_the_same_values_and_gradients_with_every_library(library: Any) -> None:
    rng = np.random.default_rng(7)
    weight, matrix, column = rng.normal(size=(20, 30)), rng.normal(size=(30, 6)), rng.normal(size=(20, 1))
    examples = [rng.normal(size=(int(n), 30)) for n in rng.integers(0, 5, size=12)]

    def gradients(batched: bool) -> list[Any]:
        w, a, c = ab.Parameter(weight), ab.Parameter(matrix), ab.Parameter(column)

        def loss(x: Any) -> Any:
            h = ab.tanh(ab.tensor(x) @ w.T)
            inner = ab.transpose(h) @ h  # a product of two matrices of the example
            return ab.sum(h @ c) + ab.sum(inner @ w @ a)

        total = ab.sum(ab.map(loss, examples, batched=batched))
        total.backward()
        return [total.numpy(), w.grad, a.grad, c.grad]

    ab.set_default_dtype("float64")
    expected = gradients(batched=False)
    with ab.products(library):
        for got, wanted in zip(gradients(batched=True), expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-10)


def test_the_choice_is_reported_and_undone() -> None:
    before = ab.products_in_use()
    with ab.products("numpy"):
        assert ab.products_in_use().startswith("NumPy")
    assert ab.products_in_use() == before
    with pytest.raises(BackendError, match="no library is called 'blis'"):
        ab.set_products("blis")
    assert ab.products_in_use() == before


def test_a_missing_mkl_is_named_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mkl, "_path", lambda: None)
    mkl.load.cache_clear()
    try:
        with pytest.raises(MissingExtraError, match=r"pip install 'autobatch-compiler\[mkl\]'"):
            ab.set_products("mkl")
    finally:
        mkl.load.cache_clear()


@pytest.mark.parametrize(("name", "answer"), [("numpy", "NumPy"), ("", "own tiles"), ("else", "BackendError")])
def test_the_environment_chooses_at_start(name: Any, answer: Any) -> None:
    command = "import autobatch as ab; print(ab.products_in_use())"
    environment = {**os.environ, "AUTOBATCH_PRODUCTS": name}
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, env=environment)
    assert answer in (done.stderr if answer.endswith("Error") else done.stdout)
    assert (done.returncode != 0) == answer.endswith("Error")


@pytest.mark.skipif(not HAS_MKL, reason="MKL is not installed")
def test_mkl_and_pytorch_run_in_one_process() -> None:
    pytest.importorskip("torch")
    command = """
import torch, numpy as np, autobatch as ab
with ab.products("mkl"):
    a = torch.ones(300, 300)
    w = ab.Parameter(np.ones((300, 200)))
    for _ in range(2):
        assert float((a @ a)[0, 0]) == 300
        assert [float(y[0]) for y in ab.map(lambda x: w @ (ab.ones(200) * x), [1.0, 2.0])] == [200, 400]
    assert "MKL" in ab.products_in_use()
"""
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
