"""Timing of programs that take turns, the machine they ran on, and how results are printed and kept.

Programs run interleaved in one process, step by step on the same minibatches, so that a drift of the machine hits all
alike; medians are over steps. Threads are pinned by `python -m benchmarks` before NumPy is loaded.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h


@dataclass(slots=True)
class Program:
    """One of the compared programs: `step(k)` runs step k and returns its loss, or None if it has none.

    `every`: a program that takes long is timed in every so many rounds only. `warm` is the number of its untimed steps,
    `prime` says that it sees the timed minibatches once before. The rest is filled here: `took` is the last untimed
    step, `failure` what a program raised that cannot run.
    """

    name: str
    step: Callable[[int], float | None]
    every: int = 1
    warm: int = 3
    prime: bool = False
    took: float = 0.0
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    failure: str = ""

    @property
    def milliseconds(self) -> float:
        """The median of the timed steps."""
        return 1e3 * statistics.median(self.seconds)


def warm_up(programs: Sequence[Program], patience: float) -> list[Program]:
    """Run the untimed steps, whose losses are kept. Returns the programs that ran; the others hold their `failure`.

    The first step compiles; a program whose second took longer than `patience` seconds takes no third.
    """
    for program in programs:
        try:
            for k in range(program.warm):
                start = time.perf_counter()
                loss = program.step(k)
                program.took = time.perf_counter() - start
                if loss is not None:
                    program.losses.append(float(loss))
                if k and program.took > patience:
                    break
        except Exception as error:
            program.failure = one_line(error)
    return [program for program in programs if not program.failure]


def one_line(error: BaseException) -> str:
    """What an error is, without the details."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def take_turns(programs: Sequence[Program], first: int, n_steps: int) -> None:
    """Run steps `first` to `first + n_steps`, each program in turn; each round starts with another."""
    for program in programs:
        if program.prime:
            for k in range(n_steps):
                program.step(first + k)
    for k in range(n_steps):
        shift = k % len(programs)
        for program in [*programs[shift:], *programs[:shift]]:
            if k % program.every == 0:
                start = time.perf_counter()
                program.step(first + k)
                program.seconds.append(time.perf_counter() - start)


def keep_freed_memory() -> bool:
    """Let the process keep what it frees; returns whether the C library can do that.

    The C library gives large arrays back to the system. A program that allocates them anew in every step then pays a
    page fault for every 4 KB (a quarter of a step of the language model in PyTorch), and the system still clears up
    while the next program is timed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, -1))


def peak_megabytes() -> float:
    """The largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _blas_kernels() -> str:
    """For which processor NumPy's OpenBLAS runs its kernels, where it can be asked."""
    import threadpoolctl

    found = [pool["architecture"] for pool in threadpoolctl.threadpool_info() if pool["internal_api"] == "openblas"]
    return f", kernels for {found[0]}" if found else ""


def machine() -> dict[str, str]:
    """What the figures depend on."""
    import autobatch as ab

    model = platform.processor() or "unknown"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":")[1].strip() if lines else model
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    versions = []
    for package in ("numpy", "numba", "torch"):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} absent")
    return {
        "cpu": f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "software": ", ".join([f"Python {platform.python_version()}", *versions]),
        "blas": f"{blas['name']} {blas['version']}{_blas_kernels()}",
        "products": ab.products_in_use(),
        "threads": ", ".join(f"{name}={os.environ.get(name, 'unset')}" for name in THREAD_VARIABLES),
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Text in columns: the first left-aligned, the others right-aligned; floats with two decimals, None as a dash."""

    def cell(value: object) -> str:
        return "–" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)

    lines = [list(header), *([cell(value) for value in row] for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    text = []
    for first, *others in lines:
        cells = [value.rjust(width) for value, width in zip(others, widths[1:], strict=True)]
        text.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join([title, text[0], "-" * len(text[0]), *text[1:]])


def save(name: str, result: dict[str, object]) -> Path:
    """Keep a result as JSON in `benchmarks/results`, with the machine; the file is named after benchmark and time."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps({"machine": machine(), **result}, indent=1) + "\n")
    return path
