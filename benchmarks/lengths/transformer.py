"""A transformer encoder that says of which class a sentence is.

After Vaswani et al., "Attention is all you need", NIPS 2017. Layers are normalised before attention and before the
feed-forward part (Xiong et al., "On layer normalization in the transformer architecture", ICML 2020). There are no
positions: the words of these sentences are drawn at random.
"""

from __future__ import annotations

import autobatch as ab
from autobatch import nn
from benchmarks.lengths.words import N_CLASSES, N_WORDS, Sentence, sentences
from benchmarks.twins import Program

N_HEADS = 4
N_BLOCKS = 2


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)); x: f[n, dim]."""

    def __init__(self, dim: int) -> None:
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.project = nn.Linear(dim, dim)
        self.widen, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def attend(self, q: ab.Tensor, k: ab.Tensor, v: ab.Tensor) -> ab.Tensor:
        """All heads; q, k, v: f[n, dim]."""
        n, dim = q.shape
        q, k, v = (x.reshape(n, N_HEADS, dim // N_HEADS) for x in (q, k, v))
        return ab.attention(q, k, v).reshape(n, dim)

    def forward(self, x: ab.Tensor) -> ab.Tensor:
        q, k, v = ab.split(self.qkv(self.norm_1(x)), 3, axis=-1)
        x = x + self.project(self.attend(q, k, v))
        return x + self.narrow(ab.relu(self.widen(self.norm_2(x))))


class Transformer(nn.Module):
    def __init__(self, dim: int, block: type[Block] = Block, n_blocks: int = N_BLOCKS) -> None:
        self.embed = nn.Embedding(N_WORDS, dim)
        self.blocks = [block(dim) for _ in range(n_blocks)]
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, N_CLASSES)

    def loss(self, sentence: Sentence) -> ab.Tensor:
        """Cross entropy of the class."""
        x = self.embed(sentence.words)
        for block in self.blocks:
            x = block(x)
        return ab.cross_entropy(self.out(self.norm(x).mean(axis=0)), sentence.label)


PROGRAM = Program("transformer encoder", Transformer, sentences, batch=64)
