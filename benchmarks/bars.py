"""Bars: where the library has to stand, and where it stands, as figures of one report.

Input: the figures of all workloads, of growth and of memory. Output: a list of `Bar`, in the order of the report; a
bar of which nothing was measured has no figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.runner import FULL_WIDTH, SCHEDULE_WIDTHS, best
from benchmarks.workload import CELLS, CELLS_REUSED, LOOP, NO_CELLS_REUSED

BATCH = 64
TREES = ("treelstm", "treelstm_nodes", "mvrnn", "childsum", "treefc")
SEQUENCES = ("bilstm", "tagger_chars", "lm", "lattice")
OPENBLAS_ALLOWANCE = 0.15
TREE_LSTM_STEP = {128: (2.2, 1.8), 256: (1.55, 1.4), 512: (1.45, 1.3)}
TREE_LSTM_REUSED = {128: (1.7, 1.45), 256: (1.4, 1.3), 512: (1.4, 1.25)}
SCHEDULE_STEP = (1.25, 1.15)
GROWTH = 1.3
MEMORY = 1.5


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: a figure that has to be at most (or, `at_least`, at least) `bar`, and would better be `aim`.

    `void`: the table that the figure is from is void, so that it decides nothing.
    """

    what: str
    where: str
    figure: float | None
    bar: float
    aim: float | None = None
    at_least: bool = False
    void: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None where nothing was measured, or the figure is void."""
        return self._reaches(self.bar)

    @property
    def aim_met(self) -> bool | None:
        return None if self.aim is None else self._reaches(self.aim)

    def _reaches(self, limit: float) -> bool | None:
        if self.figure is None or self.void:
            return None
        return self.figure >= limit if self.at_least else self.figure <= limit


Cells = Mapping[tuple[str, int, int], Mapping[str, Any]]
"""Figures by workload, width and batch size; see `runner.run_cell`."""


def bars(
    cells: Cells, others: Mapping[str, Cells], growth: Mapping[str, float], memory: Mapping[str, float]
) -> list[Bar]:
    """All bars.

    Args:
        cells: what was measured with the library of products that autobatch chooses by itself.
        others: library of products → the same, measured with that one.
        growth: what is measured → how much longer a node takes in a large recording than in a smaller one.
        memory: workload → bytes of pools, divided by what values, residuals and gradients need.
    """
    found: list[Bar] = []

    def add(what: str, key: tuple[str, int, int], figure: float | None, *limits: Any, **more: Any) -> None:
        library = more.get("library", "")
        of = others[library] if library else cells
        void = bool(of[key]["void"]) if key in of else False
        where = more.get("where") or f"{key[0]}, dim {key[1]}" + (f", products by {library}" if library else "")
        found.append(Bar(what, where, figure, *limits, void=void))

    for what, program, floor, bounds in (
        ("step / products at full width", CELLS, FULL_WIDTH, TREE_LSTM_STEP),
        ("step / products at full width, recordings reused", CELLS_REUSED, FULL_WIDTH, TREE_LSTM_REUSED),
        ("step / products at the schedule's widths", CELLS, SCHEDULE_WIDTHS, dict.fromkeys((256, 512), SCHEDULE_STEP)),
    ):
        for library, of in {"": cells, **others}.items():
            allowance = OPENBLAS_ALLOWANCE if library == "numpy" and floor == FULL_WIDTH else 0.0
            for dim, limits in bounds.items():
                key = "treelstm", dim, BATCH
                figure = _ratio(of.get(key), program, floor)
                add(what, key, figure, *(round(limit + allowance, 2) for limit in limits), library=library)
    here = sorted((key for key in cells if key[2] == BATCH), key=lambda key: _order(key[0]))
    for key in here:
        if key[0] in (*TREES, *SEQUENCES):
            bar = 2.0 if key[0] in TREES else 1.0
            add("PyTorch by hand / autobatch", key, _faster(cells[key], "pytorch"), bar, 2.0, True)
    for key in here:
        bar = 2.0 if key[1] <= 128 else 1.5
        add("DyNet / autobatch", key, _faster(cells[key], "dynet"), bar, None, True)
    for key in here:
        add("without cells / with cells, reused", key, _ratio(cells[key], NO_CELLS_REUSED, CELLS_REUSED), 1.5, 1.2)
    for key in here:
        if key[0] == "mlp":
            faster = _faster(cells[key], "numpy")
            add("autobatch / the same by hand in NumPy", key, faster and 1 / faster, 1.2)
    for key in sorted((key for key in cells if key[2] == 1), key=lambda key: _order(key[0])):
        add("batch 1 / the loop, batched=False", key, _ratio(cells[key], CELLS, LOOP), 1.0)
    for key in here:
        for variant in cells[key].get("variants", ()):
            relative = variant["variant"] / variant["original"] if "variant" in variant else None
            where = f"{key[0]}, dim {key[1]}, seed {variant['seed']}"
            add("a variant / the original", key, relative, 1.1, where=where)
    found += [Bar("time per node / the same of fewer nodes", name, figure, GROWTH) for name, figure in growth.items()]
    found += [Bar("memory / what is needed", name, figure, MEMORY) for name, figure in memory.items()]
    return found


def summary(all_bars: Iterable[Bar]) -> str:
    """One line: how many bars are met."""
    verdicts = [bar.met for bar in all_bars]
    met, missed, unknown = (sum(verdict is which for verdict in verdicts) for which in (True, False, None))
    return f"{met} of {met + missed} bars are met" + (f"; of {unknown} there is no figure" if unknown else "")


def _order(workload: str) -> int:
    return [*TREES, *SEQUENCES, workload].index(workload)


def _ratio(cell: Mapping[str, Any] | None, program: str, to: str) -> float | None:
    times = cell["milliseconds"] if cell else {}
    return times[program] / times[to] if program in times and to in times else None


def _faster(cell: Mapping[str, Any], kind: str) -> float | None:
    times = cell["milliseconds"]
    peer = best(times, kind)
    return peer / times[CELLS] if peer is not None and CELLS in times else None
