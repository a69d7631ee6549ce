"""A multilayer perceptron of fixed shape, 256-512-512-10: batching by hand is trivial, so this shows pure overhead."""

from __future__ import annotations

from benchmarks.mlp.data import examples, parameters, products
from benchmarks.workload import Workload, autobatch_trainers, autobatch_variant, from_file

_PROGRAM = "benchmarks.mlp.program"

WORKLOAD = Workload(
    name="mlp",
    title="MLP of fixed shape",
    dims=(512,),
    examples=examples,
    parameters=parameters,
    trainers={
        **autobatch_trainers(_PROGRAM, cells="CellMLP", no_cells="MLP"),
        "numpy": from_file("benchmarks.mlp.peer_numpy", "NumpyMLP"),
        "pytorch": from_file("benchmarks.mlp.peer_torch", "TorchMLP"),
    },
    products=products,
    variant=lambda seed: autobatch_variant(_PROGRAM, "variant", seed),
    dynet="mlp",
)
