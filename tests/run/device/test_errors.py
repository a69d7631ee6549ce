"""Errors that belong to what the user recorded, and a device without room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.engine.flush import flush
from autobatch.errors import DeviceMemoryError, NonFiniteError, OpIndexError
from tests.run.device.reader import SENTENCES, Reader
from tests.stand_in.device import StandIn


def test_an_index_that_the_host_knows_raises_before_anything_ran(device: StandIn) -> None:
    model = Reader()
    loss = ab.mean(ab.map(lambda index: ab.sum(model.embed[ab.tensor(index)]), [[1, 2], [9, 1]]))
    device.counts.clear()
    with pytest.raises(OpIndexError, match=r"index 9 is out of range for an axis of 7[\s\S]*recorded at test_errors"):
        loss.backward()
    assert not device.counts["launch"]
    ab.mean(ab.map(model.loss, SENTENCES)).backward()


def test_an_index_that_kernels_compute(device: StandIn) -> None:
    table = ab.Parameter(np.arange(6.0).reshape(3, 2))
    good, bad = ab.tensor([1.0, 2.0]), ab.tensor([1.0, 4.0])
    assert table[good.astype(np.int64)].numpy().tolist() == [[2.0, 3.0], [4.0, 5.0]]
    with pytest.raises(OpIndexError, match="index 4 is out of range for an axis of 3"):
        table[bad.astype(np.int64)].numpy()
    loss = ab.sum(table[good.astype(np.int64)])
    loss.backward()
    assert table.grad.to_dense().get().tolist() == [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]


def test_an_index_among_shared_values(device: StandIn) -> None:
    table, index = ab.Parameter([1.0, 2.0]), ab.constant(np.array([0, 5]))
    with pytest.raises(OpIndexError, match="index 5 is out of range for an axis of 2"):
        table[index].numpy()
    assert table[ab.constant(np.array([1, -2]))].numpy().tolist() == [2.0, 1.0]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (lambda i: ab.constant([2, 3]) ** i, "integers to a negative whole power"),
        (lambda i: ab.one_hot(i, 3), "label -1 is out of range for 3 classes"),
    ],
)
def test_shared_values_say_what_is_wrong_as_the_host_does(
    device: StandIn, wrong: Callable[[Any], Any], text: str
) -> None:
    assert np.isfinite(wrong(nn.Buffer([1, 0])).numpy()).all()
    with pytest.raises(OpIndexError, match=text):
        wrong(nn.Buffer([1, -1])).numpy()


def test_the_first_value_that_is_not_finite(device: StandIn) -> None:
    with pytest.raises(NonFiniteError, match="log: the first value that is not finite: -inf"), ab.check_finite():
        float(ab.exp(ab.log(ab.tensor([1.0, 0.0]))).sum())


def test_a_device_without_room_says_what_was_asked_for(device: StandIn) -> None:
    model = Reader()
    few = SENTENCES[:2]
    ab.mean(ab.map(model.loss, few)).backward()
    wanted = float(ab.mean(ab.map(model.loss, few)))
    device.limit = device.used + 40_000
    with pytest.raises(DeviceMemoryError, match="out of memory") as raised:
        ab.mean(ab.map(model.loss, SENTENCES * 100)).backward()
    text = str(raised.value)
    assert "bytes (" in text and "for pools" in text and "bytes that are free" in text
    assert "of these 500 examples fit at once" in text
    del raised
    assert float(ab.mean(ab.map(model.loss, few))) == wanted
    device.limit = 1 << 40
    ab.mean(ab.map(model.loss, SENTENCES * 100)).backward()


def test_a_reverse_pass_without_room_counts_what_the_forward_pass_holds(device: StandIn) -> None:
    model = Reader()
    loss = ab.mean(ab.map(model.loss, SENTENCES * 40))
    flush(loss._tape, loss, only=True)  # type: ignore[attr-defined]
    held = loss._tape.run.room.n_bytes  # type: ignore[attr-defined]
    device.limit = device.used + 2000
    with pytest.raises(DeviceMemoryError, match="backward pass: the device is out of memory") as raised:
        loss.backward()
    n = int(str(raised.value).split("about ")[1].split()[0])
    assert 0 < n < 200 and 2000 / held < 0.1  # more than what is left now has room for
    assert all(p.grad is None for p in model.parameters())


def test_explain_shows_the_kernels(device: StandIn) -> None:
    y = ab.tanh(ab.tensor([1.0]) * 2)
    assert "AB_KERNEL" in ab.explain(y, stage="lower")
