"""The same posteriors in PyTorch, one after the other; the sampler is the same Python, which only asks for numbers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmarks.decisions.nuts import N_DRAWS, Schools, State, dot, sample, total
from benchmarks.decisions.program import Outcome
from benchmarks.decisions.twin import TorchTwin

Data = tuple[Tensor, Tensor]


class Twin(TorchTwin):
    def log_density(self, q: list[Tensor], effects: Tensor, errors: Tensor) -> Tensor:
        w, mu, log_tau, eta = self.weights, q[0][0], q[0][1], q[1]
        misfit = (effects - mu - log_tau.exp() * eta) / errors
        prior = (mu * torch.exp(-w["log_width"])) ** 2 + (log_tau - w["center"]) ** 2
        return -0.5 * (prior + total(eta * eta + misfit * misfit)) - w["log_width"]

    def state(self, q: list[Tensor], p: list[Tensor], half: float, data: Data) -> State:
        """The state at q, with a momentum that is still to be pushed by this half of a step."""
        q = [part.detach().requires_grad_() for part in q]
        value = self.log_density(q, *data)
        g = list(torch.autograd.grad(value, q))
        p = [part + half * slope for part, slope in zip(p, g, strict=True)]
        return State(q, p, g, value.detach() - 0.5 * dot(p, p))

    def leapfrog(self, at: State, step: float, data: Data) -> State:
        p = [part + 0.5 * step * slope for part, slope in zip(at.p, at.g, strict=True)]
        return self.state([q.detach() + step * part for q, part in zip(at.q, p, strict=True)], p, 0.5 * step, data)

    def numbers(self, *values: Tensor) -> list[float]:
        return [value.item() for value in values]

    def run(self, schools: Schools, rng: np.random.Generator) -> Outcome:
        data = self.tensor(schools.effects), self.tensor(schools.errors)
        q = [self.tensor(np.zeros(2)), self.tensor(np.zeros(schools.effects.shape))]
        depths = []
        for _ in range(N_DRAWS):
            p = [self.tensor(rng.normal(size=tuple(part.shape))) for part in q]
            draw, depth = sample(self, self.state(q, p, 0.0, data), schools.step, data, rng)
            q = [part.detach() for part in draw.q]
            depths.append(depth)
        return -self.log_density(q, *data), (depths, q)
