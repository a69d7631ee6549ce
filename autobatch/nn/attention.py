"""Attention of one query to rows of any number, by other scores than scaled products; and pointers."""

from __future__ import annotations

import numpy as np

import autobatch as ab

from ..base.errors import op_error
from . import init
from .linear import Linear
from .module import Module


def _weighted(scores: ab.Tensor, values: ab.Tensor, mask: ab.TensorLike | None) -> ab.Tensor:
    if mask is not None:
        scores = scores + (mask if isinstance(mask, ab.Tensor) else np.where(np.asarray(mask), 0.0, -1e30))
    return ab.softmax(scores) @ values


class AdditiveAttention(Module):
    """Attention of one query by the scores v · tanh(W q + U k) (Bahdanau, Cho & Bengio, "Neural machine translation by
    jointly learning to align and translate", 2015, appendix A.1.2).

    Arguments:
        query_dim: width of q.
        key_dim: width of a key.
        hidden_dim: width of what tanh is applied to.

    Parameters: `query.weight: f[hidden_dim, query_dim]`, W, `query.bias: f[hidden_dim]`, `key.weight: f[hidden_dim,
    key_dim]`, U, `v: f[hidden_dim]`.

    >>> layer = nn.AdditiveAttention(4, 3, 8)
    >>> layer(ab.ones(4), ab.ones((5, 3))).shape, layer.scores(ab.ones(4), ab.ones((5, 3))).shape
    ((3,), (5,))
    """

    def __init__(self, query_dim: int, key_dim: int, hidden_dim: int) -> None:
        self.query = Linear(query_dim, hidden_dim)
        self.key = Linear(key_dim, hidden_dim, bias=False)
        self.v = init.uniform_by_width((hidden_dim,), hidden_dim)

    def scores(self, q: ab.Tensor, keys: ab.Tensor) -> ab.Tensor:
        """q: f[query_dim], keys: f[m, key_dim] → f[m]."""
        if q.ndim != 1 or keys.ndim != 2:
            expected, got = "q: f[d], keys: f[m, e]", f"{q.shape}, {keys.shape}"
            raise op_error(type(self).__name__, "shapes do not fit", expected=expected, got=got)
        return ab.tanh(self.key(keys) + self.query(q)) @ self.v

    def forward(
        self, q: ab.Tensor, keys: ab.Tensor, values: ab.Tensor | None = None, mask: ab.TensorLike | None = None
    ) -> ab.Tensor:
        """q: f[query_dim], keys: f[m, key_dim], values: f[m, e], the keys if None → f[e].

        mask: m booleans, which keys may be attended to; or a tensor f[m] that is added to the scores.
        """
        return _weighted(self.scores(q, keys), keys if values is None else values, mask)


class Pointer(AdditiveAttention):
    """Chooses one of the rows it is given: its result are the scores of `AdditiveAttention`, logits of rows of any
    number (Vinyals, Fortunato & Jaitly, "Pointer networks", 2015, eq. 3).

    >>> pointer = nn.Pointer(4, 3, 8)
    >>> ab.cross_entropy(pointer(ab.ones(4), ab.ones((5, 3))), 2).shape
    ()
    """

    def forward(self, q: ab.Tensor, keys: ab.Tensor) -> ab.Tensor:  # type: ignore[override]
        """q: f[query_dim], keys: f[m, key_dim] → f[m]."""
        return self.scores(q, keys)


class DotAttention(Module):
    """Attention of queries by products with keys, without scale (Luong, Pham & Manning, "Effective approaches to
    attention-based neural machine translation", 2015, eq. 8: "dot", and "general").

    Arguments:
        query_dim, key_dim: if given, queries are mapped to the width of keys first ("general").

    Parameters: `map.weight: f[key_dim, query_dim]`, of "general".

    >>> keys = ab.ones((5, 3))
    >>> nn.DotAttention()(ab.ones(3), keys).shape, nn.DotAttention(4, 3)(ab.ones((2, 4)), keys).shape
    ((3,), (2, 3))
    """

    def __init__(self, query_dim: int | None = None, key_dim: int | None = None) -> None:
        self.map = None if query_dim is None or key_dim is None else Linear(query_dim, key_dim, bias=False)

    def forward(
        self, q: ab.Tensor, keys: ab.Tensor, values: ab.Tensor | None = None, mask: ab.TensorLike | None = None
    ) -> ab.Tensor:
        """q: f[query_dim] or f[n, query_dim], keys: f[m, key_dim], values: f[m, e], the keys if None → f[e] or f[n, e].

        `mask` is as in `ab.attention`.
        """
        q = q if self.map is None else self.map(q)
        return ab.attention(q, keys, keys if values is None else values, mask, scale=1.0)


