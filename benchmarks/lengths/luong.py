"""Translation with global attention, general score and input feeding.

After Luong, Pham & Manning, "Effective approaches to attention-based neural machine translation", EMNLP 2015, eq.
5 to 8.
"""

from __future__ import annotations

import autobatch as ab
from autobatch import nn
from benchmarks.lengths.pairs import N_WORDS, START, Encoder, Pair, pairs
from benchmarks.twins import Program


class Luong(nn.Module):
    def __init__(self, dim: int) -> None:
        self.encoder = Encoder(dim)
        self.embed = nn.Embedding(N_WORDS, dim)
        self.cell = nn.LSTMCell(2 * dim, dim)
        self.general = nn.Linear(dim, dim, bias=False)
        self.mix = nn.Linear(2 * dim, dim, bias=False)
        self.out = nn.Linear(dim, N_WORDS)

    def context(self, keys: ab.Tensor, query: ab.Tensor) -> ab.Tensor:
        """The mean of the rows of `keys`, weighted by how well they match."""
        return ab.attention(query, keys, keys, scale=1.0)

    def attend(self, keys: ab.Tensor, h: ab.Tensor) -> ab.Tensor:
        return ab.tanh(self.mix(ab.concat([self.context(keys, self.general(h)), h])))

    def loss(self, pair: Pair) -> ab.Tensor:
        """Cross entropy of the translation, word by word, each given those before it."""
        keys, state = self.encoder(pair.source)
        attended, losses = state[0], []
        for previous, word in zip([START, *pair.target], [*pair.target, START], strict=True):
            state = self.cell(ab.concat([self.embed[previous], attended]), state)
            attended = self.attend(keys, state[0])
            losses.append(ab.cross_entropy(self.out(attended), word))
        return ab.sum(losses)


PROGRAM = Program("seq2seq, Luong", Luong, pairs)
