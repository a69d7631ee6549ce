"""The budgets: `python -m benchmarks budgets` measures what the library costs beyond arithmetic.

Recording an op and a cell call, replaying a node that was recorded before, scheduling and placing a node, one launch,
one launch on a device that does nothing, growth with the number of nodes, what the schedule reaches, and the
first training step of a fresh process with a cold and a warm kernel cache.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import autobatch as ab
from autobatch.record.assemble import assemble
from autobatch.record.tape import state
from autobatch.schedule.place import place
from autobatch.schedule.schedule import lower_bound, schedule
from autobatch.schedule.structures import Tape
from benchmarks.autobatch_trainer import AutobatchTrainer
from benchmarks.gpu.idle import host_time
from benchmarks.treelstm import WORKLOAD
from benchmarks.workload import CELLS, NO_CELLS, minibatches

_OP, _CELL = {"compiled": 0.15, "python": 0.35}, {"compiled": 0.25, "python": 0.5}
"""Microseconds to record an op, and a call of a cell, by each recorder."""

FIRST_STEP = """
import time
start = time.perf_counter()
import autobatch as ab
import benchmarks.autobatch_trainer
import benchmarks.treelstm.program
from benchmarks.treelstm import WORKLOAD
from benchmarks.workload import CELLS, minibatches
imported = time.perf_counter()
program = WORKLOAD.trainers[CELLS](WORKLOAD.parameters(128), 128)
batch = minibatches(WORKLOAD.examples(), 64)[0]
ready = time.perf_counter()
program.step(batch)
print(imported - start + time.perf_counter() - ready)
"""


def _median(action: Callable[[], float], repeat: int = 9) -> float:
    return statistics.median(action() for _ in range(repeat))


@ab.cell
def _two(left: tuple[ab.Tensor, ab.Tensor], right: tuple[ab.Tensor, ab.Tensor]) -> tuple[ab.Tensor, ab.Tensor]:
    return left[0] + right[0], left[1] * right[1]


def _record_op(x: Any, n: int) -> None:
    y = x
    for _ in range(n):
        x = x + y


def _record_cell(x: Any, n: int) -> None:
    y = z = x, x
    for _ in range(n):
        y = _two(y, z)


def _recorded(record: Callable[[Any, int], None], n: int = 20_000) -> float:
    """Seconds for each of n nodes that `record` writes."""

    def once() -> float:
        def program(_: int) -> ab.Tensor:
            x = ab.tensor(np.zeros(4, np.float32))
            start = time.perf_counter()
            record(x, n)
            seconds.append(time.perf_counter() - start)
            return x

        seconds: list[float] = []
        ab.map(program, [0])[0].numpy()  # ends the recording; the rest is read by nobody
        return seconds[0] / n

    return _median(once)


def _forget() -> None:
    """Give up what this thread has recorded and nobody holds."""
    state.tape = None
    gc.collect()


def _plan(examples: int) -> tuple[float, int]:
    """Seconds a node for assemble, schedule and place, on chains of unequal length, and the number of nodes."""
    lengths = np.random.default_rng(0).integers(5, 35, size=examples)

    def program(length: int) -> ab.Tensor:
        x = ab.tensor(np.zeros(4, np.float32))
        for k in range(length):
            x = ab.tanh(x) if k % 3 else x + x
        return x

    results = ab.map(program, lengths.tolist())
    tape = state.tape
    assert tape is not None
    roots = [t._id for t in results]

    def once() -> float:
        start = time.perf_counter()
        arrays = assemble(tape, roots)
        place(arrays, schedule(arrays))
        return time.perf_counter() - start

    arrays = assemble(tape, roots)
    seconds = _median(once, 5)
    _forget()
    return seconds / arrays.sig.size, int(arrays.sig.size)


def _launches() -> list[tuple[str, str, str]]:
    """Launches of one Tree-LSTM minibatch, beside the bound, and what scheduling costs."""
    rows = []
    batch = minibatches(WORKLOAD.examples(), 64)[3]
    for name in (CELLS, NO_CELLS):
        program = WORKLOAD.trainers[name](WORKLOAD.parameters(16), 16)
        assert isinstance(program, AutobatchTrainer)
        loss = ab.sum(ab.map(program.model.loss, batch))
        tape = state.tape
        assert tape is not None
        arrays = assemble(tape, [loss._id])

        def once(arrays: Tape = arrays) -> float:
            start = time.perf_counter()
            schedule(arrays)
            return time.perf_counter() - start

        chosen = schedule(arrays)
        seconds = _median(once) / arrays.sig.size
        name = f"{program.name}: launches, {arrays.sig.size:,} nodes"
        bound = f"bound {lower_bound(arrays, chosen)}"
        rows.append((name, f"{len(chosen.launch_sig)}, {seconds * 1e6:.3f} µs a node", bound))
        _forget()
    return rows


def _replays() -> list[tuple[str, str, str]]:
    """Recording one Tree-LSTM minibatch whose recordings are reused."""
    rows = []
    batch = minibatches(WORKLOAD.examples(), 64)[3]
    for name in (CELLS, NO_CELLS):
        program = WORKLOAD.trainers[name](WORKLOAD.parameters(16), 16)
        assert isinstance(program, AutobatchTrainer)
        loss = program.model.loss

        def once(loss: Any = loss) -> float:
            _forget()
            start = time.perf_counter()
            ab.map(loss, batch, reuse=True)
            return time.perf_counter() - start

        once()
        seconds = _median(once)
        assert state.tape is not None
        nodes = state.tape.n_nodes
        rows.append(
            (f"{program.name}: replay {nodes:,} nodes", f"{seconds / nodes * 1e6:.3f} µs a node", "budget 0.1 µs")
        )
        ab.forget()
        _forget()
    return rows


def _launch(n: int = 2_000) -> float:
    """Seconds a launch, forward and with its planning, on a chain of launches of one tiny node each."""

    def once() -> float:
        with ab.no_grad():
            x = ab.tensor(np.zeros(4, np.float32))
            for _ in range(n):
                x = ab.tanh(x)
            start = time.perf_counter()
            x.numpy()
        return (time.perf_counter() - start) / n

    return _median(once)


def on_a_device(names: Sequence[str], dim: int, batch: int) -> list[tuple[str, str, str]]:
    """What the library takes on the host for a launch on a device, without CuPy's own time."""
    rows = []
    for name in names:
        host = host_time(name, dim, batch)
        what = f"{name} on a device: each of {host.launches:,} launches, step"
        rows.append((what, f"{host.each:.1f} µs, {host.step:.1f} ms", "budget 10 µs"))
    return rows


