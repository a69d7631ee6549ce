"""Formulas, each of another shape, whose constants are fitted to data of their own, all at once.

As in symbolic regression, where every candidate is an expression tree (Koza 1992; constants by gradients: Topchy &
Punch, GECCO 2001). Each formula takes steps of gradient descent with a rate of its own, which grows while the error
falls, and is halved, and the step taken back, where it does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn
from benchmarks.decisions.program import Outcome

POINTS = np.linspace(-1.0, 1.0, 12)
N_STEPS = 6
TWO = ("add", "sub", "mul", "div")
ONE = ("tanh", "exp", "square")

Tree = tuple[Any, ...]
"""("x",), ("constant", number), or the name of an op and what it is applied to."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A tree, where its constants begin, and what it is to be at `POINTS`."""

    tree: Tree
    constants: list[float]
    values: np.ndarray


def examples(n: int, seed: int) -> list[Formula]:
    """Formulas that all differ, of depth 2 to 4, and the values they have with other constants."""
    rng = np.random.default_rng(seed)
    drawn: dict[Tree, Formula] = {}
    while len(drawn) < n:
        constants: list[float] = []
        tree = ("add", _draw(rng, int(rng.integers(1, 4)), constants), _constant(rng, constants))
        true = [c + 0.3 * rng.normal() for c in constants]
        drawn[tree] = Formula(tree, constants, value(tree, POINTS, true, np) + 0.0 * POINTS)
    return list(drawn.values())


def _constant(rng: np.random.Generator, constants: list[float]) -> Tree:
    constants.append(float(rng.normal()))
    return ("constant", len(constants) - 1)


def _draw(rng: np.random.Generator, depth: int, constants: list[float]) -> Tree:
    if depth == 0:
        return ("x",) if rng.random() < 0.5 else _constant(rng, constants)
    if rng.random() < 0.4:
        return (str(rng.choice(ONE)), _draw(rng, depth - 1, constants))
    return (str(rng.choice(TWO)), _draw(rng, depth - 1, constants), _draw(rng, int(rng.integers(depth)), constants))


def value(tree: Tree, x: Any, constants: list[Any], of: Any) -> Any:
    """What a formula is at x; `of` has `tanh` and `exp`. No argument of exp is large, no divisor is 0."""
    name, *rest = tree
    if name == "x":
        return x
    if name == "constant":
        return constants[rest[0]]
    first, *others = (value(part, x, constants, of) for part in rest)
    match name:
        case "add":
            return first + others[0]
        case "sub":
            return first - others[0]
        case "mul":
            return first * others[0]
        case "div":
            return first / (1.0 + others[0] * others[0])
        case "tanh":
            return of.tanh(first)
        case "exp":
            return of.exp(of.tanh(first))
        case _:
            return first * first


class Model(nn.Module):
    def run(self, formula: Formula) -> Outcome:
        x, wanted = ab.tensor(POINTS), ab.tensor(formula.values)

        def error(constants: list[Any]) -> Any:
            return ab.mean((value(formula.tree, x, constants, ab) - wanted) ** 2)

        constants, rate, least, trace = [ab.tensor(c) for c in formula.constants], 0.1, np.inf, []
        tried = constants
        for _ in range(N_STEPS):
            found, slopes = ab.value_and_grad(error)(tried)
            now = float(found)
            trace.append(now)
            if now < least:
                constants, kept, least, rate = tried, slopes, now, 1.2 * rate
            else:
                rate *= 0.5
            tried = [c - rate * slope for c, slope in zip(constants, kept, strict=True)]
        return None, (trace, constants, kept)
