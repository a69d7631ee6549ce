"""The plot of a report: each program against the matmuls alone, on a logarithmic scale."""

from __future__ import annotations

from collections.abc import Mapping
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


def shown(times: Mapping[str, float]) -> dict[str, float]:
    """Ratios to the products at full width, of what the plot shows."""
    bars = {}
    for name in COLOURS:
        time = best(times, name) if name in KINDS else times.get(name)
        if time is not None:
            bars[name] = time / times[FULL_WIDTH]
    return bars


def draw(cells: Mapping[tuple[str, int, int], Mapping[str, Any]], stem: Path) -> list[Path]:
    """Write the plot of batch 64 as `stem`.svg and `stem`.png; nothing where matplotlib is absent."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    groups = [(key, cell["milliseconds"]) for key, cell in cells.items() if key[2] == BATCH]
    if not groups:
        return []
    height = 0.8 / len(COLOURS)
    figure = Figure(figsize=(9, 1.2 + 0.72 * len(groups)), layout="constrained")
    axes = figure.subplots()
    for row, (_, times) in enumerate(groups):
        for place, (name, ratio) in enumerate(shown(times).items()):
            axes.barh(row - 0.4 + (place + 0.5) * height, ratio, height, color=COLOURS[name])
        if SCHEDULE_WIDTHS in times:
            schedule = times[SCHEDULE_WIDTHS] / times[FULL_WIDTH]
            axes.plot([schedule, schedule], [row - 0.42, row + 0.42], color="black", linewidth=1)
    axes.axvline(1.0, color="black", linewidth=0.6)
    axes.set_xscale("log")
    axes.set_yticks(range(len(groups)), [f"{name} {dim}" for (name, dim, _), _ in groups])
    axes.invert_yaxis()
    axes.set_xlabel("time of a training step ÷ its matmuls alone, at full width (log)")
    axes.set_title(f"batch {BATCH}, one thread; black: the products at the widths of the schedule", fontsize=9)
    handles = [axes.barh(0, 0, color=colour, label=name) for name, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    paths = [stem.with_name(stem.name + ending) for ending in (".svg", ".png")]
    for path in paths:
        figure.savefig(path, dpi=120)
    return paths
