"""Translation with additive attention, an LSTM for a decoder, and its state and context for an output.

After Bahdanau, Cho & Bengio, "Neural machine translation by jointly learning to align and translate", ICLR 2015.
"""

from __future__ import annotations

import autobatch as ab
from autobatch import nn
from benchmarks.lengths.pairs import N_WORDS, START, Encoder, Pair, pairs
from benchmarks.twins import Program


class Bahdanau(nn.Module):
    def __init__(self, dim: int) -> None:
        self.encoder = Encoder(dim)
        self.embed = nn.Embedding(N_WORDS, dim)
        self.cell = nn.LSTMCell(2 * dim, dim)
        self.of_keys = nn.Linear(dim, dim)
        self.of_state = nn.Linear(dim, dim, bias=False)
        self.score = ab.Parameter(self.of_state.weight.value[0])
        self.out = nn.Linear(2 * dim, N_WORDS)

    @ab.cell
    def scores(self, mapped: ab.Tensor, h: ab.Tensor) -> ab.Tensor:
        """How well each row of the mapped keys matches a state."""
        return ab.tanh(mapped + self.of_state(h)) @ self.score

    def loss(self, pair: Pair) -> ab.Tensor:
        """Cross entropy of the translation, word by word, each given those before it."""
        keys, state = self.encoder(pair.source)
        mapped = self.of_keys(keys)
        losses = []
        for previous, word in zip([START, *pair.target], [*pair.target, START], strict=True):
            context = ab.softmax(self.scores(mapped, state[0])) @ keys
            state = self.cell(ab.concat([self.embed[previous], context]), state)
            losses.append(ab.cross_entropy(self.out(ab.concat([state[0], context])), word))
        return ab.sum(losses)


PROGRAM = Program("seq2seq, Bahdanau", Bahdanau, pairs)
