"""The MV-RNN as a user of autobatch writes it: for one tree, with cells and without."""

from __future__ import annotations

import numpy as np

import autobatch as ab
from autobatch import nn
from benchmarks.autobatch_trainer import assign
from benchmarks.mvrnn.data import N_CLASSES
from benchmarks.treelstm.data import Tree
from benchmarks.workload import Parameters

State = tuple[ab.Tensor, ab.Tensor]


class MVRNN(nn.Module):
    """Without cells: every op is a node of its own."""

    def __init__(self, parameters: Parameters) -> None:
        dim = parameters["out_w"].shape[1]
        self.vectors = ab.Parameter(parameters["vectors"])
        self.matrices = ab.Parameter(parameters["matrices"])
        self.node = nn.Linear(2 * dim, dim)
        self.pair_w = ab.Parameter(parameters["pair_w"])
        self.out = nn.Linear(dim, N_CLASSES)
        assign(self, parameters)

    def named(self) -> dict[str, ab.Parameter]:
        """Parameters under the names of the workload."""
        return {
            "vectors": self.vectors,
            "matrices": self.matrices,
            "node_w": self.node.weight,
            "node_b": self.node.bias,
            "pair_w": self.pair_w,
            "out_w": self.out.weight,
            "out_b": self.out.bias,
        }

    def word(self, index: int) -> State:
        return self.vectors[index], self.matrices[index]

    def compose(self, left: State, right: State) -> State:
        (a, A), (b, B) = left, right
        return ab.tanh(self.node(ab.concat([B @ a, A @ b]))), self.pair_w @ ab.concat([A, B], axis=0)

    def encode(self, tree: Tree) -> State:
        if tree.is_leaf:
            return self.word(tree.word)
        return self.compose(self.encode(tree.left), self.encode(tree.right))

    def loss(self, tree: Tree) -> ab.Tensor:
        vector, _ = self.encode(tree)
        return ab.cross_entropy(self.out(vector), tree.label)


class CellMVRNN(MVRNN):
    """With cells: a call of `word` or `compose` is one node."""

    word = ab.cell(MVRNN.word)
    compose = ab.cell(MVRNN.compose)


_ACTIVATIONS = (ab.relu, ab.softplus, ab.sigmoid)


class Variant(nn.Module):
    """A model drawn from a seed: vectors in another order, another activation, a term more, other names."""

    def __init__(self, parameters: Parameters, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.order = tuple(rng.permutation(2).tolist())
        self.activation = int(rng.integers(len(_ACTIVATIONS)))
        self.weight = float(rng.uniform(0.05, 0.2))
        width = parameters["out_w"].shape[1]
        self.meaning = ab.Parameter(parameters["vectors"])
        self.operator = ab.Parameter(parameters["matrices"])
        self.vector_map = nn.Linear(2 * width, width)
        self.operator_map = ab.Parameter(parameters["pair_w"])
        self.judge = nn.Linear(width, N_CLASSES)
        assign(self, parameters)

    def named(self) -> dict[str, ab.Parameter]:
        """Parameters under the names of the workload."""
        names = ("vectors", "matrices", "node_w", "node_b", "pair_w", "out_w", "out_b")
        return dict(zip(names, self.parameters(), strict=True))

    @ab.cell
    def token(self, number: int) -> State:
        return self.meaning[number], self.operator[number]

    @ab.cell
    def merge(self, first: State, second: State) -> State:
        (x, on_y), (y, on_x) = first, second
        acted = [on_x @ x, on_y @ y]
        mapped = self.vector_map(ab.concat([acted[k] for k in self.order]))
        vector = _ACTIVATIONS[self.activation](mapped) + self.weight * (x - y)
        return vector, self.operator_map @ ab.concat([on_y, on_x], axis=0)

    def walk(self, tree: Tree) -> State:
        if tree.is_leaf:
            return self.token(tree.word)
        return self.merge(self.walk(tree.left), self.walk(tree.right))

    def loss(self, tree: Tree) -> ab.Tensor:
        return ab.cross_entropy(self.judge(self.walk(tree)[0]), tree.label)
