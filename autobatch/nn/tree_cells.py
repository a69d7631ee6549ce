"""Nodes of trees: Tree-LSTMs with a place for each child, Tree-GRUs, and networks whose nodes are matrices or
tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import autobatch as ab

from ..base.errors import op_error
from . import init
from .module import Module
from .recurrent_cells import check_state

State = tuple[ab.Tensor, ab.Tensor]


class NaryTreeLSTMCell(Module):
    """A node of an N-ary Tree-LSTM, with an input and a place for each of N children (Tai, Socher & Manning, "Improved
    semantic representations from tree-structured long short-term memory networks", 2015, eq. 9 to 14).

        i, f, g, o = split(W x + b, 4)
        uᵢ, u_g, uₒ, u₁, …, u_N = split(U [h₁; …; h_N], 3 + N)
        c = σ(i + uᵢ) tanh(g + u_g) + Σ σ(f + u_k) c_k
        h = σ(o + uₒ) tanh(c)

    Arguments:
        input_size: width I of x.
        hidden_size: width H of h and c.
        n_children: N.

    Parameters: `weight_ih: f[4H, I]` and `bias_ih: f[4H]`, in order i, f, g, o; `weight_hh: f[(3 + N)H, N H]`, in order
    i, g, o and the forget gates; drawn from U(−1/√H, 1/√H).

    >>> node = nn.NaryTreeLSTMCell(3, 5, n_children=2)
    >>> leaf = node(ab.ones(3), [None, None])
    >>> h, c = node(ab.zeros(3), [leaf, None])
    >>> h.shape, c.shape
    ((5,), (5,))
    """

    def __init__(self, input_size: int, hidden_size: int, n_children: int) -> None:
        self.hidden_size = hidden_size
        self.n_children = n_children
        self.weight_ih = init.uniform_by_width((4 * hidden_size, input_size), hidden_size)
        self.weight_hh = init.uniform_by_width(((3 + n_children) * hidden_size, n_children * hidden_size), hidden_size)
        self.bias_ih = init.uniform_by_width((4 * hidden_size,), hidden_size)

    def forward(self, x: ab.Tensor, children: Sequence[State | None]) -> State:
        """x: f[I], children: N states (h, c), both f[H], or None where there is no child → (h, c).

        Raises OpTypeError for another number of children, and for a state that is no pair.
        """
        if len(children) != self.n_children:
            what = "it has a place for each child"
            raise op_error("NaryTreeLSTMCell", what, expected=f"{self.n_children}, or None", got=str(len(children)))
        held = [child for child in children if child is not None]
        for child in held:
            check_state("NaryTreeLSTMCell", child)
        return self._node(x, tuple(children)) if held else self._leaf(x)

    @ab.cell
    def _leaf(self, x: ab.Tensor) -> State:
        i, _, g, o = ab.split(x @ self.weight_ih.T + self.bias_ih, 4, axis=-1)
        c = ab.sigmoid(i) * ab.tanh(g)
        return ab.sigmoid(o) * ab.tanh(c), c

    @ab.cell
    def _node(self, x: ab.Tensor, children: tuple[State | None, ...]) -> State:
        i, f, g, o = ab.split(x @ self.weight_ih.T + self.bias_ih, 4, axis=-1)
        nothing = ab.zeros(self.hidden_size, dtype=x.dtype)
        h = ab.concat([nothing if child is None else child[0] for child in children])
        ui, ug, uo, *gates = ab.split(h @ self.weight_hh.T, 3 + self.n_children, axis=-1)
        c = ab.sigmoid(i + ui) * ab.tanh(g + ug)
        for child, u in zip(children, gates, strict=True):
            if child is not None:
                c = c + ab.sigmoid(f + u) * child[1]
        return ab.sigmoid(o + uo) * ab.tanh(c), c

    def extra_repr(self) -> str:
        sizes = f"input_size={self.weight_ih.shape[1]}, hidden_size={self.hidden_size}"
        return f"{sizes}, n_children={self.n_children}"


class ChildSumTreeGRUCell(Module):
    """A node of a child-sum Tree-GRU, with any number of children in any order (Zhou, Liu & Pan, "Modelling sentence
    pairs with tree-structured attentive encoder", 2016, eq. 1 to 4).

        r, z, n = split(W x + b, 3)
        z = σ(z + U_z Σ h_k)
        n = tanh(n + U_n Σ σ(r + U_r h_k) h_k)
        h = (1 − z) n + z Σ h_k

    Arguments:
        input_size: width I of x.
        hidden_size: width H of h.

    Parameters: `weight_ih: f[3H, I]` and `bias_ih: f[3H]`, `weight_hh: f[3H, H]`, in order r, z, n, drawn from U(−1/√H,
    1/√H).

    >>> node = nn.ChildSumTreeGRUCell(3, 5)
    >>> node(ab.zeros(3), [node(ab.ones(3), []) for _ in range(4)]).shape
    (5,)
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.weight_ih = init.uniform_by_width((3 * hidden_size, input_size), hidden_size)
        self.weight_hh = init.uniform_by_width((3 * hidden_size, hidden_size), hidden_size)
        self.bias_ih = init.uniform_by_width((3 * hidden_size,), hidden_size)

    @ab.cell
    def forward(self, x: ab.Tensor, children: Sequence[ab.Tensor]) -> ab.Tensor:
        """x: f[I], children: a list of f[H] → f[H]."""
        r, z, n = ab.split(x @ self.weight_ih.T + self.bias_ih, 3, axis=-1)
        if not children:
            return (1.0 - ab.sigmoid(z)) * ab.tanh(n)
        u_r, u_z, u_n = ab.split(self.weight_hh, 3)
        total = ab.sum(list(children))
        kept = ab.sum([ab.sigmoid(r + h @ u_r.T) * h for h in children])
        z = ab.sigmoid(z + total @ u_z.T)
        return (1.0 - z) * ab.tanh(n + kept @ u_n.T) + z * total


class NaryTreeGRUCell(Module):
    """A node of an N-ary Tree-GRU, with a place for each of N children (Kokkinos & Potamianos, "Structural attention
    neural networks for improved sentiment analysis", 2017, eq. 6 to 9).

        r, z, n = split(W x + b, 3)
        u_r, u_z = split(U [h₁; …; h_N], 2)
        r, z = σ(r + u_r), σ(z + u_z)
        h = (1 − z) tanh(n + V [r h₁; …; r h_N]) + z Σ h_k

    Arguments:
        input_size: width I of x.
        hidden_size: width H of h.
        n_children: N.

    Parameters: `weight_ih: f[3H, I]` and `bias_ih: f[3H]`, in order r, z, n; `weight_hh: f[2H, N H]`, U, in order r, z;
    `weight_nh: f[H, N H]`, V; drawn from U(−1/√H, 1/√H).

    >>> node = nn.NaryTreeGRUCell(3, 5, n_children=2)
    >>> node(ab.zeros(3), [node(ab.ones(3), [None, None]), None]).shape
    (5,)
    """

    def __init__(self, input_size: int, hidden_size: int, n_children: int) -> None:
        self.hidden_size = hidden_size
        self.n_children = n_children
        self.weight_ih = init.uniform_by_width((3 * hidden_size, input_size), hidden_size)
        self.weight_hh = init.uniform_by_width((2 * hidden_size, n_children * hidden_size), hidden_size)
        self.weight_nh = init.uniform_by_width((hidden_size, n_children * hidden_size), hidden_size)
        self.bias_ih = init.uniform_by_width((3 * hidden_size,), hidden_size)

    def forward(self, x: ab.Tensor, children: Sequence[ab.Tensor | None]) -> ab.Tensor:
        """x: f[I], children: N states f[H], or None where there is no child → f[H].

        Raises OpTypeError for another number of children.
        """
        if len(children) != self.n_children:
            what = "it has a place for each child"
            raise op_error("NaryTreeGRUCell", what, expected=f"{self.n_children}, or None", got=str(len(children)))
        return self._node(x, tuple(children))

    @ab.cell
    def _node(self, x: ab.Tensor, children: tuple[ab.Tensor | None, ...]) -> ab.Tensor:
        r, z, n = ab.split(x @ self.weight_ih.T + self.bias_ih, 3, axis=-1)
        held = [h for h in children if h is not None]
        if not held:
            return (1.0 - ab.sigmoid(z)) * ab.tanh(n)
        nothing = ab.zeros(self.hidden_size, dtype=x.dtype)
        all_h = ab.concat([nothing if h is None else h for h in children])
        ur, uz = ab.split(all_h @ self.weight_hh.T, 2, axis=-1)
        r, z = ab.sigmoid(r + ur), ab.sigmoid(z + uz)
        gated = ab.concat([nothing if h is None else r * h for h in children])
        return (1.0 - z) * ab.tanh(n + gated @ self.weight_nh.T) + z * ab.sum(held)


class MVRNNCell(Module):
    """A node of a matrix-vector recursive network (Socher et al., "Semantic compositionality through recursive
    matrix-vector spaces", 2012, eq. 2 and 3).

        p = tanh(W [B a; A b] + bias)
        P = W_M [A; B]

    Arguments:
        dim: width d of vectors; matrices are d × d.

    Parameters: `weight: f[d, 2d]` and `bias: f[d]`, drawn from U(−1/√(2d), 1/√(2d)); `weight_m: f[d, 2d]`, half the sum
    of both matrices at first.

    >>> node = nn.MVRNNCell(3)
    >>> p, P = node((ab.ones(3), ab.ones((3, 3))), (ab.zeros(3), ab.ones((3, 3))))
    >>> p.shape, P.shape
    ((3,), (3, 3))
    """

    def __init__(self, dim: int) -> None:
        self.weight = init.uniform_by_width((dim, 2 * dim), 2 * dim)
        self.bias = init.uniform_by_width((dim,), 2 * dim)
        self.weight_m = ab.Parameter(np.tile(np.eye(dim) / 2, 2))

    @ab.cell
    def forward(self, left: State, right: State) -> State:
        """left, right: (a, A), f[d] and f[d, d] → (p, P), of the same shapes."""
        (a, A), (b, B) = left, right
        p = ab.tanh(self.weight @ ab.concat([B @ a, A @ b]) + self.bias)
        return p, self.weight_m @ ab.concat([A, B], axis=0)


class RNTNCell(Module):
    """A node of a recursive neural tensor network (Socher et al., "Recursive deep models for semantic compositionality
    over a sentiment treebank", 2013, section 4.3): p_k = tanh([a; b] V_k [a; b] + W_k [a; b] + bias_k).

    Arguments:
        dim: width d of vectors.

    Parameters: `tensor: f[d, 2d, 2d]`, V, drawn from U(−1/(4d), 1/(4d)); `weight: f[d, 2d]` and `bias: f[d]`, drawn
    from U(−1/√(2d), 1/√(2d)).

    >>> nn.RNTNCell(3)(ab.ones(3), ab.zeros(3)).shape
    (3,)
    """

    def __init__(self, dim: int) -> None:
        self.tensor = init.uniform((dim, 2 * dim, 2 * dim), 1 / (4 * dim))
        self.weight = init.uniform_by_width((dim, 2 * dim), 2 * dim)
        self.bias = init.uniform_by_width((dim,), 2 * dim)

    @ab.cell
    def forward(self, a: ab.Tensor, b: ab.Tensor) -> ab.Tensor:
        """a, b: f[d] → f[d]."""
        both = ab.concat([a, b])
        d, width, _ = self.tensor.shape
        products = (self.tensor.reshape(d * width, width) @ both).reshape(d, width) @ both
        return ab.tanh(products + self.weight @ both + self.bias)
