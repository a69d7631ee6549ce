"""Cells: when they trace again, what they take and give, lists of any length, and that results are those without."""

from __future__ import annotations

import enum
import functools
import operator
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.errors import CellError
from autobatch.record.tape import state


@pytest.fixture(autouse=True)
def numpy_backend() -> Iterator[None]:
    with ab.backend("numpy"):
        yield


def vector(*numbers: float) -> Any:
    return ab.tensor(np.array(numbers, float))


def traces(cell: Any) -> int:
    return int(cell.cell.traces)


def without_cells(fn: Callable[[Callable[..., Any]], Any]) -> tuple[Any, Any]:
    """What `fn` gives when it is handed `ab.cell`, and when the decorator it is handed does nothing."""
    return fn(ab.cell), fn(lambda *function, **options: function[0] if function else lambda f: f)


class Configured(nn.Module):
    def __init__(self) -> None:
        self.weight = ab.Parameter(np.array([3.0, 5.0]))
        self.gate = True
        self.scale = 2.0
        self.kind = "sum"
        self.steps = [1.0, 2.0]
        self.names = {"a": 1.0}
        self.mask = np.array([1.0, 0.0])
        self.inner = nn.Linear(2, 2, bias=False)

    @ab.cell
    def run(self, x: Any) -> Any:
        y = x * self.weight if self.gate else x
        y = y * self.scale + sum(self.steps) + self.names.get("b", 0.0) + self.mask
        if self.training:
            y = y + 100.0
        y = y + self.inner(x)
        return y.sum() if self.kind == "sum" else y.max()

    def plain(self, x: Any) -> Any:
        return type(self).run.cell.fn(self, x)  # type: ignore[attr-defined]


def change_gate(m: Configured) -> None:
    m.gate = False


def change_scale(m: Configured) -> None:
    m.scale = 3.0


def change_kind(m: Configured) -> None:
    m.kind = "max"


def change_mode(m: Configured) -> None:
    m.eval()


def change_inner_mode(m: Configured) -> None:
    m.inner.eval()


def replace_parameter(m: Configured) -> None:
    m.weight = ab.Parameter(np.full(2, 7.0))


def replace_inner(m: Configured) -> None:
    m.inner = nn.Linear(2, 2, bias=False)


def replace_inner_parameter(m: Configured) -> None:
    m.inner.weight = ab.Parameter(np.full((2, 2), 7.0))


def change_list(m: Configured) -> None:
    m.steps[1] = 5.0


def extend_list(m: Configured) -> None:
    m.steps.append(5.0)


def change_dict(m: Configured) -> None:
    m.names["b"] = 4.0


def rename_key(m: Configured) -> None:
    m.names["b"] = m.names.pop("a")


def change_array_in_place(m: Configured) -> None:
    m.mask[1] = 3.0


@pytest.mark.parametrize(
    "change",
    [
        change_gate,
        change_scale,
        change_kind,
        change_mode,
        replace_parameter,
        replace_inner,
        replace_inner_parameter,
        change_list,
        extend_list,
        change_dict,
        rename_key,
        change_array_in_place,
    ],
)
def test_a_change_in_self_traces_again_within_one_recording(change: Callable[[Configured], None]) -> None:
    model = Configured()
    x = vector(1, 2)
    before = [model.run(x) for _ in range(3)]
    plain_before = model.plain(x)
    count = traces(Configured.run)
    change(model)
    after = [model.run(x) for _ in range(3)]
    plain_after = model.plain(x)
    assert traces(Configured.run) == count + 1
    tape = state.tape
    for got, want in zip([*before, *after], [plain_before] * 3 + [plain_after] * 3, strict=True):
        assert float(got) == pytest.approx(float(want), rel=1e-5)
    assert tape is not None
    assert float(plain_before) != float(plain_after)


def test_no_change_no_trace() -> None:
    model, other = Configured(), Configured()
    x = vector(1, 2)
    model.run(x)
    count = traces(Configured.run)
    model.weight.value = np.zeros(2)  # a new value is no new parameter
    for _ in range(3):
        model.run(vector(3, 4))
        model.run(ab.tanh(x))
    assert traces(Configured.run) == count
    other.run(x)
    assert traces(Configured.run) == count + 1
    model.train()
    model.run(x)
    assert traces(Configured.run) == count + 1


class Settings:
    __slots__ = ("inner", "scale")

    def __init__(self) -> None:
        self.scale = 2.0
        self.inner = {"shift": 1.0}


def test_objects_that_are_no_modules_are_guarded_too() -> None:
    class Plain:
        def __init__(self) -> None:
            self.settings = Settings()

        @ab.cell
        def run(self, x: Any) -> Any:
            return x * self.settings.scale + self.settings.inner["shift"]

    plain = Plain()
    x = vector(1, 2)
    first = plain.run(x)
    plain.settings.scale = 3.0
    second = plain.run(x)
    plain.settings.inner["shift"] = 0.0
    third = plain.run(x)
    for got, want in ((first, [3, 5]), (second, [4, 7]), (third, [3, 6])):
        np.testing.assert_array_equal(got.numpy(), want)


# Arguments.


class Mode(enum.Enum):
    PLUS = 1
    MINUS = 2


def test_strings_bools_enums_and_none_belong_to_the_signature_numbers_do_not() -> None:
    @ab.cell
    def step(x: Any, mode: Mode, flag: bool, name: str | None, shift: float) -> Any:
        x = x + shift if mode is Mode.PLUS else x - shift
        return (x if flag else -x) * (2.0 if name is None else len(name))

    x = vector(1, 2)
    shift: Any
    for shift in (1, 2, np.int64(3), np.int32(4)):
        np.testing.assert_array_equal(step(x, Mode.PLUS, True, None, shift).numpy(), (np.array([1, 2]) + shift) * 2)
    assert traces(step) == 1
    for shift in (1.5, 2.5, np.float32(3.5)):
        np.testing.assert_array_equal(step(x, Mode.PLUS, True, None, shift).numpy(), (np.array([1, 2]) + shift) * 2)
    assert traces(step) == 2
    np.testing.assert_array_equal(step(x, Mode.MINUS, False, "abc", 1.0).numpy(), [0, -3])
    np.testing.assert_array_equal(step(x, Mode.MINUS, np.bool_(True), "abc", 1.0).numpy(), [0, 3])
    assert traces(step) == 4


