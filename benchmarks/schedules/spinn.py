"""SPINN (Bowman et al., "A fast unified model for parsing and sentence understanding", ACL 2016).

A sentence and its transitions: SHIFT moves the next word from the buffer to the stack, REDUCE composes the upper two
entries of the stack by a Tree-LSTM node. Before each transition a tracking LSTM reads the top of the buffer and the
upper two of the stack; its state goes into the composition, and predicts the transition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn

N_WORDS, N_CLASSES = 200, 3
SHIFT, REDUCE = 0, 1


@dataclass(frozen=True, slots=True, eq=False)
class Sentence:
    """Numbers of words; 2 n - 1 transitions; a class."""

    words: list[int]
    transitions: list[int]
    label: int


def examples(n: int) -> list[Sentence]:
    """Sentences of 2 to 14 words, with transitions drawn at random among those that are possible."""
    rng = np.random.default_rng(2016)
    drawn = []
    for _ in range(n):
        length = int(rng.integers(2, 15))
        transitions: list[int] = []
        on_stack, ahead = 0, length
        while on_stack != 1 or ahead:
            may_shift, may_reduce = ahead > 0, on_stack > 1
            shifts = may_shift and (not may_reduce or rng.random() < 0.5)
            transitions.append(SHIFT if shifts else REDUCE)
            on_stack, ahead = (on_stack + 1, ahead - 1) if shifts else (on_stack - 1, ahead)
        drawn.append(Sentence(rng.integers(N_WORDS, size=length).tolist(), transitions, int(rng.integers(N_CLASSES))))
    return drawn


class Spinn(nn.Module):
    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.words = nn.Embedding(N_WORDS, dim)
        self.project = nn.Linear(dim, 2 * dim)
        self.tracking = nn.LSTMCell(3 * dim, dim)
        self.gates = nn.Linear(3 * dim, 5 * dim)
        self.transition = nn.Linear(dim, 2)
        self.out = nn.Linear(dim, N_CLASSES)

    @ab.cell
    def word(self, index: int) -> Any:
        h, c = ab.split(self.project(self.words[index]), 2)
        return ab.tanh(h), c

    @ab.cell
    def track(self, ahead: Any, top: Any, below: Any, state: Any) -> Any:
        return self.tracking(ab.concat([ahead, top, below]), state)

    @ab.cell
    def compose(self, left: Any, right: Any, tracked: Any) -> Any:
        (left_h, left_c), (right_h, right_c) = left, right
        i, f, g, u, o = ab.split(self.gates(ab.concat([left_h, right_h, tracked])), 5)
        c = ab.sigmoid(f) * left_c + ab.sigmoid(g) * right_c + ab.sigmoid(i) * ab.tanh(u)
        return ab.sigmoid(o) * ab.tanh(c), c

    @ab.cell
    def judge(self, tracked: Any, transition: int) -> Any:
        return ab.cross_entropy(self.transition(tracked), transition)

    @ab.cell
    def classify(self, h: Any, label: int) -> Any:
        return ab.cross_entropy(self.out(h), label)

    def loss(self, sentence: Sentence) -> Any:
        empty = ab.zeros(self.dim)
        buffer = [self.word(index) for index in reversed(sentence.words)]
        stack: list[Any] = []
        state, losses = (empty, empty), []
        for transition in sentence.transitions:
            ahead = buffer[-1][0] if buffer else empty
            top, below = (stack[-k][0] if len(stack) >= k else empty for k in (1, 2))
            state = self.track(ahead, top, below, state)
            losses.append(self.judge(state[0], transition))
            if transition == SHIFT:
                stack.append(buffer.pop())
            else:
                right, left = stack.pop(), stack.pop()
                stack.append(self.compose(left, right, state[0]))
        return self.classify(stack[0][0], sentence.label) + ab.mean(losses)


MODEL = Spinn
