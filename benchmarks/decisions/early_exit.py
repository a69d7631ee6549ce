"""Early exit: a deep classifier that stops at the first layer that is confident.

After Teerapittayanon, McDanel & Kung, "BranchyNet", ICPR 2016, with the probability of the likeliest class as
confidence. The loss is the sum over the exits that were passed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn
from benchmarks.decisions.program import Outcome

N_INPUTS, N_CLASSES, N_LAYERS, CONFIDENT = 16, 4, 8, 0.5

Example = tuple[np.ndarray, int]


def examples(n: int, seed: int) -> list[Example]:
    """Points and their classes."""
    rng = np.random.default_rng(seed)
    return [(3.0 * rng.normal(size=N_INPUTS), int(rng.integers(N_CLASSES))) for _ in range(n)]


class Model(nn.Module):
    def __init__(self, dim: int = 32) -> None:
        self.first = nn.Linear(N_INPUTS, dim)
        self.layers = [nn.Linear(dim, dim) for _ in range(N_LAYERS)]
        self.exits = [nn.Linear(dim, N_CLASSES) for _ in range(N_LAYERS)]

    @ab.cell
    def layer(self, layer: Any, leave: Any, h: Any, label: int) -> Any:
        """What the next layer sees, the loss of an exit here, and how confident it would be."""
        h = h + ab.tanh(layer(h))
        logits = 4.0 * leave(h)
        return h, ab.cross_entropy(logits, label), ab.max(ab.softmax(logits))

    def run(self, example: Example) -> Outcome:
        x, label = example
        h = ab.tanh(self.first(ab.tensor(x)))
        losses = []
        for layer, leave in zip(self.layers, self.exits, strict=True):
            h, loss, confidence = self.layer(layer, leave, h, label)
            losses.append(loss)
            if confidence > CONFIDENT:
                break
        return ab.sum(losses), (len(losses), confidence.detach())
