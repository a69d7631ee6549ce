"""Loops compiled in other processes: what is compiled is what is called, and nothing depends on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.compile import cache, kernel, workers
from autobatch.compile.workers import Task, Team


@pytest.fixture(autouse=True)
def nothing_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, kernels that are not known yet, and workers from the first loop on."""
    monkeypatch.setenv("AUTOBATCH_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setattr(cache, "_loaded", {})
    monkeypatch.setattr(kernel, "_kernels", {})
    monkeypatch.setattr(workers, "_announced", [])
    monkeypatch.setattr(workers, "MANY", 1)
    monkeypatch.setattr(workers, "n_cores", lambda: 2)


def gradients(batched: bool = True) -> list[Any]:
    """Loss and gradients of a small recurrent program with rows, numbers, lists and a table."""
    rng = np.random.default_rng(0)
    table, w = ab.Parameter(rng.normal(size=(5, 4))), ab.Parameter(rng.normal(size=(4, 4)))

    @ab.cell
    def step(h: Any, index: int, scale: float, others: list[Any]) -> Any:
        return ab.tanh(h @ w + table[index] * scale) + ab.sum(others, like=h) / (1.0 + ab.exp(h))

    def loss(example: list[int]) -> Any:
        h, seen = table[example[0]], []
        for k in example:
            h = step(h, k, 0.5 * k, seen[-2:])
            seen.append(h)
        return ab.cross_entropy(h, example[0] % 4)

    total = ab.sum(ab.map(loss, [[1, 2, 3], [4], [0, 2]], batched=batched))
    total.backward()
    return [total.numpy(), ab.evaluate(w.grad), table.grad.to_dense()]


def assert_small_program_is_right() -> None:
    table = ab.Parameter(np.ones((3, 2)))

    @ab.cell
    def word(index: int) -> Any:
        return ab.sum(ab.exp(table[index]) * index)

    assert [round(float(x), 3) for x in ab.map(word, [0, 1, 2])] == [0.0, 5.437, 10.873]


def loops() -> Iterator[Any]:
    for found in kernel._kernels.values():
        for program in found.on_host._programs.values():
            yield from (loop for loop, _ in program.loops)


def test_what_workers_compile_is_what_is_called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workers, "take", lambda folder, number: False)  # all is left to the worker
    for value, expected in zip(gradients(), gradients(batched=False), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    called = {id(loop): loop for loop in loops() if loop.signatures}.values()
    assert len(called) > 5
    for loop in called:
        assert sum(loop.stats.cache_hits.values()) == 1 and not loop.stats.cache_misses, loop.py_func
    line = capsys.readouterr().err
    assert "loops of" in line and "step" in line and "in 2 processes" in line


def test_a_worker_that_does_nothing_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_START", "raise SystemExit(1)")
    assert_small_program_is_right()


def test_an_interpreter_that_cannot_be_started_is_not_missed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert_small_program_is_right()


def test_one_core_and_few_loops_start_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "Team", None)  # cannot be called
    monkeypatch.setattr(workers, "n_cores", lambda: 1)
    assert_small_program_is_right()
    monkeypatch.setattr(kernel, "_kernels", {})
    monkeypatch.setattr(workers, "n_cores", lambda: 2)
    monkeypatch.setattr(workers, "MANY", 1000)
    assert_small_program_is_right()


def tasks(n: int) -> list[Task]:
    """Loops that take a while."""
    head = "from math import tanh\n\nfrom autobatch.jit import njit\n\n\n@njit\ndef loop(n, x):\n"
    texts = [f"{head}    for i in range(n):\n        x[i] = tanh(x[i]) + {k}\n" for k in range(n)]
    return [Task("loop", "int float64:1", text) for text in texts]


def test_a_team_that_is_stopped_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    with Team(tasks(20), 2, str(tmp_path)) as team:
        processes, folder = list(team.workers), team.folder
        assert len(processes) == 2 and folder is not None
    assert all(process.returncode is not None for process in processes)
    assert not Path(folder.name).exists()


def test_a_worker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    with Team(tasks(40), 1, str(tmp_path)) as team:
        worker = team.workers[0]
        assert worker.stdin is not None
        worker.stdin.close()
        assert worker.wait(30) == 1
        assert team.folder is not None and not Path(team.folder.name).exists()
