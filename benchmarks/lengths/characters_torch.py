"""The convolutional network over characters in PyTorch: one by one, and padded. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.lengths.characters import WIDTHS, Text
from benchmarks.lengths.pairs_torch import Weights, look_up
from benchmarks.torch_trainer import OneByOne, TorchTrainer
from benchmarks.workload import Parameters

TABLES = ("embed.weight",)


def convolved(w: Weights, k: int, x: Tensor) -> Tensor:
    """Filter k along x: f[b, n, d] → f[b, m, n - width + 1]."""
    return F.conv1d(x.transpose(1, 2), w[f"filters.{k}.weight"], w[f"filters.{k}.bias"])


class OneText(OneByOne):
    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters, TABLES)

    def one(self, text: Text) -> Tensor:
        w = self.weights
        x = look_up(w["embed.weight"], text.characters)[None]
        found = [F.relu(convolved(w, k, x)[0]).amax(dim=1) for k in range(len(WIDTHS))]
        logits = F.linear(torch.cat(found), w["out.weight"], w["out.bias"])
        return F.cross_entropy(logits, torch.tensor(text.label))


class Padded(TorchTrainer):
    name = "pytorch, padded"

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters, TABLES)

    def loss(self, examples: Sequence[Text]) -> Tensor:
        w = self.weights
        lengths = np.array([len(text.characters) for text in examples])
        is_character = np.arange(lengths.max()) < lengths[:, None]
        characters = np.zeros(is_character.shape, np.int64)
        characters[is_character] = np.concatenate([text.characters for text in examples])
        x = F.embedding(torch.from_numpy(characters), w["embed.weight"], sparse=True)
        found = []
        for k, width in enumerate(WIDTHS):
            beyond = torch.from_numpy(~is_character[:, width - 1 :])
            found.append(F.relu(convolved(w, k, x)).masked_fill(beyond[:, None], 0.0).amax(dim=2))
        logits = F.linear(torch.cat(found, dim=1), w["out.weight"], w["out.bias"])
        return F.cross_entropy(logits, torch.tensor([text.label for text in examples]), reduction="sum")


TWINS = (OneText, Padded)
