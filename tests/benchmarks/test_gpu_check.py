"""The check on a GPU without a GPU: its processes, what is kept of them, its parts on the stand-in, and its verdict."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu import (
    check,
    command,
    earlier,
    idle,
    jobs,
    outcomes,
    parts,
    place,
    results,
    smoke,
    steps,
    verdict,
    where,
)
from benchmarks.gpu.jobs import Job, run_jobs
from benchmarks.gpu.results import RUINED, Results
from benchmarks.gpu.timeline import kinds, spans, watched
from benchmarks.workload import CELLS, CELLS_REUSED
from tests.stand_in import kernels
from tests.stand_in.device import StandIn

ROOT = Path(__file__).parent.parent.parent
on_the_stand_in = pytest.mark.skipif(bool(kernels.MISSING), reason=kernels.MISSING)


# What is kept.


def test_lines_are_kept_at_once_and_read_in_order(tmp_path: Path) -> None:
    kept = Results(tmp_path / "a.jsonl")
    assert kept.lines() == []
    kept.add("a", begun=True)
    kept.add("b", begun=True)
    kept.add("a", ok=True, text="x" * 10_000)
    with kept.path.open("a") as file:
        file.write('{"name": "broken')
    assert [line["name"] for line in kept.lines()] == ["a", "b", "a"]
    assert len(kept.outcomes()["a"]["text"]) < 7000 and kept.lost() == ["b"]


def test_a_file_that_is_full_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MOST_BYTES", 100)
    kept = Results(tmp_path / "a.jsonl")
    for k in range(10):
        kept.add(f"name {k}", ok=True)
    assert 50 < kept.path.stat().st_size <= 100


def test_what_was_begun_before_is_not_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    Results(path).measure("a", lambda: {"x": 1})
    Results(path).measure("a", lambda: pytest.fail("again"))
    Results(path).measure("b", lambda: {"x": 1 / 0})
    found = Results(path).outcomes()
    assert (found["a"]["x"], found["b"]["ok"]) == (1, False)
    assert found["b"]["error"] == "ZeroDivisionError: division by zero" and "Traceback" in found["b"]["traceback"]


def test_a_process_leaves_when_a_kernel_faulted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr("os._exit", left.append)

    def fault() -> None:
        raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered")

    Results(tmp_path / "a.jsonl").measure("a", fault)
    assert left == [RUINED]


def test_what_takes_too_long_ends_its_process(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    code = "import pathlib, sys, time; from benchmarks.gpu.results import Results;"
    code += "kept = Results(pathlib.Path(sys.argv[1])); kept.measure('quick', lambda: None, 60.0);"
    code += "kept.measure('slow', lambda: time.sleep(600), 0.5)"
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 1 and b"Timeout" in done.stderr
    assert Results(path).lost() == ["slow"] and Results(path).outcomes()["quick"]["ok"]


# Processes.


def _run(made: list[Job], seconds: float, log: Path, n_slots: int = 2) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    run_jobs(made, n_slots, time.monotonic() + seconds, log, lambda job, how, took: found.append((job.name, how)))
    return found


def _python(name: str, code: str, seconds: float = 60.0, **options: Any) -> Job:
    return Job(name, [sys.executable, "-c", code], seconds, **options)


def test_a_process_that_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    found = _run([_python("hangs", code, 1.0, tries=1), _python("next", "print('here')")], 60.0, tmp_path / "log", 1)
    assert [name for name, _ in found] == ["hangs", "next"]
    assert found[0][1].startswith("killed after") and found[1][1] == "exit 0"
    assert (tmp_path / "log").read_text() == "here\n"


def test_a_process_that_breaks_off_is_started_again(tmp_path: Path) -> None:
    path = tmp_path / "count"
    code = f"import os, pathlib; p = pathlib.Path({str(path)!r}); n = len(p.read_text()) if p.exists() else 0;"
    code += "p.write_text('x' * (n + 1)); os.abort() if n < 2 else os._exit(5)"
    found = _run([_python("breaks", code, complete=(0, 5))], 60.0, tmp_path / "log")
    assert [how for _, how in found] == ["ended by SIGABRT", "ended by SIGABRT", "exit 5"]


def test_nothing_is_started_when_there_is_no_time(tmp_path: Path) -> None:
    assert _run([_python("late", "")], 1.0, tmp_path / "log") == [("late", "not started: no time")]


def test_processes_wait_for_slots_and_variables_are_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKEN_AWAY", "1")
    code = "import os, time; print(os.environ['GIVEN'], 'TAKEN_AWAY' in os.environ, os.getcwd())"
    made = [_python(f"{k}", code, slots=9, environment={"GIVEN": f"{k}", "TAKEN_AWAY": None}) for k in range(2)]
    for job in made:
        job.folder = tmp_path
    assert _run(made, 60.0, tmp_path / "log") == [("0", "exit 0"), ("1", "exit 0")]
    assert (tmp_path / "log").read_text() == f"0 False {tmp_path}\n1 False {tmp_path}\n"


def test_processes_that_run_are_killed_when_the_check_is(tmp_path: Path) -> None:
    def note(job: Job, how: str, took: float) -> None:
        raise KeyboardInterrupt

    made = [_python("ends", ""), _python("runs", "import time; time.sleep(600)")]
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_jobs(made, 2, start + 300, tmp_path / "log", note)
    assert time.monotonic() - start < 60


def test_a_process_that_does_not_die_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(timeout: float) -> None:
        raise subprocess.TimeoutExpired("x", timeout)

    monkeypatch.setattr("os.killpg", lambda number, sign: None)
    jobs._kill(SimpleNamespace(pid=1, wait=wait))


# The plugin of pytest.


TESTS = """
import os
import pytest

