"""An example that forces a value waits while others go on: as in plain Python, in whole batches."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import itertools
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import greenlet
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autobatch as ab
from autobatch import nn
from autobatch.errors import OpIndexError, OpTypeError, RecordingError
from autobatch.map import fibers
from autobatch.record.context import is_frozen
from autobatch.record.tape import state
from tests import requested

AT_ONCE = (None, 1, 2, 7)
XS = [0.3, -0.7, 1.1, -0.2, 0.9, -1.3]


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    ab.set_default_dtype("float64")
    ab.set_backend(requested.backend("numpy"))
    yield
    assert (state.depth, state.fiber, state.example, state.training) == (0, None, -1, True)
    assert not is_frozen()
    assert all(fiber.examples is None for fiber in fibers._idle.fibers)


class Model(nn.Module):
    """Goes on by what it computes."""

    def __init__(self) -> None:
        self.layer = nn.Linear(3, 3)
        self.w = ab.Parameter([0.4, -0.8, 0.3])

    def walk(self, x: float, n: int) -> Any:
        h = ab.tensor([x, 2.0 * x, -x])
        total = []
        for k in range(n):
            h = ab.tanh(self.layer(h) + self.w * x)
            total.append((h * self.w).sum())
            way = int(np.argmax(h.numpy())) if k % 2 else bool(h.sum() > 0.0)
            if way == 0:
                h = h * 0.5 + ab.normal(3) * 0.1
            elif way == 2:
                with ab.no_grad():
                    scale = abs(float(h[1])) + float((h * h).sum())
                h = h * scale
        while float((h * h).sum()) > 0.5:
            h = h * 0.7
            total.append(h[0])
        return ab.sum(total), h


def outcome(model: Model, xs: list[float], ns: list[int], **options: Any) -> tuple[Any, Any]:
    ab.seed(3)
    for p in model.parameters():
        p.grad = None
    results = ab.map(model.walk, xs, ns, **options)
    ab.sum([loss for loss, _ in results]).backward()
    return ab.evaluate(results), [requested.host(p.grad) for p in model.parameters() if p.grad is not None]


@settings(max_examples=requested.fewer(20))
@given(st.lists(st.tuples(st.floats(-2.0, 2.0), st.integers(1, 6)), min_size=1, max_size=9), st.sampled_from(AT_ONCE))
def test_batched_equals_one_by_one(examples: list[tuple[float, int]], at_once: int | None) -> None:
    model = Model()
    xs, ns = map(list, zip(*examples, strict=True))
    values, gradients = outcome(model, xs, ns, at_once=at_once)
    wanted, slopes = outcome(model, xs, ns, batched=False)
    for (loss, h), (loss_1, h_1) in zip(values, wanted, strict=True):
        np.testing.assert_allclose(loss, loss_1, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(h, h_1, rtol=1e-10, atol=1e-10)
    for g, g_1 in zip(gradients, slopes, strict=True):
        np.testing.assert_allclose(g, g_1, rtol=1e-8, atol=1e-8)


def steps(x: float) -> Any:
    h = ab.tensor([x, 1.0])
    for _ in range(4):
        h = ab.tanh(h)
        if float(h.sum()) > 0:
            h = h * 0.5
    return h


def test_all_wait_for_one_batch() -> None:
    with ab.profile() as many:
        ab.evaluate(ab.map(steps, [1.0] * 20))
    with ab.profile() as one:
        ab.evaluate(ab.map(steps, [1.0]))
    assert many.launches == one.launches
    assert many.forced.phases == 4


@pytest.mark.parametrize("at_once", [1, 2, 5, 100])
def test_at_most_so_many_are_under_way(at_once: int) -> None:
    under_way, most, order = set[int](), 0, []

    def example(k: int) -> Any:
        nonlocal most
        under_way.add(k)
        most = max(most, len(under_way))
        h = ab.tensor(float(k))
        for _ in range(1 + k % 3):
            h = h + 1.0
            float(h)
        under_way.remove(k)
        order.append(k)
        return h

    with ab.profile() as prof:
        results = [float(h) for h in ab.map(example, range(12), at_once=at_once)]
    assert results == [k + 1.0 + k % 3 for k in range(12)]
    assert most == min(at_once, 12)
    assert sorted(order) == list(range(12))
    assert prof.forced.phases == {1: 24, 2: 13, 5: 6, 100: 3}[at_once]


@pytest.mark.parametrize("wrong", [0, -1, True, 2.0, "2"])
def test_at_once_is_a_positive_number(wrong: Any) -> None:
    with pytest.raises(OpTypeError, match="at_once"):
        ab.map(steps, XS, at_once=wrong)


def test_maps_inside_of_examples_join_in() -> None:
    """All inner examples of all outer ones wait together, and those that wait for nothing need no fiber."""
    layer = nn.Linear(2, 2)

    def inner(x: float) -> Any:
        h = layer(ab.tensor([x, 1.0]))
        for _ in range(2):
            if float(h.sum()) > 0:
                h = ab.tanh(layer(h))
        return h.sum()

    def outer(n: int) -> Any:
        scores = ab.map(inner, XS[:n])
        best = max(range(n), key=lambda k: float(scores[k]))
        return scores[best] + ab.sum(ab.map(lambda s: s * 2.0, scores))

    with ab.profile() as prof:
        results = ab.map(outer, [3, 1, 5, 2])
        values = ab.evaluate(results)
    np.testing.assert_allclose(values, ab.evaluate(ab.map(outer, [3, 1, 5, 2], batched=False)), rtol=1e-12)
    assert prof.forced.phases <= 4


class Stop(Exception):
    pass


@pytest.mark.parametrize("kind", [Stop, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("at", [0, 2, 5])
def test_an_exception_ends_the_others(kind: type[BaseException], at: int) -> None:
    ended: list[int] = []

    @contextlib.contextmanager
    def noted(k: int) -> Iterator[None]:
        try:
            yield
        finally:
            ended.append(k)

    def example(k: int) -> Any:
        with noted(k), ab.no_grad():
            h = ab.tensor(float(k)) + 1.0
            float(h)
            try:
                if k == at:
                    raise kind("here")
                return float(h * 2.0)
            finally:
                assert float(h * 3.0) == 3.0 * (k + 1.0)

    with pytest.raises(kind, match="here") as caught:
        ab.map(example, range(6))
    assert sorted(ended) == list(range(6))
    if kind is Stop:
        assert caught.value.__notes__ == [f"in example {at} of ab.map"]
    assert float(ab.map(steps, [1.0])[0][0]) > 0


def test_an_exception_of_an_inner_map_can_be_caught_in_the_outer_example() -> None:
    ended = []

    def inner(k: int) -> Any:
        try:
            h = ab.tensor(float(k))
            float(h * 1.0)
            if k == 2:
                raise Stop
            float(h * 2.0)
            return h
        finally:
            ended.append(k)

    def outer(n: int) -> Any:
        try:
            return float(ab.sum(ab.map(inner, range(n))))
        except Stop as error:
            assert error.__notes__ == ["in example 2 of ab.map"]
            return float(ab.tensor(-1.0) * n)

    assert ab.map(outer, [2, 3, 1, 5]) == [1.0, -3.0, 0.0, -5.0]
    assert sorted(ended) == [0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4]
    with pytest.raises(Stop) as caught:
        ab.map(lambda n: ab.sum(ab.map(inner, range(n))), [2, 3])
    assert caught.value.__notes__ == ["in example 2 of ab.map", "in example 1 of ab.map"]


@pytest.mark.parametrize("at", [0, 3])
def test_an_example_that_will_not_end_is_given_up(at: int) -> None:
    def example(k: int) -> Any:
        h = ab.tensor(float(k)) + 1.0
        for n in itertools.count():
            with contextlib.suppress(BaseException):
                float(h * 2.0)
            if k == at and n == 2:
                raise Stop

    with pytest.raises(RecordingError, match="BaseException") as caught:
        ab.map(example, range(5))
    assert isinstance(caught.value.__cause__, Stop)
    assert float(ab.map(steps, [1.0])[0][0]) > 0


def test_an_error_of_a_run_is_met_by_who_reads_what_depends_on_it() -> None:
    table = ab.Parameter(np.ones((3, 2)))

    def example(k: int) -> Any:
        wrong, other = table[ab.tensor(k)].sum() * 2.0, table.sum() * float(k)
        if float(other) < 20.0:
            return wrong, other
        with pytest.raises(OpIndexError):
            wrong.numpy()
        with pytest.raises(OpIndexError):
            float(wrong + 1.0)
        return other, other

    results = ab.map(example, [0, 4, 1])
    assert [float(other) for _, other in results] == [0.0, 24.0, 6.0]
    ab.sum([a for a, _ in results]).backward()
    wanted = ab.Parameter(table.value)
    (wanted[0].sum() * 2.0 + wanted.sum() * 4.0 + wanted[1].sum() * 2.0).backward()
    np.testing.assert_allclose(np.asarray(table.grad), np.asarray(wanted.grad))


def test_contexts_are_the_examples_own() -> None:
    mine = contextvars.ContextVar("mine", default=-1)

    def example(k: int) -> Any:
        assert mine.get() == -1
        mine.set(k)
        w = ab.Parameter(2.0)
        if k % 2:
            with ab.no_grad(), np.errstate(divide="raise"):
                y = w * ab.tensor(float(k))
                float(y)
                assert mine.get() == k and np.geterr()["divide"] == "raise"
                y = y + w * 1.0
            y = y + w
        else:
            ab.set_default_dtype("float32")
            y = w * ab.tensor(float(k))
            float(y)
            assert mine.get() == k and np.geterr()["divide"] == "warn" and ab.zeros(1).dtype == "float32"
            y = y + w
        return w, y

    results = ab.map(example, range(6))
    assert mine.get() == -1 and ab.zeros(1).dtype == "float64"
    ab.sum([y.astype("float64") for _, y in results]).backward()
    assert [float(w.grad) for w, _ in results] == [1.0, 1.0, 3.0, 1.0, 5.0, 1.0]


def test_draws_do_not_depend_on_who_shares_the_batch() -> None:
    def example(k: int) -> Any:
        h = ab.normal(2)
        for _ in range(k):
            h = h + ab.dropout(ab.uniform(2), 0.5, training=True)
            float(h.sum())
        return h, ab.rng().integers(1000), ab.map(lambda _: ab.normal(), range(2))

    def run(ks: list[int], **options: Any) -> Any:
        ab.seed(5)
        return ab.evaluate(ab.map(example, ks, **options))

    wanted = run([3, 1, 2, 0], batched=False)
    for options in ({}, {"at_once": 2}):
        for got, want in zip(run([3, 1, 2, 0], **options), wanted, strict=True):
            np.testing.assert_array_equal(got[0], want[0])
            assert got[1:] == want[1:]
    np.testing.assert_array_equal(run([3])[0][0], wanted[0][0])


def test_generators_and_context_managers() -> None:
    log: list[tuple[int, str]] = []

    def example(k: int) -> Any:
        def halves(h: Any) -> Iterator[Any]:
            try:
                while float(h) > 1.0:
                    yield h
                    h = h * 0.5
            finally:
                log.append((k, "closed"))

        with contextlib.ExitStack() as stack:
            stack.callback(lambda: log.append((k, str(float(ab.tensor(1.0) * k)))))
            return [float(h) for h in halves(ab.tensor(float(k)))]

    assert ab.map(example, [5, 1, 3]) == [[5.0, 2.5, 1.25], [], [3.0, 1.5]]
    assert sorted(log) == sorted((k, what) for k in (5, 1, 3) for what in ("closed", f"{float(k)}"))


def test_deep_recursion() -> None:
    def down(n: int, h: Any) -> Any:
        return float(h * 2.0) if n == 0 else down(n - 1, h)

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(6000)
    try:
        assert ab.map(lambda k: down(5000, ab.tensor(float(k))), [1, 2, 3]) == [2.0, 4.0, 6.0]
    finally:
        sys.setrecursionlimit(limit)
    with pytest.raises(RecursionError, match="maximum") as caught:
        ab.map(lambda k: down(5000, ab.tensor(float(k))), [1, 2, 3])
    assert "sys.setrecursionlimit" in caught.value.__notes__[-1]


def test_where_something_is_run_differently_it_runs_at_once() -> None:
    def example(k: int) -> Any:
        h = ab.tensor(float(k)) + 1.0
        if k == 0:
            with ab.profile() as prof:
                float(h * 2.0)
            assert prof.launches > 0
        if k == 1:
            with ab.check_finite():
                float(ab.log(h))
        if k == 2:
            with ab.backend("numpy" if ab.backends.current_backend() == "numba" else "numba"):
                float(h * 2.0)
        if k == 3:
            return greenlet.greenlet(float).switch(h * 2.0)
        return float(h * 2.0)

    assert ab.map(example, range(5)) == [2.0, 4.0, 6.0, 8.0, 10.0]


def test_a_parameter_is_changed_inside() -> None:
    w = ab.Parameter(1.0)

    def example(k: int) -> Any:
        y = w * ab.tensor(float(k))
        if k == 2:
            w.value = 3.0
        return float(y), float(w * ab.tensor(float(k)))

    assert ab.map(example, [1, 2, 3]) == [(1.0, 3.0), (2.0, 6.0), (9.0, 9.0)]


def test_evaluate_waits_once() -> None:
    with ab.profile() as prof:
        ab.map(lambda k: ab.evaluate({"a": ab.tensor(k) + 1.0, "b": [ab.tensor(k) * 2.0]}), [1.0, 2.0, 3.0])
    assert prof.forced.phases == 1


def test_in_other_threads_and_greenlets() -> None:
    want = ab.evaluate(ab.map(steps, XS))
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(ab.evaluate(ab.map(steps, XS)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.append(greenlet.greenlet(lambda: ab.evaluate(ab.map(steps, XS))).switch())
    for got in found:
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_nothing_keeps_an_example() -> None:
    class Thing:
        pass

    def example(thing: Any) -> Any:
        float(ab.tensor(1.0) * 2.0)
        return 0

    things = [Thing() for _ in range(3)]
    references = list(map(weakref.ref, things))
    ab.map(example, things)
    del things
    gc.collect()
    assert [r() for r in references] == [None] * 3


def test_lines_of_a_function_of_the_library_are_those_of_the_caller() -> None:
    layer = nn.Linear(2, 2)
    results = ab.map(layer, [np.ones(2)] * 2)
    assert "in test_lines_of_a_function_of_the_library" in ab.explain(results)
    inner = ab.map(lambda _: (float(ab.tensor(1.0) + 1.0), ab.map(layer, [np.ones(2)] * 2)), range(2))
    assert "in <lambda>" in ab.explain(inner)


def test_a_value_forced_in_the_middle_of_a_derivative_is_computed_at_once() -> None:
    """Also where parameters alone are differentiated, of which a new recording would show no trace."""
    w = ab.Parameter([1.0, 2.0])

    def loss(w: Any, x: Any) -> Any:
        h = ab.tanh(w * ab.tensor(x))
        return (h * w).sum() if float(h.sum()) > 0 else h.sum()

    def slope(x: float) -> Any:
        return ab.grad(loss)(w, [x, 1.0])

    found, alone = (ab.evaluate(ab.map(slope, XS, batched=flag)) for flag in (True, False))
    np.testing.assert_allclose(found, alone, rtol=1e-6)
    h = np.tanh([XS[0], 2.0])
    expected = (h + [1.0, 2.0] * (1 - h**2) * [XS[0], 1.0]) if h.sum() > 0 else (1 - h**2) * [XS[0], 1.0]
    np.testing.assert_allclose(slope(XS[0]).numpy(), expected, rtol=1e-5)


def test_an_error_of_a_run_is_raised_in_the_example_that_it_belongs_to() -> None:
    table, w = ab.Parameter(np.arange(6.0).reshape(3, 2)), ab.Parameter(np.ones(2))
    caught = []

    def fn(highest: int) -> float:
        index = ab.argmax(ab.tensor([0.0, 1.0, 2.0, float(highest)]))
        return float((table[index] @ w).sum())

    with pytest.raises(OpIndexError) as raised:
        ab.map(fn, [0, 1, 5, 2])
    assert "in example 2 of ab.map" in raised.value.__notes__

    def catching(highest: int) -> float:
        try:
            return fn(highest)
        except (OpIndexError, RecordingError) as error:
            caught.append((highest, type(error)))
            return -1.0

    wanted = ab.map(catching, [0, 7, 1, 5, 2], batched=False)
    assert ab.map(catching, [0, 7, 1, 5, 2]) == wanted
    assert caught == [(7, OpIndexError), (5, OpIndexError)] * 2
    assert ab.map(fn, [0, 1, 2]) == ab.map(fn, [0, 1, 2], batched=False)
