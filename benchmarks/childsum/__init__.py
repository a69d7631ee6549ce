"""Child-sum Tree-LSTM on the syntax trees of the standard library: nodes have any number of children."""

from __future__ import annotations

from benchmarks.childsum.data import examples, parameters, products
from benchmarks.workload import Workload, autobatch_trainers, autobatch_variant, from_file

_PROGRAM = "benchmarks.childsum.program"
_PEERS = {
    "numpy": from_file("benchmarks.childsum.peer_numpy", "NumpyChildSumTreeLSTM"),
    "pytorch": from_file("benchmarks.childsum.peer_torch", "TorchChildSumTreeLSTM"),
    "pytorch, own backward": from_file("benchmarks.childsum.peer_torch", "TorchOwnBackward"),
}

WORKLOAD = Workload(
    name="childsum",
    title="Child-sum Tree-LSTM",
    dims=(128, 256),
    examples=examples,
    parameters=parameters,
    trainers={**autobatch_trainers(_PROGRAM, cells="CellChildSumTreeLSTM", no_cells="ChildSumTreeLSTM"), **_PEERS},
    products=products,
    variant=lambda seed: autobatch_variant(_PROGRAM, "Variant", seed),
    dynet="childsum",
)
