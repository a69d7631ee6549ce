"""Formulas in PyTorch, one after the other."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmarks.decisions.formulas import N_STEPS, POINTS, Formula, value
from benchmarks.decisions.program import Outcome
from benchmarks.decisions.twin import TorchTwin


class Twin(TorchTwin):
    def run(self, formula: Formula, rng: np.random.Generator) -> Outcome:
        x, wanted = self.tensor(POINTS), self.tensor(formula.values)
        constants: list[Tensor] = [self.tensor(c) for c in formula.constants]
        rate, least, trace, tried = 0.1, np.inf, [], constants
        for _ in range(N_STEPS):
            tried = [c.detach().requires_grad_() for c in tried]
            error = ((value(formula.tree, x, tried, torch) - wanted) ** 2).mean()
            slopes = torch.autograd.grad(error, tried)
            now = error.item()
            trace.append(now)
            if now < least:
                constants, kept, least, rate = tried, slopes, now, 1.2 * rate
            else:
                rate *= 0.5
            tried = [c.detach() - rate * slope for c, slope in zip(constants, kept, strict=True)]
        return None, (trace, [c.detach() for c in constants], list(kept))
