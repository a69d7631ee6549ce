"""Linear algebra and sorting: derivatives, what has no result, and how many launches there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.base.types import tensor_type
from autobatch.errors import OpTypeError
from autobatch.ir.trace import Builder
from tests import requested
from tests.ops.checks import check_vjp, default


def _positive(rng: np.random.Generator) -> Any:
    x = rng.normal(size=(3, 3))
    return x @ x.T + np.diag([1.0, 2.0, 3.0])


SMOOTH: dict[str, tuple[Callable[..., Any], Callable[..., list[Any]]]] = {
    "cholesky": (ab.cholesky, lambda rng: [_positive(rng)]),
    "eigh": (ab.eigh, lambda rng: [_positive(rng)]),
    "det": (ab.det, lambda rng: [_positive(rng)]),
    "qr": (ab.qr, lambda rng: [rng.normal(size=(2, 3))]),
    "triangular_solve": (
        lambda a, b: ab.triangular_solve(a, b, True, True),
        lambda rng: [_positive(rng) * 0.3, rng.normal(size=3)],
    ),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_equal_differences_to_second_order(name: str) -> None:
    fn, make = SMOOTH[name]
    operands = make(np.random.default_rng(1))
    builder = Builder()
    found = fn(*(builder.input("rows", k, tensor_type(x.dtype, x.shape)) for k, x in enumerate(operands)))
    with default("float64"):
        check_vjp(builder.finish(list(found) if isinstance(found, tuple) else [found]), operands, order=2)


def test_what_has_no_result_is_nan_alone() -> None:
    singular, regular = np.ones((2, 2)), 2.0 * np.eye(2)
    with ab.backend(requested.backend("numpy")):
        for fn in (ab.inverse, lambda x: ab.cholesky(x - 1.5)):
            bad, good = ab.evaluate(ab.map(lambda x, fn=fn: fn(ab.tensor(x) * 1.0), [singular, regular + 1.5]))
            assert np.isnan(bad).all() and np.isfinite(good).all()
        assert float(ab.det(ab.tensor(singular))) == 0.0
        assert [float(x) for x in ab.slogdet(ab.tensor(singular))] == [0.0, -np.inf]
    with pytest.raises(OpTypeError, match="not square"):
        ab.det(np.ones((2, 3)))
    with pytest.raises(OpTypeError, match="sizes differ"):
        ab.solve(np.eye(2), np.ones(3))


def test_matrices_of_no_rows_and_of_no_numbers() -> None:
    with ab.backend(requested.backend("numpy")):
        assert float(ab.det(ab.zeros((0, 0)))) == 1.0
        assert [x.tolist() for x in ab.slogdet(ab.zeros((2, 0, 0)))] == [[1.0, 1.0], [0.0, 0.0]]
        for bad in (np.nan, np.inf):
            x = ab.tensor(np.array([[[bad, 0.0], [0.0, 1.0]], np.eye(2)]))
            for part in ab.evaluate([*ab.eigh(x), *ab.svd(x)]):
                assert np.isnan(part[0]).all() and np.isfinite(part[1]).all()


def test_nodes_of_one_signature_are_one_launch() -> None:
    """So are sorted rows, gathered elements and products by labels of any number of rows."""
    w = ab.Parameter(np.random.default_rng(0).normal(size=(3, 3)))
    rows = np.random.default_rng(1).normal(size=(9, 3))

    def one(n: int) -> list[Any]:
        a = ab.tensor(rows[:3]) * float(n) + w
        x = ab.tensor(rows[:n]) * 2.0
        values, vectors = ab.eigh(a @ a.T)
        return [ab.solve(a, rows[3]), values, vectors, ab.sort(x).sum(0), ab.einsum("ni,ji->nj", x, w).sum(0)]

    def launches(lengths: list[int]) -> int:
        with ab.profile() as profile, ab.backend(requested.backend("numpy")):
            ab.evaluate(ab.map(one, lengths))
        return profile.launches

    launches([2, 5])  # from now on lengths are known to vary
    assert launches([2, 5, 7, 4, 3, 6]) == launches([4, 3])


def test_order_of_equal_elements_and_their_gradients() -> None:
    x = np.array([2.0, 1.0, 2.0, np.nan, 1.0])
    with ab.backend(requested.backend("numpy")):
        t = ab.tensor(x)
        assert ab.argsort(t).tolist() == [1, 4, 0, 2, 3]
        assert ab.argsort(t, descending=True).tolist() == [3, 0, 2, 1, 4]
        assert np.isnan(float(ab.median(t)))
        w = ab.Parameter([3.0, 1.0, 2.0])
        values, places = ab.topk(w * 1.0, 2)
        (values * ab.tensor([1.0, 10.0])).sum().backward()
        assert places.tolist() == [0, 2] and requested.host(w.grad).tolist() == [1.0, 0.0, 10.0]
    with pytest.raises(OpTypeError, match="4 of the 3"):
        ab.topk(w, 4)


def test_einsum_says_what_is_wrong() -> None:
    x = np.ones((2, 3))
    for subscripts, match in (("ij,jk", "terms"), ("ijk", "labels"), ("ij->ik", "in no operand"), ("ii", "extents")):
        with pytest.raises(OpTypeError, match=match):
            ab.einsum(subscripts, x)


@pytest.mark.parametrize("hard", [True, False])
def test_gumbel_softmax_draws_classes_by_their_probability(hard: bool) -> None:
    ab.seed(3)
    w = ab.Parameter(np.log([[0.7, 0.2, 0.1]]))
    with ab.backend(requested.backend("numpy")):
        drawn = ab.gumbel_softmax(w + ab.zeros((2000, 1)), 0.5, hard)
        rows = drawn.numpy()
        np.testing.assert_allclose(rows.sum(1), 1.0, rtol=1e-5)
        np.testing.assert_allclose((rows == rows.max(1, keepdims=True)).mean(0), [0.7, 0.2, 0.1], atol=0.03)
        assert set(np.unique(rows)) == {0.0, 1.0} or not hard
        (ab.gumbel_softmax(w * 1.0, hard=hard)[0, 0] * 2.0).backward()
        assert np.abs(requested.host(w.grad)).max() > 0.0


@pytest.mark.parametrize("terms", [",->", "->", "a,a->", "ab,ab->b", "ab,cb->ca", "a,b->ba", "dab,dcb->acd"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int32", "bool"])
def test_einsum_has_the_dtype_of_numpy(terms: str, dtype: str) -> None:
    shapes = [[{"a": 2, "b": 3, "c": 4, "d": 2}[c] for c in term] for term in terms[: terms.index("-")].split(",")]
    arrays = [np.asarray(np.arange(np.prod(shape)).reshape(shape) % 3).astype(dtype) for shape in shapes]
    found = ab.einsum(terms, *[ab.tensor(x, dtype=x.dtype) for x in arrays]).numpy()
    expected = np.einsum(terms, *arrays)
    np.testing.assert_allclose(found, expected)
    assert found.dtype == expected.dtype
