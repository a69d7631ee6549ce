"""`python -m benchmarks threads`: training steps on one thread and on two, taking turns, of trees and of sequences.

Both compute the same bits; products, loops and updates are cut into parts only where they are large enough. The machine
has to be idle; with `--busy` another process keeps a core at work meanwhile, and two threads must not be slower.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import autobatch as ab
from benchmarks import measure
from benchmarks.workload import CELLS_REUSED, load, minibatches

COUNTS = (1, 2)
WORKLOADS = {"treelstm": (128, 256, 512), "bilstm": (256,), "lm": (256,), "mvrnn": (64,)}


@contextlib.contextmanager
def _busy(wanted: bool) -> Iterator[None]:
    """A process that computes for as long as the block runs, if one is wanted."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if wanted else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def main(arguments: Sequence[str]) -> int:
    """Measure, print and keep the table; returns 1 where losses differ between numbers of threads."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks threads", description=__doc__)
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--dims", type=int, nargs="+", help="widths of the model (default: a choice for each workload)")
    parser.add_argument("--steps", type=int, default=12, help="timed minibatches (default 12)")
    parser.add_argument("--busy", action="store_true", help="keep a core at work meanwhile")
    options = parser.parse_args(arguments)
    for key, value in measure.machine().items():
        print(f"{key:9} {value}")
    rows: list[list[object]] = []
    same = True
    with _busy(options.busy):
        for name in options.workloads:
            for dim in options.dims or WORKLOADS[name]:
                row, agree = _measured(name, dim, options.steps)
                rows.append(row)
                same &= agree
    title = "\nBatch 64, ms a step" + (", a core kept at work by another process" if options.busy else "")
    print(measure.table(title, ["workload", "dim", "1 thread", "2 threads", "gain"], rows))
    print("losses are the same, bit by bit" if same else "LOSSES DIFFER")
    print(f"kept as {measure.save('threads', {'rows': rows, 'same': same, 'busy': options.busy})}")
    return int(not same)


def _measured(name: str, dim: int, n_steps: int) -> tuple[list[object], bool]:
    """A row of the table, and whether losses were the same."""
    workload = load(name)
    batches = minibatches(workload.examples(), 64)[:n_steps]
    trainers = {n: workload.trainers[CELLS_REUSED](workload.parameters(dim), dim) for n in COUNTS}
    seconds: dict[int, list[float]] = {n: [] for n in COUNTS}
    same = True
    for epoch in range(3):  # recordings are kept in the first
        for k, batch in enumerate(batches):
            losses = set()
            for n in COUNTS if (epoch + k) % 2 else reversed(COUNTS):
                ab.set_num_threads(n)
                start = time.perf_counter()
                losses.add(trainers[n].step(batch))
                if epoch:
                    seconds[n].append(time.perf_counter() - start)
            same &= len(losses) == 1
    one, two = (1e3 * statistics.median(seconds[n]) for n in COUNTS)
    return [workload.title, dim, one, two, one / two], same
