"""Growth and memory: what they build and count is what they say."""

from __future__ import annotations

import dataclasses

import numpy as np

import autobatch as ab
from autobatch.record.assemble import assemble
from autobatch.schedule.check import check_plan, check_schedule
from autobatch.schedule.place import place
from autobatch.schedule.schedule import schedule
from benchmarks import growth, memory


def test_chains_have_as_many_nodes_as_asked() -> None:
    drawn = growth.lengths(1_000)
    assert 1_000 <= sum(drawn) + len(drawn) < 1_100
    assert min(drawn) >= 5 and max(drawn) < 35
    (figures,) = growth.step_growth([500])
    assert 500 <= figures["nodes"] < 600
    assert figures["all"] > figures["record"] > 0


def test_a_repeated_tape_is_as_if_it_had_been_recorded() -> None:
    tape, signatures = growth.recorded(100)
    larger = growth.repeated(tape, 3)
    larger.check()
    launches = schedule(larger)
    check_schedule(larger, launches)
    plan = place(larger, launches)
    check_plan(larger, launches, plan)
    assert larger.sig.size == 3 * tape.sig.size
    assert len(launches.nodes) == 3 * len(schedule(tape).nodes)
    again = assemble(growth.as_recording(larger, signatures), larger.roots.tolist())
    for field in dataclasses.fields(larger):
        if isinstance(getattr(larger, field.name), np.ndarray):
            np.testing.assert_array_equal(getattr(again, field.name), getattr(larger, field.name), field.name)


def test_stages_are_measured_at_every_size() -> None:
    rows = growth.stage_growth([100, 1_000])
    assert [row["nodes"] >= n for row, n in zip(rows, (100, 1_000), strict=True)] == [True, True]
    assert all(row["all"] == sum(row[stage] for stage in growth.STAGES) for row in rows)


def test_needed_bytes() -> None:
    w = ab.Parameter(np.ones((3, 4), np.float32))
    loss = ab.sum(ab.map(lambda x: ab.sum(ab.tanh(w @ ab.tensor(x))), list(np.ones((5, 4), np.float32))))
    float(loss)
    need = memory.needed(loss._tape.run)  # type: ignore[attr-defined]
    # Five examples of 4 numbers, 5 products and 5 activations of 3, 5 sums and their sum.
    assert need["values"] == 4 * (5 * 4 + 5 * 3 + 5 * 3 + 5 + 1)
    assert need["gradients"] == 4 * (5 * 3 + 5 * 3 + 5 + 1)
    assert need["residuals"] > 0
    loss.backward()
