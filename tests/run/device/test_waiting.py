"""What is uploaded, allocated and waited for: one upload a flush, nothing in the launch loop, values when forced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import autobatch as ab
from autobatch import optim
from autobatch.backends.transfer import is_on_device
from autobatch.engine.flush import flush, run_pending
from tests.run.device.reader import SENTENCES, Reader
from tests.stand_in.device import StandIn

WAITS = ("numpy", "synchronize")
LAUNCHES = "zero", "copy", "launch", "gemm"


@contextmanager
def counted(device: StandIn) -> Iterator[dict[str, int]]:
    """What was asked of the device inside the block."""
    device.counts.clear()
    found: dict[str, int] = {}
    yield found
    found.update(device.counts)


def test_a_flush_uploads_once_and_waits_for_nothing(device: StandIn) -> None:
    model = Reader()
    ab.mean(ab.map(model.loss, SENTENCES)).backward()
    model.zero_grad()
    loss = ab.mean(ab.map(model.loss, SENTENCES))
    with counted(device) as forward:
        flush(loss._tape, loss, only=True)  # type: ignore[attr-defined]
    assert forward["upload"] == 1 and not any(forward.get(name) for name in WAITS)
    with counted(device) as backward:
        loss.backward()
    assert backward["upload"] == 2  # what the backward pass reads, and the rows of the table's gradient
    assert not any(backward.get(name) for name in WAITS)


def test_the_launch_loop_allocates_and_uploads_nothing(device: StandIn) -> None:
    """However many launches there are, the same number of allocations and uploads."""

    def asked(words: list[int]) -> tuple[int, int, int]:
        model = Reader()
        loss = ab.mean(ab.map(model.loss, [words]))
        with counted(device) as found:
            loss.backward()
        return found["empty"], found["upload"], found["launch"]

    asked([1, 2, 3] * 5)  # whether a cell is cut is decided once
    short, long = asked([1, 2, 3]), asked([1, 2, 3] * 5)
    assert long[:2] == short[:2] and long[2] > short[2] + 20


def test_launches_are_counted(device: StandIn) -> None:
    model = Reader()
    with ab.profile() as profile, counted(device) as found:
        ab.mean(ab.map(model.loss, SENTENCES)).backward()
    assert profile.device_launches == sum(found.get(verb, 0) for verb in LAUNCHES) > 0
    assert profile.launch_seconds > 0
    assert f"{profile.device_launches:,} launches on the device" in profile.table()


def test_a_training_loop_reads_a_loss_after_the_next_step_was_launched(device: StandIn) -> None:
    model = Reader()
    optimizer = optim.Adam(model.parameters())
    before: Any = None
    read = []
    for _ in range(3):
        with counted(device) as found:
            optimizer.zero_grad()
            loss = ab.mean(ab.map(model.loss, SENTENCES))
            loss.backward()
            optim.clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
        assert not any(found.get(name) for name in WAITS), found
        if before is not None:
            with counted(device) as asked:
                read.append(float(before))
            assert asked == {"numpy of earlier": 1}  # it does not wait for the step that was launched since
        before = loss
    assert read[1] < read[0]


def test_values_come_back_when_they_are_forced(device: StandIn) -> None:
    y = ab.tensor([1.0, 2.0]) * 3
    z = ab.tensor([1.0, 2.0]) * 4
    run_pending()
    with counted(device) as found:
        assert y.numpy().tolist() == [3.0, 6.0]
    assert found["numpy"] == 1
    assert "[3. 6.]" in repr(y) and z.numpy().tolist() == [4.0, 8.0]


def test_results_are_copied_out_together(device: StandIn) -> None:
    model = Reader()

    def asked(n: int) -> tuple[list[Any], int]:
        model.zero_grad()
        losses = ab.map(model.loss, [[1, 2]] * n)
        total = ab.mean(losses)
        with counted(device) as found:
            total.backward()
        return losses, found["launch"] + found.get("copy", 0) + found["empty"]

    few, many = asked(20), asked(30)
    assert few[1] == many[1]
    assert {float(x) for x in few[0]} == {float(x) for x in many[0]}


def test_values_of_an_earlier_recording_stay_on_the_device(device: StandIn) -> None:
    w = ab.Parameter([1.0, 2.0])
    h = ab.map(lambda x: ab.tensor(x) * w, [[1.0, 1.0], [2.0, 3.0]])
    run_pending()
    with counted(device) as found:
        loss = ab.sum([ab.sum(x * x) for x in h])
        loss.backward()
    assert not any(found.get(name) for name in WAITS)
    np.testing.assert_allclose(w.grad.get(), [2 * (1 + 4) * 1.0, 2 * (1 + 9) * 2.0])
    assert is_on_device(w.grad)


def test_values_that_are_evaluated_together_come_back_together(device: StandIn) -> None:
    found_by_n = []
    for n in (3, 8):
        values = ab.map(lambda x: (ab.tensor([x, 1.0]) * 2, ab.tensor(x) + 1), range(n))
        run_pending()
        with counted(device) as found:
            arrays = ab.evaluate(values)
        assert [(a.tolist(), float(b)) for a, b in arrays] == [([2.0 * x, 2.0], x + 1.0) for x in range(n)]
        found_by_n.append((found["numpy"], found["upload"]))
        assert values[1][0].numpy().tolist() == [2.0, 2.0]
    assert found_by_n == [(2, 2), (2, 2)]
