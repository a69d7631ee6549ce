"""The lattice LSTM as a user of autobatch writes it: for one sentence, with cells and without; and a variant.

After Zhang & Yang, "Chinese NER using lattice LSTM", ACL 2018: an LSTM over characters in which every word that matches
has a cell of its own, fed by the state at its first character. Where words end, their cells and the character's own
candidate are mixed, element by element, by gates that are normalised over all of them (their eq. 11 to 15); elsewhere
input and forget gate are coupled. The loss is the cross entropy of a tag at every character.
"""

from __future__ import annotations

import numpy as np

import autobatch as ab
from autobatch import nn
from benchmarks.autobatch_trainer import assign
from benchmarks.lattice.data import EMBEDDING, N_CHARACTERS, N_TAGS, N_WORDS, Lattice
from benchmarks.workload import Parameters

State = tuple[ab.Tensor, ab.Tensor]


class LatticeLSTM(nn.Module):
    """Without cells: every op is a node of its own."""

    def __init__(self, parameters: Parameters) -> None:
        self.dim = dim = parameters["out_w"].shape[1]
        self.characters = nn.Embedding(N_CHARACTERS, EMBEDDING)
        self.words = nn.Embedding(N_WORDS, EMBEDDING)
        self.character_input = nn.Linear(EMBEDDING, 3 * dim)
        self.character_state = nn.Linear(dim, 3 * dim, bias=False)
        self.word_input = nn.Linear(EMBEDDING, 3 * dim)
        self.word_state = nn.Linear(dim, 3 * dim, bias=False)
        self.link_input = nn.Linear(EMBEDDING, dim)
        self.link_cell = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, N_TAGS)
        assign(self, parameters)

    def named(self) -> dict[str, ab.Parameter]:
        """Parameters under the names of the workload."""
        return {
            "char_table": self.characters.weight,
            "word_table": self.words.weight,
            "char_w": self.character_input.weight,
            "char_b": self.character_input.bias,
            "char_h": self.character_state.weight,
            "word_w": self.word_input.weight,
            "word_b": self.word_input.bias,
            "word_h": self.word_state.weight,
            "link_w": self.link_input.weight,
            "link_b": self.link_input.bias,
            "link_c": self.link_cell.weight,
            "out_w": self.out.weight,
            "out_b": self.out.bias,
        }

    def character(self, number: int, h: ab.Tensor, c: ab.Tensor) -> State:
        """The state after a character where no word ends."""
        i, o, u = ab.split(self.character_input(self.characters[number]) + self.character_state(h), 3)
        i = ab.sigmoid(i)
        c = i * ab.tanh(u) + (1 - i) * c
        return ab.sigmoid(o) * ab.tanh(c), c

    def word(self, number: int, h: ab.Tensor, c: ab.Tensor) -> ab.Tensor:
        """The cell of a word, from the state at its first character."""
        i, f, u = ab.split(self.word_input(self.words[number]) + self.word_state(h), 3)
        return ab.sigmoid(f) * c + ab.sigmoid(i) * ab.tanh(u)

    def merge(self, number: int, h: ab.Tensor, words: list[ab.Tensor]) -> State:
        """The state after a character where words end, from their cells."""
        e = self.characters[number]
        i, o, u = ab.split(self.character_input(e) + self.character_state(h), 3)
        own, link = ab.exp(ab.sigmoid(i)), self.link_input(e)
        shares = [ab.exp(ab.sigmoid(link + self.link_cell(word))) for word in words]
        mixed = own * ab.tanh(u) + ab.sum([share * word for share, word in zip(shares, words, strict=True)])
        c = mixed / (own + ab.sum(shares))
        return ab.sigmoid(o) * ab.tanh(c), c

    def score(self, h: ab.Tensor, tag: int) -> ab.Tensor:
        return ab.cross_entropy(self.out(h), tag)

    def loss(self, lattice: Lattice) -> ab.Tensor:
        h = c = ab.zeros(self.dim)
        states: list[State] = []
        losses = []
        for number, words, tag in zip(lattice.characters, lattice.words, lattice.tags, strict=True):
            if words:
                h, c = self.merge(number, h, [self.word(word, *states[start]) for word, start in words])
            else:
                h, c = self.character(number, h, c)
            states.append((h, c))
            losses.append(self.score(h, tag))
        return ab.sum(losses)


