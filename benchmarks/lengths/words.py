"""Sentences of 5 to 40 words, each of one of some classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

N_WORDS = 5000
N_CLASSES = 5


@dataclass(frozen=True, slots=True)
class Sentence:
    """Numbers of the words, and the class."""

    words: list[int]
    label: int


def sentences(n: int) -> list[Sentence]:
    """So many, of lengths drawn evenly, words by Zipf's law."""
    rng = np.random.default_rng(13)
    drawn = []
    for _ in range(n):
        words = (N_WORDS ** rng.random(int(rng.integers(5, 41)))).astype(np.int64) - 1
        drawn.append(Sentence(words.tolist(), int(rng.integers(N_CLASSES))))
    return drawn
