"""The Tree-LSTM of the benchmark as a user of autobatch writes it: for one tree, with cells and without."""

from __future__ import annotations

import numpy as np

import autobatch as ab
from autobatch import nn
from benchmarks.autobatch_trainer import assign
from benchmarks.treelstm.data import EMBEDDING, N_CLASSES, N_WORDS, Tree
from benchmarks.workload import Parameters

State = tuple[ab.Tensor, ab.Tensor]


class TreeLSTM(nn.Module):
    """Without cells: every op is a node of its own."""

    def __init__(self, parameters: Parameters) -> None:
        dim = parameters["out_w"].shape[1]
        self.embed = nn.Embedding(N_WORDS, EMBEDDING)
        self.leaf = nn.Linear(EMBEDDING, 3 * dim)
        self.node = nn.Linear(2 * dim, 3 * dim)
        self.forget_left = nn.Linear(dim, dim)
        self.forget_right = nn.Linear(dim, dim)
        self.forget_right.bias = self.forget_left.bias
        self.out = nn.Linear(dim, N_CLASSES)
        assign(self, parameters)

    def named(self) -> dict[str, ab.Parameter]:
        """Parameters under the names of the workload."""
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


_ACTIVATIONS = (ab.relu, ab.softplus, ab.sigmoid)


class Variant(nn.Module):
    """A model drawn from a seed: gates in another order, another activation, an elementwise term more, other names.

    It is as much arithmetic as the Tree-LSTM, and nothing that a compiler could know it by.
    """

    def __init__(self, parameters: Parameters, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.order = tuple(rng.permutation(3).tolist())
        self.activation = int(rng.integers(len(_ACTIVATIONS)))
        self.weight = float(rng.uniform(0.05, 0.2))
        width = parameters["out_w"].shape[1]
        self.lookup = nn.Embedding(N_WORDS, EMBEDDING)
        self.token_map = nn.Linear(EMBEDDING, 3 * width)
        self.pair_map = nn.Linear(2 * width, 3 * width)
        self.first_map = nn.Linear(width, width)
        self.second_map = nn.Linear(width, width)
        self.second_map.bias = self.first_map.bias
        self.judge = nn.Linear(width, N_CLASSES)
        assign(self, parameters)

    def named(self) -> dict[str, ab.Parameter]:
        """Parameters under the names of the workload."""
        return {
            "table": self.lookup.weight,
            "leaf_w": self.token_map.weight,
            "leaf_b": self.token_map.bias,
            "node_w": self.pair_map.weight,
            "node_b": self.pair_map.bias,
            "forget_l": self.first_map.weight,
            "forget_r": self.second_map.weight,
            "forget_b": self.first_map.bias,
            "out_w": self.judge.weight,
            "out_b": self.judge.bias,
        }

    @ab.cell
    def token(self, number: int) -> State:
        return self._close(ab.split(self.token_map(self.lookup[number]), 3), [])

    @ab.cell
    def pair(self, first: State, second: State) -> State:
        (a, memory_a), (b, memory_b) = first, second
        kept = [ab.sigmoid(self.first_map(a)) * memory_a, ab.sigmoid(self.second_map(b)) * memory_b]
        return self._close(ab.split(self.pair_map(ab.concat([a, b])), 3), kept)

    def _close(self, parts: list[ab.Tensor], kept: list[ab.Tensor]) -> State:
        admit, show, content = (parts[k] for k in self.order)
        admit, show = ab.sigmoid(admit), ab.sigmoid(show)
        memory = admit * _ACTIVATIONS[self.activation](content) + self.weight * admit * show
        for term in kept:
            memory = memory + term
        return show * ab.tanh(memory), memory

    def walk(self, tree: Tree) -> State:
        if tree.is_leaf:
            return self.token(tree.word)
        return self.pair(self.walk(tree.left), self.walk(tree.right))

    def loss(self, tree: Tree) -> ab.Tensor:
        state, _ = self.walk(tree)
        return ab.cross_entropy(self.judge(state), tree.label)
