"""A transformer encoder whose attention is written with separate ops, heads as slices of the columns."""

from __future__ import annotations

import autobatch as ab
from benchmarks.lengths.transformer import N_HEADS, Block, Transformer
from benchmarks.lengths.words import sentences
from benchmarks.twins import Program


class BlockByOps(Block):
    def attend(self, q: ab.Tensor, k: ab.Tensor, v: ab.Tensor) -> ab.Tensor:
        heads = (ab.split(x, N_HEADS, axis=-1) for x in (q, k, v))
        return ab.concat([softmax_mean(*head) for head in zip(*heads, strict=True)], axis=-1)


def softmax_mean(q: ab.Tensor, k: ab.Tensor, v: ab.Tensor) -> ab.Tensor:
    """Scaled dot-product attention of one head: q, k, v: f[n, d] → f[n, d]."""
    return ab.softmax(q @ k.T * q.shape[1] ** -0.5) @ v


def transformer(dim: int) -> Transformer:
    """The same model with such blocks."""
    return Transformer(dim, BlockByOps)


PROGRAM = Program("transformer encoder, attention by ops", transformer, sentences, batch=64)
