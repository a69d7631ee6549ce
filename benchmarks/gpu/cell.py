"""All programs at one width and batch size, in one process: what is measured, and how.

    step     milliseconds from one step's end to the next, by events of the device, while step k's loss is read after
             step k + 1 was launched
    host     milliseconds of the host for launching a step, recording included
    device   milliseconds of the device for a step that waits in its queue, so that the host is not in it

Programs take turns by rounds of such steps; figures are medians over all steps. A program whose losses are not those of
the others is void, and so is one that replays something else than it would compute.
"""

from __future__ import annotations

import contextlib
import gc
import math
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    traceback: str = ""

    def figures(self) -> dict[str, Any]:
        """What the report keeps."""
        kept: dict[str, Any] = {"void": self.void, "failed": self.failed, "losses": self.losses}
        if self.failed:
            kept["traceback"] = self.traceback
        elif self.steps:
            step, host = statistics.median(self.steps), statistics.median(self.host)
            kept |= {"step": step, "host": host, "device": self.device, "timed": len(self.steps)}
        return kept


def own_programs(workload: Workload, dim: int) -> dict[str, Factory]:
    """The programs of autobatch, with new and reused recordings."""

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
    keep: Callable[[dict[str, Any]], None] = lambda cell: None,
) -> dict[str, Any]:
    """Measure all programs at one width on the same minibatches; each may take about so many seconds. `keep` is handed
    what there is whenever there is more. What fails is left out, and "skipped" says why."""
    floors: dict[str, float] = {}
    stages: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    rows: list[Row] = []

    def cell() -> dict[str, Any]:
        programs = {row.name: row.figures() for row in rows}
        at = {"workload": workload.name, "dim": dim, "batch": len(batches[0])}
        return {**at, "programs": programs, "floors": floors, "stages": stages, "skipped": skipped}

    for name, make in factories.items():
        with _left_out(skipped, name):
            rows.append(Row(name, make(workload.parameters(dim))))
    for row in rows:
        _guarded(row, lambda row: _warm(row, batches))
    judge(rows)
    keep(cell())
    for row in rows:
        _guarded(row, lambda row: _prime(row, batches))
    gc.collect()
    for shift in range(ROUNDS):
        for k in range(len(rows)):
            row = rows[(k + shift) % len(rows)]
            _guarded(row, lambda row: _round(row, batches, place, seconds / ROUNDS))
        keep(cell())
    for row in rows:
        if not row.failed:
            with _left_out(skipped, f"{row.name}: time of the device"):
                _alone(row, batches, place)
    keep(cell())
    for row in rows:
        if isinstance(row.program, Own) and not row.failed:
            with _left_out(skipped, f"stages of {row.name}"):
                stages[row.name] = stage_figures(row.program.trainer, batches)
    with _left_out(skipped, "floors"):
        _measure_floors(floors, workload, dim, rows, batches[0], place, bytes_a_second)
    keep(cell())
    return cell()


def _measure_floors(
    floors: dict[str, float],
    workload: Workload,
    dim: int,
    rows: Sequence[Row],
    examples: list[Any],
    place: Place,
    bytes_a_second: float,
) -> None:
    """The products of a minibatch at full width, its bytes, and the products in the launches of autobatch."""
    products = workload.products(examples, dim)
    floors["products, full width"] = queued(place.clock, ProductsOnDevice(products).step, QUEUED_STEPS, 1.0)
    floors["bytes at the speed of a copy"] = 1e3 * n_bytes(products, workload.parameters(dim)) / bytes_a_second
    for row in rows:
        if row.name == CELLS and isinstance(row.program, Own) and not row.failed:
            launched = launched_products(row.program.trainer, [examples])[0]
            step = ProductsOnDevice(launched).step
            floors["products, widths of the schedule"] = queued(place.clock, step, QUEUED_STEPS, 5.0)


@contextlib.contextmanager
def _left_out(skipped: dict[str, str], name: str) -> Iterator[None]:
    """What fails inside the block is left out."""
    try:
        yield
    except Exception as error:
        skipped[name] = measure.one_line(error)


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
        row.failed, row.traceback = measure.one_line(error), traceback.format_exc()


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
