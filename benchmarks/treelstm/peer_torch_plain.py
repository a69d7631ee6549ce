"""Tree-LSTM training step in PyTorch as a careful user writes it: a level at a time, states gathered, autograd.

The states that no parent has read yet wait in one tensor. Every level gathers its children from there with one
`index_select` for h and one for c, and what is left waits on, beside the level's own states. Importing this module
imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.treelstm.level_plan import LevelPlan
from benchmarks.treelstm.peer_torch import TorchTreeLSTM


class PlainTorchTreeLSTM(TorchTreeLSTM):
    """The program with autograd, and one gather a level."""

    name = "pytorch, plain"

    def _loss(self, plan: LevelPlan) -> Tensor:
        w = self.weights
        words = F.embedding(torch.from_numpy(plan.words), w["table"], sparse=True)
        i, o, u = F.linear(words, w["leaf_w"], w["leaf_b"]).chunk(3, dim=1)
        c = torch.sigmoid(i) * torch.tanh(u)
        h = torch.sigmoid(o) * torch.tanh(c)
        for order, n_read in _gathers(plan):
            h, c = h.index_select(0, order), c.index_select(0, order)
            if n_read == 0:
                break
            children, left, right = h[:n_read].view(n_read // 2, -1), slice(0, n_read, 2), slice(1, n_read, 2)
            i, o, u = F.linear(children, w["node_w"], w["node_b"]).chunk(3, dim=1)
            f1 = torch.sigmoid(F.linear(h[left], w["forget_l"], w["forget_b"]))
            f2 = torch.sigmoid(F.linear(h[right], w["forget_r"], w["forget_b"]))
            new_c = torch.sigmoid(i) * torch.tanh(u) + f1 * c[left] + f2 * c[right]
            new_h = torch.sigmoid(o) * torch.tanh(new_c)
            h, c = torch.cat([new_h, h[n_read:]]), torch.cat([new_c, c[n_read:]])
        logits = F.linear(h, w["out_w"], w["out_b"])
        return F.cross_entropy(logits, torch.from_numpy(plan.labels), reduction="sum")


def _gathers(plan: LevelPlan) -> Iterator[tuple[Tensor, int]]:
    """For every level, the order of the waiting rows that puts its children first, and how many they are.

    The last one puts the roots in their order, and reads none.
    """
    waiting = np.arange(plan.n_leaves)
    place = np.empty_like(plan.node_at)
    for first, last in plan.levels():
        place[waiting] = np.arange(len(waiting))
        read = place[plan.node_at[2 * first : 2 * last]]
        left = np.ones(len(waiting), bool)
        left[read] = False
        rest = np.flatnonzero(left)
        yield torch.from_numpy(np.concatenate([read, rest])), len(read)
        waiting = np.concatenate([plan.n_leaves + np.arange(first, last), waiting[rest]])
    place[waiting] = np.arange(len(waiting))
    yield torch.from_numpy(place[plan.node_at[2 * plan.n_inner :]]), 0
