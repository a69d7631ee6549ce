"""Functions of sets in PyTorch: one by one, and padded. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.lengths.sets import WIDTH, Members
from benchmarks.lengths.transformer_torch import linear
from benchmarks.torch_trainer import OneByOne, TorchTrainer


class OneSet(OneByOne):
    def one(self, members: Members) -> Tensor:
        w = self.weights
        rows = torch.from_numpy(members.rows).to(w["out.bias"].dtype)
        h = linear(w, "second", torch.relu(linear(w, "first", rows)))
        weights = torch.softmax(torch.tanh(linear(w, "weigh", h)) @ w["weight.weight"].T, dim=0)
        pooled = torch.cat([h.sum(dim=0), h.mean(dim=0), h.amax(dim=0), (weights * h).sum(dim=0)])
        found = linear(w, "out", torch.relu(linear(w, "join", pooled)))
        return (found - members.target).square().sum()


class Padded(TorchTrainer):
    name = "pytorch, padded"

    def loss(self, examples: Sequence[Members]) -> Tensor:
        w = self.weights
        dtype = w["out.bias"].dtype
        lengths = np.array([len(members.rows) for members in examples])
        is_member = np.arange(lengths.max()) < lengths[:, None]
        rows = np.zeros((*is_member.shape, WIDTH), np.float32)
        rows[is_member] = np.concatenate([members.rows for members in examples])
        beyond = torch.from_numpy(~is_member)[:, :, None]
        h = linear(w, "second", torch.relu(linear(w, "first", torch.from_numpy(rows).to(dtype))))
        scores = torch.tanh(linear(w, "weigh", h)) @ w["weight.weight"].T
        weights = torch.softmax(scores.masked_fill(beyond, -torch.inf), dim=1)
        total = h.masked_fill(beyond, 0.0).sum(dim=1)
        mean = total / torch.from_numpy(lengths).to(dtype)[:, None]
        pooled = [total, mean, h.masked_fill(beyond, -torch.inf).amax(dim=1), (weights * h).sum(dim=1)]
        found = linear(w, "out", torch.relu(linear(w, "join", torch.cat(pooled, dim=1))))
        return (found[:, 0] - torch.tensor([members.target for members in examples], dtype=dtype)).square().sum()


TWINS = (OneSet, Padded)