def test_numbers_are_weak_in_cells_as_outside() -> None:
    def results(decorate: Any) -> list[Any]:
        @decorate
        def step(x: Any, k: Any) -> Any:
            return x * (k * 2.0) + (k + 1) * 0.5, x > k, ab.where(x > k * 1.0, x, k)

        return [
            y
            for x in (vector(1, 2), ab.tensor(np.ones(2), np.float64), ab.tensor([1, 2]))
            for k in (1, 1.5)
            for y in step(x, k)
        ]

    got, want = without_cells(results)
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_static_arguments() -> None:
    @ab.cell(static=("k", "shape"))
    def repeat(x: Any, k: int, *, shape: tuple[int, ...] = (2, 1)) -> Any:
        for _ in range(k):
            x = x * 2
        return x.reshape(shape)

    x = vector(1, 2)
    np.testing.assert_array_equal(repeat(x, 3).numpy(), [[8], [16]])
    np.testing.assert_array_equal(repeat(x, k=1).numpy(), [[2], [4]])
    np.testing.assert_array_equal(repeat(x, k=1, shape=(1, 2)).numpy(), [[2, 4]])
    np.testing.assert_array_equal(repeat(x=x, k=3, shape=(1, 2)).numpy(), [[8, 16]])
    with pytest.raises(CellError, match="hashable"):
        repeat(x, 1, shape=[1, 2])


def test_keyword_arguments_and_defaults() -> None:
    caught = ab.Parameter(np.ones(2))

    @ab.cell
    def step(x: Any, y: Any = None, *more: Any, scale: float = 1.0, **named: Any) -> Any:
        total = x * scale + caught
        for z in (y, *more, *named.values()):
            if z is not None:
                total = total + z
        return total

    x = vector(1, 2)
    for got, want in [
        (step(x), [2, 3]),
        (step(x=x), [2, 3]),
        (step(x, scale=2.0), [3, 5]),
        (step(x, y=x), [3, 5]),
        (step(x, x, x), [4, 7]),
        (step(x, scale=2.0, extra=x), [4, 7]),
        (step(x, scale=3.0, extra=x), [5, 9]),
    ]:
        np.testing.assert_array_equal(got.numpy(), want)
    step(x, scale=2.0).sum().backward()
    np.testing.assert_array_equal(caught.grad, [1, 1])


def test_a_tensor_caught_by_a_cell_with_keywords() -> None:
    weight = ab.Parameter(np.ones(2))

    def fn(x: float) -> Any:
        outside = weight * x

        @ab.cell
        def inner(y: Any, *, scale: float) -> Any:
            return ab.sum(y * outside) * scale

        return inner(vector(1, 2), scale=3.0)

    ab.sum(ab.map(fn, [1.0, 2.0])).backward()
    np.testing.assert_array_equal(weight.grad, [9, 18])


class Pair(NamedTuple):
    h: Any
    c: Any


def test_nested_arguments_and_results() -> None:
    @ab.cell
    def step(pair: Pair, more: dict[str, Any], rest: tuple[Any, ...]) -> dict[str, Any]:
        assert isinstance(pair, Pair)
        total = pair.h + pair.c * more["scale"] + more["deep"][0][0] + rest[1]
        return {"pair": Pair(total, -total), "list": [total, total * 2, {"x": total}], "none": None, "name": "result"}

    x = vector(1, 2)
    result = step(Pair(x, x), {"scale": 2.0, "deep": ((x, x),)}, (None, 1))
    assert isinstance(result["pair"], Pair)
    assert (result["none"], result["name"]) == (None, "result")
    assert isinstance(result["list"], list)
    np.testing.assert_array_equal(result["pair"].c.numpy(), [-5, -9])
    np.testing.assert_array_equal(result["list"][1].numpy(), [10, 18])
    np.testing.assert_array_equal(result["list"][2]["x"].numpy(), [5, 9])
    again = step(Pair(x, x), {"scale": 3.0, "deep": ((x, x),)}, (None, 2))
    np.testing.assert_array_equal(again["pair"].h.numpy(), [7, 12])
    assert traces(step) == 1


def test_results_that_are_numbers_arguments_or_constants() -> None:
    @ab.cell
    def step(x: Any, k: int) -> Any:
        return x, k, 2.0, ab.zeros(2), (), []

    x = vector(1, 2)
    y, k, two, zeros, nothing, empty = step(x, 3)
    np.testing.assert_array_equal(y.numpy(), [1, 2])
    assert (int(k), float(two), nothing, empty) == (3, 2.0, (), [])
    np.testing.assert_array_equal(zeros.numpy(), [0, 0])
    (one,) = ab.cell(lambda x: (x,))(x)
    assert one.shape == (2,)


def test_arrays_and_numbers_in_a_cell_are_constants() -> None:
    table = np.array([[1.0, 2.0], [3.0, 4.0]])

    @ab.cell
    def step(x: Any) -> Any:
        return x + ab.tensor([1.0, 2.0]) + np.ones(2) + ab.tensor(table)[1] + ab.tensor(x)

    np.testing.assert_array_equal(step(vector(1, 2)).numpy(), [7, 11])


def test_modules_and_functions_as_arguments() -> None:
    @ab.cell
    def apply(layer: Any, function: Any, x: Any) -> Any:
        return function(layer(x))

    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    x = vector(1, 2)
    for layer in (first, second, first):
        for function in (ab.tanh, ab.exp):
            got, want = apply(layer, function, x), function(layer(x))
            np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-6)
    assert traces(apply) == 4
    first.bias = None
    np.testing.assert_allclose(apply(first, ab.tanh, x).numpy(), ab.tanh(first(x)).numpy(), rtol=1e-6)
    apply(first, ab.tanh, x).sum().backward()
    assert first.weight.grad is not None


def test_parameters_and_buffers_as_arguments() -> None:
    @ab.cell
    def affine(w: Any, b: Any, x: Any) -> Any:
        return x @ w + b

    w, b = ab.Parameter(np.ones((2, 2))), ab.Parameter(np.ones(2))
    affine(w, b, vector(1, 2)).sum().backward()
    np.testing.assert_array_equal(w.grad, [[1, 1], [2, 2]])
    np.testing.assert_array_equal(b.grad, [1, 1])
    np.testing.assert_array_equal(affine(nn.Buffer(np.eye(2)), ab.zeros(2), vector(1, 2)).numpy(), [1, 2])


# Closures.