def test_passes(): pass
def test_fails(): assert 1 == 2, "CUDA_ERROR_LAUNCH_FAILED" if os.environ.get("RUINS") else "no"
def test_is_skipped(): pytest.skip("why")
@pytest.fixture
def broken(): raise ValueError("broken")
def test_has_no_fixture(broken): pass
"""


@pytest.mark.parametrize("workers", [[], ["-n", "2"]])
def test_outcomes_of_tests_are_kept_and_a_session_goes_on(
    tmp_path: Path, workers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if workers:
        pytest.importorskip("xdist")
    (tmp_path / "test_few.py").write_text(TESTS, "utf-8")
    (tmp_path / "test_none.py").write_text("import nothing_at_all\n", "utf-8")
    kept = tmp_path / "kept.jsonl"
    monkeypatch.setenv(outcomes.VARIABLE, str(kept))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    if not workers:
        monkeypatch.setenv("RUINS", "1")
    command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "-p", "no:cacheprovider", "--rootdir", "."]
    command += ["-p", "benchmarks.gpu.outcomes", "--continue-on-collection-errors", *workers]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=300, check=False)
    assert first.returncode == (1 if workers else RUINED), first.stdout.decode()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=300, check=False)
    assert again.returncode == (1 if not workers else again.returncode), again.stdout.decode()
    found = {name: line["outcome"] for name, line in Results(kept).outcomes().items()}
    assert found.pop("test_none.py (collection)") == "failed"
    assert found == {
        "test_few.py::test_passes": "passed",
        "test_few.py::test_fails": "failed",
        "test_few.py::test_is_skipped": "skipped",
        "test_few.py::test_has_no_fixture": "failed",
    }
    assert len([line for line in Results(kept).lines() if line.get("begun")]) == 4


def test_a_worker_leaves_and_the_session_that_reports_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr("os._exit", left.append)
    text = "cudaErrorIllegalAddress"
    report: Any = SimpleNamespace(
        passed=False, failed=True, when="call", longreprtext=text, outcome="failed", nodeid="a", duration=0.0
    )
    for reports, runs, expected in ((True, False, []), (False, True, [RUINED])):
        plugin = outcomes.Outcomes(Results(tmp_path / "a.jsonl"), reports, runs)
        plugin.pytest_runtest_logstart("a")
        plugin.pytest_runtest_logreport(report)
        plugin.pytest_runtest_logfinish()
        assert left == expected
    assert len(Results(tmp_path / "a.jsonl").lines()) == 2


# Parts.


@on_the_stand_in
def test_steps_of_a_workload_timeline_and_memory(tmp_path: Path) -> None:
    kept = tmp_path / "steps.jsonl"
    assert parts.main(["steps", "--rehearse", "--out", str(kept), "--workload", "treelstm"]) == 0
    found = Results(kept).outcomes()
    assert all(line["ok"] for line in found.values()), found
    at = "treelstm, dim 6, batch 2"
    assert found[f"out of memory: {at}"]["works"]
    timeline = found[f"timeline: {at}"]
    assert timeline["held"]["calls"] == timeline["free"]["calls"] > 50
    assert any(kind["name"].startswith("gemm ") and kind["TFLOP/s"] > 0 for kind in timeline["kinds"])
    assert any(name == "compose_forward_loop0" for name, *_ in timeline["free"]["each"])
    assert {growth["grown"] for growth in found[f"growth: {at}"].values() if isinstance(growth, dict)} == {0}
    assert "launches on the device" in found[f"profile: {at}"][CELLS_REUSED]
    cell = found[f"cell: {at}"]["cell"]
    assert set(cell["stages"]) == {CELLS, CELLS_REUSED} and len(cell["floors"]) == 3 and not cell["skipped"]


@on_the_stand_in
def test_small_programs_run_and_a_wrong_one_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = dict(smoke.checks())
    assert "README" in every and sum(name.startswith("op tanh") for name in every) > 1
    few = [(name, every[name]) for name in every if name in ("README", "gradients of mlp", "steps of mlp, reused")]
    few += [item for item in every.items() if item[0].startswith("op tanh")][:2]
    monkeypatch.setattr(smoke, "checks", lambda: few)
    kept = tmp_path / "smoke.jsonl"
    assert parts.main(["smoke", "--rehearse", "--out", str(kept), "--shard", "0/1"]) == 0
    found = Results(kept)
    assert len(found.outcomes()) == len(few) and all(line["ok"] for line in found.outcomes().values())


def test_parts_say_that_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert parts.main(["cell", "--out", str(tmp_path / "a.jsonl")]) == parts.NO_DEVICE
    assert "CuPy is not installed" in Results(tmp_path / "a.jsonl").outcomes()["device"]["error"]


def test_numbers_that_differ_are_found() -> None:
    smoke.near([1.0, 2.0], [1.0, 2.0001], "same")
    for found, said in (([1.0, 2.1], "differs by 0.1"), ([np.nan, 2.0], "1 of 2 numbers"), ([1.0], "shape")):
        with pytest.raises(AssertionError, match=said):
            smoke.near(found, [1.0, 2.0], "x")


@on_the_stand_in
def test_the_machine_is_described_whatever_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho a GPU\n", "utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert parts.main(["machine", "--rehearse", "--out", str(tmp_path / "machine.jsonl")]) == 0
    found = Results(tmp_path / "machine.jsonl").outcomes()
    assert found["nvidia-smi"]["said"] == "a GPU\n" and found["place"]["came back"] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert found["host without a device: bilstm"]["launches"] > 30


def test_calls_that_are_watched() -> None:
    class Clock:
        now = 0.0

        def mark(self) -> float:
            self.now += 1e-3
            return self.now

        def milliseconds(self, start: float, end: float) -> float:
            return end - start

    device: Any = watched(StandIn)
    device.zero(0, 0)
    assert device.calls == []
    device.clock = clock = Clock()
    device.zero(0, 0)
    memory = device.upload(np.zeros(64))
    at = memory.data.ptr
    device.gemm((2, 3, 4), (at, 3, False, 0), (at, 4, False, 0), (at, 4, 0), np.float64, False)
    device.gemm((1, 1, 1), (at, 1, False, 1), (at, 1, False, 1), (at, 1, 1), np.float64, False, 2)
    calls: list[Any] = device.calls
    assert [call.name for call in calls] == ["zero", "upload", "gemm 2x3x4", "2 gemm 1x1x1"]
    found = spans(calls, clock)
    assert (found["calls"], found["whole"], found["busy"], found["gaps"]) == (4, 7.0, 4.0, 3.0)
    assert spans([], clock) == {"calls": 0}
    rates = {kind["name"]: kind["TFLOP/s"] for kind in kinds(calls, clock)}
    assert rates["gemm 2x3x4"] == pytest.approx(48e-6) and rates["zero"] is None


@on_the_stand_in
def test_steps_are_measured_where_a_copy_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bandwidth(*arguments: Any) -> float:
        raise RuntimeError("no copy")

    monkeypatch.setattr(steps, "bandwidth", bandwidth)
    kept = tmp_path / "grid.jsonl"
    assert parts.main(["cell", "--rehearse", "--out", str(kept), "--workload", "treelstm"]) == 0
    found = Results(kept).outcomes()
    assert found["copy"]["error"] == "RuntimeError: no copy" and found["cell: treelstm, dim 6, batch 2"]["ok"]


def test_memory_of_the_pool_is_limited() -> None:
    said: list[Any] = []
    pool = SimpleNamespace(
        used_bytes=lambda: 100,
        free_all_blocks=lambda: said.append("freed"),
        set_limit=lambda size: said.append(size),
    )
    memory = where.PoolMemory(pool)
    memory.limit(11)
    memory.limit(None)
    assert memory.used() == 100 and said == ["freed", 111, "freed", 0]


def test_nothing_is_raised_where_memory_does_not_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plenty:
        def used(self) -> int:
            return 0

        def limit(self, n_bytes: int | None) -> None:
            """Has no effect."""

    there: Any = SimpleNamespace(memory=Plenty(), sizes=where.REHEARSED)
    workload = steps.load("mlp")
    found = steps.out_of_memory(there, workload, 6, [workload.examples()[:2]])
    assert (found["error"], found["works"]) == ("", False)


# On a GPU that is not there.


class _Event:
    def __init__(self) -> None:
        self.at = 0.0

    def record(self) -> None:
        self.at = 7.0


def _cupy(**more: Any) -> Any:
    runtime = SimpleNamespace(
        getDeviceCount=lambda: 1,
        getDeviceProperties=lambda number: {"name": b"a GPU", "totalGlobalMem": 1 << 30, "multiProcessorCount": 3},
        runtimeGetVersion=lambda: 13000,
        driverGetVersion=lambda: 13010,
    )
    device = SimpleNamespace(id=0, cublas_handle=5, attributes={"ClockRate": 1000}, synchronize=lambda: None)
    cublas = SimpleNamespace(getVersion=lambda handle: 130000 + handle)
    nvrtc = SimpleNamespace(getVersion=lambda: (13, 0))
    cuda = SimpleNamespace(
        runtime=runtime, Device=lambda: device, cublas=cublas, nvrtc=nvrtc, Event=_Event,
        get_elapsed_time=lambda start, end: end.at - start.at + 1.5,
    )  # fmt: skip
    return SimpleNamespace(cuda=cuda, __version__="14.0", get_default_memory_pool=lambda: "a pool", **more)


def test_the_clock_of_the_device_and_its_description(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[Any] = []
    monkeypatch.setattr(
        place, "require_cupy", lambda: _cupy(RawKernel=lambda source, name: lambda *arguments: held.append(arguments))
    )
    found = place.gpu()
    assert found.about["gpu"] == "a GPU, 1 GiB, 3 multiprocessors"
    assert found.about["cuda"] == "runtime 13000, driver 13010, cuBLAS 130005"
    assert place._said(place._card, None).startswith("unknown (AttributeError")
    clock = found.clock
    assert clock.milliseconds(clock.mark(), clock.mark()) == 1.5
    clock.hold(2.0)
    clock.synchronize()
    assert held == [((1,), (1,), (2000,))]


def test_the_gpu_is_the_device_of_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _cupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr(where, "gpu", lambda: "a place")
    monkeypatch.setattr(where, "current_device", lambda: "a device")
    monkeypatch.setattr("autobatch.backend", lambda name: contextlib.nullcontext())
    with where.on_the_device(False) as there:
        assert there.place == "a place" and there.sizes is where.FULL  # type: ignore[comparison-overlap]


# The check and its verdict.


def _filled(folder: Path) -> None:
    program = {"void": "", "failed": "", "losses": [], "step": 4.0, "host": 1.0, "device": 3.0}
    cell = {"workload": "treelstm", "dim": 256, "batch": 256, "floors": {}, "skipped": {"floors": "none"}}
    cell |= {"programs": {CELLS_REUSED: program}, "stages": {}}
    Results(folder / "machine.jsonl").add("host", ok=True, cpu="a CPU")
    smoke_lines = Results(folder / "smoke.jsonl")
    smoke_lines.add("op a", ok=True)
    smoke_lines.add("op b", ok=False, error="ValueError: no")
    tests = Results(folder / "tests.jsonl")
    tests.add("t::a", outcome="passed")
    for k in range(verdict.MOST_FAILURES + 1):
        tests.add(f"t::{k}", outcome="failed", traceback="def test():\nE  ValueError: wrong\n")
    tests.add("t::hangs", begun=True)
    tests.add("other::runs", begun=True)
    tests.add("process: t", how="ended by SIGSEGV", seconds=3.0)
    tests.add("process: other", how="killed after 75 s", seconds=75.0)
    made = Results(folder / "steps.jsonl")
    made.add("so far: treelstm", ok=True, cell={**cell, "programs": {}})
    made.add("cell: treelstm", ok=True, cell=cell)
    made.add("growth: treelstm", ok=True, seconds=1.0, **{CELLS: {"steps": 1000, "grown": 512}})
    made.add("out of memory: treelstm", ok=True, works=True, error="", before=1.0, after=1.0)
    kind = {"name": "product", "calls": 1, "microseconds": 2.0, "TFLOP/s": 3.0}
    one = {"calls": 1, "whole": 2.0, "busy": 2.0, "gaps": 0.0, "longest gaps": [], "each": []}
    made.add("timeline: treelstm", ok=True, free={"calls": 0}, held=one, kinds=[kind, {**kind, "TFLOP/s": None}])
    broken = {"void": "", "failed": "ValueError: no", "losses": []}
    Results(folder / "earlier.jsonl").add("graphs: bilstm", ok=True, cell={**cell, "programs": {"a": broken}})


def test_the_verdict_has_bars_failures_and_tables(tmp_path: Path) -> None:
    assert not verdict.is_good(tmp_path / "nothing") or "of 0" in verdict.summary(tmp_path)
    _filled(tmp_path)
    text = verdict.summary(tmp_path)
    for line in (
        f"| tests that fail on the device |  | {verdict.MOST_FAILURES + 2}.00 | ≤ 0 | **not met** |",
        "| small programs that differ from NumPy |  | 1.00 | ≤ 0 | **not met** |",
        "| trees a second, reused | treelstm, dim 256, batch 256 | 64,000.00 | ≥ 20000 | met |",
        f"| bytes that memory grows: {CELLS} | treelstm, 1000 steps | 512.00 | ≤ 0 | **not met** |",
        "| out of memory: a clear error, and goes on | treelstm | 1.00 | ≥ 1 | met |",
        "* host: cpu a CPU",
        "1 passed, 1 failed, 0 lost, 0 cut off",
        "* FAILED op b: ValueError: no",
        "* FAILED t::0: ValueError: wrong",
        "* and 2 more",
        f"1 passed, {verdict.MOST_FAILURES + 1} failed, 1 lost, 1 cut off",
        "* process t: ended by SIGSEGV (3.0 s)",
        "* process other: killed after 75 s (75.0 s)",
        "  * product: 1 calls, 2.0 µs, 3.00 TFLOP/s",
        "* graphs: bilstm: a: no figures ValueError: no",
        "* out of memory: treelstm: nothing was raised; loss 1.0, then 1.0",
        f"| {CELLS_REUSED} | 4.000 | nan | 64,000 | 1.000 | 3.000 |  |",
    ):
        assert line in text, text
    assert not verdict.is_good(tmp_path)


def test_the_whole_check_with_parts_that_do_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    commands: list[list[str]] = []

    def run(made: list[Job], n_slots: int, end: float, log: Path, note: Callable[..., None]) -> None:
        for job in made:
            commands.append(list(job.command))
            note(job, "exit 0", 0.1)

    monkeypatch.setattr(check, "run_jobs", run)
    monkeypatch.setattr(check, "unpacked", lambda folder: folder)
    arguments = ["--check", "--rehearse", "--out", str(tmp_path / "out")]
    assert command.main(arguments) == 0
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == sorted(["summary.md", *(f"{part}.jsonl" for part in verdict.PARTS)])  # and log.txt: eight files
    assert "tests that fail on the device" in capsys.readouterr().out
    given = [" ".join(words) for words in commands]
    assert sum("--shard" in words for words in given) >= 2 and sum("-m pytest" in words for words in given) == 3
    assert sum("--option" in words for words in given) == 1 + len(earlier.OPTIONS)

    def fails(*arguments: Any) -> None:
        raise OSError("no more processes")

    def fails_to_unpack(folder: Path) -> Path:
        raise RuntimeError("no such commit")

    monkeypatch.setattr(check, "run_jobs", fails)
    monkeypatch.setattr(check, "unpacked", fails_to_unpack)
    assert command.main(["--check", "--out", str(tmp_path / "out")]) == 1
    assert "* FAILED part: OSError: no more processes" in (tmp_path / "out" / "summary.md").read_text("utf-8")


def test_a_tree_that_is_not_there_is_refused(tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        command.main(["--check", "--out", str(tmp_path), "--other", str(tmp_path)])
    assert "this is not the tree of a commit" in capsys.readouterr().err


def test_the_tests_that_run_are_there() -> None:
    found = check.files_of_tests()
    assert found[0] == "tests/ops/test_declared_ops.py" and set(check.LARGE) <= set(found)
    assert {f"tests/{folder}" for folder in check.FOLDERS} <= {"/".join(name.split("/")[:2]) for name in found}
    assert all(list((ROOT / "tests").rglob(f"test_{name}.py")) for name in check.OF_THE_HOST)
    assert all((ROOT / path).exists() for path in (*found, *check.FEW))


def test_caches_go_where_they_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("AUTOBATCH_CACHE_DIR", str(tmp_path / "a" / "b"))
    monkeypatch.setenv("CUPY_CACHE_DIR", "/proc/cupy")
    monkeypatch.setattr("os.access", lambda path, mode: not str(path).startswith("/proc"))
    found = check.writable_caches(tmp_path / "scratch")
    assert (
        found["CUPY_CACHE_DIR"] == str(tmp_path / "scratch" / "CUPY_CACHE_DIR") and "AUTOBATCH_CACHE_DIR" not in found
    )


def test_the_earlier_tree_comes_from_git_or_it_is_said_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        done = subprocess.run(["git", "-C", str(tmp_path), *author, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    monkeypatch.setattr(check, "ROOT", tmp_path)
    with pytest.raises(RuntimeError, match="hand the tree over by --other"):
        check.unpacked(tmp_path / "none")
    git("init", "-q")
    (tmp_path / "file").write_text("then", "utf-8")
    git("add", "file")
    git("commit", "-q", "-m", "then")
    monkeypatch.setattr(earlier, "COMMIT", git("rev-parse", "HEAD"))
    for _ in range(2):
        assert (check.unpacked(tmp_path / "tree") / "file").read_text("utf-8") == "then"


@on_the_stand_in
def test_an_option_is_measured_by_another_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(earlier, "WORKLOADS", ("treelstm",))
    kept = tmp_path / "earlier.jsonl"
    assert earlier.main(["--out", str(kept), "--option", "graphs", "--rehearse"]) == 0
    line = json.loads(kept.read_text("utf-8").splitlines()[-1])
    assert line["ok"] and CELLS_REUSED in line["cell"]["programs"]
    warmed: list[Any] = []
    monkeypatch.setattr(idle, "host_times", lambda *arguments, **more: warmed.append(arguments), raising=False)
    assert earlier.main(["--out", str(kept), "--option", earlier.WARMED]) == 0
    assert warmed == [("treelstm", 6, 2)]


def test_an_earlier_tree_runs_on_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "gpu", lambda: "a place")
    monkeypatch.setattr("autobatch.backend", lambda name: contextlib.nullcontext())
    with earlier._place(False) as there:
        assert there == "a place"
