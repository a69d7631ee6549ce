"""Programs that branch and loop on values they compute, drawn at random: statements over a few vectors of one example.

An `Example` runs a `Block`: a list of statements, some of which hold blocks themselves. What a program decides is noted
in order, so that two runs can be compared decision by decision.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

import autobatch as ab
from autobatch import nn

D = 3
N_WORDS = 5
REGISTERS = 3

Block = tuple["Statement", ...]


class Turn(Exception):
    """Raised and caught by programs."""


@dataclass(frozen=True)
class Statement:
    """What is done, with which registers, numbers of the statement's own, and blocks that it may run."""

    name: str
    a: int
    b: int
    number: float
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True)
class Example:
    """The initial registers of one example, and how patient its loops are."""

    words: tuple[int, ...]
    patience: int


class Model(nn.Module):
    """Parameters, a module, and cells: over vectors, over a list, and over a number of the example."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self.table = nn.Embedding(N_WORDS, D)
        self.table.weight.value = rng.normal(size=(N_WORDS, D))
        self.linear = nn.Linear(D, D)
        self.linear.weight.value = rng.normal(size=(D, D)) * 0.7
        self.linear.bias.value = rng.normal(size=D) * 0.3
        self.recurrent = nn.GRUCell(D, D)
        self.scale = ab.Parameter(0.7)

    @ab.cell
    def pair(self, x: Any, y: Any) -> tuple[Any, Any]:
        z = ab.sigmoid(self.linear(x) * self.scale)
        return z * y + (1.0 - z) * x, ab.softmax(x - y)

    @ab.cell
    def pool(self, x: Any, xs: list[Any]) -> Any:
        weights = [ab.exp(ab.tanh(ab.sum(x * other))) for other in xs]
        return ab.sum([w * other for w, other in zip(weights, xs, strict=True)]) / ab.sum(weights)

    @ab.cell
    def shifted(self, x: Any, number: float) -> Any:
        return ab.tanh(self.linear(x) + number)

    def energy(self, x: Any) -> Any:
        return (ab.tanh(self.linear(x)) ** 2).sum() + (x * x).sum() * 0.1


@dataclass
class Run:
    """One example under way: registers, a list that grows, what was decided."""

    model: Model
    example: Example
    cells: bool
    registers: list[Any]
    memory: list[Any]
    decided: list[Any] = field(default_factory=list)
    fuel: int = 40

    def cell(self, name: str, *operands: Any) -> Any:
        function = getattr(self.model, name) if self.cells else getattr(type(self.model), name).__wrapped__
        return function(*operands) if self.cells else function(self.model, *operands)

    def decide(self, decision: Any) -> Any:
        self.decided.append(decision)
        return decision

    def block(self, block: Block) -> None:
        for statement in block:
            if self.fuel == 0:
                return
            self.fuel -= 1
            self.statement(statement)

    def statement(self, s: Statement) -> None:
        x, y = self.registers[s.a], self.registers[s.b]
        value: Any = None
        match s.name:
            case "cell":
                value, self.registers[s.b] = self.cell("pair", x, y)
            case "pool":
                value = self.cell("pool", x, self.memory)
            case "shift":
                value = self.cell("shifted", x, s.number)
            case "module":
                value = self.model.recurrent(x, y)
            case "ops":
                value = ab.tanh(x * y) + self.model.scale * s.number
            case "remember":
                self.memory = [*self.memory, x][-4:]
            case "detach":
                value = x.detach() + y
            case "noise":
                value = x + 0.3 * ab.normal(D)
            case "slope":
                value = ab.tanh(ab.grad(self.model.energy)(x)) + y
            case "number":
                value = self.cell("shifted", x, self.decide(float(ab.tanh(y).sum())))
            case "unwatched":
                with ab.no_grad():
                    value = y + self.decide(float((x * y).sum() > 0.1234))
            case "array":
                value = x + np.tanh(y.detach().numpy()[::-1].copy())
            case _:
                self.control(s, x, y)
        if value is not None:
            self.registers[s.a] = value

    def control(self, s: Statement, x: Any, y: Any) -> None:
        first = s.blocks[0] if s.blocks else ()
        match s.name:
            case "if float":
                self.block(s.blocks[self.decide(float(x.sum()) > s.number)])
            case "if bool":
                self.block(s.blocks[self.decide(bool(x[0] * 1.3 > y[1] + s.number))])
            case "switch":
                chosen = self.decide(int(np.argmax(self.model.linear(x).numpy())))
                self.block(s.blocks[chosen % len(s.blocks)])
            case "while":
                turns = 0
                while turns < self.example.patience and self.registers[s.a].sum() > s.number and self.fuel:
                    self.block(first)
                    turns += 1
                self.decide(turns)
            case "sample":
                shares = np.cumsum(ab.softmax(x).numpy())
                word = int(np.searchsorted(shares, ab.rng().random() * shares[-1]))
                self.registers[s.a] = self.model.table[self.decide(word)] + y
            case "best":
                values = ab.evaluate([self.model.energy(r) for r in self.registers])
                best = self.decide(sorted(range(REGISTERS), key=lambda k: -float(values[k]))[0])
                self.registers[s.a] = self.registers[best] * 0.9
            case "map":
                self.registers[s.a] = ab.sum(self.inner(first, s), like=x)
            case "raise":
                try:
                    self.block(first)
                    if self.decide(float(self.registers[s.a].sum()) > s.number):
                        raise Turn
                    self.registers[s.b] = ab.tanh(self.registers[s.a])
                except Turn:
                    self.registers[s.a] = self.registers[s.a] * 0.5
                finally:
                    self.decide(bool(self.registers[s.b][0] > 0.0432))

    def inner(self, block: Block, s: Statement) -> list[Any]:
        """The block on each word of the example, in a map of its own."""

        def one(word: int) -> tuple[Any, list[Any]]:
            own = [*self.registers]
            own[s.a] = own[s.a] + self.model.table[word]
            run = Run(self.model, self.example, self.cells, own, self.memory, fuel=5)
            run.block(block)
            return run.registers[s.a], run.decided

        found = ab.map(one, self.example.words)
        self.decided.append([decided for _, decided in found])
        return [value for value, _ in found]


def run(model: Model, block: Block, example: Example, cells: bool = True) -> tuple[Any, list[Any]]:
    """The loss of an example, and what it decided."""
    registers = [model.table[word] for word in (*example.words, 0, 1, 2)[:REGISTERS]]
    under_way = Run(model, example, cells, registers, registers[:1])
    under_way.block(block)
    return ab.sum([(r * r).sum() for r in under_way.registers]) * 0.1, under_way.decided


PLAIN = ("cell", "pool", "shift", "module", "ops", "remember", "detach", "noise", "slope")
FORCING = ("number", "unwatched", "array", "sample", "best")
BRANCHING = {"if float": 2, "if bool": 2, "switch": 3, "while": 1, "map": 1, "raise": 1}
"""Statements with blocks, and how many they have."""


@st.composite
def blocks(draw: Any, depth: int = 2, least: int = 1, most: int = 5) -> Block:
    """A few statements; those within are nested up to `depth` deep."""
    names = [*PLAIN, *FORCING, *BRANCHING, *BRANCHING] if depth else [*PLAIN, *FORCING]
    found = []
    for _ in range(draw(st.integers(least, most))):
        name = draw(st.sampled_from(names))
        inner = tuple(draw(blocks(depth - 1, 0 if name != "while" else 1, 3)) for _ in range(BRANCHING.get(name, 0)))
        a, b = draw(st.integers(0, REGISTERS - 1)), draw(st.integers(0, REGISTERS - 1))
        found.append(Statement(name, a, b, draw(st.sampled_from([-0.5173, 0.1071, 0.6839])), inner))
    return tuple(found)


def examples() -> st.SearchStrategy[list[Example]]:
    """One to seven examples of 0 to 3 words."""
    words = st.lists(st.integers(0, N_WORDS - 1), max_size=3).map(tuple)
    return st.lists(st.builds(Example, words, st.integers(0, 4)), min_size=1, max_size=7)
