"""Pairs of sentences of different lengths, and the encoder that both translation models share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import autobatch as ab
from autobatch import nn

N_WORDS = 1000
START = 0


@dataclass(frozen=True, slots=True)
class Pair:
    """Numbers of the words of a sentence and of its translation; 0 begins a translation and ends it."""

    source: list[int]
    target: list[int]


def pairs(n: int) -> list[Pair]:
    """Sources of 3 to 12 words, targets of 2 to 12."""
    rng = np.random.default_rng(11)
    drawn = []
    for _ in range(n):
        n_source = int(rng.integers(3, 13))
        n_target = int(np.clip(n_source + rng.integers(-2, 3), 2, 12))
        source, target = (rng.integers(1, N_WORDS, size=k).tolist() for k in (n_source, n_target))
        drawn.append(Pair(source, target))
    return drawn


class Encoder(nn.Module):
    """An LSTM over the words of the source."""

    def __init__(self, dim: int) -> None:
        self.embed = nn.Embedding(N_WORDS, dim)
        self.cell = nn.LSTMCell(dim, dim)

    def forward(self, words: list[int]) -> tuple[ab.Tensor, tuple[ab.Tensor, ab.Tensor]]:
        """h of all words as a matrix (n, dim), and the last state."""
        states, state = [], None
        for word in words:
            state = self.cell(self.embed[word], state)
            states.append(state[0])
        return ab.stack(states), state
