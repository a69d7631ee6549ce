"""Language model training step by hand in PyTorch, with packed and with padded sequences. Imports torch.

`OwnSoftmaxLanguageModel` pads 16 sentences of about the same length at a time, and has derivatives of the output layer
by hand: the 10,000 logits of each word live in one buffer that is kept, become exponentials in place while a few rows
are in the cache, and are never divided by their sums. With e = exp(logits) and s = sum(e), the gradient of the states
is (e W) / s and that of the weights eᵀ (h / s), each less what the predicted words contribute, which are few rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from benchmarks.lm.data import BEGIN
from benchmarks.sentences import Packing, Sentence, joined, pack
from benchmarks.torch_lstm import batch_sizes, in_padding, lstm, pad
from benchmarks.torch_trainer import TorchTrainer
from benchmarks.workload import Parameters

_ROWS = 32  # of logits, in a block that stays in the cache


class PackedLanguageModel(TorchTrainer):
    """With packed sequences."""

    name = "pytorch, packed"

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters, ["table"])
        self.lstm = lstm(self.weights, "lstm")

    def loss(self, sentences: Sequence[Sentence]) -> Tensor:
        packing = pack([len(sentence.words) for sentence in sentences])
        before = torch.from_numpy(joined([(BEGIN, *sentence.words[:-1]) for sentence in sentences])[packing.flat])
        words = torch.from_numpy(joined([sentence.words for sentence in sentences])[packing.flat])
        return self.predict(self.encode(packing, F.embedding(before, self.weights["table"], sparse=True)), words)

    def predict(self, states: Tensor, words: Tensor) -> Tensor:
        """Summed cross-entropy of the words."""
        logits = F.linear(states, self.weights["out_w"], self.weights["out_b"])
        return F.cross_entropy(logits, words, reduction="sum")

    def encode(self, packing: Packing, x: Tensor) -> Tensor:
        """Vectors of packed words → hidden states (n_words, H), packed."""
        states, _ = self.lstm(PackedSequence(x, batch_sizes(packing)))
        return states.data


class PaddedLanguageModel(PackedLanguageModel):
    """With padded sequences."""

    name = "pytorch, padded"
    block_size: int | None = None

    def encode(self, packing: Packing, x: Tensor) -> Tensor:
        return in_padding(self.lstm, x, pad(packing, self.block_size))


class OwnSoftmaxLanguageModel(PaddedLanguageModel):
    """With padded sequences of about the same length, and derivatives of the output layer by hand."""

    name = "pytorch, own softmax"
    block_size = 16

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.room = torch.empty(0, len(parameters["out_w"]))

    def predict(self, states: Tensor, words: Tensor) -> Tensor:
        if len(self.room) < len(words):
            self.room = torch.empty(len(words) + len(words) // 4, self.room.shape[1])
        return _Prediction.apply(self.room[: len(words)], states, self.weights["out_w"], self.weights["out_b"], words)


class _Prediction(torch.autograd.Function):
    """Summed cross-entropy of words from hidden states. `room`: memory for the logits."""

    @staticmethod
    def forward(ctx: Any, room: Tensor, h: Tensor, weight: Tensor, bias: Tensor, words: Tensor) -> Tensor:
        torch.addmm(bias, h, weight.t(), out=room)
        chosen, totals = room.gather(1, words[:, None]), room.new_empty(len(words), 1)
        largest = torch.empty_like(totals)
        for rows, top, total in zip(room.split(_ROWS), largest.split(_ROWS), totals.split(_ROWS), strict=True):
            torch.amax(rows, 1, keepdim=True, out=top)
            torch.sum(rows.sub_(top).exp_(), 1, keepdim=True, out=total)
        ctx.save_for_backward(room, h, weight, words, totals)
        return (totals.log() + largest - chosen).sum()

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor) -> tuple[Tensor | None, ...]:
        exponentials, h, weight, words, totals = ctx.saved_tensors
        d_h = (exponentials @ weight).div_(totals).sub_(weight.index_select(0, words))
        d_weight = exponentials.t() @ (h / totals)
        d_weight.index_add_(0, words, h, alpha=-1)
        d_bias = exponentials.t() @ (1.0 / totals[:, 0])
        d_bias.sub_(torch.bincount(words, minlength=len(d_bias)))
        return None, d_h.mul_(d_loss), d_weight.mul_(d_loss), d_bias.mul_(d_loss), None
