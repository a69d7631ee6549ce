"""ListOps: a tree model learns to work out nested lists such as [MAX 2 9 [MIN 4 7 ] 0 ] (9).

    python examples/listops.py --steps 2000

Nangia & Bowman, "ListOps: a diagnostic dataset for latent tree learning", NAACL student research workshop, 2018. An
expression is a digit, or an operator over two to five expressions: minimum, maximum, median, or sum modulo 10. Every
expression has a shape of its own, and no line below knows of minibatches but the training loop.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn, optim

OPERATORS = {
    "MIN": min,
    "MAX": max,
    "MED": lambda values: int(statistics.median(values)),
    "SM": lambda values: sum(values) % 10,
}
NAMES = list(OPERATORS)


@dataclass(frozen=True, slots=True)
class Expression:
    """A digit, or the number of an operator and what it is applied to; and what comes out."""

    value: int
    operator: int = -1
    arguments: tuple[Expression, ...] = ()

    def __str__(self) -> str:
        if not self.arguments:
            return str(self.value)
        return f"[{NAMES[self.operator]} {' '.join(map(str, self.arguments))} ]"


def draw(rng: np.random.Generator, depth: int, max_arguments: int = 5) -> Expression:
    """An expression with an operator at the top; further down an operator comes with probability 1/4, and none below
    `depth`."""
    arguments = []
    for _ in range(rng.integers(2, max_arguments + 1)):
        nested = depth > 1 and rng.random() < 0.25
        arguments.append(draw(rng, depth - 1, max_arguments) if nested else Expression(int(rng.integers(10))))
    operator = int(rng.integers(len(NAMES)))
    value = OPERATORS[NAMES[operator]]([argument.value for argument in arguments])
    return Expression(value, operator, tuple(arguments))


class Calculator(nn.Module):
    """Digits and results are vectors; an operator is a small network over what its arguments sum up to."""

    def __init__(self, dim: int) -> None:
        self.digits = nn.Embedding(10, dim)
        self.operators = nn.Embedding(len(NAMES), dim)
        self.seen = nn.Linear(dim, 4 * dim)
        self.hidden = nn.Linear(5 * dim, 4 * dim)
        self.result = nn.Linear(4 * dim, dim)
        self.out = nn.Linear(dim, 10)

    @ab.cell
    def apply(self, operator: int, arguments: Sequence[Any]) -> Any:
        """A list of any length is one argument: one kernel serves operators of two, three, four and five arguments."""
        together = ab.sum([ab.relu(self.seen(argument)) for argument in arguments])
        hidden = ab.relu(self.hidden(ab.concat([self.operators[operator], together])))
        return ab.tanh(self.result(hidden))

    def encode(self, expression: Expression) -> Any:
        if not expression.arguments:
            return self.digits[expression.value]
        return self.apply(expression.operator, [self.encode(argument) for argument in expression.arguments])

    def forward(self, expression: Expression) -> Any:
        """Logits of the ten results."""
        return self.out(self.encode(expression))

    def loss(self, expression: Expression) -> Any:
        return ab.cross_entropy(self(expression), expression.value)


def train(model: Calculator, batches: Iterator[list[Expression]], steps: int, lr: float = 3e-3) -> None:
    optimizer = optim.Adam(model.parameters(), lr=lr)
    start = time.perf_counter()
    for step in range(1, steps + 1):
        optimizer.lr = lr * (1 - (step - 1) / steps)
        batch = next(batches)
        optimizer.zero_grad()
        loss = ab.mean(ab.map(model.loss, batch))
        loss.backward()
        optim.clip_grad_norm(model.parameters(), 5.0)
        optimizer.step()
        if step % max(1, steps // 10) == 0:
            rate = step * len(batch) / (time.perf_counter() - start)
            print(f"step {step:5}  loss {float(loss):.3f}  {rate:,.0f} expressions/s")


def accuracy(model: Calculator, expressions: Sequence[Expression]) -> float:
    with ab.no_grad():
        logits = ab.evaluate(ab.map(model, expressions))
    right = [int(np.argmax(row)) == expression.value for row, expression in zip(logits, expressions, strict=True)]
    return float(np.mean(right))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--depth", type=int, default=3, help="operators inside of operators")
    options = parser.parse_args()

    ab.seed(0)
    rng = np.random.default_rng(0)
    model = Calculator(options.dim)
    batches = iter(lambda: [draw(rng, options.depth) for _ in range(options.batch_size)], None)
    train(model, batches, options.steps)

    fresh = np.random.default_rng(1)
    held_out = [draw(fresh, options.depth) for _ in range(1000)]
    print(f"for example {held_out[0]} is {held_out[0].value}")
    print(f"right on {accuracy(model, held_out):.1%} of {len(held_out)} new expressions")


if __name__ == "__main__":
    main()
