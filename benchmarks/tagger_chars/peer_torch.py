"""The tagger with characters by hand in PyTorch: the BiLSTM taggers, and all rare words of a minibatch at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from benchmarks.bilstm.peer_torch import PackedTagger, PaddedTagger
from benchmarks.sentences import Packing, joined, pack
from benchmarks.tagger_chars.data import N_KNOWN, spelling
from benchmarks.torch_lstm import batch_sizes, in_padding, lstm, pad
from benchmarks.workload import Parameters


class PackedCharacterTagger(PackedTagger):
    """With packed sequences."""

    def __init__(self, parameters: Parameters, tables: Sequence[str] = ("table", "letter_table")) -> None:
        super().__init__(parameters, tables)
        self.letters_lstm = lstm(self.weights, "letters_forward", "letters_backward")

    def embed(self, words: np.ndarray) -> Tensor:
        is_rare = words >= N_KNOWN
        rare = np.flatnonzero(is_rare)
        if not len(rare):
            return super().embed(words)
        known = torch.from_numpy(np.flatnonzero(~is_rare))
        spellings = [spelling(word) for word in words[rare].tolist()]
        packing = pack([len(letters) for letters in spellings])
        letters = torch.from_numpy(joined(spellings)[packing.flat])
        vectors = self.spell(packing, F.embedding(letters, self.weights["letter_table"], sparse=True))
        x = vectors.new_empty(len(words), vectors.shape[1])
        x = x.index_copy(0, known, super().embed(words[known.numpy()]))
        return x.index_copy(0, torch.from_numpy(rare[packing.order]), vectors)

    def spell(self, packing: Packing, letters: Tensor) -> Tensor:
        """Vectors of packed letters → last states (n_words, 128) of both directions, longest words first."""
        _, (last, _) = self.letters_lstm(PackedSequence(letters, batch_sizes(packing)))
        return torch.cat([last[0], last[1]], dim=1)


class PaddedCharacterTagger(PackedCharacterTagger, PaddedTagger):
    """With padded sequences."""

    name = "pytorch, padded"
    word_block_size: int | None = None

    def __init__(self, parameters: Parameters, tables: Sequence[str] = ("table", "letter_table")) -> None:
        super().__init__(parameters, tables)
        self.letters_lstms = [lstm(self.weights, name) for name in ("letters_forward", "letters_backward")]

    def spell(self, packing: Packing, letters: Tensor) -> Tensor:
        padding, last = pad(packing, self.word_block_size), torch.from_numpy(packing.last)
        mirrored = letters.index_select(0, torch.from_numpy(packing.mirror))
        states = [
            in_padding(module, x, padding).index_select(0, last)
            for module, x in zip(self.letters_lstms, (letters, mirrored), strict=True)
        ]
        return torch.cat(states, dim=1)


class BucketedCharacterTagger(PaddedCharacterTagger):
    """With padded sequences, few of about the same length at a time."""

    name = "pytorch, bucketed"
    block_size = 16
    word_block_size = 64
