"""`python -m benchmarks products`: products of a few rows and of many with large weights, by each library.

X (m, k) @ W in float32, W stored (in, out), and (out, in) as parameters are, and the product of a weight gradient,
Zᵀ X; billions of operations a second, medians, the libraries taking turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from autobatch.backends.host.matmul import LIBRARIES, Library
from autobatch.errors import AutobatchError
from benchmarks import measure

WEIGHTS = ((128, 512), (512, 768), (1024, 1536))
ROWS = (1, 4, 16, 64, 256, 1024)
KINDS = ("X W", "X Vᵀ", "Zᵀ X")


def main(arguments: Sequence[str]) -> int:
    """Measure, print and keep the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks products", description=__doc__)
    parser.add_argument("--repeat", type=int, default=15, help="timed rounds (default 15)")
    repeat = parser.parse_args(arguments).repeat
    libraries: dict[str, Library] = {}
    for name, make in LIBRARIES.items():
        try:
            libraries[name] = make()
        except AutobatchError as error:
            print(f"{name}: skipped, {error}")
    for key, value in measure.machine().items():
        print(f"{key:9} {value}")
    rows: list[list[object]] = []
    for k, n in WEIGHTS:
        for m in ROWS:
            rates = _rates(m, k, n, libraries, repeat)
            rows.append([f"{k} × {n}", m, *(rates[name, kind] for name in libraries for kind in KINDS)])
    header = ["k × n", "m", *(f"{name} {kind}" for name in libraries for kind in KINDS)]
    print(measure.table("\nbillions of operations a second", header, rows))
    print(f"\nkept as {measure.save('products', {'header': header, 'rows': rows})}")
    return 0


def _rates(m: int, k: int, n: int, libraries: dict[str, Library], repeat: int) -> dict[tuple[str, str], float]:
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((m, k), np.float32), rng.standard_normal((m, n), np.float32)
    v = rng.standard_normal((n, k), np.float32)
    w = np.ascontiguousarray(v.T)
    y, dw = np.empty((m, n), np.float32), np.empty((n, k), np.float32)

    def calls(library: Library) -> tuple[Callable[[], None], ...]:
        return (
            lambda: library.gemm(x, w, y),
            lambda: library.gemm_transposed(x, v, y, True),
            lambda: library.gemm(z.T, x, dw),
        )

    work = {
        (name, kind): call
        for name, library in libraries.items()
        for kind, call in zip(KINDS, calls(library), strict=True)
    }
    inner = max(1, int(2e7 / (2 * m * k * n)))
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in work}
    for call in work.values():
        call()
    for _ in range(repeat):
        for key, call in work.items():
            start = time.perf_counter()
            for _ in range(inner):
                call()
            seconds[key].append((time.perf_counter() - start) / inner)
    return {key: 2e-9 * m * k * n / statistics.median(times) for key, times in seconds.items()}
