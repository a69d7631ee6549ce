"""The transformer encoder in PyTorch: one by one, and padded and masked. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.lengths.pairs_torch import Weights, look_up
from benchmarks.lengths.transformer import N_BLOCKS, N_HEADS
from benchmarks.lengths.words import Sentence
from benchmarks.torch_trainer import OneByOne, TorchTrainer
from benchmarks.workload import Parameters

TABLES = ("embed.weight",)


def normalised(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def encoded(w: Weights, x: Tensor, mask: Tensor | None) -> Tensor:
    """All blocks; x: f[b, n, dim]; mask: bool[b, 1, 1, n], which of the rows are words."""
    batch, n, dim = x.shape
    for k in range(N_BLOCKS):
        name = f"blocks.{k}."
        qkv = linear(w, name + "qkv", normalised(w, name + "norm_1", x))
        q, k_, v = qkv.view(batch, n, 3, N_HEADS, dim // N_HEADS).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k_, v, attn_mask=mask)
        x = x + linear(w, name + "project", attended.transpose(1, 2).reshape(batch, n, dim))
        hidden = F.relu(linear(w, name + "widen", normalised(w, name + "norm_2", x)))
        x = x + linear(w, name + "narrow", hidden)
    return normalised(w, "norm", x)


class OneSentence(OneByOne):
    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters, TABLES)

    def one(self, sentence: Sentence) -> Tensor:
        x = encoded(self.weights, look_up(self.weights["embed.weight"], sentence.words)[None], None)[0].mean(dim=0)
        return F.cross_entropy(linear(self.weights, "out", x), torch.tensor(sentence.label))


class Padded(TorchTrainer):
    name = "pytorch, padded"

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters, TABLES)

    def loss(self, examples: Sequence[Sentence]) -> Tensor:
        lengths = np.array([len(sentence.words) for sentence in examples])
        is_word = np.arange(lengths.max()) < lengths[:, None]
        words = np.zeros(is_word.shape, np.int64)
        words[is_word] = np.concatenate([sentence.words for sentence in examples])
        mask = torch.from_numpy(is_word)
        x = F.embedding(torch.from_numpy(words), self.weights["embed.weight"], sparse=True)
        x = encoded(self.weights, x, mask[:, None, None])
        x = (x * mask[:, :, None]).sum(dim=1) / torch.from_numpy(lengths)[:, None]
        labels = torch.tensor([sentence.label for sentence in examples])
        return F.cross_entropy(linear(self.weights, "out", x), labels, reduction="sum")


TWINS = (OneSentence, Padded)
