"""The translation model with Bahdanau's attention in PyTorch. Importing this module imports torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.lengths.pairs import START, Pair
from benchmarks.lengths.pairs_torch import encode, look_up, lstm_step
from benchmarks.torch_trainer import OneByOne
from benchmarks.workload import Parameters


class Bahdanau(OneByOne):
    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters, tables=("encoder.embed.weight", "embed.weight"))

    def one(self, pair: Pair) -> Tensor:
        w = self.weights
        keys, state = encode(w, pair.source)
        mapped = F.linear(keys, w["of_keys.weight"], w["of_keys.bias"])
        logits = []
        for x in look_up(w["embed.weight"], [START, *pair.target]).unbind():
            scores = torch.tanh(mapped + w["of_state.weight"] @ state[0]) @ w["score"]
            context = torch.softmax(scores, dim=0) @ keys
            state = lstm_step(w, "cell", torch.cat([x, context]), state)
            logits.append(F.linear(torch.cat([state[0], context]), w["out.weight"], w["out.bias"]))
        return F.cross_entropy(torch.stack(logits), torch.tensor([*pair.target, START]), reduction="sum")


TWINS = (Bahdanau,)
