"""The report of the GPU benchmark: bars, then a table for each workload, width and batch size, as Markdown.

A bar is met or not met by figures of programs that are not void; where one of them is missing there is no figure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.bars import Bar, summary
from benchmarks.gpu.cell import __doc__ as how_it_is_measured
from benchmarks.gpu.peers import EAGER, GRAPH, PREBUILT
from benchmarks.workload import CELLS, CELLS_REUSED

Cell = Mapping[str, Any]
Cells = Sequence[Cell]

FASTER_REUSED, FASTER, TREES_A_SECOND, LSTM, HIDDEN, LAUNCH = 3.0, 1.0, 20_000.0, 1.0, 1.1, 10.0
LSTM_BATCH = 64  # the least minibatch at which the tagger is held against cuDNN
FULL_WIDTH = "products, full width"


def step_of(cell: Cell | None, *names: str) -> float | None:
    """The least milliseconds a step of the programs whose names begin so, without those that are void or failed."""
    if cell is None:
        return None
    programs = cell["programs"].items()
    return min((p["step"] for name, p in programs if name.startswith(names) and _counts(p)), default=None)


def bars(cells: Cells) -> list[Bar]:
    """All bars, with what these cells have to say of each."""
    at = {(cell["workload"], cell["dim"], cell["batch"]): cell for cell in cells}
    found: list[Bar] = []
    trees = at.get(("treelstm", 256, 256))
    where = "treelstm, dim 256, batch 256"
    reused, fresh = own_step(trees, CELLS_REUSED), own_step(trees, CELLS)
    for what, names in {
        "level-batched PyTorch, plans prebuilt / autobatch, reused": (PREBUILT,),
        "the same with CUDA graphs / autobatch, reused": (GRAPH,),
    }.items():
        found.append(Bar(what, where, _ratio(step_of(trees, *names), reused), FASTER_REUSED, at_least=True))
    found.append(
        Bar(
            "both building per step: PyTorch / autobatch",
            where,
            _ratio(step_of(trees, EAGER), fresh),
            FASTER,
            None,
            True,
        )
    )
    found.append(Bar("trees a second, reused", where, _ratio(256e3, reused), TREES_A_SECOND, at_least=True))
    for cell in cells:
        if cell["workload"] == "bilstm" and cell["dim"] >= 256 and cell["batch"] >= LSTM_BATCH:
            peer = step_of(cell, EAGER, PREBUILT)
            where = f"bilstm, dim {cell['dim']}, batch {cell['batch']}"
            figure = _ratio(peer, own_step(cell, CELLS_REUSED))
            found.append(Bar("packed nn.LSTM / autobatch, reused", where, figure, LSTM, at_least=True))
    found += launch_bars(cells)
    hidden = at.get(("treelstm", 512, 256))
    for name in (CELLS, CELLS_REUSED):
        where = "treelstm, dim 512, batch 256"
        found.append(Bar(f"step / the longer of host and device: {name}", where, _hidden(hidden, name), HIDDEN))
    return found


def own_step(cell: Cell | None, name: str) -> float | None:
    """Milliseconds a step of the program of this very name, unless it is void or failed."""
    program = cell["programs"].get(name) if cell else None
    return program["step"] if program and _counts(program) else None


def launch_bars(cells: Cells) -> list[Bar]:
    """What the host takes for a launch on the device."""
    found = []
    for cell in cells:
        if cell["workload"] == "treelstm" and cell["dim"] in (256, 512) and cell["batch"] == 256:
            for name in (CELLS, CELLS_REUSED):
                each = cell["stages"].get(name, {}).get("µs of the host for each")
                where = f"treelstm, dim {cell['dim']}, batch 256"
                found.append(Bar(f"µs of the host for a launch: {name}", where, each, LAUNCH))
    return found


def _hidden(cell: Cell | None, name: str) -> float | None:
    program = cell["programs"].get(name) if cell else None
    if not program or not _counts(program):
        return None
    longer = max(program["host"], program["device"])  # the latter may not have been measured
    return float(program["step"] / longer) if longer > 0 and not math.isnan(program["device"]) else None


def _counts(program: Mapping[str, Any]) -> bool:
    return not program["void"] and not program["failed"] and "step" in program


def _ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b is not None else None


def markdown(report: Mapping[str, Any]) -> str:
    """The whole report as text."""
    found = bars(report["cells"])
    lines = ["# Benchmarks on a GPU", "", *(f"* {key}: {value}" for key, value in report["machine"].items()), ""]
    lines += [
        f"{report['minutes']:.0f} minutes. {summary(found)}.",
        "",
        str(how_it_is_measured).partition("\n\n")[2],
        "",
    ]
    lines += ["## Bars", "", *table_of_bars(found)]
    for cell in report["cells"]:
        lines += ["", *cell_lines(cell)]
    return "\n".join(lines) + "\n"


def table_of_bars(found: Iterable[Bar]) -> Iterable[str]:
    """All bars: met, not met, or not measured."""
    yield "| | | measured | bar | |"
    yield "|---|---|---|---|---|"
    for bar in found:
        sign, verdict = "≥" if bar.at_least else "≤", {True: "met", False: "**not met**", None: "–"}[bar.met]
        figure = "–" if bar.figure is None else f"{bar.figure:,.2f}"
        yield f"| {bar.what} | {bar.where} | {figure} | {sign} {bar.bar:g} | {verdict} |"


def cell_lines(cell: Cell) -> Iterable[str]:
    """One width and batch size: milliseconds of each program, floors, and autobatch's stages."""
    floor = cell["floors"].get(FULL_WIDTH, math.nan)
    yield f"## {cell['workload']}, dim {cell['dim']}, batch {cell['batch']}"
    yield ""
    yield "| | ms a step | × products | examples/s | host ms | device ms | |"
    yield "|---|---|---|---|---|---|---|"
    for name, p in cell["programs"].items():
        note = (p["failed"] and f"failed: {p['failed']}") or (p["void"] and f"VOID: {p['void']}")
        if "step" not in p:
            yield f"| {name} | – | – | – | – | – | {note} |"
            continue
        rate = f"{1e3 * cell['batch'] / p['step']:,.0f}" if p["step"] else "–"
        figures = f"{p['step']:.3f} | {p['step'] / floor:.1f} | {rate} | {p['host']:.3f} | {p['device']:.3f}"
        yield f"| {name} | {figures} | {note} |"
    for name, reason in cell["skipped"].items():
        yield f"| {name} | – | – | – | – | – | left out: {reason} |"
    for name, milliseconds in cell["floors"].items():
        yield f"| floor: {name} | {milliseconds:.3f} | {milliseconds / floor:.1f} | | | | |"
    if cell["stages"]:
        names = dict.fromkeys(stage for figures in cell["stages"].values() for stage in figures)
        yield ""
        yield f"| stage, ms of the host | {' | '.join(cell['stages'])} |"
        yield "|---" * (1 + len(cell["stages"])) + "|"
        for name in names:
            values = [figures.get(name) for figures in cell["stages"].values()]
            yield f"| {name} | {' | '.join('–' if v is None else f'{v:.4g}' for v in values)} |"
        for stage in ("forward", "reverse"):
            each = [f"{1e3 * figures[stage] / figures['launches']:.1f}" for figures in cell["stages"].values()]
            yield f"| µs of the host for a launch, {stage} | {' | '.join(each)} |"
