"""Beam search in a translator with attention, and training on what the search finds.

The network is that of Bahdanau, Cho & Bengio, "Neural machine translation by jointly learning to align and translate",
ICLR 2015, with one reader. The search keeps the `width` best sentences and asks for all scores of a step at once.
Training minimises the risk over the sentences found (Shen et al., "Minimum risk training", ACL 2016, eq. 11 to 13, with
α = 1 and the share of wrong words as risk), so that gradients go through the scores of the whole search.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn
from benchmarks.decisions.program import Outcome

N_WORDS, END = 20, 0

Example = tuple[list[int], list[int]]


def examples(n: int, seed: int) -> list[Example]:
    """Sentences and their translations."""
    rng = np.random.default_rng(seed)
    return [
        tuple(rng.integers(1, N_WORDS, size=rng.integers(3, 11)).tolist() for _ in range(2))  # type: ignore[misc]
        for _ in range(n)
    ]


def risk(written: list[int], wanted: list[int]) -> float:
    """The share of the words that are wrong."""
    return 1.0 - sum(a == b for a, b in zip(written, wanted, strict=False)) / max(len(written), len(wanted))


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A sentence so far: its words, its log-probability as a tensor and as a number, the state of the writer."""

    words: list[int]
    score: Any
    value: float
    h: Any


class Model(nn.Module):
    def __init__(self, width: int, dim: int = 32) -> None:
        self.width = width
        self.source, self.target = nn.Embedding(N_WORDS, dim), nn.Embedding(N_WORDS, dim)
        self.reader, self.writer = nn.GRUCell(dim, dim), nn.GRUCell(2 * dim, dim)
        self.key, self.query = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False)
        self.energy = ab.Parameter(np.linspace(-1.0, 1.0, dim))
        self.out = nn.Linear(2 * dim, N_WORDS)

    @ab.cell
    def read(self, word: int, h: Any) -> Any:
        """The state after a word of the source, and what attention compares."""
        h = self.reader(self.source[word], h)
        return h, self.key(h)

    @ab.cell
    def write(self, word: int, score: Any, h: Any, source: list[Any]) -> Any:
        """Log-probabilities of the sentence with each next word, and the state of the writer."""
        query = self.query(h)
        weights = [ab.exp(ab.sum(self.energy * ab.tanh(query + key))) for _, key in source]
        context = ab.sum([w * state for w, (state, _) in zip(weights, source, strict=True)]) / ab.sum(weights)
        h = self.writer(ab.concat([self.target[word], context]), h)
        return score + ab.log_softmax(self.out(ab.concat([h, context]))), h

    def search(self, words: list[int]) -> list[Hypothesis]:
        """The best sentences found, the best first."""
        source, h = [], ab.zeros(self.reader.hidden_size)
        for word in words:
            h, key = self.read(word, h)
            source.append((h, key))
        live, done = [Hypothesis([END], ab.zeros(()), 0.0, h)], []
        for _ in range(len(words) + 2):
            steps = [self.write(one.words[-1], one.score, one.h, source) for one in live]
            values = ab.evaluate([scores for scores, _ in steps])
            found = [(float(v), k, word) for k, row in enumerate(values) for word, v in enumerate(row)]
            found.sort(key=lambda option: -option[0])
            grown = []
            for value, k, word in found[: self.width - len(done)]:
                scores, h = steps[k]
                grown.append(Hypothesis([*live[k].words, word], scores[word], value, h))
            done += [one for one in grown if one.words[-1] == END]
            live = [one for one in grown if one.words[-1] != END]
            if not live:
                break
        return sorted(done + live, key=lambda one: -one.value)

    def translate(self, example: Example) -> Outcome:
        """Nothing but the search."""
        with ab.no_grad():
            return None, [(one.words[1:], one.value) for one in self.search(example[0])]

    def run(self, example: Example) -> Outcome:
        """The risk of what is found."""
        found = self.search(example[0])
        shares = ab.softmax(ab.stack([one.score for one in found]))
        risks = np.array([risk(one.words[1:], example[1]) for one in found])
        return (shares * risks).sum(), [(one.words[1:], one.value) for one in found]
