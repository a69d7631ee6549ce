"""Functions of sets: sum, mean and maximum of what each member says, and a mean weighted by attention.

After Zaheer et al., "Deep sets", NIPS 2017, and Ilse, Tomczak & Welling, "Attention-based deep multiple instance
learning", ICML 2018, eq. 8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import autobatch as ab
from autobatch import nn
from benchmarks.twins import Program

WIDTH = 6


@dataclass(frozen=True, slots=True)
class Members:
    """A set as rows f32[n, 6] in any order, and a number to be predicted."""

    rows: np.ndarray
    target: float


def sets(n: int) -> list[Members]:
    """Sets of 1 to 30 members; the number is the largest norm."""
    rng = np.random.default_rng(15)
    drawn = [rng.normal(size=(int(rng.integers(1, 31)), WIDTH)).astype(np.float32) for _ in range(n)]
    return [Members(rows, float(np.linalg.norm(rows, axis=1).max())) for rows in drawn]


class DeepSets(nn.Module):
    def __init__(self, dim: int) -> None:
        self.first, self.second = nn.Linear(WIDTH, dim), nn.Linear(dim, dim)
        self.weigh, self.weight = nn.Linear(dim, dim), nn.Linear(dim, 1, bias=False)
        self.join, self.out = nn.Linear(4 * dim, dim), nn.Linear(dim, 1)

    def forward(self, rows: np.ndarray) -> ab.Tensor:
        h = self.second(ab.relu(self.first(ab.tensor(rows))))
        weights = ab.softmax(self.weight(ab.tanh(self.weigh(h))), axis=0)
        pooled = [h.sum(axis=0), h.mean(axis=0), h.max(axis=0), (weights * h).sum(axis=0)]
        return self.out(ab.relu(self.join(ab.concat(pooled))))

    def loss(self, members: Members) -> ab.Tensor:
        """Squared error of the number."""
        return ab.squared_error(self(members.rows), ab.tensor([members.target]))


PROGRAM = Program("set pooling", DeepSets, sets, batch=64)
