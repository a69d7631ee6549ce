"""REINFORCE in PyTorch, one example after the other."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.decisions.program import Outcome
from benchmarks.decisions.reinforce import END, LONGEST, Example, draw, reward
from benchmarks.decisions.twin import TorchTwin


class Twin(TorchTwin):
    def run(self, wanted: Example, rng: np.random.Generator) -> Outcome:
        h = self.tensor(np.zeros((1, self.weights["out.weight"].shape[1])))
        for word in wanted:
            h = self.gru("reader", self.row("word", word), h)
        written, chosen = [END], []
        while len(written) <= LONGEST:
            h = self.gru("writer", self.row("word", written[-1]), h)
            scores = torch.log_softmax(self.linear("out", h)[0], -1)
            written.append(draw(np.exp(scores.detach().numpy()), rng))
            chosen.append(scores[written[-1]])
            if written[-1] == END:
                break
        gain = reward(written[1:], wanted) - self.weights["baseline"]
        return gain * gain - gain.detach() * torch.stack(chosen).sum(), written[1:]
