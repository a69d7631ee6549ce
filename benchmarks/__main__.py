"""`python -m benchmarks NAME`: runs one benchmark, with every library held to one thread.

NAME is a workload, or one of
    all      every workload, growth and memory, as one report
    ablations what each mechanism brings
    budgets  what the library costs beyond arithmetic
    decisions programs that go on by values they have computed, beside a teacher and PyTorch
    gpu      training steps on a GPU, beside PyTorch by hand
    growth   time per node as recordings grow
    lengths  models over rows of any number, beside PyTorch one by one and padded
    memory   what a training step keeps, beside what it needs
    products matmuls alone, by each library
    schedules launches beside the fewest possible, by each policy
    threads  a training step on one thread and on two
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys

SCRIPTS = {
    "all": "benchmarks.report",
    "ablations": "benchmarks.ablations",
    "budgets": "benchmarks.budgets",
    "decisions": "benchmarks.decisions.table",
    "gpu": "benchmarks.gpu.command",
    "growth": "benchmarks.growth",
    "lengths": "benchmarks.lengths",
    "memory": "benchmarks.memory",
    "products": "benchmarks.products",
    "schedules": "benchmarks.schedules",
    "threads": "benchmarks.threads",
}

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_variable] = "1"  # read once, when the libraries load: nothing above may import NumPy


def main() -> int:
    from benchmarks.workload import WORKLOADS, load

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmark", choices=[*WORKLOADS, *SCRIPTS], metavar="NAME", help=", ".join(WORKLOADS))
    name = parser.parse_args(sys.argv[1:2]).benchmark
    if name in SCRIPTS:
        return importlib.import_module(SCRIPTS[name]).main(sys.argv[2:])
    from benchmarks import measure, runner

    measure.keep_freed_memory()
    return runner.main(load(name), sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
