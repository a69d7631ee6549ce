"""`python -m benchmarks NAME`: runs one benchmark, with every library held to one thread."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

BENCHMARKS = {"treelstm": "benchmarks.treelstm.report", "budgets": "benchmarks.budgets"}

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_variable] = "1"  # read once, when the libraries load: nothing above may import NumPy


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Time autobatch beside its peers.")
    parser.add_argument("benchmark", choices=BENCHMARKS)
    name = parser.parse_args(sys.argv[1:2]).benchmark
    return importlib.import_module(BENCHMARKS[name]).main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