def _first_step(cache: str) -> float:
    environment = {
        **os.environ,
        "AUTOBATCH_CACHE_DIR": os.path.join(cache, "kernels"),
        "NUMBA_CACHE_DIR": os.path.join(cache, "numba"),
    }
    done = subprocess.run(
        [sys.executable, "-c", FIRST_STEP], env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def main(arguments: list[str]) -> int:
    """Measure and print all budgets; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks budgets", description=__doc__)
    parser.add_argument("--growth", type=int, default=100_000, help="examples in the largest growth measurement")
    options = parser.parse_args(arguments)
    rows: list[tuple[str, str, str]] = [
        ("record one op", f"{_recorded(_record_op) * 1e6:.2f} µs", f"budget {_OP[ab.recorder]} µs"),
        ("record one cell call", f"{_recorded(_record_cell) * 1e6:.2f} µs", f"budget {_CELL[ab.recorder]} µs"),
        ("one launch", f"{_launch() * 1e6:.1f} µs", "budget 15 µs"),
    ]
    rows += on_a_device(["treelstm", "bilstm", "lm"], dim=256, batch=256)
    count = 100
    while count <= options.growth:
        seconds, nodes = _plan(count)
        rows.append((f"tape → schedule → plan, {nodes:,} nodes", f"{seconds * 1e6:.3f} µs a node", "budget 0.1 µs"))
        count *= 10
    rows += _replays()
    rows += _launches()
    with tempfile.TemporaryDirectory() as cache:
        rows.append(("first training step, cold cache", f"{_first_step(cache):.1f} s", "budget 8 s"))
        rows.append(("first training step, warm cache", f"{_first_step(cache):.1f} s", "budget 1 s"))
    width = max(len(name) for name, _, _ in rows)
    for name, measured, budget in rows:
        print(f"{name:<{width}}  {measured:>20}   {budget}")
    return 0