class CellLatticeLSTM(LatticeLSTM):
    """With cells: a character, a word, a tag is one node."""

    character = ab.cell(LatticeLSTM.character)
    word = ab.cell(LatticeLSTM.word)
    merge = ab.cell(LatticeLSTM.merge)
    score = ab.cell(LatticeLSTM.score)


_ACTIVATIONS = (ab.relu, ab.softplus, ab.sigmoid)


class Variant(nn.Module):
    """A model drawn from a seed: gates in another order, another activation, an elementwise term more, other names.

    It is as much arithmetic as the lattice LSTM, and nothing that a compiler could know it by.
    """

    def __init__(self, parameters: Parameters, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.order = tuple(rng.permutation(3).tolist())
        self.activation = int(rng.integers(len(_ACTIVATIONS)))
        self.weight = float(rng.uniform(0.05, 0.2))
        self.width = width = parameters["out_w"].shape[1]
        self.points = nn.Embedding(N_CHARACTERS, EMBEDDING)
        self.spans = nn.Embedding(N_WORDS, EMBEDDING)
        self.point_map = nn.Linear(EMBEDDING, 3 * width)
        self.point_past = nn.Linear(width, 3 * width, bias=False)
        self.span_map = nn.Linear(EMBEDDING, 3 * width)
        self.span_past = nn.Linear(width, 3 * width, bias=False)
        self.vote_map = nn.Linear(EMBEDDING, width)
        self.vote_past = nn.Linear(width, width, bias=False)
        self.judge = nn.Linear(width, N_TAGS)
        assign(self, parameters)

    def named(self) -> dict[str, ab.Parameter]:
        """Parameters under the names of the workload."""
        return {
            "char_table": self.points.weight,
            "word_table": self.spans.weight,
            "char_w": self.point_map.weight,
            "char_b": self.point_map.bias,
            "char_h": self.point_past.weight,
            "word_w": self.span_map.weight,
            "word_b": self.span_map.bias,
            "word_h": self.span_past.weight,
            "link_w": self.vote_map.weight,
            "link_b": self.vote_map.bias,
            "link_c": self.vote_past.weight,
            "out_w": self.judge.weight,
            "out_b": self.judge.bias,
        }

    @ab.cell
    def advance(self, number: int, shown: ab.Tensor, memory: ab.Tensor) -> State:
        admit, show, content = self._gates(self.point_map(self.points[number]) + self.point_past(shown))
        memory = memory + admit * (content - memory) + self.weight * admit * show
        return show * ab.tanh(memory), memory

    @ab.cell
    def cover(self, number: int, shown: ab.Tensor, memory: ab.Tensor) -> ab.Tensor:
        admit, hold, content = self._gates(self.span_map(self.spans[number]) + self.span_past(shown))
        return admit * content + hold * memory + self.weight * admit * hold

    @ab.cell
    def meet(self, number: int, shown: ab.Tensor, spans: list[ab.Tensor]) -> State:
        point = self.points[number]
        admit, show, content = self._gates(self.point_map(point) + self.point_past(shown))
        own, vote = ab.exp(admit), self.vote_map(point)
        votes = [ab.exp(ab.sigmoid(self.vote_past(span) + vote)) for span in spans]
        memory = ab.sum([span * share for span, share in zip(spans, votes, strict=True)]) + content * own
        memory = memory / (ab.sum(votes) + own) + self.weight * admit * show
        return show * ab.tanh(memory), memory

    @ab.cell
    def verdict(self, shown: ab.Tensor, tag: int) -> ab.Tensor:
        return ab.cross_entropy(self.judge(shown), tag)

    def _gates(self, gates: ab.Tensor) -> tuple[ab.Tensor, ab.Tensor, ab.Tensor]:
        parts = ab.split(gates, 3)
        first, second, content = (parts[k] for k in self.order)
        return ab.sigmoid(first), ab.sigmoid(second), _ACTIVATIONS[self.activation](content)

    def loss(self, lattice: Lattice) -> ab.Tensor:
        shown = memory = ab.zeros(self.width)
        past: list[State] = []
        verdicts = []
        for number, spans, tag in zip(lattice.characters, lattice.words, lattice.tags, strict=True):
            if spans:
                shown, memory = self.meet(number, shown, [self.cover(span, *past[start]) for span, start in spans])
            else:
                shown, memory = self.advance(number, shown, memory)
            past.append((shown, memory))
            verdicts.append(self.verdict(shown, tag))
        return ab.sum(verdicts)
