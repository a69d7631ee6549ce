"""The runner: `python -m benchmarks NAME` measures one workload.

For every width and batch size all programs take turns in one process on the same minibatches: autobatch in its forms,
the programs written by hand, DyNet, and the matmuls alone. It prints one table of training steps and one of
autobatch's stages. A table is *void*, and says why, if the programs do not compute the same losses on the first steps,
or if a peer is slower than it has to be. With `--variant SEED` it also measures a variant of the model, drawn from that
seed, beside the original.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.floors import ProductFloor, n_operations
from benchmarks.measure import Program
from benchmarks.validity import LOSS_TOLERANCE, REFERENCE_BATCH, SLACK, disagreements, slow_peers
from benchmarks.workload import (
    CELLS,
    CELLS_REUSED,
    LOOP,
    NO_CELLS,
    NO_CELLS_REUSED,
    Factory,
    Trainer,
    Workload,
    minibatches,
)

FULL_WIDTH, SCHEDULE_WIDTHS = "products, full width", "products, widths of the schedule"  # by autobatch's library
NUMPY_FULL_WIDTH = "products, full width, NumPy's BLAS"
KINDS = ("numpy", "pytorch", "dynet", "jax")  # programs that are not autobatch, by the beginning of their names
PROFILED = (CELLS, NO_CELLS, CELLS_REUSED, NO_CELLS_REUSED)
WARM_STEPS = 3  # steps whose losses must agree
STEPS = {1: 60, 4: 40, 16: 20, 64: 20, 256: 5}  # timed steps of every program, by batch size
MAIN_BATCH = 64
SECONDS, OTHER_SECONDS = 3.0, 0.8  # what the timed steps of one program may take, at this and at other batch sizes
LOOP_BATCHES = (1, MAIN_BATCH)  # the one-by-one loop is timed at these alone: it takes the same time an example at all
CHECKED_BATCH = 8  # a variant is compared with its loop on minibatches of so many
VOID_STATUS = 3
VARIANT_TOLERANCE = 1.1

Factories = Mapping[str, Factory]
Cell = dict[str, Any]
"""The figures of one width and batch size, as they are kept."""


def main(workload: Workload, arguments: Sequence[str]) -> int:
    """Measure a workload as the command line says; returns 3 if a table is void or a program failed."""
    options = _options(workload, arguments)
    if options.products:
        import autobatch as ab

        ab.set_products(options.products)
    for key, value in measure.machine().items():
        print(f"{key:9} {value}")
    examples = workload.examples()
    result: dict[str, Any] = {"workload": workload.name, "title": workload.title, "cells": []}
    wrong = False
    for dim in options.dims:
        for batch in options.batch:
            cell = run_cell(workload, examples, dim, batch, options)
            for seed in options.variant if batch == MAIN_BATCH or len(options.batch) == 1 else ():
                cell.setdefault("variants", []).append(run_variant(workload, examples, dim, batch, seed, options))
            print(text_of(workload, cell), flush=True)
            wrong |= bool(cell["void"] or cell["failed"] or any(v["void"] for v in cell.get("variants", ())))
            result["cells"].append(cell)
            result["peak megabytes"] = measure.peak_megabytes()
            if options.out:  # after every cell: what is there outlives a later failure
                Path(options.out).write_text(json.dumps({"machine": measure.machine(), **result}, indent=1) + "\n")
    print(f"\npeak memory of this process: {measure.peak_megabytes():.0f} MB")
    if not options.out:
        print(f"kept as {measure.save(workload.name, result)}")
    return VOID_STATUS if wrong else 0


def _options(workload: Workload, arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {workload.name}", description=__doc__)
    parser.add_argument("--dims", type=int, nargs="+", default=list(workload.dims), help="widths of the model")
    parser.add_argument("--batch", type=int, nargs="+", default=[64], help="examples in a minibatch (default 64)")
    parser.add_argument("--steps", type=int, help="timed steps of every program (default 20 at batch 64)")
    parser.add_argument("--seconds", type=float, help="what the timed steps of one program may take")
    parser.add_argument("--products", metavar="LIBRARY", help="what autobatch multiplies with: own, numpy or mkl")
    parser.add_argument("--quick", action="store_true", help="the first width and 5 steps: does it run at all?")
    parser.add_argument("--skip", nargs="+", default=[], metavar="NAME", help="leave out programs whose names begin so")
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="leave out all others")
    parser.add_argument("--variant", type=int, nargs="+", default=[], metavar="SEED", help="measure a variant too")
    parser.add_argument("--out", metavar="FILE", help="keep the figures there, not in benchmarks/results")
    options = parser.parse_args(arguments)
    if options.quick:
        options.dims, options.steps = options.dims[:1], min(options.steps or 5, 5)
        options.seconds = min(options.seconds or 1.0, 1.0)
    return options


def cut(examples: Sequence[Any], size: int) -> list[list[Any]]:
    """Minibatches of one size: the last is left out if it is shorter, and not alone.

    >>> cut([1, 2, 3, 4, 5], 2)
    [[1, 2], [3, 4]]
    """
    return [batch for batch in minibatches(examples, size) if len(batch) == size] or [list(examples)]


def run_cell(workload: Workload, examples: list[Any], dim: int, batch: int, options: argparse.Namespace) -> Cell:
    """Measure all programs at one width and batch size."""
    seconds = options.seconds or (SECONDS if batch == MAIN_BATCH else OTHER_SECONDS)
    n_steps = options.steps or STEPS.get(batch, 20)
    batches = cut(examples, batch)[: WARM_STEPS + n_steps]
    factories = {name: workload.trainers[name] for name in (*workload.peers, *workload.trainers)}
    if workload.dynet is not None:
        factories["dynet"] = _dynet(workload.dynet, examples)
    skipped = {name: "as asked" for name in factories if not _asked(name, options)}
    if batch not in LOOP_BATCHES and LOOP in factories:
        skipped.setdefault(LOOP, f"measured at batch {LOOP_BATCHES[0]} and {LOOP_BATCHES[-1]}")
    if batch != MAIN_BATCH and len(options.batch) > 1:
        for name in (NO_CELLS, NO_CELLS_REUSED):
            skipped.setdefault(name, f"measured at batch {MAIN_BATCH}, or when asked for one batch size")
    trainers, missing, unmade = make_trainers({n: f for n, f in factories.items() if n not in skipped}, workload, dim)
    skipped |= missing

    for trainer in trainers.values():
        if hasattr(trainer, "prepare"):
            trainer.prepare(batches)
    programs = [trainer_program(name, trainer, batches) for name, trainer in trainers.items()]
    running = measure.warm_up(programs, seconds)
    failed = unmade | {program.name: program.failure for program in programs if program.failure}
    products = [workload.products(examples, dim) for examples in batches]
    floors = [floor_program(FULL_WIDTH, ProductFloor(products, numpy=False))]
    floors.append(floor_program(NUMPY_FULL_WIDTH, ProductFloor(products)))
    stages = {name: stage_figures(trainers[name], batches) for name in PROFILED if name in _names(running)}
    if CELLS in stages:
        launched = ProductFloor(launched_products(trainers[CELLS], batches), numpy=False)
        floors.append(floor_program(SCHEDULE_WIDTHS, launched))
    running += measure.warm_up(floors, seconds)
    time_in_turns(running, n_steps, seconds)

    times = {program.name: program.milliseconds for program in running}
    void = disagreements(programs)
    operations = statistics.median(n_operations(each) for each in products)
    if batch == REFERENCE_BATCH:
        void += slow_peers(workload.name, dim, times, times[NUMPY_FULL_WIDTH], operations)
    for trainer in trainers.values():
        if hasattr(trainer, "close"):
            trainer.close()
    return {
        "dim": dim,
        "batch": batch,
        "steps": n_steps,
        "milliseconds": times,
        "timed": {program.name: len(program.seconds) for program in running},
        "losses": {program.name: program.losses for program in running if program.losses},
        "giga operations": operations / 1e9,
        "stages": stages,
        "skipped": skipped,
        "failed": failed,
        "void": void,
    }


def time_in_turns(programs: Sequence[Program], n_steps: int, seconds: float) -> None:
    """Time programs that are warm; one that would take more than `seconds` is timed in every so many rounds."""
    for program in programs:
        program.every = max(1, math.ceil(n_steps * program.took / seconds))
    gc.collect()
    measure.take_turns(programs, WARM_STEPS, n_steps)


def run_variant(
    workload: Workload, examples: list[Any], dim: int, batch: int, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """The variant of this seed beside the original, as ratios to the products alone; void if it is not its own loop."""
    if workload.variant is None:
        return {"seed": seed, "void": [f"{workload.title} has no variant"]}
    seconds = options.seconds or (SECONDS if batch == MAIN_BATCH else OTHER_SECONDS)
    n_steps = options.steps or STEPS.get(batch, 20)
    batches, few = cut(examples, batch)[: WARM_STEPS + n_steps], cut(examples, min(batch, CHECKED_BATCH))
    changed = workload.variant(seed)
    factories = {CELLS: changed[CELLS], LOOP: changed[LOOP], "original": workload.trainers[CELLS]}
    trainers, *unmade = make_trainers(factories, workload, dim)
    checked = [trainer_program(name, trainers[name], few) for name in (CELLS, LOOP) if name in trainers]
    timed = [trainer_program(name, trainers[name], batches) for name in (CELLS, "original") if name in trainers]
    measure.warm_up([*checked, *timed], seconds)
    failed = unmade[0] | unmade[1] | {program.name: program.failure for program in checked + timed if program.failure}
    failures = [f"{name}: {reason}" for name, reason in failed.items()]
    if failures:
        return {"seed": seed, "void": failures}
    floor = floor_program(FULL_WIDTH, ProductFloor((workload.products(each, dim) for each in batches), numpy=False))
    measure.warm_up([floor], seconds)
    time_in_turns([*timed, floor], n_steps, seconds)
    variant, original = (program.milliseconds / floor.milliseconds for program in timed)
    return {"seed": seed, "variant": variant, "original": original, "void": disagreements(checked)}


def _asked(name: str, options: argparse.Namespace) -> bool:
    return name.startswith(tuple(options.only)) and not name.startswith(tuple(options.skip))


def _names(programs: Sequence[Program]) -> list[str]:
    return [program.name for program in programs]


def _dynet(name: str, examples: list[Any]) -> Factory:
    def make(parameters: Any, dim: int) -> Trainer:
        from benchmarks.dynet_peer import dynet_trainer

        return dynet_trainer(name, parameters, dim, examples)

    return make


def make_trainers(
    factories: Factories, workload: Workload, dim: int
) -> tuple[dict[str, Trainer], dict[str, str], dict[str, str]]:
    """All training programs, each from parameters of its own; those that cannot be imported; those that fail."""
    trainers: dict[str, Trainer] = {}
    missing: dict[str, str] = {}
    failed: dict[str, str] = {}
    for name, factory in factories.items():
        try:
            trainers[name] = factory(workload.parameters(dim), dim)
        except ImportError as error:
            missing[name] = measure.one_line(error)
        except Exception as error:
            failed[name] = measure.one_line(error)
    return trainers, missing, failed


def trainer_program(name: str, trainer: Trainer, batches: list[list[Any]]) -> Program:
    """A trainer as a program. One that reuses recordings, or compiles for shapes, sees the timed minibatches before."""
    prime = name in (CELLS_REUSED, NO_CELLS_REUSED) or name.startswith("jax")
    return Program(name, lambda k: trainer.step(batches[k % len(batches)]), warm=WARM_STEPS, prime=prime)


def floor_program(name: str, floor: ProductFloor) -> Program:
    """Products alone as a program without losses."""
    return Program(name, floor.step, warm=1)


def launched_products(trainer: Trainer, batches: list[list[Any]]) -> list[list[tuple[int, int, int, int]]]:
    """The products that autobatch launches for each minibatch."""
    import autobatch as ab

    launched = []
    for examples in batches:
        with ab.profile() as profile:
            trainer.step(examples)
        launched.append(profile.products)
    return launched


def stage_figures(trainer: Trainer, batches: list[list[Any]], n_steps: int = 5) -> dict[str, float]:
    """Medians of autobatch's own account of a step: milliseconds a stage, then counts."""
    import autobatch as ab

    figures: dict[str, list[float]] = {}
    for k in range(n_steps):
        with ab.profile() as prof:
            trainer.step(batches[k % min(WARM_STEPS, len(batches))])  # recordings of these were made before
        step: dict[str, float] = {stage: 1e3 * seconds for stage, seconds in prof.seconds.items()}
        step |= {"launches": prof.launches, "bound": prof.bound, "nodes": prof.nodes}
        step |= {"MB copied": prof.bytes_copied / 1e6, "MB read in place": prof.bytes_in_place / 1e6}
        step |= {"peak MB": prof.peak_bytes / 1e6}
        if prof.device_launches:
            step |= {
                "launches on the device": prof.device_launches,
                "µs of the host for each": 1e6 * prof.launch_seconds,
            }
        for name, value in step.items():
            figures.setdefault(name, []).append(value)
    return {name: statistics.median(values) for name, values in figures.items()}


