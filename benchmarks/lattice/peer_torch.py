"""Lattice LSTM training step by hand in PyTorch, with autograd: all sentences advance together, position by position.

As in the NumPy program, what depends on characters and words alone is computed for all at once, a word's cell and its
share of the mixture where the word begins, and logits after the recurrence. Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.lattice.data import Lattice
from benchmarks.lattice.time_plan import TimePlan, plan_time
from benchmarks.torch_trainer import TorchTrainer
from benchmarks.workload import Parameters

_Ending = tuple[Tensor, Tensor, Tensor]
"""Where words end, counted in their position; their shares; their cells times their shares."""


class TorchLatticeLSTM(TorchTrainer):
    """The program with autograd."""

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters, tables=("char_table", "word_table"))

    def loss(self, examples: Sequence[Lattice]) -> Tensor:
        w, plan = self.weights, plan_time(examples)
        e = F.embedding(torch.from_numpy(plan.characters), w["char_table"], sparse=True)
        gates = F.linear(e, w["char_w"], w["char_b"])
        d = F.embedding(torch.from_numpy(plan.words), w["word_table"], sparse=True)
        words = F.linear(d, w["word_w"], w["word_b"])
        logits = F.linear(self._states(plan, gates, words, self._links(plan, e)), w["out_w"], w["out_b"])
        return F.cross_entropy(logits, torch.from_numpy(plan.tags), reduction="sum")

    def _links(self, plan: TimePlan, e: Tensor) -> Tensor:
        """What the vector of its last character says to the share of every word."""
        merging, link_of = np.unique(plan.ends, return_inverse=True)
        links = F.linear(e.index_select(0, torch.from_numpy(merging)), self.weights["link_w"], self.weights["link_b"])
        return links.index_select(0, torch.from_numpy(link_of))

    def _states(self, plan: TimePlan, gates: Tensor, words: Tensor, links: Tensor) -> Tensor:
        """h of all characters."""
        w, steps = self.weights, plan.steps
        of_step = gates.split([step.last - step.first for step in steps])
        n_words = [step.words[1] - step.words[0] for step in steps]
        words_of_step, links_of_step = words.split(n_words), links.split(n_words)
        first_of = torch.from_numpy(np.repeat([step.first for step in steps], n_words))
        begins_of_step = (torch.from_numpy(plan.begins) - first_of).split(n_words)
        step_of_row = np.repeat(np.arange(len(steps)), [step.last - step.first for step in steps])
        ends = torch.from_numpy(plan.ends - np.array([step.first for step in steps])[step_of_row[plan.ends]])
        ending: list[list[_Ending]] = [[] for _ in steps]
        states: list[Tensor] = []
        c: Tensor | None = None
        for t, step in enumerate(steps):
            n, gate = step.last - step.first, of_step[t]
            if t:
                gate = torch.addmm(gate, states[-1][:n], w["char_h"].t())
            i, o, u = gate.chunk(3, dim=1)
            i, o, u = torch.sigmoid(i), torch.sigmoid(o), _tanh(u)
            plain = i * u if c is None else torch.lerp(c[:n], u, i)
            c = self._merged(i, u, plain, ending[t], step.merging) if ending[t] else plain
            h = o * _tanh(c)
            states.append(h)
            if n_words[t]:
                begins = begins_of_step[t]
                gate = torch.addmm(words_of_step[t], h.index_select(0, begins), w["word_h"].t())
                i_f, u = gate.split([2 * h.shape[1], h.shape[1]], dim=1)
                i, f = torch.sigmoid(i_f).chunk(2, dim=1)
                cell = f * c.index_select(0, begins) + i * _tanh(u)
                share = torch.sigmoid(torch.addmm(links_of_step[t], cell, w["link_c"].t())).exp()
                pieces = [x.split([b - a for a, b in step.spans]) for x in (share, cell * share)]
                for (a, b), *parts in zip(step.spans, *pieces, strict=True):
                    end = int(step_of_row[plan.ends[a]])
                    ending[end].append((ends[a:b], parts[0], parts[1]))
        return torch.cat(states)

    @staticmethod
    def _merged(i: Tensor, u: Tensor, plain: Tensor, ending: list[_Ending], merging: np.ndarray) -> Tensor:
        """c of a position where words end: of the rows `merging` the mixture, of the others as it is."""
        rows, shares, cells = (torch.cat(parts) for parts in zip(*ending, strict=True))
        own = i.exp()
        total = own.index_add(0, rows, shares)
        mixed = (own * u).index_add(0, rows, cells)
        is_merging = torch.zeros(len(i), 1, dtype=torch.bool)
        is_merging[torch.from_numpy(merging)] = True
        return torch.where(is_merging, mixed / total, plain)


def _tanh(x: Tensor) -> Tensor:
    """tanh through the sigmoid: torch's own takes about four times as long."""
    return torch.sigmoid(x * 2.0).mul(2.0).sub(1.0)
