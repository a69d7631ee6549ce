"""BiLSTM tagger training step by hand in PyTorch, with packed and with padded sequences. Imports torch.

`PackedTagger` runs `nn.LSTM` in both directions on a PackedSequence that is made directly, words already in its order.

`PaddedTagger` runs one `nn.LSTM` for each direction on padded sequences. The second direction reads them mirrored, with
the padding at the end as well, so that no state is ever computed from padding; real positions are then picked.

`BucketedTagger` does so for 16 sentences of about the same length at a time: more calls, a third of the padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from benchmarks.sentences import Packing, Sentence, joined, pack
from benchmarks.torch_lstm import batch_sizes, in_padding, lstm, pad
from benchmarks.torch_trainer import TorchTrainer
from benchmarks.workload import Parameters


class PackedTagger(TorchTrainer):
    """With packed sequences."""

    name = "pytorch, packed"

    def __init__(self, parameters: Parameters, tables: Sequence[str] = ("table",)) -> None:
        super().__init__(parameters, tables)
        self.lstm = lstm(self.weights, "forward", "backward")

    def loss(self, sentences: Sequence[Sentence]) -> Tensor:
        packing = pack([len(sentence.words) for sentence in sentences])
        words = joined([sentence.words for sentence in sentences])[packing.flat]
        tags = torch.from_numpy(joined([sentence.tags for sentence in sentences])[packing.flat])
        hidden = torch.tanh(F.linear(self.encode(packing, self.embed(words)), self.weights["hidden_w"]))
        return F.cross_entropy(F.linear(hidden, self.weights["out_w"]), tags, reduction="sum")

    def embed(self, words: np.ndarray) -> Tensor:
        """Vectors (n_words, 128) of words."""
        return F.embedding(torch.from_numpy(words), self.weights["table"], sparse=True)

    def encode(self, packing: Packing, x: Tensor) -> Tensor:
        """Vectors of packed words → hidden states (n_words, 2 H) of both directions, packed."""
        states, _ = self.lstm(PackedSequence(x, batch_sizes(packing)))
        return states.data


class PaddedTagger(PackedTagger):
    """With padded sequences."""

    name = "pytorch, padded"
    block_size: int | None = None

    def __init__(self, parameters: Parameters, tables: Sequence[str] = ("table",)) -> None:
        super().__init__(parameters, tables)
        self.lstms = [lstm(self.weights, name) for name in ("forward", "backward")]

    def encode(self, packing: Packing, x: Tensor) -> Tensor:
        padding, mirror = pad(packing, self.block_size), torch.from_numpy(packing.mirror)
        forward = in_padding(self.lstms[0], x, padding)
        backward = in_padding(self.lstms[1], x.index_select(0, mirror), padding)
        return torch.cat([forward, backward.index_select(0, mirror)], dim=1)


class BucketedTagger(PaddedTagger):
    """With padded sequences, few of about the same length at a time."""

    name = "pytorch, bucketed"
    block_size = 16
