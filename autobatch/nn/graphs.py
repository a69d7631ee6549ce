"""Layers over graphs of any size: nodes are rows, edges an integer array of sources and targets.

Messages of edges are summed by `segment_sum`, so that graphs of all sizes share a launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import autobatch as ab

from ..base.errors import op_error
from ..record.parameter import Buffer
from . import init
from .linear import Linear
from .module import Module
from .recurrent_cells import GRUCell

Edges = np.ndarray[Any, Any] | Sequence[Sequence[int]]
"""int[2, m]: sources, targets; as the `edge_index` of PyTorch Geometric."""


def _checked(layer: Module, x: ab.Tensor, edges: Edges, loops: bool = False) -> np.ndarray[Any, Any]:
    """The edges as int[2, m], with one from each node to itself behind them if `loops`."""
    found = np.asarray(edges)
    found = np.zeros((2, 0), np.int64) if found.size == 0 else found
    n = x.shape[0]
    fits = x.ndim == 2 and found.ndim == 2 and found.shape[0] == 2 and found.dtype.kind == "i"
    if not fits or not ((found >= 0) & (found < n)).all():
        expected = f"x: f[n, d], edges: int[2, m] of numbers below n = {n}"
        got = f"x of shape {x.shape}, {found.dtype} edges of shape {found.shape}"
        raise op_error(type(layer).__name__, "the graph does not fit", expected=expected, got=got)
    return np.concatenate([found, np.tile(np.arange(n), (2, 1))], axis=1) if loops else found


class GraphConv(Module):
    """A graph convolution: row i is W Σ_j x_j / √(d_i d_j) + b over the neighbours j of i and i itself, d being one
    more than the number of edges to a node (Kipf & Welling, "Semi-supervised classification with graph convolutional
    networks", 2017, eq. 2).

    Arguments:
        in_features: width of x.
        out_features: width of the result.
        bias: whether b is there.

    Parameters: `weight: f[out_features, in_features]`, drawn from Glorot and Bengio's uniform distribution, `bias:
    f[out_features]`, zeros at first. As `GCNConv` of PyTorch Geometric, whose weight is `lin.weight`.

    >>> layer = nn.GraphConv(3, 4)
    >>> layer(ab.ones((2, 3)), [[0, 1], [1, 0]]).shape  # an edge in both directions
    (2, 4)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.weight = init.xavier_uniform_(init.zeros((out_features, in_features)))
        self.bias = init.zeros((out_features,)) if bias else None

    def forward(self, x: ab.Tensor, edges: Edges) -> ab.Tensor:
        """x: f[n, in_features], edges: int[2, m] → f[n, out_features]."""
        sources, targets = _checked(self, x, edges, loops=True)
        scale = 1 / np.sqrt(np.bincount(targets, minlength=x.shape[0]))
        h = x @ self.weight.T
        messages = h[sources] * ab.tensor((scale[sources] * scale[targets])[:, None], h.dtype)
        y = ab.segment_sum(messages, targets, x.shape[0])
        return y if self.bias is None else y + self.bias


class GIN(Module):
    """A layer of a graph isomorphism network: MLP((1 + ε) x_i + Σ_j x_j) over the edges from j to i (Xu et al., "How
    powerful are graph neural networks?", 2019, eq. 4.1).

    Arguments:
        mlp: a module on rows.
        eps: ε at first; a parameter if `train_eps`, else a buffer.

    >>> layer = nn.GIN(nn.MLP([3, 8, 4]), train_eps=True)
    >>> layer(ab.ones((2, 3)), [[0], [1]]).shape
    (2, 4)
    """

    def __init__(self, mlp: Module, eps: float = 0.0, train_eps: bool = False) -> None:
        self.mlp = mlp
        self.eps = ab.Parameter(eps) if train_eps else Buffer(eps)

    def forward(self, x: ab.Tensor, edges: Edges) -> ab.Tensor:
        """x: f[n, d], edges: int[2, m] → what the module gives for f[n, d]."""
        sources, targets = _checked(self, x, edges)
        result: ab.Tensor = self.mlp(x * (1.0 + self.eps) + ab.segment_sum(x[sources], targets, x.shape[0]))
        return result


class GatedGraph(Module):
    """A gated graph network: steps of a GRU in each node, whose input is the sum of its neighbours' states times a
    weight (Li et al., "Gated graph sequence neural networks", 2016, section 3.2).

    Arguments:
        dim: width d of the states.
        n_steps: how many steps.

    Parameters: `linear.weight: f[d, d]`, and those of a `GRUCell`, `cell.*`.

    >>> nn.GatedGraph(4, n_steps=2)(ab.ones((3, 4)), [[0, 1], [1, 2]]).shape
    (3, 4)
    """

    def __init__(self, dim: int, n_steps: int) -> None:
        self.n_steps = n_steps
        self.linear = Linear(dim, dim, bias=False)
        self.cell = GRUCell(dim, dim)

    def forward(self, x: ab.Tensor, edges: Edges) -> ab.Tensor:
        """x: f[n, d], the first states, edges: int[2, m] → f[n, d]."""
        sources, targets = _checked(self, x, edges)
        for _ in range(self.n_steps):
            x = self.cell(ab.segment_sum(self.linear(x)[sources], targets, x.shape[0]), x)
        return x


class GAT(Module):
    """A layer of a graph attention network (Veličković et al., "Graph attention networks", 2018, eq. 1 to 5): row i is
    Σ_j α_ij W x_j + b over the neighbours j of i and i itself, for each head; α_ij is the softmax over j of
    LeakyReLU(a · W x_j + a' · W x_i).

    Arguments:
        in_features: width of x.
        out_features: width F of a head.
        heads: number H of heads, which stand one behind the other in the result.
        concat: if not, the result is their mean.
        negative_slope: that of the LeakyReLU.
        bias: whether b is there.

    Parameters: `weight: f[H F, in_features]`, `att_src: f[H, F]`, a, `att_dst: f[H, F]`, a', drawn from Glorot and
    Bengio's uniform distribution; `bias: f[H F]`, or f[F], zeros at first. As `GATConv` of PyTorch Geometric, whose
    weight is `lin.weight`.

    >>> layer = nn.GAT(3, 4, heads=2)
    >>> layer(ab.ones((3, 3)), [[0, 1], [1, 2]]).shape
    (3, 8)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        heads: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        bias: bool = True,
    ) -> None:
        self.out_features = out_features
        self.heads = heads
        self.concat = concat
        self.negative_slope = negative_slope
        self.weight = init.xavier_uniform_(init.zeros((heads * out_features, in_features)))
        self.att_src, self.att_dst = (init.xavier_uniform_(init.zeros((heads, out_features))) for _ in range(2))
        self.bias = init.zeros((heads * out_features if concat else out_features,)) if bias else None

    def forward(self, x: ab.Tensor, edges: Edges) -> ab.Tensor:
        """x: f[n, in_features], edges: int[2, m] → f[n, H F], or f[n, F]."""
        sources, targets = _checked(self, x, edges, loops=True)
        n = x.shape[0]
        h = (x @ self.weight.T).reshape(n, self.heads, self.out_features)
        sent, received = (h * self.att_src).sum(axis=-1), (h * self.att_dst).sum(axis=-1)
        scores = ab.leaky_relu(sent[sources] + received[targets], self.negative_slope)
        weights = ab.expand_dims(ab.segment_softmax(scores, targets, n), -1)
        y = ab.segment_sum(weights * h[sources], targets, n)
        y = y.reshape(n, self.heads * self.out_features) if self.concat else y.mean(axis=1)
        return y if self.bias is None else y + self.bias


def _shifted_softplus(x: ab.Tensor) -> ab.Tensor:
    return ab.softplus(x) - float(np.log(2.0))


class CFConv(Module):
    """A convolution with filters that depend on distances: x_i + W₃ s(W₂ Σ_j (W₁ x_j) ∘ w(d_ij)), w being two linear
    maps with s between and behind them, on Gaussians of the distance, and s = softplus − log 2 (Schütt et al.,
    "SchNet", 2017, section 4.1, its interaction block).

    Arguments:
        dim: width of x.
        n_filters: width of the filters.
        n_gaussians: number of Gaussians, whose centres lie from 0 to `cutoff`.
        cutoff: the largest distance that is told from others; in the unit of the distances.

    Parameters: `filter1`, `filter2`: Linear layers of w, `in_map`: W₁ without bias, `out1`, `out2`: W₂ and W₃.

    >>> layer = nn.CFConv(4, n_filters=5, n_gaussians=6, cutoff=3.0)
    >>> layer(ab.ones((2, 4)), [[0, 1], [1, 0]], ab.ones(2)).shape
    (2, 4)
    """

    def __init__(self, dim: int, n_filters: int, n_gaussians: int = 50, cutoff: float = 10.0) -> None:
        self._centres = ab.constant(np.linspace(0.0, cutoff, n_gaussians))
        self.width = cutoff / max(n_gaussians - 1, 1)
        self.filter1, self.filter2 = Linear(n_gaussians, n_filters), Linear(n_filters, n_filters)
        self.in_map = Linear(dim, n_filters, bias=False)
        self.out1, self.out2 = Linear(n_filters, dim), Linear(dim, dim)

    def forward(self, x: ab.Tensor, edges: Edges, distances: ab.TensorLike) -> ab.Tensor:
        """x: f[n, dim], edges: int[2, m], distances: f[m], of which gradients are forces → f[n, dim]."""
        sources, targets = _checked(self, x, edges)
        far = ab.tensor(distances)
        if far.shape != (len(sources),):
            raise op_error(
                "CFConv", "there is not one distance for each edge", got=f"{far.shape}, {len(sources)} edges"
            )
        basis = ab.exp((far.reshape(len(sources), 1) - self._centres) ** 2 * (-0.5 / self.width**2))
        filters = _shifted_softplus(self.filter2(_shifted_softplus(self.filter1(basis))))
        heard = ab.segment_sum(self.in_map(x)[sources] * filters, targets, x.shape[0])
        return x + self.out2(_shifted_softplus(self.out1(heard)))
