"""One step of a gated recurrent unit, and of a long short-term memory."""

from __future__ import annotations

import autobatch as ab

from . import init
from .module import Module


class _GatedCell(Module):
    """Parameters of a cell with `gates` gates."""

    gates: int

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        self.input_size = input_size
        self.hidden_size = hidden_size
        width = self.gates * hidden_size
        self.weight_ih = init.uniform_by_width((width, input_size), hidden_size)
        self.weight_hh = init.uniform_by_width((width, hidden_size), hidden_size)
        self.bias_ih = init.uniform_by_width((width,), hidden_size) if bias else None
        self.bias_hh = init.uniform_by_width((width,), hidden_size) if bias else None

    def extra_repr(self) -> str:
        bias = self.bias_ih is not None
        return f"input_size={self.input_size}, hidden_size={self.hidden_size}, bias={bias}"


class GRUCell(_GatedCell):
    """One step of a GRU (Cho et al. 2014, with the reset gate after the matmul, as PyTorch and cuDNN have it).

        r = σ(W_ir x + b_ir + W_hr h + b_hr)
        z = σ(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r (W_hn h + b_hn))
        h' = (1 − z) n + z h

    Arguments:
        input_size: width I of x.
        hidden_size: width H of h.
        bias: whether the two biases are there; both are None if not.

    Parameters, keys and gate order as in `torch.nn.GRUCell`: `weight_ih: f[3H, I]`, `weight_hh: f[3H, H]`,
    `bias_ih: f[3H]`, `bias_hh: f[3H]`, in order r, z, n, drawn from U(−1/√H, 1/√H).

    >>> cell = nn.GRUCell(3, 5)
    >>> h = cell(ab.ones(3))
    >>> cell(ab.zeros(3), h).shape
    (5,)
    """

    gates = 3

    @ab.cell
    def forward(self, x: ab.Tensor, h: ab.Tensor | None = None) -> ab.Tensor:
        """x: f[I], h: f[H], zeros if None → h': f[H].

        With a leading axis of n in both it is one step of n sequences.
        """
        if h is None:
            h = ab.zeros(self.hidden_size, dtype=x.dtype)
        from_x = x @ self.weight_ih.T
        from_h = h @ self.weight_hh.T
        if self.bias_ih is not None:
            from_x, from_h = from_x + self.bias_ih, from_h + self.bias_hh
        xr, xz, xn = ab.split(from_x, 3, axis=-1)
        hr, hz, hn = ab.split(from_h, 3, axis=-1)
        z = ab.sigmoid(xz + hz)
        n = ab.tanh(xn + ab.sigmoid(xr + hr) * hn)
        return (1 - z) * n + z * h


class LSTMCell(_GatedCell):
    """One step of an LSTM (Hochreiter & Schmidhuber 1997, with the forget gates of Gers, Schmidhuber & Cummins 2000).

        i, f, g, o = split(W_ih x + b_ih + W_hh h + b_hh, 4)
        c' = σ(f) c + σ(i) tanh(g)
        h' = σ(o) tanh(c')

    Arguments:
        input_size: width I of x.
        hidden_size: width H of h and c.
        bias: whether the two biases are there; both are None if not.

    Parameters, keys and gate order as in `torch.nn.LSTMCell`: `weight_ih: f[4H, I]`, `weight_hh: f[4H, H]`,
    `bias_ih: f[4H]`, `bias_hh: f[4H]`, in order i, f, g, o, drawn from U(−1/√H, 1/√H).

    >>> cell, state = nn.LSTMCell(3, 5), None
    >>> for x in [ab.ones(3), ab.zeros(3)]:
    ...     state = cell(x, state)
    >>> [part.shape for part in state]
    [(5,), (5,)]
    """

    gates = 4

    @ab.cell
    def forward(self, x: ab.Tensor, state: tuple[ab.Tensor, ab.Tensor] | None = None) -> tuple[ab.Tensor, ab.Tensor]:
        """x: f[I], state: (h, c), both f[H], zeros if None → (h', c'), both f[H].

        With a leading axis of n in all of them it is one step of n sequences.
        """
        z = x @ self.weight_ih.T
        if self.bias_ih is not None and self.bias_hh is not None:
            z = z + (self.bias_ih + self.bias_hh)
        if state is None:
            i, _, g, o = ab.split(z, 4, axis=-1)
            c = ab.sigmoid(i) * ab.tanh(g)
        else:
            h, c = state
            i, f, g, o = ab.split(z + h @ self.weight_hh.T, 4, axis=-1)
            c = ab.sigmoid(f) * c + ab.sigmoid(i) * ab.tanh(g)
        return ab.sigmoid(o) * ab.tanh(c), c
