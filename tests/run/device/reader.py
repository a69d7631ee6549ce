"""The model of these tests, and its numbers on the host."""

from __future__ import annotations

from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn


class Reader(nn.Module):
    """A recurrent cell over words, a shared expression, a list and a loss."""

    def __init__(self, dim: int = 3) -> None:
        self.embed = nn.Embedding(7, dim)
        self.cell = nn.LSTMCell(dim, dim)
        self.mix = ab.Parameter(np.linspace(-1, 1, dim))
        self.out = nn.Linear(dim, 4)

    def states(self, words: list[int]) -> list[Any]:
        """The state after each word."""
        state = None
        found = []
        for word in words:
            state = self.cell(self.embed[word], state)
            found.append(state[0])
        return found

    def loss(self, words: list[int]) -> Any:
        """Of one sentence."""
        h = ab.mean(self.states(words)) * ab.exp(self.mix * self.mix)
        return ab.cross_entropy(self.out(h), len(words) % 4)


SENTENCES: list[list[Any]] = [[1, 2, 3], [4], [2, 2, 6, 0], [5, 1], [3, 3, 3, 3, 3]]


def numbers(x: Any) -> Any:
    """An array or a gradient as NumPy's."""
    x = x.to_dense() if hasattr(x, "to_dense") else x
    return x.get() if hasattr(x, "get") else x


def gradients(model: nn.Module) -> dict[str, Any]:
    """All gradients, on the host."""
    return {name: numbers(p.grad) for name, p in model.named_parameters()}


def agree(a: dict[str, Any], b: dict[str, Any], tolerance: float = 1e-5) -> None:
    """Raise unless two dicts of arrays hold the same within rounding."""
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=0, atol=tolerance * (1 + np.abs(b[name]).max()), err_msg=name)
