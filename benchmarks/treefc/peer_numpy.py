"""TreeFC in plain NumPy, level-batched by hand.

Rows of all levels lie one after the other, leaves first, trees side by side: two neighbours are the operand of a node
of the next level, so nothing is gathered, and the gradient of the weights is one product over all levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from benchmarks.adam import Adam, Rows, merged_rows
from benchmarks.treefc.data import Leaves
from benchmarks.workload import Parameters


class NumpyTreeFC:
    """One training program; see `benchmarks.workload.Trainer`."""

    name = "numpy"

    def __init__(self, parameters: Parameters) -> None:
        self.dim = parameters["out_w"].shape[1]
        self.adam = Adam(parameters, tables=("table",))
        self.h = self.dh = np.empty((0, self.dim), np.float32)

    def step(self, examples: Sequence[Leaves]) -> float:
        """One training step. Returns the summed loss before the update."""
        loss, rows = self._differentiate(examples)
        self.adam.step({"table": rows})
        return loss

    def loss_and_gradients(self, examples: Sequence[Leaves]) -> tuple[float, Parameters]:
        """The summed loss and its dense gradients; nothing is updated."""
        loss, (numbers, gradient) = self._differentiate(examples)
        table = np.zeros_like(self.adam.weights["table"])
        table[numbers] = gradient
        return loss, {"table": table, **{name: value.copy() for name, value in self.adam.gradients.items()}}

    def _differentiate(self, examples: Sequence[Leaves]) -> tuple[float, Rows]:
        weights, gradients, n_trees = self.adam.weights, self.adam.gradients, len(examples)
        words = np.array([example.words for example in examples]).ravel()
        bounds = [0]
        while (width := len(words) >> len(bounds) - 1) >= n_trees:
            bounds.append(bounds[-1] + width)
        levels = list(pairwise(bounds[1:]))  # rows of each inner level
        if len(self.h) < bounds[-1]:
            self.h, self.dh = np.empty((2, bounds[-1], self.dim), np.float32)
        h, dh = self.h[: bounds[-1]], self.dh[: bounds[-1]]
        pairs, dpairs = (rows[:-n_trees].reshape(-1, 2 * self.dim) for rows in (h, dh))

        node_w = np.ascontiguousarray(weights["node_w"].T)
        np.take(weights["table"], words, axis=0, out=h[: len(words)], mode="clip")
        for first, last in levels:
            z = h[first:last]
            np.matmul(pairs[first - len(words) : last - len(words)], node_w, out=z)
            z += weights["node_b"]
            np.maximum(z, 0.0, out=z)

        roots = h[-n_trees:]
        logits = roots @ weights["out_w"].T
        logits += weights["out_b"]
        logits -= logits.max(axis=1, keepdims=True)
        exponentials = np.exp(logits)
        total = exponentials.sum(axis=1, keepdims=True)
        each, labels = np.arange(n_trees), np.array([example.label for example in examples])
        loss = float(np.log(total).sum() - logits[each, labels].sum())
        d_logits = exponentials / total
        d_logits[each, labels] -= 1.0

        np.matmul(d_logits.T, roots, out=gradients["out_w"])
        np.sum(d_logits, axis=0, out=gradients["out_b"])
        np.matmul(d_logits, weights["out_w"], out=dh[-n_trees:])
        for first, last in reversed(levels):
            dz = dh[first:last]
            dz *= h[first:last] > 0.0
            np.matmul(dz, weights["node_w"], out=dpairs[first - len(words) : last - len(words)])
        dz = dh[len(words) :]
        np.matmul(dz.T, pairs, out=gradients["node_w"])
        np.matmul(np.ones(len(dz), np.float32), dz, out=gradients["node_b"])
        return loss, merged_rows(words, dh[: len(words)])
