"""When a row of the report is void: programs that compute different things, or a peer that is slower than it has to be.

A peer is held against what a program of its kind reached on another quiet machine: its time, as a ratio to the matrix
products alone, may be 15 % worse. For the Tree-LSTM those products were timed there too; for the others they are taken
from their number of operations at the rate that the products of the Tree-LSTM reached there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.measure import Program

LOSS_TOLERANCE = 1e-4
"""Relative; float32, three updates by Adam."""

SLACK = 1.15
REFERENCE_BATCH = 64

# Milliseconds a step of the best program of a kind: workload → kind → dim.
REFERENCES: dict[str, dict[str, dict[int, float]]] = {
    "treelstm": {
        "numpy": {128: 19.0, 256: 52.0, 512: 170.0},
        "pytorch": {128: 39.5, 256: 101.0, 512: 248.0},
        "dynet": {128: 40.0, 256: 90.0, 512: 268.0},
    },
    "bilstm": {
        "pytorch": {50: 23.0, 128: 58.0, 256: 157.0},
        "dynet": {50: 19.4, 256: 152.0},
    },
    "lm": {"pytorch": {256: 324.0}},
}
REFERENCE_PRODUCTS = {"treelstm": {128: 7.9, 256: 24.5, 512: 89.5}}
OPERATIONS_A_SECOND = 1.7e11


def reference_ratio(workload: str, kind: str, dim: int, n_operations: float) -> float | None:
    """What a kind of peer took, divided by the products alone; None where nothing is known."""
    milliseconds = REFERENCES.get(workload, {}).get(kind, {}).get(dim)
    if milliseconds is None:
        return None
    products = REFERENCE_PRODUCTS.get(workload, {}).get(dim, 1e3 * n_operations / OPERATIONS_A_SECOND)
    return milliseconds / products


def slow_peers(workload: str, dim: int, times: Mapping[str, float], floor: float, n_operations: float) -> list[str]:
    """Kinds of peer whose best program is too slow; `floor`: milliseconds of the products, of so many operations."""
    reasons = []
    for kind in REFERENCES.get(workload, {}):
        peers = [time for name, time in times.items() if name.startswith(kind)]
        reference = reference_ratio(workload, kind, dim, n_operations)
        if peers and reference is not None and min(peers) > SLACK * reference * floor:
            reached = min(peers) / floor
            reasons.append(f"{kind} takes {reached:.2f} x the products at full width; {reference:.2f} was reached")
    return reasons


def disagreements(programs: Sequence[Program]) -> list[str]:
    """Programs whose losses on the first steps are not those of the first program that has losses."""
    first, *others = [program for program in programs if program.losses] or [None]
    reasons = []
    for other in others:
        n = min(len(other.losses), len(first.losses))
        mine, theirs = first.losses[:n], other.losses[:n]
        if not np.allclose(theirs, mine, rtol=LOSS_TOLERANCE, atol=0.0):
            reasons.append(f"losses of {other.name} {_short(theirs)} are not those of {first.name} {_short(mine)}")
    return reasons


def _short(losses: Sequence[float]) -> str:
    return f"[{', '.join(f'{loss:.6g}' for loss in losses)}]"
