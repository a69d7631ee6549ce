"""The parser of `examples/parser.py` on sentences drawn at random: trains on its own decisions, and parses by them."""

from __future__ import annotations

import numpy as np

from benchmarks.decisions.program import Outcome
from examples.parser import Parser, Sentence

N_WORDS, N_TAGS, N_RELATIONS = 100, 10, 4
EXPLORED = 0.9
"""Share of transitions in training that are the parser's own."""


def examples(n: int, seed: int) -> list[Sentence]:
    """Sentences of 1 to 14 words with projective trees: every word but one hangs on one at the side of its clause."""
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(n):
        length = int(rng.integers(1, 15))
        heads = [0] * length
        _hang(heads, 0, length, 0, rng)
        words, tags, relations = (rng.integers(k, size=length).tolist() for k in (N_WORDS, N_TAGS, N_RELATIONS))
        drawn.append(Sentence(words, tags, heads, relations))
    return drawn


def _hang(heads: list[int], first: int, last: int, head: int, rng: np.random.Generator) -> None:
    """One of the words from `first` up to `last` depends on `head`, what is left and right of it on that one."""
    if first < last:
        top = int(rng.integers(first, last))
        heads[top] = head
        _hang(heads, first, top, top + 1, rng)
        _hang(heads, top + 1, last, top + 1, rng)


class Model(Parser):
    def __init__(self, dim: int = 32, hidden: int = 32) -> None:
        super().__init__(N_WORDS, N_TAGS, N_RELATIONS, dim, hidden)

    def train_on_own(self, sentence: Sentence) -> Outcome:
        parse, loss = self.run(sentence, EXPLORED, learn=True)
        return loss, parse

    def train_on_oracle(self, sentence: Sentence) -> Outcome:
        parse, loss = self.run(sentence, 0.0, learn=True)
        return loss, parse

    def parse_only(self, sentence: Sentence) -> Outcome:
        return None, self.parse(sentence)
