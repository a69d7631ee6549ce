"""Binary Tree-LSTM that classifies every node: there is a loss on all of them."""

from __future__ import annotations

from benchmarks.treelstm_nodes.data import examples, parameters, products
from benchmarks.workload import Workload, autobatch_trainers, autobatch_variant, from_file

_PROGRAM = "benchmarks.treelstm_nodes.program"
_PEERS = {
    "numpy": from_file("benchmarks.treelstm_nodes.peer_numpy", "NumpyNodes"),
    "numpy + numba loops": from_file("benchmarks.treelstm_nodes.peer_numba", "NumbaNodes"),
    "pytorch": from_file("benchmarks.treelstm_nodes.peer_torch", "TorchNodes"),
    "pytorch, own backward": from_file("benchmarks.treelstm_nodes.peer_torch", "TorchNodesOwnBackward"),
}

WORKLOAD = Workload(
    name="treelstm_nodes",
    title="Tree-LSTM, a loss on every node",
    dims=(128, 256, 512),
    examples=examples,
    parameters=parameters,
    trainers={**autobatch_trainers(_PROGRAM, cells="CellNodes", no_cells="Nodes"), **_PEERS},
    products=products,
    variant=lambda seed: autobatch_variant(_PROGRAM, "NodesVariant", seed),
    dynet="treelstm_nodes",
)
