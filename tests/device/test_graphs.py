"""Passes that recur are replayed as graphs: the same bits, no replay of what is not the same, and what goes wrong."""

from __future__ import annotations

import gc
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import optim
from autobatch.engine import run_pending
from autobatch.errors import NonFiniteError
from autobatch.run.device import graphs
from autobatch.run.device.sequence import recording
from tests.device.reader import SENTENCES, Reader, agree, gradients
from tests.stand_in.device import StandIn

OTHERS = [[1, 5], [0, 0, 4], [6, 1, 2, 2]]
MORE = [[2, 4, 1, 1, 6, 3], [3]]


def train(batches: list[Any], graphs: bool, late: bool = False, **options: bool) -> tuple[Any, ...]:
    """Steps of training, each loss read at once or after the next step was launched: losses, gradients, parameters."""
    ab.set_backend("cupy", graphs=graphs, **options)
    ab.seed(3)
    model = Reader()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    kept: list[Any] = []
    losses, found = [], []
    for batch in batches:
        optimizer.zero_grad()
        loss = ab.mean(ab.map(model.loss, batch))
        loss.backward()
        found.append(gradients(model))
        optimizer.step()
        kept.append(loss)
        if len(kept) > late:
            losses.append(float(kept.pop(0)))
    return losses + [float(x) for x in kept], found, model.state_dict()


def same(a: tuple[Any, ...], b: tuple[Any, ...]) -> None:
    """Raise unless two trainings have the same bits."""
    assert a[0] == b[0]
    for one, other in zip([*a[1], a[2]], [*b[1], b[2]], strict=True):
        assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    "batches",
    [
        [SENTENCES] * 6,
        [SENTENCES, OTHERS, MORE] * 4,
        [SENTENCES, OTHERS, SENTENCES, MORE, SENTENCES, OTHERS, SENTENCES],
    ],
    ids=["one", "three by turns", "changing"],
)
def test_training_has_the_same_bits(device: StandIn, batches: list[Any], late: bool) -> None:
    without = train(batches, False, late=late)
    assert not device.counts["capture"]
    with ab.profile() as profile:
        with_graphs = train(batches, True, late=late)
    same(with_graphs, without)
    assert device.counts["play"] and profile.sequences["replayed"][0]


def test_a_pass_that_recurs_is_one_launch(device: StandIn) -> None:
    """Forward and reverse run once, are captured once, and replayed from then on."""
    with ab.profile() as profile:
        train([SENTENCES] * 6, True)
    assert {how: n for how, (n, _) in profile.sequences.items()} == {"run": 2, "captured": 2, "replayed": 8}
    assert (device.counts["capture"], device.counts["play"]) == (2, 10)
    assert profile.sequences["replayed"][1] == 4 * profile.sequences["captured"][1]
    assert "2 run" in profile.table() and "8 replayed" in profile.table()


def test_a_recurrence_that_is_one_kernel_is_replayed(device: StandIn) -> None:
    batches = [[[1, 2, 3, 4, 5, 6] * 3, *SENTENCES]] * 5
    without = train(batches, False, persistent=True)
    resident = device.counts["launch_resident"]
    assert resident
    same(train(batches, True, persistent=True), without)
    assert device.counts["play"] >= 6
    assert device.counts["launch_resident"] < 2 * resident  # replays are not counted


def test_launches_are_counted(device: StandIn) -> None:
    def launched(graphs: bool) -> int:
        with ab.profile() as profile:
            train([SENTENCES] * 8, graphs)
        assert f"{profile.device_launches:,} launches on the device" in profile.table()
        assert profile.launch_seconds > 0
        return profile.device_launches

    assert launched(True) < 0.5 * launched(False)


def test_memory_that_somebody_holds_is_not_written_to(device: StandIn) -> None:
    """What is kept lies at other addresses than what is computed next, which is no replay of it."""
    ab.set_backend("cupy", graphs=True)
    model = Reader()
    with ab.no_grad():
        kept = []
        for _ in range(5):
            kept.append(ab.map(model.loss, SENTENCES))
            run_pending()
        assert not device.counts["play"]
        for _ in range(4):
            again = ab.map(model.loss, SENTENCES)
            run_pending()
        assert device.counts["play"]
    with ab.backend("numpy"), ab.no_grad():
        model.to("numba")
        wanted = [float(x) for x in ab.map(model.loss, SENTENCES)]
    for losses in [*kept, again]:
        np.testing.assert_allclose([float(x) for x in losses], wanted, rtol=1e-5)


