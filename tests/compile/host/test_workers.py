"""Loops compiled in other processes: what is compiled is what is called, and nothing depends on it."""

from __future__ import annotations

import copy
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.base import jit, progress
from autobatch.compile import kernel
from autobatch.compile.host import cache, workers
from autobatch.compile.host.workers import Task, Team


@pytest.fixture(autouse=True)
def nothing_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, kernels that are not known yet, and workers from the first loop on."""
    monkeypatch.setenv("AUTOBATCH_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setattr(cache, "_loaded", {})
    monkeypatch.setattr(kernel, "_kernels", {})
    monkeypatch.setattr(workers, "_asked", [True])
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
        h, seen = table[example[0]], list[Any]()
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
        for program in found._programs.values():
            yield from (loop for loop, _ in program.loops)


def test_what_workers_compile_is_what_is_called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workers, "take", lambda folder, number: False)  # all is left to the worker
    monkeypatch.setattr(progress, "is_watched", lambda: True)
    for value, expected in zip(gradients(), gradients(batched=False), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    called = {id(loop): loop for loop in loops() if loop.signatures}.values()
    assert len(called) > 5
    for loop in called:
        assert sum(loop.stats.cache_hits.values()) == 1 and not loop.stats.cache_misses, loop.py_func
    for function, arguments in jit.BEGUN_EARLY:  # what is compiled early is what is called
        types = jit.argument_types(arguments)
        assert len(types) == function.py_func.__code__.co_argcount, function
        assert not function.signatures or types in function.overloads, function
    assert sum(bool(function.signatures) for function, _ in jit.BEGUN_EARLY) > len(jit.BEGUN_EARLY) // 2
    lines = capsys.readouterr().err
    assert "loops of" in lines and "step" in lines and "in 2 processes" in lines
    assert "\n" not in lines and not lines.split("\r")[-2].strip()  # it is gone


def test_a_worker_begins_with_the_first_parameter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = [
        (jit.njit(f.py_func), types) for f, types in jit.BEGUN_EARLY if f.py_func.__name__ in ("_number", "_rewrite")
    ]
    monkeypatch.setattr(jit, "BEGUN_EARLY", own)
    monkeypatch.setattr(workers, "_asked", [])
    monkeypatch.setattr(workers, "_behind", [])
    monkeypatch.setattr(workers, "_missing_tiles", lambda dtype: [Task("packing", dtype, weight=4)])
    monkeypatch.setattr(workers, "take", lambda folder, number: False)  # all is left to the worker
    ab.Parameter([1.0])
    (team,) = workers._early
    assert len(team.workers) == 1
    assert [task.kind for task in team.tasks] == ["packing", "own", "own"]
    assert_small_program_is_right()
    assert not workers._early and workers._behind == [team]  # which goes on with what nobody waits for
    assert "loop" in {task.kind for task in team.tasks} and not team.wanted
    (worker,) = team.workers
    assert worker.wait(60) == 0
    for function, arguments in own:
        assert (tmp_path / "kernels" / function._cache.name(jit.argument_types(arguments))).exists()
    assert_small_program_is_right()
    assert not workers._behind and not team.workers and team.folder is None
    workers._asked.clear()
    ab.Parameter([1.0])
    assert not workers._early  # what is on disk is not compiled again


COLD = """
import numpy as np
import autobatch as ab
from autobatch.base import jit
from autobatch.compile.host import workers
workers.n_cores = lambda: 2
w = ab.Parameter(np.eye(3))

@ab.cell
def step(h, x):
    return ab.tanh(w @ h) * x

def loss(example):
    h = ab.tensor([1.0, 0.5, 0.25])
    for x in example:
        h = step(h, x)
    return ab.sum(h)

def gradients(**how):
    w.grad = None
    total = ab.sum(ab.map(loss, [[1.0] * n for n in range(1, 30)], **how))
    total.backward()
    return total.numpy(), ab.evaluate(w.grad)

