"""LSTM language model: each word of a sentence from those before it."""

from __future__ import annotations

from benchmarks.lm.data import examples, parameters, products
from benchmarks.workload import Workload, autobatch_trainers, autobatch_variant, from_file

_PROGRAM = "benchmarks.lm.program"
_PEERS = {
    "numpy": from_file("benchmarks.lm.peer_numpy", "NumpyLanguageModel"),
    "pytorch, packed": from_file("benchmarks.lm.peer_torch", "PackedLanguageModel"),
    "pytorch, padded": from_file("benchmarks.lm.peer_torch", "PaddedLanguageModel"),
    "pytorch, own softmax": from_file("benchmarks.lm.peer_torch", "OwnSoftmaxLanguageModel"),
}

WORKLOAD = Workload(
    name="lm",
    title="LSTM language model",
    dims=(256,),
    examples=examples,
    parameters=parameters,
    trainers={**autobatch_trainers(_PROGRAM, cells="CellLanguageModel", no_cells="LanguageModel"), **_PEERS},
    products=products,
    variant=lambda seed: autobatch_variant(_PROGRAM, "Variant", seed),
    dynet="lm",
)
