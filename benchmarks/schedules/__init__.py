"""Launches of a training step, beside the fewest that any order needs, under every schedule policy.

    python -m benchmarks schedules [NAME ...] [--write]

Of every workload with cells and without (64 examples), and of programs of this folder whose bound no order reaches (16
examples): means over minibatches that `learned` has not been taught by. The bound is the sum over signatures of the
longest chain of nodes of that signature. `auto` is shown as it orders recordings whose structure recurs: those of up to
1,000 nodes are searched. Counts do not depend on the machine; nothing is run.

A program of this folder, `NAME.py`, has `MODEL`, of a width, and `examples`, of a number, drawn from a fixed seed.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import autobatch as ab
from autobatch.engine.flush import LARGEST
from autobatch.explain.inspection import inspect_recordings
from autobatch.record.tape import state
from autobatch.schedule.policies.learned import MINIBATCHES
from autobatch.schedule.schedule import lower_bound, schedule
from benchmarks.autobatch_trainer import AutobatchTrainer
from benchmarks.workload import CELLS, NO_CELLS, WORKLOADS, load, minibatches

PROGRAMS = {
    "spinn": "SPINN",
    "rnng": "RNNG",
    "parser": "transition parser, teacher forcing",
    "short_lattice": "lattice LSTM, short sentences",
    "dags": "random DAGs of 4 cells",
}
POLICIES = ("auto", "frontier", "agenda", "depth", "learned")
DIM, TESTED = 16, 4

Row = dict[str, Any]
Case = tuple[str, Any, list[list[Any]]]
"""A title, a model, and minibatches: those that are learned from, then those that are counted."""

DOCS = Path(__file__).parent.parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- python -m benchmarks schedules --write -->", "<!-- end -->"


def cases(names: Sequence[str]) -> Iterator[Case]:
    """What is counted, under the names of programs and workloads."""
    n_batches = MINIBATCHES + TESTED
    for name in names:
        if name in PROGRAMS:
            module = importlib.import_module(f"benchmarks.schedules.{name}")
            yield PROGRAMS[name], module.MODEL(DIM), minibatches(module.examples(16 * n_batches), 16)
            continue
        workload = load(name)
        for way in (CELLS, NO_CELLS):
            trainer = workload.trainers[way](workload.parameters(DIM), DIM)
            assert isinstance(trainer, AutobatchTrainer)
            title = f"{workload.title}, {way.removeprefix('autobatch, ')}"
            yield title, trainer.model, minibatches(workload.examples()[: 64 * n_batches], 64)


def counted(case: Case) -> Row:
    """Means of launches, and of nodes once cells are found and cut."""
    title, model, batches = case
    rows: list[Row] = []
    n_taught = len(batches) - TESTED
    for k, batch in enumerate(batches):
        loss = ab.sum(ab.map(model.loss, batch))
        (made,) = inspect_recordings(loss)
        row: Row = {"nodes": made.schedule.nodes.size}
        for policy in POLICIES if k >= n_taught else ("learned",):
            recurs = made.recorded.sig.size <= LARGEST
            row[policy] = schedule(made.tape, policy, made.signatures, recurs).launch_sig.size
        row["bound"] = lower_bound(made.tape, made.schedule) if k >= n_taught else 0
        rows.append(row)
        state.tape = None
        del loss, made
        gc.collect()
    tested = rows[n_taught:]
    return {"title": title} | {name: statistics.mean(row[name] for row in tested) for name in tested[0]}


def table_of(rows: Sequence[Row]) -> str:
    """The table, in Markdown."""
    names = ("nodes", "bound", *POLICIES)
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for row in rows:
        cells = [f"{row['nodes']:,.0f}", *(f"{row[name]:.1f}".removesuffix(".0") for name in names[1:])]
        lines.append(f"| {row['title']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Count and print; returns 0."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks schedules", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*PROGRAMS, *WORKLOADS]
    parser.add_argument("names", nargs="*", choices=[*names, []], metavar="NAME", help=", ".join(names))
    parser.add_argument("--write", action="store_true", help="write the table of all of them into docs/performance.md")
    options = parser.parse_args(arguments)
    text = table_of([counted(case) for case in cases(options.names or names)])
    print(text)
    if options.write and not options.names:
        before, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        DOCS.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
    return 0
