"""REINFORCE: a network writes a word at a time by sampling, and is rewarded for the words that are right.

Williams, "Simple statistical gradient-following algorithms", Machine Learning 8, 1992: the loss is the negative sum of
the log-probabilities of the words drawn, times the reward of the whole less a baseline. A sentence ends when its end
is drawn.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn
from benchmarks.decisions.program import Outcome

N_WORDS, LONGEST, END = 12, 16, 0

Example = list[int]


def examples(n: int, seed: int) -> list[Example]:
    """What is to be written, without the end."""
    rng = np.random.default_rng(seed)
    return [rng.integers(1, N_WORDS, size=rng.integers(1, 9)).tolist() for _ in range(n)]


def draw(probabilities: np.ndarray, rng: np.random.Generator) -> int:
    """A number, by these probabilities."""
    return int(min(np.searchsorted(np.cumsum(probabilities), rng.random()), len(probabilities) - 1))


def reward(written: list[int], wanted: Example) -> float:
    """The share of the wanted words that stand at their places."""
    return sum(a == b for a, b in zip(written, wanted, strict=False)) / max(len(written), len(wanted))


class Model(nn.Module):
    def __init__(self, dim: int = 32) -> None:
        self.word = nn.Embedding(N_WORDS, dim)
        self.reader, self.writer = nn.GRUCell(dim, dim), nn.GRUCell(dim, dim)
        self.out = nn.Linear(dim, N_WORDS)
        self.baseline = ab.Parameter(0.1)

    @ab.cell
    def read(self, word: int, h: Any) -> Any:
        return self.reader(self.word[word], h)

    @ab.cell
    def write(self, word: int, h: Any) -> Any:
        """The next state, and log-probabilities of the next word."""
        h = self.writer(self.word[word], h)
        return h, ab.log_softmax(self.out(h))

    def run(self, wanted: Example) -> Outcome:
        rng, h = ab.rng(), ab.zeros(self.reader.hidden_size)
        for word in wanted:
            h = self.read(word, h)
        written, chosen = [END], []
        while len(written) <= LONGEST:
            h, scores = self.write(written[-1], h)
            written.append(draw(np.exp(scores.numpy()), rng))
            chosen.append(scores[written[-1]])
            if written[-1] == END:
                break
        gain = reward(written[1:], wanted) - self.baseline
        return gain * gain - gain.detach() * ab.sum(chosen), written[1:]
