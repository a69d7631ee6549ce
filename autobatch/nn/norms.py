"""Normalisation by root mean square, over groups of channels, and over a minibatch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np

import autobatch as ab

from ..base.errors import message, op_error
from ..record.parameter import Buffer, replace
from . import init
from .module import Module


class RMSNorm(Module):
    """y = x / √(mean(x²) + eps) · weight over the last axis (Zhang & Sennrich, "Root mean square layer normalization",
    2019, eq. 4).

    Arguments:
        dim: width of the last axis.
        eps: added to the mean; the spacing of numbers near 1 in the default dtype if None.

    Parameter and key as in `torch.nn.RMSNorm`: `weight: f[dim]`, ones at first.

    >>> nn.RMSNorm(2)(ab.tensor([3.0, 4.0])).numpy().round(3)
    array([0.849, 1.131], dtype=float32)
    """

    def __init__(self, dim: int, eps: float | None = None) -> None:
        self.weight = init.ones((dim,))
        self.eps = float(np.finfo(self.weight.dtype).eps) if eps is None else eps

    def forward(self, x: ab.Tensor) -> ab.Tensor:
        """x: f[..., dim] → f[..., dim]."""
        return x / ab.sqrt(ab.mean(x * x, axis=-1, keepdims=True) + self.eps) * self.weight

    def extra_repr(self) -> str:
        return f"dim={self.weight.shape[0]}, eps={self.eps}"


class GroupNorm(Module):
    """Normalisation of one example over groups of channels, and over its rows (Wu & He, "Group normalization", 2018,
    eq. 7).

    Rows are time: `nn.GroupNorm(…)(x)` here is `torch.nn.GroupNorm(…)(x.T[None])[0].T` there.

    Arguments:
        num_groups: number G of groups of neighbouring channels, a divisor of `num_channels`; else ValueError.
        num_channels: width C of x.
        eps: added to the variance.

    Parameters and keys as in `torch.nn.GroupNorm`: `weight: f[C]`, ones at first, `bias: f[C]`, zeros at first.

    >>> nn.GroupNorm(2, 4)(ab.tensor([1.0, 3.0, 0.0, 8.0])).numpy().round(3)
    array([-1.,  1., -1.,  1.], dtype=float32)
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5) -> None:
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(message(f"GroupNorm: {num_groups} groups do not divide {num_channels} channels"))
        self.num_groups = num_groups
        self.eps = eps
        self.weight = init.ones((num_channels,))
        self.bias = init.zeros((num_channels,))
        width = num_channels // num_groups
        same = np.kron(np.eye(num_groups), np.ones((width, width))) / width
        self._mean_of_group = ab.constant(same)

    def forward(self, x: ab.Tensor) -> ab.Tensor:
        """x: f[C] or f[n, C] → the same."""
        centred = x - self._means(x)
        return centred / ab.sqrt(self._means(centred * centred) + self.eps) * self.weight + self.bias

    def _means(self, x: ab.Tensor) -> ab.Tensor:
        """The mean of its group for each channel: f[C]."""
        return (x if x.ndim == 1 else x.mean(axis=0)) @ self._mean_of_group

    def extra_repr(self) -> str:
        return f"num_groups={self.num_groups}, num_channels={self.weight.shape[0]}, eps={self.eps}"


class BatchNorm(Module):
    """Normalisation of each channel over all examples of a minibatch, and over their rows (Ioffe & Szegedy, "Batch
    normalization", 2015, algorithm 1).

    In training it is called between two maps, with the values of all examples at once. What one example gives then
    depends on the others, so it cannot be called for one of them:

        hidden = ab.map(model.encode, batch)
        hidden = model.norm(hidden)
        losses = ab.map(model.decode, hidden, batch)

    In eval mode, where it uses running statistics, it may be called with single values, inside of maps, too.

    Arguments:
        num_features: width C.
        eps: added to the variance.
        momentum: share of a minibatch in the running statistics.

    Parameters, buffers and keys as in `torch.nn.BatchNorm1d`: `weight: f[C]`, ones at first, `bias: f[C]`, zeros at
    first, `running_mean`, `running_var` (of n − 1 degrees of freedom), `num_batches_tracked`. A call in training asks
    for the statistics of its minibatch, so what comes before it runs then.

    >>> norm = nn.BatchNorm(1)
    >>> [y.numpy().round(3).tolist() for y in norm([ab.tensor([1.0]), ab.tensor([3.0])])]
    [[-1.0], [1.0]]
    >>> norm.running_mean.value
    array([0.2], dtype=float32)
    """

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        self.eps = eps
        self.momentum = momentum
        self.weight = init.ones((num_features,))
        self.bias = init.zeros((num_features,))
        self.running_mean = Buffer(np.zeros(num_features))
        self.running_var = Buffer(np.ones(num_features))
        self.num_batches_tracked = Buffer(np.array(0, np.int64))

    @overload
    def forward(self, x: ab.Tensor) -> ab.Tensor: ...
    @overload
    def forward(self, x: Sequence[ab.Tensor]) -> list[ab.Tensor]: ...
    def forward(self, x: ab.Tensor | Sequence[ab.Tensor]) -> ab.Tensor | list[ab.Tensor]:
        """x: a list of f[C], or of f[n, C] with any n, one of each example → the same; in eval mode one such value,
        too.

        Raises OpTypeError in training for a single value, and for fewer than two rows in all.
        """
        if not self.training:
            if isinstance(x, ab.Tensor):
                return self._normalised(x, self.running_mean, self.running_var)
            return [self._normalised(value, self.running_mean, self.running_var) for value in x]
        if isinstance(x, ab.Tensor):
            repair = "call it between two maps, with a list of the values of all examples, or call .eval()"
            raise op_error(
                "BatchNorm", "in training it needs the whole minibatch", got=f"one value {x.shape}", repair=repair
            )
        width = self.weight.shape
        for value in x:
            if value.shape[-1:] != width or value.ndim > 2:
                expected = f"f[{width[0]}] or f[n, {width[0]}]"
                raise op_error("BatchNorm", "a value does not fit", expected=expected, got=str(value.shape))
        values = [value.reshape(1, *width) if value.ndim == 1 else value for value in x]
        n = sum(value.shape[0] for value in values)
        if n < 2:
            raise op_error("BatchNorm", "one row has no variance", expected="two rows or more in all", got=str(n))
        mean = ab.sum([value.sum(axis=0) for value in values]) / float(n)
        variance = ab.sum([((value - mean) ** 2).sum(axis=0) for value in values]) / float(n)
        self._track(mean, variance, n)
        return [self._normalised(value, mean, variance) for value in x]

    def _normalised(self, x: ab.Tensor, mean: ab.Tensor, variance: ab.Tensor) -> ab.Tensor:
        return (x - mean) / ab.sqrt(variance + self.eps) * self.weight + self.bias

    def _track(self, mean: ab.Tensor, variance: ab.Tensor, n: int) -> None:
        """Let this minibatch have its share in the running statistics."""
        new_mean, new_variance = ab.evaluate((mean, variance))
        share = self.momentum
        replace(
            [
                (self.running_mean, (1 - share) * self.running_mean.numpy() + share * new_mean),
                (self.running_var, (1 - share) * self.running_var.numpy() + share * new_variance * (n / (n - 1))),
                (self.num_batches_tracked, self.num_batches_tracked.numpy() + 1),
            ]
        )

    def extra_repr(self) -> str:
        return f"num_features={self.weight.shape[0]}, eps={self.eps}, momentum={self.momentum}"
