"""The GPU benchmark without a GPU: programs by hand on the processor, its arithmetic, its report, and its refusal."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import budgets
from benchmarks.gpu import cell, command, idle, report
from benchmarks.gpu.cell import Row, judge
from benchmarks.gpu.floors import n_bytes
from benchmarks.gpu.peers import peers
from benchmarks.gpu.place import HostClock, Place
from benchmarks.workload import CELLS, CELLS_REUSED, load, minibatches
from tests.stand_in import kernels
from tests.stand_in.session import on_stand_in

DIM = 6
HOST = Place(HostClock(), "cpu", {"gpu": "none"})


def few(workload: str) -> list[list[Any]]:
    return minibatches(load(workload).examples()[:9], 3)


def near(a: Any, b: Any, what: str) -> None:
    assert np.abs(b).max() > 0, what
    assert np.abs(np.asarray(a) - b).max() <= 1e-4 * np.abs(b).max(), what


@pytest.mark.parametrize("workload", command.WORKLOADS)
def test_programs_by_hand_take_the_steps_of_autobatch(workload: str) -> None:
    pytest.importorskip("torch")
    chosen, batches = load(workload), few(workload)
    own = chosen.trainers[CELLS](chosen.parameters(DIM), DIM)
    steps = [*batches, batches[0]]
    expected = [own.step(examples) for examples in steps]
    made = peers(workload, HOST, compiled=False)
    assert len(made) == (4 if workload == "treelstm" else 2)
    for name, make in made.items():
        program = make(chosen.parameters(DIM))
        pending = [program.launch(examples) for examples in steps]
        np.testing.assert_allclose([program.read(p) for p in pending], expected, rtol=1e-4, err_msg=name)
        assert program.agrees(batches[1], 1e-5)  # type: ignore[attr-defined]


@pytest.mark.parametrize("workload", command.WORKLOADS)
def test_derivatives_by_hand_are_those_of_autobatch(workload: str) -> None:
    torch = pytest.importorskip("torch")
    chosen, batch = load(workload), few(workload)[0]
    loss, expected = chosen.trainers[CELLS](chosen.parameters(DIM), DIM).loss_and_gradients(batch)
    for name, make in peers(workload, HOST, compiled=False).items():
        program: Any = make(chosen.parameters(DIM))
        prepared = program._prepared(batch)
        rows = program.table[prepared.rows].requires_grad_()
        found = program.loss(torch.nn.functional.embedding(prepared.places, rows), prepared.rest)
        assert float(found.detach()) == pytest.approx(loss, rel=1e-6)
        *gradients, d_rows = torch.autograd.grad(found, [*program.weights.values(), rows])
        for key, gradient in zip(program.weights, gradients, strict=True):
            near(gradient, expected[key], f"{name}: {key}")
        near(d_rows, expected["table"][prepared.rows], f"{name}: rows of the table")


def test_a_program_that_replays_something_else_is_found_out() -> None:
    pytest.importorskip("torch")
    chosen, (one, other, _) = load("bilstm"), few("bilstm")
    program: Any = peers("bilstm", HOST, compiled=False)["pytorch, plans prebuilt, packed"](chosen.parameters(DIM))
    read = program.read
    assert program.agrees(one, 1e-4)
    program.read = lambda pending: 1.001 * read(pending)
    assert not program.agrees(other, 1e-4)


def test_bytes_that_no_program_avoids() -> None:
    parameters = {"w": np.zeros((3, 4)), "table": np.zeros((100, 3))}
    products = [(2, 3, 4), (5, 2, 3, 4)]
    assert n_bytes(products, parameters) == 4 * (6 + 12 + 8 + 5 * (6 + 12 + 8) + 7 * 12)
    assert n_bytes([], {}) == 0


def test_a_program_with_other_losses_is_void() -> None:
    rows = [Row(name, None) for name in "abc"]
    rows[0].losses, rows[1].losses, rows[2].losses = [10.0, 9.0], [10.0005, 9.0], [10.0, 9.01]
    judge(rows)
    assert [bool(row.void) for row in rows] == [False, False, True]
    assert rows[2].void == "losses [10, 9.01] are not those of a [10, 9]"


class _Steps:
    """A program whose launches take one unit of a clock that it turns itself."""

    def __init__(self, clock: _Turned, takes: float, broken: bool = False) -> None:
        self.clock, self.takes, self.broken, self.order = clock, takes, broken, ""

    def launch(self, examples: Any) -> str:
        if self.broken:
            raise ValueError("no\nmore")
        self.clock.now += self.takes
        self.order += "L"
        return examples

    def read(self, pending: Any) -> float:
        self.order += "r"
        return 1.0


class _Turned(HostClock):
    now = 0.0

    def mark(self) -> float:
        return self.now

    def hold(self, milliseconds: float) -> None:
        self.now += 100.0


def test_a_loss_is_read_after_the_next_step_was_launched() -> None:
    clock = _Turned()
    program = _Steps(clock, 0.002)
    row = Row("a", program)
    cell._round(row, [["x"], ["y"], ["z"]], Place(clock, "", {}), 0.0)
    assert program.order == "LLrLrr"
    assert row.steps == pytest.approx([2.0, 2.0])
    assert len(row.host) == 3
    cell._alone(row, [["x"]], Place(clock, "", {}))
    assert row.device == pytest.approx(2.0)


def test_a_program_that_fails_is_left_alone() -> None:
    row = Row("a", _Steps(_Turned(), 1.0, broken=True))
    cell._guarded(row, lambda row: cell._warm(row, [["x"]]))
    cell._guarded(row, lambda row: pytest.fail("left alone"))
    figures = row.figures()
    assert (figures["failed"], figures["void"], figures["losses"]) == ("ValueError: no", "", [])
    assert "in launch" in figures["traceback"]


def _cell(workload: str, dim: int, batch: int, **steps: float | tuple[float, float, float] | str) -> dict[str, Any]:
    names = {"fresh": CELLS, "reused": CELLS_REUSED, "eager": report.EAGER, "prebuilt": report.PREBUILT}
    programs: dict[str, Any] = {}
    for key, given in steps.items():
        step, host, device = given if isinstance(given, tuple) else (given, 1.0, 1.0)
        void = "other losses" if step == 0.0 else ""
        programs[names[key]] = {"step": step, "host": host, "device": device, "void": void, "failed": "", "losses": []}
    floors = {report.FULL_WIDTH: 0.5}
    stages = {CELLS: {"record": 1.0, "forward": 0.2, "reverse": 0.4, "launches": 20}}
    return {
        "workload": workload,
        "dim": dim,
        "batch": batch,
        "programs": programs,
        "floors": floors,
        "stages": stages,
        "skipped": {"pytorch, other": "ImportError: none"},
    }


def test_bars_are_those_of_programs_that_count() -> None:
    trees = _cell("treelstm", 256, 256, fresh=6.0, reused=4.0, eager=9.0, prebuilt=12.0)
    measured = [(bar.figure, bar.met) for bar in report.bars([trees])]
    assert measured[:4] == [(3.0, True), (None, None), (1.5, True), (64e3, True)]
    slow = report.bars([_cell("treelstm", 256, 256, fresh=10.0, reused=16.0, eager=9.0, prebuilt=0.0)])
    assert [(bar.figure, bar.met) for bar in slow[:4]] == [(None, None), (None, None), (0.9, False), (16e3, False)]
    taggers = [_cell("bilstm", dim, batch, reused=2.0, prebuilt=3.0) for dim in (128, 256) for batch in (16, 64)]
    (lstm,) = [bar for bar in report.bars(taggers) if bar.what.startswith("packed")]
    assert (lstm.where, lstm.figure, lstm.met) == ("bilstm, dim 256, batch 64", 1.5, True)
    hidden = report.bars([_cell("treelstm", 512, 256, fresh=(3.3, 3.0, 2.0), reused=(3.0, 1.0, 2.0))])
    assert [bar.met for bar in hidden[-2:]] == [True, False]


def test_the_report_has_every_program_and_what_is_wrong_with_it() -> None:
    cells = [_cell("treelstm", 256, 256, fresh=6.0, reused=4.0, prebuilt=0.0)]
    cells[0]["programs"]["pytorch, broken"] = {"void": "", "failed": "ValueError: no", "losses": []}
    text = report.markdown({"machine": {"gpu": "a GPU", "date": "2026-01-01 00:00"}, "minutes": 3.2, "cells": cells})
    for line in (
        "* gpu: a GPU",
        "3 minutes. 1 of 1 bars are met; of 7 there is no figure.",
        "| trees a second, reused | treelstm, dim 256, batch 256 | 64,000.00 | ≥ 20000 | met |",
        f"| {CELLS} | 6.000 | 12.0 | 42,667 | 1.000 | 1.000 |  |",
        "| pytorch, plans prebuilt | 0.000 | 0.0 | – | 1.000 | 1.000 | VOID: other losses |",
        "| pytorch, broken | – | – | – | – | – | failed: ValueError: no |",
        "| pytorch, other | – | – | – | – | – | left out: ImportError: none |",
        "| floor: products, full width | 0.500 | 1.0 | | | | |",
        "| µs of the host for a launch, forward | 10.0 |",
        "| µs of the host for a launch, reverse | 20.0 |",
        "    host     milliseconds of the host for launching a step, recording included",
    ):
        assert line in text, text


def test_what_the_host_takes_is_measured_on_a_device_that_does_nothing() -> None:
    found = idle.host_time("bilstm", DIM, 3, n_batches=2, rounds=2)
    assert found.launches > 30 and found.each > 0 and found.step > 0
    ((what, _, _),) = budgets.on_a_device(["bilstm"], DIM, 3)
    assert "launches, step" in what


def test_without_a_gpu_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert command.main(["--report"]) == command.MISSING_STATUS
    assert "CuPy is not installed\n  repair: pip install" in capsys.readouterr().err


@pytest.mark.skipif(bool(kernels.MISSING), reason=kernels.MISSING)
@pytest.mark.parametrize("workload", ["treelstm", "lm"])
def test_the_whole_command_on_a_stand_in(workload: str, tmp_path: Path, capsys: Any) -> None:
    torch_device = "cpu" if importlib.util.find_spec("torch") else ""
    options = command.options_of(
        [
            *("--workloads", workload, "--dims", str(DIM), "--batch", "2", "--seconds", "0"),
            *("--no-compile", "--report", "--out", str(tmp_path)),
        ]
    )
    options.n_batches, options.copied = 3, 1 << 12
    with on_stand_in():
        assert command.run(options, Place(HostClock(), torch_device, {"gpu": "none"})) == 0
    (text,), (figures,) = tmp_path.glob("gpu-*.md"), tmp_path.glob("gpu-*.json")
    (cell,) = json.loads(figures.read_text("utf-8"))["cells"]
    own = {name for name in cell["programs"] if name.startswith("autobatch")}
    assert own == {CELLS, CELLS_REUSED}
    assert len(cell["programs"]) == len(own) + len(
        peers(workload, Place(HostClock(), torch_device, {}), compiled=False)
    )
    assert all(program["step"] > 0 and program["device"] > 0 for program in cell["programs"].values())
    assert len(cell["floors"]) == 3 and all(floor > 0 for floor in cell["floors"].values())
    assert all(cell["stages"][name]["launches on the device"] > 0 for name in own)
    assert capsys.readouterr().out.count(f"## {workload}, dim {DIM}, batch 2") == 1
    assert f"## {workload}, dim {DIM}, batch 2" in text.read_text("utf-8")
