"""Values without elements: an axis of extent 0, an example without rows beside others, lookups of nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.errors import AutobatchError, OpTypeError
from autobatch.ops import OPS, Sample
from tests import requested
from tests.ops.checks import GOOD, OF_BATCHES, Case, check_batched, check_types, default, masks, trace

UNCHECKED = {"take", "window", "scatter_add", "spread", *(name for name, op in OPS.items() if op.batch in OF_BATCHES)}
"""Ops that users do not call: integers are known to be in range there, and there are none in an empty axis."""


def emptied(case: Case) -> Iterator[Sample]:
    """A sample with every axis of one extent made empty, for each of its extents, where that is a call of the op."""
    arrays = [x for operand in case.sample.operands for x in (operand if isinstance(operand, list) else [operand])]
    for n in sorted({n for x in arrays if isinstance(x, np.ndarray) for n in x.shape}):

        def without(x: Any, n: int = n) -> Any:
            if isinstance(x, list):
                return [without(e, n) for e in x]
            if not isinstance(x, np.ndarray):
                return x
            return np.zeros([0 if extent == n else extent for extent in x.shape], x.dtype)

        def replaced(attr: Any, n: int = n) -> Any:
            if isinstance(attr, tuple):
                return tuple(replaced(a, n) for a in attr)
            return 0 if type(attr) is int and attr == n else attr

        operands = tuple(without(x) for x in case.sample.operands)
        for attrs in {case.sample.attrs, replaced(case.sample.attrs)}:
            try:
                with default("float64"):
                    check_types(trace(case.op, operands, attrs), operands)
            except (TypeError, ValueError, IndexError, AssertionError, ZeroDivisionError):
                continue  # the shapes do not fit any more, or there is no value, as of a maximum
            yield Sample(operands, attrs, case.sample.smooth)


CASES = [case for case in GOOD if case.op.name not in UNCHECKED]


def test_most_ops_take_empty_axes() -> None:
    found = {case.op.name for case in CASES if any(emptied(case))}
    assert len(found) > 0.8 * len([op for op in OPS if op not in UNCHECKED]), sorted(set(OPS) - found)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_ops_on_empty_axes(case: Case) -> None:
    backend = requested.backend("numpy")
    for sample in emptied(case):
        for shared in {masks(sample)[0], masks(sample)[-1]}:
            check_batched(case.op, sample, 2, shared, "float64", backend)


@pytest.mark.parametrize("case", [c for c in CASES if c.op.name in ("product", "matmul", "sum", "concat")], ids=str)
def test_compiled_ops_on_empty_axes(case: Case) -> None:
    for sample in emptied(case):
        for shared in {masks(sample)[0], masks(sample)[-1]}:
            check_batched(case.op, sample, 3, shared, "float64", requested.backend())


# Programs.


class Model(nn.Module):
    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.table, self.weight, self.bias = (ab.Parameter(rng.normal(size=s)) for s in ((5, 3), (3, 4), (4,)))
        self.no_rows, self.no_columns = ab.Parameter(np.zeros((0, 3))), ab.Parameter(np.zeros((3, 0)))
        self.norm, self.lstm = nn.LayerNorm(3), nn.LSTMCell(3, 3)

    def rows(self, n: int) -> Any:
        """f[n, 3]."""
        return self.table[np.arange(n) % 5]

    @ab.cell
    def layer(self, x: Any) -> Any:
        return ab.tanh(x @ self.weight + self.bias)

    @ab.cell
    def total(self, xs: list[Any]) -> Any:
        return ab.tanh(ab.stack([x * 2.0 for x in xs]) @ self.weight).sum(axis=0)


PROGRAMS: dict[str, Callable[[Model, int], Any]] = {
    "product": lambda m, n: ab.tanh(m.rows(n) @ m.weight + m.bias),
    "of data": lambda m, n: ab.tensor(np.arange(3.0 * n).reshape(n, 3)) @ m.weight,
    "with itself": lambda m, n: m.rows(n) @ m.rows(n).T,
    "inner": lambda m, n: m.rows(n).T @ m.rows(n),
    "columns": lambda m, n: m.weight.T @ m.rows(n).T,
    "each with each": lambda m, n: m.rows(n)[:, :, None] @ m.rows(n)[:, None, :],
    "sum of rows": lambda m, n: m.rows(n).sum(axis=0),
    "maxima": lambda m, n: m.rows(n).max(axis=1),
    "softmax": lambda m, n: ab.softmax(m.rows(n), axis=1),
    "joined": lambda m, n: ab.concat([m.rows(n), m.rows(n) * 2.0, m.table], axis=0),
    "stacked": lambda m, n: ab.stack([m.rows(n), m.rows(n)], axis=1),
    "slices": lambda m, n: m.rows(n + 1)[1:] * m.rows(n)[::-1] + m.rows(2)[:0].sum(),
    "no columns": lambda m, n: m.rows(n)[:, 3:] @ ab.ones((0, 4)),
    "reshaped": lambda m, n: (m.rows(n).reshape(3 * n) * 2.0).reshape(3, n),
    "where": lambda m, n: ab.where(m.rows(n) > 0.0, m.rows(n), 0.1),
    "a cell": lambda m, n: m.layer(m.rows(n)),
    "a cell of a list": lambda m, n: m.total(list(m.rows(n))) if n else m.bias * 1.0,
    "pairs": lambda m, n: m.weight[np.arange(n) % 3, np.arange(n) % 4],
    "a mask": lambda m, n: m.rows(3)[np.arange(3) < n],
    "no classes": lambda m, n: m.rows(n) @ m.no_rows.T,
    "no features": lambda m, n: (m.rows(n) @ m.no_columns) @ m.no_columns.T + m.rows(n),
    "no parameters": lambda m, n: (m.no_rows @ m.weight).sum() + m.rows(n).sum(),
    "normalised": lambda m, n: m.norm(m.rows(n)),
    "a recurrent layer": lambda m, n: m.lstm(m.rows(n))[0],
    "drawn": lambda m, n: ab.dropout(m.rows(n), 0.5) * ab.normal((n, 3)),
    "split": lambda m, n: ab.split(m.rows(n), [1, 2], axis=0)[0] * 2.0,
    "a gradient": lambda m, n: ab.grad(lambda x: (ab.tanh(x @ m.weight) ** 2).sum())(m.rows(n) * 1.0),
    "a second one": lambda m, n: ab.grad(lambda x: ab.grad(lambda y: (y**3).sum())(x).sum())(m.rows(n) * 1.0),
    "integers": lambda m, n: ab.tensor(np.arange(n)) * 2,
}  # fmt: skip


def outcome(name: str, lengths: list[int], batched: bool) -> list[Any]:
    ab.seed(3)
    model = Model()

    def one(n: int) -> Any:
        y = PROGRAMS[name](model, n)
        return y, (ab.tanh(y) * 1.5).sum() + model.bias.sum() * 0.0

    results = ab.map(one, lengths, batched=batched)
    ab.sum([loss for _, loss in results]).backward()
    gradients = [p.grad for p in model.parameters()]
    return [requested.host(x) for x in (*ab.evaluate([y for y, _ in results]), *gradients)]


@pytest.mark.parametrize("lengths", [[0, 2, 0, 3], [0]], ids=["among others", "alone"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_examples_without_rows(name: str, lengths: list[int]) -> None:
    check_without_rows(name, lengths, requested.backend("numpy"))


COMPILED = (
    "product",
    "with itself",
    "columns",
    "each with each",
    "softmax",
    "joined",
    "where",
    "a cell of a list",
    "no features",
    "normalised",
    "a second one",
)
"""Programs of each kind of loop and product."""


@pytest.mark.parametrize("name", COMPILED)
def test_examples_without_rows_compiled(name: str) -> None:
    check_without_rows(name, [0, 2, 0, 3], requested.backend("numba"))


def check_without_rows(name: str, lengths: list[int], backend: str) -> None:
    ab.set_default_dtype("float64")
    with ab.backend(backend):
        together, alone = outcome(name, lengths, True), outcome(name, lengths, False)
    for a, b in zip(together, alone, strict=True):
        if a is None or b is None:
            assert np.all((a if b is None else b) == 0.0) or a is b
            continue
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_what_empty_values_are() -> None:
    w = ab.Parameter(np.ones((3, 0)))
    product = w @ ab.ones((0, 2))
    assert product.numpy().tolist() == [[0.0, 0.0]] * 3
    assert float(ab.zeros((0, 4)).sum()) == 0.0 and ab.zeros((0, 2)).sum(axis=0).numpy().tolist() == [0.0, 0.0]
    for x in (ab.Parameter(np.zeros((0, 2))), ab.tensor(np.zeros((0, 2)))):
        assert ab.softmax(x, axis=0).shape == (0, 2)
        assert ab.logsumexp(x, axis=0).numpy().tolist() == [-np.inf] * 2
    product.sum().backward()
    assert requested.host(w.grad).shape == (3, 0)


@pytest.mark.parametrize("reduce", [ab.max, ab.mean])
def test_what_has_no_value_raises_at_its_line(reduce: Callable[[Any], Any]) -> None:
    for x in (ab.Parameter(np.zeros((0, 2))), ab.tensor(np.zeros((0, 2)))):
        with pytest.raises(OpTypeError, match=r"empty[\s\S]*test_empty\.py"):
            reduce(x)
    with pytest.raises(AutobatchError):
        ab.max([])


def test_a_lookup_of_nothing_beside_others() -> None:
    table = ab.Parameter(np.ones((3, 2)))
    for batched in (True, False):
        table.grad = None
        totals = ab.map(lambda ids: table[np.array(ids, int)].sum(), [[], [0, 2], []], batched=batched)
        assert [float(t) for t in totals] == [0.0, 4.0, 0.0]
        ab.sum(ab.map(lambda ids: table[np.array(ids, int)].sum(), [[], [0, 2], []], batched=batched)).backward()
        assert requested.host(table.grad).tolist() == [[1, 1], [0, 0], [1, 1]]


def test_recordings_without_rows_are_replayed() -> None:
    model = Model()

    def one(n: int) -> Any:
        return ab.tanh(model.rows(n) @ model.weight).sum()

    expected = [float(v) for v in ab.map(one, [0, 2, 0, 3])]
    for _ in range(3):
        assert np.allclose([float(v) for v in ab.map(one, [0, 2, 0, 3], reuse=True)], expected)


@pytest.mark.parametrize("batched", [True, False])
def test_a_table_that_nothing_was_looked_up_in_has_no_gradient(batched: bool) -> None:
    table, w = ab.Parameter(np.ones((3, 2))), ab.Parameter(np.ones(2))
    picked = ab.map(lambda ids: (table[np.array(ids, int)] * w).sum(), [[], []], batched=batched)
    ab.sum(picked).backward()
    assert table.grad is None


@pytest.mark.parametrize("backend", requested.backends("numpy", "numba"))
def test_of_two_ways_to_split_an_empty_value_one_has_rows_and_columns(backend: str) -> None:
    w, s = ab.Parameter(np.ones((4, 4))), ab.Parameter(np.ones((3, 3)))

    def spread(n: int) -> Any:
        x = ab.tensor(np.ones((n, 4))) @ w
        return ab.sum(ab.transpose(x.reshape(n, 4, 1) * s[:n, :n].reshape(n, 1, n), (0, 2, 1)))

    with ab.backend(backend):
        loss = ab.sum(ab.map(spread, [0, 2]))
        loss.backward()
    assert float(loss) == 64.0
    np.testing.assert_allclose(requested.host(w.grad), 4.0)
