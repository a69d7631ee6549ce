"""Options of the device that an earlier commit had, measured by that commit: `python -P earlier.py --option graphs`.

It runs with the tree of that commit as its folder and on PYTHONPATH, so that `autobatch` and `benchmarks` are those of
then; of this one comes the file next to this, which keeps the results. Beside the option runs the default.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

COMMIT = "6df8175"
OPTIONS = ("graphs", "groups", "persistent")
WARMED = "none"
"""In the place of an option: functions of the host are compiled and kept, and nothing is measured."""

WORKLOADS = ("treelstm", "bilstm")


def main(arguments: Sequence[str]) -> int:
    """Measure one option."""
    parser = argparse.ArgumentParser(prog="earlier.py")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--option", required=True, choices=[*OPTIONS, WARMED])
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args(arguments)
    if options.option == WARMED:
        return warm()
    results = _results(options.out)
    with _place(options.rehearse) as place:
        for name in WORKLOADS:
            results.measure(
                f"{options.option}: {name}",
                lambda name=name: {"cell": _cell(name, place, options.option, options.rehearse)},
            )
    return 0


def warm() -> int:
    """Run steps on the device that does nothing."""
    from benchmarks.gpu import idle

    for name in WORKLOADS:
        idle.host_times(name, 6, 2, n_batches=1, rounds=1)
    return 0


def _results(path: Path) -> Any:
    specification = importlib.util.spec_from_file_location("check_results", Path(__file__).with_name("results.py"))
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.Results(path)


@contextlib.contextmanager
def _place(rehearsed: bool) -> Iterator[Any]:
    import autobatch as ab
    from benchmarks.gpu.place import HostClock, Place, gpu

    if rehearsed:
        from tests.stand_in.session import on_stand_in

        with on_stand_in():
            yield Place(HostClock(), "", {})
        return
    place = gpu()
    with ab.backend("cupy"):
        yield place


def _cell(name: str, place: Any, option: str, rehearsed: bool) -> dict[str, Any]:
    from benchmarks.gpu.cell import measure_cell, own_programs
    from benchmarks.gpu.floors import COPIED, bandwidth
    from benchmarks.runner import cut
    from benchmarks.workload import CELLS_REUSED, load

    dim, batch, n_batches, seconds, copied = (6, 2, 3, 0.0, 1 << 12) if rehearsed else (256, 256, 6, 0.9, COPIED)
    workload = load(name)
    wanted = (CELLS_REUSED, f"{CELLS_REUSED}, {option}")
    programs = {key: make for key, make in own_programs(workload, dim).items() if key in wanted}
    batches = cut(workload.examples(), batch)[:n_batches]
    found: dict[str, Any] = measure_cell(
        workload, programs, dim, batches, place, seconds, bandwidth(place.clock, copied)
    )
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
