"""A recurrent neural network grammar (Dyer, Kuncoro, Ballesteros & Smith, NAACL 2016) that generates given trees.

Actions open a constituent, generate a word, or close the constituent on top; a stack LSTM reads the open constituents,
words and closed constituents, and predicts the next action. A closed constituent is composed of its label and its
children by an LSTM in each direction.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn

N_WORDS, N_LABELS = 200, 6
Tree = int | tuple[int, list[Any]]
"""A word, or a label and children."""


def examples(n: int) -> list[Tree]:
    """Trees drawn at random, of 2 to 20 words."""
    rng = np.random.default_rng(2017)
    return [_constituent(int(rng.integers(2, 21)), rng) for _ in range(n)]


def _constituent(n_words: int, rng: np.random.Generator) -> Tree:
    if n_words == 1 and rng.random() < 0.7:
        return int(rng.integers(N_WORDS))
    n_children = min(n_words, int(rng.integers(2, 5)))
    cuts = np.sort(rng.choice(n_words - 1, size=n_children - 1, replace=False) + 1) if n_words > 1 else []
    sizes = np.diff([0, *cuts, n_words])
    children = [_constituent(int(s), rng) if n_words > 1 else int(rng.integers(N_WORDS)) for s in sizes]
    return int(rng.integers(N_LABELS)), children


class Rnng(nn.Module):
    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.words = nn.Embedding(N_WORDS, dim)
        self.labels = nn.Embedding(N_LABELS, dim)
        self.stack = nn.LSTMCell(dim, dim)
        self.forward_children = nn.LSTMCell(dim, dim)
        self.backward_children = nn.LSTMCell(dim, dim)
        self.mix = nn.Linear(2 * dim, dim)
        self.action = nn.Linear(dim, 2 + N_LABELS)
        self.word = nn.Linear(dim, N_WORDS)

    @ab.cell
    def push(self, x: Any, state: Any) -> Any:
        return self.stack(x, state)

    @ab.cell
    def ahead(self, x: Any, state: Any) -> Any:
        return self.forward_children(x, state)

    @ab.cell
    def back(self, x: Any, state: Any) -> Any:
        return self.backward_children(x, state)

    @ab.cell
    def closed(self, ahead: Any, back: Any) -> Any:
        return ab.tanh(self.mix(ab.concat([ahead, back])))

    @ab.cell
    def act(self, h: Any, action: int) -> Any:
        return ab.cross_entropy(self.action(h), action)

    @ab.cell
    def generate(self, h: Any, word: int) -> Any:
        return ab.cross_entropy(self.word(h), word)

    def composed(self, label: int, children: list[Any]) -> Any:
        """The vector of a constituent."""
        zeros = ab.zeros(self.dim)
        start = self.labels[label]
        ahead, back = self.ahead(start, (zeros, zeros)), self.back(start, (zeros, zeros))
        for x, y in zip(children, reversed(children), strict=True):
            ahead, back = self.ahead(x, ahead), self.back(y, back)
        return self.closed(ahead[0], back[0])

    def loss(self, tree: Tree) -> Any:
        zeros = ab.zeros(self.dim)
        losses: list[Any] = []

        def run(tree: Tree, state: Any) -> Any:
            """The vector of a tree that is generated after a state of the stack."""
            if isinstance(tree, int):
                losses.append(self.act(state[0], 0))
                losses.append(self.generate(state[0], tree))
                return self.words[tree]
            label, trees = tree
            losses.append(self.act(state[0], 2 + label))
            state, children = self.push(self.labels[label], state), []
            for child in trees:
                children.append(run(child, state))
                state = self.push(children[-1], state)
            losses.append(self.act(state[0], 1))
            return self.composed(label, children)

        run(tree, (zeros, zeros))
        return ab.mean(losses)


MODEL = Rnng
