"""A classifier of every node of a binary tree with words at its leaves, such as a sentence with sentiment labels.

Tai, Socher & Manning, "Improved semantic representations from tree-structured long short-term memory networks", ACL
2015: a binary Tree-LSTM, trained on the labels of all nodes. While training, each tree has one dropout mask for the
vectors of all its words (Gal & Ghahramani, "A theoretically grounded application of dropout in recurrent neural
networks", NeurIPS 2016).
"""

from __future__ import annotations

import autobatch as ab
from autobatch import nn

from ..data import Tree

__all__ = ["BinaryTreeClassifier"]

State = tuple[ab.Tensor, ab.Tensor]
Scored = tuple[ab.Tensor, ab.Tensor, ab.Tensor, ab.Tensor]


class BinaryTreeClassifier(nn.Module):
    """Gives every node of a binary tree the logits of its classes.

    Arguments:
        n_words: words are numbers below this. Word 0, the rare token of a `Vocabulary`, begins as zeros: where it does
            not occur in training, an unknown word says nothing.
        n_classes: labels are numbers below this.
        dim: width of a word's vector and of a node's state.
        dropout: probability with which an element of the words' vectors is dropped in training.

    >>> from autobatch.data import Tree
    >>> model = BinaryTreeClassifier(n_words=10, n_classes=5, dim=4)
    >>> tree = Tree(3, children=[Tree(2, 7), Tree(4, 1)])
    >>> model(tree).shape, model.loss(tree).shape
    ((3, 5), ())
    """

    def __init__(self, n_words: int, n_classes: int, dim: int = 64, dropout: float = 0.3) -> None:
        self.dim = dim
        self.embed = nn.Embedding(n_words, dim)
        vectors = 0.1 * self.embed.weight.value  # gates begin in their linear range
        vectors[0] = 0
        self.embed.weight.value = vectors
        self.dropout = nn.Dropout(dropout)
        self.leaf = nn.TreeLSTMLeaf(dim, dim)
        self.node = nn.BinaryTreeLSTMCell(dim)
        self.out = nn.Linear(dim, n_classes)

    @ab.cell
    def word(self, word: int, mask: ab.Tensor | None, label: int) -> Scored:
        """A leaf: its h and c, the loss of its label, the logits of its classes. mask: f[dim], or None for all ones."""
        x = self.embed[word]
        return self.judge(self.leaf(x if mask is None else x * mask), label)

    @ab.cell
    def phrase(self, left: State, right: State, label: int) -> Scored:
        """A node above two others: its h and c, the loss of its label, the logits of its classes."""
        return self.judge(self.node(left, right), label)

    def judge(self, state: State, label: int) -> Scored:
        """Put the loss of a label and the logits beside a state; part of the two cells, which saves calls."""
        h, c = state
        logits = self.out(h)
        return h, c, ab.cross_entropy(logits, label), logits

    def scored(self, tree: Tree) -> State:
        """The loss, summed over all nodes, and the logits f[nodes, n_classes] in post-order, the root's last.

        As deep a tree as memory allows. Raises ValueError for a node that has children, but not two.
        """
        mask = self.dropout(ab.ones(self.dim)) if self.training else None
        losses, rows = [], []

        def visit(node: Tree, children: list[State]) -> State:
            if children:
                left, right = children
                h, c, loss, logits = self.phrase(left, right, node.label)
            else:
                h, c, loss, logits = self.word(node.word, mask, node.label)
            losses.append(loss)
            rows.append(logits)
            return h, c

        tree.fold(visit)
        return ab.sum(losses), ab.stack(rows)

    def forward(self, tree: Tree) -> ab.Tensor:
        """Logits of every node in post-order: f[nodes, n_classes]."""
        return self.scored(tree)[1]

    def loss(self, tree: Tree) -> ab.Tensor:
        """Cross-entropy of the labels, summed over all nodes; a scalar."""
        return self.scored(tree)[0]
