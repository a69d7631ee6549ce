"""Adam in plain NumPy for the programs by hand (Kingma & Ba 2015, algorithm 1; 1e-3, 0.9, 0.999, 1e-8).

What makes it fast: all dense weights are one vector, worked on in blocks that stay in the cache; the moments are kept
without their constant factors, m / (1 − β₁) and v / (1 − β₂), which saves two passes; nothing is allocated. Of a table
that is only looked up, the rows met are updated, as `torch.optim.SparseAdam` does.

    adam = Adam({"w": w, "b": b, "table": table}, tables=("table",))
    np.matmul(x.T, dy, out=adam.gradients["w"])           # weights and gradients are views, to be written in place
    adam.step({"table": (rows, row_gradients)})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

LEARNING_RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8
_BLOCK = 1 << 14  # numbers in a block: four arrays of them fit a second-level cache

Rows = tuple[np.ndarray, np.ndarray]
"""Row numbers, each once, and a gradient for each of them."""


class Adam:
    """Weights, gradients and moments of a model.

    weights: name → its array: a view into one vector, or the table itself
    gradients: name → where its gradient is written; tables have none here
    """

    def __init__(self, parameters: Mapping[str, np.ndarray], tables: Sequence[str] = ()) -> None:
        dense = {name: value for name, value in parameters.items() if name not in tables}
        size = sum(value.size for value in dense.values())
        self._vectors = [np.zeros(size, np.float32) for _ in range(4)]  # weights, gradients, both moments
        self.weights, self.gradients = (_views(vector, dense) for vector in self._vectors[:2])
        for name, value in dense.items():
            self.weights[name][...] = value
        self._tables = {
            name: (parameters[name].copy(), *np.zeros((2, *parameters[name].shape), np.float32)) for name in tables
        }
        self.weights |= {name: table for name, (table, _, _) in self._tables.items()}
        self._scratch = np.empty(_BLOCK, np.float32)
        self._n_steps = 0

    def step(self, rows: Mapping[str, Rows] | None = None) -> None:
        """Update by `gradients`, and the tables by the rows given."""
        self._n_steps += 1
        weights, gradients, moment1, moment2 = self._vectors
        for start in range(0, weights.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            scratch = self._scratch[: weights.size - start]
            weights[block] -= self._change(gradients[block], moment1[block], moment2[block], scratch)
        for name, (numbers, gradient) in (rows or {}).items():
            table, moment1, moment2 = self._tables[name]
            m, v = moment1[numbers], moment2[numbers]
            table[numbers] -= self._change(gradient, m, v, np.empty_like(gradient))
            moment1[numbers], moment2[numbers] = m, v

    def _change(self, gradient: np.ndarray, m: np.ndarray, v: np.ndarray, change: np.ndarray) -> np.ndarray:
        """Update the moments in place; `change` becomes what to subtract."""
        root = ((1.0 - BETA2) / (1.0 - BETA2**self._n_steps)) ** 0.5  # of the true moment: sqrt(v) root
        rate = LEARNING_RATE * (1.0 - BETA1) / (1.0 - BETA1**self._n_steps)
        m *= BETA1
        m += gradient
        np.multiply(gradient, gradient, out=change)
        v *= BETA2
        v += change
        np.sqrt(v, out=change)
        change += EPSILON / root
        np.divide(m, change, out=change)
        change *= rate / root
        return change


def merged_rows(numbers: np.ndarray, gradients: np.ndarray) -> Rows:
    """Rows that may repeat → each once, gradients of equal rows added."""
    order = np.argsort(numbers, kind="stable")
    in_order = numbers[order]
    starts = np.flatnonzero(np.r_[True, in_order[1:] != in_order[:-1]])
    return in_order[starts], np.add.reduceat(gradients[order], starts, axis=0)


def _views(vector: np.ndarray, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    views, start = {}, 0
    for name, array in arrays.items():
        views[name] = vector[start : start + array.size].reshape(array.shape)
        start += array.size
    return views
