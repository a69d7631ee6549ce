"""The Tree-LSTM benchmark: `python -m benchmarks treelstm`.

For every width it prints one table of training steps (autobatch with and without cells, its one-by-one loop, the NumPy
and PyTorch programs written by hand, the matrix products alone) and one of autobatch's stages. A table is *void*, and
says why, if the programs do not compute the same losses on the first steps, or if a peer is slower than it has to be.
"""

from __future__ import annotations

import argparse
import gc
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import measure
from benchmarks.floors import ProductFloor
from benchmarks.measure import Program
from benchmarks.treelstm import WORKLOAD
from benchmarks.treelstm.data import Tree, level_widths
from benchmarks.workload import CELLS, CELLS_REUSED, LOOP, NO_CELLS, NO_CELLS_REUSED, Parameters, minibatches

STAGES = ("record", "schedule", "place", "forward", "reverse", "update")
FULL_WIDTH, LEVEL_WIDTHS = "products, full width", "products, level by level"
N_WARM = 3  # steps whose losses must agree
LOSS_TOLERANCE = 1e-4  # relative; float32, three updates by Adam
LOOP_EVERY = 7  # the one-by-one loop is timed in every seventh round
# Ratio to the products at full width that a peer of this kind reached elsewhere, by width: over 15 % worse is void.
REFERENCE_BATCH = 64
REFERENCE_RATIOS = {
    "numpy": {128: 19 / 7.9, 256: 52 / 24.5, 512: 170 / 89.5},
    "pytorch": {128: 39.5 / 7.9, 256: 101 / 24.5, 512: 248 / 89.5},
}


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; returns 1 if a table is void."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks treelstm", description=__doc__)
    parser.add_argument("--dims", type=int, nargs="+", default=[128, 256, 512], help="widths of the model")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of every program (default 20)")
    parser.add_argument("--batch", type=int, default=64, help="trees in a minibatch (default 64)")
    parser.add_argument("--quick", action="store_true", help="width 128 and 5 steps: does it run at all?")
    parser.add_argument("--skip", nargs="+", default=[], metavar="NAME", help="leave out programs so called")
    options = parser.parse_args(arguments)
    if options.quick:
        options.dims, options.steps = [128], min(options.steps, 5)

    batches = minibatches(WORKLOAD.examples(), options.batch)
    for key, value in measure.machine().items():
        print(f"{key:9} {value}")
    results: dict[str, object] = {"batch": options.batch, "steps": options.steps}
    any_void = False
    for dim in options.dims:
        results[str(dim)] = result = run_width(dim, batches, options.steps, options.skip)
        any_void |= bool(result["void"])
    print(f"\npeak memory of this process: {measure.peak_megabytes():.0f} MB")
    print(f"kept as {measure.save('treelstm', results)}")
    return int(any_void)


