"""The plot of a report: each program against the matmuls alone, on a logarithmic scale.

    python -m benchmarks.plot benchmarks/results/report-2026-11-21.json docs/speed.svg

draws the one of the README from a report that is kept: a width of each workload, without the loop.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from benchmarks.runner import FULL_WIDTH, KINDS, SCHEDULE_WIDTHS, best
from benchmarks.workload import CELLS, CELLS_REUSED, LOOP, NO_CELLS, NO_CELLS_REUSED

BATCH = 64
COLOURS = {
    CELLS: "#0b5d8f",
    CELLS_REUSED: "#58a6d6",
    NO_CELLS: "#8a6d3b",
    NO_CELLS_REUSED: "#d8b365",
    "numpy": "#6b6b6b",
    "pytorch": "#d1495b",
    "dynet": "#3a8f5c",
    LOOP: "#c9c9c9",
}
"""Programs in the order of their bars; of a kind of peer the fastest."""


IN_README = [name for name in COLOURS if name not in (NO_CELLS_REUSED, LOOP)]
Cells = Mapping[tuple[str, int, int], Mapping[str, Any]]
"""Figures by workload, width and batch size."""


def shown(times: Mapping[str, float], programs: Collection[str] = tuple(COLOURS)) -> dict[str, float]:
    """Ratios to the products at full width, of what the plot shows."""
    bars = {}
    for name in programs:
        time = best(times, name) if name in KINDS else times.get(name)
        if time is not None:
            bars[name] = time / times[FULL_WIDTH]
    return bars


def draw(cells: Cells, stem: Path) -> list[Path]:
    """Write the plot of batch 64 as `stem`.svg and `stem`.png; nothing where matplotlib is absent."""
    try:
        figure = drawn({key: cell for key, cell in cells.items() if key[2] == BATCH}, tuple(COLOURS))
    except ImportError:
        return []
    paths = [stem.with_name(stem.name + ending) for ending in (".svg", ".png")] if figure else []
    for path in paths:
        figure.savefig(path, dpi=120)
    return paths


def drawn(cells: Cells, programs: Collection[str]) -> Any:
    """The figure, None of no cells; ImportError where matplotlib is absent."""
    from matplotlib.figure import Figure

    groups = [(key, cell["milliseconds"]) for key, cell in cells.items()]
    if not groups:
        return None
    height = 0.8 / len(programs)
    figure = Figure(figsize=(9, 1.2 + 0.09 * len(programs) * len(groups)), layout="constrained")
    axes = figure.subplots()
    for row, (_, times) in enumerate(groups):
        for place, (name, ratio) in enumerate(shown(times, programs).items()):
            axes.barh(row - 0.4 + (place + 0.5) * height, ratio, height, color=COLOURS[name])
        if SCHEDULE_WIDTHS in times:
            schedule = times[SCHEDULE_WIDTHS] / times[FULL_WIDTH]
            axes.plot([schedule, schedule], [row - 0.42, row + 0.42], color="black", linewidth=1)
    axes.axvline(1.0, color="black", linewidth=0.6)
    axes.set_xscale("log")
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 100) if t <= axes.get_xlim()[1]]
    axes.set_xticks(ticks, map(str, ticks))
    axes.set_yticks(range(len(groups)), [f"{name} {dim}" for (name, dim, _), _ in groups])
    axes.invert_yaxis()
    axes.set_xlabel("time of a training step ÷ its matmuls alone, at full width (log)")
    axes.set_title(f"batch {BATCH}, one thread; black: the matmuls at the widths of the schedule", fontsize=9)
    handles = [axes.barh(0, 0, color=COLOURS[name], label=name) for name in programs]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return figure


def draw_of_readme(report: Path, to: Path) -> None:
    """Draw the middle width of each workload of a report."""
    import matplotlib

    from benchmarks.report import cells_of

    widths: dict[str, list[int]] = {}
    cells = {key: cell for key, cell in cells_of(json.loads(report.read_text())).items() if key[2] == BATCH}
    for name, dim, _ in cells:
        widths.setdefault(name, []).append(dim)
    middle = {name: sorted(dims)[len(dims) // 2] for name, dims in widths.items()}
    with matplotlib.rc_context({"svg.hashsalt": "speed"}):  # the same bytes each time
        figure = drawn({key: cell for key, cell in cells.items() if key[1] == middle[key[0]]}, IN_README)
        figure.savefig(to, metadata={"Date": None})


if __name__ == "__main__":
    draw_of_readme(*map(Path, sys.argv[1:3]))
