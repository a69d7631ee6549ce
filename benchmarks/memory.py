"""Memory: `python -m benchmarks memory` holds what a training step keeps against what it needs.

*Needed* are the bytes of all values that the step computes or is given, of what the backward pass keeps of each launch
beside them (residuals), and of the gradients, of the values that carry one and of the parameters. *Leased* is the most
that pools, residuals and gradients took at once, rounding and reuse of buffers included. Parameters and what the
optimiser keeps are not in it.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import autobatch as ab
from autobatch.backends.host.arena import arena
from autobatch.run.execute import HostRun
from autobatch.schedule.structures import CONCAT_ROWS, TAKE_ROWS
from benchmarks import measure
from benchmarks.workload import CELLS, NO_CELLS, WORKLOADS, Workload, load, minibatches

BATCH = 64
PROGRAMS = (CELLS, NO_CELLS)
EPOCH = 5  # minibatches; the second time round nothing may grow


def needed(run: HostRun) -> dict[str, int]:
    """Bytes of values, residuals and gradients of a run."""
    tape, plan, table = run.tape, run.plan, run.tape.signatures
    node = np.repeat(np.arange(tape.sig.size), np.diff(tape.value_of))
    sig = tape.sig[node]
    pool = table.result_pool[table.result_of[sig] + np.arange(node.size) - tape.value_of[node]]
    width = np.array([columns * np.dtype(dtype).itemsize for columns, dtype in tape.pools])
    floating = np.array([np.dtype(dtype).kind == "f" for _, dtype in tape.pools])
    view = np.isin(table.kind[sig], (CONCAT_ROWS, TAKE_ROWS))
    n_bytes = np.where((plan.start != -1) & ~view, plan.count * width[pool], 0)
    carries = (np.asarray(run.needs)[node] != 0) & floating[pool]
    return {
        "values": int(n_bytes.sum()),
        "residuals": sum(array.nbytes for residuals in run.residuals.values() for array in residuals),
        "gradients": int(n_bytes[carries].sum()),
    }


def of_program(trainer: Any, batches: Sequence[Sequence[Any]]) -> dict[str, float]:
    """Figures of one program: the most over its minibatches, in bytes."""
    worst: dict[str, float] = {}
    for examples in batches:
        trainer.optimizer.zero_grad()
        gc.collect()
        arena().clear()
        loss = ab.sum(ab.map(trainer.model.loss, examples))
        float(loss)
        need = needed(loss._tape.run)
        loss.backward()
        need["leased"] = arena().peak_bytes
        need["gradients"] += sum(_n_bytes(p.grad) for p in trainer.model.parameters() if p.grad is not None)
        ratio = need["leased"] / (need["values"] + need["residuals"] + need["gradients"])
        del loss
        if ratio > worst.get("ratio", 0.0):
            worst = {**need, "ratio": ratio}
    trainer.optimizer.zero_grad()
    arena().clear()
    for epoch in ("first epoch", "second epoch"):
        for examples in batches:
            trainer.step(examples)
        gc.collect()
        worst[epoch] = arena().peak_bytes
    return worst


def _n_bytes(gradient: Any) -> int:
    """Bytes of a gradient, dense or as rows of a table."""
    return int(gradient.values.nbytes + gradient.rows.nbytes if hasattr(gradient, "rows") else gradient.nbytes)


def of_workload(workload: Workload) -> dict[str, dict[str, float]]:
    """Figures of the programs of autobatch, at the first width."""
    batches = minibatches(workload.examples(), BATCH)[:EPOCH]
    dim = workload.dims[0]
    return {
        name: of_program(workload.trainers[name](workload.parameters(dim), dim), batches)
        for name in PROGRAMS
        if name in workload.trainers
    }


def main(arguments: Sequence[str]) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks memory", description=__doc__)
    parser.add_argument("workloads", nargs="*", default=list(WORKLOADS), metavar="NAME", help="all, if none is named")
    parser.add_argument("--quick", action="store_true", help="the first workload alone")
    parser.add_argument("--out", metavar="FILE", help="keep the figures there")
    options = parser.parse_args(arguments)
    columns = ("values", "residuals", "gradients", "leased", "first epoch", "second epoch")
    rows: list[list[object]] = []
    ratios: dict[str, float] = {}
    for name in options.workloads[: 1 if options.quick else None]:
        for program, figures in of_workload(load(name)).items():
            ratios[f"{name}: {program}"] = figures["ratio"]
            rows.append([f"{name}: {program}", *(f"{figures[c] / 1e6:.1f}" for c in columns), figures["ratio"]])
    text = measure.table(f"memory of a step, batch {BATCH}, MB", ["", *columns, "leased / needed"], rows)
    print(text)
    if options.out:
        Path(options.out).write_text(json.dumps({"ratios": ratios, "text": text}, indent=1) + "\n")
    return 0
