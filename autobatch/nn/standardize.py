"""Standardisation by the statistics of training data."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Self

import numpy as np

import autobatch as ab

from ..base.errors import message
from ..record.parameter import Buffer, replace
from .module import Module


class Standardize(Module):
    """y = (x − mean) / std, with the mean and the standard deviation of the training data (LeCun et al., "Efficient
    backprop", 1998, section 4.3).

    Arguments:
        shape: of one observation: a width, or a tuple; () for numbers.

    `fit` computes the statistics. They are the buffers `mean` and `std`, f[*shape], 0 and 1 at first, and so part of
    the state dict. A feature that never changes has std 1.

    >>> standardize = nn.Standardize(2).fit([[1.0, 10.0], [3.0, 10.0]])
    >>> standardize.mean.value, standardize.std.value
    (array([ 2., 10.], dtype=float32), array([1., 1.], dtype=float32))
    >>> standardize(ab.tensor([4.0, 10.0])).numpy()
    array([2., 0.], dtype=float32)
    """

    def __init__(self, shape: int | tuple[int, ...] = ()) -> None:
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.mean = Buffer(np.zeros(self.shape))
        self.std = Buffer(np.ones(self.shape))

    def fit(self, examples: Iterable[Any]) -> Self:
        """Take the statistics of `examples`: each one observation, or any number of them as f[n, *shape]. Returns the
        module. Computed in float64; the standard deviation is that of the data (divided by their number).

        Raises ValueError where there is no observation, where a shape does not fit, and for NaN or infinities.
        """
        parts = []
        for k, example in enumerate(examples):
            array = np.asarray(example, np.float64)
            if array.shape[array.ndim - len(self.shape) :] != self.shape or array.ndim > len(self.shape) + 1:
                what, expected = f"Standardize.fit: example {k} does not fit", f"{self.shape} or (n, *{self.shape})"
                raise ValueError(message(what, expected=f"shape {expected}", got=f"{array.shape}"))
            if not np.isfinite(array).all():
                raise ValueError(message(f"Standardize.fit: example {k} holds NaN or an infinity"))
            parts.append(array.reshape(-1, math.prod(self.shape)))
        data = np.concatenate(parts) if parts else np.empty((0, 0))
        if not len(data):
            raise ValueError(message("Standardize.fit: there are no observations"))
        deviation = data.std(axis=0)
        deviation[data.min(axis=0) == data.max(axis=0)] = 1.0
        replace([(self.mean, data.mean(axis=0).reshape(self.shape)), (self.std, deviation.reshape(self.shape))])
        return self

    def forward(self, x: ab.TensorLike) -> ab.Tensor:
        """x: f[*shape] or f[n, *shape] → the same."""
        return (ab.tensor(x) - self.mean) / self.std

    def inverse(self, y: ab.TensorLike) -> ab.Tensor:
        """What `forward` made y of, such as a prediction in the units of the data: y · std + mean."""
        return ab.tensor(y) * self.std + self.mean

    def extra_repr(self) -> str:
        return f"shape={self.shape}"
