"""TreeFC as a user of autobatch writes it: for the leaves of one tree, with cells and without."""

from __future__ import annotations

import numpy as np

import autobatch as ab
from autobatch import nn
from benchmarks.autobatch_trainer import assign
from benchmarks.treefc.data import N_CLASSES, N_WORDS, Leaves
from benchmarks.workload import Parameters


class TreeFC(nn.Module):
    """Without cells: every op is a node of its own."""

    def __init__(self, parameters: Parameters) -> None:
        dim = parameters["out_w"].shape[1]
        self.embed = nn.Embedding(N_WORDS, dim)
        self.node = nn.Linear(2 * dim, dim)
        self.out = nn.Linear(dim, N_CLASSES)
        assign(self, parameters)

    def named(self) -> dict[str, ab.Parameter]:
        """Parameters under the names of the workload."""
        return {
            "table": self.embed.weight,
            "node_w": self.node.weight,
            "node_b": self.node.bias,
            "out_w": self.out.weight,
            "out_b": self.out.bias,
        }

    def compose(self, left: ab.Tensor, right: ab.Tensor) -> ab.Tensor:
        return ab.relu(self.node(ab.concat([left, right])))

    def encode(self, words: list[int]) -> ab.Tensor:
        if len(words) == 1:
            return self.embed[words[0]]
        half = len(words) // 2
        return self.compose(self.encode(words[:half]), self.encode(words[half:]))

    def loss(self, example: Leaves) -> ab.Tensor:
        return ab.cross_entropy(self.out(self.encode(example.words)), example.label)


class CellTreeFC(TreeFC):
    """With cells: a call of `compose` is one node."""

    compose = ab.cell(TreeFC.compose)


_ACTIVATIONS = (ab.tanh, ab.softplus, ab.sigmoid)


class Variant(nn.Module):
    """A model drawn from a seed: children swapped, another activation, an elementwise term more, other names."""

    def __init__(self, parameters: Parameters, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.activation = int(rng.integers(len(_ACTIVATIONS)))
        self.weight = float(rng.uniform(0.05, 0.2))
        width = parameters["out_w"].shape[1]
        self.lookup = nn.Embedding(N_WORDS, width)
        self.pair_map = nn.Linear(2 * width, width)
        self.judge = nn.Linear(width, N_CLASSES)
        assign(self, parameters)

    def named(self) -> dict[str, ab.Parameter]:
        """Parameters under the names of the workload."""
        names = ("table", "node_w", "node_b", "out_w", "out_b")
        return dict(zip(names, self.parameters(), strict=True))

    @ab.cell
    def pair(self, first: ab.Tensor, second: ab.Tensor) -> ab.Tensor:
        mapped = self.pair_map(ab.concat([second, first]))
        return _ACTIVATIONS[self.activation](mapped) + self.weight * (first - second)

    def loss(self, example: Leaves) -> ab.Tensor:
        level = [self.lookup[word] for word in example.words]
        while len(level) > 1:
            level = [self.pair(*level[k : k + 2]) for k in range(0, len(level), 2)]
        return ab.cross_entropy(self.judge(level[0]), example.label)
