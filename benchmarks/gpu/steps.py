"""One workload at one width on the device: training steps of all programs, stages, a timeline, and memory.

Each measurement is kept as soon as it is made, and one that fails does not keep the others from being made.
"""

from __future__ import annotations

import gc
import math
import time
import traceback
from collections.abc import Sequence
from typing import Any

import autobatch as ab
from autobatch.backends.device import current_device, use_device
from autobatch.errors import AutobatchError
from benchmarks.gpu.cell import OURS, Own, measure_cell, own_programs
from benchmarks.gpu.floors import bandwidth
from benchmarks.gpu.peers import peers
from benchmarks.gpu.results import Results
from benchmarks.gpu.timeline import timeline, watched
from benchmarks.gpu.where import Where
from benchmarks.measure import one_line
from benchmarks.runner import cut
from benchmarks.workload import CELLS_REUSED, Workload, load

WARM_EPOCHS = 3
MOST_SECONDS = 16.0


def measure(results: Results, where: Where, name: str, dim: int, batch: int, everything: bool) -> None:
    """Measure; without `everything` the steps alone."""
    sizes, workload = where.sizes, load(name)
    dim, batch = sizes.dim or dim, sizes.batch or batch
    batches = cut(workload.examples(), batch)[: sizes.n_batches]
    at = f"{name}, dim {dim}, batch {batch}"
    results.measure(f"cell: {at}", lambda: steps(results, where, workload, dim, batches))
    if not everything:
        return
    results.measure(f"timeline: {at}", lambda: where_time_goes(where, workload, dim, batches))
    results.measure(f"profile: {at}", lambda: profiles(workload, dim, batches))
    results.measure(f"out of memory: {at}", lambda: out_of_memory(where, workload, dim, batches))
    results.measure(f"growth: {at}", lambda: growth(where, workload, dim, batches))


def steps(results: Results, where: Where, workload: Workload, dim: int, batches: Sequence[list[Any]]) -> dict[str, Any]:
    """All programs, interleaved; intermediate results are saved under their own name."""
    sizes, place = where.sizes, where.place
    programs = {**own_programs(workload, dim), **peers(workload.name, place, compiled=False)}

    def keep(cell: dict[str, Any]) -> None:
        results.add(f"so far: {workload.name}, dim {dim}, batch {cell['batch']}", ok=True, cell=cell)

    try:
        copied = bandwidth(place.clock, sizes.copied)
    except Exception as error:
        results.add("copy", ok=False, error=one_line(error), traceback=traceback.format_exc())
        copied = math.nan
    cell = measure_cell(workload, programs, dim, batches, place, sizes.seconds, copied, keep)
    return {"cell": cell, "copy, TB/s": copied / 1e12}


def where_time_goes(where: Where, workload: Workload, dim: int, batches: Sequence[list[Any]]) -> dict[str, Any]:
    """A step, call by call; recordings are reused."""
    device = watched(type(current_device()))
    before = use_device(device)
    try:
        program = Own(workload.trainers[CELLS_REUSED](workload.parameters(dim), dim))
        took = _warm(program, batches)
        clock = where.place.clock
        return timeline(device, clock, lambda: program.launch(batches[0]), 1e3 * took)
    finally:
        use_device(before)


def profiles(workload: Workload, dim: int, batches: Sequence[list[Any]]) -> dict[str, Any]:
    """The table of `ab.profile` for a step, new and reused recordings."""
    found = {}
    for name in OURS:
        program = Own(workload.trainers[name](workload.parameters(dim), dim))
        _warm(program, batches)
        with ab.profile() as profile:
            program.read(program.launch(batches[0]))
        found[name] = profile.table()
    return found


def growth(where: Where, workload: Workload, dim: int, batches: Sequence[list[Any]]) -> dict[str, Any]:
    """Memory of the device after many steps, beside that after a few; new and reused recordings."""
    found: dict[str, Any] = {}
    for name in OURS:
        program = Own(workload.trainers[name](workload.parameters(dim), dim))
        _warm(program, batches)
        gc.collect()
        before, done, end = where.memory.used(), 0, time.perf_counter() + MOST_SECONDS
        while done < where.sizes.steps and time.perf_counter() < end:
            pending = [program.launch(examples) for examples in batches]
            loss = program.read(pending[-1])
            done += len(batches)
        del pending
        gc.collect()
        found[name] = {"steps": done, "before": before, "grown": where.memory.used() - before, "loss": loss}
    return found


def out_of_memory(where: Where, workload: Workload, dim: int, batches: Sequence[list[Any]]) -> dict[str, Any]:
    """What is raised when memory runs out, and whether the same step gives the same loss before and after."""
    program = Own(workload.trainers[CELLS_REUSED](workload.parameters(dim), dim))
    model = program.trainer.model

    def loss_of(examples: Sequence[Any]) -> float:
        loss = ab.sum(ab.map(model.loss, examples))
        loss.backward()
        return float(loss)

    expected = loss_of(batches[0])
    gc.collect()
    where.memory.limit(where.sizes.room)
    said, kind = "", ""
    try:
        loss_of(batches[0] * where.sizes.crowded)
    except (AutobatchError, MemoryError) as error:
        said, kind = str(error), type(error).__name__
    finally:
        where.memory.limit(None)
    gc.collect()
    again = loss_of(batches[0])
    is_clear = kind == "DeviceMemoryError" and "out of memory" in said and "repair:" in said
    return {"error": kind, "said": said, "before": expected, "after": again, "works": is_clear and again == expected}


def _warm(program: Own, batches: Sequence[list[Any]]) -> float:
    """Run steps until everything is compiled and kept; seconds of the last one."""
    took = 0.0
    for examples in [*batches] * WARM_EPOCHS:
        start = time.perf_counter()
        program.read(program.launch(examples))
        took = time.perf_counter() - start
    return took
