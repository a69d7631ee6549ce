"""The child-sum Tree-LSTM as a user of autobatch writes it: for one tree, with cells and without; and a variant."""

from __future__ import annotations

import numpy as np

import autobatch as ab
from autobatch import nn
from autobatch.data import Tree
from benchmarks.autobatch_trainer import assign
from benchmarks.workload import Parameters

State = tuple[ab.Tensor, ab.Tensor]


class ChildSumTreeLSTM(nn.Module):
    """Without cells: every op is a node of its own."""

    def __init__(self, parameters: Parameters) -> None:
        (n_words, embedding), (n_classes, dim) = parameters["table"].shape, parameters["out_w"].shape
        self.embed = nn.Embedding(n_words, embedding)
        self.word = nn.Linear(embedding, 3 * dim)
        self.keep = nn.Linear(embedding, dim)
        self.children = nn.Linear(dim, 3 * dim, bias=False)
        self.child = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, n_classes)
        assign(self, parameters)

    def named(self) -> dict[str, ab.Parameter]:
        """Parameters under the names of the workload."""
        return {
            "table": self.embed.weight,
            "word_w": self.word.weight,
            "word_b": self.word.bias,
            "children_w": self.children.weight,
            "keep_w": self.keep.weight,
            "keep_b": self.keep.bias,
            "child_w": self.child.weight,
            "out_w": self.out.weight,
            "out_b": self.out.bias,
        }

    def leaf(self, word: int) -> State:
        i, o, u = ab.split(self.word(self.embed[word]), 3)
        c = ab.sigmoid(i) * ab.tanh(u)
        return ab.sigmoid(o) * ab.tanh(c), c

    def node(self, word: int, children: list[State]) -> State:
        e = self.embed[word]
        i, o, u = ab.split(self.word(e) + self.children(ab.sum([h for h, _ in children])), 3)
        f = self.keep(e)
        kept = ab.sum([ab.sigmoid(f + self.child(h)) * c for h, c in children])
        c = ab.sigmoid(i) * ab.tanh(u) + kept
        return ab.sigmoid(o) * ab.tanh(c), c

    def encode(self, tree: Tree) -> State:
        if tree.is_leaf:
            return self.leaf(tree.word)
        return self.node(tree.word, [self.encode(child) for child in tree.children])

    def loss(self, tree: Tree) -> ab.Tensor:
        h, _ = self.encode(tree)
        return ab.cross_entropy(self.out(h), tree.label)


class CellChildSumTreeLSTM(ChildSumTreeLSTM):
    """With cells: a call of `leaf` or `node` is one node."""

    leaf = ab.cell(ChildSumTreeLSTM.leaf)
    node = ab.cell(ChildSumTreeLSTM.node)


_ACTIVATIONS = (ab.relu, ab.softplus, ab.sigmoid)


class Variant(nn.Module):
    """A model drawn from a seed: gates in another order, another activation, an elementwise term more, other names.

    It is as much arithmetic as the child-sum Tree-LSTM, and nothing that a compiler could know it by.
    """

    def __init__(self, parameters: Parameters, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.order = tuple(rng.permutation(3).tolist())
        self.activation = int(rng.integers(len(_ACTIVATIONS)))
        self.weight = float(rng.uniform(0.05, 0.2))
        (n_words, embedding), (n_classes, width) = parameters["table"].shape, parameters["out_w"].shape
        self.lookup = nn.Embedding(n_words, embedding)
        self.token_map = nn.Linear(embedding, 3 * width)
        self.below_map = nn.Linear(width, 3 * width, bias=False)
        self.token_filter = nn.Linear(embedding, width)
        self.part_filter = nn.Linear(width, width, bias=False)
        self.judge = nn.Linear(width, n_classes)
        assign(self, parameters)

    def named(self) -> dict[str, ab.Parameter]:
        """Parameters under the names of the workload."""
        return {
            "table": self.lookup.weight,
            "word_w": self.token_map.weight,
            "word_b": self.token_map.bias,
            "children_w": self.below_map.weight,
            "keep_w": self.token_filter.weight,
            "keep_b": self.token_filter.bias,
            "child_w": self.part_filter.weight,
            "out_w": self.judge.weight,
            "out_b": self.judge.bias,
        }

    @ab.cell
    def end(self, number: int) -> State:
        admit, show, content = self._gates(self.token_map(self.lookup[number]))
        memory = admit * content + self.weight * admit * show
        return show * ab.tanh(memory), memory

    @ab.cell
    def whole(self, number: int, parts: list[State]) -> State:
        token = self.lookup[number]
        admit, show, content = self._gates(self.token_map(token) + self.below_map(ab.sum([part for part, _ in parts])))
        held = self.token_filter(token)
        kept = ab.sum([ab.sigmoid(held + self.part_filter(part)) * memory for part, memory in parts])
        memory = kept + admit * content + self.weight * admit * show
        return show * ab.tanh(memory), memory

    def _gates(self, gates: ab.Tensor) -> tuple[ab.Tensor, ab.Tensor, ab.Tensor]:
        parts = ab.split(gates, 3)
        admit, show, content = (parts[k] for k in self.order)
        return ab.sigmoid(admit), ab.sigmoid(show), _ACTIVATIONS[self.activation](content)

    def walk(self, tree: Tree) -> State:
        if tree.is_leaf:
            return self.end(tree.word)
        return self.whole(tree.word, [self.walk(child) for child in tree.children])

    def loss(self, tree: Tree) -> ab.Tensor:
        state, _ = self.walk(tree)
        return ab.cross_entropy(self.judge(state), tree.label)
