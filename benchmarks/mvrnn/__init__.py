"""MV-RNN: a vector and a matrix at every node of a tree, a classifier at the root.

Socher et al. 2012, "Semantic Compositionality through Recursive Matrix-Vector Spaces", equations 2 and 3; words have
full matrices, the identity and small noise.
"""

from __future__ import annotations

from benchmarks.mvrnn.data import examples, parameters, products
from benchmarks.workload import Workload, autobatch_trainers, autobatch_variant, from_file

_PROGRAM = "benchmarks.mvrnn.program"

WORKLOAD = Workload(
    name="mvrnn",
    title="MV-RNN",
    dims=(64,),
    examples=examples,
    parameters=parameters,
    trainers={
        **autobatch_trainers(_PROGRAM, cells="CellMVRNN", no_cells="MVRNN"),
        "numpy": from_file("benchmarks.mvrnn.peer_numpy", "NumpyMVRNN"),
        "pytorch": from_file("benchmarks.mvrnn.peer_torch", "TorchMVRNN"),
        "pytorch, own backward": from_file("benchmarks.mvrnn.peer_torch", "TorchOwnBackward"),
    },
    products=products,
    variant=lambda seed: autobatch_variant(_PROGRAM, "Variant", seed),
    dynet="mvrnn",
)