# What is printed.


def best(times: Mapping[str, float], kind: str) -> float | None:
    """The fastest program of a kind."""
    return min((time for name, time in times.items() if name.startswith(kind)), default=None)


def text_of(workload: Workload, cell: Cell) -> str:
    """The tables of one width and batch size."""
    times: dict[str, float] = cell["milliseconds"]
    references = {name: times.get(name) for name in (FULL_WIDTH, SCHEDULE_WIDTHS, LOOP)}
    references |= {kind: best(times, kind) for kind in KINDS}
    shown = {name: time for name, time in references.items() if time is not None}
    titles = {FULL_WIDTH: "x full width", SCHEDULE_WIDTHS: "x schedule", LOOP: "x loop"}
    header = ["", "ms a step", *(titles.get(name, f"x {name}") for name in shown)]
    rows = [[name, time, *(time / r for r in shown.values())] for name, time in sorted(times.items(), key=_slowest)]
    title = f"\n{workload.title}, dim {cell['dim']}, batch {cell['batch']}, float32, one thread, median of steps"
    lines = [measure.table(title, header, rows)]
    lines += [f"{name}: skipped, {reason}" for name, reason in cell["skipped"].items()]
    lines += [f"{name}: FAILED, {reason}" for name, reason in cell["failed"].items()]
    lines += [f"VOID: {reason}" for reason in cell["void"]]
    if not cell["void"]:
        what = f"losses of the first {WARM_STEPS} steps agree within {LOSS_TOLERANCE:g}"
        lines.append(f"{what}; no peer is over {SLACK - 1:.0%} slower than it was elsewhere, where that is known")
    if cell["stages"]:
        names = list(dict.fromkeys(name for figures in cell["stages"].values() for name in figures))
        counts = ("launches", "bound", "nodes", "MB copied", "MB read in place", "peak MB")
        names = [name for name in names if name not in counts] + list(counts)
        table = [[name, *(figures.get(name) for name in names)] for name, figures in cell["stages"].items()]
        lines.append(measure.table("\nmilliseconds a stage, and counts", ["", *names], table))
    lines += [variant_text(variant) for variant in cell.get("variants", ())]
    return "\n".join(lines)


def variant_text(variant: Mapping[str, Any]) -> str:
    """One line on a variant."""
    if "variant" not in variant:
        return f"variant {variant['seed']}: VOID, {'; '.join(variant['void'])}"
    relative = variant["variant"] / variant["original"]
    verdict = "within" if relative <= VARIANT_TOLERANCE else "NOT within"
    text = f"variant {variant['seed']}: {variant['variant']:.2f} x the products at full width, the original "
    text += f"{variant['original']:.2f} x: {relative:.2f}, {verdict} {VARIANT_TOLERANCE - 1:.0%}"
    return text + "".join(f"\nVOID: {reason}" for reason in variant["void"])


def _slowest(item: tuple[str, float]) -> float:
    return -item[1]
