"""`python -m benchmarks threads`: training steps of the Tree-LSTM on one thread and on two, taking turns.

Both compute the same bits; a product is cut into parts only where it is large enough. The machine has to be idle.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

import autobatch as ab
from benchmarks import measure
from benchmarks.workload import CELLS_REUSED, load, minibatches

COUNTS = (1, 2)


def main(arguments: Sequence[str]) -> int:
    """Measure, print and keep the table; returns 1 where losses differ between numbers of threads."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks threads", description=__doc__)
    parser.add_argument("--dims", type=int, nargs="+", default=[128, 256, 512], help="widths of the model")
    parser.add_argument("--steps", type=int, default=12, help="timed steps (default 12)")
    options = parser.parse_args(arguments)
    workload = load("treelstm")
    batches = minibatches(workload.examples(), 64)[: options.steps]
    for key, value in measure.machine().items():
        print(f"{key:9} {value}")
    rows: list[list[object]] = []
    same = True
    for dim in options.dims:
        trainers = {n: workload.trainers[CELLS_REUSED](workload.parameters(dim), dim) for n in COUNTS}
        seconds: dict[int, list[float]] = {n: [] for n in COUNTS}
        for epoch in range(2):  # recordings are kept in the first
            for batch in batches:
                losses = set()
                for n, trainer in trainers.items():
                    ab.set_num_threads(n)
                    start = time.perf_counter()
                    losses.add(trainer.step(batch))
                    if epoch:
                        seconds[n].append(time.perf_counter() - start)
                same &= len(losses) == 1
        one, two = (1e3 * statistics.median(seconds[n]) for n in COUNTS)
        rows.append([dim, one, two, one / two])
    print(measure.table("\nTree-LSTM, batch 64, ms a step", ["dim", "1 thread", "2 threads", "gain"], rows))
    print("losses are the same, bit by bit" if same else "LOSSES DIFFER")
    print(f"kept as {measure.save('threads', {'rows': rows, 'same': same})}")
    return int(not same)
