"""TreeFC: one affine map and a ReLU at every inner node of complete binary trees, a classifier at the root.

All trees have one shape, so that batching by hand is easy. As in Looks et al. 2017, "Deep Learning with Dynamic
Computation Graphs".
"""

from __future__ import annotations

from benchmarks.treefc.data import examples, parameters, products
from benchmarks.workload import Workload, autobatch_trainers, autobatch_variant, from_file

_PROGRAM = "benchmarks.treefc.program"

WORKLOAD = Workload(
    name="treefc",
    title="TreeFC, 128 leaves",
    dims=(100,),
    examples=examples,
    parameters=parameters,
    trainers={
        **autobatch_trainers(_PROGRAM, cells="CellTreeFC", no_cells="TreeFC"),
        "numpy": from_file("benchmarks.treefc.peer_numpy", "NumpyTreeFC"),
        "pytorch": from_file("benchmarks.treefc.peer_torch", "TorchTreeFC"),
    },
    products=products,
    variant=lambda seed: autobatch_variant(_PROGRAM, "Variant", seed),
    dynet="treefc",
)