found, expected = gradients(), gradients(batched=False)
assert all(np.allclose(*pair, rtol=1e-5) for pair in zip(found, expected))
assert sum(own.patience < jit.PATIENCE * workers.WAIT for own, _ in jit.BEGUN_EARLY) > 10  # Python ran them
print(workers._behind[0].workers[0].pid)
"""


def test_a_first_step_in_a_process_of_its_own_which_ends_with_the_worker(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "AUTOBATCH_CACHE_DIR": str(tmp_path / "kernels"), "TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run([sys.executable, "-c", COLD], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not os.path.exists(f"/proc/{int(done.stdout)}")
    assert os.listdir(tmp_path / "tmp") == []


def written(x: Any) -> Any:
    """All that there is to know of arrays and numbers, in tuples."""
    if isinstance(x, tuple):
        return tuple(map(written, x))
    return (x.dtype, x.shape, x.tobytes()) if isinstance(x, np.ndarray) else (type(x), x)


def test_python_gives_what_compiled_functions_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """The own functions that a first step calls: results, and what is written to arguments, to the last bit."""
    compiled: Any = jit.CompiledFunction.__base__.__call__
    known = set[str]()

    def both(self: Any, *args: Any) -> Any:
        if not self.early or not self.is_python or not jit._is_little(args):
            return compiled(self, *args)
        copies = copy.deepcopy(args)
        found = self._run_in_python(*copies)
        self.patience = 0.0
        result = compiled(self, *args)
        assert written((result, args)) == written((found, copies)), self.py_func
        known.add(self.py_func.__name__)
        return result

    monkeypatch.setattr(jit.CompiledFunction, "__call__", both)
    for value, expected in zip(gradients(), gradients(batched=False), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    assert len(known) > len(jit.BEGUN_EARLY) * 2 // 3


def test_a_worker_that_does_nothing_is_not_missed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workers, "_START", "raise SystemExit(1)")
    assert_small_program_is_right()
    assert capsys.readouterr().err == ""  # nobody sees it: it is no terminal


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
    head = "from math import tanh\n\nfrom autobatch.base.jit import njit\n\n\n@njit\ndef loop(n, x):\n"
    texts = [f"{head}    for i in range(n):\n        x[i] = tanh(x[i]) + {k}\n" for k in range(n)]
    return [Task("loop", "int float64:1", text) for text in texts]


def test_a_team_that_is_stopped_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    with Team(tasks(20), 2, str(tmp_path)) as team:
        processes, folder = list(team.workers), team.folder
        assert len(processes) == 2 and folder is not None
    assert all(process.returncode is not None for process in processes)
    assert not Path(folder).exists()


def test_a_worker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    with Team(tasks(40), 1, str(tmp_path)) as team:
        worker = team.workers[0]
        assert worker.stdin is not None
        worker.stdin.close()
        assert worker.wait(30) == 1
        assert team.folder is not None and not Path(team.folder).exists()


def finished(team: Team) -> list[float]:
    """What the functions of a team give, compiled by whomever."""
    team.finish()
    assert not team.workers and team.folder is None
    results = []
    for task in team.tasks:
        x = np.zeros(1)
        cache.load(task.source)(1, x)
        results.append(float(x[0]))
    return results


def wait_for_the_first(team: Team) -> None:
    """Until a worker has taken a task."""
    end = time.monotonic() + 60
    assert team.folder is not None
    while len(os.listdir(team.folder)) < 2:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="signals of POSIX")
@pytest.mark.parametrize("what", ["SIGKILL", "SIGTERM", "SIGSTOP"])
def test_workers_that_are_ended_or_stopped_are_not_missed(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "PATIENCE", 1.0)
    with Team(tasks(4), 2, str(tmp_path)) as team:
        assert len(team.workers) == 2
        wait_for_the_first(team)
        for worker in team.workers:
            worker.send_signal(getattr(signal, what))
        processes = list(team.workers)
        assert finished(team) == [0.0, 1.0, 2.0, 3.0]
    assert all(process.returncode is not None for process in processes)


@pytest.mark.parametrize("where", ["tasks", "folder", "kernels"])
def test_a_full_disk_is_not_in_the_way(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if where == "tasks":
            patch.setattr(Path, "write_text", full)
        elif where == "folder":
            patch.setattr("tempfile.mkdtemp", full)
        team = Team(tasks(3), 1, "/proc/no/folder" if where == "kernels" else str(tmp_path))
        assert len(team.workers) == (where == "kernels")
        assert finished(team) == [0.0, 1.0, 2.0]


INTERRUPTED = """
import os, signal, sys, threading, time
import autobatch as ab
from autobatch.compile.host import workers
workers.MANY, workers.n_cores = 1, lambda: 2

class Watched(workers.Team):
    def finish(self):
        if self.workers:
            seen.extend(self.workers)
            threading.Timer(0.3, os.killpg, (0, signal.SIGINT)).start()
        super().finish()
        time.sleep(30 if self is not workers._NOBODY else 0)

seen = []
real, workers.Team = workers.Team, Watched
table = ab.Parameter([[1.0, 2.0], [3.0, 4.0]])

@ab.cell
def word(index):
    return ab.sum(ab.exp(table[index] * 0.1) * index)

try:
    print(sum(map(float, ab.map(word, [0, 1]))))
except BaseException as error:
    print(type(error).__name__)
workers.Team = real
print(len(seen), all(worker.returncode is not None for worker in seen))
print(round(sum(map(float, ab.map(word, [0, 1]))), 3))
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="signals of POSIX")
@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_leaves_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "AUTOBATCH_CACHE_DIR": str(tmp_path / "kernels"), "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, start_new_session=True, check=False)
    assert (done.returncode, done.stdout) == (0, "KeyboardInterrupt\n1 True\n2.842\n"), done.stderr
    assert all(name.endswith(".nbc") for name in os.listdir(tmp_path / "kernels"))
    assert os.listdir(tmp_path / "tmp") == []
