"""`python -m benchmarks gpu --check --out FOLDER`: all that is to be known of the library on a GPU, in nine minutes.

In order: what the machine is; small programs beside NumPy; the tests, on "cupy"; training steps of a Tree-LSTM and a
BiLSTM beside PyTorch, with a timeline, and memory over many steps; more widths and batch sizes; and options of an
earlier commit. Each part has its time and is a process or several: one that hangs, crashes or ruins the device is
started again behind the point where it broke off, as long as its part has time. What is found is written at once.

    FOLDER/summary.md     bars, tables, failures: written again after each part
    FOLDER/log.txt        what the processes printed
    FOLDER/PART.jsonl     everything, a line each: machine, smoke, tests, steps, grid, earlier

Nothing is installed or downloaded; caches are kept in a temporary folder where the usual ones cannot be written.
`--rehearse` does the same without a GPU, on the stand-in of the tests and with small models: figures mean nothing then.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu import earlier
from benchmarks.gpu.jobs import Job, run_jobs
from benchmarks.gpu.outcomes import VARIABLE
from benchmarks.gpu.parts import NO_DEVICE
from benchmarks.gpu.report import table_of_bars
from benchmarks.gpu.results import Results
from benchmarks.gpu.verdict import PARTS, all_bars, is_good, summary

ROOT = Path(__file__).parent.parent.parent
SHARES = {"machine": 0.08, "smoke": 0.15, "tests": 0.31, "steps": 0.24, "earlier": 0.15}
"""Of the time, at most. What a part does not need goes to `grid`, which has what is left before `earlier`."""

WORKLOADS = ("treelstm", "bilstm")
GRID = (
    ("treelstm", 512, 256), ("bilstm", 512, 256), ("lm", 256, 256), ("treelstm", 256, 64), ("bilstm", 256, 64),
    ("bilstm", 1024, 256), ("treelstm", 1024, 256), ("treelstm", 256, 1), ("bilstm", 256, 1), ("treelstm", 128, 256),
    ("lm", 512, 256), ("lm", 256, 64), ("bilstm", 512, 64), ("treelstm", 512, 64), ("treelstm", 256, 16),
)  # fmt: skip
"""Those of the bars first."""

FOLDERS = (
    "engine", "expand", "explain", "map", "models", "nn", "ops", "optim", "parity", "programs", "record", "run",
)  # fmt: skip
OF_THE_HOST = (
    "dropped_models", "explain", "first_writes", "guard", "interrupted_recordings", "interrupts", "one_by_one", "repr",
)  # fmt: skip
"""Left out of the folders: what has nothing to do with where kernels run."""

LARGE = {
    "tests/ops/test_declared_ops.py": 6,
    "tests/programs/test_random_programs.py": 3,
    "tests/programs/test_empty.py": 3,
    "tests/programs/test_joined_programs.py": 2,
    "tests/ops/test_dtypes.py": 2,
}
"""Files of tests that run in several processes, first."""

FEW = ("tests/programs/test_fixed_programs.py", "tests/optim/test_clip.py", "tests/nn/test_matrices.py")
PINNED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
STEP_SECONDS, CELL_SECONDS, SPARE_SECONDS = 75.0, 50.0, 8.0


class Check:
    """One run: its folder, its time, and where caches are."""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self.out: Path = options.out.resolve()
        self.rehearse: bool = options.rehearse
        self.other: Path | None = options.other
        self.scratch = scratch
        self.seconds = 60.0 * options.minutes
        self.start = time.monotonic()
        self.end = self.start + self.seconds - SPARE_SECONDS
        self.n_slots = max(2, len(os.sched_getaffinity(0)) - 1)
        self.python = [sys.executable]
        self.environment = writable_caches(scratch)

    def run(self) -> bool:
        """All parts; whether all that was found is good."""
        self.out.mkdir(parents=True, exist_ok=True)
        for name in ("summary.md", "log.txt", *(f"{part}.jsonl" for part in PARTS)):
            (self.out / name).unlink(missing_ok=True)
        for part in PARTS:
            now = time.monotonic()
            until = self.end - SHARES["earlier"] * self.seconds
            if part in SHARES:
                until = min(self.end, now + SHARES[part] * self.seconds)
            print(f"{now - self.start:5.0f} s  {part}", flush=True)
            try:
                self._part(part, until)
            except Exception as error:
                Results(self.out / f"{part}.jsonl").add("part", ok=False, error=f"{type(error).__name__}: {error}")
            (self.out / "summary.md").write_text(summary(self.out), "utf-8")
        print(f"{time.monotonic() - self.start:5.0f} s  done\n\n{summary(self.out)}")
        print("\n".join(table_of_bars(all_bars(self.out))))  # at the end, too: only that may be seen
        return is_good(self.out)

    def _part(self, part: str, until: float) -> None:
        results = Results(self.out / f"{part}.jsonl")

        def note(job: Job, how: str, seconds: float) -> None:
            results.add(f"process: {job.name}", how=how, seconds=round(seconds, 1))

        make = {
            "machine": lambda: [self._own("machine", 40.0), *self._warmed()],
            "smoke": self._smoke,
            "tests": self._tests,
            "steps": lambda: [self._steps("steps", name, 256, 256, STEP_SECONDS) for name in WORKLOADS],
            "grid": lambda: [self._steps("cell", *cell, CELL_SECONDS, "grid") for cell in self._grid()],
            "earlier": self._earlier,
        }[part]
        run_jobs(make(), self.n_slots, until, self.out / "log.txt", note)

    def _own(self, part: str, seconds: float, *more: str, slots: int = 1, file: str = "", tries: int = 5) -> Job:
        command = [*self.python, "-m", "benchmarks.gpu.parts", part, "--out", str(self.out / f"{file or part}.jsonl")]
        command += [*more, *(["--rehearse"] if self.rehearse else [])]
        name = f"{part} {' '.join(more)}".strip()
        return Job(name, command, seconds, slots, (0, NO_DEVICE), self.environment, ROOT, tries)

    def _smoke(self) -> list[Job]:
        n = min(self.n_slots, 12)
        return [self._own("smoke", self.seconds, "--shard", f"{k}/{n}") for k in range(n)]

    def _steps(self, part: str, name: str, dim: int, batch: int, seconds: float, file: str = "") -> Job:
        """Alone on the machine, as whatever is timed."""
        where = ("--workload", name, "--dim", str(dim), "--batch", str(batch))
        tries = 3 if part == "steps" else 1
        return self._own(part, seconds, *where, slots=self.n_slots, file=file, tries=tries)

    def _grid(self) -> Sequence[tuple[str, int, int]]:
        return GRID[:2] if self.rehearse else GRID

    def _tests(self) -> list[Job]:
        found = FEW if self.rehearse else files_of_tests()
        environment = {**self.environment, **dict.fromkeys(PINNED), VARIABLE: str(self.out / "tests.jsonl")}
        backend = "stand-in" if self.rehearse else "cupy"
        jobs = []
        for path in found:
            n = 2 if self.rehearse and path == FEW[0] else LARGE.get(path, 1)
            n = n if importlib.util.find_spec("xdist") else 1
            command = [*self.python, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", "--backend", backend]
            command += ["-p", "benchmarks.gpu.outcomes", "-W", "default:CUDA path could not be detected:UserWarning"]
            command += [*(["-n", str(n)] if n > 1 else []), path]
            # one in which tests failed (1) is started once more: it may have been ended by a test that hung
            jobs.append(Job(path, command, self.seconds, min(n, self.n_slots), (0, 2, 3, 4, 5), environment, ROOT))
        return jobs

    def _warmed(self) -> list[Job]:
        """What compiles the functions of the earlier commit, while there is time; without its tree nothing."""
        try:
            return [self._of_then(earlier.WARMED, 1)]
        except RuntimeError:  # which is raised again when it is measured
            return []

    def _earlier(self) -> list[Job]:
        return [self._of_then(option, self.n_slots) for option in earlier.OPTIONS]

    def _of_then(self, option: str, slots: int) -> Job:
        tree = self.other.resolve() if self.other else unpacked(self.scratch / "earlier")
        environment = {**self.environment, "PYTHONPATH": with_path(tree)}
        script, seconds = str(Path(earlier.__file__).resolve()), SHARES["earlier"] * self.seconds / len(earlier.OPTIONS)
        command = [*self.python, "-P", script, "--out", str(self.out / "earlier.jsonl"), "--option", option]
        command += ["--rehearse"] if self.rehearse else []
        return Job(f"earlier {option}", command, seconds, slots, (0,), environment, tree, 2)


def files_of_tests() -> list[str]:
    """Paths of the tests of the core, the large ones first."""
    found = [path for folder in FOLDERS for path in sorted((ROOT / "tests" / folder).rglob("test_*.py"))]
    found = [path for path in found if path.stem.removeprefix("test_") not in OF_THE_HOST]
    names = [path.relative_to(ROOT).as_posix() for path in (*found, ROOT / "tests" / "test_readme.py")]
    return sorted(names, key=lambda name: -LARGE.get(name, 0))


def with_path(first: Path) -> str:
    """PYTHONPATH with this folder before what is there."""
    return os.pathsep.join([str(first), *filter(None, [os.environ.get("PYTHONPATH")])])


def writable_caches(scratch: Path) -> dict[str, str | None]:
    """Variables for the processes. Caches go to a temporary folder where those that are set, or the usual ones, are
    read-only."""
    found: dict[str, str | None] = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    found["PYTHONPATH"] = with_path(ROOT)
    for variable, usual in {"AUTOBATCH_CACHE_DIR": "~/.cache/autobatch", "CUPY_CACHE_DIR": "~/.cupy"}.items():
        folder = Path(os.environ.get(variable) or os.path.expanduser(usual))
        there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
        if not os.access(there, os.W_OK):
            (scratch / variable).mkdir(mode=0o700, exist_ok=True)
            found[variable] = str(scratch / variable)
    return found


def unpacked(folder: Path) -> Path:
    """The tree of the earlier commit, from this repository. Raises where it is none, or has no such commit."""
    if folder.exists():
        return folder
    command = ["git", "-C", str(ROOT), "archive", earlier.COMMIT]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.decode().strip()}; hand the tree over by --other")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def main(arguments: Sequence[str]) -> int:
    """Check; returns 0 if all was found to be good."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=9.0, help="it ends within these")
    parser.add_argument("--other", type=Path, metavar="FOLDER", help=f"the tree of commit {earlier.COMMIT}")
    parser.add_argument("--rehearse", action="store_true", help="without a GPU")
    options = parser.parse_args(arguments)
    if options.other is not None and not (options.other / "benchmarks" / "gpu").is_dir():
        parser.error(f"--other {options.other}: this is not the tree of a commit")
    with tempfile.TemporaryDirectory(prefix="autobatch-check-", ignore_cleanup_errors=True) as scratch:
        return int(not Check(options, Path(scratch)).run())
