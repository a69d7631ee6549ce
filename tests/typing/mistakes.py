"""Mistakes that type checkers find: each line that has one says so."""

from __future__ import annotations

import autobatch as ab
from autobatch import nn


class Scorer(nn.Module):
    def __init__(self) -> None:
        self.out = nn.Linear(2, 1)

    def forward(self, x: ab.Tensor, times: int) -> ab.Tensor:
        self.out(x, times)  # error
        return x * times

    @ab.cell
    def pair(self, x: ab.Tensor) -> tuple[ab.Tensor, ab.Tensor]:
        return x, x


@ab.no_grad()
def name(x: ab.Tensor) -> str:
    return str(x)


def mistakes(scorer: Scorer, x: ab.Tensor) -> None:
    scorer(x)  # error
    scorer("x", 1)  # error
    scorer.pair(x, x)  # error
    ab.tanh(scorer.pair(x))  # error
    ab.mean(ab.map(scorer.pair, [x]))  # error
    ab.map(scorer, [x])  # error
    ab.map(scorer.pair, ["x"])  # error
    ab.map(scorer.pair, [x])[0].backward()  # error
    print(x + "1", 1)  # error
    print(x + None)  # error
    print(x["word"])  # error
    x.backwards()  # error
    ab.grad(name)(x)  # error
    name(1.0)  # error
    nn.GRUCell(2, 2)(x, (x, x))  # error
    ab.stack(3)  # error
    scorer.trainning = False  # error
    scorer.out.weight.gard = None  # error
    number: int = x.mean()  # error
    print(number)
