"""The differential equation in PyTorch, one example after the other."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmarks.decisions.ode import ABSOLUTE, ERROR, NODES, RELATIVE, ROWS, Example, factor
from benchmarks.decisions.program import Outcome
from benchmarks.decisions.twin import TorchTwin


class Twin(TorchTwin):
    def slope(self, y: Tensor, t: float) -> Tensor:
        inner = self.linear("inner", torch.cat([y, self.tensor([t])]))
        return self.linear("outer", torch.tanh(3.0 * inner)) - 0.5 * y

    def step(self, y: Tensor, slope: Tensor, t: float, h: float) -> tuple[Tensor, Tensor, Tensor]:
        slopes = [slope]
        for node, row in zip(NODES[1:], ROWS, strict=True):
            end = y + h * sum(weight * s for weight, s in zip(row, slopes, strict=True) if weight)
            slopes.append(self.slope(end, t + node * h))
        wrong = h * sum(weight * s for weight, s in zip(ERROR, slopes, strict=True) if weight)
        allowed = ABSOLUTE + RELATIVE * torch.maximum(y.abs(), end.abs())
        return end, slopes[-1], ((wrong / allowed) ** 2).mean().sqrt()

    def run(self, example: Example, rng: np.random.Generator) -> Outcome:
        begin, duration, wanted = example
        y, t, h = self.tensor(begin), 0.0, 0.05
        slope, sizes = self.slope(y, 0.0), []
        while t < duration:
            h = min(h, duration - t)
            end, slope_there, wrong = self.step(y, slope, t, h)
            error = wrong.item()
            sizes.append(h)
            if error <= 1.0:
                t = duration if h == duration - t else t + h
                y, slope = end, slope_there
            h *= factor(error)
        return ((y - self.tensor(wanted)) ** 2).sum(), sizes
