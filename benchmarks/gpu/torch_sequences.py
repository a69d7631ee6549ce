"""BiLSTM tagger and language model by hand in PyTorch on a GPU: `nn.LSTM` on packed sequences, which is cuDNN's there.

Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from benchmarks.gpu.torch_program import TorchProgram, dense
from benchmarks.lm.data import BEGIN
from benchmarks.sentences import Sentence, joined, pack
from benchmarks.torch_lstm import batch_sizes, lstm
from benchmarks.workload import Parameters


class PackedTagger(TorchProgram):
    """The tagger."""

    def __init__(self, parameters: Parameters, device: str, prebuilt: bool = False, graph: bool = False) -> None:
        super().__init__(parameters, device, prebuilt, graph)
        self.lstm = _flat(self.weights, "forward", "backward")

    def prepare(self, examples: Sequence[Sentence]) -> tuple[np.ndarray, Any]:
        packing = pack([len(sentence.words) for sentence in examples])
        words, tags = (
            joined(items)[packing.flat] for items in zip(*((s.words, s.tags) for s in examples), strict=True)
        )
        return words, (batch_sizes(packing), self.sent(tags))

    def loss(self, vectors: Tensor, rest: Any) -> Tensor:
        sizes, tags = rest
        states, _ = self.lstm(PackedSequence(vectors, sizes))
        hidden = torch.tanh(dense(self.weights, "hidden", states.data))
        return F.cross_entropy(dense(self.weights, "out", hidden), tags, reduction="sum")


class PackedLanguageModel(TorchProgram):
    """The language model."""

    def __init__(self, parameters: Parameters, device: str, prebuilt: bool = False, graph: bool = False) -> None:
        super().__init__(parameters, device, prebuilt, graph)
        self.lstm = _flat(self.weights, "lstm")

    def prepare(self, examples: Sequence[Sentence]) -> tuple[np.ndarray, Any]:
        packing = pack([len(sentence.words) for sentence in examples])
        before = joined([(BEGIN, *sentence.words[:-1]) for sentence in examples])[packing.flat]
        words = joined([sentence.words for sentence in examples])[packing.flat]
        return before, (batch_sizes(packing), self.sent(words))

    def loss(self, vectors: Tensor, rest: Any) -> Tensor:
        sizes, words = rest
        states, _ = self.lstm(PackedSequence(vectors, sizes))
        return F.cross_entropy(dense(self.weights, "out", states.data), words, reduction="sum")


def _flat(weights: dict[str, Tensor], *names: str) -> torch.nn.LSTM:
    """The LSTM of these weights on their device, in one piece of memory as cuDNN wants them."""
    module = lstm(weights, *names).to(next(iter(weights.values())).device)
    for name, end in zip(names, ("", "_reverse"), strict=False):  # moving a module may give it other parameters
        for theirs, ours in (("weight_ih", "_ih"), ("weight_hh", "_hh"), ("bias_ih", "_b")):
            weights[name + ours] = getattr(module, f"{theirs}_l0{end}")
    module.flatten_parameters()
    return module
