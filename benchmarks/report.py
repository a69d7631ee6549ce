"""The report: `python -m benchmarks all --report` measures everything and writes it down.

Each workload runs in a process of its own, so that one that fails does not end the others; then growth and memory. The
report is Markdown, with the same figures as JSON and a plot beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.bars import Bar, bars, summary
from benchmarks.runner import FULL_WIDTH, VOID_STATUS, variant_text
from benchmarks.workload import WORKLOADS

BATCHES = (64, 1, 4, 16, 256)
VARIANT_SEED = 7
LONGEST = 1_800  # seconds that one process may take
EXTRAS = ("growth", "memory")
LIBRARIES = ("numpy", "mkl")
"""The Tree-LSTM is measured with these libraries of products too, beside the one that autobatch chooses by itself."""


def main(arguments: Sequence[str]) -> int:
    """Run all workloads; returns 1 if one failed, or a table is void."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks all", description=__doc__)
    parser.add_argument("--report", action="store_true", help="write report-DATE in benchmarks/results")
    parser.add_argument("--quick", action="store_true", help="batch 64 and 1, the first width, few steps")
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=WORKLOADS, metavar="NAME")
    parser.add_argument("--out", metavar="FOLDER", help="write the report there, not in benchmarks/results")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in [*options.workloads, *EXTRAS]:
            results[name] = run_apart(name, _arguments(name, options.quick), Path(folder) / f"{name}.json")
        for library in LIBRARIES if "treelstm" in options.workloads else ():
            arguments = [*_arguments("treelstm", options.quick, library), "--products", library]
            results[f"treelstm, {library}"] = run_apart("treelstm", arguments, Path(folder) / f"{library}.json")
    minutes = (time.perf_counter() - start) / 60
    report = {"machine": measure.machine(), "minutes": minutes, "results": results}
    print(f"\n{summary(bars_of(report))}; {minutes:.0f} minutes")
    if options.report:
        for path in write(report, Path(options.out) if options.out else measure.RESULTS):
            print(f"kept as {path}")
    return int(any(result["status"] for result in results.values()))


def _arguments(name: str, quick: bool, library: str = "") -> list[str]:
    if name in EXTRAS:
        return ["--quick"] * quick
    if library:
        return ["--batch", str(BATCHES[0]), "--only", "autobatch, cells", "numpy", *["--quick"] * quick]
    batches = [str(batch) for batch in (BATCHES[:2] if quick else BATCHES)]
    return ["--batch", *batches, "--variant", str(VARIANT_SEED), *["--quick"] * quick]


def run_apart(name: str, arguments: Sequence[str], path: Path) -> dict[str, Any]:
    """Run one benchmark in a process of its own; its figures, its exit status, and what it said last if it failed."""
    command = [sys.executable, "-m", "benchmarks", name, *arguments, "--out", str(path)]
    start = time.perf_counter()
    said = ""
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=LONGEST)
        status, said = done.returncode, done.stderr
    except subprocess.TimeoutExpired as error:
        status = 124
        said = f"{error.stderr or ''}\nstopped after {LONGEST} seconds"
    figures = json.loads(path.read_text()) if path.exists() else {}
    last = [line for line in str(said).strip().splitlines() if line][-1:] if status else []
    return {"status": status, "seconds": time.perf_counter() - start, "said": "".join(last), **figures}


def cells_of(report: Mapping[str, Any], library: str = "") -> dict[tuple[str, int, int], Mapping[str, Any]]:
    """The figures by workload, width and batch size, those of void tables too."""
    ending = f", {library}" if library else ""
    return {
        (name.removesuffix(ending), cell["dim"], cell["batch"]): cell
        for name, result in report["results"].items()
        if name.endswith(ending) and (library or "," not in name)
        for cell in result.get("cells", ())
    }


def bars_of(report: Mapping[str, Any]) -> list[Bar]:
    """The bars, with what this report has to say of each."""
    growth = report["results"].get("growth", {})
    memory = report["results"].get("memory", {})
    others = {
        library: cells_of(report, library) for library in LIBRARIES if f"treelstm, {library}" in report["results"]
    }
    return bars(cells_of(report), others, growth.get("growth", {}), memory.get("ratios", {}))


