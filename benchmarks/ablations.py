"""`python -m benchmarks ablations`: what each mechanism of the library brings: training steps without it, and with it.

Every mechanism is switched off in a process of its own, before anything is compiled. The processes take turns on the
same minibatches, one of them at a time: in each turn one untimed step, which brings the caches back, and a few timed
ones. Three processes run the library as it is: what is above and below their middle is noise. Run it twice, and
take the second: the first compiles.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import numpy as np

import autobatch as ab
from autobatch.backends.host.tiles import panels
from autobatch.run.first_writes import FirstWrites
from autobatch.schedule.structures import Expansion
from benchmarks import measure
from benchmarks.runner import cut
from benchmarks.workload import CELLS, CELLS_REUSED, NO_CELLS, NO_CELLS_REUSED, load

BASES = ("as it is", "as it is, again", "as it is, once more")
TOLERANCE, FEW = 1e-3, 8
TRAINERS = {"cells": CELLS, "cells-reused": CELLS_REUSED, "plain": NO_CELLS, "plain-reused": NO_CELLS_REUSED}
CASES = """
treelstm cells-reused 64 64, treelstm cells-reused 256 64, treelstm cells 128 64, treelstm cells 256 1,
bilstm cells-reused 50 64, bilstm cells 128 1, lattice cells-reused 128 64, mvrnn cells-reused 64 64, mlp cells 512 64,
childsum cells-reused 128 64, lm cells 256 1, treelstm plain 128 64, bilstm plain-reused 50 64,
childsum plain-reused 128 64, lm cells-reused 256 4, treefc cells 100 64, tagger_chars cells-reused 50 64,
treelstm_nodes plain 64 64"""
"""Workload, trainer, dim, examples in a minibatch."""

Row = dict[str, Any]


def _same_graph(graph: Any, _: Any = None) -> tuple[Any, list[int]]:
    return graph, list(range(len(graph.nodes)))


def _not_expanded(tape: Any, signatures: Any, *_: Any) -> tuple[Expansion, list[Any]]:
    return Expansion(tape), list(signatures)


def _all_zeroed(run: Any, wanted: Any, *_: Any) -> FirstWrites:
    return FirstWrites(np.zeros(len(wanted), np.uint8), [np.ones(len(pool), np.uint8) for pool in run.pools])


MECHANISMS: dict[str, dict[str, Any]] = {
    "forwarded concat operands": {
        "compile.host.lower:forward_concats": _same_graph,
        "compile.split:forward_concats": _same_graph,
    },
    "hoisted work": {"expand.expand:_cut": _not_expanded},
    "merged matmuls": {"compile.kernel:merge_matmuls": lambda graph: graph},
    "in-place matmuls": {
        "compile.host.lower:matmuls_in_place": lambda graph, _: graph,
        "compile.host.calls:read_in_place": lambda _: set(),
        "compile.rewrites.residuals:concats_in_place": lambda *_: set(),
        "compile.rewrites.residuals:is_in_pool": lambda _: False,
        "compile.rewrites.residuals:is_stack": lambda _: False,
    },
    "first writes stored": {"run.backward:first_writes": _all_zeroed},
    "cotangents of looked-up rows in place": {
        "compile.rewrites.residuals:_read_where_it_lies": lambda gradient, _: gradient
    },
    "labels found by column": {"compile.rewrites.movement:_by_column": lambda *_: None},
    "packed weights kept": {"backends.host.matmul:kept": panels},
    "slots without gradient left out": {"expand.expand:note_constants": lambda *_: None},
    "found cells": {"expand.expand:join_recording": _not_expanded},
    "chains counted by the schedule": {
        "schedule.policies.frontier:MOST_SIGNATURES": 1,
        "schedule.policies.ready:MOST_SIGNATURES": 1,
    },
    "kept plans and layouts": {"engine.flush:LARGEST": -1},
    "kept layouts": {"run.kept_plans:LAYOUT_BYTES": -1},
    "collector off while recording": {"map.map:gc": SimpleNamespace(isenabled=lambda: False, disable=lambda: None)},
}
"""What takes the place of which names of the library."""

if ab.recorder == "python":
    MECHANISMS |= {
        "tensors used again": {"record.tensor_list:TensorList.leave_tensors": lambda tape, _: tape.tensors.clear()},
        "reference counts read by a loop": {"base.cpython:memory_is_readable": lambda: False},
    }


def switch_off(replaced: Mapping[str, Any]) -> None:
    """Put values in the place of names of the library, all of which have to be there."""
    for path, value in replaced.items():
        module, names = path.split(":")
        owner: Any = importlib.import_module(f"autobatch.{module}")
        *inner, last = names.split(".")
        for name in inner:
            owner = getattr(owner, name)
        getattr(owner, last)
        setattr(owner, last, value)


def work(pipe: Connection, mechanism: str, realtime: bool) -> None:
    """Switch a mechanism off, and run the steps that are asked for."""
    measure.keep_freed_memory()
    switch_off(MECHANISMS.get(mechanism, {}))
    case, trainer, batches = "", None, []
    with contextlib.suppress(EOFError):
        while True:
            asked, steps = pipe.recv()
            is_new, case = asked != case, asked
            if is_new:
                trainer = None
                ab.forget()
                name, kind, dim, batch = case.split()
                workload = load(name)
                batches = cut(workload.examples(), int(batch))[: FEW if int(batch) > 16 else None]
                trainer = workload.trainers[TRAINERS[kind]](workload.parameters(int(dim)), int(dim))
            elif realtime:
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            assert trainer is not None
            found = []
            for k in steps:
                start = time.perf_counter()
                loss = trainer.step(batches[k % len(batches)])
                found.append((time.perf_counter() - start, loss))
            if realtime:
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            pipe.send(found)


def measured(cases: Sequence[str], mechanisms: Sequence[str], n_rounds: int, realtime: bool = False) -> list[Row]:
    """For each case the milliseconds of a step as it is, and what it takes more without each mechanism, in percent."""
    context, pipes, rows = multiprocessing.get_context("spawn"), {}, []
    for name in (*BASES, *mechanisms):
        pipes[name], there = context.Pipe()
        context.Process(target=work, args=(there, name, realtime), daemon=True).start()
        there.close()
    for case in cases:
        turns = _turns(pipes, case, n_rounds)
        base = [statistics.median(turn[name] for name in BASES) for turn in turns]
        more = {
            name: statistics.median(turn[name] / b for turn, b in zip(turns, base, strict=True)) - 1 for name in pipes
        }
        percent = {name: round(100 * part, 1) for name, part in more.items()}
        rows.append({"case": case, "milliseconds": round(1e3 * statistics.median(base), 2), "percent": percent})
        print(f"{case}: {rows[-1]['milliseconds']} ms, {percent}", flush=True)
    for pipe in pipes.values():
        pipe.close()
    return rows


def _turns(pipes: dict[str, Connection], case: str, n_rounds: int) -> list[dict[str, float]]:
    """Seconds of a step of each process, the median of a turn, in each round."""
    n = 4 if int(case.split()[-1]) > 16 else 11  # steps of a turn, the first of which is not timed
    n_before = max(FEW, n * n_rounds if "reused" in case else 0)  # recordings that are reused are made before
    first, *others = pipes
    losses = {}
    for group in ([first], others):  # the first compiles what all others need
        for name in group:
            pipes[name].send((case, range(n_before)))
        for name in group:
            losses[name] = [loss for _, loss in pipes[name].recv()[:3]]
    for name, own in losses.items():
        if not np.allclose(own, losses[first], rtol=TOLERANCE):
            raise AssertionError(f"{case}: without {name} the losses are {own}, not {losses[first]}")
    found: list[dict[str, float]] = []
    for k in range(n_rounds):
        found.append({})
        for name in [*pipes][k % len(pipes) :] + [*pipes][: k % len(pipes)]:
            pipes[name].send((case, range(FEW + k * n, FEW + (k + 1) * n)))
            found[-1][name] = statistics.median(seconds for seconds, _ in pipes[name].recv()[1:])
    return found


def table(rows: Sequence[Row]) -> str:
    """What a step takes more without a mechanism, in percent: the median, the least and the most of all cases."""
    lines: list[list[object]] = []
    for name in rows[0]["percent"]:
        order = sorted(rows, key=lambda row: -row["percent"][name])
        values = [row["percent"][name] for row in order]
        most = "; ".join(f"{row['percent'][name]:+.1f} {row['case']}" for row in order[:3])
        lines.append([name, f"{statistics.median(values):+.1f}", f"{values[-1]:+.1f}", most])
    return measure.table("\n% that a step takes longer without", ["", "median", "least", "most"], lines)


def main(arguments: Sequence[str]) -> int:
    """Measure, print and keep the table; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ablations", description=__doc__)
    parser.add_argument("--cases", nargs="+", metavar="CASE", help='such as "treelstm cells 128 64"; default: all')
    parser.add_argument("--mechanisms", nargs="+", default=list(MECHANISMS), choices=list(MECHANISMS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=14, help="turns of each process, of 3 or 10 timed steps")
    parser.add_argument("--realtime", action="store_true", help="let nothing else run on the core of a timed step")
    options = parser.parse_args(arguments)
    cases = options.cases or [" ".join(case.split()) for case in CASES.split(",")]
    rows = measured(cases, options.mechanisms, options.rounds, options.realtime)
    print(table(rows))
    print(f"kept as {measure.save('ablations', {'rows': rows})}")
    return 0
