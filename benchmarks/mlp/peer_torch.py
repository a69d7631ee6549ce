"""MLP training step by hand in PyTorch, with autograd. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.mlp.data import Example
from benchmarks.torch_trainer import TorchTrainer


class TorchMLP(TorchTrainer):
    """One training program; see `benchmarks.workload.Trainer`."""

    def loss(self, examples: Sequence[Example]) -> Tensor:
        w = self.weights
        vectors, classes = zip(*examples, strict=True)
        h = torch.tanh(F.linear(torch.from_numpy(np.stack(vectors)), w["w1"], w["b1"]))
        h = torch.tanh(F.linear(h, w["w2"], w["b2"]))
        logits = F.linear(h, w["w3"], w["b3"])
        return F.cross_entropy(logits, torch.tensor(classes), reduction="sum")
