"""BiLSTM tagger: a tag for each word of a sentence."""

from __future__ import annotations

from benchmarks.bilstm.data import examples, parameters, products
from benchmarks.workload import Workload, autobatch_trainers, autobatch_variant, from_file

_PROGRAM = "benchmarks.bilstm.program"
_PEERS = {
    "numpy": from_file("benchmarks.bilstm.peer_numpy", "NumpyTagger"),
    "pytorch, packed": from_file("benchmarks.bilstm.peer_torch", "PackedTagger"),
    "pytorch, padded": from_file("benchmarks.bilstm.peer_torch", "PaddedTagger"),
    "pytorch, bucketed": from_file("benchmarks.bilstm.peer_torch", "BucketedTagger"),
    "jax, vmap": from_file("benchmarks.bilstm.peer_jax", "VmapTagger"),
    "jax, packed": from_file("benchmarks.bilstm.peer_jax", "PackedTagger"),
}

WORKLOAD = Workload(
    name="bilstm",
    title="BiLSTM tagger",
    dims=(50, 128, 256),
    examples=examples,
    parameters=parameters,
    trainers={**autobatch_trainers(_PROGRAM, cells="CellTagger", no_cells="Tagger"), **_PEERS},
    products=products,
    variant=lambda seed: autobatch_variant(_PROGRAM, "Variant", seed),
    dynet="bilstm",
)
