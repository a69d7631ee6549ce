"""The MLP as a user of autobatch writes it: for one vector, with a cell and without; and a variant from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn
from benchmarks.autobatch_trainer import assign
from benchmarks.mlp.data import Example
from benchmarks.workload import Parameters


class MLP(nn.Module):
    """Without cells: every op is a node of its own."""

    def __init__(self, parameters: Parameters) -> None:
        dim, n_inputs = parameters["w1"].shape
        self.first = nn.Linear(n_inputs, dim)
        self.second = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, len(parameters["b3"]))
        assign(self, parameters)

    def named(self) -> dict[str, ab.Parameter]:
        """Parameters under the names of `data.parameters`."""
        layers = (self.first, self.second, self.out)
        weights = {f"w{k}": layer.weight for k, layer in enumerate(layers, start=1)}
        return weights | {f"b{k}": layer.bias for k, layer in enumerate(layers, start=1)}

    def logits(self, x: Any) -> Any:
        """x: f32[256] → f32[10]."""
        return self.out(ab.tanh(self.second(ab.tanh(self.first(x)))))

    def loss(self, example: Example) -> ab.Tensor:
        x, label = example
        return ab.cross_entropy(self.logits(x), label)


class CellMLP(MLP):
    """With cells: all of a vector's work is one node."""

    @ab.cell
    def scored(self, x: Any, label: Any) -> Any:
        return ab.cross_entropy(self.logits(x), label)

    def loss(self, example: Example) -> ab.Tensor:
        return self.scored(*example)


def variant(parameters: Parameters, seed: int) -> CellMLP:
    """One activation is another, and the second layer is joined by a share of the first, drawn from the seed."""
    rng = np.random.default_rng(seed)
    activations = [ab.tanh, ab.tanh]
    activations[rng.integers(2)] = (ab.relu, ab.sigmoid, ab.softplus)[rng.integers(3)]
    share = float(rng.uniform(0.1, 0.5))

    class Variant(CellMLP):
        def logits(self, x: Any) -> Any:
            first = activations[0](self.first(x))
            return self.out(activations[1](self.second(first)) + share * first)

    return Variant(parameters)
