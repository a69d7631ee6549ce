"""Recurrent networks over one sequence of any length, and the stack LSTM."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import autobatch as ab

from ..base.errors import message, op_error
from . import init
from .module import Module
from .recurrent_cells import LSTMCell, Weights, check_nonlinearity, check_state, gru_step, lstm_step, rnn_step

Rows = ab.TensorLike | Sequence[ab.TensorLike]
States = tuple[ab.Tensor, ...]
"""(h,), of an LSTM (h, c)."""


class _Recurrent(Module):
    """What `RNN`, `GRU` and `LSTM` have in common: layers, directions, and what is dropped."""

    gates: int
    n_states = 1
    _formula: Callable[[ab.Tensor, States, Any], States]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        variational_dropout: float = 0.0,
        zoneout: float = 0.0,
    ) -> None:
        name = type(self).__name__
        if num_layers < 1:
            raise ValueError(message(f"{name}: there are no layers", expected="num_layers >= 1", got=str(num_layers)))
        for what, p in (("dropout", dropout), ("variational_dropout", variational_dropout), ("zoneout", zoneout)):
            if not 0 <= p <= 1:
                raise ValueError(message(f"{name}: {what} is a probability", expected="0 <= p <= 1", got=str(p)))
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.variational_dropout = variational_dropout
        self.zoneout = zoneout
        width = self.gates * hidden_size
        for layer in range(num_layers):
            for suffix in self._suffixes(layer):
                n_inputs = self._n_inputs(layer)
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (width, n_inputs), "weight_hh": (width, hidden_size)}
                shapes |= {"bias_ih": (width,), "bias_hh": (width,)} if bias else {}
                for what, shape in shapes.items():
                    setattr(self, what + suffix, init.uniform_by_width(shape, hidden_size))

    def _suffixes(self, layer: int) -> list[str]:
        """Of the names of parameters of a layer, one for each direction."""
        return [f"_l{layer}", f"_l{layer}_reverse"][: 1 + self.bidirectional]

    def _n_inputs(self, layer: int) -> int:
        return self.hidden_size * (1 + self.bidirectional) if layer else self.input_size

    def _run(self, x: Rows, starts: States | None) -> tuple[ab.Tensor, States]:
        """The outputs of the last layer, and the last states of all layers and directions."""
        rows = x if isinstance(x, ab.Tensor) else ab.stack(x) if isinstance(x, list | tuple) and x else ab.tensor(x)
        if rows.shape == (0,):
            rows = rows.reshape((0, self.input_size))
        if rows.ndim != 2 or rows.shape[1] != self.input_size:
            what, expected = "the input does not fit", f"f[n, {self.input_size}]"
            raise op_error(type(self).__name__, what, expected=expected, got=f"shape {rows.shape}")
        initial = self._initial(rows, starts)
        last: list[States] = []
        for layer in range(self.num_layers):
            if layer:
                rows = ab.dropout(rows, self.dropout, training=self.training)
            sides = []
            for suffix in self._suffixes(layer):
                side, final = self._sequence(rows, next(initial), suffix, backwards=suffix.endswith("_reverse"))
                sides.append(side)
                last.append(final)
            rows = sides[0] if len(sides) == 1 else ab.concat(sides, axis=-1)
        return rows, tuple(ab.stack(parts) for parts in zip(*last, strict=True))

    def _initial(self, rows: ab.Tensor, starts: States | None) -> Iterator[States]:
        """The states that each layer and direction begins with."""
        n = self.num_layers * (1 + self.bidirectional)
        if starts is None:
            zero = ab.zeros(self.hidden_size, dtype=rows.dtype)
            return iter([(zero,) * self.n_states] * n)
        if self.n_states == 2:
            check_state(type(self).__name__, starts)
        for part in starts:
            if getattr(part, "shape", None) != (n, self.hidden_size):
                what, expected = "the state does not fit", f"f[{n}, {self.hidden_size}]"
                got = f"shape {part.shape}" if hasattr(part, "shape") else type(part).__name__
                raise op_error(type(self).__name__, what, expected=expected, got=got)
        return iter([tuple(part[k] for part in starts) for k in range(n)])

    def _sequence(self, rows: ab.Tensor, states: States, suffix: str, backwards: bool) -> tuple[ab.Tensor, States]:
        """One layer in one direction."""
        mask = None
        if self.variational_dropout and self.training:
            rows = rows * ab.dropout(ab.ones(rows.shape[1], dtype=rows.dtype), self.variational_dropout, training=True)
            mask = ab.dropout(ab.ones(self.hidden_size, dtype=rows.dtype), self.variational_dropout, training=True)
        n = rows.shape[0]
        outputs = []
        for t in range(n - 1, -1, -1) if backwards else range(n):
            states = self._step(rows[t], states, mask, suffix)
            outputs.append(states[0])
        if not n:
            return ab.zeros((0, self.hidden_size), dtype=rows.dtype), states
        return ab.stack(outputs[::-1] if backwards else outputs), states

    @ab.cell(static=("suffix",))
    def _step(self, x: ab.Tensor, states: States, mask: ab.Tensor | None, suffix: str) -> States:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        w_ih, w_hh, b_ih, b_hh = (getattr(self, name + suffix, None) for name in names)
        read = states if mask is None else (states[0] * mask, *states[1:])
        new = self._formula(x, read, (w_ih, w_hh, b_ih, b_hh))
        if not self.zoneout:
            return new
        # In eval mode `dropout` is the identity, which leaves the expectation.
        moved = (ab.dropout(after - before, self.zoneout) for before, after in zip(states, new, strict=True))
        return tuple(before + (1 - self.zoneout) * change for before, change in zip(states, moved, strict=True))

    def extra_repr(self) -> str:
        usual = {"num_layers": 1, "bias": True, "dropout": 0.0, "bidirectional": False}
        usual |= {"variational_dropout": 0.0, "zoneout": 0.0}
        others = "".join(f", {k}={getattr(self, k)!r}" for k, v in usual.items() if getattr(self, k) != v)
        return f"input_size={self.input_size}, hidden_size={self.hidden_size}{others}"


class RNN(_Recurrent):
    """A simple recurrent network over one sequence of any length; `RNNCell` has the formula.

    Arguments:
        input_size: width I of an element of the sequence.
        hidden_size: width H of the state.
        num_layers: L; each layer reads the outputs of the one before.
        nonlinearity: "tanh" or "relu"; others raise ValueError.
        bias: whether there are biases.
        dropout: probability with which an element of the input of a layer but the first is dropped in training.
        bidirectional: a second direction in each layer, from the end; D = 2 directions.
        variational_dropout: the same, with one mask for all steps of a sequence, for the inputs of all layers and
            for what a step reads of the state (Gal & Ghahramani, "A theoretically grounded application of dropout in
            recurrent neural networks", 2016, section 4).
        zoneout: probability with which an element of the state stays as it was in training; in eval mode the states
            mix in this proportion (Krueger et al., "Zoneout", 2017, section 3.1).

    Parameters and keys as in `torch.nn.RNN`: `weight_ih_l{k}: f[H, I]`, in later layers f[H, DH], `weight_hh_l{k}: f[H,
    H]`, `bias_ih_l{k}: f[H]`, `bias_hh_l{k}: f[H]`, with `_reverse` at the end in the other direction; drawn from
    U(−1/√H, 1/√H). There is no axis of the batch.

    >>> layer = nn.RNN(3, 5, num_layers=2, bidirectional=True)
    >>> output, h = layer([ab.ones(3), ab.zeros(3)])
    >>> output.shape, h.shape
    ((2, 10), (4, 5))
    """

    gates = 1

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, *, nonlinearity: str = "tanh", **settings: Any
    ) -> None:
        check_nonlinearity("RNN", nonlinearity)
        super().__init__(input_size, hidden_size, num_layers, **settings)
        self.nonlinearity = nonlinearity

    def forward(self, x: Rows, h: ab.Tensor | None = None) -> tuple[ab.Tensor, ab.Tensor]:
        """x: f[n, I] or a list of n vectors; h: f[DL, H], the first states, zeros if None → (output, h').

        output: f[n, DH], of the last layer; h': f[DL, H], the last states, layer by layer, in each the directions.
        """
        output, (last,) = self._run(x, None if h is None else (h,))
        return output, last

    def _formula(self, x: ab.Tensor, states: States, weights: Weights) -> States:
        return (rnn_step(x, states[0], weights, self.nonlinearity),)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity!r}")


class GRU(_Recurrent):
    """A GRU over one sequence of any length; `GRUCell` has the formula, `RNN` the arguments (but for `nonlinearity`).

    Parameters and keys as in `torch.nn.GRU`: as in `RNN`, with 3H in place of H for the first axis.

    >>> output, h = nn.GRU(3, 5)(ab.ones((4, 3)))
    >>> output.shape, h.shape
    ((4, 5), (1, 5))
    """

    gates = 3

    def forward(self, x: Rows, h: ab.Tensor | None = None) -> tuple[ab.Tensor, ab.Tensor]:
        """As `RNN.forward`."""
        output, (last,) = self._run(x, None if h is None else (h,))
        return output, last

    def _formula(self, x: ab.Tensor, states: States, weights: Weights) -> States:
        return (gru_step(x, states[0], weights),)


class LSTM(_Recurrent):
    """An LSTM over one sequence of any length; `LSTMCell` has the formula, `RNN` the arguments (but for
    `nonlinearity`). `zoneout` acts on h and c alike.

    Parameters and keys as in `torch.nn.LSTM`: as in `RNN`, with 4H in place of H for the first axis.

    >>> layer = nn.LSTM(3, 5, num_layers=2, dropout=0.1)
    >>> output, (h, c) = layer(ab.ones((4, 3)))
    >>> output.shape, h.shape, c.shape
    ((4, 5), (2, 5), (2, 5))
    """

    gates = 4
    n_states = 2

    def forward(
        self, x: Rows, state: tuple[ab.Tensor, ab.Tensor] | None = None
    ) -> tuple[ab.Tensor, tuple[ab.Tensor, ab.Tensor]]:
        """x: f[n, I] or a list of n vectors; state: (h, c), both f[DL, H], zeros if None → (output, (h', c')).

        output: f[n, DH], of the last layer; h', c': f[DL, H], the last states, layer by layer, in each the directions.
        """
        output, (h, c) = self._run(x, state)
        return output, (h, c)

    def _formula(self, x: ab.Tensor, states: States, weights: Weights) -> States:
        return lstm_step(x, states[0], states[1], weights)


class Stack(NamedTuple):
    """A stack with the state of an LSTM that has read what is on it; it never changes.

    h, c: f[H]; below: the stack without its top, None for an empty one.

    >>> layer = nn.StackLSTM(3, 5)
    >>> stack = layer.push(layer.empty(), ab.ones(3))
    >>> stack.h.shape, stack.below.below
    ((5,), None)
    """

    h: ab.Tensor
    c: ab.Tensor
    below: Stack | None = None


class StackLSTM(Module):
    """An LSTM whose state can be taken back: a push is a step, a pop returns to the state before (Dyer et al.,
    "Transition-based dependency parsing with stack long short-term memory", 2015, section 2.1).

    Stacks share what they have in common, so that all are there to be read, as beam search needs.

    Arguments:
        input_size: width I of what is pushed.
        hidden_size: width H of h and c.

    Parameters: those of an `LSTMCell`, `cell.*`; `start_h: f[H]` and `start_c: f[H]`, the state of an empty stack,
    zeros at first.

    >>> layer = nn.StackLSTM(3, 5)
    >>> one = layer.push(layer.empty(), ab.ones(3))
    >>> two = layer.push(one, ab.zeros(3))
    >>> two.h.shape, layer.pop(two) is one
    ((5,), True)
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.cell = LSTMCell(input_size, hidden_size)
        self.start_h = init.zeros((hidden_size,))
        self.start_c = init.zeros((hidden_size,))

    def empty(self) -> Stack:
        """A stack with nothing on it."""
        return Stack(self.start_h, self.start_c)

    def push(self, stack: Stack, x: ab.Tensor) -> Stack:
        """x: f[I], put on the stack → a stack."""
        h, c = self.cell(x, (stack.h, stack.c))
        return Stack(h, c, stack)

    def pop(self, stack: Stack) -> Stack:
        """The stack below the top; ValueError for an empty one."""
        if stack.below is None:
            raise ValueError(message("StackLSTM.pop: the stack is empty", repair="ask whether stack.below is None"))
        return stack.below
