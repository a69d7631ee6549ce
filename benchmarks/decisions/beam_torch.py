"""Beam search in PyTorch, one sentence after the other; the sentences of a beam are rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmarks.decisions.beam import END, Example, risk
from benchmarks.decisions.program import Outcome
from benchmarks.decisions.twin import TorchTwin

Found = tuple[list[int], Tensor]
"""Words and log-probability."""


class Twin(TorchTwin):
    def __init__(self, state: dict[str, np.ndarray], width: int) -> None:
        super().__init__(state)
        self.width = width

    def write(self, words: list[int], scores: Tensor, h: Tensor, states: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """One step of all sentences of the beam."""
        w = self.weights
        energies = torch.tanh(self.linear("query", h)[:, None] + keys) @ w["energy"]
        context = torch.softmax(energies, 1) @ states
        h = self.gru("writer", torch.cat([w["target.weight"][words], context], 1), h)
        logits = self.linear("out", torch.cat([h, context], 1))
        return scores[:, None] + torch.log_softmax(logits, 1), h

    def search(self, words: list[int]) -> list[Found]:
        h = self.tensor(np.zeros((1, self.weights["key.weight"].shape[0])))
        rows = []
        for vector in self.weights["source.weight"][words].split(1):
            h = self.gru("reader", vector, h)
            rows.append(h)
        states = torch.cat(rows)
        keys = self.linear("key", states)
        live, scores, done = [[END]], self.tensor([0.0]), []
        for _ in range(len(words) + 2):
            table, h = self.write([one[-1] for one in live], scores, h, states, keys)
            best = torch.topk(table.flatten(), self.width - len(done))
            rows_of, words_of = (
                part.tolist() for part in (best.indices // table.shape[1], best.indices % table.shape[1])
            )
            grown = [[*live[row], word] for row, word in zip(rows_of, words_of, strict=True)]
            done += [(one, score) for one, score in zip(grown, best.values, strict=True) if one[-1] == END]
            kept = [k for k, one in enumerate(grown) if one[-1] != END]
            live = [grown[k] for k in kept]
            if not live:
                break
            h, scores = h[[rows_of[k] for k in kept]], best.values[kept]
        done += zip(live, scores, strict=True) if live else []
        return sorted(done, key=lambda one: -one[1].item())

    def translate(self, example: Example, rng: np.random.Generator) -> Outcome:
        with torch.no_grad():
            return None, [(words[1:], score.item()) for words, score in self.search(example[0])]

    def run(self, example: Example, rng: np.random.Generator) -> Outcome:
        found = self.search(example[0])
        shares = torch.softmax(torch.stack([score for _, score in found]), 0)
        risks = self.tensor([risk(words[1:], example[1]) for words, _ in found])
        return (shares * risks).sum(), [(words[1:], score.item()) for words, score in found]
