"""What tells two ops apart is in their signature, and what is mere data is not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.record.shared import SharedExpression
from autobatch.record.tensor import RecordedTensor

Function = Callable[[Any], Any]


@pytest.fixture(autouse=True)
def numpy_in_float64() -> None:
    ab.set_backend("numpy")
    ab.set_default_dtype("float64")


# Equal ops with unequal attributes. Each group: functions of one operand that differ in an attribute only.

CUBE, MATRIX, VECTOR = (3, 3, 3), (3, 3), (6,)

GROUPS: dict[str, tuple[tuple[int, ...], list[Function]]] = {
    "softmax axis": (MATRIX, [lambda x: ab.softmax(x, 0), lambda x: ab.softmax(x, 1)]),
    "softmax axis, rank 3": (CUBE, [lambda x, a=a: ab.softmax(x, a) for a in (0, 1, 2)]),
    "log_softmax axis": (MATRIX, [lambda x: ab.log_softmax(x, 0), lambda x: ab.log_softmax(x, 1)]),
    "logsumexp axis": (MATRIX, [lambda x: ab.logsumexp(x, 0), lambda x: ab.logsumexp(x, 1)]),
    "sum axis": (CUBE, [lambda x, a=a: x.sum(a) for a in (0, 1, 2, (0, 1), (0, 2), (1, 2), None)]),
    "max axis": (CUBE, [lambda x, a=a: x.max(a) for a in (0, 1, 2, (0, 1), (0, 2), (1, 2), None)]),
    "mean axis": (CUBE, [lambda x, a=a: x.mean(a) for a in (0, 1, 2, (0, 1), (0, 2), (1, 2), None)]),
    "keepdims": (MATRIX, [lambda x, a=a, k=k: x.sum(a, keepdims=k) for a in (0, 1) for k in (False, True)]),
    "exponent": (VECTOR, [lambda x, p=p: x**p for p in (2, 3, 2.0, 2.5, 0, -1, 0.5, 1)]),
    "base": (VECTOR, [lambda x, b=b: b**x for b in (2, 3.0)]),
    "slice": (
        VECTOR,
        [
            lambda x, s=s: x[s]
            for s in (
                slice(0, 3),
                slice(1, 4),
                slice(3, 6),
                slice(0, 6, 2),
                slice(5, 2, -1),
                slice(2, None, -1),
                slice(1, 6, 2),
            )
        ],
    ),
    "slice of columns": (MATRIX, [lambda x, s=s: x[:, s] for s in (slice(0, 2), slice(1, 3), slice(2, 0, -1))]),
    "slice of rows": (MATRIX, [lambda x, s=s: x[s] for s in (slice(0, 2), slice(1, 3), slice(2, 0, -1))]),
    "pick": (MATRIX, [lambda x, i=i: x[i] for i in ([0, 1], [1, 0], [2, 2])] + [lambda x: x[0], lambda x: x[:, 0]]),
    "reshape": (VECTOR, [lambda x, s=s: x.reshape(s) for s in ((2, 3), (3, 2), (6, 1), (1, 6))]),
    "transpose": (CUBE, [lambda x, o=o: ab.transpose(x, o) for o in itertools.permutations(range(3))]),
    "concat axis": (MATRIX, [lambda x, a=a: ab.concat([x, x + 1.0], a) for a in (0, 1)]),
    "concat order": (MATRIX, [lambda x: ab.concat([x, x + 1.0], 1), lambda x: ab.concat([x + 1.0, x], 1)]),
    "stack axis": (MATRIX, [lambda x, a=a: ab.stack([x, x + 1.0], a) for a in (0, 1, 2)]),
    "split": (VECTOR, [lambda x, p=p: ab.split(x, p)[1] for p in (2, 3, [1, 4], [2, 4], [2, 5])]),
    "dropout p": (VECTOR, [lambda x, p=p: ab.dropout(x, p, training=True) for p in (0.25, 0.5)]),
    "dtype": (VECTOR, [lambda x, d=d: x.astype(d) for d in ("float32", "float64", "int64", "int32", "bool")]),
    "where side": (VECTOR, [lambda x: ab.where(x > 1.0, x, 0.0), lambda x: ab.where(x > 1.0, 0.0, x)]),
    "where constant": (VECTOR, [lambda x, b=b: ab.where(x > 1.0, b, x) for b in (0.0, 1.0, 2)]),
    "operand order": (VECTOR, [lambda x: x - 1.0, lambda x: 1.0 - x, lambda x: x / 2.0, lambda x: 2.0 / x]),
    "window": (VECTOR, [lambda x, s=s: x[s] for s in (slice(1, 5, 2), slice(1, 5, 1), slice(4, 0, -2))]),
}


@pytest.mark.parametrize("name", GROUPS)
def test_unequal_attributes_stay_apart(name: str) -> None:
    shape, functions = GROUPS[name]
    x = ab.Parameter(np.random.default_rng(2).uniform(0.5, 2.0, (len(functions), *shape)))

    def run(batched: bool) -> tuple[list[Any], Any]:
        ab.seed(4)
        x.grad = None
        results = ab.map(lambda k: functions[k](x[k]), range(len(functions)), batched=batched)
        values = ab.evaluate(results)
        floating = [r.astype("float64").sum() for r in results if r.dtype.kind == "f"]
        (ab.sum(floating) * 1.0).backward()
        return values, x.grad

    (together, g), (alone, h) = run(True), run(False)
    for a, b in zip(together, alone, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(_dense(g), _dense(h), rtol=1e-8, atol=1e-8)


def _dense(g: Any) -> Any:
    return g.to_dense() if hasattr(g, "to_dense") else g


@pytest.mark.parametrize("name", GROUPS)
def test_unequal_attributes_of_shared_operands_stay_apart(name: str) -> None:
    shape, functions = GROUPS[name]
    x = ab.Parameter(np.random.default_rng(2).uniform(0.5, 2.0, shape))

    def run(operand: Callable[[], Any], batched: bool) -> list[Any]:
        ab.seed(4)  # a mask belongs to the example
        return ab.evaluate(ab.map(lambda k: functions[k](operand()), range(len(functions)), batched=batched))

    together, alone = run(lambda: x, True), run(lambda: ab.tensor(x.value), False)
    for a, b in zip(together, alone, strict=True):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_static_arguments_of_a_cell_stay_apart() -> None:
    @ab.cell(static=("axis", "name"))
    def reduce(x: Any, axis: int, name: str) -> Any:
        return getattr(ab, name)(x, axis)

    x = np.random.default_rng(0).normal(size=MATRIX)
    calls = [(axis, name) for axis in (0, 1) for name in ("sum", "max", "softmax", "mean")]
    results = ab.evaluate(ab.map(lambda call: reduce(ab.tensor(x), *call), calls))
    for (axis, name), y in zip(calls, results, strict=True):
        np.testing.assert_allclose(y, getattr(ab, name)(ab.tensor(x), axis).numpy(), rtol=1e-10)


def test_literals_inside_cells_stay_apart() -> None:
    def make(factor: float) -> Any:
        @ab.cell
        def scale(x: Any) -> Any:
            return x * factor

        return scale

    x = np.arange(3.0)
    for y, factor in zip(
        ab.evaluate(ab.map(lambda f: make(f)(ab.tensor(x)), [2.0, 3.0, -1.0])), [2.0, 3.0, -1.0], strict=True
    ):
        np.testing.assert_allclose(y, x * factor)


def test_a_number_of_another_type_stays_apart() -> None:
    numbers = [2, 2.0, True, np.float32(2), np.int64(2), -0.0, 0.0]
    x = ab.tensor([1, 2])
    for y, n in zip(ab.evaluate(ab.map(lambda n: x * n, numbers)), numbers, strict=True):
        assert y.dtype.kind == ("f" if isinstance(n, float | np.float32) else "i")
        np.testing.assert_array_equal(y, np.array([1, 2]) * n)


def test_the_default_dtype_is_no_memory() -> None:
    x, c = ab.tensor([1, 2]), ab.constant([1, 2])
    for dtype in ("float32", "float64", "float32"):
        ab.set_default_dtype(dtype)
        assert [(x * 0.5).dtype, (c * 0.5).dtype, ab.exp(x).dtype, ab.exp(c).dtype] == [np.dtype(dtype)] * 4


# What must not multiply signatures.


def signatures(fn: Function, examples: Any) -> list[str]:
    """Names of the signatures of a map, without that of host inputs."""
    results = ab.map(fn, examples)
    leaf: Any = results[0]
    while not isinstance(leaf, RecordedTensor):
        leaf = leaf[0]
    names = [s.name for s in leaf._tape.signatures if s.slots or s.shared or s.data]
    ab.evaluate(results)
    return names


W = np.random.default_rng(1).normal(size=(4, 4))

TABLE, WEIGHT = ab.Parameter(W, "float64"), ab.Parameter(W, "float64")

DATA: dict[str, tuple[int, Function]] = {
    "word": (1, lambda i: TABLE[i % 4]),
    "label": (2, lambda i: ab.cross_entropy(TABLE[i % 4], i % 4)),
    "target": (2, lambda i: ab.squared_error(TABLE[i % 4], 0.5 * i)),
    "factor": (2, lambda i: TABLE[i % 4] * (0.5 + i)),
    "offset": (2, lambda i: 1.5 * i - TABLE[i % 4]),
    "threshold": (3, lambda i: ab.where(TABLE[i % 4] > 0.1 * i, TABLE[i % 4], 0.1 * i)),
    "random key": (2, lambda i: ab.dropout(TABLE[i % 4], 0.5, training=True)),
    "draw": (1, lambda i: ab.normal(3)),
    "index": (2, lambda i: TABLE[i % 4][i % 3]),
    "row": (2, lambda i: (WEIGHT * ab.tensor(np.ones(1)))[i % 4]),
    "start of a slice": (2, lambda i: TABLE[i % 4][i % 3 : i % 3 + 2]),
    "length of a sum": (2, lambda i: ab.sum([TABLE[k % 4] for k in range(i + 2)])),
    "length of a mean": (2, lambda i: ab.mean([TABLE[k % 4] for k in range(i + 2)])),
    "length of a maximum": (2, lambda i: ab.max([TABLE[k % 4] for k in range(i + 2)])),
    "length of a stack": (2, lambda i: ab.stack([TABLE[k % 4] for k in range(i + 2)])),
    "rows": (3, lambda i: ab.tanh(ab.stack([TABLE[k % 4] for k in range(i + 2)]))),
    "rows added": (3, lambda i: _twice(ab.stack([TABLE[k % 4] for k in range(i + 2)]))),
    "rows summed": (3, lambda i: ab.stack([TABLE[k % 4] for k in range(i + 2)]).sum(0)),
    "mean of rows": (3, lambda i: ab.stack([TABLE[k % 4] for k in range(i + 2)]).mean(0)),
    "softmax of rows": (3, lambda i: ab.softmax(ab.stack([TABLE[k % 4] for k in range(i + 2)]))),
    "rows by a matrix": (3, lambda i: ab.stack([TABLE[k] for k in range(i % 3 + 1)]) @ WEIGHT),
    "rank 3": (4, lambda i: ab.tanh(ab.concat([TABLE[k].reshape(1, 2, 2) for k in range(i % 3 + 1)], 0))),
}


def _twice(x: Any) -> Any:
    return x + x


@pytest.mark.parametrize("name", DATA)
def test_data_does_not_multiply_signatures(name: str) -> None:
    count, fn = DATA[name]
    names = signatures(fn, range(9))
    assert len(names) <= count, names


def test_a_cell_over_children_has_one_signature_for_all_arities() -> None:
    table, w = ab.Parameter(W), ab.Parameter(W)

    @ab.cell
    def node(word: int, children: list[Any]) -> Any:
        return ab.tanh(w @ ab.sum(children, like=table[word]) + table[word])

    def tree(depth: int) -> Any:
        return node(depth, [tree(depth - 1) for _ in range(depth)])

    assert signatures(tree, [0, 1, 2, 3]) == ["node", "node"]


def test_words_labels_and_factors_of_a_cell_are_data() -> None:
    table = ab.Parameter(W)

    @ab.cell
    def loss(word: int, label: int, factor: float) -> Any:
        return ab.cross_entropy(ab.dropout(table[word], 0.5, training=True), label) * factor

    assert signatures(lambda i: loss(i % 4, i % 3, 0.5 * i), range(9)) == ["loss"]


def test_modules_share_kernels_not_signatures() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    x = ab.tensor(W[0])
    y, z = first(x), second(x)
    a, b = [s for s in y._tape.signatures if s.shared and s.name == "matmul"]  # type: ignore[attr-defined]
    ab.evaluate([y, z])
    assert a is not b
    assert a.kernel is b.kernel


# Work on shared operands alone.


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    once = SharedExpression._evaluate

    def counted(self: Any, arrays: Any) -> Any:
        names.append(self.op.name)
        return once(self, arrays)

    monkeypatch.setattr(SharedExpression, "_evaluate", counted)
    return names


def test_work_on_shared_operands_is_done_once_per_recording(evaluated: list[str]) -> None:
    w, v, mix = ab.Parameter(W), ab.Parameter(W), ab.Parameter([0.1, 0.2, 0.3])

    def one(x: Any) -> Any:
        weights = ab.softmax(mix)
        return ((w + v) @ ab.tensor(x)) * weights[0] + (w + v) @ ab.tensor(x + 1.0)

    for step in range(3):
        evaluated.clear()
        ab.mean([y.sum() for y in ab.map(one, W)]).backward()
        assert sorted(evaluated) == ["add", "softmax"], step


def test_work_on_shared_operands_follows_their_changes() -> None:
    w, v = ab.Parameter(W), ab.Parameter(W)
    fn = lambda x: (w + v) @ ab.tensor(x)  # noqa: E731
    ab.evaluate(ab.map(fn, W))
    w.value = W * 2.0
    np.testing.assert_allclose(ab.evaluate(ab.map(fn, W))[1], 3.0 * W @ W[1], rtol=1e-12)


def test_constant_work_differs_under_no_grad(evaluated: list[str]) -> None:
    w, v = ab.Parameter(W[0]), ab.Parameter(W[1])
    with ab.no_grad():
        frozen = w * v
    ((w * v) * ab.tensor(W[2]) + frozen * ab.tensor(W[3])).sum().backward()
    np.testing.assert_allclose(w.grad, W[1] * W[2], rtol=1e-12)
