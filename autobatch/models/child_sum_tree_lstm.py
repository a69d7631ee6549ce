"""A classifier of trees whose nodes have words and any number of children: a child-sum Tree-LSTM over the whole tree.

Tai, Socher & Manning, "Improved semantic representations from tree-structured long short-term memory networks", ACL
2015. The class is read from the largest value of each state element over all nodes, not from the root alone, so that
what a node deep in the tree says need not pass through all nodes above it. While training, each tree has one dropout
mask for the vectors of all its words (Gal & Ghahramani, "A theoretically grounded application of dropout in recurrent
neural networks", NeurIPS 2016).
"""

from __future__ import annotations

import autobatch as ab
from autobatch import nn

from ..data import Tree

__all__ = ["ChildSumTreeClassifier"]

State = tuple[ab.Tensor, ab.Tensor]


class ChildSumTreeClassifier(nn.Module):
    """Gives a tree the logits of its classes.

    Arguments:
        n_words: words are numbers below this.
        n_classes: number of classes.
        embedding_size: width of a word's vector.
        hidden_size: width of a node's state.
        dropout: probability with which an element of the words' vectors is dropped in training.

    >>> from autobatch.data import Tree
    >>> model = ChildSumTreeClassifier(n_words=10, n_classes=3, embedding_size=4, hidden_size=5)
    >>> tree = Tree(2, word=7, children=[Tree(word=1), Tree(word=1), Tree(word=4, children=[Tree(word=9)])])
    >>> model(tree).shape, model.loss(tree).shape
    ((3,), ())
    """

    def __init__(
        self, n_words: int, n_classes: int, embedding_size: int = 256, hidden_size: int = 64, dropout: float = 0.3
    ) -> None:
        self.embed = nn.Embedding(n_words, embedding_size)
        self.embed.weight.value = 0.3 * self.embed.weight.value  # gates begin in their linear range
        self.embedding_size = embedding_size
        self.dropout = nn.Dropout(dropout)
        self.node = nn.ChildSumTreeLSTMCell(embedding_size, hidden_size)
        self.out = nn.Linear(hidden_size, n_classes)

    @ab.cell
    def compose(self, word: int, mask: ab.Tensor | None, children: list[State]) -> State:
        """The state (h, c) of a node from its word and the states of its children.

        mask: what the word's vector is multiplied by, f[embedding_size]; None for all ones.
        """
        x = self.embed[word]
        return self.node(x if mask is None else x * mask, children)

    @ab.cell
    def classify(self, hidden: list[ab.Tensor]) -> ab.Tensor:
        """hidden: the h of every node, each f[hidden_size] → logits f[n_classes]."""
        return self.out(ab.max(hidden))

    def encode(self, tree: Tree) -> list[ab.Tensor]:
        """The h of every node in post-order, the root's last; as deep a tree as memory allows."""
        mask = self.dropout(ab.ones(self.embedding_size)) if self.training else None
        hidden = []

        def visit(node: Tree, children: list[State]) -> State:
            state = self.compose(node.word, mask, children)
            hidden.append(state[0])
            return state

        tree.fold(visit)
        return hidden

    def forward(self, tree: Tree) -> ab.Tensor:
        """Logits of the tree's classes: f[n_classes]."""
        return self.classify(self.encode(tree))

    def loss(self, tree: Tree) -> ab.Tensor:
        """Cross-entropy of the root's label; a scalar."""
        return ab.cross_entropy(self(tree), tree.label)

    def scored(self, tree: Tree) -> State:
        """The loss and the logits it comes from."""
        logits = self(tree)
        return ab.cross_entropy(logits, tree.label), logits
