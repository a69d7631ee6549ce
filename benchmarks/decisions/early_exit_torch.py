"""Early exit in PyTorch, one example after the other."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.decisions.early_exit import CONFIDENT, N_LAYERS, Example
from benchmarks.decisions.program import Outcome
from benchmarks.decisions.twin import TorchTwin


class Twin(TorchTwin):
    def run(self, example: Example, rng: np.random.Generator) -> Outcome:
        x, label = example
        h = torch.tanh(self.linear("first", self.tensor(x)))
        losses = []
        for k in range(N_LAYERS):
            h = h + torch.tanh(self.linear(f"layers.{k}", h))
            logits = 4.0 * self.linear(f"exits.{k}", h)
            losses.append(F.cross_entropy(logits, torch.tensor(label)))
            confidence = torch.softmax(logits, -1).max()
            if confidence > CONFIDENT:
                break
        return torch.stack(losses).sum(), (len(losses), confidence.detach())
