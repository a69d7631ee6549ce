"""A recording that uses values of earlier ones: values, gradients, what it costs, and what memory goes back."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.backends.transfer import to_host
from autobatch.errors import RecordingError
from autobatch.record.shared import SharedExpression
from autobatch.record.tape import state
from autobatch.run import backward, finals
from autobatch.run.execute import HostRun

DIM = 5


@pytest.fixture(autouse=True)
def float64() -> None:
    ab.set_default_dtype("float64")


class Machine(nn.Module):
    """A stack machine for one sequence: shifts words, and joins the two on top of the stack."""

    def __init__(self) -> None:
        self.embed = nn.Embedding(9, DIM)
        self.score = nn.Linear(2 * DIM, 3)
        self.join = nn.Linear(2 * DIM, DIM)

    def logits(self, a: Any, b: Any) -> Any:
        return self.score(ab.concat([a, b]))

    def joined(self, a: Any, b: Any) -> Any:
        return ab.tanh(self.join(ab.concat([a, b])))


class WithCells(Machine):
    logits = ab.cell(Machine.logits)
    joined = ab.cell(Machine.joined)


def words(n: int) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 9, size=1 + k % 4).tolist() for k in range(n)]


def losses(model: Machine, sentences: list[list[int]], force: Callable[[Any], Any]) -> Any:
    """All sentences go step by step; `force` is called with what a step of all of them gave."""
    buffers = [[model.embed[w] for w in sentence] for sentence in sentences]
    stacks = [[buffer[0], buffer[-1]] for buffer in buffers]
    total = []
    while any(buffers) or any(len(stack) > 1 for stack in stacks):
        scores = [model.logits(stack[-1], stack[-2]) for stack in stacks if len(stack) > 1]
        force(scores)
        total += [ab.cross_entropy(s, 1) for s in scores]
        for k, (buffer, stack) in enumerate(zip(buffers, stacks, strict=True)):
            if buffer and (len(stack) < 2 or k % 2):
                stack.append(buffer.pop())
            elif len(stack) > 1:
                stack.append(model.joined(stack.pop(), stack.pop()))
            elif buffer:
                stack.append(buffer.pop())
    return ab.sum(total)


def gradients(model: nn.Module, loss: Any) -> list[Any]:
    for p in model.parameters():
        p.grad = None
    loss.backward()
    found = [p.grad for p in model.parameters()]
    return [to_host(g.to_dense() if hasattr(g, "to_dense") else g) for g in found]


def same(a: list[Any], b: list[Any]) -> None:
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", [Machine, WithCells])
@pytest.mark.parametrize("n", [1, 7])
def test_phases_equal_one_recording(kind: type[Machine], n: int) -> None:
    model = kind()
    once = losses(model, words(n), lambda scores: None)
    number = float(once)
    wanted = gradients(model, once)
    for _ in range(2):  # the second time with fast paths and cached plans
        phases = losses(model, words(n), ab.evaluate)
        assert float(phases) == pytest.approx(number, rel=1e-12)
        same(gradients(model, phases), wanted)


def test_a_value_used_in_several_later_phases() -> None:
    w = ab.Parameter(np.array([0.5, -0.25]))
    h = ab.tanh(w * ab.tensor([2.0, 2.0]))
    for _ in range(2):
        h.numpy()
        a = h * h
        a.numpy()
        b = a * h + h
        b.numpy()
        loss = (b * h + a).sum()
        w.grad = None
        loss.backward(retain=True)
        n = np.tanh(2 * np.array([0.5, -0.25]))
        d = (4 * n**3 + 2 * n + 2 * n) * (1 - n**2) * 2
        np.testing.assert_allclose(to_host(w.grad), d, rtol=1e-12)


def test_views_and_constants_of_earlier_phases() -> None:
    layer = nn.Linear(3, 3)
    rng = np.random.default_rng(1)

    def run(force: Callable[[Any], Any]) -> Any:
        rows = [ab.tanh(layer(ab.tensor(x))) for x in rng_rows]
        middle = [ab.tanh(r) for r in rows[::2]]
        views = [ab.stack([rows[2], rows[0], middle[0]]), ab.stack(rows)[1:3], ab.stack([*middle, rows[0]])]
        index = [ab.where(r > 0, 1, 0).sum() for r in rows]
        force([views, index])
        kept = [v.detach() for v in views]
        sums = [(layer(v) * k).sum() for v, k in zip(views, kept, strict=True)]
        force(sums)
        return ab.sum(sums) + ab.sum([v.sum() for v in views]) + ab.sum([i.astype("float64") for i in index])

    rng_rows = list(rng.normal(size=(5, 3)))
    once = run(lambda _: None)
    wanted = gradients(layer, once)
    phases = run(ab.evaluate)
    assert float(phases) == pytest.approx(float(once), rel=1e-12)
    same(gradients(layer, phases), wanted)


def test_phases_one_by_one() -> None:
    model = Machine()
    once = ab.map(lambda s: losses(model, [s], lambda _: None), words(3))
    wanted = gradients(model, ab.sum(once))
    loop = ab.map(lambda s: losses(model, [s], ab.evaluate), words(3), batched=False)
    same(gradients(model, ab.sum(loop)), wanted)


@pytest.mark.unchecked  # which takes most of the time
def test_a_thousand_phases() -> None:
    w = ab.Parameter(np.array([1.001]))
    h: Any = ab.ones(1)
    for _ in range(1000):
        h = h * w
        h.numpy()
    h.sum().backward()
    np.testing.assert_allclose(to_host(w.grad), 1000 * 1.001**999, rtol=1e-10)


def test_an_earlier_recording_that_ends_before_the_later_one_runs() -> None:
    w = ab.Parameter(np.array([2.0, 3.0]))
    h = w * ab.tensor([2.0, 2.0]) + 1.0
    loss = h.sum()
    assert float(loss) == 12.0
    later, constant = h * 2.0, h.detach() * 3.0
    loss.backward()
    np.testing.assert_array_equal(later.numpy(), [10.0, 14.0])
    np.testing.assert_array_equal(constant.numpy(), [15.0, 21.0])
    with pytest.raises(RecordingError, match="a recording that has ended"):
        later.sum().backward()


def test_phases_without_gradient_then_with() -> None:
    w = ab.Parameter(np.array([2.0, 3.0]))
    with ab.no_grad():
        steps = [w * ab.tensor(np.full(2, float(k))) for k in range(12)]
        ab.evaluate(steps)
        for _ in range(4):  # the first recording ends, and is let go
            steps = [s + 1.0 for s in steps[:-1]] + steps[-1:]
            ab.evaluate(steps)
    loss = ab.sum([(s * w).sum() for s in steps])
    loss.backward()
    wanted = sum(np.array([2.0, 3.0]) * k + 4.0 for k in range(11)) + np.array([22.0, 33.0])
    np.testing.assert_allclose(to_host(w.grad), wanted)


def test_a_known_structure_takes_its_cached_plan(on_the_host: None) -> None:
    w = ab.Parameter(np.array([2.0, 3.0]))
    found = []
    for _ in range(4):
        h = w * ab.tensor([2.0, 2.0])
        h.numpy()
        loss: Any = (h * w).sum()
        float(loss)
        plans = loss._tape.plan_cache
        found.append(plans is not None and any(plan is not None for plan in plans.plans.values()))
        w.grad = None
        loss.backward()
        np.testing.assert_allclose(w.grad, [8.0, 12.0])
    assert found[-1]


def calls_of(function: Callable[[], Any]) -> int:
    """How many functions of Python are called."""
    count = 0

    def see(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.unchecked
def test_a_value_of_an_earlier_phase_costs_no_python_when_it_runs(on_the_host: None) -> None:
    layer = nn.Linear(4, 4)

    def counts(n: int) -> tuple[int, int, int]:
        rows = [ab.tanh(layer(ab.tensor(x))) for x in np.ones((n, 4))]
        rows[0].numpy()
        total = ab.sum([ab.tanh(layer(r)) for r in rows])
        recorded = calls_of(lambda: [ab.tanh(r) for r in rows])
        forward = calls_of(total.numpy)
        return recorded, forward, calls_of(lambda: total.sum().backward())

    counts(30)
    few, many = counts(40), counts(140)
    assert (many[0] - few[0]) / 100 <= 7  # the op, `local`, and what they call
    assert many[1] - few[1] <= 80  # whether memory and a plan are there differs
    assert many[2] - few[2] <= 80


def test_a_use_is_recorded_without_the_general_path(on_the_host: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = WithCells()
    h = [ab.tanh(model.embed[k]) for k in range(6)]
    h[0].numpy()
    _ = ab.tanh(h[0]), h[0] * h[1], h[0] + 1.0, model.joined(h[0], h[1]), ab.concat([h[0], h[1]]), ab.sum([h[0], h[1]])
    monkeypatch.setattr("autobatch.record.links.value_number", None)
    monkeypatch.setattr("autobatch.record.recorder.value_number", None)
    monkeypatch.setattr("autobatch.record.cells.cell.value_number", None)
    again = [ab.tanh(h[2]), h[3] * h[4], h[5] + 1.0, model.joined(h[2], h[3]), ab.concat([h[1], h[5]]), ab.sum(h[2:4])]
    monkeypatch.undo()
    assert [t.shape for t in again] == [(5,), (5,), (5,), (5,), (10,), (5,)]
    x = np.tanh(model.embed.weight.numpy()[:6])
    np.testing.assert_allclose(again[1].numpy(), x[3] * x[4])
    np.testing.assert_allclose(again[5].numpy(), x[2] + x[3])


def test_memory_of_phases_that_nothing_reaches(on_the_host: None) -> None:
    layer = nn.Linear(50, 50)
    sizes = []
    with ab.no_grad():
        hidden: list[Any] = [ab.tensor(x) for x in np.ones((16, 50))]
        first = hidden[:2]
        tracemalloc.start()
        try:
            for k in range(300):
                hidden = [ab.tanh(layer(h)) + first[0] for h in hidden]
                ab.evaluate(hidden)
                if k % 100 == 99:
                    sizes.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    assert sizes[2] - sizes[0] < 100_000, sizes
    assert state.finished is not None


def test_a_kept_plan_serves_phases_with_and_without_host_inputs() -> None:
    w = ab.Parameter(np.eye(2))

    def example(k: int) -> Any:
        x = ab.tensor([0.1 * k, 1.0])
        for _ in range(2):
            x = ab.tanh(x @ w)
            float(x.sum())
        return x

    with ab.no_grad():
        wanted = ab.evaluate(ab.map(example, range(4), batched=False))
        for _ in range(3):
            np.testing.assert_allclose(ab.evaluate(ab.map(example, range(4))), wanted)


# What phases have in common.


class Stepping(nn.Module):
    """A chain of `steps` that asks for a value after each."""

    def __init__(self) -> None:
        self.inner = nn.Linear(3, 3)
        self.steps = 4

    def chain(self, k: int) -> Any:
        h: Any = ab.zeros(3)
        for _ in range(self.steps + k % 2):
            h = ab.tanh(self.inner(h) + 0.1 * k)
            h.numpy()
        return h.sum()

    def counted(self, steps: int, seen: list[Any]) -> int:
        """How many more are seen in a step of training with chains of this length."""
        before, self.steps = len(seen), steps
        self.inner.weight.grad = self.inner.bias.grad = None
        ab.sum(ab.map(self.chain, range(2, 6))).backward()
        return len(seen) - before


def test_a_constant_is_a_row_without_a_launch(on_the_host: None) -> None:
    w = ab.Parameter(np.ones(3))
    with ab.profile() as profile:
        found = ab.stack([ab.zeros(3), w * 2.0]).numpy()
    np.testing.assert_array_equal(found, [[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]])
    assert "shared row" not in profile.kernels


def test_expressions_of_parameters_are_evaluated_once_for_all_phases(
    on_the_host: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = Stepping(), list[Any]()
    own = SharedExpression._evaluate
    monkeypatch.setattr(SharedExpression, "_evaluate", lambda x, arrays: (seen.append(x), own(x, arrays))[1])
    model.counted(4, seen), model.counted(9, seen)
    assert model.counted(4, seen) == model.counted(9, seen) > 0
    model.inner.weight.value = model.inner.weight.value * 0.5
    batched, alone = (ab.evaluate(ab.map(model.chain, range(4), batched=b)) for b in (True, False))
    np.testing.assert_allclose(batched, alone)


def test_weight_gradients_of_phases_are_computed_together(on_the_host: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen, gradients = Stepping(), list[Any](), []
    own = finals.finish
    for module in (backward, finals):
        monkeypatch.setattr(module, "finish", lambda *a, **more: (seen.append(a), own(*a, **more))[1])
    model.counted(4, seen), model.counted(9, seen)
    assert model.counted(4, seen) == model.counted(9, seen) > 0
    gradients.append((model.inner.weight.grad, model.inner.bias.grad))
    monkeypatch.setattr("autobatch.engine.reverse.MOST_DEFERRED", 0)
    assert model.counted(4, seen) < model.counted(9, seen)
    gradients.append((model.inner.weight.grad, model.inner.bias.grad))
    model.inner.weight.grad = model.inner.bias.grad = None
    ab.sum(ab.map(model.chain, range(2, 6), batched=False)).backward()
    for found in gradients:
        np.testing.assert_allclose(found[0], model.inner.weight.grad)
        np.testing.assert_allclose(found[1], model.inner.bias.grad)


def test_forced_values_of_a_phase_are_read_together(on_the_host: None, monkeypatch: pytest.MonkeyPatch) -> None:
    w = ab.Parameter(np.arange(3.0))
    reads: list[int] = []
    own = HostRun.copies
    monkeypatch.setattr(HostRun, "copies", lambda run, ids, type: (reads.append(len(ids)), own(run, ids, type))[1])
    monkeypatch.setattr(HostRun, "value", None)

    def example(k: int) -> tuple[Any, Any]:
        h = w * ab.tensor(np.full(3, k + 2.0))
        return h.numpy(), ab.evaluate([h.sum(), h * 2.0])

    for k, (h, (total, twice)) in enumerate(ab.map(example, range(5))):
        np.testing.assert_allclose(h, np.arange(3.0) * (k + 2))
        np.testing.assert_allclose(total, 3.0 * (k + 2))
        np.testing.assert_allclose(twice, np.arange(3.0) * 2 * (k + 2))
    assert reads == [5, 5, 5]


def test_the_few_constants_that_are_left_are_read_where_they_lie(on_the_host: None) -> None:
    with ab.no_grad():
        steps: list[Any] = [ab.tensor(np.full(2, float(k))) + 1.0 for k in range(4)]
        ab.evaluate(steps)
        kept = steps[:2]
        for _ in range(3):  # the recording ends, and is let go
            steps = [s + 1.0 for s in steps]
            ab.evaluate(steps)
        later = [k * 2.0 for k in kept]
        tape = later[0]._tape
        assert len(tape.linked) == 6 and not tape.payloads
        np.testing.assert_array_equal(ab.evaluate(later), [[2.0, 2.0], [4.0, 4.0]])
