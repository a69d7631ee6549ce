"""A convolutional network over characters, with widths 3, 4 and 5 and the maximum over time.

After Kim, "Convolutional neural networks for sentence classification", EMNLP 2014; on characters as in Kim et al., AAAI
2016.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import autobatch as ab
from autobatch import nn
from benchmarks.twins import Program

N_CHARACTERS = 80
N_CLASSES = 5
WIDTHS = (3, 4, 5)


@dataclass(frozen=True, slots=True)
class Text:
    """Numbers of its characters, at least as many as the widest filter, and the class."""

    characters: list[int]
    label: int


def texts(n: int) -> list[Text]:
    """Texts of 5 to 60 characters."""
    rng = np.random.default_rng(14)
    lengths = rng.integers(5, 61, size=n)
    return [Text(rng.integers(N_CHARACTERS, size=k).tolist(), int(rng.integers(N_CLASSES))) for k in lengths.tolist()]


class CharacterCNN(nn.Module):
    def __init__(self, dim: int) -> None:
        self.embed = nn.Embedding(N_CHARACTERS, dim // 4)
        self.filters = [nn.Conv1d(dim // 4, dim, width) for width in WIDTHS]
        self.out = nn.Linear(len(WIDTHS) * dim, N_CLASSES)

    def loss(self, text: Text) -> ab.Tensor:
        """Cross entropy of the class."""
        x = self.embed(text.characters)
        found = [ab.relu(layer(x)).max(axis=0) for layer in self.filters]
        return ab.cross_entropy(self.out(ab.concat(found)), text.label)


PROGRAM = Program("character CNN", CharacterCNN, texts, batch=64)
