"""The No-U-Turn Sampler over posteriors of different dimension.

Hoffman & Gelman, "The No-U-Turn Sampler", JMLR 15, 2014, algorithm 3, written as in the paper: a recursion that builds
a trajectory of as many steps as this example needs. The posteriors are those of the "eight schools" (Rubin 1981;
Gelman et al., "Bayesian Data Analysis", section 5.5) with any number of schools, not centred: effects mu + tau eta. A
position is [(mu, log tau), eta], with eta a column: a row for each school. What is trained are the priors of mu and of
tau, by the posterior density of the last draw (Monte Carlo EM, Wei & Tanner 1990).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn
from benchmarks.decisions.program import Outcome

N_DRAWS, DEEPEST, WORST = 3, 5, 1000.0


@dataclass(frozen=True, slots=True)
class Schools:
    """Measured effects and their standard errors, both of shape (schools, 1), and the step size of the sampler."""

    effects: np.ndarray
    errors: np.ndarray
    step: float


def examples(n: int, seed: int) -> list[Schools]:
    """2 to 9 schools."""
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(n):
        count = int(rng.integers(2, 10))
        effects, errors = 2.0 * rng.normal(size=(count, 1)), rng.uniform(0.5, 2.0, (count, 1))
        drawn.append(Schools(effects, errors, float(rng.uniform(0.1, 0.4))))
    return drawn


@dataclass(frozen=True, slots=True)
class State:
    """Position, momentum, gradient of the log-density there, and log-density less kinetic energy."""

    q: list[Any]
    p: list[Any]
    g: list[Any]
    joint: Any


@dataclass(frozen=True, slots=True)
class Tree:
    """The ends of a trajectory, a draw from it, how many of its states may be drawn, and whether it goes on."""

    left: State
    right: State
    draw: State
    n: int
    goes_on: bool


class Model(nn.Module):
    def __init__(self) -> None:
        self.log_width, self.center = ab.Parameter(0.5), ab.Parameter(-0.3)

    def log_density(self, q: list[Any], effects: Any, errors: Any) -> Any:
        (mu, log_tau), eta = (q[0][0], q[0][1]), q[1]
        misfit = (effects - mu - ab.exp(log_tau) * eta) / errors
        prior = (mu * ab.exp(-self.log_width)) ** 2 + (log_tau - self.center) ** 2
        return -0.5 * (prior + total(eta * eta + misfit * misfit)) - self.log_width

    def begin(self, q: list[Any], p: list[Any], data: tuple[Any, Any]) -> State:
        value, g = ab.value_and_grad(self.log_density)(q, *data)
        return State(q, p, g, value - 0.5 * dot(p, p))

    def leapfrog(self, at: State, step: float, data: tuple[Any, Any]) -> State:
        middle = [p + 0.5 * step * g for p, g in zip(at.p, at.g, strict=True)]
        q = [q + step * p for q, p in zip(at.q, middle, strict=True)]
        value, g = ab.value_and_grad(self.log_density)(q, *data)
        p = [p + 0.5 * step * g for p, g in zip(middle, g, strict=True)]
        return State(q, p, g, value - 0.5 * dot(p, p))

    def numbers(self, *values: Any) -> list[float]:
        """Several values at once."""
        return [float(value) for value in ab.evaluate(values)]

    def run(self, schools: Schools) -> Outcome:
        rng, data = ab.rng(), (ab.tensor(schools.effects), ab.tensor(schools.errors))
        q = [ab.tensor(np.zeros(2)), ab.tensor(np.zeros(schools.effects.shape))]
        depths = []
        for _ in range(N_DRAWS):
            p = [ab.tensor(rng.normal(size=part.shape)) for part in q]
            draw, depth = sample(self, self.begin(q, p, data), schools.step, data, rng)
            q = [part.detach() for part in draw.q]
            depths.append(depth)
        return -self.log_density(q, *data), (depths, q)


def dot(a: list[Any], b: list[Any]) -> Any:
    """The inner product of two positions."""
    return (a[0] * b[0]).sum() + total(a[1] * b[1])


def total(column: Any) -> Any:
    """The sum of a column."""
    return column.sum(axis=0)[0]


def sample(model: Any, at: State, step: float, data: Any, rng: np.random.Generator) -> tuple[State, int]:
    """The next draw, and how often the trajectory was doubled."""
    log_u = float(at.joint) + np.log(1.0 - rng.random())
    tree, depth = Tree(at, at, at, 1, True), 0
    while tree.goes_on and depth < DEEPEST:
        way = step if rng.random() < 0.5 else -step
        other = grow(model, tree.right if way > 0.0 else tree.left, log_u, way, depth, data, rng)
        moves = other.goes_on and rng.random() * tree.n < other.n
        tree = joined(model, tree, other, way, other.draw if moves else tree.draw)
        depth += 1
    return tree.draw, depth


def grow(model: Any, at: State, log_u: float, step: float, depth: int, data: Any, rng: np.random.Generator) -> Tree:
    """BuildTree of the paper: 2 ** depth steps on from here, or fewer where the trajectory turns back."""
    if depth == 0:
        there = model.leapfrog(at, step, data)
        joint = float(there.joint)
        return Tree(there, there, there, int(log_u <= joint), joint > log_u - WORST)
    tree = grow(model, at, log_u, step, depth - 1, data, rng)
    if not tree.goes_on:
        return tree
    other = grow(model, tree.right if step > 0.0 else tree.left, log_u, step, depth - 1, data, rng)
    moves = rng.random() * max(tree.n + other.n, 1) < other.n
    return joined(model, tree, other, step, other.draw if moves else tree.draw)


def joined(model: Any, tree: Tree, other: Tree, step: float, draw: State) -> Tree:
    """A trajectory and what was grown at one of its ends."""
    left, right = (tree.left, other.right) if step > 0.0 else (other.left, tree.right)
    return Tree(left, right, draw, tree.n + other.n, other.goes_on and not turns_back(model, left, right))


def turns_back(model: Any, left: State, right: State) -> bool:
    """Whether more steps at one of the ends would bring it nearer to the other."""
    way = [b - a for a, b in zip(left.q, right.q, strict=True)]
    return min(model.numbers(dot(way, left.p), dot(way, right.p))) < 0.0
