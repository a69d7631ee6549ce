"""Language model training step by hand in PyTorch, with packed and with padded sequences. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from benchmarks.lm.data import BEGIN
from benchmarks.sentences import Packing, Sentence, joined, pack
from benchmarks.torch_lstm import batch_sizes, in_padding, lstm, padded_places
from benchmarks.torch_trainer import TorchTrainer
from benchmarks.workload import Parameters


class PackedLanguageModel(TorchTrainer):
    """With packed sequences."""

    name = "pytorch, packed"

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters, ["table"])
        self.lstm = lstm(self.weights, "lstm")

    def loss(self, sentences: Sequence[Sentence]) -> Tensor:
        packing = pack([len(sentence.words) for sentence in sentences])
        before = torch.from_numpy(joined([(BEGIN, *sentence.words[:-1]) for sentence in sentences])[packing.flat])
        words = torch.from_numpy(joined([sentence.words for sentence in sentences])[packing.flat])
        states = self.encode(packing, F.embedding(before, self.weights["table"], sparse=True))
        logits = F.linear(states, self.weights["out_w"], self.weights["out_b"])
        return F.cross_entropy(logits, words, reduction="sum")

    def encode(self, packing: Packing, x: Tensor) -> Tensor:
        """Vectors of packed words → hidden states (n_words, H), packed."""
        states, _ = self.lstm(PackedSequence(x, batch_sizes(packing)))
        return states.data


class PaddedLanguageModel(PackedLanguageModel):
    """With padded sequences."""

    name = "pytorch, padded"

    def encode(self, packing: Packing, x: Tensor) -> Tensor:
        return in_padding(self.lstm, x, padded_places(packing), (len(packing.bounds) - 1, packing.bounds[1]))
