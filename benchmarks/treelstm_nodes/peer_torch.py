"""The Tree-LSTM with a loss on every node in PyTorch: the two programs for the roots, judging all nodes.

Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.treelstm.data import Tree
from benchmarks.treelstm.level_plan import LevelPlan, plan_levels
from benchmarks.treelstm.peer_torch import Levels, TorchTreeLSTM, hidden_states, order_by_parents, state


class TorchNodes(TorchTreeLSTM):
    """The program with autograd; logits of all nodes are one product."""

    def loss(self, examples: Sequence[Tree]) -> Tensor:
        """The summed loss of a minibatch."""
        return self._loss(plan_levels(examples, all_labels=True))

    def _loss(self, plan: LevelPlan) -> Tensor:
        w, parents = self.weights, order_by_parents(plan)
        words = F.embedding(torch.from_numpy(plan.words[parents.leaves]), w["table"], sparse=True)
        *levels, _ = hidden_states(w, parents, *state(F.linear(words, w["leaf_w"], w["leaf_b"])))
        logits = F.linear(torch.cat(levels), w["out_w"], w["out_b"])
        return F.cross_entropy(logits, torch.from_numpy(plan.labels[parents.order]), reduction="sum")


class TorchNodesOwnBackward(TorchNodes):
    """The program with the backward pass of the recursion written by hand."""

    name = "pytorch, own backward"

    def _loss(self, plan: LevelPlan) -> Tensor:
        w = self.weights
        words = F.embedding(torch.from_numpy(plan.words), w["table"], sparse=True)
        h, c = state(F.linear(words, w["leaf_w"], w["leaf_b"]))
        inner = (w[name] for name in ("node_w", "node_b", "forget_l", "forget_r", "forget_b"))
        logits = F.linear(Levels.apply(plan, True, h, c, *inner), w["out_w"], w["out_b"])
        return F.cross_entropy(logits, torch.from_numpy(plan.labels[plan.node_at]), reduction="sum")
