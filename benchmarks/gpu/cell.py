"""All programs at one width and batch size, in one process: what is measured, and how.

    step     milliseconds from one step's end to the next, by events of the device, while step k's loss is read after
             step k + 1 was launched
    host     milliseconds of the host for launching a step, recording included
    device   milliseconds of the device for a step that waits in its queue, so that the host is not in it

Programs take turns by rounds of such steps; figures are medians over all steps. A program whose losses are not those of
the others is void, and so is one that replays something else than it would compute.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from benchmarks import measure
from benchmarks.gpu.floors import ProductsOnDevice, n_bytes, queued
from benchmarks.gpu.place import Place
from benchmarks.runner import launched_products, stage_figures
from benchmarks.validity import LOSS_TOLERANCE
from benchmarks.workload import CELLS, CELLS_REUSED, Parameters, Workload

WARM_STEPS = 3
ROUNDS = 3
QUEUED_STEPS = 5
OURS = (CELLS, CELLS_REUSED)


class Launcher(Protocol):
    """A training program of which a step is launched, and its loss read later."""

    def launch(self, examples: Sequence[Any]) -> Any:
        """Start one training step by Adam; returns what `read` takes."""

    def read(self, pending: Any) -> float:
        """The summed loss of that step, before its update."""


class Own:
    """A trainer of autobatch."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def launch(self, examples: Sequence[Any]) -> Any:
        """See `Launcher`."""
        return self.trainer.launch(examples)

    def read(self, pending: Any) -> float:
        """Asks for the value, which waits for its step."""
        return float(pending)


Factory = Callable[[Parameters], Launcher]


@dataclass(slots=True)
class Row:
    """One program and what was measured of it; times in milliseconds."""

    name: str
    program: Launcher
    losses: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    host: list[float] = field(default_factory=list)
    device: float = math.nan
    void: str = ""
    failed: str = ""

    def figures(self) -> dict[str, Any]:
        """What the report keeps."""
        kept: dict[str, Any] = {"void": self.void, "failed": self.failed, "losses": self.losses}
        if not self.failed:
            step, host = statistics.median(self.steps), statistics.median(self.host)
            kept |= {"step": step, "host": host, "device": self.device, "timed": len(self.steps)}
        return kept


def own_programs(workload: Workload, dim: int) -> dict[str, Factory]:
    """The programs of autobatch, with recordings made anew and reused."""

    def factory(name: str) -> Factory:
        return lambda parameters: Own(workload.trainers[name](parameters, dim))

    return {name: factory(name) for name in OURS}


def measure_cell(
    workload: Workload,
    factories: Mapping[str, Factory],
    dim: int,
    batches: Sequence[list[Any]],
    place: Place,
    seconds: float,
    bytes_a_second: float,
) -> dict[str, Any]:
    """Measure all programs at one width on the same minibatches; each may take about so many seconds."""
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    for name, make in factories.items():
        try:
            rows.append(Row(name, make(workload.parameters(dim))))
        except ImportError as error:
            skipped[name] = measure.one_line(error)
    for row in rows:
        _guarded(row, lambda row: _warm(row, batches))
    judge(rows)
    for row in rows:
        _guarded(row, lambda row: _prime(row, batches))
    gc.collect()
    for shift in range(ROUNDS):
        for k in range(len(rows)):
            row = rows[(k + shift) % len(rows)]
            _guarded(row, lambda row: _round(row, batches, place, seconds / ROUNDS))
    for row in rows:
        _guarded(row, lambda row: _alone(row, batches, place))
    parameters = workload.parameters(dim)
    products = workload.products(batches[0], dim)
    floors = {
        "products, full width": queued(place.clock, ProductsOnDevice(products).step, QUEUED_STEPS, 1.0),
        "bytes at the speed of a copy": 1e3 * n_bytes(products, parameters) / bytes_a_second,
    }
    stages = {}
    for row in rows:
        if isinstance(row.program, Own) and not row.failed:
            trainer = row.program.trainer
            stages[row.name] = stage_figures(trainer, batches)
            if row.name == CELLS:
                launched = launched_products(trainer, batches[:1])[0]
                step = ProductsOnDevice(launched).step
                floors["products, widths of the schedule"] = queued(place.clock, step, QUEUED_STEPS, 5.0)
    return {
        "workload": workload.name,
        "dim": dim,
        "batch": len(batches[0]),
        "programs": {row.name: row.figures() for row in rows},
        "floors": floors,
        "stages": stages,
        "skipped": skipped,
    }


def judge(rows: Sequence[Row]) -> None:
    """Say of programs whose first losses are not those of the first program that they are void."""
    compared = [row for row in rows if row.losses]
    for row in compared[1:]:
        if len(row.losses) != len(compared[0].losses) or not np.allclose(
            row.losses, compared[0].losses, rtol=LOSS_TOLERANCE, atol=0.0
        ):
            row.void = f"losses {_short(row.losses)} are not those of {compared[0].name} {_short(compared[0].losses)}"


def _guarded(row: Row, action: Callable[[Row], None]) -> None:
    """Do something with a program that may fail; one that failed is left alone."""
    if row.failed:
        return
    try:
        action(row)
    except Exception as error:
        row.failed = measure.one_line(error)


def _warm(row: Row, batches: Sequence[Any]) -> None:
    for k in range(WARM_STEPS):
        row.losses.append(row.program.read(row.program.launch(batches[k % len(batches)])))


def _prime(row: Row, batches: Sequence[Any]) -> None:
    """Every minibatch is seen as often as programs need that keep something of it."""
    for examples in [*batches, *batches, *batches]:
        row.program.launch(examples)
    row.program.read(row.program.launch(batches[0]))


def _round(row: Row, batches: Sequence[Any], place: Place, seconds: float) -> None:
    """Steps one behind the other, for about so many seconds, at least once through the minibatches."""
    clock, program = place.clock, row.program
    clock.synchronize()
    marks, pending, end = [clock.mark()], None, time.perf_counter() + seconds
    k = 0
    while k < len(batches) or time.perf_counter() < end:
        start = time.perf_counter()
        launched = program.launch(batches[k % len(batches)])
        row.host.append(1e3 * (time.perf_counter() - start))
        marks.append(clock.mark())
        if pending is not None:
            program.read(pending)
        pending = launched
        k += 1
    program.read(pending)
    clock.synchronize()
    # the first step has nothing before it to hide behind
    row.steps += [clock.milliseconds(a, b) for a, b in list(pairwise(marks))[k > 1 :]]


def _alone(row: Row, batches: Sequence[Any], place: Place) -> None:
    host = statistics.median(row.host)
    times = [
        queued(place.clock, lambda examples=examples: row.program.launch(examples), 1, host)
        for examples in batches[:QUEUED_STEPS]
    ]
    row.device = statistics.median(times)
    agrees = getattr(row.program, "agrees", None)
    if agrees is not None and not agrees(batches[0], LOSS_TOLERANCE):
        row.void = row.void or "what it replays is not what it computes"


def _short(losses: Sequence[float]) -> str:
    return f"[{', '.join(f'{loss:.6g}' for loss in losses)}]"
