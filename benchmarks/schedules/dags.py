"""Random directed acyclic graphs: each node is one of a few cells on one or two earlier nodes."""

from __future__ import annotations

from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn

N_KINDS = 4
Dag = list[tuple[int, int, int]]
"""Of each node its kind, and which earlier nodes it reads (0: the input)."""


def examples(n: int) -> list[Dag]:
    """Graphs of 5 to 30 nodes; most edges are short."""
    rng = np.random.default_rng(7)
    drawn = []
    for _ in range(n):
        size = int(rng.integers(5, 31))
        sources = [[max(0, k - int(rng.geometric(0.4)) + 1) for _ in range(2)] for k in range(size)]
        drawn.append([(int(rng.integers(N_KINDS)), a, b) for a, b in sources])
    return drawn


class Dags(nn.Module):
    def __init__(self, dim: int) -> None:
        self.input = nn.Embedding(1, dim)
        self.kinds = [nn.Linear(2 * dim, dim) for _ in range(N_KINDS)]
        self.out = nn.Linear(dim, 1)
        self.nodes = [ab.cell(self._node(kind)) for kind in self.kinds]

    @staticmethod
    def _node(kind: Any) -> Any:
        return lambda x, y: ab.tanh(kind(ab.concat([x, y])))

    @ab.cell
    def score(self, x: Any) -> Any:
        return ab.sum(self.out(x))

    def loss(self, dag: Dag) -> Any:
        values = [self.input[0]]
        for kind, a, b in dag:
            values.append(self.nodes[kind](values[a], values[b]))
        return ab.mean([self.score(x) for x in values[1:]])


MODEL = Dags