def test_gradients_flow_into_what_a_cell_caught() -> None:
    weight = ab.Parameter(np.ones(2))

    def make(x: float) -> Any:
        context = weight * x
        factor = x

        @ab.cell
        def attend(y: Any) -> Any:
            return ab.sum(y * context) * factor

        return attend(vector(1, 2)) + attend(vector(3, 4))

    results = ab.map(make, [1.0, 2.0, 3.0])
    tape = state.tape
    assert tape is not None
    names = [s for s in tape.signatures if s.name == "attend"]
    assert len(names) == 1  # redefined per example, traced once
    ab.sum(results).backward()
    np.testing.assert_array_equal(weight.grad, [4 * 14, 6 * 14])


def test_a_cell_calls_cells_and_itself() -> None:
    @ab.cell
    def double(x: Any) -> Any:
        return x * 2

    @ab.cell(static=("k",))
    def power(x: Any, k: int) -> Any:
        return double(x) if k == 0 else power(double(x), k - 1)

    np.testing.assert_array_equal(power(vector(1, 2), 3).numpy(), [16, 32])
    assert traces(power) == 1


def test_a_cell_on_numbers_alone_called_in_a_cell() -> None:
    table = ab.Parameter(np.arange(6.0).reshape(3, 2))

    @ab.cell
    def word(index: int) -> Any:
        return _table[0][index]

    @ab.cell
    def both(index: int) -> Any:
        return word(index) + word(0)

    _table[:] = [table]
    np.testing.assert_array_equal((word(1) + word(2)).numpy(), [6, 8])
    first = word(1)
    np.testing.assert_array_equal((first + both(2)).numpy(), [6, 9])


_table: list[Any] = []


# Lists.


class ChildSum(nn.Module):
    def __init__(self) -> None:
        rng = np.random.default_rng(7)
        self.w = ab.Parameter(rng.normal(size=(3, 3)))
        self.u = ab.Parameter(rng.normal(size=(3, 3)))
        self.start = ab.Parameter(rng.normal(size=3))

    def body(self, x: Any, children: list[Any]) -> Any:
        total = ab.sum([h for h, _ in children], like=x)
        i = ab.tanh(self.w @ x + total)
        kept = [ab.sigmoid(self.u @ h + x) * c for h, c in children]
        c = i + ab.sum(kept, like=x)
        return ab.tanh(c), c

    @ab.cell
    def node(self, x: Any, children: list[Any]) -> Any:
        return self.body(x, children)


def tree(rng: Any, depth: int) -> Any:
    n = 0 if depth == 0 else int(rng.integers(0, 5))
    return rng.normal(size=3), [tree(rng, depth - 1) for _ in range(n)]


def encode(node: Callable[..., Any], t: Any) -> Any:
    return node(t[0], [encode(node, child) for child in t[1]])


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_list_has_two_kernels_whatever_its_length(backend: str) -> None:
    rng = np.random.default_rng(2)
    trees = [tree(rng, 4) for _ in range(6)]

    def run(node: Callable[..., Any], model: ChildSum, batched: bool) -> tuple[Any, ...]:
        model.zero_grad()
        loss = ab.sum([h.sum() for h, _ in ab.map(lambda t: encode(node, t), trees, batched=batched)])
        if batched and node == model.node:
            assert state.tape is not None
            names = [s for s in state.tape.signatures if s.name == "node"]
            assert len(names) == 2
        loss.backward(retain=True)
        return float(loss), *(np.array(p.grad) for p in (model.w, model.u))

    with ab.backend(backend):
        model = ChildSum()
        before = traces(ChildSum.node)
        results = [run(model.node, model, True), run(model.body, model, True), run(model.node, model, False)]
        assert traces(ChildSum.node) - before == 2
    for got in results[1:]:
        for a, b in zip(got, results[0], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["sum", "mean", "max", "stack"])
