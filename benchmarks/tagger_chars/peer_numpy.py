"""The tagger with characters by hand in plain NumPy: the BiLSTM tagger, and all rare words of a minibatch at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.adam import Rows, merged_rows
from benchmarks.bilstm.peer_numpy import NumpyTagger, adam_of, dense_gradients
from benchmarks.packed_lstm import PackedLSTM
from benchmarks.sentences import Sentence, joined, pack
from benchmarks.tagger_chars.data import LETTER_DIM, LETTER_WIDTH, N_KNOWN, spelling
from benchmarks.workload import Parameters


class NumpyCharacterTagger(NumpyTagger):
    """Parameters, moments and reused memory. Those of the letters rest when a minibatch has no rare word."""

    def __init__(self, parameters: Parameters) -> None:
        spelling_ones = {name: value for name, value in parameters.items() if name.startswith("letter")}
        super().__init__({name: value for name, value in parameters.items() if name not in spelling_ones})
        self.letters_adam = adam_of(spelling_ones)
        names = "letters_forward", "letters_backward"
        self.letters_lstm = PackedLSTM(names, self.letters_adam.weights, self.letters_adam.gradients)

    def step(self, sentences: Sequence[Sentence]) -> float:
        loss = super().step(sentences)
        if len(self.rare):
            self.letters_adam.step(self.letter_rows)
        return loss

    def loss_and_gradients(self, sentences: Sequence[Sentence]) -> tuple[float, Parameters]:
        loss, gradients = super().loss_and_gradients(sentences)
        if len(self.rare):
            return loss, gradients | dense_gradients(self.letters_adam, self.letter_rows)
        return loss, gradients | {name: np.zeros_like(weight) for name, weight in self.letters_adam.weights.items()}

    def _embed(self, words: np.ndarray) -> np.ndarray:
        self.rare = np.flatnonzero(words >= N_KNOWN)
        x = super()._embed(words)
        if len(self.rare):
            spellings = [spelling(word) for word in words[self.rare].tolist()]
            packing = pack([len(letters) for letters in spellings])
            self.letters, self.rare = joined(spellings)[packing.flat], self.rare[packing.order]
            vectors = self.letters_adam.weights["letter_table"][self.letters]
            states = self.letters_lstm.forward(packing, [vectors, vectors[packing.mirror]])
            x[self.rare] = states[packing.last].reshape(len(self.rare), 2 * LETTER_DIM)
        return x

    def _embed_reverse(self, words: np.ndarray, d_x: np.ndarray) -> dict[str, Rows]:
        known = np.flatnonzero(words < N_KNOWN)
        self.letter_rows: dict[str, Rows] = {}
        if len(self.rare):
            packing = self.letters_lstm.packing
            d_states = np.zeros((packing.n_rows, 2, LETTER_DIM), np.float32)
            d_states[packing.last] = d_x[self.rare].reshape(-1, 2, LETTER_DIM)
            d_vectors = self.room("d letters", 2, packing.n_rows, LETTER_WIDTH)
            self.letters_lstm.reverse(d_states, d_vectors)
            d_vectors[0] += d_vectors[1][packing.mirror]
            self.letter_rows["letter_table"] = merged_rows(self.letters, d_vectors[0])
        return {"table": merged_rows(words[known], d_x[known])}
