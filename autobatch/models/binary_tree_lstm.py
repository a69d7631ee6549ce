"""A classifier of every node of a binary tree with words at its leaves, such as a sentence with sentiment labels.

Tai, Socher & Manning, "Improved semantic representations from tree-structured long short-term memory networks", ACL
2015: a binary Tree-LSTM, trained on the labels of all nodes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn

from ..data import Tree

__all__ = ["BinaryTreeClassifier"]

State = tuple[Any, Any]


class BinaryTreeClassifier(nn.Module):
    """Gives every node of a binary tree the logits of its classes.

    Arguments:
        n_words: words are numbers below this.
        n_classes: labels are numbers below this.
        dim: width of a word's vector and of a node's state.
        dropout: probability with which an element of a word's vector is dropped in training.

    >>> from autobatch.data import Tree
    >>> model = BinaryTreeClassifier(n_words=10, n_classes=5, dim=4)
    >>> tree = Tree(3, children=[Tree(2, 7), Tree(4, 1)])
    >>> model(tree).shape, model.loss(tree).shape
    ((3, 5), ())
    """

    def __init__(self, n_words: int, n_classes: int, dim: int = 64, dropout: float = 0.5) -> None:
        self.embed = nn.Embedding(n_words, dim)
        self.embed.weight.value = 0.1 * self.embed.weight.value  # gates begin in their linear range
        self.dropout = nn.Dropout(dropout)
        self.leaf = nn.TreeLSTMLeaf(dim, dim)
        self.node = nn.BinaryTreeLSTMCell(dim)
        self.out = nn.Linear(dim, n_classes)

    @ab.cell
    def word(self, word: Any) -> State:
        """The state (h, c) of a leaf."""
        return self.leaf(self.dropout(self.embed[word]))

    def encode(self, tree: Tree) -> list[Any]:
        """The h of every node in post-order, the root's last; as deep a tree as memory allows.

        Raises ValueError for a node that has children, but not two.
        """
        hidden = []

        def visit(node: Tree, children: list[State]) -> State:
            state = self.node(*children) if children else self.word(node.word)
            hidden.append(state[0])
            return state

        tree.fold(visit)
        return hidden

    def forward(self, tree: Tree) -> Any:
        """Logits of every node in post-order: f[nodes, n_classes]."""
        return self.out(ab.stack(self.encode(tree)))

    def loss(self, tree: Tree) -> Any:
        """Cross-entropy of the labels, summed over all nodes; a scalar."""
        return self.scored(tree)[0]

    def scored(self, tree: Tree) -> tuple[Any, Any]:
        """The loss and the logits it comes from."""
        logits = self(tree)
        right = np.eye(self.out.out_features, dtype=np.float32)[self.labels(tree)]
        return -ab.sum(ab.sum(ab.log_softmax(logits) * right, axis=0)), logits

    def labels(self, tree: Tree) -> list[int]:
        """What the logits are scored against: the labels of the nodes in post-order."""
        return [node.label for node in tree]
