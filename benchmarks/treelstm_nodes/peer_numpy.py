"""The Tree-LSTM with a loss on every node in plain NumPy: the program for the roots, judging all slots.

Logits of all nodes are one product. Their gradients are in the slots before the levels begin; what comes from the
parents is added there, from memory that stays in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.treelstm.data import Tree
from benchmarks.treelstm.level_plan import LevelPlan, plan_levels
from benchmarks.treelstm.peer_numpy import NumpyTreeLSTM


class NumpyNodes(NumpyTreeLSTM):
    """The program of the Tree-LSTM with other losses."""

    def _plan(self, trees: Sequence[Tree]) -> LevelPlan:
        plan = plan_levels(trees, all_labels=True)
        return replace(plan, labels=plan.labels[plan.node_at])

    def _judged(self, plan: LevelPlan) -> slice:
        return slice(None)

    def _children_reverse(self, dz: np.ndarray, dh_pairs: np.ndarray) -> None:
        dim = self.dim
        from_parents = self._room("from_parents", len(dz), 2 * dim)
        np.matmul(dz[:, : 4 * dim], self.weights["left"], out=from_parents[:, :dim])
        np.matmul(dz[:, dim:], self.weights["right"], out=from_parents[:, dim:])
        dh_pairs += from_parents
