"""Nodes of tree-structured LSTMs (Tai, Socher & Manning, "Improved semantic representations from tree-structured long
short-term memory networks", ACL 2015).

A node takes the states (h, c) of its children and gives its own. g is the paper's u; gates stand in the order that
PyTorch's LSTM has: i, f, g, o. Weights are drawn from U(−1/√H, 1/√H), H being the hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence

import autobatch as ab

from . import init
from .module import Module
from .recurrent_cells import check_state

State = tuple[ab.Tensor, ab.Tensor]


class TreeLSTMLeaf(Module):
    """A leaf of a binary Tree-LSTM (Tai, Socher & Manning 2015): eq. 9 to 14 with an input and no children.

        i, g, o = split(W x + b, 3)
        c = σ(i) tanh(g)
        h = σ(o) tanh(c)

    Arguments:
        input_size: width I of x.
        hidden_size: width H of h and c.

    Parameters: `weight_ih: f[3H, I]` and `bias_ih: f[3H]`, in order i, g, o.

    >>> h, c = nn.TreeLSTMLeaf(3, 5)(ab.ones(3))
    >>> h.shape, c.shape
    ((5,), (5,))
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.weight_ih = init.uniform_by_width((3 * hidden_size, input_size), hidden_size)
        self.bias_ih = init.uniform_by_width((3 * hidden_size,), hidden_size)

    @ab.cell
    def forward(self, x: ab.Tensor) -> State:
        """x: f[I] → (h, c), both f[H]."""
        i, g, o = ab.split(x @ self.weight_ih.T + self.bias_ih, 3, axis=-1)
        c = ab.sigmoid(i) * ab.tanh(g)
        return ab.sigmoid(o) * ab.tanh(c), c

    def extra_repr(self) -> str:
        return f"input_size={self.input_size}, hidden_size={self.hidden_size}"


class BinaryTreeLSTMCell(Module):
    """An inner node of a binary Tree-LSTM (Tai, Socher & Manning 2015): eq. 9 to 14 with two children and no input.

        i, f₁, f₂, g, o = split(U [h₁; h₂] + b, 5)
        c = σ(f₁) c₁ + σ(f₂) c₂ + σ(i) tanh(g)
        h = σ(o) tanh(c)

    Each forget gate sees both children and has a bias of its own; in the paper the two share it.

    Arguments:
        hidden_size: width H of h and c.

    Parameters: `weight_hh: f[5H, 2H]` and `bias_hh: f[5H]`, in order i, f₁, f₂, g, o.

    >>> leaf, node = nn.TreeLSTMLeaf(3, 5), nn.BinaryTreeLSTMCell(5)
    >>> left, right = leaf(ab.ones(3)), leaf(ab.zeros(3))
    >>> h, c = node(node(left, right), right)
    >>> h.shape, c.shape
    ((5,), (5,))
    """

    def __init__(self, hidden_size: int) -> None:
        self.hidden_size = hidden_size
        self.weight_hh = init.uniform_by_width((5 * hidden_size, 2 * hidden_size), hidden_size)
        self.bias_hh = init.uniform_by_width((5 * hidden_size,), hidden_size)

    @ab.cell
    def forward(self, left: State, right: State) -> State:
        """left, right: (h, c) of the two children, all f[H] → (h, c), both f[H]."""
        for state in (left, right):
            check_state("BinaryTreeLSTMCell", state)
        (h1, c1), (h2, c2) = left, right
        i, f1, f2, g, o = ab.split(ab.concat([h1, h2], axis=-1) @ self.weight_hh.T + self.bias_hh, 5, axis=-1)
        c = ab.sigmoid(f1) * c1 + ab.sigmoid(f2) * c2 + ab.sigmoid(i) * ab.tanh(g)
        return ab.sigmoid(o) * ab.tanh(c), c

    def extra_repr(self) -> str:
        return f"hidden_size={self.hidden_size}"


class ChildSumTreeLSTMCell(Module):
    """A node of a child-sum Tree-LSTM (Tai, Socher & Manning 2015): eq. 2 to 8, with any number of children.

        i, f, g, o = split(W x + b, 4)
        uᵢ, u_g, uₒ = split(U Σ h_k, 3)
        c = σ(i + uᵢ) tanh(g + u_g) + Σ σ(f + V h_k) c_k
        h = σ(o + uₒ) tanh(c)

    Arguments:
        input_size: width I of x.
        hidden_size: width H of h and c.

    Parameters: `weight_ih: f[4H, I]` and `bias_ih: f[4H]`, W and b, in order i, f, g, o; `weight_hh: f[3H, H]`, U, in
    order i, g, o; `weight_fh: f[H, H]`, V, from each child to its own forget gate.

    >>> node = nn.ChildSumTreeLSTMCell(3, 5)
    >>> leaves = [node(ab.ones(3), []) for _ in range(4)]
    >>> h, c = node(ab.zeros(3), leaves)
    >>> h.shape, c.shape
    ((5,), (5,))
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.weight_ih = init.uniform_by_width((4 * hidden_size, input_size), hidden_size)
        self.weight_hh = init.uniform_by_width((3 * hidden_size, hidden_size), hidden_size)
        self.weight_fh = init.uniform_by_width((hidden_size, hidden_size), hidden_size)
        self.bias_ih = init.uniform_by_width((4 * hidden_size,), hidden_size)

    @ab.cell
    def forward(self, x: ab.Tensor, children: Sequence[State]) -> State:
        """x: f[I], children: a list of (h, c), all f[H] → (h, c), both f[H].

        Two kernels serve all trees: one for nodes with children, however many, and one for nodes without.
        """
        i, f, g, o = ab.split(x @ self.weight_ih.T + self.bias_ih, 4, axis=-1)
        if not children:
            c = ab.sigmoid(i) * ab.tanh(g)
            return ab.sigmoid(o) * ab.tanh(c), c
        for child in children:
            check_state("ChildSumTreeLSTMCell", child)
        ui, ug, uo = ab.split(ab.sum([h for h, _ in children]) @ self.weight_hh.T, 3, axis=-1)
        kept = ab.sum([ab.sigmoid(f + h @ self.weight_fh.T) * c for h, c in children])
        c = ab.sigmoid(i + ui) * ab.tanh(g + ug) + kept
        return ab.sigmoid(o + uo) * ab.tanh(c), c

    def extra_repr(self) -> str:
        return f"input_size={self.input_size}, hidden_size={self.hidden_size}"
