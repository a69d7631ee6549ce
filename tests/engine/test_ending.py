"""How long values live: what stays readable, what is a constant, what never runs, and what memory goes back."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn, optim
from autobatch.errors import RecordingError
from autobatch.record.tape import Recording, state
from autobatch.run.execute import HostRun


@pytest.fixture(autouse=True)
def numpy_backend() -> Iterator[None]:
    with ab.backend("numpy"):
        yield


def vector(*numbers: float) -> Any:
    return ab.tensor(np.array(numbers, float))


class Model(nn.Module):
    def __init__(self) -> None:
        self.inner = nn.Linear(3, 3)
        self.out = nn.Linear(3, 1)

    @ab.cell
    def step(self, h: Any, x: Any) -> Any:
        return ab.tanh(self.inner(h) + x)

    def states(self, xs: Any) -> list[Any]:
        h: Any = ab.zeros(3)
        found = []
        for x in xs:
            h = self.step(h, x)
            found.append(h)
        return found

    def loss(self, xs: Any) -> Any:
        return ab.squared_error(self.out(self.states(xs)[-1]), vector(1.0))


def sequences(n: int = 4) -> list[Any]:
    rng = np.random.default_rng(5)
    return [rng.normal(size=(1 + k % 3, 3)) for k in range(n)]


# What stays readable.


def test_results_of_map_stay_readable_after_backward() -> None:
    model = Model()
    inner = []

    def fn(xs: Any) -> Any:
        states = model.states(xs)
        inner.append(states[0])
        loss = ab.squared_error(model.out(states[-1]), vector(1.0))
        return {"loss": loss, "state": (states[-1], [states[-1] * 2])}

    results = ab.map(fn, sequences())
    total = ab.sum([r["loss"] for r in results])
    total.backward()
    assert float(total) == pytest.approx(sum(float(r["loss"]) for r in results), rel=1e-5)
    for r in results:
        np.testing.assert_allclose(r["state"][1][0].numpy(), 2 * r["state"][0].numpy(), rtol=1e-6)
    with pytest.raises(RecordingError, match=r"ended[\s\S]*\.detach\(\)"):
        inner[1].numpy()
    with pytest.raises(RecordingError, match=r"ended[\s\S]*\.detach\(\)"):
        inner[1] + 1
    with pytest.raises(RecordingError, match=r"ended[\s\S]*\.detach\(\)"):
        results[0]["state"][0] + 1


def test_results_of_map_forced_in_the_middle_stay_readable() -> None:
    model = Model()

    def fn(xs: Any) -> Any:
        h = model.states(xs)[-1]
        other = h * 2
        assert np.isfinite(h.numpy()).all()  # ends the recording that both belong to
        return other, ab.sum(h * other)

    for batched in (True, False):
        results = ab.map(fn, sequences(), batched=batched)
        ab.sum([loss for _, loss in results]).backward()
        assert all(np.isfinite(other.numpy()).all() for other, _ in results)


def test_forced_values_stay_readable() -> None:
    weight = ab.Parameter(np.ones(2))
    y = weight * vector(1, 2)
    before = y.numpy()
    y.sum().backward()
    np.testing.assert_array_equal(y.numpy(), before)
    np.testing.assert_array_equal(ab.evaluate([y])[0], before)


def test_results_of_an_unbatched_map_stay_readable() -> None:
    model = Model()
    results = ab.map(model.loss, sequences(), batched=False)
    ab.mean(results).backward()
    assert all(float(r) >= 0 for r in results)


# Constants.


def test_detached_and_no_grad_values_are_constants_later() -> None:
    weight = ab.Parameter(np.full(2, 3.0))
    y = weight * vector(1, 2)
    kept = y.detach()
    with ab.no_grad():
        frozen = y * weight
        row = ab.stack([y, frozen])[1]
        matrix = ab.stack([y, frozen])
    y.sum().backward()
    weight.grad = None
    (weight * kept + weight * frozen + weight * row + (weight * matrix).sum(axis=0)).sum().backward()
    np.testing.assert_array_equal(weight.grad, [3 + 9 + 9 + 12, 6 + 18 + 18 + 24])


def test_no_gradient_through_views_made_under_no_grad() -> None:
    weight = ab.Parameter(np.ones((3, 2)))
    first, second = weight * 2.0, ab.ones((3, 2)) * 1.0
    y = first + second * vector(1, 2)
    with ab.no_grad():
        views = [y[0], y[1:], ab.stack([y[0], y[1]]), ab.concat([y, y], axis=0), y[0][1:]]
    with pytest.raises(RecordingError, match="no parameter leads"):
        ab.sum([v.sum() for v in views]).backward()
    assert weight.grad is None


def test_no_gradient_through_values_brought_over_under_no_grad() -> None:
    weight = ab.Parameter(np.ones((3, 2)))
    y = weight * vector(1, 2)
    y.numpy()
    with ab.no_grad():
        views = [y[0], y[1:].sum(axis=0), ab.stack([y[0], y[1]])[0]]
    (ab.sum(views).sum() + y.sum()).backward()
    np.testing.assert_array_equal(weight.grad, [[1, 2]] * 3)


@pytest.mark.parametrize("batched", [True, False])
def test_truncated_backpropagation_through_time(batched: bool) -> None:
    model = Model()
    chunks = [sequences(4), sequences(4), sequences(4)]

    def run(batched: bool, detach: bool) -> list[Any]:
        model.zero_grad()
        states: list[Any] = [vector(0, 0, 0)] * 4
        for chunk in chunks:

            def fn(h: Any, xs: Any) -> Any:
                for x in xs:
                    h = model.step(h, x)
                return h, ab.squared_error(model.out(h), vector(1.0))

            results = ab.map(fn, states, chunk, batched=batched)
            states = [h.detach() for h, _ in results] if detach else [vector(*h.numpy()) for h, _ in results]
            ab.mean([loss for _, loss in results]).backward()
        return [np.array(p.grad) for p in model.parameters()]

    for got, want in zip(run(batched, True), run(False, False), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_a_constant_array_of_an_earlier_recording() -> None:
    weight = ab.Parameter(np.ones(2))
    x = vector(1, 2)
    (weight * x).sum().backward()
    (weight * x).sum().backward()
    np.testing.assert_array_equal(weight.grad, [2, 4])


# What runs.


def test_dead_nodes_never_run() -> None:
    x = vector(1, 2)
    for _ in range(10):
        ab.exp(x) * 3  # nobody keeps it
    y = ab.tanh(x)
    with ab.profile() as profile:
        y.numpy()
    assert profile.nodes == 1
    z = ab.exp(y)
    w = z * vector(1, 2)
    del z  # needed by w all the same
    with ab.profile() as profile:
        w.numpy()
    assert profile.nodes == 2


def test_a_shared_value_used_as_a_row_by_dead_nodes_alone_does_not_run() -> None:
    weight = ab.Parameter(np.ones(2))
    ab.stack([weight, vector(1, 2)])
    y = ab.tanh(vector(1, 2))
    with ab.profile() as profile:
        y.numpy()
    assert profile.nodes == 1


def test_an_error_leaves_dead_nodes_behind() -> None:
    def fn(x: float) -> Any:
        y = ab.exp(vector(x, x))
        if x > 1:
            raise KeyError("no")
        return y

    with pytest.raises(KeyError):
        ab.map(fn, [0.0, 1.0, 2.0])
    with ab.profile() as profile:
        (vector(1, 2) * 2.0).numpy()
    assert profile.nodes == 1


def test_forcing_runs_all_live_work_together() -> None:
    ys = [ab.tanh(vector(k, 1)) for k in range(8)]
    with ab.profile() as profile:
        ys[3].numpy()
    assert (profile.nodes, profile.launches) == (8, 1)
    with ab.profile() as profile:
        values = ab.evaluate(ys)
    assert profile.nodes == 0
    np.testing.assert_allclose([v[0] for v in values], np.tanh(np.arange(8)), rtol=1e-6)


def test_repr_runs_nothing() -> None:
    y = ab.tanh(vector(0, 1))
    with ab.profile() as profile:
        text = repr(y)
        assert "f32[2]" in text
        assert "test_ending.py" in text
        assert "0.76" not in text
        assert y in [y]
        assert len({y, y}) == 1
    assert profile.nodes == 0
    y.numpy()
    assert "0.76" in repr(y)
    assert "test_ending.py" in repr(y)


# Parameters that change.


def test_assigning_a_parameter_runs_pending_work_first() -> None:
    weight = ab.Parameter(np.ones(2))
    y = weight * vector(1, 2)
    weight.value = np.zeros(2)
    z = weight * vector(1, 2)
    np.testing.assert_array_equal(y.numpy(), [1, 2])
    np.testing.assert_array_equal(z.numpy(), [0, 0])


def test_a_step_and_a_state_dict_run_pending_work_first() -> None:
    layer = nn.Linear(2, 2)
    optimizer = optim.SGD(layer.parameters(), 0.5)
    expected = layer(vector(1, 2)).numpy()
    layer(vector(1, 2)).sum().backward()
    pending = layer(vector(1, 2))
    optimizer.step()
    later = layer(vector(1, 2))
    layer.load_state_dict({k: v * 0 for k, v in layer.state_dict().items()})
    np.testing.assert_array_equal(pending.numpy(), expected)
    assert np.any(later.numpy() != expected)
    np.testing.assert_array_equal(layer(vector(1, 2)).numpy(), [0, 0])


# Gradients across flushes.


@pytest.mark.parametrize("batched", [True, False])
def test_gradients_go_through_values_forced_in_the_middle(batched: bool) -> None:
    def gradients(force: bool, batched: bool) -> list[Any]:
        model = Model()
        ab.seed(0)
        rng = np.random.default_rng(3)
        for p in model.parameters():
            p.value = rng.normal(size=p.shape)

        def fn(xs: Any) -> Any:
            h: Any = vector(0, 0, 0)
            total: Any = 0.0
            for x in xs:
                h = model.step(h, x)
                if (force and float(h.sum()) > -100) or not force:  # always
                    total = total + ab.sum(h * h)
            return total + ab.sum(model.out(h))

        ab.mean(ab.map(fn, sequences(), batched=batched)).backward()
        return [np.array(p.grad) for p in model.parameters()]

    for got, want in zip(gradients(True, batched), gradients(False, False), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_retained_recordings_across_flushes() -> None:
    weight = ab.Parameter(np.full(2, 2.0))
    h = weight * vector(1, 2)
    h.numpy()
    loss = (h * weight).sum()
    loss.backward(retain=True)
    (h * h).sum().backward()
    np.testing.assert_array_equal(weight.grad, [4 + 4, 8 + 16])
    with pytest.raises(RecordingError, match="retain"):
        loss.backward()


# Memory.


def live(kind: type) -> int:
    gc.collect()
    return sum(type(x) is kind for x in gc.get_objects())


def test_a_kept_loss_keeps_no_pool() -> None:
    model = Model()
    losses = []
    before = live(HostRun)
    for _ in range(3):
        loss = ab.mean(ab.map(model.loss, sequences()))
        float(loss)
        assert live(HostRun) == before + 1
        loss.backward()
        losses.append(loss)
        assert live(HostRun) == before
    assert all(np.isfinite(float(loss)) for loss in losses)


def test_a_recording_goes_with_its_last_tensor() -> None:
    y = ab.tanh(vector(1, 2))
    z = y * 2
    z.numpy()
    tape = weakref.ref(z._tape)  # type: ignore[attr-defined]
    del z
    assert tape() is not None
    del y
    gc.collect()
    assert tape() is None
    assert state.tape is None


def test_inference_keeps_no_memory() -> None:
    model = Model()
    kept: list[Any] = []
    counts, before = [], live(Recording)
    with ab.no_grad():
        states = [vector(0, 0, 0)] * 4
        for k in range(200):
            states = ab.map(lambda h, xs: model.step(h, xs[0]), states, sequences())
            kept = [*kept, *states][-12:]  # results of three iterations overlap
            if k % 2:
                float(kept[0].sum())
            if k in (50, 199):
                counts.append(live(Recording))
    assert counts[1] <= counts[0] + 1
    assert counts[1] - before < 12


def test_training_keeps_no_memory() -> None:
    model = Model()
    optimizer = optim.Adam(model.parameters(), 1e-3)
    counts = []
    for k in range(60):
        optimizer.zero_grad()
        loss = ab.mean(ab.map(model.loss, sequences()))
        loss.backward()
        optimizer.step()
        if k in (20, 59):
            counts.append((live(Recording), len(gc.get_objects())))
    assert counts[1][0] <= counts[0][0]
    assert counts[1][1] <= counts[0][1] * 1.01 + 50
    assert float(loss) > 0


def test_a_model_goes_with_its_cells() -> None:
    model = Model()
    ab.mean(ab.map(model.loss, sequences())).backward()
    reference = weakref.ref(model)
    weight = weakref.ref(model.inner.weight)
    del model
    gc.collect()
    assert reference() is None
    assert weight() is None


def test_the_collector_is_off_while_recording_and_then_as_it_was_before() -> None:
    seen: list[bool] = []

    def one(k: int) -> Any:
        seen.append(gc.isenabled())
        return ab.map(lambda x: ab.tensor(float(x)) * 2.0, [k, k + 1])

    threshold = gc.get_threshold()
    assert gc.isenabled()
    ab.map(one, [1, 2])
    assert gc.isenabled()
    gc.disable()
    try:
        ab.map(one, [3])
        assert not gc.isenabled()
    finally:
        gc.enable()
    assert seen == [False] * 3
    assert gc.get_threshold() == threshold


def test_a_kept_loss_holds_its_number_only() -> None:
    """Not the recording, nor the parameters, of a step before the last."""

    def losses(n: int, one: nn.Linear | None = None) -> list[Any]:
        kept = []
        for _ in range(n):
            model = one or nn.Linear(4, 4)
            models.append(weakref.ref(model.weight))
            values = ab.map(lambda x, model=model: (model(ab.tensor(x)) ** 2).sum(), [[1.0, 2.0, 3.0, 4.0]] * 200)
            loss = ab.mean(values)
            loss.backward()
            kept.append((loss, values[0]))
        return kept

    models: list[weakref.ref[ab.Parameter]] = []
    few = losses(5)
    gc.collect()
    assert sum(reference() is not None for reference in models) <= 1
    model = nn.Linear(4, 4)
    losses(3, model)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        many = losses(3, model)
        gc.collect()
        first = tracemalloc.get_traced_memory()[0] - before
        many += losses(12, model)
        gc.collect()
        each = (tracemalloc.get_traced_memory()[0] - before - first) / 12
    finally:
        tracemalloc.stop()
    assert each < 5_000, f"{each:.0f} bytes for each loss that is kept"
    for loss, value in few + many:
        assert float(loss) == pytest.approx(float(value), rel=1e-4)
        assert "test_ending.py" in repr(loss)
        with pytest.raises(RecordingError):
            (loss * 2.0).backward()


def test_what_is_left_of_a_recording_is_constant_where_it_was() -> None:
    w = ab.Parameter([1.0, 2.0])
    for _ in range(3):
        x = w * vector(1, 2)
        kept, loss = x.detach(), x.sum()
        with ab.no_grad():
            frozen = w * vector(2, 2)
        loss.backward()
    first = kept, frozen, loss
    for _ in range(2):
        (w * vector(1, 1)).sum().backward()
    w.grad = None
    (first[0] * w + first[1] * w).sum().backward()
    np.testing.assert_array_equal(w.grad, [1 + 2, 4 + 4])
    with pytest.raises(RecordingError, match="detach"):
        (first[2] * w.sum()).backward()


def test_a_value_without_gradient_that_is_kept_holds_its_number_only() -> None:
    """Losses of a validation set: nothing reverses them, and what they were computed from goes with the next ones."""
    values, models = [], []

    def validate(n: int) -> None:
        for _ in range(n):
            model = nn.Linear(100, 100)
            models.append(weakref.ref(model.weight))
            with ab.no_grad():
                losses = ab.map(lambda k, model=model: model(ab.tensor(np.full(100, k))).sum(), [1.0, 2.0])
            values.append((ab.mean(losses).detach(), losses))
            values.append((float(values[-1][0]), [float(loss) for loss in losses]))

    validate(5)
    gc.collect()
    assert sum(reference() is not None for reference in models) <= 2
    for (kept, losses), (number, numbers) in zip(values[::2], values[1::2], strict=True):
        assert float(kept) == number
        assert [float(loss) for loss in losses] == numbers
        assert float(kept * 2.0) == pytest.approx(2.0 * number)


def test_recordings_whose_tensors_are_gone_go_with_the_next_map() -> None:
    """A loss that nobody used, a map that raised, one that was only explained."""
    models = []

    def example(x: float, model: nn.Linear, fault: bool) -> Any:
        y = model(ab.tensor(np.full(100, x))).sum()
        if fault:
            raise KeyError
        return y

    for k in range(6):
        model = nn.Linear(100, 100)
        models.append(weakref.ref(model.weight))
        if k % 3 == 0:
            ab.mean(ab.map(lambda x, model=model: example(x, model, False), [1.0, 2.0]))
        elif k % 3 == 1:
            with pytest.raises(KeyError):
                ab.map(lambda x, model=model: example(x, model, True), [1.0, 2.0])
        else:
            ab.explain(ab.mean(ab.map(lambda x, model=model: example(x, model, False), [1.0, 2.0])))
        del model
    gc.collect()
    assert sum(reference() is not None for reference in models) <= 1


def test_losses_of_several_maps_stay_together() -> None:
    w = ab.Parameter([1.0, 2.0])
    losses = [ab.mean(ab.map(lambda x: (w * x).sum(), [1.0, 2.0]))]
    ab.map(lambda x: (w * x).sum(), range(100))  # more values than are looked at first, which nobody holds
    losses.append(ab.mean(ab.map(lambda x: (w * x).sum(), [3.0])))
    ab.sum(losses).backward()
    np.testing.assert_allclose(w.grad, [4.5, 4.5])


def test_a_result_is_detached_after_its_recording_has_ended() -> None:
    """As in backpropagation through time that is cut into pieces."""
    w, h = ab.Parameter([0.5, 2.0]), vector(1, 1)
    for _ in range(3):
        (h,) = ab.map(lambda x, h=h: ab.tanh(h * w) + x, [0.1])
        before = h.numpy()
        h.sum().backward()
        h = h.detach()
        np.testing.assert_array_equal(h.numpy(), before)
    with pytest.raises(RecordingError):
        ab.map(lambda x: (w * x).sum(), [1.0])[0].detach().backward()
