"""The language model as a user of autobatch writes it: for one sentence, with cells and without."""

from __future__ import annotations

import autobatch as ab
from autobatch import nn
from benchmarks.autobatch_trainer import assign
from benchmarks.bilstm.program import LSTM, CellLSTM, VariantLSTM
from benchmarks.lm.data import BEGIN
from benchmarks.sentences import EMBEDDING, N_WORDS, Sentence
from benchmarks.workload import Parameters


class LanguageModel(nn.Module):
    """Without cells: every op is a node of its own."""

    LSTM = LSTM

    def __init__(self, parameters: Parameters) -> None:
        dim = parameters["lstm_hh"].shape[1]
        self.embed = nn.Embedding(N_WORDS, EMBEDDING)
        self.lstm = self.LSTM(EMBEDDING, dim)
        self.out = nn.Linear(dim, N_WORDS)
        assign(self, parameters)

    def named(self) -> dict[str, ab.Parameter]:
        """Parameters under the names of the workload."""
        return {
            "table": self.embed.weight,
            **self.lstm.named("lstm"),
            "out_w": self.out.weight,
            "out_b": self.out.bias,
        }

    def vector(self, word: int) -> ab.Tensor:
        return self.embed[word]

    def word_loss(self, h: ab.Tensor, word: int) -> ab.Tensor:
        return ab.cross_entropy(self.out(h), word)

    def loss(self, sentence: Sentence) -> ab.Tensor:
        before = self.lstm([self.vector(word) for word in (BEGIN, *sentence.words[:-1])])
        return ab.sum([self.word_loss(h, word) for h, word in zip(before, sentence.words, strict=True)])


class CellLanguageModel(LanguageModel):
    """With cells."""

    LSTM = CellLSTM
    vector = ab.cell(LanguageModel.vector)
    word_loss = ab.cell(LanguageModel.word_loss)


class Variant(nn.Module):
    """A model drawn from a seed: gates in another order, another activation, an elementwise term more, other names."""

    def __init__(self, parameters: Parameters, seed: int) -> None:
        width = parameters["lstm_hh"].shape[1]
        self.lookup = nn.Embedding(N_WORDS, EMBEDDING)
        self.reader = VariantLSTM(EMBEDDING, width, seed)
        self.guess = nn.Linear(width, N_WORDS)
        assign(self, parameters)

    def named(self) -> dict[str, ab.Parameter]:
        """Parameters under the names of the workload."""
        return {
            "table": self.lookup.weight,
            **self.reader.named("lstm"),
            "out_w": self.guess.weight,
            "out_b": self.guess.bias,
        }

    @ab.cell
    def meaning(self, number: int) -> ab.Tensor:
        return self.lookup[number]

    @ab.cell
    def surprise(self, known: ab.Tensor, number: int) -> ab.Tensor:
        return ab.cross_entropy(self.guess(known), number)

    def loss(self, sentence: Sentence) -> ab.Tensor:
        known = self.reader.scan([self.meaning(number) for number in (BEGIN, *sentence.words[:-1])])
        return ab.sum([self.surprise(*each) for each in zip(known, sentence.words, strict=True)])
