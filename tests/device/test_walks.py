"""Launches of a recurrence done by one kernel: what it computes, when it is used, and what it costs in launches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.run.device import walks
from tests.device.reader import SENTENCES, Reader, agree, gradients
from tests.stand_in import kernels
from tests.stand_in.device import StandIn

LONG: list[Any] = [[1, 2, 3, 4, 5, 6, 0] * 2, [3, 1, 2] * 3, [5] * 11, *SENTENCES]


def numbers(model: nn.Module, examples: Any) -> dict[str, Any]:
    """Values and gradients."""
    model.zero_grad()
    losses = ab.map(model.loss, examples)
    ab.sum(losses).backward()
    return {"losses": np.array([float(x) for x in losses]), **gradients(model)}


def persistently(device: StandIn, model: nn.Module, examples: Any) -> dict[str, Any]:
    """The same with one kernel for a recurrence."""
    device.persistent = True
    try:
        return numbers(model, examples)
    finally:
        device.persistent = False


@pytest.fixture
def reader(device: StandIn) -> Reader:
    ab.seed(0)
    return Reader()


@pytest.mark.parametrize("blocks", [1, 3, 40])
def test_values_and_gradients_are_those_of_the_launches(device: StandIn, reader: Reader, blocks: int) -> None:
    device.blocks_at_once = blocks
    numbers(reader, LONG)  # whether a cell is cut is decided once
    device.counts.clear()
    wanted = numbers(reader, LONG)
    launches = device.counts["launch"] + device.counts["product"]
    device.counts.clear()
    found = persistently(device, reader, LONG)
    assert device.counts["launch_resident"] == 2
    assert device.counts["launch"] + device.counts["product"] < launches / 2
    agree(found, wanted)
    with kernels.backwards():
        again = persistently(device, reader, LONG)
    assert all(again[name].tobytes() == found[name].tobytes() for name in found)


def test_blocks_that_do_not_meet_are_found(device: StandIn, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = numbers(reader, LONG)
    found = persistently(device, reader, LONG)
    np.testing.assert_allclose(found["losses"], wanted["losses"], rtol=1e-5)
    end = walks._Calls.end_group

    def end_without_barriers(self: Any) -> None:
        begin, words = len(self.table), self.resident.words
        end(self)
        for row in range(begin, len(self.table), words):
            self.table[row + 1] &= ~1

    monkeypatch.setattr(walks._Calls, "end_group", end_without_barriers)
    found = persistently(device, reader, LONG)
    assert not np.allclose(found["losses"], wanted["losses"], rtol=1e-3)


class Both(nn.Module):
    """Two recurrences that do not depend on each other."""

    def __init__(self) -> None:
        self.reader, self.other = Reader(), Reader()

    def loss(self, words: list[int]) -> Any:
        """The product of two losses."""
        return self.reader.loss(words) * self.other.loss(words[::-1])


def test_two_recurrences_of_one_program_go_in_step(device: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for each other no more often than one alone."""
    barriers: list[int] = []
    end = walks._Calls.end

    def counted(self: Any) -> None:
        begin = 3 + 7 * len(self.weights)
        end(self)
        barriers.append(sum(how & 1 for how in self.table[begin + 1 :: self.resident.words]))

    monkeypatch.setattr(walks._Calls, "end", counted)
    ab.seed(0)
    model = Both()
    numbers(model, LONG[:3])
    wanted = numbers(model, LONG[:3])
    device.counts.clear()
    found = persistently(device, model, LONG[:3])
    assert device.counts["launch_resident"] == 2
    agree(found, wanted)
    both = list(barriers)
    barriers.clear()
    persistently(device, model.reader, LONG[:3])
    assert both == barriers
    with kernels.backwards():
        again = persistently(device, model, LONG[:3])
    assert all(again[name].tobytes() == found[name].tobytes() for name in found)


def test_a_long_chain(device: StandIn, reader: Reader) -> None:
    device.blocks_at_once = 3
    words = [[1, 2, 3, 4] * 100]
    numbers(reader, words)
    wanted = numbers(reader, words)
    device.counts.clear()
    found = persistently(device, reader, words)
    assert device.counts["launch_resident"] == 2 and device.counts["launch"] < 100
    agree(found, wanted)


def test_tables_of_all_walks_are_one_upload(device: StandIn, reader: Reader) -> None:
    """However long they are."""

    def uploads(words: list[int], persistent: bool) -> int:
        device.persistent = persistent
        device.counts.clear()
        numbers(reader, [words])
        return device.counts["upload"]

    numbers(reader, LONG)
    plain = uploads([1, 2, 3] * 5, False)
    assert uploads([1, 2, 3] * 5, True) == uploads([1, 2, 3] * 50, True) == plain + 2


def test_what_does_not_fit_is_launched_as_ever(device: StandIn, reader: Reader) -> None:
    numbers(reader, LONG)
    wanted = numbers(reader, LONG)
    for name, value in (("shared_bytes", 16 * 257 * 4), ("blocks_at_once", 0)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(device, name, value)
            device.counts.clear()
            agree(persistently(device, reader, LONG), wanted, 0)
            assert not device.counts["launch_resident"]
    device.counts.clear()
    persistently(device, reader, [[1, 2, 3]])
    assert not device.counts["launch_resident"], "three steps are no recurrence"


def test_wide_launches_stay_launches(device: StandIn, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first steps are those of all sentences, the last ones of one alone."""
    numbers(reader, LONG)
    wanted = numbers(reader, LONG)
    launched = {}
    for rows in (0, 2, 1 << 20):
        monkeypatch.setattr(walks, "MOST_WORK", rows * 6 * 12)
        device.counts.clear()
        agree(persistently(device, reader, LONG), wanted)
        launched[rows] = device.counts["launch"]
        assert device.counts["launch_resident"] == (2 if rows else 0)
    assert launched[0] > launched[2] > launched[1 << 20]


def test_walks_are_part_of_graphs(device: StandIn, reader: Reader) -> None:
    """The table of a walk is read when a graph is replayed: it need not be the one of before."""
    numbers(reader, LONG)
    wanted = [numbers(reader, examples) for examples in (LONG, LONG[::-1])]
    device.graphs = True
    for _ in range(3):
        device.counts.clear()
        for examples, values in zip((LONG, LONG[::-1]), wanted, strict=True):
            agree(persistently(device, reader, examples), values)
    assert device.counts["play"] == 4 and not device.counts["launch_resident"]


def test_it_is_an_option_of_the_backend(device: StandIn) -> None:
    ab.set_backend("cupy", persistent=True)
    assert device.persistent
    ab.set_backend("cupy")
    assert not device.persistent


def test_with_graphs_and_launches_in_step_at_once(device: StandIn, reader: Reader) -> None:
    numbers(reader, LONG)
    wanted = numbers(reader, LONG)
    device.persistent = device.groups = device.graphs = True
    try:
        found = [numbers(reader, LONG) for _ in range(4)]
        with ab.profile() as profile:
            found.append(numbers(reader, LONG))
    finally:
        device.persistent = device.groups = device.graphs = False
    assert profile.sequences["replayed"][0] > 0
    for each in found:
        agree(each, wanted)
    assert all(found[0][name].tobytes() == each[name].tobytes() for each in found for name in wanted)
