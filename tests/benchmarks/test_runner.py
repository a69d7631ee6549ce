"""The runner and the report, on a workload so small that all of it runs in a moment."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from benchmarks import measure, report, runner, validity
from benchmarks.adam import Adam
from benchmarks.autobatch_trainer import AutobatchTrainer, assign
from benchmarks.bars import Bar, bars, summary
from benchmarks.floors import ProductFloor
from benchmarks.plot import draw, draw_of_readme, shown
from benchmarks.workload import CELLS, LOOP, NO_CELLS_REUSED, Parameters, Workload, linear


class _ByHand:
    """The loss |W x|² over the examples; `scale` makes it another one."""

    def __init__(self, parameters: Parameters, scale: float = 1.0) -> None:
        self.adam, self.scale = Adam(parameters), scale
        self.name = "numpy"

    def step(self, examples: Sequence[Any]) -> float:
        loss, gradients = self.loss_and_gradients(examples)
        self.adam.gradients["w"][...] = gradients["w"]
        self.adam.step()
        return loss

    def loss_and_gradients(self, examples: Sequence[Any]) -> tuple[float, Parameters]:
        x = np.stack(examples)
        y = self.scale * (x @ self.adam.weights["w"].T)
        return float((y * y).sum()), {"w": 2 * self.scale * (y.T @ x)}


class _Model:
    def __init__(self, parameters: Parameters) -> None:
        self.w = ab.Parameter(np.zeros_like(parameters["w"]))
        assign(self, parameters)

    def parameters(self) -> list[ab.Parameter]:
        return [self.w]

    def named(self) -> dict[str, ab.Parameter]:
        return {"w": self.w}

    def loss(self, x: Any) -> ab.Tensor:
        y = self.w @ x
        return (y * y).sum()


def _raises(parameters: Parameters, dim: int) -> Any:
    trainer = _ByHand(parameters)
    trainer.step = lambda examples: 1 / 0  # type: ignore[method-assign]
    return trainer


def _missing(parameters: Parameters, dim: int) -> Any:
    raise ImportError("it is not installed")


def workload(**trainers: Any) -> Workload:
    return Workload(
        name="tiny",
        title="Tiny",
        dims=(3, 4),
        examples=lambda: list(np.random.default_rng(0).standard_normal((20, 4), np.float32)),
        parameters=lambda dim: {"w": np.full((dim, 4), 0.5, np.float32)},
        trainers={
            CELLS: lambda parameters, dim: AutobatchTrainer(CELLS, _Model(parameters)),
            LOOP: lambda parameters, dim: AutobatchTrainer(LOOP, _Model(parameters), batched=False),
            "numpy": lambda parameters, dim: _ByHand(parameters),
            **trainers,
        },
        products=lambda examples, dim: linear(len(examples), 4, dim),
        variant=lambda seed: {
            CELLS: lambda parameters, dim: AutobatchTrainer(CELLS, _Model(parameters)),
            LOOP: lambda parameters, dim: AutobatchTrainer(LOOP, _Model(parameters), batched=seed == 2),
        },
    )


def run(which: Workload, tmp_path: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    path = tmp_path / "figures.json"
    status = runner.main(which, ["--quick", "--seconds", "0.05", "--out", str(path), *arguments])
    return status, json.loads(path.read_text())


def test_programs_that_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, result = run(workload(), tmp_path, "--batch", "64", "1", "--variant", "2")
    assert status == 0
    first, second = result["cells"]
    assert (first["dim"], first["batch"], second["batch"]) == (3, 64, 1)
    floors = {runner.FULL_WIDTH, runner.SCHEDULE_WIDTHS, runner.NUMPY_FULL_WIDTH}
    assert set(first["milliseconds"]) == {"numpy", CELLS, LOOP, *floors}
    assert first["stages"][CELLS]["launches"] == 4  # product, square, sum, total
    assert {"record", "forward", "reverse", "update"} <= first["stages"][CELLS].keys()
    assert first["variants"][0]["void"] == [] and "variants" not in second
    printed = capsys.readouterr().out
    assert "Tiny, dim 3, batch 64" in printed and "x schedule" in printed and "variant 2: " in printed
    assert "VOID" not in printed and "FAILED" not in printed


def test_disagreeing_losses_make_a_row_void(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = workload(other=lambda parameters, dim: _ByHand(parameters, 1.001))
    status, result = run(other, tmp_path, "--skip", LOOP)
    assert status == runner.VOID_STATUS
    (reason,) = result["cells"][0]["void"]
    assert reason.startswith("losses of other [") and " are not those of numpy [" in reason
    assert "VOID: losses of other" in capsys.readouterr().out
    assert result["cells"][0]["skipped"] == {LOOP: "as asked"}


def test_programs_that_fail_or_are_missing_do_not_end_the_run(tmp_path: Path) -> None:
    status, result = run(
        workload(broken=_raises, absent=_missing, unmade=lambda p, d: {}["w"]),
        tmp_path,
        "--only",
        "numpy",
        "broken",
        "absent",
        "unmade",
    )
    (cell,) = result["cells"]
    assert status == runner.VOID_STATUS
    assert cell["failed"] == {"unmade": "KeyError: 'w'", "broken": "ZeroDivisionError: division by zero"}
    assert cell["skipped"] == {CELLS: "as asked", LOOP: "as asked", "absent": "ImportError: it is not installed"}
    assert set(cell["milliseconds"]) == {"numpy", runner.FULL_WIDTH, runner.NUMPY_FULL_WIDTH}


def test_a_variant_that_is_not_its_own_loop_is_void(tmp_path: Path) -> None:
    right = workload()
    assert right.variant is not None
    factories = {**right.variant(1), LOOP: lambda parameters, dim: _ByHand(parameters, 2.0)}
    wrong = dataclasses.replace(right, variant=lambda seed: factories)
    status, result = run(wrong, tmp_path, "--variant", "1")
    assert status == runner.VOID_STATUS
    assert result["cells"][0]["void"] == []
    assert result["cells"][0]["variants"][0]["void"][0].startswith(f"losses of {LOOP}")


def test_slow_programs_take_fewer_turns() -> None:
    calls: dict[str, list[int]] = {"quick": [], "slow": [], "reused": []}

    def program(name: str, took: float, prime: bool = False) -> measure.Program:
        return measure.Program(name, lambda k: calls[name].append(k), took=took, prime=prime)

    programs = [program("quick", 0.01), program("slow", 4.0), program("reused", 0.01, True)]
    runner.time_in_turns(programs, 5, seconds=10.0)
    assert [len(p.seconds) for p in programs] == [5, 3, 5]
    assert calls["quick"] == [3, 4, 5, 6, 7] and calls["slow"] == [3, 5, 7]
    assert calls["reused"] == [3, 4, 5, 6, 7] * 2  # every timed minibatch was seen before


def test_no_third_warm_step_where_the_second_is_slow() -> None:
    losses = iter([3.0, 2.0, 1.0])
    program = measure.Program("slow", lambda k: next(losses))
    assert measure.warm_up([program], patience=0.0) == [program]
    assert program.losses == [3.0, 2.0]
    other = measure.Program("quick", lambda k: 0.0, losses=[3.0, 2.0, 5.0])
    assert validity.disagreements([program, other]) == []  # of the losses that both have


def test_peers_slower_than_elsewhere() -> None:
    times = {"numpy": 30.0, "numpy + numba loops": 22.0, "pytorch": 57.0}
    assert validity.slow_peers("treelstm", 128, times, 10.0, 0.0) == []
    (reason,) = validity.slow_peers("treelstm", 128, {**times, "numpy + numba loops": 28.0}, 10.0, 0.0)
    assert reason == "numpy takes 2.80 x the products at full width; 2.41 was reached"
    assert validity.slow_peers("treelstm", 64, {"numpy": 1e9}, 1.0, 0.0) == []  # nothing is known of this width
    # 1.7e9 operations took 10 ms where the BiLSTM of width 128 took 58 ms.
    assert validity.slow_peers("bilstm", 128, {"pytorch, packed": 66.0}, 10.0, 1.7e9) == []
    assert validity.slow_peers("bilstm", 128, {"pytorch, packed": 67.0}, 10.0, 1.7e9) != []


@pytest.mark.parametrize("by_numpy", [True, False])
def test_floors_share_weights_and_no_rows(by_numpy: bool) -> None:
    floor = ProductFloor([[(5, 3, 4), (2, 3, 4), (2, 6, 3, 4), (4, 5, 6)], [(9, 3, 4)]], numpy=by_numpy)
    floor.step(0)
    (x, w, y, *_), (x2, w2, y2, *_), (many, _, result), (x3, w3, y3) = (operands for _, operands in floor.made[0])
    assert w is not w2 and np.shares_memory(w, w2)
    assert w.shape == ((3, 4) if by_numpy else (4, 3))
    w2 = w2 if by_numpy else w2.T
    np.testing.assert_allclose(y3, x3 @ w3, rtol=1e-5)
    assert not np.shares_memory(x, x2) and not np.shares_memory(y, y2)
    np.testing.assert_allclose(y2, x2 @ w2, rtol=1e-5)
    assert many.shape == (2, 6, 3) and result.shape == (2, 6, 4)
    assert floor.made[1][0][1][0].shape == (9, 3)


def test_profile_counts_the_products_of_a_step() -> None:
    trainer = AutobatchTrainer(CELLS, _Model({"w": np.ones((3, 4), np.float32)}))
    with ab.profile() as prof:
        trainer.step(list(np.ones((7, 4), np.float32)))
    assert prof.products[0] == (1, 7, 4, 3)
    assert prof.products[-1] == (1, 3, 7, 4)


def cell(dim: int, batch: int, **times: float) -> dict[str, Any]:
    names = {"cells": CELLS, "loop": LOOP, "without": NO_CELLS_REUSED, "reused": "autobatch, cells, reused"}
    found = {names.get(name, name): time for name, time in times.items()}
    found |= {runner.FULL_WIDTH: 10.0, runner.SCHEDULE_WIDTHS: 11.0}
    return {
        "dim": dim,
        "batch": batch,
        "milliseconds": found,
        "stages": {CELLS: {"record": 1.5, "launches": 20}},
        "skipped": {"dynet": "no environment"},
        "failed": {},
        "void": [],
        "variants": [{"seed": 7, "variant": 2.1, "original": 2.0, "void": []}] if batch == 64 else [],
    }


def test_bars() -> None:
    cells = {
        ("treelstm", 256, 64): cell(256, 64, cells=15.0, reused=14.5, without=20.0, pytorch=29.0, dynet=31.0),
        ("treelstm", 256, 1): cell(256, 1, cells=1.0, loop=0.9),
        ("mlp", 512, 64): cell(512, 64, cells=13.0, numpy=10.0),
    }
    by = {(bar.what, bar.where): bar for bar in bars(cells, {}, {"training steps": 1.2}, {"treelstm": 1.6})}
    assert by["step / products at full width", "treelstm, dim 256"] == Bar(
        "step / products at full width", "treelstm, dim 256", 1.5, 1.55, 1.4
    )
    assert by["step / products at full width", "treelstm, dim 512"].met is None
    verdicts = {
        ("step / products at full width, recordings reused", "treelstm, dim 256"): False,
        ("step / products at the schedule's widths", "treelstm, dim 256"): False,
        ("PyTorch by hand / autobatch", "treelstm, dim 256"): False,
        ("DyNet / autobatch", "treelstm, dim 256"): True,
        ("without cells / with cells, reused", "treelstm, dim 256"): True,
        ("autobatch / the same by hand in NumPy", "mlp, dim 512"): False,
        ("batch 1 / the loop, batched=False", "treelstm, dim 256"): False,
        ("a variant / the original", "treelstm, dim 256, seed 7"): True,
        ("time per node / the same of fewer nodes", "training steps"): True,
        ("memory / what is needed", "treelstm"): False,
    }
    assert {key: by[key].met for key in verdicts} == verdicts
    assert ("PyTorch by hand / autobatch", "mlp, dim 512") not in by
    others = {"numpy": {("treelstm", 256, 64): cell(256, 64, cells=16.0)}, "mkl": {}}
    by = {(bar.what, bar.where): bar for bar in bars(cells, others, {}, {})}
    with_numpy = by["step / products at full width", "treelstm, dim 256, products by numpy"]
    assert (with_numpy.figure, with_numpy.bar, with_numpy.met) == (1.6, 1.7, True)
    assert by["step / products at full width", "treelstm, dim 256, products by mkl"].met is None
    cells["treelstm", 256, 64]["void"] = ["a reason"]
    assert all(
        bar.met is None
        for bar in bars(cells, {}, {}, {})
        if bar.where.startswith("treelstm, dim 256") and bar.what.startswith("step")
    )
    assert summary([Bar("", "", 1.0, 2.0), Bar("", "", 3.0, 2.0), Bar("", "", None, 2.0)]) == (
        "1 of 2 bars are met; of 1 there is no figure"
    )


def test_report_text_and_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figures = {
        "machine": {"cpu": "a machine", "products": "tiles", "date": "2026-01-02 03:04"},
        "minutes": 3.0,
        "results": {
            "treelstm": {
                "status": 0,
                "title": "Tree-LSTM",
                "cells": [cell(128, 64, cells=20.0, pytorch=50.0), cell(256, 64, cells=17.5, pytorch=50.0)],
            },
            "lm": {"status": 1, "said": "MemoryError: too large"},
            "treelstm, numpy": {"status": 0, "title": "Tree-LSTM", "cells": [cell(128, 64, cells=22.0)]},
            "growth": {"status": 0, "said": "", "growth": {"training steps": 1.25}, "text": "a table"},
        },
    }
    figures["results"]["treelstm"]["cells"][1]["void"] = ["losses of a are not those of b"]
    text, _, *plots = report.write(figures, tmp_path)
    written = text.read_text(encoding="utf-8")
    assert [path.name for path in plots] == ["report-2026-01-02.svg", "report-2026-01-02.png"]
    assert all(path.stat().st_size > 1000 for path in plots)
    draw_of_readme(tmp_path / "report-2026-01-02.json", tmp_path / "speed.svg")
    assert (tmp_path / "speed.svg").stat().st_size > 1000
    for line in (
        "* cpu: a machine",
        "| step / products at full width | treelstm, dim 128 | 2.00 | ≤ 2.2 | met | ≤ 1.8 | **not met** |",
        "| step / products at full width | treelstm, dim 256 | 1.75 | ≤ 1.55 | void | ≤ 1.4 | void |",
        "| PyTorch by hand / autobatch | treelstm, dim 128 | 2.50 | ≥ 2 | met | ≥ 2 | met |",
        "| DyNet / autobatch | treelstm, dim 128 | – | ≥ 2 | – |  |  |",
        "| time per node / the same of fewer nodes | training steps | 1.25 | ≤ 1.3 | met |  |  |",
        "| autobatch, cells | 20 (2.00) | 17.5 (1.75) |",
        "| step / products at full width | treelstm, dim 128, products by numpy | 2.20 | ≤ 2.35 | met "
        "| ≤ 1.95 | **not met** |",
        "## Tree-LSTM, products by numpy",
        "* dim 256: VOID, losses of a are not those of b",
        "* dynet: left out, no environment",
        "Ended with status 1: MemoryError: too large",
        "a table",
    ):
        assert line in written.splitlines(), line
    assert shown(figures["results"]["treelstm"]["cells"][0]["milliseconds"]) == {CELLS: 2.0, "pytorch": 5.0}
    assert draw({}, tmp_path / "nothing") == []


def test_a_benchmark_that_fails_leaves_what_it_said(tmp_path: Path) -> None:
    result = report.run_apart("treelstm", ["--batch", "many"], tmp_path / "none.json")
    assert result["status"] == 2
    assert result["said"].endswith("argument --batch: invalid int value: 'many'")
