"""The pointer network in PyTorch. Importing this module imports torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.lengths.pairs_torch import lstm_step
from benchmarks.lengths.pointer import Points
from benchmarks.torch_trainer import OneByOne


class PointerNetwork(OneByOne):
    def one(self, example: Points) -> Tensor:
        w = self.weights
        given = torch.from_numpy(example.places).to(w["score"].dtype)
        places = F.linear(given, w["embed.weight"], w["embed.bias"])
        states: list[Tensor] = []
        state = None
        for place in places.unbind():
            state = lstm_step(w, "reader", place, state)
            states.append(state[0])
        keys = F.linear(torch.stack(states), w["of_keys.weight"])
        scores, previous = [], w["start"]
        for number in example.order:
            state = lstm_step(w, "writer", previous, state)
            scores.append(torch.tanh(keys + w["of_state.weight"] @ state[0]) @ w["score"])
            previous = places[number]
        return F.cross_entropy(torch.stack(scores), torch.tensor(example.order), reduction="sum")


TWINS = (PointerNetwork,)
