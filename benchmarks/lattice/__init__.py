"""Lattice LSTM: characters in a chain, words as shortcuts through it."""

from __future__ import annotations

from benchmarks.lattice.data import examples, parameters, products
from benchmarks.workload import Workload, autobatch_trainers, autobatch_variant, from_file

_PROGRAM = "benchmarks.lattice.program"

WORKLOAD = Workload(
    name="lattice",
    title="Lattice LSTM",
    dims=(128, 256),
    examples=examples,
    parameters=parameters,
    trainers={
        **autobatch_trainers(_PROGRAM, cells="CellLatticeLSTM", no_cells="LatticeLSTM"),
        "numpy": from_file("benchmarks.lattice.peer_numpy", "NumpyLatticeLSTM"),
        "pytorch": from_file("benchmarks.lattice.peer_torch", "TorchLatticeLSTM"),
    },
    products=products,
    variant=lambda seed: autobatch_variant(_PROGRAM, "Variant", seed),
    dynet="lattice",
)
