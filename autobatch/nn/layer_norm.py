"""Normalisation over the last axis."""

from __future__ import annotations

import numpy as np

import autobatch as ab

from . import init
from .module import Module


class LayerNorm(Module):
    """y = (x − mean) / √(variance + eps) · weight + bias, mean and variance over the last axis.

    The variance is the mean squared deviation (divided by `dim`, not dim − 1), as in Ba, Kiros & Hinton, "Layer
    normalization", 2016, eq. 3, and in PyTorch.

    Arguments:
        dim: width of the last axis.
        eps: added to the variance.
        bias: whether there is one; `self.bias` is None if not.

    Parameters and keys as in `torch.nn.LayerNorm`: `weight: f[dim]`, ones at first, `bias: f[dim]`, zeros at first.

    >>> nn.LayerNorm(2)(ab.tensor([3.0, 5.0])).numpy().round(3)
    array([-1.,  1.], dtype=float32)
    """

    def __init__(self, dim: int, eps: float = 1e-5, bias: bool = True) -> None:
        self.dim = dim
        self.eps = eps
        self.weight = init.ones((dim,))
        self.bias = init.zeros((dim,)) if bias else None
        self._zeros = None if bias else ab.constant(np.zeros(dim))

    def forward(self, x: ab.Tensor) -> ab.Tensor:
        """x: f[..., dim] → f[..., dim]."""
        bias = self._zeros if self.bias is None else self.bias
        assert bias is not None
        return ab.layer_norm(x, self.weight, bias, self.eps)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, eps={self.eps}"