class Bilinear(Module):
    """y_k = x₁ W_k x₂ + b_k.

    Arguments:
        in1_features, in2_features: widths of x₁ and x₂.
        out_features: width of y.
        bias: whether b is there.

    Parameters and keys as in `torch.nn.Bilinear`: `weight: f[out_features, in1_features, in2_features]`, `bias:
    f[out_features]`, both drawn from U(−1/√in1_features, 1/√in1_features).

    >>> layer = nn.Bilinear(3, 4, 2)
    >>> layer(ab.ones(3), ab.ones(4)).shape, layer(ab.ones((5, 3)), ab.ones((5, 4))).shape
    ((2,), (5, 2))
    """

    def __init__(self, in1_features: int, in2_features: int, out_features: int, bias: bool = True) -> None:
        self.weight = init.uniform_by_width((out_features, in1_features, in2_features), in1_features)
        self.bias = init.uniform_by_width((out_features,), in1_features) if bias else None

    def forward(self, x1: ab.Tensor, x2: ab.Tensor) -> ab.Tensor:
        """x1: f[in1_features], x2: f[in2_features] → f[out_features]; or rows of these, as many in both."""
        n_out, n_first, n_second = self.weight.shape
        side = ab.transpose(self.weight, (1, 0, 2)).reshape(n_first, n_out * n_second)
        left = (x1 @ side).reshape(*x1.shape[:-1], n_out, n_second)
        y = (left * ab.expand_dims(x2, -2)).sum(axis=-1)
        return y if self.bias is None else y + self.bias


class Biaffine(Module):
    """Scores of all pairs of rows: s_k[i, j] = [x_i; 1] W_k [y_j; 1] (Dozat & Manning, "Deep biaffine attention for
    neural dependency parsing", 2017, eq. 6 and 9).

    Arguments:
        x_dim, y_dim: widths of x and y.
        out_features: number K of scores of each pair.

    Parameter: `weight: f[K, x_dim + 1, y_dim + 1]`, zeros at first.

    >>> nn.Biaffine(3, 4)(ab.ones((5, 3)), ab.ones((6, 4))).shape
    (5, 6)
    >>> nn.Biaffine(3, 4, out_features=2)(ab.ones((5, 3)), ab.ones((6, 4))).shape
    (2, 5, 6)
    """

    def __init__(self, x_dim: int, y_dim: int, out_features: int = 1) -> None:
        self.weight = init.zeros((out_features, x_dim + 1, y_dim + 1))

    def forward(self, x: ab.Tensor, y: ab.Tensor) -> ab.Tensor:
        """x: f[n, x_dim], y: f[m, y_dim] → f[n, m]; f[K, n, m] if K > 1."""
        x, y = (ab.concat([part, ab.ones((part.shape[0], 1), dtype=part.dtype)], axis=-1) for part in (x, y))
        n_scores, width, y_width = self.weight.shape
        if n_scores == 1:
            return (x @ self.weight[0]) @ y.T
        side = ab.transpose(self.weight, (1, 0, 2)).reshape(width, n_scores * y_width)
        left = (x @ side).reshape(x.shape[0], n_scores, y_width)
        right = y.reshape(y.shape[0], 1, y_width) * ab.ones((1, n_scores, 1), dtype=y.dtype)
        return ab.transpose(left, (1, 0, 2)) @ ab.transpose(right, (1, 2, 0))


class Highway(Module):
    """t ∘ H(x) + (1 − t) ∘ x with t = σ(W x + b) (Srivastava, Greff & Schmidhuber, "Highway networks", 2015, eq. 3).

    Arguments:
        dim: width of x.
        activation: that of H, a linear map with it behind.

    Parameters: `transform.*` of H and `gate.*` of t, as of `Linear`; the gate's bias is −1 at first, which carries x.

    >>> nn.Highway(3)(ab.ones((5, 3))).shape
    (5, 3)
    """

    def __init__(self, dim: int, activation: object = ab.relu) -> None:
        self.transform, self.gate = Linear(dim, dim), Linear(dim, dim)
        assert self.gate.bias is not None
        init.constant_(self.gate.bias, -1.0)
        self.activation = activation

    def forward(self, x: ab.Tensor) -> ab.Tensor:
        """x: f[dim] or f[n, dim] → the same."""
        t = ab.sigmoid(self.gate(x))
        return t * self.activation(self.transform(x)) + (1.0 - t) * x  # type: ignore[operator]
