"""Affine map of the last axis."""

from __future__ import annotations

import autobatch as ab

from ..record.layers import known_forward
from . import init
from .module import Module


def _affine(x: ab.Tensor, weight: ab.Tensor, bias: ab.Tensor | None) -> ab.Tensor:
    y = x @ weight.T
    return y if bias is None else y + bias


class Linear(Module):
    """y = x Wᵀ + b, on a vector or on each row of a matrix.

    Arguments:
        in_features: width of x.
        out_features: width of y.
        bias: whether b is there; `self.bias` is None if not.

    Parameters and keys as in `torch.nn.Linear`: `weight: f[out_features, in_features]`, `bias: f[out_features]`, both
    drawn from U(−1/√in_features, 1/√in_features).

    >>> layer = nn.Linear(3, 2)
    >>> layer(ab.ones(3)).shape, layer(ab.ones((5, 3))).shape
    ((2,), (5, 2))
    >>> layer
    Linear(in_features=3, out_features=2, bias=True)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.in_features = in_features
        self.out_features = out_features
        self.weight = init.uniform_by_width((out_features, in_features), in_features)
        self.bias = init.uniform_by_width((out_features,), in_features) if bias else None

    @known_forward(_affine, "weight", "bias")
    def forward(self, x: ab.Tensor) -> ab.Tensor:
        """x: f[in_features] or f[n, in_features] → f[out_features] or f[n, out_features]."""
        return _affine(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
