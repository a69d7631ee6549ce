"""Where a row stands in its sequence: sinusoids that are added, and rotations."""

from __future__ import annotations

import numpy as np

import autobatch as ab

from ..base.errors import message, op_error
from ..record.parameter import Buffer
from .dropout import Dropout
from .module import Module


def _angles(n: int, dim: int, base: float) -> np.ndarray:
    """Position times frequency: f[n, dim / 2]."""
    return np.arange(n)[:, None] * base ** (-np.arange(0, dim, 2) / dim)


class PositionalEncoding(Module):
    """x + PE, with PE[t, 2i] = sin(t / base^(2i / dim)) and PE[t, 2i + 1] = cos(t / base^(2i / dim)) (Vaswani et al.,
    "Attention is all you need", 2017, section 3.5), and dropout.

    For positions that are learned, add rows of an `Embedding`: `x + embed[np.arange(n)]`.

    Arguments:
        dim: width of x, even; else ValueError.
        max_length: rows that x may have; more raise IndexError.
        dropout: probability with which an element of the sum is dropped in training.
        base: ratio of the longest to the shortest wavelength.

    >>> nn.PositionalEncoding(4)(ab.zeros((2, 4))).numpy().round(2).tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.8399999737739563, 0.5400000214576721, 0.009999999776482582, 1.0]]
    """

    def __init__(self, dim: int, max_length: int = 5000, dropout: float = 0.0, base: float = 10000.0) -> None:
        if dim % 2:
            raise ValueError(message("PositionalEncoding: the width is odd", got=str(dim)))
        angles = _angles(max_length, dim, base)
        self.dropout = Dropout(dropout)
        self.pe = Buffer(np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(max_length, dim))

    def forward(self, x: ab.Tensor) -> ab.Tensor:
        """x: f[n, dim] → f[n, dim]."""
        return self.dropout(x + self.pe[np.arange(x.shape[0])])

    def extra_repr(self) -> str:
        return f"dim={self.pe.shape[1]}, max_length={self.pe.shape[0]}, dropout={self.dropout.p}"


class RotaryEncoding(Module):
    """Rotates pairs of elements by angles that grow with the position, so that products of queries and keys depend on
    their distance (Su et al., "RoFormer", 2021, eq. 34).

    Arguments:
        dim: width of a head, even; else ValueError.
        max_length: rows that x may have; more raise IndexError.
        base: ratio of the longest to the shortest wavelength.
        interleaved: pairs are elements 2i and 2i + 1, as in the paper; else i and i + dim / 2, as in GPT-NeoX.

    >>> rotary = nn.RotaryEncoding(4)
    >>> q, k = rotary(ab.ones((3, 4))), rotary(ab.ones((3, 4)))
    >>> bool(abs(q[0] @ k[1] - q[1] @ k[2]) < 1e-6)
    True
    """

    def __init__(self, dim: int, max_length: int = 4096, base: float = 10000.0, interleaved: bool = True) -> None:
        if dim % 2:
            raise ValueError(message("RotaryEncoding: the width is odd", got=str(dim)))
        self.dim = dim
        self.interleaved = interleaved
        angles = _angles(max_length, dim, base)
        angles = np.repeat(angles, 2, axis=1) if interleaved else np.tile(angles, 2)
        first = np.arange(0, dim, 2) if interleaved else np.arange(dim // 2)
        second = first + (1 if interleaved else dim // 2)
        turned = np.zeros((dim, dim))
        turned[second, first], turned[first, second] = -1.0, 1.0
        self._cos, self._sin, self._turned = (ab.constant(a) for a in (np.cos(angles), np.sin(angles), turned))

    def forward(self, x: ab.Tensor) -> ab.Tensor:
        """x: f[n, dim] or f[n, heads, dim] → the same."""
        if x.ndim not in (2, 3) or x.shape[-1] != self.dim:
            expected = f"f[n, {self.dim}] or f[n, heads, {self.dim}]"
            raise op_error("RotaryEncoding", "the input does not fit", expected=expected, got=f"shape {x.shape}")
        at = np.arange(x.shape[0])
        cos, sin = self._cos[at], self._sin[at]
        if x.ndim == 3:
            cos, sin = (part.reshape(x.shape[0], 1, self.dim) for part in (cos, sin))
        return x * cos + (x @ self._turned) * sin

    def extra_repr(self) -> str:
        return f"dim={self.dim}, interleaved={self.interleaved}"
