"""`python -m benchmarks.dynet_peer install`; and `strategies`: which of DyNet's strategies suits each workload."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

from benchmarks.dynet_peer.environment import DIRECTORY, DynetMissing, install, interpreter
from benchmarks.dynet_peer.trainer import STRATEGIES, DynetTrainer, server_command
from benchmarks.measure import table
from benchmarks.workload import CELLS, WORKLOADS, load

ALL_STRATEGIES = (1, 2, 3)
BATCH = 64
N_CHECKED, N_TIMED = 3, 9
LOSS_TOLERANCE = 1e-4


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dynet_peer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help=f"make an environment with DyNet at {DIRECTORY}")
    strategies = commands.add_parser("strategies", help="time a training step with each of DyNet's strategies")
    strategies.add_argument("workloads", nargs="*", help=f"default: all of {', '.join(WORKLOADS)}")
    options = parser.parse_args(arguments)
    try:
        if options.command == "install":
            print(f"DyNet is installed: {install()}")
        else:
            interpreter()
            for name in options.workloads or WORKLOADS:
                compare_strategies(name)
    except DynetMissing as missing:
        print(missing, file=sys.stderr)
        return 1
    return 0


def compare_strategies(name: str) -> None:
    """Print milliseconds a step by width and strategy, or how a strategy failed. `*`: the strategy that is used."""
    workload = load(name)
    if workload.dynet is None:
        print(f"\n{workload.title}: no program in DyNet")
        return
    used = STRATEGIES[workload.dynet]
    rows = [[str(dim), *_row(name, dim)] for dim in workload.dims]
    header = ["dim", *(f"strategy {k}{'*' if k == used else ''}" for k in ALL_STRATEGIES)]
    print(table(f"\n{workload.title}: DyNet, milliseconds a step of {BATCH} examples", header, rows), flush=True)


def _row(name: str, dim: int) -> list[float | str]:
    workload = load(name)
    assert workload.dynet is not None
    examples, parameters = workload.examples(), workload.parameters(dim)
    batches = [examples[k : k + BATCH] for k in range(0, len(examples), BATCH)]
    ours = workload.trainers[CELLS](parameters, dim)
    expected = [ours.step(batch) for batch in batches[:N_CHECKED]]
    cells: list[float | str] = []
    for strategy in ALL_STRATEGIES:
        trainer = DynetTrainer(server_command(), workload.dynet, parameters, dim, examples, strategy)
        try:
            losses = [trainer.step(batch) for batch in batches[:N_CHECKED]]
            if any(abs(loss / right - 1) > LOSS_TOLERANCE for loss, right in zip(losses, expected, strict=True)):
                cells.append("wrong losses")
                continue
            seconds = []
            for k in range(N_TIMED):
                start = time.perf_counter()
                trainer.step(batches[(N_CHECKED + k) % len(batches)])
                seconds.append(time.perf_counter() - start)
            cells.append(1e3 * statistics.median(seconds))
        except RuntimeError:
            cells.append("crashes")
        finally:
            trainer.close()
    return cells


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