def write(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the report; returns the paths."""
    from benchmarks.plot import draw

    folder.mkdir(parents=True, exist_ok=True)
    stem = f"report-{report['machine']['date'][:10]}"
    figures = folder / f"{stem}.json"
    figures.write_text(json.dumps(report, indent=1) + "\n")
    plots = draw(cells_of(report), folder / stem)
    text = folder / f"{stem}.md"
    text.write_text(markdown(report, [path.name for path in plots if path.suffix == ".svg"]), encoding="utf-8")
    return [text, figures, *plots]


def markdown(report: Mapping[str, Any], plots: Sequence[str] = ()) -> str:
    """The whole report as text."""
    found = bars_of(report)
    lines = ["# Benchmarks", "", *(f"* {key}: {value}" for key, value in report["machine"].items())]
    lines += ["", f"{report['minutes']:.0f} minutes. {summary(found)}.", ""]
    lines += [f"![each program against its matmuls alone]({plot})\n" for plot in plots]
    lines += _bar_table(found)
    for name, result in report["results"].items():
        if name not in EXTRAS:
            lines += _workload(name, result)
    for name in EXTRAS:
        result = report["results"].get(name)
        if result is not None:
            lines += ["", f"## {name.capitalize()}", "", *_failure(result)]
            lines += ["```text", result["text"], "```"] if "text" in result else []
    return "\n".join(lines) + "\n"


def _bar_table(found: Sequence[Bar]) -> list[str]:
    lines = ["## Bars", "", "| | | measured | bar | | aim | |", "|---|---|---|---|---|---|---|"]
    for bar in found:
        sign = "≥" if bar.at_least else "≤"
        figure = "–" if bar.figure is None else f"{bar.figure:.2f}"
        aim = ("", "") if bar.aim is None else (f"{sign} {bar.aim:g}", _verdict(bar, bar.aim_met))
        line = [bar.what, bar.where, figure, f"{sign} {bar.bar:g}", _verdict(bar, bar.met), *aim]
        lines.append(f"| {' | '.join(line)} |")
    return lines


def _verdict(bar: Bar, met: bool | None) -> str:
    return "void" if bar.void else {True: "met", False: "**not met**", None: "–"}[met]


def _workload(name: str, result: Mapping[str, Any]) -> list[str]:
    title = result.get("title", name) + (f", products by {name.partition(', ')[2]}" if "," in name else "")
    lines = ["", f"## {title}", "", *_failure(result)]
    cells = result.get("cells", [])
    for batch in dict.fromkeys(cell["batch"] for cell in cells):
        here = [cell for cell in cells if cell["batch"] == batch]
        dims = [f"dim {cell['dim']}" for cell in here]
        lines += [f"Batch {batch}: milliseconds a step (× products at full width)", ""]
        lines += [f"| | {' | '.join(dims)} |", "|---" * (len(here) + 1) + "|"]
        programs = dict.fromkeys(program for cell in here for program in cell["milliseconds"])
        for program in programs:
            lines.append(f"| {program} | {' | '.join(_time(cell, program) for cell in here)} |")
        notes = [f"dim {cell['dim']}: VOID, {reason}" for cell in here for reason in cell["void"]]
        notes += [f"dim {c['dim']}: {p} failed, {reason}" for c in here for p, reason in c["failed"].items()]
        notes += dict.fromkeys(f"{p}: left out, {reason}" for c in here for p, reason in c["skipped"].items())
        notes += [f"dim {c['dim']}, {variant_text(v)}" for c in here for v in c.get("variants", ())]
        lines += ["", *(f"* {note}" for note in notes), *[""] * bool(notes)]
    for cell in cells:
        if cell["batch"] == BATCHES[0] and cell["stages"]:
            lines += _stages(cell)
    return lines


def _time(cell: Mapping[str, Any], program: str) -> str:
    times = cell["milliseconds"]
    if program not in times:
        return "–"
    return f"{times[program]:.4g} ({times[program] / times[FULL_WIDTH]:.2f})"


def _stages(cell: Mapping[str, Any]) -> list[str]:
    programs = list(cell["stages"])
    names = dict.fromkeys(name for figures in cell["stages"].values() for name in figures)
    lines = [f"Stages, dim {cell['dim']}, batch {cell['batch']}: milliseconds, and counts", ""]
    lines += [f"| | {' | '.join(programs)} |", "|---" * (len(programs) + 1) + "|"]
    for name in names:
        values = [cell["stages"][program].get(name) for program in programs]
        lines.append(f"| {name} | {' | '.join('–' if v is None else f'{v:.4g}' for v in values)} |")
    return [*lines, ""]


def _failure(result: Mapping[str, Any]) -> list[str]:
    if result["status"] in (0, VOID_STATUS):
        return []
    return [f"Ended with status {result['status']}{': ' if result['said'] else ''}{result['said']}", ""]
