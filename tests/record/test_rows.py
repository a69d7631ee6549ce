"""Ops along the rows of matrices whose number varies: one launch each, with the values and gradients of the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.errors import OpTypeError
from autobatch.record.tape import state
from tests import requested

LENGTHS = [1, 4, 2, 37, 1, 3]
BACKENDS = requested.backends("numpy", "numba")
Way = Callable[[Any], Any]

ALONG: dict[str, Way] = {
    "softmax": lambda h: ab.softmax(h, axis=0),
    "log_softmax": lambda h: ab.log_softmax(h, axis=0),
    "logsumexp": lambda h: ab.logsumexp(h, axis=0),
    "cumsum": lambda h: ab.cumsum(h, axis=0),
    "var": lambda h: ab.var(h, axis=0),
    "var less a half": lambda h: h.var(axis=0, correction=0.5),
    "var of one row": lambda h: h.var(axis=0, keepdims=True),
    "sum of one row": lambda h: h.sum(axis=0, keepdims=True),
    "max of one row": lambda h: h.max(axis=0, keepdims=True),
    "argmax": lambda h: ab.argmax(h, axis=0),
    "argmin of one row": lambda h: h.argmin(axis=0, keepdims=True),
}


def outcome(way: Way, shape: tuple[int, ...], batched: bool, lengths: list[int]) -> list[Any]:
    """Values, gradients, and gradients of a function of the gradients."""
    table = ab.Parameter(np.random.default_rng(0).normal(size=(50, *shape)))
    other = ab.Parameter(np.random.default_rng(1).normal(size=shape))
    ab.seed(0)

    def rows(n: int) -> Any:
        return ab.stack([table[k] * other for k in range(n)])

    def loss(h: Any) -> Any:
        y = way(h)
        return (y * y * 0.7 + ab.tanh(y)).sum() if y.dtype.kind == "f" else (y * 0.5).sum()

    def one(n: int) -> tuple[Any, Any, Any]:
        h = rows(n)
        slope = ab.grad(loss)(h)
        return way(h), loss(h), (slope * slope).sum()

    results = ab.map(one, lengths, batched=batched)
    found = ab.evaluate([y for y, *_ in results])
    for k in (1, 2):
        table.grad = other.grad = None
        (ab.sum([r[k] for r in results]) + other.sum() * 0.0 + table[0].sum() * 0.0).backward(retain=True)
        found += [requested.host(p.grad.to_dense() if hasattr(p.grad, "to_dense") else p.grad) for p in (table, other)]
    return found


@pytest.mark.parametrize(
    ("shape", "backend"), [((3,), BACKENDS[0]), *(((2, 3), backend) for backend in BACKENDS)], ids=str
)
@pytest.mark.parametrize("name", ALONG)
def test_along_the_rows_equals_the_loop(name: str, shape: tuple[int, ...], backend: str) -> None:
    ab.set_default_dtype("float64")
    with ab.backend(backend):
        together, alone = (outcome(ALONG[name], shape, batched, LENGTHS) for batched in (True, False))
        first = outcome(ALONG[name], shape, True, LENGTHS[:1])
    for a, b in zip(together, alone, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(first[0], together[0], rtol=1e-10)


@pytest.mark.parametrize("name", ALONG)
def test_rows_of_any_number_share_a_launch(name: str) -> None:
    w = ab.Parameter(np.ones(4))

    def one(n: int) -> Any:
        return ALONG[name](ab.stack([w * ab.tensor(float(k)) for k in range(n)]))

    ab.evaluate(ab.map(one, range(1, 17)))
    with ab.profile() as p:
        ab.evaluate(ab.map(one, range(1, 17)))
    assert p.launches == 2, p.table()


def test_dropout_of_rows_of_any_number_shares_a_launch() -> None:
    ab.set_default_dtype("float64")

    def way(h: Any) -> Any:
        return ab.dropout(h, 0.3, training=True)

    with ab.backend(requested.backend("numpy")):
        together, alone = (outcome(way, (3,), batched, LENGTHS) for batched in (True, False))
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
        with ab.profile() as p:
            ab.evaluate(ab.map(lambda n: way(ab.tensor(np.ones((n, 3)))), LENGTHS))
    assert p.launches == 1, p.table()


def test_replayed_with_the_row_numbers_of_each_example() -> None:
    ab.set_default_dtype("float64")
    w = ab.Parameter(np.random.default_rng(4).normal(size=3))
    examples = [np.random.default_rng(k).integers(-n, n, size=m) for k, (n, m) in enumerate([(3, 5), (2, 0), (3, 5)])]

    def one(numbers: Any) -> Any:
        h = ab.tanh(ab.stack([w * ab.tensor(float(k)) for k in range(3)]))
        with ab.no_grad():
            first = ab.dropout(h[[2, 0]], 0.5, training=True)[[1, 1]]
        chosen = ab.dropout(h[numbers], 0.5, training=True)
        return (chosen * h[[0] * len(numbers)]).sum() + (first * h[[1, 2]]).sum()

    with ab.backend(requested.backend("numpy")):
        for order in ([0, 1, 2], [2, 0, 1, 0], [1, 1, 2, 0]):
            found = []
            for ways in ({"reuse": True}, {"batched": False}):
                w.grad = None
                ab.seed(5)
                losses = ab.map(one, [examples[k] for k in order], **ways)
                ab.sum(losses).backward(retain=True)
                found.append([*ab.evaluate(losses), requested.host(w.grad)])
            for a, b in zip(*found, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-10)
    ab.forget()


@pytest.mark.parametrize("backend", BACKENDS)
def test_replayed(backend: str) -> None:
    ab.set_default_dtype("float64")
    w = ab.Parameter(np.arange(1.0, 4.0))

    def one(n: int) -> Any:
        h = ab.stack([w * ab.tensor(float(k)) for k in range(n)])
        return (ab.cumsum(h, axis=0) * ab.softmax(h, axis=0)).sum(axis=0)

    with ab.backend(backend):
        for _ in range(3):
            kept, loop = ab.map(one, LENGTHS, reuse=True), ab.map(one, LENGTHS, batched=False)
            for a, b in zip(ab.evaluate(kept), ab.evaluate(loop), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-10)


def test_nothing_of_one_example_reaches_another() -> None:
    rows = [[[np.nan, 1.0], [np.inf, 2.0]], [[1.0, 2.0]], [[1e300, -1e300], [1.0, 1.0], [2.0, 3.0]]]
    ab.set_default_dtype("float64")
    for backend in BACKENDS:
        with ab.backend(backend):
            sums = ab.evaluate(ab.map(lambda x: ab.cumsum(ab.tensor(x) * 1.0, axis=0), rows))
        for y, x in zip(sums, rows, strict=True):
            np.testing.assert_array_equal(y, np.cumsum(x, 0))


def test_as_numpy() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4))
    x[2, 1] = x[0, 1] = x.max() + 1.0
    ab.set_default_dtype("float64")
    t = ab.tensor(x)
    for ours, numpys in (
        (ab.argmax(t), np.argmax(x)),
        (t.argmin(axis=1), np.argmin(x, 1)),
        (ab.argmax(t, axis=0, keepdims=True), np.argmax(x, 0, keepdims=True)),
        (ab.argmax(t, keepdims=True), np.argmax(x, keepdims=True)),
        (ab.argmax(ab.tensor([1.0, np.nan, np.nan])), 1),
        (ab.argmax(ab.tensor([False, True, True])), 1),
        (ab.argmin(ab.tensor([3, 1, 1])), 1),
        (ab.std(t, axis=(0, 1), correction=1), np.std(x, ddof=1)),
        (np.var(t, axis=0, ddof=1), np.var(x, axis=0, ddof=1)),
        (np.std(t), np.std(x)),
        (np.argmax(t, axis=1), np.argmax(x, axis=1)),
        (np.cumsum(t), np.cumsum(x)),
        (np.cumsum(t, axis=1), np.cumsum(x, axis=1)),
        (ab.tensor([True, True]).cumsum(), [1, 2]),
        (ab.tensor([1, 2, 3]).var(), np.var([1, 2, 3])),
        (ab.tensor(2.0).var(), 0.0),
        (ab.cumsum(ab.zeros((0, 2)), axis=0), np.zeros((0, 2))),
    ):
        np.testing.assert_allclose(np.asarray(ours), numpys, rtol=1e-12)
        assert np.asarray(ours).dtype == np.asarray(numpys).dtype


def test_what_has_no_answer_raises_at_its_line() -> None:
    empty = ab.zeros((0, 2))
    calls: list[Callable[[], Any]] = [
        lambda: ab.argmax(empty, axis=0),
        lambda: ab.var(empty),
        lambda: ab.var([]),
        lambda: ab.cumsum(ab.zeros((2, 2))),
        lambda: ab.cumsum(ab.tensor(1.0)),
        lambda: ab.argmax([ab.zeros(2), None]),
    ]
    for call in calls:
        with pytest.raises(OpTypeError, match=r"test_rows\.py"):
            call()


# Lists are rows.

LISTS: dict[str, Way] = {
    "softmax": lambda xs: ab.softmax(xs, axis=0),
    "log_softmax": lambda xs: ab.log_softmax(xs, axis=0),
    "logsumexp": lambda xs: ab.logsumexp(xs, axis=0),
    "cumsum": lambda xs: ab.cumsum(xs, axis=0),
    "var": ab.var,
    "argmax": ab.argmax,
}


@pytest.mark.parametrize("size", [(), (2,)], ids=["scalars", "vectors"])
@pytest.mark.parametrize("name", LISTS)
def test_lists_are_rows(name: str, size: tuple[int, ...]) -> None:
    ab.set_default_dtype("float64")
    x = np.random.default_rng(2).normal(size=(5, *size))
    listed = LISTS[name]([ab.tensor(e) * 1.0 for e in x])
    np.testing.assert_allclose(np.asarray(listed), np.asarray(ALONG[name](ab.tensor(x))), rtol=1e-12)


# Rows by their numbers.

CHOSEN: dict[str, Way] = {
    "part": lambda h: h[1:],
    "every second, from the last": lambda h: h[::-2],
    "reversed": lambda h: h[::-1],
    "gathered": lambda h: h[[2, 0, 1, -1, 2]],
    "by an array": lambda h: h[np.arange(len(h)) // 2],
    "in any order": lambda h: h[np.random.default_rng(len(h)).permutation(len(h))],
    "by small integers": lambda h: h[np.array([-1, 0], np.int8)],
    "by a mask": lambda h: h[np.arange(len(h)) % 3 != 1],
    "by a list of masks": lambda h: h[[k % 2 == 0 for k in range(len(h))]],
    "hundreds": lambda h: h[np.random.default_rng(0).integers(-3, 3, size=70)],
    "of none": lambda h: h[[]],
    "gathered from gathered": lambda h: h[[2, 0, -1]][[1, 1, 2]][::-1],
    "joined": lambda h: ab.concat([h[1:], h, h[:1]]),
    "padded": lambda h: ab.pad(h, ((2, 1), (0, 0))),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CHOSEN)
def test_chosen_rows_equal_the_loop(name: str, backend: str) -> None:
    ab.set_default_dtype("float64")
    with ab.backend(backend):
        together, alone = (outcome(CHOSEN[name], (2,), batched, [3, 9, 4]) for batched in (True, False))
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    rows = np.arange(10.0).reshape(5, 2)
    np.testing.assert_array_equal(
        np.asarray(CHOSEN[name](ab.tensor(rows) * 1.0)),
        CHOSEN[name](rows)
        if name not in ("joined", "padded")
        else np.concatenate([rows[1:], rows, rows[:1]])
        if name == "joined"
        else np.pad(rows, ((2, 1), (0, 0))),
    )


def test_rows_by_their_numbers_are_one_node() -> None:
    w = ab.Parameter(np.ones((9, 4)))
    h = ab.tanh(w * ab.tensor(2.0))
    chosen = [h[np.random.default_rng(n).integers(9, size=n)] for n in (5, 200)]
    assert state.tape is not None and state.tape.n_nodes == 5, ab.explain(chosen)


def test_elements_of_vectors_of_rows() -> None:
    ab.set_default_dtype("float64")
    w = ab.Parameter(np.random.default_rng(3).normal(size=4))

    def one(n: int) -> Any:
        v = ab.tanh((ab.tensor(np.random.default_rng(n).normal(size=(n, 4))) * w).sum(axis=1))
        if not n:
            return v[[]].sum() + v.sum()
        slope = ab.grad(lambda v: (v[[[0, -1], [n // 2, 0]]] * v[[[-1, -1], [0, -1]]]).sum())(v)
        return (slope * slope).sum() + (v[n - 1 :] * v[np.arange(n) == 0]).sum()

    with ab.backend(requested.backend("numpy")):
        for lengths in ([3], [1, 0, 5, 2]):
            found = []
            for batched in (True, False):
                w.grad = None
                losses = ab.map(one, lengths, batched=batched)
                ab.sum(losses).backward(retain=True)
                found.append([*ab.evaluate(losses), requested.host(w.grad)])
            for a, b in zip(*found, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", CHOSEN)
def test_chosen_rows_take_no_launch(name: str) -> None:
    w = ab.Parameter(np.ones(4))

    def one(n: int, way: Way) -> Any:
        return way(ab.stack([w * ab.tensor(float(k)) for k in range(n)]))

    counts = []
    for way in (lambda h: h, CHOSEN[name]):
        for _ in range(2):
            with ab.profile() as p:
                ab.evaluate(ab.map(lambda n, way=way: one(n, way), range(3, 17)))
        counts.append(p.launches)
    assert counts[1] <= counts[0] + 2 * (name == "padded"), counts  # zeros are rows of two constants


# What each row meets.

MATRIX = ab.constant(np.arange(6.0).reshape(3, 2))

MET: dict[str, Way] = {
    "column": lambda h: h[:, 1],
    "last column": lambda h: h[..., -1],
    "row of the transpose": lambda h: h.T[2],
    "column by a value": lambda h: h[:, ab.argmax(h[0])],
    "element of each row": lambda h: h[np.arange(len(h)), np.arange(len(h)) % 3],
    "elements of some rows": lambda h: h[np.arange(len(h)) // 2, -1 - np.arange(len(h)) % 3],
    "element by values": lambda h: h[np.arange(len(h)), ab.argmin(h, axis=1)],
    "gathered": lambda h: ab.gather(h, 1, np.arange(2 * len(h)).reshape(-1, 2) % 3),
    "scattered": lambda h: ab.scatter_add(h, -1, np.arange(2 * len(h)).reshape(-1, 2) % 3, h * 0.5),
    "row of pairs": lambda h: (h @ h.T)[-1],
    "column of pairs": lambda h: (h @ h.T)[:, 0],
    "ones": lambda h: h * ab.ones((len(h), 1)) + ab.zeros((len(h), 3)),
    "ones of a vector": lambda h: h[:, 0] * ab.ones(len(h)),
    "ones before": lambda h: ab.ones(len(h)) @ h,
    "ones behind": lambda h: h.T @ ab.ones(len(h)),
    "identity": lambda h: h @ h.T + ab.eye(len(h)),
    "constant": lambda h: h * ab.constant(np.arange(3.0 * len(h)).reshape(-1, 3)),
    "one-hot": lambda h: h * ab.one_hot(np.arange(len(h)) % 3, 3),
    "uniform": lambda h: h + ab.uniform(h.shape),
    "normal": lambda h: h[:, 0] * ab.normal(len(h)),
    "rolled": lambda h: ab.roll(h, 1, axis=0),
    "repeated": lambda h: ab.repeat(h, 2, axis=0),
    "tiled": lambda h: ab.tile(h, (2, 1)),
    "einsum of columns": lambda h: ab.einsum("nd,ne->de", h, ab.tanh(h)),
    "einsum to rows": lambda h: ab.einsum("nd,md->mn", h, ab.tanh(h)),
    "einsum with a vector": lambda h: ab.einsum("d,nd->n", h[0], h),
    "columns by a list": lambda h: h[:, [2, 0, -1]],
    "columns from the transpose": lambda h: h.T[1:] * h.T[::2],
    "matrix before": lambda h: MATRIX.T @ h.T,
    "vector before": lambda h: MATRIX[:, 0] @ h.T,
    "rolled vector": lambda h: ab.roll(h[:, 1], -1),
    "repeated vector": lambda h: ab.repeat(h[:, 1], 3),
    "tiled vector": lambda h: ab.tile(h[:, 1], 2),
    "padded vector": lambda h: ab.pad(h[:, 1], (2, 1)),
    "repeated columns": lambda h: ab.repeat(h, 2, axis=1),
    "tiled columns": lambda h: ab.tile(h, (1, 2)),
    "ones beside": lambda h: ab.concat([h, ab.ones((len(h), 1))], axis=1),
    "vectors as columns": lambda h: ab.stack([h[:, 0], h[:, 2] * 2.0], axis=1),
    "vectors as rows": lambda h: ab.stack([h[:, 0], h[:, 2] * 2.0]),
    "one-hot of values": lambda h: h * ab.one_hot(ab.argmax(h, axis=1), 3),
    "numbers as a column": lambda h: h * ab.tensor(np.arange(len(h)) * 0.5)[:, None],
    "constants meet a row": lambda h: ab.zeros((len(h), 3)) - h,
    "einsum over rows": lambda h: ab.einsum("nd->d", h),
    "einsum of elements": lambda h: ab.einsum("nd,nd->d", h, ab.tanh(h)),
    "einsum of vectors": lambda h: ab.einsum("n,m->mn", h[:, 0], ab.tanh(h[:, 1])),
    "einsum of heads": lambda h: ab.einsum("nhd,mhd->hnm", h[:, None], ab.tanh(h[:, None])),
    "matrices": lambda h: h.reshape(len(h), 1, 3) @ MATRIX,
    "binary cross-entropy": lambda h: ab.binary_cross_entropy_with_logits(h[:, 0], np.arange(len(h)) % 2 * 1.0),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", MET)
def test_what_rows_meet_equals_the_loop(name: str, backend: str) -> None:
    ab.set_default_dtype("float64")
    with ab.backend(backend):
        together, alone = (outcome(MET[name], (3,), batched, LENGTHS) for batched in (True, False))
    for a, b in zip(together, alone, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", MET)
def test_what_rows_meet_needs_no_launch_for_each_number(name: str) -> None:
    w = ab.Parameter(np.ones((3, 3)))

    def run() -> None:
        ab.evaluate(ab.map(lambda n: MET[name](ab.tensor(np.ones((n, 3))) @ w), range(1, 17)))

    for _ in range(3):
        run()
    with ab.profile() as p:
        run()
    assert p.launches <= 7, p.table()


NUMPYS: dict[str, tuple[Way, Way]] = {
    "columns": (lambda h: h[:, [2, 0, -1]], lambda h: h[:, [2, 0, -1]]),
    "columns by an array": (lambda h: ab.take(h, np.array([-1, 1]), axis=1), lambda h: h[:, [2, 1]]),
    "of the transpose": (lambda h: h.T[::-1] * h.T[-3:], lambda h: h.T[::-1] * h.T),
    "matrix before": (lambda h: MATRIX.T @ h.T, lambda h: np.arange(6.0).reshape(3, 2).T @ h.T),
    "rolled": (lambda h: ab.roll(h[:, 1], 2), lambda h: np.roll(h[:, 1], 2)),
    "repeated": (lambda h: ab.repeat(h, 2, axis=1), lambda h: np.repeat(h, 2, axis=1)),
    "repeated vector": (lambda h: ab.repeat(h[:, 1], 2), lambda h: np.repeat(h[:, 1], 2)),
    "tiled": (lambda h: ab.tile(h, (2, 3)), lambda h: np.tile(h, (2, 3))),
    "tiled vector": (lambda h: ab.tile(h[:, 1], 3), lambda h: np.tile(h[:, 1], 3)),
    "padded": (lambda h: ab.pad(h[:, 1], (2, 1)), lambda h: np.pad(h[:, 1], (2, 1))),
    "beside": (
        lambda h: ab.concat([ab.ones((len(h), 1)), h], axis=1),
        lambda h: np.concatenate([np.ones((len(h), 1)), h], axis=1),
    ),
    "stacked": (lambda h: ab.stack([h[:, 2], h[:, 0]]), lambda h: np.stack([h[:, 2], h[:, 0]])),
    "one-hot": (lambda h: ab.one_hot(ab.argmax(h, axis=1), 3), lambda h: np.eye(3)[h.argmax(axis=1)]),
    **{
        terms: (
            lambda h, terms=terms: ab.einsum(terms, *[h] * (1 + terms.count(","))),
            lambda h, terms=terms: np.einsum(terms, *[h] * (1 + terms.count(","))),
        )
        for terms in ("nd->d", "nd->dn", "nd->", "nd,nd->d", "nd,nd->dn", "nd,md->mn", "nd,ne->ed", "nd,nd->")
    },
    "heads": (
        lambda h: ab.einsum("nhd,mhd->mhn", h[:, :, None], h[:, :, None]),
        lambda h: np.einsum("nh,mh->mhn", h, h),
    ),
    "vectors": (lambda h: ab.einsum("n,m->mn", h[:, 0], h[:, 1]), lambda h: np.outer(h[:, 1], h[:, 0])),
}


@pytest.mark.parametrize("name", NUMPYS)
def test_rows_of_any_number_as_numpy(name: str) -> None:
    ab.set_default_dtype("float64")
    ours, numpys = NUMPYS[name]
    arrays = [np.random.default_rng(k).normal(size=(n, 3)) for k, n in enumerate([2, *LENGTHS])]
    for _ in range(2):
        for y, x in zip(ab.map(lambda x: ours(ab.tensor(x) * 1.0), arrays), arrays, strict=True):
            np.testing.assert_allclose(y.numpy(), numpys(x), rtol=1e-12)


PARTS: dict[str, Callable[[Any, int], Any]] = {
    "first": lambda p, n: p[:n],
    "after the first": lambda p, n: p[1 : n + 1],
    "from one on": lambda p, n: p[40 - n :],
    "last": lambda p, n: p[-n:],
    "every second": lambda p, n: p[: 2 * n : 2],
    "reversed": lambda p, n: p[n - 1 :: -1],
    "none": lambda p, n: p[n - 1 : n - 1],
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_tables(name: str) -> None:
    ab.set_default_dtype("float64")
    rng = np.random.default_rng(0)
    tables = [rng.normal(size=(40, 3)), rng.normal(size=40)]
    parameters = [ab.Parameter(table) for table in tables]
    lengths, weights = [3, 1, 4, 20, 3], rng.normal(size=(20, 3))
    part = PARTS[name]

    def one(n: int) -> Any:
        matrix, vector = (part(p, n) for p in parameters)
        w = weights[: matrix.shape[0]]
        return matrix * w + vector[:, None] * w, (part(parameters[0] * 2.0, n)[:, 1] * w[:, 0]).sum()

    for _ in range(2):
        wanted = [np.zeros_like(table) for table in tables]
        for p in parameters:
            p.grad = None
        results = ab.map(one, lengths)
        ab.sum([a.sum() + b for a, b in results]).backward(retain=True)
        for n, (y, z) in zip(lengths, results, strict=True):
            a, b = (part(table, n) for table in tables)
            w = weights[: len(a)]
            np.testing.assert_allclose(y.numpy(), a * w + b[:, None] * w)
            np.testing.assert_allclose(z.numpy(), (2.0 * a[:, 1] * w[:, 0]).sum())
            part(wanted[0], n)[:] += w
            part(wanted[0], n)[:, 1] += 2.0 * w[:, 0]
            part(wanted[1], n)[:] += w.sum(axis=1)
        for p, g in zip(parameters, wanted, strict=True):
            np.testing.assert_allclose(requested.host(p.grad), g, atol=1e-14)
    if name != "none":
        with ab.profile() as profile:
            ab.evaluate(ab.map(lambda n: part(parameters[0], n) * weights[:n], range(1, 17)))
        assert profile.launches <= 4, profile.table()


def test_the_first_rows_of_a_table() -> None:
    ab.set_default_dtype("float64")
    table = ab.Parameter(np.random.default_rng(0).normal(size=(40, 3)))

    def one(n: int) -> Any:
        return ab.tanh(ab.tensor(np.full((n, 3), 0.5)) * table[:n]).sum()

    with ab.backend(requested.backend("numpy")):
        found = []
        for batched in (True, False):
            table.grad = None
            losses = ab.map(one, LENGTHS, batched=batched)
            ab.sum(losses).backward(retain=True)
            gradient = table.grad.to_dense() if hasattr(table.grad, "to_dense") else table.grad
            found.append([*ab.evaluate(losses), requested.host(gradient)])
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10)
        with ab.profile() as p:
            ab.evaluate(ab.map(one, range(1, 17)))
    assert p.launches <= 4, p.table()


def test_the_first_rows_of_what_is_computed_from_a_table() -> None:
    ab.set_default_dtype("float64")
    table = ab.Parameter(np.random.default_rng(0).normal(size=(40, 3)))
    for n, y in zip(LENGTHS, ab.map(lambda n: (table * 2.0)[:n] * ab.tanh(table)[:n], LENGTHS), strict=True):
        np.testing.assert_allclose(
            y.numpy(), (requested.host(table.value) * 2.0 * np.tanh(requested.host(table.value)))[:n]
        )


def test_the_gradient_of_first_rows_is_an_array_whichever_lengths_came_before() -> None:
    table = ab.Parameter(np.ones((8, 3)))
    for lengths in ([2, 2], [2, 5], [3]):
        table.grad = None
        ab.sum(ab.map(lambda n: (table[:n] * table[:n]).sum(), lengths)).backward()
        wanted = 2.0 * sum(np.arange(8)[:, None] < n for n in lengths) * np.ones(3)
        assert not hasattr(table.grad, "to_dense")
        np.testing.assert_array_equal(requested.host(table.grad), wanted)


def test_derivatives_by_a_table_leave_its_first_rows_elsewhere_alone() -> None:
    ab.set_default_dtype("float64")
    values = np.random.default_rng(0).normal(size=(8, 3))
    table = ab.Parameter(values)

    def one(n: int) -> Any:
        return ab.grad(lambda x: ((x[:n] * table[:n]) ** 3).sum())(table)

    for n, slope in zip(LENGTHS[:3], ab.map(one, LENGTHS[:3]), strict=True):
        np.testing.assert_allclose(slope.numpy()[:n], 3.0 * values[:n] ** 5)
