"""The Tree-LSTM of the benchmark as a user of autobatch writes it: for one tree, with cells and without."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import autobatch as ab
from autobatch import nn, optim
from benchmarks.workloads import EMBEDDING, LEARNING_RATE, N_CLASSES, N_WORDS, Tree

State = tuple[ab.Tensor, ab.Tensor]


class TreeLSTM(nn.Module):
    """Without cells: every op is a node of its own."""

    def __init__(self, parameters: dict[str, np.ndarray]) -> None:
        dim = parameters["out_w"].shape[1]
        self.embed = nn.Embedding(N_WORDS, EMBEDDING)
        self.leaf = nn.Linear(EMBEDDING, 3 * dim)
        self.node = nn.Linear(2 * dim, 3 * dim)
        self.forget_left = nn.Linear(dim, dim)
        self.forget_right = nn.Linear(dim, dim)
        self.forget_right.bias = self.forget_left.bias
        self.out = nn.Linear(dim, N_CLASSES)
        for name, parameter in self.named().items():
            parameter.value = parameters[name]

    def named(self) -> dict[str, ab.Parameter]:
        """Parameters under the names of `tree_lstm_parameters`."""
        return {
            "table": self.embed.weight,
            "leaf_w": self.leaf.weight,
            "leaf_b": self.leaf.bias,
            "node_w": self.node.weight,
            "node_b": self.node.bias,
            "forget_l": self.forget_left.weight,
            "forget_r": self.forget_right.weight,
            "forget_b": self.forget_left.bias,
            "out_w": self.out.weight,
            "out_b": self.out.bias,
        }

    def word(self, index: int) -> State:
        i, o, u = ab.split(self.leaf(self.embed[index]), 3)
        c = ab.sigmoid(i) * ab.tanh(u)
        return ab.sigmoid(o) * ab.tanh(c), c

    def compose(self, left: State, right: State) -> State:
        (h1, c1), (h2, c2) = left, right
        i, o, u = ab.split(self.node(ab.concat([h1, h2])), 3)
        f1, f2 = self.forget_left(h1), self.forget_right(h2)
        c = ab.sigmoid(i) * ab.tanh(u) + ab.sigmoid(f1) * c1 + ab.sigmoid(f2) * c2
        return ab.sigmoid(o) * ab.tanh(c), c

    def encode(self, tree: Tree) -> State:
        if tree.is_leaf:
            return self.word(tree.word)
        return self.compose(self.encode(tree.left), self.encode(tree.right))

    def loss(self, tree: Tree) -> ab.Tensor:
        h, _ = self.encode(tree)
        return ab.cross_entropy(self.out(h), tree.label)


class CellTreeLSTM(TreeLSTM):
    """With cells: a call of `word` or `compose` is one node."""

    word = ab.cell(TreeLSTM.word)
    compose = ab.cell(TreeLSTM.compose)


class AutobatchProgram:
    """One training program; the same interface as the peers."""

    def __init__(self, name: str, model: TreeLSTM, batched: bool = True) -> None:
        self.name, self.model, self.batched = name, model, batched
        self.optimizer = optim.Adam(model.parameters(), lr=LEARNING_RATE)

    def step(self, trees: Sequence[Tree]) -> float:
        """One training step. Returns the summed loss before the update."""
        self.optimizer.zero_grad()
        loss = ab.sum(ab.map(self.model.loss, trees, batched=self.batched))
        loss.backward()
        self.optimizer.step()
        return float(loss)

    def loss_and_gradients(self, trees: Sequence[Tree]) -> tuple[float, dict[str, np.ndarray]]:
        """The summed loss and its gradients under the names of `tree_lstm_parameters`; nothing is updated."""
        self.optimizer.zero_grad()
        loss = ab.sum(ab.map(self.model.loss, trees, batched=self.batched))
        loss.backward()
        gradients = {}
        for name, parameter in self.model.named().items():
            gradient = parameter.grad
            gradients[name] = np.asarray(gradient.to_dense() if hasattr(gradient, "to_dense") else gradient)
        return float(loss), gradients


def autobatch_programs(parameters: dict[str, np.ndarray]) -> list[AutobatchProgram]:
    """The library with cells, without, and its one-by-one loop (with cells)."""
    return [
        AutobatchProgram("autobatch, cells", CellTreeLSTM(parameters)),
        AutobatchProgram("autobatch, no cells", TreeLSTM(parameters)),
        AutobatchProgram("autobatch, loop", CellTreeLSTM(parameters), batched=False),
    ]
