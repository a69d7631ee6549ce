"""One step of a simple recurrent network, of a gated recurrent unit and of a long short-term memory.

The formulas stand here once; `recurrent` runs them over sequences.
"""

from __future__ import annotations

from typing import Any

import autobatch as ab

from ..base.errors import message, op_error
from . import init
from .module import Module

Weights = tuple[ab.Parameter, ab.Parameter, ab.Parameter | None, ab.Parameter | None]
"""weight_ih, weight_hh, bias_ih, bias_hh"""


def from_both(x: ab.Tensor, h: ab.Tensor | None, weights: Weights) -> ab.Tensor:
    """W_ih x + b_ih + W_hh h + b_hh; None for an h of zeros"""
    w_ih, w_hh, b_ih, b_hh = weights
    z = x @ w_ih.T
    if b_ih is not None and b_hh is not None:
        z = z + (b_ih + b_hh)
    return z if h is None else z + h @ w_hh.T


def rnn_step(x: ab.Tensor, h: ab.Tensor, weights: Weights, nonlinearity: str) -> ab.Tensor:
    z = from_both(x, h, weights)
    return ab.tanh(z) if nonlinearity == "tanh" else ab.relu(z)


def gru_step(x: ab.Tensor, h: ab.Tensor, weights: Weights) -> ab.Tensor:
    w_ih, w_hh, b_ih, b_hh = weights
    from_x = x @ w_ih.T
    from_h = h @ w_hh.T
    if b_ih is not None and b_hh is not None:
        from_x, from_h = from_x + b_ih, from_h + b_hh
    xr, xz, xn = ab.split(from_x, 3, axis=-1)
    hr, hz, hn = ab.split(from_h, 3, axis=-1)
    z = ab.sigmoid(xz + hz)
    n = ab.tanh(xn + ab.sigmoid(xr + hr) * hn)
    return (1 - z) * n + z * h


def lstm_step(x: ab.Tensor, h: ab.Tensor, c: ab.Tensor, weights: Weights) -> tuple[ab.Tensor, ab.Tensor]:
    i, f, g, o = ab.split(from_both(x, h, weights), 4, axis=-1)
    c = ab.sigmoid(f) * c + ab.sigmoid(i) * ab.tanh(g)
    return ab.sigmoid(o) * ab.tanh(c), c


def check_nonlinearity(name: str, nonlinearity: str) -> None:
    if nonlinearity not in ("tanh", "relu"):
        expected, got = "'tanh' or 'relu'", repr(nonlinearity)
        raise ValueError(message(f"{name}: no such nonlinearity", expected=expected, got=got))


def check_state(name: str, state: Any) -> None:
    """Raise unless the state of layer `name` is a pair of values."""
    if not isinstance(state, tuple | list) or len(state) != 2 or any(not hasattr(part, "shape") for part in state):
        parts = state if isinstance(state, tuple | list) else [state]
        got = ", ".join("a value" if hasattr(part, "shape") else type(part).__name__ for part in parts)
        raise op_error(name, "a state is a pair", expected="(h, c)", got=got, repair="pass h and c together")


class _RecurrentCell(Module):
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


def weights_of(cell: _RecurrentCell) -> Weights:
    return cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh


class RNNCell(_RecurrentCell):
    """One step of a simple recurrent network (Elman, "Finding structure in time", 1990).

        h' = tanh(W_ih x + b_ih + W_hh h + b_hh)

    Arguments:
        input_size: width I of x.
        hidden_size: width H of h.
        bias: whether the two biases are there; both are None if not.
        nonlinearity: "tanh" or "relu"; others raise ValueError.

    Parameters and keys as in `torch.nn.RNNCell`: `weight_ih: f[H, I]`, `weight_hh: f[H, H]`, `bias_ih: f[H]`,
    `bias_hh: f[H]`, drawn from U(−1/√H, 1/√H).

    >>> nn.RNNCell(3, 5)(ab.ones(3)).shape
    (5,)
    """

    gates = 1

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh") -> None:
        check_nonlinearity("RNNCell", nonlinearity)
        super().__init__(input_size, hidden_size, bias)
        self.nonlinearity = nonlinearity

    @ab.cell
    def forward(self, x: ab.Tensor, h: ab.Tensor | None = None) -> ab.Tensor:
        """x: f[I], h: f[H], zeros if None → h': f[H].

        With a leading axis of n in both it is one step of n sequences.
        """
        if h is None:
            h = ab.zeros(self.hidden_size, dtype=x.dtype)
        return rnn_step(x, h, weights_of(self), self.nonlinearity)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, nonlinearity={self.nonlinearity!r}"


class GRUCell(_RecurrentCell):
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
        return gru_step(x, h, weights_of(self))


class LSTMCell(_RecurrentCell):
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
        if state is not None:
            check_state("LSTMCell", state)
            return lstm_step(x, *state, weights_of(self))
        i, _, g, o = ab.split(from_both(x, None, weights_of(self)), 4, axis=-1)
        c = ab.sigmoid(i) * ab.tanh(g)
        return ab.sigmoid(o) * ab.tanh(c), c
