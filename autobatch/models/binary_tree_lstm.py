"""A classifier of every node of a binary tree with words at its leaves, such as a sentence with sentiment labels.

Tai, Socher & Manning, "Improved semantic representations from tree-structured long short-term memory networks", ACL
2015: a binary Tree-LSTM, trained on the labels of all nodes.
"""

from __future__ import annotations

from typing import Any

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
        self.dim = dim
        self.dropout = nn.Dropout(dropout)
        self.leaf = nn.TreeLSTMLeaf(dim, dim)
        self.node = nn.BinaryTreeLSTMCell(dim)
        self.out = nn.Linear(dim, n_classes)

    @ab.cell
    def word(self, word: Any, kept: Any, label: Any) -> tuple[Any, Any, Any, Any]:
        x = self.embed[word]
        return self.judged(self.leaf(x if kept is None else x * kept), label)

    @ab.cell
    def compose(self, left: State, right: State, label: Any) -> tuple[Any, Any, Any, Any]:
        return self.judged(self.node(left, right), label)

    def judged(self, state: State, label: Any) -> tuple[Any, Any, Any, Any]:
        logits = self.out(state[0])
        return *state, ab.cross_entropy(logits, label), logits

    def scored(self, tree: Tree) -> tuple[Any, Any]:
        kept = self.dropout(ab.ones(self.dim)) if self.training else None
        losses, rows = [], []

        def visit(node: Tree, children: list[State]) -> State:
            if children:
                left, right = children
                h, c, loss, logits = self.compose(left, right, node.label)
            else:
                h, c, loss, logits = self.word(node.word, kept, node.label)
            losses.append(loss)
            rows.append(logits)
            return h, c

        tree.fold(visit)
        return ab.sum(losses), ab.stack(rows)

    def labels(self, tree: Tree) -> list[int]:
        """What the logits are scored against: the labels of the nodes in post-order."""
        return [node.label for node in tree]
