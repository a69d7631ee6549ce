"""`python -m benchmarks gpu`: training steps on a GPU, beside PyTorch by hand, in one process.

Each workload at each width and batch size: autobatch with new and reused recordings, the programs by hand with
their plans made per step, prebuilt, and as CUDA graphs, and the floors. Without a GPU it says what is missing.
`--check` is another program: see `benchmarks/gpu/check.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import autobatch as ab
from autobatch.errors import AutobatchError
from benchmarks import measure
from benchmarks.bars import summary
from benchmarks.gpu import check
from benchmarks.gpu.cell import measure_cell, own_programs
from benchmarks.gpu.floors import COPIED, bandwidth
from benchmarks.gpu.peers import peers
from benchmarks.gpu.place import Place, gpu
from benchmarks.gpu.report import bars, cell_lines, markdown
from benchmarks.runner import cut
from benchmarks.workload import load

WORKLOADS = ("treelstm", "bilstm", "lm")
MOST_BATCHES = 25  # of each width and batch size
DIMS, BATCHES = (256, 512, 128, 1024), (256, 64, 16, 1)  # those of the bars first: a run may be cut short
MISSING_STATUS = 2


def main(arguments: Sequence[str]) -> int:
    """Measure on the GPU of this machine; returns 2 where there is none."""
    if "--check" in arguments:
        return check.main(arguments)
    options = options_of(arguments)
    try:
        place = gpu()
    except AutobatchError as error:
        print(f"python -m benchmarks gpu: {error}", file=sys.stderr)
        return MISSING_STATUS
    return run(options, place)


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--report", action="store_true", help="write gpu-DATE in benchmarks/results")
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=WORKLOADS, metavar="NAME")
    parser.add_argument("--dims", type=int, nargs="+", default=list(DIMS), help="widths of the model")
    parser.add_argument("--batch", type=int, nargs="+", default=list(BATCHES), help="examples in a minibatch")
    parser.add_argument("--seconds", type=float, default=1.5, help="of timed steps of each program")
    parser.add_argument("--minutes", type=float, help="begin no further table after so many")
    parser.add_argument("--no-compile", action="store_true", help="leave out the programs of torch.compile")
    parser.add_argument("--out", metavar="FOLDER", help="write the report there, not in benchmarks/results")
    options = parser.parse_args(arguments)
    options.n_batches, options.copied = MOST_BATCHES, COPIED
    return options


def run(options: argparse.Namespace, place: Place) -> int:
    """Measure at this place; returns 1 where a program failed or is void."""
    start = time.perf_counter()
    machine = {**place.about, **measure.machine()}
    for key, value in machine.items():
        print(f"{key:9} {value}")
    report: dict[str, Any] = {"machine": machine, "minutes": 0.0, "cells": []}
    folder = Path(options.out) if options.out else measure.RESULTS
    bytes_a_second = bandwidth(place.clock, options.copied)
    machine["copy"] = f"{bytes_a_second / 1e12:.3g} TB/s, read and written"
    wanted = [(w, dim, batch) for dim in options.dims for batch in options.batch for w in options.workloads]
    for name, dim, batch in wanted:
        minutes = (time.perf_counter() - start) / 60
        if options.minutes is not None and minutes > options.minutes:
            print(f"{name}, dim {dim}, batch {batch}: left out after {minutes:.0f} minutes")
            continue
        workload = load(name)
        factories = {**own_programs(workload, dim), **peers(name, place, not options.no_compile)}
        batches = cut(workload.examples(), batch)[: options.n_batches]
        with ab.backend("cupy"):
            cell = measure_cell(workload, factories, dim, batches, place, options.seconds, bytes_a_second)
        print("\n".join(["", *cell_lines(cell)]), flush=True)
        report["cells"].append(cell)
        report["minutes"] = (time.perf_counter() - start) / 60
        if options.report:  # after every cell: what is there outlives a later failure
            write(report, folder)
    print(f"\n{summary(bars(report['cells']))}; {report['minutes']:.0f} minutes")
    if options.report:
        print(f"kept in {folder}")
    programs = [program for cell in report["cells"] for program in cell["programs"].values()]
    return int(any(program["void"] or program["failed"] for program in programs))


def write(report: dict[str, Any], folder: Path) -> list[Path]:
    """Write the report; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"gpu-{report['machine']['date'][:10]}"
    figures, text = folder / f"{stem}.json", folder / f"{stem}.md"
    figures.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    text.write_text(markdown(report), encoding="utf-8")
    return [figures, text]
