"""Binary Tree-LSTM, a classifier of the root."""

from __future__ import annotations

from benchmarks.treelstm.data import examples, parameters, products
from benchmarks.workload import Workload, autobatch_trainers, autobatch_variant, from_file

_PROGRAM = "benchmarks.treelstm.program"
_PEERS = {
    "numpy": from_file("benchmarks.treelstm.peer_numpy", "NumpyTreeLSTM"),
    "numpy + numba loops": from_file("benchmarks.treelstm.peer_numba", "NumbaTreeLSTM"),
    "pytorch, plain": from_file("benchmarks.treelstm.peer_torch_plain", "PlainTorchTreeLSTM"),
    "pytorch": from_file("benchmarks.treelstm.peer_torch", "TorchTreeLSTM"),
    "pytorch, own backward": from_file("benchmarks.treelstm.peer_torch", "TorchOwnBackward"),
}

WORKLOAD = Workload(
    name="treelstm",
    title="Tree-LSTM",
    dims=(128, 256, 512),
    examples=examples,
    parameters=parameters,
    trainers={**autobatch_trainers(_PROGRAM, cells="CellTreeLSTM", no_cells="TreeLSTM"), **_PEERS},
    products=products,
    variant=lambda seed: autobatch_variant(_PROGRAM, "Variant", seed),
    dynet="treelstm",
)
