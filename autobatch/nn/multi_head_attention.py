"""Attention of several heads between rows of any number."""

from __future__ import annotations

import math

import autobatch as ab

from . import init
from .linear import Linear
from .module import Module
from .positions import RotaryEncoding


class MultiHeadAttention(Module):
    """Attention in `n_heads` subspaces, each of width dim / n_heads (Vaswani et al. 2017, section 3.2.2).

    Arguments:
        dim: width of queries, keys, values and results, a multiple of `n_heads`.
        n_heads: how many heads.
        bias: whether projections have a bias; `self.in_proj_bias` is None if not.
        rotary: a `RotaryEncoding` of the width of a head, for queries and keys.
        dropout: probability with which a weight of attention is set to 0 in training (see `ab.attention`).

    Parameters and keys as in `torch.nn.MultiheadAttention`: `in_proj_weight: f[3 dim, dim]`, of queries, keys and
    values in this order, drawn from U(−√(3 / (2 dim)), √(3 / (2 dim))) (Glorot & Bengio 2010), `in_proj_bias: f[3 dim]`
    and `out_proj.bias`, zeros at first, `out_proj.weight: f[dim, dim]`.

    >>> layer = nn.MultiHeadAttention(8, n_heads=2)
    >>> layer(ab.ones((5, 8))).shape, layer(ab.ones((5, 8)), ab.ones((3, 8))).shape
    ((5, 8), (5, 8))
    """

    def __init__(
        self, dim: int, n_heads: int, bias: bool = True, *, rotary: RotaryEncoding | None = None, dropout: float = 0.0
    ) -> None:
        if n_heads < 1 or dim % n_heads:
            raise ab.errors.OpTypeError(f"MultiHeadAttention: {n_heads} heads do not divide a width of {dim}")
        self.dim = dim
        self.n_heads = n_heads
        self.rotary = rotary
        self.dropout = dropout
        self.in_proj_weight = init.uniform((3 * dim, dim), math.sqrt(6 / (4 * dim)))
        self.in_proj_bias = init.zeros((3 * dim,)) if bias else None
        self.out_proj = Linear(dim, dim, bias)
        if self.out_proj.bias is not None:
            self.out_proj.bias = init.zeros((dim,))

    def forward(
        self,
        q: ab.Tensor,
        keys: ab.Tensor | None = None,
        values: ab.Tensor | None = None,
        mask: ab.TensorLike | None = None,
        causal: bool = False,
    ) -> ab.Tensor:
        """q: f[n, dim], keys and values: f[m, dim] → f[n, dim].

        Keys are the queries unless given, and values the keys; `mask` and `causal` are as in `ab.attention`.
        """
        if keys is None:
            parts = ab.split(self._projected(q, 0, 3), 3, axis=-1)
        else:
            parts = [self._projected(x, k, k + 1) for k, x in enumerate((q, keys, keys if values is None else values))]
        heads = [x.reshape(x.shape[0], self.n_heads, self.dim // self.n_heads) for x in parts]
        if self.rotary is not None:
            heads[:2] = map(self.rotary, heads[:2])
        p = self.dropout if self.training else 0.0
        y = ab.attention(heads[0], heads[1], heads[2], mask, causal, dropout_p=p)
        return self.out_proj(y.reshape(q.shape[0], self.dim))

    def _projected(self, x: ab.Tensor, first: int, last: int) -> ab.Tensor:
        """The projections of this range of queries, keys and values."""
        rows = slice(first * self.dim, last * self.dim)
        y = x @ self.in_proj_weight[rows].T
        return y if self.in_proj_bias is None else y + self.in_proj_bias[rows]

    def extra_repr(self) -> str:
        return f"dim={self.dim}, n_heads={self.n_heads}, bias={self.in_proj_bias is not None}"
