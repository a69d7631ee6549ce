"""Random zeroing of elements while training."""

from __future__ import annotations

import autobatch as ab

from ..base.errors import message
from .module import Module


class Dropout(Module):
    """While training, each element becomes 0 with probability `p` and is divided by 1 − p otherwise.

    In eval mode x is returned as it came. Which elements are dropped depends on `ab.seed`, on the example and on the
    number of the draw in it, not on the batch (Srivastava et al., "Dropout: a simple way to prevent neural networks
    from overfitting", 2014; scaled while training, as PyTorch does).

    Arguments:
        p: probability, from 0 to 1; others raise ValueError.

    >>> drop = nn.Dropout(0.5)
    >>> sorted(set(drop(ab.ones(1000)).numpy().tolist()))
    [0.0, 2.0]
    >>> drop.eval()(ab.ones(3)).numpy()
    array([1., 1., 1.], dtype=float32)
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(message("Dropout: p is a probability", expected="0 <= p <= 1", got=str(p)))
        self.p = p

    def forward(self, x: ab.Tensor) -> ab.Tensor:
        """x: f[...] → f[...] of the same shape."""
        return ab.dropout(x, self.p, training=self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