def test_a_sequence_is_compared_in_full(device: StandIn) -> None:
    device.graphs = True
    x, y, z = (device.array(np.arange(6.0)) for _ in range(3))
    kept = graphs.Graphs(device)

    def calls(source: int, n_bytes: int = 8) -> tuple[Any, ...]:
        return tuple(("copy", (z.data.ptr + 8 * k, source + 8 * k, n_bytes)) for k in range(4))

    for _ in range(3):
        kept.run(calls(x.data.ptr))
    device.counts.clear()
    kept.run(calls(y.data.ptr))  # another address
    kept.run(calls(x.data.ptr, 4))  # another count
    kept.run(calls(x.data.ptr)[:3])  # fewer
    device.setting = 1  # another stream
    kept.run(calls(x.data.ptr))
    assert not device.counts["play"] and device.counts["copy"] == 15
    device.setting = 0
    kept.run(calls(x.data.ptr))
    assert device.counts["play"] == 1 and device.counts["copy"] == 15


def test_what_was_not_met_for_longest_goes(device: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST_CALLS", 12)
    device.graphs = True
    x = device.array(np.arange(16.0))
    kept = graphs.Graphs(device)

    def run(n: int) -> str:
        before = device.counts["play"], device.counts["capture"]
        kept.run(tuple(("zero", (x.data.ptr + 8 * k, 8)) for k in range(n)))
        return "play" if device.counts["play"] > before[0] and device.counts["capture"] == before[1] else ""

    for n in (4, 4, 5, 5):
        run(n)
    assert run(4) == "play" and kept.n_calls == 9
    run(6), run(6)  # more than 12 calls: that of 5 is the oldest
    assert kept.n_calls == 10
    assert run(4) == "play" and run(6) == "play" and run(5) == ""


def test_what_cannot_be_captured_runs_one_by_one(device: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = train([SENTENCES] * 5, False)

    def capture(calls: Any) -> Any:
        device.counts["capture"] += 1
        raise RuntimeError("the capture is void")

    monkeypatch.setattr(device, "capture", capture)
    with pytest.warns(UserWarning, match="one by one: the capture is void") as found:
        same(train([SENTENCES] * 5, True), wanted)
    assert len(found) == 1
    assert device.counts["capture"] == 2 and not device.counts["play"]  # it is not tried again
    x = device.array(np.ones(4))
    calls = tuple(("zero", (x.data.ptr + 8 * k, 8)) for k in range(4))
    kept = graphs.Graphs(device)
    kept.run(calls)
    with pytest.raises(UserWarning), warnings.catch_warnings():
        warnings.simplefilter("error")
        x[...] = np.float64(1.0)
        kept.run(calls)
    assert device.numpy(x).tolist() == [0.0] * 4  # what raises has run


def test_capture_allows_what_a_launch_loop_does_and_nothing_else(device: StandIn) -> None:
    with pytest.raises(RuntimeError, match="numpy is not allowed while"):
        device.capture((("numpy", (device.array(np.zeros(2)),)),))
    assert device.numpy(device.array(np.ones(2))).tolist() == [1.0, 1.0]


class Interrupted:
    """Calls that do nothing, of which the n-th is interrupted."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, *arguments: Any) -> None:
        self.n -= 1
        if not self.n:
            raise KeyboardInterrupt


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_an_interrupt_leaves_nothing_behind(device: StandIn, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Of the pass that is interrupted, before, while and after it is captured, no call comes later."""
    ab.set_backend("cupy", graphs=True)
    model = Reader()
    wanted: dict[str, Any] = {}

    def gradient() -> dict[str, Any]:
        model.zero_grad()
        ab.mean(ab.map(model.loss, SENTENCES)).backward()
        return gradients(model)

    wanted = gradient()
    for k in range(4):
        if k == step:
            with monkeypatch.context() as patch:
                interrupted = Interrupted(3)
                for verb in ("product", "play"):
                    patch.setattr(device, verb, interrupted)
                with pytest.raises(KeyboardInterrupt):
                    for _ in range(3):
                        gradient()
        found = gradient()
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_an_error_in_a_launch_loop_launches_nothing_of_it(device: StandIn) -> None:
    device.graphs = True
    x = device.array(np.ones(4))
    with pytest.raises(ZeroDivisionError), recording(device) as recorder:
        recorder.zero(x.data.ptr, 16)
        raise ZeroDivisionError
    with recording(device) as recorder:
        recorder.zero(x.data.ptr, 8)
        assert device.numpy(x).tolist() == [1.0] * 4
    assert device.numpy(x).tolist() == [0.0, 1.0, 1.0, 1.0]


def test_sorting_and_memory_while_a_pass_is_written_down(device: StandIn) -> None:
    """What is sorted has been computed; memory that is let go of is nobody else's before its calls have run."""
    device.graphs = True
    x, y = device.array(np.array([3, 1, 2])), device.array(np.zeros(3, np.int64))
    with recording(device) as recorder:
        recorder.copy(y.data.ptr, x.data.ptr, 24)
        order = recorder.argsort(y.data.ptr, 3)
        kept = recorder.empty((3,), np.int64)
        address = kept.data.ptr
        recorder.copy(address, order.data.ptr, 24)
        recorder.copy(y.data.ptr, address, 24)
        del order, kept
        assert device.upload(np.array([7, 7, 7])).data.ptr != address
    assert device.numpy(y).tolist() == [1, 2, 0]


def test_equal_requests_get_equal_addresses(device: StandIn) -> None:
    device.graphs = True

    def asked(sizes: list[int]) -> list[int]:
        held = [device.empty((n,), np.uint8) for n in sizes]
        return [a.data.ptr for a in held]

    first = asked([700, 5000, 600, 5000])
    asked([40, 5000, 5000, 5000, 9000])
    assert asked([700, 5000, 600, 5000]) == first
    view = device.empty((5000,), np.uint8)[100:]  # of which nothing but a part is held
    assert view.data.ptr - 100 == first[1]
    assert first[1] not in asked([5000, 5000])
    device.graphs = False
    gc.collect()
    view = None
    assert device.used == 0


def test_memory_is_not_rounded_where_there_is_none_to_spare(device: StandIn) -> None:
    device.graphs = True
    device.limit = device.used + 70_000
    device.empty((30_000,), np.uint8)
    large = device.empty((69_000,), np.uint8)  # what is not in use goes for it, and it is not rounded
    with pytest.raises(MemoryError):
        device.empty((2_000,), np.uint8)
    del large
    assert device.empty((60_000,), np.uint8).nbytes == 60_000


def test_values_are_looked_at_one_launch_at_a_time(device: StandIn) -> None:
    ab.set_backend("cupy", graphs=True)
    for _ in range(3):
        with pytest.raises(NonFiniteError), ab.check_finite():
            float(ab.log(ab.tensor(-1.0)) + 1.0)
    assert not device.counts["capture"]


def test_gradients_add_up_and_runs_are_kept(device: StandIn) -> None:
    def twice(backend: str, **options: bool) -> dict[str, Any]:
        ab.set_backend(backend, **options)
        ab.seed(3)
        model = Reader()
        for _ in range(4):
            loss = ab.mean(ab.map(model.loss, SENTENCES))
            loss.backward(retain=True)
            loss.backward()
        return gradients(model)

    agree(twice("cupy", graphs=True), twice("numpy"))


def test_threads_have_graphs_of_their_own(device: StandIn) -> None:
    ab.set_backend("cupy", graphs=True)
    batches = [SENTENCES, OTHERS, MORE]
    models = [Reader() for _ in batches]

    def gradient(k: int) -> dict[str, Any]:
        models[k].zero_grad()
        ab.mean(ab.map(models[k].loss, batches[k])).backward()
        return gradients(models[k])

    for _ in range(2):  # how cells are cut is decided by the first
        wanted = {k: gradient(k) for k in range(len(batches))}

    def repeated(k: int) -> list[dict[str, Any]]:
        return [gradient(k) for _ in range(8)]

    with ThreadPoolExecutor(len(batches)) as pool:
        found = list(pool.map(repeated, range(len(batches))))
    for k, each in enumerate(found):
        assert all(np.array_equal(g[name], wanted[k][name]) for g in each for name in g)


def test_switching_off(device: StandIn) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train([SENTENCES] * 4, True)
        device.counts.clear()
        train([SENTENCES] * 4, False)
    assert not device.counts["play"] and not device.graphs
    with pytest.raises(ValueError, match="graphs is an option of cupy, numba has none"):
        ab.set_backend("numba", graphs=True)
