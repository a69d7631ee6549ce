"""A graph network: messages along edges, by a function of both ends, and a GRU that updates the nodes.

After Gilmer et al., "Neural message passing for quantum chemistry", ICML 2017. Graphs have any number of nodes and of
edges, and nodes may have none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import autobatch as ab
from autobatch import nn
from benchmarks.twins import Program

N_KINDS = 8
N_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Graph:
    """Kinds of nodes; edges as numbers of nodes, from and to, the latter ascending; a number to be predicted."""

    kinds: list[int]
    sources: list[int]
    targets: list[int]
    value: float


def graphs(n: int) -> list[Graph]:
    """Graphs of 2 to 12 nodes, with one to three edges a node on average."""
    rng = np.random.default_rng(16)
    drawn = []
    for _ in range(n):
        n_nodes = int(rng.integers(2, 13))
        edges = rng.integers(n_nodes, size=(int(rng.integers(n_nodes, 3 * n_nodes)), 2))
        edges = edges[np.argsort(edges[:, 1], kind="stable")]
        kinds = rng.integers(N_KINDS, size=n_nodes)
        drawn.append(Graph(kinds.tolist(), edges[:, 0].tolist(), edges[:, 1].tolist(), float(kinds.mean())))
    return drawn


class GraphNetwork(nn.Module):
    def __init__(self, dim: int) -> None:
        self.embed = nn.Embedding(N_KINDS, dim)
        self.message = nn.Linear(2 * dim, dim)
        self.update = nn.GRUCell(dim, dim)
        self.out = nn.Linear(dim, 1)

    def loss(self, graph: Graph) -> ab.Tensor:
        """Squared error of the number."""
        h = self.embed(graph.kinds)
        for _ in range(N_ROUNDS):
            ends = ab.concat([h[graph.sources], h[graph.targets]], axis=1)
            messages = ab.relu(self.message(ends))
            h = self.update(ab.segment_sum(messages, graph.targets, len(graph.kinds)), h)
        return ab.squared_error(self.out(h.sum(axis=0)), ab.tensor([graph.value]))


PROGRAM = Program("graph network", GraphNetwork, graphs, batch=64)
