"""Encoders of lattices, and of sentences with their parses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import autobatch as ab

from ..base.errors import op_error
from . import init
from .linear import Linear
from .module import Module
from .recurrent_cells import LSTMCell, from_both, weights_of

State = tuple[ab.Tensor, ab.Tensor]
Word = tuple[int, int, ab.Tensor]
"""Number of its first character, of its last, and its vector."""


class LatticeLSTM(Module):
    """An LSTM over characters with shortcuts along the words that they may form (Zhang & Yang, "Chinese NER using
    lattice LSTM", 2018, eq. 11 to 15, with the LSTM of PyTorch where no word ends).

    A word from b to e gives c^w = σ(f) c_b + σ(i) tanh(g) with i, f, g = W [x^w; h_b]. At its last character it takes
    part in the cell with the weight exp σ(W_l [x_e; c^w] + b_l), beside tanh(g_e) with the weight exp σ(i_e); weights
    sum to one.

    Arguments:
        char_size: width of a character's vector.
        word_size: width of a word's vector.
        hidden_size: width H of h and c.

    Parameters: `cell.*` of an `LSTMCell` for characters, `word.*` of a Linear layer for words, f[3H, word_size + H], in
    order i, f, g; `link.*` of one for the weights, f[H, char_size + H].

    >>> layer = nn.LatticeLSTM(3, 4, 5)
    >>> layer(ab.ones((3, 3)), [(0, 1, ab.ones(4)), (0, 2, ab.zeros(4)), (1, 2, ab.ones(4))]).shape
    (3, 5)
    """

    def __init__(self, char_size: int, word_size: int, hidden_size: int) -> None:
        self.cell = LSTMCell(char_size, hidden_size)
        self.word = Linear(word_size + hidden_size, 3 * hidden_size)
        self.link = Linear(char_size + hidden_size, hidden_size)

    def forward(self, chars: ab.Tensor | Sequence[ab.Tensor], words: Iterable[Word]) -> ab.Tensor:
        """chars: f[n, char_size] or a list; words: (first, last, f[word_size]) with first < last → f[n, H].

        Raises OpTypeError for words that do not lie in the sentence, and for no characters.
        """
        n = len(chars) if isinstance(chars, Sequence) else chars.shape[0]
        ending: list[list[tuple[int, ab.Tensor]]] = [[] for _ in range(n)]
        for first, last, vector in words:
            if not 0 <= first < last < n:
                expected = f"0 <= first < last < {n}"
                raise op_error("LatticeLSTM", "a word does not fit", expected=expected, got=f"({first}, {last})")
            ending[last].append((first, vector))
        if not n:
            raise op_error("LatticeLSTM", "there are no characters", expected="f[n, char_size] with n > 0")
        states: list[State] = []
        for t in range(n):
            before = states[-1] if states else None
            if ending[t]:
                assert before is not None
                cells = [self._of_word(vector, *states[first]) for first, vector in ending[t]]
                states.append(self._joined(chars[t], before, cells))
            else:
                states.append(self.cell(chars[t], before))
        return ab.stack([h for h, _ in states])

    @ab.cell
    def _of_word(self, x: ab.Tensor, h: ab.Tensor, c: ab.Tensor) -> ab.Tensor:
        i, f, g = ab.split(self.word(ab.concat([x, h])), 3)
        return ab.sigmoid(f) * c + ab.sigmoid(i) * ab.tanh(g)

    @ab.cell
    def _joined(self, x: ab.Tensor, before: State, cells: list[ab.Tensor]) -> State:
        h, _ = before
        i, _, g, o = ab.split(from_both(x, h, weights_of(self.cell)), 4)
        own = ab.exp(ab.sigmoid(i))
        weighed = [(ab.exp(ab.sigmoid(self.link(ab.concat([x, c])))), c) for c in cells]
        total = own + ab.sum([weight for weight, _ in weighed])
        c = (own * ab.tanh(g) + ab.sum([weight * cell for weight, cell in weighed])) / total
        return ab.sigmoid(o) * ab.tanh(c), c


class SPINN(Module):
    """An encoder of a sentence with its binary parse, as a parser that shifts and reduces (Bowman et al., "A fast
    unified model for parsing and sentence understanding", 2016, section 3).

    A tracking LSTM reads the word that is next and the two states on top of the stack, and takes part in each
    composition, by a Tree-LSTM with its state as the input.

    Arguments:
        input_size: width of a word's vector.
        hidden_size: width H of h and c.
        tracking_size: width T of the tracking LSTM's state; without one if 0.

    Parameters: `leaf.*`, a Linear layer that makes (h, c) of a word; `reduce.*`, one from [h₁; h₂; tracked] to the
    gates i, f₁, f₂, g, o of f[5H]; `tracker.*` of an `LSTMCell`; `nothing: f[H]`, read in place of what is not there.

    >>> layer = nn.SPINN(3, 5, tracking_size=4)
    >>> h, c = layer(ab.ones((3, 3)), ["shift", "shift", "reduce", "shift", "reduce"])
    >>> h.shape, c.shape
    ((5,), (5,))
    """

    def __init__(self, input_size: int, hidden_size: int, tracking_size: int = 0) -> None:
        self.leaf = Linear(input_size, 2 * hidden_size)
        self.reduce = Linear(2 * hidden_size + tracking_size, 5 * hidden_size)
        self.tracker = LSTMCell(3 * hidden_size, tracking_size) if tracking_size else None
        self.nothing = init.zeros((hidden_size,)) if tracking_size else None

    def forward(self, words: ab.Tensor | Sequence[ab.Tensor], transitions: Iterable[str]) -> State:
        """words: f[n, input_size] or a list; transitions: n times "shift" and n − 1 times "reduce" → (h, c) of the
        root.

        Raises OpTypeError where these do not lead to one tree.
        """
        n = len(words) if isinstance(words, Sequence) else words.shape[0]
        waiting = [self._word(words[t]) for t in range(n - 1, -1, -1)]
        stack: list[State] = []
        tracked: State | None = None
        for k, transition in enumerate(transitions):
            if self.tracker is not None:
                tracked = self.tracker(self._seen(waiting, stack), tracked)
            if transition == "shift" and waiting:
                stack.append(waiting.pop())
            elif transition == "reduce" and len(stack) > 1:
                right, left = stack.pop(), stack.pop()
                stack.append(self._compose(left, right, None if tracked is None else tracked[0]))
            else:
                got = f"transition {k}, {transition!r}, with {len(waiting)} words waiting and {len(stack)} on the stack"
                raise op_error("SPINN", "there is no such transition", expected="'shift' or 'reduce'", got=got)
        if waiting or len(stack) != 1:
            got = f"{len(waiting)} words waiting and {len(stack)} on the stack"
            raise op_error("SPINN", "the transitions do not lead to one tree", got=got)
        return stack[0]

    def _seen(self, waiting: list[State], stack: list[State]) -> ab.Tensor:
        """What the tracking LSTM reads: f[3H]."""
        read = [states[-k] if len(states) >= k else None for states, k in ((waiting, 1), (stack, 1), (stack, 2))]
        assert self.nothing is not None
        return ab.concat([self.nothing * 1.0 if state is None else state[0] for state in read])

    @ab.cell
    def _word(self, x: ab.Tensor) -> State:
        h, c = ab.split(self.leaf(x), 2)
        return ab.tanh(h), c

    @ab.cell
    def _compose(self, left: State, right: State, tracked: ab.Tensor | None) -> State:
        (h1, c1), (h2, c2) = left, right
        i, f1, f2, g, o = ab.split(self.reduce(ab.concat([h1, h2, *([] if tracked is None else [tracked])])), 5)
        c = ab.sigmoid(f1) * c1 + ab.sigmoid(f2) * c2 + ab.sigmoid(i) * ab.tanh(g)
        return ab.sigmoid(o) * ab.tanh(c), c
