"""The translation model with Luong's attention in PyTorch. Importing this module imports torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.lengths.pairs import START, Pair
from benchmarks.lengths.pairs_torch import encode, look_up, lstm_step
from benchmarks.torch_trainer import OneByOne
from benchmarks.workload import Parameters


class Luong(OneByOne):
    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters, tables=("encoder.embed.weight", "embed.weight"))

    def one(self, pair: Pair) -> Tensor:
        w = self.weights
        keys, state = encode(w, pair.source)
        attended, logits = state[0], []
        for x in look_up(w["embed.weight"], [START, *pair.target]).unbind():
            state = lstm_step(w, "cell", torch.cat([x, attended]), state)
            weights = torch.softmax(keys @ (w["general.weight"] @ state[0]), dim=0)
            attended = torch.tanh(w["mix.weight"] @ torch.cat([weights @ keys, state[0]]))
            logits.append(F.linear(attended, w["out.weight"], w["out.bias"]))
        return F.cross_entropy(torch.stack(logits), torch.tensor([*pair.target, START]), reduction="sum")


TWINS = (Luong,)
