"""The programs by hand of each workload on a GPU: name → factory. Making one imports torch."""

from __future__ import annotations

import importlib
from typing import Any

from benchmarks.gpu.cell import Factory, Launcher
from benchmarks.gpu.place import Place
from benchmarks.workload import Parameters

EAGER, PREBUILT, GRAPH = "pytorch, plans per step", "pytorch, plans prebuilt", "pytorch, CUDA graphs"
"""How names of peers begin: by what is done per step."""

_TREES, _SEQUENCES = "benchmarks.gpu.torch_trees", "benchmarks.gpu.torch_sequences"
_CLASSES = {
    "treelstm": {"autograd": (_TREES, "Autograd"), "joined levels": (_TREES, "JoinedLevels")},
    "bilstm": {"packed": (_SEQUENCES, "PackedTagger")},
    "lm": {"packed": (_SEQUENCES, "PackedLanguageModel")},
}


def peers(workload: str, place: Place, compiled: bool) -> dict[str, Factory]:
    """Peers that can run here; `compiled`: those of `torch.compile` too."""
    if not place.torch_device:
        return {}
    made: dict[str, Factory] = {}
    for what, (module, name) in _CLASSES[workload].items():
        kinds: dict[str, dict[str, Any]] = {EAGER: {}, PREBUILT: {"prebuilt": True}}
        if place.graphs:
            kinds[GRAPH] = {"graph": True}
        for kind, options in kinds.items():
            made[f"{kind}, {what}"] = _factory(module, name, place.torch_device, options)
            if compiled and name == "JoinedLevels":
                more = {**options, "compiled": True}
                made[f"{kind}, {what}, compiled"] = _factory(module, name, place.torch_device, more)
    return made


def _factory(module: str, name: str, device: str, options: dict[str, Any]) -> Factory:
    def make(parameters: Parameters) -> Launcher:
        program: Launcher = getattr(importlib.import_module(module), name)(parameters, device, **options)
        return program

    return make
