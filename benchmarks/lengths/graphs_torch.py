"""The graph network in PyTorch: one by one, and many graphs laid side by side. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.lengths.graphs import N_ROUNDS, Graph
from benchmarks.lengths.pairs_torch import Weights, look_up
from benchmarks.lengths.transformer_torch import linear
from benchmarks.torch_trainer import OneByOne, TorchTrainer
from benchmarks.workload import Parameters

TABLES = ("embed.weight",)


def nodes(w: Weights, h: Tensor, sources: Tensor, targets: Tensor) -> Tensor:
    """h of all nodes after all rounds."""
    gru = [w[f"update.{part}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    for _ in range(N_ROUNDS):
        messages = F.relu(linear(w, "message", torch.cat([h[sources], h[targets]], dim=1)))
        h = torch.gru_cell(torch.zeros_like(h).index_add(0, targets, messages), h, *gru)
    return h


class OneGraph(OneByOne):
    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters, TABLES)

    def one(self, graph: Graph) -> Tensor:
        h = look_up(self.weights["embed.weight"], graph.kinds)
        h = nodes(self.weights, h, torch.tensor(graph.sources), torch.tensor(graph.targets))
        return (linear(self.weights, "out", h.sum(dim=0)) - graph.value).square().sum()


class Joined(TorchTrainer):
    """All graphs of a minibatch as one graph, as PyTorch Geometric has them: nothing is padded."""

    name = "pytorch, padded"

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters, TABLES)

    def loss(self, examples: Sequence[Graph]) -> Tensor:
        sizes = np.array([len(graph.kinds) for graph in examples])
        starts = np.repeat(np.cumsum(sizes) - sizes, [len(graph.sources) for graph in examples])
        sources, targets = (
            torch.from_numpy(np.concatenate([getattr(graph, end) for graph in examples]) + starts)
            for end in ("sources", "targets")
        )
        h = look_up(self.weights["embed.weight"], [kind for graph in examples for kind in graph.kinds])
        h = nodes(self.weights, h, sources, targets)
        graph_of = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes))
        sums = h.new_zeros(len(sizes), h.shape[1]).index_add(0, graph_of, h)
        wanted = torch.tensor([graph.value for graph in examples], dtype=h.dtype)
        return (linear(self.weights, "out", sums)[:, 0] - wanted).square().sum()


TWINS = (OneGraph, Joined)
