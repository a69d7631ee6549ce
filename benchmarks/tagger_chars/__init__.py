"""BiLSTM tagger that spells rare words: their vector comes from a BiLSTM over their characters."""

from __future__ import annotations

from benchmarks.tagger_chars.data import examples, parameters, products
from benchmarks.workload import Workload, autobatch_trainers, autobatch_variant, from_file

_PROGRAM = "benchmarks.tagger_chars.program"
_PEERS = {
    "numpy": from_file("benchmarks.tagger_chars.peer_numpy", "NumpyCharacterTagger"),
    "pytorch, packed": from_file("benchmarks.tagger_chars.peer_torch", "PackedCharacterTagger"),
    "pytorch, padded": from_file("benchmarks.tagger_chars.peer_torch", "PaddedCharacterTagger"),
    "pytorch, bucketed": from_file("benchmarks.tagger_chars.peer_torch", "BucketedCharacterTagger"),
}

WORKLOAD = Workload(
    name="tagger_chars",
    title="BiLSTM tagger with characters",
    dims=(50, 128),
    examples=examples,
    parameters=parameters,
    trainers={**autobatch_trainers(_PROGRAM, cells="CellCharacterTagger", no_cells="CharacterTagger"), **_PEERS},
    products=products,
    variant=lambda seed: autobatch_variant(_PROGRAM, "CharacterVariant", seed),
    dynet="tagger_chars",
)