def run_width(dim: int, batches: list[list[Tree]], n_steps: int, skip: Sequence[str]) -> dict[str, Any]:
    """Measure all programs at one width, print the tables, and return their figures."""
    trainers, skipped = make_trainers(WORKLOAD.parameters(dim), dim, skip)
    programs = [trainer_program(trainer, batches) for trainer in trainers]
    programs += floor_programs(dim, batches)
    gc.collect()
    measure.take_turns(programs, N_WARM, n_steps)

    times = {program.name: program.milliseconds for program in programs}
    void = disagreements(programs)
    if len(batches[0]) == REFERENCE_BATCH:
        void += slow_peers(dim, times)
    columns = [FULL_WIDTH, LOOP, "pytorch"]
    header = ["", "ms a step", "x full width", "x loop", "x pytorch"]
    rows: list[list[object]] = []
    for name, time in sorted(times.items(), key=lambda item: -item[1]):
        rows.append([name, time, *(time / times[column] if column in times else None for column in columns)])
    rows += [[f"{name}: skipped, {reason}", None, None, None, None] for name, reason in skipped.items()]
    title = f"\nTree-LSTM, H = {dim}, {len(batches[0])} trees a step, float32, one thread, median of {n_steps} steps"
    print(measure.table(title, header, rows))
    for reason in void:
        print(f"VOID: {reason}")
    if not void:
        print(f"losses of the first {N_WARM} steps agree within {LOSS_TOLERANCE:g}; the peers are fast enough")

    stages = {}
    for trainer in trainers:
        if trainer.name in (CELLS, NO_CELLS):
            stages[trainer.name] = stage_figures(trainer, batches, max(5, n_steps // 2))
    if stages:
        header = ["", *next(iter(stages.values()))]
        lines = [[name, *figures.values()] for name, figures in stages.items()]
        print(measure.table(f"\nautobatch, H = {dim}: milliseconds a stage, and counts", header, lines))
    return {"milliseconds": times, "stages": stages, "skipped": skipped, "void": void}


def make_trainers(parameters: Parameters, dim: int, skip: Sequence[str]) -> tuple[list[Any], dict[str, str]]:
    """All training programs from the same parameters; and those left out, with the reason."""
    trainers, skipped = [], {}
    for name, make in WORKLOAD.trainers.items():
        if name in (CELLS_REUSED, NO_CELLS_REUSED):
            continue
        if name.startswith(tuple(skip)):
            skipped[name] = "as asked"
            continue
        try:
            trainers.append(make(parameters, dim))
        except ImportError as error:
            skipped[name] = str(error)
    return trainers, skipped


def trainer_program(trainer: Any, batches: list[list[Tree]]) -> Program:
    every = LOOP_EVERY if trainer.name == LOOP else 1
    return Program(trainer.name, lambda k: trainer.step(batches[k % len(batches)]), every)


def floor_programs(dim: int, batches: list[list[Tree]]) -> list[Program]:
    """The products of the same minibatches alone: at full width, and at the widths that a schedule by depth gives."""
    floor = ProductFloor(dim)
    full, levels = [], []
    for batch in batches:
        n_leaves, *inner = level_widths(batch)
        full.append(floor.products(len(batch), [n_leaves], [sum(inner)]))
        levels.append(floor.products(len(batch), [n_leaves], inner))
    return [
        Program(FULL_WIDTH, lambda k: floor.run(full[k % len(full)])),
        Program(LEVEL_WIDTHS, lambda k: floor.run(levels[k % len(levels)])),
    ]


def disagreements(programs: Sequence[Program]) -> list[str]:
    """Programs whose losses on the first steps are not those of the first program."""
    first, *others = [program for program in programs if program.losses]
    return [
        f"losses of {other.name} {other.losses} are not those of {first.name} {first.losses}"
        for other in others
        if not np.allclose(other.losses, first.losses, rtol=LOSS_TOLERANCE, atol=0.0)
    ]


def slow_peers(dim: int, times: dict[str, float]) -> list[str]:
    """Kinds of peer whose best program is over 15 % slower, against the products alone, than its reference."""
    reasons = []
    for kind, ratios in REFERENCE_RATIOS.items():
        peers = [time for name, time in times.items() if name.startswith(kind)]
        if peers and dim in ratios and min(peers) > 1.15 * ratios[dim] * times[FULL_WIDTH]:
            ratio = min(peers) / times[FULL_WIDTH]
            reasons.append(f"{kind} takes {ratio:.2f} x the products at full width; {ratios[dim]:.2f} was reached")
    return reasons


def stage_figures(trainer: Any, batches: list[list[Tree]], n_steps: int) -> dict[str, float | int | None]:
    """Medians of autobatch's own account of a step: milliseconds a stage, then counts."""
    import autobatch as ab

    figures: dict[str, list[float]] = {}
    for k in range(n_steps):
        with ab.profile() as prof:
            trainer.step(batches[k % len(batches)])
        step = {stage: 1e3 * prof.seconds.get(stage, 0.0) for stage in STAGES}
        step |= {"launches": prof.launches, "bound": prof.bound, "nodes": prof.nodes}
        step |= {"MB gathered": prof.bytes_gathered / 1e6, "peak MB": prof.peak_bytes / 1e6}
        for name, value in step.items():
            figures.setdefault(name, []).append(value)
    return {name: statistics.median(values) for name, values in figures.items()}
