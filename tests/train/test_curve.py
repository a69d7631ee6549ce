"""What is written and shown of the history."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.base import progress as compiling
from autobatch.errors import MissingExtraError
from autobatch.train import Curve, Progress, Run, TensorBoard, accuracy

HISTORY = [
    {
        "epoch": 1,
        "loss": 2.0,
        "accuracy": 0.25,
        "test_loss": math.nan,
        "test_accuracy": 0.5,
        "examples_per_second": 9.0,
    },
    {"epoch": 2, "loss": 1.0, "accuracy": 0.75, "test_loss": 1.5, "test_accuracy": 0.5},
]


def run(**values: Any) -> Any:
    made: Any = Run(None, None, None, epochs=2)
    made.history = [dict(record) for record in HISTORY]
    made.__dict__.update(values)
    return made


def test_csv_and_json_have_all_numbers(tmp_path: Path) -> None:
    Curve(tmp_path).on_epoch(run())
    rows = list(csv.DictReader((tmp_path / "curve.csv").read_text().splitlines()))
    assert [float(row["loss"]) for row in rows] == [2.0, 1.0]
    found = json.loads((tmp_path / "curve.json").read_text(), parse_constant=pytest.fail)
    assert found == [{**HISTORY[0], "test_loss": None}, HISTORY[1]]


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    curve = Curve(tmp_path, {"majority": 0.1})
    curve.on_end(run())
    assert curve.shown.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_table_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    curve = Curve(tmp_path)
    curve.on_end(run())
    assert curve.shown.name == "curve.csv" and not (tmp_path / "curve.png").exists()


def test_tensorboard_is_given_every_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path / "board")

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def flush(self) -> None: ...

        def close(self) -> None: ...

    module = ModuleType("tensorboard.summary")
    module.Writer = Writer  # type: ignore[attr-defined]
    for name in ("tensorboard", "tensorboard.summary"):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(TensorBoard, "is_installed", staticmethod(lambda: True))
    board = TensorBoard(tmp_path / "board")
    board.on_start(run())
    board.on_epoch(run())
    board.on_end(run())
    assert ("loss", 1.0, 2) in written and len(written) == len(HISTORY[1]) - 1


def test_a_missing_tensorboard_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match="pip install tensorboard"):
        TensorBoard(tmp_path)


def test_a_bar_is_drawn_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    rich = pytest.importorskip("rich")
    drawn = io.StringIO()
    console = pytest.importorskip("rich.console").Console(file=drawn, force_terminal=True, width=100)
    monkeypatch.setattr(rich, "get_console", lambda: console)
    lines: list[str] = []
    progress = Progress(lines.append)
    model = ab.nn.Linear(1, 1)
    batches = ab.data.minibatches([np.ones(1)] * 6, batch_size=2)
    optimizer = ab.optim.SGD(model.parameters(), lr=0.1)
    ab.train.fit(model, batches, optimizer, 2, loss=lambda x: ab.sum(model(ab.tensor(x))), callbacks=[progress])
    assert len(lines) == 2 and lines[0].startswith("epoch 1/2  loss ")
    assert "epoch 1/2" in drawn.getvalue() and "/6" in drawn.getvalue()


def test_what_compiles_is_said_in_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    rich = pytest.importorskip("rich")
    drawn = io.StringIO()
    console = pytest.importorskip("rich.console").Console(file=drawn, force_terminal=True, width=200)
    monkeypatch.setattr(rich, "get_console", lambda: console)
    monkeypatch.setattr(compiling, "is_watched", lambda: True)
    monkeypatch.setattr(compiling, "_shown", [])

    def step(x: Any) -> Any:
        compiling.show("compiling loop, function 2")
        progress._bar.refresh()
        compiling.clear()
        return ab.sum(model(ab.tensor(x)))

    progress = Progress(lambda line: None)
    model = ab.nn.Linear(1, 1)
    batches = ab.data.minibatches([np.ones(1)] * 6, batch_size=2)
    ab.train.fit(model, batches, ab.optim.SGD(model.parameters(), lr=0.1), 1, loss=step, callbacks=[progress])
    text = drawn.getvalue()
    assert "compiling loop, function 2" in text and "/100" not in text
    assert text.count("\n") == 1  # where the bar ends
    assert compiling.bars == []


def test_no_bar_is_drawn_where_the_cursor_cannot_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    rich = pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "dumb")
    console = pytest.importorskip("rich.console").Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr(rich, "get_console", lambda: console)
    progress = Progress()
    progress.on_start(run())
    assert progress._bar is None


def test_a_line_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "log").open("w") as log:
        monkeypatch.setattr(sys, "stdout", log)
        Progress().on_epoch(run(history=[{**HISTORY[0]}]))
        assert (tmp_path / "log").read_text().startswith("epoch 1/2  loss 2.000")


def test_the_accuracy_of_rows_and_of_wholes() -> None:
    rows = accuracy(lambda labels: labels)
    assert rows([[0, 0, 2], [0]], [np.eye(3), np.eye(3)[[1]]]) == {"accuracy": (2, 4)}
    assert accuracy(lambda label: label)([1, 0], [np.eye(3)[1], np.eye(3)[2]]) == {"accuracy": (1, 2)}
    assert rows([], []) == {"accuracy": (0, 0)}


@pytest.mark.parametrize(
    ("labels", "logits", "text"),
    [
        (lambda x: 1, [np.zeros(1)], "one logit is no choice"),
        (lambda x: 1, [np.array(0.5)], "one logit is no choice"),
        (lambda x: 1, [np.zeros((3, 2))], "not as many as rows of logits\n  expected 3, got 1"),
        (lambda x: [1, 0], [np.zeros(2)], "not as many as rows of logits\n  expected 1, got 2"),
    ],
)
def test_accuracy_of_what_has_none_is_an_error(labels: Any, logits: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        accuracy(labels)(["example"], logits)


def test_a_picture_that_cannot_be_drawn_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")

    def broken(*_: Any) -> bytes:
        raise ValueError("no such backend")

    monkeypatch.setattr("autobatch.train.curve.picture", broken)
    curve = Curve(tmp_path)
    curve.on_epoch(run())
    (tmp_path / "curve.png").touch()  # that of earlier epochs
    with pytest.warns(RuntimeWarning, match="matplotlib draws no picture: no such backend"):
        curve.on_end(run())
    assert curve.shown.read_text().startswith("epoch,loss")