def test_reductions_over_lists(kind: str) -> None:
    rng = np.random.default_rng(1)
    columns = [[rng.normal(size=(2, 3)) for _ in range(n)] for n in (1, 2, 3, 2)]
    weight = ab.Parameter(np.ones(3))

    def run(decorate: Any, batched: bool) -> list[Any]:
        weight.grad = None

        @decorate
        def reduce(xs: list[Any]) -> Any:
            return getattr(ab, kind)([ab.tanh(x * weight) for x in xs])

        results = ab.map(reduce, columns, batched=batched)
        values = [r * 1.0 for r in results]
        ab.sum([ab.sum(v * v) for v in values]).backward(retain=True)
        return [*ab.evaluate(values), np.array(weight.grad)]

    want = run(lambda f: f, False)
    for decorate in (ab.cell, lambda f: f):
        for batched in (True, False):
            for a, b in zip(run(decorate, batched), want, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_lists_come_back_as_lists() -> None:
    @ab.cell
    def each(xs: list[Any], y: Any) -> Any:
        return [(x * y, x.sum()) for x in xs], ab.stack(xs), {"all": [x + y for x in xs]}

    weight = ab.Parameter(np.ones(2))
    for n in (1, 2, 4):
        weight.grad = None
        xs = [weight * vector(k, 1) for k in range(n)]
        pairs, stacked, named = each(xs, vector(2, 3))
        assert (len(pairs), stacked.shape, len(named["all"])) == (n, (n, 2), n)
        for k, (product, total) in enumerate(pairs):
            np.testing.assert_array_equal(product.numpy(), [2 * k, 3])
            assert float(total) == k + 1
        np.testing.assert_array_equal(stacked.numpy(), [[k, 1] for k in range(n)])
        np.testing.assert_array_equal(named["all"][-1].numpy(), [n + 1, 4])
        (ab.sum([p.sum() + t for p, t in pairs]) + stacked.sum()).backward()
        np.testing.assert_array_equal(weight.grad, [4 * sum(range(n)), 5 * n])
    assert traces(each) == 1


def test_lists_of_numbers_and_arrays_are_lists_of_values() -> None:
    @ab.cell
    def total(xs: list[Any]) -> Any:
        return ab.sum(xs)

    np.testing.assert_array_equal(total([np.ones(2), vector(1, 2), np.ones(2, np.float32)]).numpy(), [3, 4])
    assert float(total([1.0, 2.0, 3.0])) == 6.0


@pytest.mark.parametrize(
    "use",
    [
        lambda xs, y: ab.sum([x * k for k, x in enumerate(xs)]),
        lambda xs, y: ab.sum([x * w for x, w in zip(xs, [1.0, 2.0, 3.0], strict=False)]),
        lambda xs, y: ab.sum([x * w for w, x in zip([1.0, 2.0, 3.0], xs, strict=False)]),
        lambda xs, y: ab.sum([x * w for w, x in zip([1.0], xs, strict=False)]),
        lambda xs, y: ab.sum([a * b for a, b in zip(xs, xs, strict=False)]) * len(xs),
        lambda xs, y: ab.sum([xs[0], y]),
        lambda xs, y: xs[-1],
        lambda xs, y: next(iter(xs)),
        lambda xs, y: list(xs)[-1],
        lambda xs, y: y / len(xs),
        lambda xs, y: ab.sum([y, *xs]),
        lambda xs, y: max(xs),
        lambda xs, y: sum(xs),
        lambda xs, y: ab.sum(xs[1:]),
        lambda xs, y: ab.sum([*reversed(list(xs)), y]),
        lambda xs, y: ab.stack(xs).reshape(-1),
        lambda xs, y: ab.softmax(ab.stack(xs), axis=0)[0],
    ],
)
def test_misuse_of_a_list_raises(use: Callable[[Any, Any], Any]) -> None:
    @ab.cell
    def cell(xs: list[Any], y: Any) -> Any:
        return _use[0](xs, y)

    _use[:] = [use]
    with pytest.raises((CellError, ab.errors.OpTypeError), match=r"repair|cell") as caught:
        cell([vector(1, 2), vector(3, 4), vector(5, 6)], vector(1, 1))
    assert "test_cell.py" in str(caught.value)
    np.testing.assert_array_equal(ab.cell(lambda x: x * 2)(vector(1, 2)).numpy(), [2, 4])


_use: list[Callable[[Any, Any], Any]] = []


def test_state_carried_through_a_loop_over_a_list_raises() -> None:
    @ab.cell
    def carry(xs: list[Any], y: Any) -> Any:
        for x in xs:
            y = ab.tanh(y + x)
        return y

    @ab.cell
    def count(xs: list[Any], y: Any) -> Any:
        k = 0
        parts = []
        for x in xs:
            k = k + 1
            parts.append(x * k)
        return ab.sum(parts)

    @ab.cell
    def previous(xs: list[Any], y: Any) -> Any:
        parts = []
        for x in xs:
            parts.append(x + y)
            y = ab.ones(2) * 2.0
        return ab.sum(parts)

    for cell in (carry, count, previous):
        with pytest.raises(CellError, match=r"test_cell\.py"):
            cell([vector(1, 2), vector(3, 4)], vector(1, 1))


def test_a_static_list_may_be_used_as_it_likes() -> None:
    @ab.cell(static=("weights",))
    def weigh(x: Any, weights: tuple[float, ...]) -> Any:
        for k, w in enumerate(weights):
            x = x * w + k
        return x

    np.testing.assert_array_equal(weigh(vector(1, 2), (2.0, 3.0)).numpy(), [7, 13])
    assert traces(weigh) == 1


# Dropout.


class Dropping(nn.Module):
    def __init__(self) -> None:
        self.weight = ab.Parameter(np.ones(8))
        self.drop = nn.Dropout(0.5)

    def body(self, x: Any, children: list[Any]) -> Any:
        y = self.drop(x * self.weight)
        parts = [ab.dropout(c, 0.3, training=self.training) for c in children]
        return self.drop(y + ab.sum(parts, like=x)) + ab.normal(8) * 0.1

    @ab.cell
    def cell(self, x: Any, children: list[Any]) -> Any:
        return self.body(x, children)


def dropped(batched: bool, name: str, chosen: list[int] | None = None, training: bool = True) -> tuple[Any, Any]:
    ab.seed(4)
    model = Dropping().train(training)
    rng = np.random.default_rng(0)
    trees = [tree(rng, 3) for _ in range(5)]

    def widen(t: Any) -> Any:
        return np.resize(t[0], 8), [widen(c) for c in t[1]]

    def loss(k: int) -> Any:
        return (
            ab.sum(encode(getattr(model, name), widen(trees[k]))) if chosen is None or k in chosen else ab.tensor(0.0)
        )

    losses = ab.map(loss, range(5), batched=batched)
    ab.sum(losses).backward()
    return [float(x) for x in losses], model.weight.grad


def test_dropout_in_cells_equals_dropout_without_and_does_not_depend_on_the_batch() -> None:
    want, gradient = dropped(False, "body")
    for batched in (True, False):
        for name in ("cell", "body"):
            got, g = dropped(batched, name)
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(g, gradient, rtol=1e-4, atol=1e-4)
    for chosen in ([0], [1, 3], [4]):
        some, _ = dropped(True, "cell", chosen)
        np.testing.assert_allclose([some[k] for k in chosen], [want[k] for k in chosen], rtol=1e-5, atol=1e-5)
    # In evaluation mode nothing is dropped, the normal draws remain.
    evaluated = dropped(True, "cell", training=False)[0]
    np.testing.assert_allclose(evaluated, dropped(False, "body", training=False)[0], rtol=1e-5, atol=1e-5)
    assert not np.allclose(evaluated, want)


def test_dropout_follows_the_module_whose_forward_or_cell_runs() -> None:
    class Forward(nn.Module):
        def forward(self, x: Any) -> Any:
            return ab.dropout(x, 0.5)

        @ab.cell
        def step(self, x: Any) -> Any:
            return ab.dropout(x, 0.5)

    model = Forward()
    x = ab.ones(64)
    for apply in (model, model.step, lambda x: ab.map(model, [x])[0], lambda x: ab.map(model.step, [x])[0]):
        assert set(apply(x).numpy().tolist()) == {0.0, 2.0}
        model.eval()
        assert set(apply(x).numpy().tolist()) == {1.0}
        model.train()
    inner = nn.Dropout(0.5)
    model.eval()
    model.inner = inner.train()  # type: ignore[attr-defined]
    assert set(ab.map(lambda x: model.inner(x), [x])[0].numpy().tolist()) == {0.0, 2.0}  # type: ignore[attr-defined]


# Cells and derivatives.


def test_results_and_gradients_equal_those_without_cells() -> None:
    rng = np.random.default_rng(11)
    lengths = [1, 4, 2, 3]
    data = [[rng.normal(size=3) for _ in range(n)] for n in lengths]
    w0, v0 = rng.normal(size=(3, 3)), rng.normal(size=(5, 3))

    def run(decorate: Any) -> list[Any]:
        w, v = ab.Parameter(w0, np.float64), ab.Parameter(v0, np.float64)

        @decorate
        def word(index: int) -> Any:
            return ab.tanh(v[index] @ w), v[index] * 2.0

        @decorate
        def step(state: Any, x: Any, scale: float) -> Any:
            h, c = state
            gate = ab.sigmoid(h @ w + x)
            c = gate * c + (1.0 - gate) * ab.tanh(x * scale)
            return c * ab.softmax(h), c

        def loss(xs: list[Any]) -> Any:
            state = word(len(xs))
            for k, x in enumerate(xs):
                state = step(state, ab.tensor(x, np.float64), 0.5 * k)
            return ab.cross_entropy(state[0], len(xs) % 3)

        losses = ab.map(loss, data)
        ab.mean(losses).backward()
        g = v.grad if isinstance(v.grad, np.ndarray) else v.grad.to_dense()
        return [*(float(x) for x in losses), np.array(w.grad), np.array(g)]

    got, want = without_cells(run)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_derivatives_of_a_cell() -> None:
    @ab.cell
    def energy(x: Any, others: list[Any]) -> Any:
        return ab.sum([ab.sum((x - o) ** 2) for o in others])

    def forces(points: list[Any]) -> Any:
        x, *others = [ab.tensor(p) for p in points]
        return ab.grad(energy)(x, others)

    points = [[np.array([float(k), 1.0]) for k in range(n)] for n in (2, 3, 4)]
    for batched in (True, False):
        got = ab.evaluate(ab.map(forces, points, batched=batched))
        for n, g in zip((2, 3, 4), got, strict=True):
            np.testing.assert_allclose(g, [-2.0 * sum(range(n)), 0.0], atol=1e-5)


def test_a_shared_argument_takes_the_fast_path() -> None:
    start, other = ab.constant(np.ones(3)), ab.Parameter(np.arange(3.0))
    traced: list[int] = []

    @ab.cell
    def step(x: Any, state: Any) -> Any:
        return ab.tanh(x) * state

    def run(_: int) -> Any:
        x = ab.tensor(np.full(3, 0.5))
        first = step(x, start)
        slow = step.cell.call  # type: ignore[attr-defined]
        step.cell.call = lambda *_: traced.append(1) or slow(*_)  # type: ignore[attr-defined]
        try:
            return first, step(x, start), step(x, first), step(x, other)
        finally:
            del step.cell.call  # type: ignore[attr-defined]

    values = ab.evaluate(ab.map(run, [0, 1]))
    assert not traced
    for one, two, _, four in values:
        np.testing.assert_array_equal(one, two)
        np.testing.assert_allclose(four, np.tanh(0.5) * np.arange(3.0), rtol=1e-6)


def test_an_array_takes_the_fast_path() -> None:
    slow_calls: list[Any] = []

    @ab.cell
    def scaled(x: Any, pair: tuple[Any, Any]) -> Any:
        return x * pair[0] + pair[1]

    slow = scaled.cell.call  # type: ignore[attr-defined]
    scaled.cell.call = lambda *call: slow_calls.append(call) or slow(*call)  # type: ignore[attr-defined]

    def run(k: int) -> Any:
        x = np.full(3, k)  # integers, as wide as they come
        y = scaled(x, (np.arange(3.0), ab.tensor([1.0, 2.0, 3.0])))
        x[:] = 100  # what was recorded is a copy
        wider = scaled(np.full((2, 3), k, np.float32), (np.ones((2, 3), np.float32), np.ones((2, 3))))
        return y, wider

    for batched in (True, False):
        slow_calls.clear()
        values = ab.evaluate(ab.map(run, range(4), batched=batched))
        assert len(slow_calls) == 2
        for k, (y, wider) in enumerate(values):
            np.testing.assert_array_equal(y, k * np.arange(3.0) + [1.0, 2.0, 3.0])
            np.testing.assert_array_equal(wider, np.full((2, 3), k + 1.0))
            assert y.dtype == wider.dtype == np.float32


def test_arrays_follow_a_change_of_the_default_dtype() -> None:
    @ab.cell
    def doubled(x: Any) -> Any:
        return x * 2

    x = np.arange(3.0)
    first = doubled(x)
    ab.set_default_dtype("float64")
    assert (first.dtype, doubled(x).dtype, doubled(x).dtype) == (np.float32, np.float64, np.float64)


class Chain(nn.Module):
    """Cells whose parameters have names that the library uses, defaults, and a variable number."""

    def __init__(self) -> None:
        self.scale = 2.0

    @ab.cell
    def step(self, tape: Any, list: Any = None, _len: str = "sum", *, tuple: bool = False) -> Any:
        y = tape * self.scale if list is None else tape + list[0] * list[1]
        return -y if tuple else (y + 1.0 if _len == "sum" else y)

    @ab.cell
    def plain(self, tape: Any, list: Any = None, int: int = 3, _len: str = "sum") -> Any:
        y = tape * self.scale if list is None else tape + list[0] * list[1]
        return y + int if _len == "sum" else y

    @ab.cell
    def joined(self, *xs: Any) -> Any:
        return ab.sum([x * self.scale for x in xs])


def test_calls_of_one_structure_take_the_fast_path_however_they_are_written() -> None:
    chain = Chain()

    def run(k: int) -> Any:
        x = vector(1.0, k)
        found = []
        for _ in range(3):
            found += [chain.plain(x), chain.plain(list=(x, x), tape=x), chain.plain(x, None, k, "none")]
            found += [chain.step(x), chain.step(x, _len="none", tuple=True), chain.joined(x), chain.joined(x, x)]
        return found

    for _ in range(2):
        got, want = ab.evaluate(ab.map(run, [4, 5])), ab.evaluate(ab.map(run, [4, 5], batched=False))
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(got[1][:3], [[5.0, 13.0], [5.0, 33.0], [2.0, 10.0]])


def test_the_fast_path_is_taken_again_after_a_module_changed() -> None:
    chain, other = Chain(), Chain()
    slow: list[Any] = []
    cell = Chain.plain.cell  # type: ignore[attr-defined]

    def run(_: int) -> Any:
        x = vector(1.0, 2.0)
        first = [chain.plain(x), other.plain(x), chain.plain(x)]
        other.scale = 2.0  # as it was
        again = [chain.plain(x), other.plain(x)]
        cell.call = lambda *call: slow.append(call) or type(cell).call(cell, *call)
        try:
            return first + again + [chain.plain(x), other.plain(x), chain.plain(x)]
        finally:
            del cell.call

    values = ab.evaluate(ab.map(run, [0]))
    assert not slow
    np.testing.assert_array_equal(values[0], [[5.0, 7.0]] * 8)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_linear_maps_with_nothing_between(backend: str) -> None:
    def run(decorate: Any) -> list[Any]:
        ab.seed(0)
        with ab.backend(backend):
            first, second = nn.Linear(2, 3), nn.Linear(3, 4)

            @decorate
            def both(x: Any) -> Any:
                return second(first(x))

            results = ab.map(lambda k: both(vector(k, 1)), [1.0, 2.0, 3.0])
            ab.sum([y.sum() for y in results]).backward()
            return [*(y.numpy() for y in results), *(p.grad for m in (first, second) for p in m.parameters())]

    for got, want in zip(*without_cells(run), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "use",
    [
        lambda x, k: x if k in (1, 2) else -x,
        lambda x, k: x * {1: 2.0}.get(k, 5.0),
        lambda x, k: x * len({k, 1}),
        lambda x, k: ab.sum([x] * k),
        lambda x, k: x * [1, 2].index(k),
        lambda x, k: x.reshape((k, -1)),
        lambda x, k: ab.stack([x, x]).sum(axis=k),
        lambda x, k: sum(x for _ in range(k)),
        lambda x, k: [x, x * 2.0][k],
        lambda x, k: x if k > 1 else -x,
        lambda x, k: ab.zeros(k) + x,
    ],
)
def test_numbers_of_a_call_that_decide_what_is_computed_are_refused(use: Any) -> None:
    cell = ab.cell(use)
    for _ in range(2):
        with pytest.raises(CellError, match=r"static=") as caught:
            cell(vector(1, 2), 1)
        assert "test_cell.py" in str(caught.value)
    np.testing.assert_array_equal(ab.cell(static=("k",))(use)(vector(1, 2), 1).numpy(), use(vector(1, 2), 1).numpy())


@pytest.mark.parametrize("number", [-3, 2, float("nan"), 0.5])
def test_numbers_that_are_no_index_or_label_raise_on_every_path(number: float) -> None:
    table = ab.Parameter(np.ones((2, 2)))
    for use in (lambda x, k: x[k], lambda x, k: table[k] * x, lambda x, k: ab.cross_entropy(x, k)):
        cell = ab.cell(use)
        for _ in range(2):
            with pytest.raises(ab.AutobatchError):
                cell(vector(1, 2), number)
            cell(vector(1, 2), 1)
        x = vector(1, 2)
        cell(x, 1)
        with pytest.raises(ab.AutobatchError):
            cell(x, number)


# What can be a cell.


class Kinds:
    def __init__(self, k: float) -> None:
        self.k = k

    @ab.cell
    @staticmethod
    def above_static(x: Any) -> Any:
        return x * 2.0

    @staticmethod
    @ab.cell
    def below_static(x: Any) -> Any:
        return x * 3.0

    @ab.cell
    @classmethod
    def above_class(cls, x: Any) -> Any:
        return x * cls.factor()

    @classmethod
    @ab.cell
    def below_class(cls, x: Any) -> Any:
        return x * cls.factor() + 1.0

    @classmethod
    def factor(cls) -> float:
        return 4.0

    def method(self, x: Any) -> Any:
        return x * self.k

    def __call__(self, x: Any, more: Any = 0.0) -> Any:
        return x * self.k + more


class Quarter(Kinds):
    @classmethod
    def factor(cls) -> float:
        return 0.25


def test_any_callable_can_be_a_cell() -> None:
    kinds = Kinds(5.0)
    layer = nn.Linear(2, 2)
    callables: list[tuple[Any, Any]] = [
        (kinds.above_static, lambda x: x * 2.0),
        (Kinds.below_static, lambda x: x * 3.0),
        (kinds.above_class, lambda x: x * 4.0),
        (Quarter.above_class, lambda x: x * 0.25),
        (Kinds.below_class, lambda x: x * 4.0 + 1.0),
        (Quarter(1.0).below_class, lambda x: x * 0.25 + 1.0),
        (ab.cell(kinds.method), kinds.method),
        (ab.cell(kinds), kinds),
        (ab.cell(functools.partial(kinds, more=2.0)), functools.partial(kinds, more=2.0)),
        (ab.cell(functools.partial(lambda k, x: x * k, 2.0)), lambda x: x * 2.0),
        (ab.cell(layer), lambda x: x @ layer.weight.T + layer.bias),
        (ab.cell(ab.tanh), ab.tanh),
        (ab.cell(operator.neg), operator.neg),
        (ab.cell(ab.cell(lambda x: x + 1.0)), lambda x: x + 1.0),
    ]  # fmt: skip
    for cell, plain in callables:
        for numbers in ([1.0, 2.0], [3.0, 4.0]):
            state.tape = None
            got = cell(ab.tensor(numbers))
            assert state.tape is not None
            assert len(state.tape.places) == 2  # the argument and one call
            np.testing.assert_allclose(got.numpy(), plain(ab.tensor(numbers)).numpy(), rtol=1e-6)
    kinds.k = 6.0
    np.testing.assert_array_equal(callables[6][0](vector(1, 2)).numpy(), [6, 12])
    with pytest.raises(CellError, match="cannot be called"):
        ab.cell(3)


def test_a_module_that_is_a_cell_keeps_its_parameters() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            self.layer = ab.cell(nn.Linear(2, 2))

    model = Model()
    assert [name for name, _ in model.named_parameters()] == ["layer.weight", "layer.bias"]
    model.layer(vector(1, 2)).sum().backward()
    np.testing.assert_array_equal(model.layer.weight.grad, [[1, 2], [1, 2]])


def test_modules_in_containers_that_a_cell_caught_are_read() -> None:
    layers, log = [nn.Linear(2, 3), nn.Linear(3, 2)], []

    @ab.cell
    def both(x: Any) -> Any:
        log.append("traced")
        for layer in layers:
            x = layer(x)
        return x

    for _ in range(2):
        np.testing.assert_allclose(both(vector(1, 2)).numpy(), layers[1](layers[0](vector(1, 2))).numpy(), rtol=1e-6)
    assert log == ["traced"]
    layers.append(nn.Linear(2, 2))
    np.testing.assert_allclose(
        both(vector(1, 2)).numpy(), layers[2](layers[1](layers[0](vector(1, 2)))).numpy(), rtol=1e-6
    )
    assert log == ["traced"] * 2


def test_disabled_cells_run_their_python() -> None:
    class Stepping(nn.Module):
        calls = 0

        @ab.cell
        def step(self, x: Any, k: float) -> Any:
            Stepping.calls += 1
            return ab.dropout(ab.tanh(x) * 2.0, 0.5)

    model = Stepping().eval()
    x = vector(1, 2)
    results = [model.step(x, 1.0), model.step(x, 1.0)]
    assert Stepping.calls == 1
    with ab.disable_cells():
        results += [model.step(x, 1.0), model.step(x, 2.0)]
        assert Stepping.calls == 3
        with ab.disable_cells():
            results.append(model.step(x, 3.0))
        results.append(model.step(x, 4.0))
        assert Stepping.calls == 5
    results += [model.step(x, 5.0), model.step(x, 6.0)]
    assert Stepping.calls == 5
    for y in results:
        np.testing.assert_allclose(y.numpy(), 2.0 * np.tanh([1.0, 2.0]), rtol=1e-6)


def test_no_gradient_flows_through_what_a_cell_computes_under_no_grad() -> None:
    w = ab.Parameter([2.0, 3.0])

    def scaled(x: Any) -> Any:
        return (x * w).sum()

    def whole(x: Any) -> Any:
        with ab.no_grad():
            scale = scaled(x)
            stacked = ab.stack([scale, scale])
        return (x * scale).sum() + (x * stacked).sum()

    @ab.cell
    def listed(xs: list[Any]) -> Any:
        with ab.no_grad():
            total = ab.sum([x * w for x in xs])
        return (total * w).sum()

    gradients = []
    for fn in (whole, ab.cell(whole)):
        for results in (lambda fn=fn: [fn(w * vector(1, 1))], lambda fn=fn: ab.map(lambda k: fn(w * k), [1.0])):
            w.grad = None
            ab.sum(results()).backward()
            gradients.append(np.array(w.grad))
    np.testing.assert_allclose(gradients, [gradients[0]] * 4, rtol=1e-6)
    np.testing.assert_allclose(gradients[0], [26.0, 26.0], rtol=1e-6)
    w.grad = None
    listed([vector(1, 2), vector(3, 4)]).backward()
    np.testing.assert_allclose(w.grad, [4 * 2.0, 6 * 3.0], rtol=1e-6)


COUNT = 0


def test_a_cell_that_changes_what_it_reads_is_refused() -> None:
    class Stateful(nn.Module):
        def __init__(self) -> None:
            self.h: Any = ab.zeros(2)
            self.n = 0
            self.mask: Any = None

        @ab.cell
        def step(self, x: Any) -> Any:
            self.h = ab.tanh(self.h + x)
            return self.h

        @ab.cell
        def count(self, x: Any) -> Any:
            self.n += 1
            return x * self.n

        @ab.cell
        def masked(self, x: Any) -> Any:
            if self.mask is None:
                self.mask = np.array([1.0, 0.0])
            return (x * self.mask).sum()

    @ab.cell
    def global_count(x: Any) -> Any:
        global COUNT
        COUNT += 1
        return x * COUNT

    state, n = vector(0, 0), 0

    @ab.cell
    def nonlocal_state(x: Any) -> Any:
        nonlocal state
        state = state + x
        return state

    @ab.cell
    def nonlocal_count(x: Any) -> Any:
        nonlocal n
        n += 1
        return x * n

    model = Stateful()
    for cell in (model.step, model.count, global_count, nonlocal_state, nonlocal_count):
        with pytest.raises(CellError, match="argument"):
            cell(vector(1, 2))
    assert [float(model.masked(vector(1, 2))) for _ in range(2)] == [1.0, 1.0]  # it settles


def test_a_caught_variable_can_be_named_in_static() -> None:
    def made(n: int, factors: list[float], static: tuple[str, ...]) -> Any:
        table = {"k2": 1.0, "k3": 10.0}

        @ab.cell(static=static)
        def step(x: Any) -> Any:
            for _ in range(n):
                x = x * factors[0]
            return x * table[f"k{n}"]

        return step

    x = ab.tensor(1.0)
    factors = [2.0]
    step = made(2, factors, ("n", "factors"))
    assert float(step(x)) == 4
    factors[0] = 3.0
    assert float(step(x)) == 9
    assert float(made(3, [2.0], ("n", "factors"))(x)) == 80
    with pytest.raises(CellError, match=r"(?s)loop bound.*static"):
        made(2, [2.0], ())(x)
    with pytest.raises(TypeError, match="neither arguments of it nor variables"):
        made(2, [2.0], ("m",))


def test_a_number_of_a_cell_is_no_text() -> None:
    table = {"k2": 1.0}
    for read in (lambda n: table[f"k{n}"], lambda n: table["k" + str(n)]):
        with pytest.raises(CellError, match=r"(?s)used as a text.*static"):
            ab.cell(lambda x, n, read=read: x * read(n), static=("read",))(ab.tensor(1.0), 2)


class Named(dict[str, Any]):
    """Its items are attributes, too."""

    __getattr__ = dict.__getitem__
    factor = 1.0

    def twice(self) -> Any:
        return self["k"] * 2.0 * self.factor


class Itself(dict[str, Any]):
    def __init__(self, **items: Any) -> None:
        super().__init__(**items)
        self.__dict__ = self


def test_a_dict_keeps_its_class_inside_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    caught = Named(k=5.0)

    @ab.cell
    def step(x: Any, held: Named) -> Any:
        return held.twice() + held.k * x + caught.k  # type: ignore[attr-defined]

    for k in 2.0, 3.0:
        assert float(step(ab.tensor(1.0), Named(k=ab.tensor(k)))) == 3 * k + 5
    assert step.cell.traces == 1  # type: ignore[attr-defined]
    held = Named(k=ab.tensor(2.0))
    held.factor = 2.0
    assert float(step(ab.tensor(1.0), held)) == 15
    monkeypatch.setattr(Named, "twice", lambda self: self["k"])
    assert float(step(ab.tensor(1.0), held)) == 9

    read = ab.cell(lambda held: held.k)
    assert [float(read(Itself(k=ab.tensor(k)))) for k in (1.0, 2.0)] == [1, 2]
    assert read.cell.traces == 1  # type: ignore[attr-defined]
    assert float(ab.cell(lambda d: d["a"] + d.default_factory())(defaultdict(lambda: 2.0, a=ab.tensor(1.0)))) == 3
    ordered = OrderedDict(a=ab.tensor(1.0), b=ab.tensor(2.0))
    assert float(ab.cell(lambda d: next(iter(d.values())) - d["b"])(ordered)) == -1
    assert float(ab.cell(lambda d: d["a"] * 1.0)(Counter("aa"))) == 2


@pytest.mark.parametrize("given", [{}, {"a": 1.0}, [], Named(a=1.0)], ids=["empty", "dict", "list", "own"])
def test_a_container_that_a_cell_fills_is_refused(given: Any) -> None:
    @ab.cell
    def step(x: Any, into: Any) -> Any:
        into.append(x) if isinstance(into, list) else into.update(y=x)
        return x

    with pytest.raises(CellError, match="changes a list or dict that it is given"):
        step(ab.tensor(1.0), given)


def test_a_list_with_methods_of_its_own_is_refused() -> None:
    class Total(list[Any]):
        def total(self) -> Any:
            return ab.sum(list(self))

    class Plain(list[Any]):
        pass

    w = ab.Parameter(np.array([2.0, 3.0]))
    with pytest.raises(CellError, match=r"loses its class"):
        ab.cell(lambda xs: xs.total())(Total([w, w]))
    caught = Total([w, w])
    assert ab.cell(lambda x: x * caught.total())(ab.tensor(1.0)).numpy().tolist() == [4, 6]
    assert ab.cell(lambda xs: ab.sum(xs))(Plain([w, w])).numpy().tolist() == [4, 6]


def test_matrices_of_any_number_of_rows_share_launches() -> None:
    rng = np.random.default_rng(0)
    ab.set_default_dtype("float64")

    class Block(nn.Module):
        def __init__(self) -> None:
            self.norm, self.step = nn.LayerNorm(4), nn.GRUCell(4, 4)
            self.weight = ab.Parameter(rng.normal(size=(4, 4)))

        @ab.cell
        def mixed(self, x: Any, h: Any, scale: Any) -> Any:
            y = ab.relu(self.norm(x) @ self.weight) * scale + h
            a, b = ab.split(y, 2, axis=1)
            h = ab.softmax(ab.concat([ab.tanh(a), b], axis=1), axis=-1)
            return h, ab.reshape(h, (-1, 2, 2)), ab.max(h, axis=1), ab.sum(y * x, axis=0)

        @ab.cell
        def weighted(self, weights: Any, h: Any) -> Any:
            return ab.sum(weights[:, None] * h, axis=0), weights * weights

        def loss(self, rows: Any) -> Any:
            x = ab.tensor(rows)
            h, pairs, largest, total = self.mixed(self.step(x, x * 0.5), x, 0.3)
            mean, squares = self.weighted(largest, h)
            return (ab.tanh(pairs).sum() * total + mean).sum() + squares.sum()

    block, examples = Block(), [rng.normal(size=(n, 4)) for n in range(9)]

    def gradients(batched: bool, order: int) -> tuple[Any, ...]:
        block.zero_grad()
        slope = ab.grad(block.loss) if order == 2 else None
        f = block.loss if slope is None else lambda rows: (slope(ab.tensor(rows)) ** 2).sum()
        loss = ab.sum(ab.map(f, examples, batched=batched))
        loss.backward()
        return float(loss), *[p.grad.copy() for p in block.parameters()]

    for order in (1, 2):
        for found, wanted in zip(gradients(True, order), gradients(False, order), strict=True):
            np.testing.assert_allclose(found, wanted, 1e-8, 1e-8)
    with ab.profile() as profile:
        gradients(True, 1)
    assert [profile.kernels[name][0] for name in ("forward", "mixed", "weighted")] == [1, 1, 1]


def test_a_cell_of_one_number_of_rows_stays_as_it_is() -> None:
    @ab.cell
    def double(x: Any) -> Any:
        return x * 2

    def signatures(*lengths: int) -> list[str]:
        ab.evaluate([double(ab.tensor(np.ones((n, 2)))) for n in lengths])
        return [str(entry.signature) for entry in double.cell.traced()]  # type: ignore[attr-defined]

    assert signatures(3, 3) == ["double(f32[3, 2])"]
    assert signatures(4, 5, 3) == ["double(f32[3, 2])", *["double(rows of f32[n, 2])"] * 3]


def test_nested_results_and_lists_take_the_fast_path() -> None:
    @ab.cell
    def nested(x: Any) -> Any:
        return x, (x * 2, (x * 3,)), ()

    @ab.cell
    def listed(xs: Any) -> Any:
        return ab.sum(xs)

    def check() -> None:
        x = ab.tensor(np.ones(2))
        first, (double, (triple,)), none = nested(x)
        assert none == ()
        assert [float(v[0]) for v in (first, double, triple, listed([x, x, x]))] == [1.0, 2.0, 3.0, 3.0]

    check()
    slow: list[Any] = []
    for cell in (nested.cell, listed.cell):  # type: ignore[attr-defined]
        cell.call = lambda *call, cell=cell: slow.append(call) or type(cell).call(cell, *call)

    def example(_: int) -> Any:
        x = ab.tensor(np.ones(2))
        return nested(x), listed([x, x])

    ab.map(example, range(5))
    assert not slow  # another recording has shown the way
    check()


def test_a_parameter_takes_the_fast_path() -> None:
    weights = [ab.Parameter(np.eye(2) * k) for k in (1.0, 2.0)]

    @ab.cell
    def step(x: Any, w: Any) -> Any:
        return ab.tanh(x) @ w

    cell = step.cell  # type: ignore[attr-defined]

    def run(n: int) -> Any:
        x = ab.tensor([0.5, n])
        for w in (*weights, weights[0].T, weights[0] * 3.0) * 2:
            x = step(x, w)
        return x.sum()

    first = ab.evaluate(ab.map(run, [0, 1], batched=False))
    ab.evaluate(ab.map(run, [0, 1]))
    slow: list[Any] = []
    cell.call = lambda *call: slow.append(call) or type(cell).call(cell, *call)
    try:
        for scale in (1.0, 0.5):
            weights[1].value = np.eye(2) * 2.0 * scale
            losses = ab.map(run, [0, 1])
            assert len(slow) <= 1  # `weights[0] * 3.0` is another value each time
            slow.clear()
            if scale == 1.0:
                np.testing.assert_allclose(ab.evaluate(losses), first, rtol=1e-6)
    finally:
        del cell.call
    want = ab.evaluate(ab.map(run, [0, 1], batched=False))
    np.testing.assert_allclose(ab.evaluate(losses), want, rtol=1e-6)
    gradients = []
    for batched in (True, False):
        for w in weights:
            w.grad = None
        ab.sum(ab.map(run, [0, 1], batched=batched)).backward()
        gradients.append([np.asarray(w.grad) for w in weights])
    np.testing.assert_allclose(*gradients, rtol=1e-5)
