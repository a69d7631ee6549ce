"""The summary of a check: bars, then what each part found, as Markdown. It reads the lines that the parts wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bars import Bar
from benchmarks.bars import summary as count_of
from benchmarks.gpu.report import bars, cell_lines, table_of_bars
from benchmarks.gpu.results import Results

PARTS = ("machine", "smoke", "tests", "steps", "grid", "earlier")
MOST_FAILURES, MOST_KINDS = 80, 12

Lines = dict[str, dict[str, Any]]


class Found:
    """What one part has found: the last line of each name, those that were lost, and how its processes ended.

    A test that takes too long ends its process; those that run when the time of the part is over are cut off.
    """

    def __init__(self, folder: Path, part: str) -> None:
        results = Results(folder / f"{part}.jsonl")
        outcomes = results.outcomes()
        self.processes = [line for line in results.lines() if line["name"].startswith("process: ")]
        self.lines: Lines = {name: line for name, line in outcomes.items() if not name.startswith("process: ")}
        killed = tuple(name for name, how in self._last_ends().items() if how.startswith("killed"))
        lost = results.lost()
        self.cut_off = [name for name in lost if part == "tests" and name.startswith(killed)]
        self.lost = [name for name in lost if name not in self.cut_off]

    def failures(self) -> list[tuple[str, str]]:
        """Names and reasons."""
        wrong = [line for line in self.lines.values() if line.get("ok") is False or line.get("outcome") == "failed"]
        return [(line["name"], _reason(line)) for line in wrong] + [
            (name, "crashed, or did not end in time") for name in self.lost
        ]

    def _last_ends(self) -> dict[str, str]:
        """How the last process of each name ended."""
        return {line["name"].removeprefix("process: "): line["how"] for line in self.processes}

    def is_complete(self) -> bool:
        """Whether the last process of each name came to its end."""
        last = self._last_ends()
        return bool(last) and all(how in ("exit 0", "exit 5") for how in last.values())

    def starting(self, beginning: str) -> list[dict[str, Any]]:
        """Lines that went well, by the beginning of their names."""
        return [line for name, line in self.lines.items() if name.startswith(beginning) and line.get("ok")]


def all_bars(folder: Path) -> list[Bar]:
    """Those of the tests and of memory, and those of the steps."""
    found = {part: Found(folder, part) for part in PARTS}
    made = []
    for part, what in (("tests", "tests that fail on the device"), ("smoke", "small programs that differ from NumPy")):
        wrong, complete = len(found[part].failures()), found[part].is_complete()
        made.append(Bar(what, "", float(wrong) if wrong or complete else None, 0.0))
    made += bars(cells(folder))
    for line in found["steps"].starting("growth: "):
        for program, growth in _programs(line):
            where = f"{line['name'].removeprefix('growth: ')}, {growth['steps']} steps"
            made.append(Bar(f"bytes that memory grows: {program}", where, float(growth["grown"]), 0.0))
    for line in found["steps"].starting("out of memory: "):
        where = line["name"].removeprefix("out of memory: ")
        made.append(Bar("out of memory: a clear error, and goes on", where, float(line["works"]), 1.0, at_least=True))
    return made


def cells(folder: Path) -> list[dict[str, Any]]:
    """Figures of all cells, also of those that were not finished."""
    found: dict[tuple[str, int, int], dict[str, Any]] = {}
    for part in ("steps", "grid"):
        for beginning in ("so far: ", "cell: "):
            for line in Found(folder, part).starting(beginning):
                cell = line["cell"]
                found[cell["workload"], cell["dim"], cell["batch"]] = cell
    return list(found.values())


def is_good(folder: Path) -> bool:
    """Whether nothing failed and no bar is missed. Bars without a figure do not count."""
    failed = any(Found(folder, part).failures() for part in ("smoke", "tests", "steps", "grid"))
    return not failed and all(bar.met is not False for bar in all_bars(folder))


def summary(folder: Path) -> str:
    """The whole text."""
    made = all_bars(folder)
    lines = ["# Check on a GPU", "", f"{count_of(made)}.", "", *table_of_bars(made)]
    for part in PARTS:
        found = Found(folder, part)
        if found.processes or found.lines:
            lines += ["", f"## {part}", "", *_tables(part, found), *_ends(found)]
    for cell in cells(folder):
        lines += ["", *cell_lines(cell)]
    return "\n".join(lines) + "\n"


def _tables(part: str, found: Found) -> Iterator[str]:
    if part == "machine":
        for line in found.lines.values():
            if line.get("ok") and line["name"] not in ("packages", "nvidia-smi"):
                yield f"* {line['name']}: " + "; ".join(f"{k} {v}" for k, v in line.items() if k not in _COMMON)
    elif part in ("smoke", "tests"):
        counts = Counter(line.get("outcome") or ("passed" if line["ok"] else "failed") for line in found.lines.values())
        counts.update({"lost": len(found.lost), "cut off": len(found.cut_off)})
        yield ", ".join(f"{n} {how}" for how, n in counts.items())
    elif part == "steps":
        for line in found.starting("timeline: "):
            yield from _timeline(line)
        for line in found.starting("out of memory: "):
            raised = line["error"] or "nothing was raised"
            yield f"* {line['name']}: {raised}; loss {line['before']}, then {line['after']}"
    elif part == "earlier":
        for line in found.starting(""):
            for name, program in line["cell"]["programs"].items():
                figures = ", ".join(
                    f"{key} {program[key]:.3f} ms" for key in ("step", "host", "device") if key in program
                )
                wrong = program["failed"] or program["void"]
                yield f"* {line['name']}: {name}: {figures or 'no figures'} {wrong}".rstrip()


_COMMON = ("name", "ok", "seconds")


def _timeline(line: dict[str, Any]) -> Iterator[str]:
    yield f"* {line['name']}"
    for how in ("free", "held"):
        spans = line[how]
        if spans["calls"]:
            figures = f"{spans['calls']} calls in {spans['whole']} µs, busy {spans['busy']}, gaps {spans['gaps']}"
            yield f"  * {how}: {figures}"
            longest = ", ".join(f"{gap} {where}" for gap, where in spans["longest gaps"][:4])
            yield f"    longest gaps: {longest}"
    for kind in line["kinds"][:MOST_KINDS]:
        rate = f", {kind['TFLOP/s']:.2f} TFLOP/s" if kind["TFLOP/s"] else ""
        yield f"  * {kind['name']}: {kind['calls']} calls, {kind['microseconds']} µs{rate}"


def _ends(found: Found) -> Iterator[str]:
    failures = found.failures()
    for name, reason in failures[:MOST_FAILURES]:
        yield f"* FAILED {name}: {reason}"
    if len(failures) > MOST_FAILURES:
        yield f"* and {len(failures) - MOST_FAILURES} more"
    for line in found.processes:
        if line["how"] not in ("exit 0", "exit 1"):
            yield f"* process {line['name'].removeprefix('process: ')}: {line['how']} ({line['seconds']} s)"


def _reason(line: dict[str, Any]) -> str:
    """The error in one line: the last line of a traceback that pytest marks, or the last one at all."""
    if line.get("error"):
        return str(line["error"])
    text = [row for row in line.get("traceback", "").splitlines() if row.strip()]
    marked = [row[1:].strip() for row in text if row.startswith("E ")]
    return (marked or text or [""])[0 if marked else -1][:300]


def _programs(line: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, value) for name, value in line.items() if isinstance(value, dict)]
