"""The BiLSTM tagger as a user of autobatch writes it: for one sentence, with cells and without."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

import autobatch as ab
from autobatch import nn
from benchmarks.autobatch_trainer import assign
from benchmarks.bilstm.data import HIDDEN
from benchmarks.sentences import EMBEDDING, N_TAGS, N_WORDS, Sentence
from benchmarks.workload import Parameters

State = tuple[ab.Tensor, ab.Tensor]


class LSTM(nn.Module):
    """One direction, with one bias. Without cells: every op is a node of its own."""

    def __init__(self, n_in: int, dim: int) -> None:
        self.input = nn.Linear(n_in, 4 * dim)
        self.hidden = nn.Linear(dim, 4 * dim, bias=False)

    def named(self, name: str) -> dict[str, ab.Parameter]:
        """Parameters under the names of the workload."""
        return {f"{name}_ih": self.input.weight, f"{name}_hh": self.hidden.weight, f"{name}_b": self.input.bias}

    def step(self, x: ab.Tensor, state: State | None) -> State:
        if state is None:
            i, _, g, o = ab.split(self.input(x), 4)
            c = ab.sigmoid(i) * ab.tanh(g)
        else:
            h, c = state
            i, f, g, o = ab.split(self.input(x) + self.hidden(h), 4)
            c = ab.sigmoid(f) * c + ab.sigmoid(i) * ab.tanh(g)
        return ab.sigmoid(o) * ab.tanh(c), c

    def forward(self, xs: Iterable[ab.Tensor]) -> list[ab.Tensor]:
        """The hidden state after each of xs, from a state of zeros."""
        state, outputs = None, []
        for x in xs:
            state = self.step(x, state)
            outputs.append(state[0])
        return outputs


class CellLSTM(LSTM):
    """With cells: a step is one node."""

    step = ab.cell(LSTM.step)


class Tagger(nn.Module):
    """Without cells."""

    LSTM = LSTM

    def __init__(self, parameters: Parameters) -> None:
        dim = parameters["forward_hh"].shape[1]
        self.embed = nn.Embedding(N_WORDS, EMBEDDING)
        self.left_to_right = self.LSTM(EMBEDDING, dim)
        self.right_to_left = self.LSTM(EMBEDDING, dim)
        self.hidden = nn.Linear(2 * dim, HIDDEN, bias=False)
        self.out = nn.Linear(HIDDEN, N_TAGS, bias=False)
        assign(self, parameters)

    def named(self) -> dict[str, ab.Parameter]:
        """Parameters under the names of the workload."""
        return {
            "table": self.embed.weight,
            **self.left_to_right.named("forward"),
            **self.right_to_left.named("backward"),
            "hidden_w": self.hidden.weight,
            "out_w": self.out.weight,
        }

    def vector(self, word: int) -> ab.Tensor:
        return self.embed[word]

    def word_loss(self, before: ab.Tensor, after: ab.Tensor, tag: int) -> ab.Tensor:
        return ab.cross_entropy(self.out(ab.tanh(self.hidden(ab.concat([before, after])))), tag)

    def loss(self, sentence: Sentence) -> ab.Tensor:
        vectors = [self.vector(word) for word in sentence.words]
        before = self.left_to_right(vectors)
        after = reversed(self.right_to_left(reversed(vectors)))
        return ab.sum([self.word_loss(*each) for each in zip(before, after, sentence.tags, strict=True)])


class CellTagger(Tagger):
    """With cells."""

    LSTM = CellLSTM
    vector = ab.cell(Tagger.vector)
    word_loss = ab.cell(Tagger.word_loss)


_ACTIVATIONS = (ab.relu, ab.softplus, ab.sigmoid)


class VariantLSTM(nn.Module):
    """An LSTM drawn from a seed: gates in another order, another activation, an elementwise term more, other names."""

    def __init__(self, n_in: int, width: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.roles = tuple(rng.permutation(4).tolist())
        self.activation = int(rng.integers(len(_ACTIVATIONS)))
        self.share = float(rng.uniform(0.05, 0.2))
        self.read = nn.Linear(n_in, 4 * width)
        self.carry = nn.Linear(width, 4 * width, bias=False)

    def named(self, name: str) -> dict[str, ab.Parameter]:
        """Parameters under the names of the workload."""
        return {f"{name}_ih": self.read.weight, f"{name}_hh": self.carry.weight, f"{name}_b": self.read.bias}

    @ab.cell
    def advance(self, item: ab.Tensor, before: State | None) -> State:
        sums = self.read(item) if before is None else self.read(item) + self.carry(before[1])
        parts = ab.split(sums, 4)
        admit, keep, content, show = (parts[k] for k in self.roles)
        admit, show = ab.sigmoid(admit), ab.sigmoid(show)
        memory = admit * _ACTIVATIONS[self.activation](content) + self.share * admit * show
        if before is not None:
            memory = memory + ab.sigmoid(keep) * before[0]
        return memory, show * ab.tanh(memory)

    def scan(self, items: Iterable[ab.Tensor]) -> list[ab.Tensor]:
        before, shown = None, []
        for item in items:
            before = self.advance(item, before)
            shown.append(before[1])
        return shown


class Variant(nn.Module):
    """A tagger of such LSTMs: as much arithmetic, and nothing that a compiler could know it by."""

    def __init__(self, parameters: Parameters, seed: int) -> None:
        width = parameters["forward_hh"].shape[1]
        self.lookup = nn.Embedding(N_WORDS, EMBEDDING)
        self.onward = VariantLSTM(EMBEDDING, width, seed)
        self.homeward = VariantLSTM(EMBEDDING, width, seed)
        self.narrow = nn.Linear(2 * width, HIDDEN, bias=False)
        self.judge = nn.Linear(HIDDEN, N_TAGS, bias=False)
        assign(self, parameters)

    def named(self) -> dict[str, ab.Parameter]:
        """Parameters under the names of the workload."""
        return {
            "table": self.lookup.weight,
            **self.onward.named("forward"),
            **self.homeward.named("backward"),
            "hidden_w": self.narrow.weight,
            "out_w": self.judge.weight,
        }

    @ab.cell
    def meaning(self, number: int) -> ab.Tensor:
        return self.lookup[number]

    @ab.cell
    def penalty(self, start: ab.Tensor, rest: ab.Tensor, answer: int) -> ab.Tensor:
        return ab.cross_entropy(self.judge(ab.tanh(self.narrow(ab.concat([start, rest])))), answer)

    def loss(self, sentence: Sentence) -> ab.Tensor:
        items = [self.meaning(number) for number in sentence.words]
        starts, rests = self.onward.scan(items), self.homeward.scan(items[::-1])[::-1]
        return ab.sum([self.penalty(*each) for each in zip(starts, rests, sentence.tags, strict=True)])
