"""The lattice LSTM of `benchmarks.lattice`, with cells, on short sentences: 4 to 12 characters."""

from __future__ import annotations

import numpy as np

from benchmarks.lattice.data import Lattice, lattice, parameters
from benchmarks.lattice.program import CellLatticeLSTM


def examples(n: int) -> list[Lattice]:
    """n lattices, drawn from a fixed seed."""
    rng = np.random.default_rng(2018)
    return [lattice(int(rng.integers(4, 13)), rng) for _ in range(n)]


def MODEL(dim: int) -> CellLatticeLSTM:
    """The model of this width."""
    return CellLatticeLSTM(parameters(dim))
