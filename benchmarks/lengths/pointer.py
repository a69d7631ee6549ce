"""Pointer network: Vinyals, Fortunato & Jaitly, "Pointer networks", NIPS 2015, eq. 3.

An LSTM reads points of the plane; another points at them in the order of their angle, each step at one of as many as
there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import autobatch as ab
from autobatch import nn
from benchmarks.twins import Program


@dataclass(frozen=True, slots=True)
class Points:
    """Points f32[n, 2], and their numbers in the order of their angle."""

    places: np.ndarray
    order: list[int]


def points(n: int) -> list[Points]:
    """Sets of 1 to 10 points."""
    rng = np.random.default_rng(12)
    drawn = []
    for _ in range(n):
        places = rng.normal(size=(int(rng.integers(1, 11)), 2)).astype(np.float32)
        drawn.append(Points(places, np.argsort(np.arctan2(places[:, 1], places[:, 0])).tolist()))
    return drawn


class PointerNetwork(nn.Module):
    def __init__(self, dim: int) -> None:
        self.embed = nn.Linear(2, dim)
        self.reader = nn.LSTMCell(dim, dim)
        self.writer = nn.LSTMCell(dim, dim)
        self.of_keys = nn.Linear(dim, dim, bias=False)
        self.of_state = nn.Linear(dim, dim, bias=False)
        self.score = ab.Parameter(self.of_state.weight.value[0])
        self.start = ab.Parameter(self.of_state.weight.value[1])

    def loss(self, example: Points) -> ab.Tensor:
        """Cross entropy of the order, point by point."""
        places = self.embed(ab.tensor(example.places))
        states, state = [], None
        for place in places:
            state = self.reader(place, state)
            states.append(state[0])
        keys = self.of_keys(ab.stack(states))
        losses, previous = [], self.start
        for number in example.order:
            state = self.writer(previous, state)
            scores = ab.tanh(keys + self.of_state(state[0])) @ self.score
            losses.append(ab.cross_entropy(scores, number))
            previous = places[number]
        return ab.sum(losses)


PROGRAM = Program("pointer network", PointerNetwork, points)
