"""Whole programs, drawn at random: a DAG of ops on one example, several examples that differ in data and in length.

A `Program` is a list of steps; step k makes value k. Shapes are followed while drawing, so that programs are valid:
`N` stands for the number of words of the example, which differs from one to the next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

import autobatch as ab
from autobatch import nn

N = -1
D = 3
VECTOR, MATRIX, ROWS, SCALAR, CUBE = (D,), (D, D), (N, D), (), (2, D, D)
Shape = tuple[int, ...]


class Model(nn.Module):
    """Parameters of every rank, and cells."""

    def __init__(self) -> None:
        rng = np.random.default_rng(8)
        self.table = ab.Parameter(rng.normal(size=(5, D)) * 0.7)
        self.matrix = ab.Parameter(rng.normal(size=MATRIX) * 0.6)
        self.vector = ab.Parameter(rng.normal(size=VECTOR) * 0.7)
        self.number = ab.Parameter(0.8)
        self.cube = ab.Parameter(rng.normal(size=CUBE) * 0.5)
        self.buffer = nn.Buffer(rng.normal(size=VECTOR))

    @ab.cell
    def gate(self, x: Any, y: Any) -> Any:
        z = ab.sigmoid(self.matrix @ x + self.vector)
        return z * y + (1.0 - z) * ab.tanh(x), z * self.buffer

    @ab.cell
    def children(self, x: Any, xs: list[Any]) -> Any:
        mean = ab.sum(xs, like=x) * self.number
        return ab.tanh(self.matrix @ x + mean), [ab.sigmoid(self.matrix @ c) * x for c in xs]

    @ab.cell
    def rows(self, xs: list[Any]) -> Any:
        h = ab.tanh(ab.stack(xs) @ self.matrix + self.vector)
        return ab.mean(xs), ab.max([c * self.number for c in xs]), h.sum(0)

    @ab.cell
    def word(self, index: int, scale: float) -> Any:
        return self.table[index] * scale + self.vector

    @ab.cell
    def noisy(self, x: Any) -> Any:
        return ab.dropout(x, 0.4, training=True) * self.number + ab.normal(D) * 0.1

    def energy(self, v: Any) -> Any:
        return (ab.tanh(self.matrix @ v) * v).sum() * self.number + (v * v * self.vector).sum()


@dataclass(frozen=True)
class Example:
    """Data of one example: words, a label, private arrays, a factor, and which of the program's routines it runs."""

    words: tuple[int, ...]
    label: int
    own: tuple[float, ...]
    factor: float
    routine: int


@dataclass(frozen=True)
class Step:
    """One op: name, numbers of operand values, and the rest."""

    name: str
    inputs: tuple[int, ...] = ()
    rest: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Routine:
    """Steps, the values that are summed to the loss, and the values that are returned beside it."""

    steps: tuple[Step, ...]
    summed: tuple[int, ...]
    returned: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """Routines and the examples that run them."""

    routines: tuple[Routine, ...]
    examples: tuple[Example, ...] = field(repr=True)

    @property
    def names(self) -> set[str]:
        """Names of the steps."""
        return {step.name for routine in self.routines for step in routine.steps}


# What steps do. `v` are the operands, `m` the model, `e` the example, `r` the rest.

Run = Callable[[Any, Any, Example, tuple[Any, ...]], Any]


def _call(function: Any, cells: bool) -> Any:
    return function if cells else function.__wrapped__


UNARY: dict[str, Callable[[Any], Any]] = {
    "tanh": lambda x: ab.tanh(x),
    "sigmoid": lambda x: ab.sigmoid(x),
    "softplus": lambda x: ab.softplus(x),
    "neg": lambda x: -x,
    "exp": lambda x: ab.exp(ab.tanh(x)),
    "log": lambda x: ab.log(ab.sigmoid(x)),
    "sqrt": lambda x: ab.sqrt(x * x + 1.0),
    "square": lambda x: ab.tanh(x) ** 2,
    "cube": lambda x: ab.tanh(x) ** 3,
    "inverse": lambda x: (ab.sigmoid(x) + 1.0) ** -1,
    "power": lambda x: (ab.sigmoid(x) + 1.0) ** (x * 0.3),
}
KINKED: dict[str, Callable[[Any], Any]] = {
    "relu": lambda x: ab.relu(x),
    "abs": lambda x: ab.abs(x),
    "where": lambda x: ab.where(x > 0.05, x, x * 0.5),
    "maximum": lambda x: ab.maximum(x, 0.1),
    "detach": lambda x: x * x.detach(),
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / (y * y + 1.0),
}


def _forced(x: Any, e: Example) -> Any:
    decision = float(ab.tanh(x).sum())
    return x * 2.0 if decision > 0.1234 else x - e.factor


def step_value(step: Step, v: list[Any], m: Model, e: Example, cells: bool) -> Any:
    """The value that a step makes."""
    name, x = step.name, [v[i] for i in step.inputs]
    rest = step.rest
    if name in UNARY or name in KINKED:
        return (UNARY.get(name) or KINKED[name])(x[0])
    if name in BINARY:
        return BINARY[name](x[0], x[1])
    own = np.array(e.own)
    match name:
        case "parameter":
            return getattr(m, rest[0])
        case "own":
            return ab.tensor(np.resize(own, tuple(len(e.words) if n == N else n for n in rest[0])))
        case "factor":
            return x[0] * e.factor
        case "lookup":
            return m.table[e.words[rest[0] % len(e.words)]]
        case "words":
            return getattr(ab, rest[0])([m.table[w] * (k + 1.0) for k, w in enumerate(e.words)])
        case "all words":
            return m.table[list(e.words)]
        case "matmul":
            return x[0] @ x[1]
        case "sum" | "mean" | "max":
            return getattr(ab, name)(x[0], axis=rest[0])
        case "softmax" | "log_softmax" | "logsumexp":
            return getattr(ab, name)(x[0], rest[0])
        case "list":
            return getattr(ab, rest[0])(x)
        case "stack" | "concat":
            return getattr(ab, name)(x, rest[0])
        case "transpose":
            return ab.transpose(x[0], rest[0])
        case "flat":
            return x[0].reshape(-1)[rest[0] : rest[0] + D]
        case "unit":
            return x[0].reshape(1, D)[0] if rest[0] else x[0][None][0]
        case "slice":
            return x[0][rest[0]]
        case "data slice":
            return x[0][e.label % 2 : e.label % 2 + 2]
        case "pick":
            return x[0][e.label % x[0].shape[0]] if rest[0] else x[0][-1]
        case "split":
            return ab.concat(ab.split(x[0], [1])[::-1])
        case "dropout":
            return ab.dropout(x[0], 0.4, training=True)
        case "normal":
            return ab.normal(rest[0])
        case "cross_entropy":
            return ab.cross_entropy(x[0], e.label)
        case "squared_error":
            return ab.squared_error(x[0], own[:1])
        case "no_grad":
            with ab.no_grad():
                constant = ab.tanh(x[0])
            return constant * x[0]
        case "force":
            return _forced(x[0], e)
        case "cell gate":
            return _call(Model.gate, cells)(m, x[0], x[1])[rest[0]]
        case "cell children":
            top, parts = _call(Model.children, cells)(m, x[0], [m.table[w] for w in e.words[1:]])
            return top + ab.sum([p * (k + 1.0) for k, p in enumerate(parts)], like=top)
        case "cell rows":
            return _call(Model.rows, cells)(m, [m.table[w] for w in e.words] + x)[rest[0]]
        case "cell word":
            return _call(Model.word, cells)(m, e.words[rest[0] % len(e.words)], e.factor)
        case "cell noisy":
            return _call(Model.noisy, cells)(m, x[0])
        case "inner grad":
            return ab.grad(m.energy)(x[0])
        case "inner grad of list":
            slopes = ab.grad(lambda xs: m.energy(ab.sum(xs)) * xs[0].sum())([x[0], x[1]])
            return slopes[0] + slopes[1] * 0.5
        case "inner grad of parameter":
            return ab.grad(lambda w: (ab.tanh(w @ x[0]) * m.vector).sum())(m.matrix)
        case "inner grad of cell":
            return ab.grad(lambda u: _call(Model.gate, cells)(m, u, x[0])[0].sum())(x[0])
    raise AssertionError(name)


def run(routine: Routine, m: Model, e: Example, cells: bool = True) -> tuple[Any, list[Any]]:
    """Loss and returned values of one example."""
    v: list[Any] = []
    for step in routine.steps:
        v.append(step_value(step, v, m, e, cells))
    loss: Any = ab.tensor(0.0)
    for k, i in enumerate(routine.summed):
        loss = loss + (ab.tanh(v[i]) * (0.5 + k)).sum()
    return loss, [v[i] for i in routine.returned]


# Drawing.

SOURCES = frozenset(["parameter", "own", "lookup", "words", "all words", "cell word", "normal"])


class _Drawer:
    def __init__(self, draw: Any, allowed: frozenset[str]) -> None:
        self.draw = draw
        self.allowed = allowed
        self.steps: list[Step] = []
        self.shapes: list[Shape] = []

    def add(self, name: str, shape: Shape, inputs: tuple[int, ...] = (), *rest: Any) -> None:
        self.steps.append(Step(name, inputs, rest))
        self.shapes.append(shape)

    def one(self, options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def value(self, found: list[int]) -> int:
        """One of these values, most often one that nothing has used yet, so that programs grow deep."""
        used = {i for step in self.steps for i in step.inputs}
        fresh = [i for i in found if i not in used]
        return int(self.one(fresh if fresh and self.draw(st.integers(0, 3)) else found))

    def of(self, *shapes: Shape) -> list[int]:
        return [i for i, s in enumerate(self.shapes) if s in shapes]

    def source(self) -> None:
        kind = self.one(sorted(self.allowed & SOURCES))
        if kind == "parameter":
            name = self.one(["matrix", "vector", "number", "cube", "buffer"])
            shape = {"matrix": MATRIX, "number": SCALAR, "cube": CUBE}.get(name, VECTOR)
            self.add(kind, shape, (), name)
        elif kind == "own":
            shape = self.one([VECTOR, MATRIX, SCALAR, ROWS, CUBE])
            self.add(kind, shape, (), shape)
        elif kind == "words":
            how = self.one(["sum", "mean", "max", "stack"])
            self.add(kind, ROWS if how == "stack" else VECTOR, (), how)
        elif kind == "all words":
            self.add(kind, ROWS)
        elif kind == "normal":
            self.add(kind, VECTOR, (), D)
        else:
            self.add(kind, VECTOR, (), self.one([0, 1]))

    def step(self) -> None:
        """Add one step whose operands are there; a source where there are none."""
        name = self.one(sorted(self.allowed - SOURCES))
        getattr(self, "_" + name.split()[0], self._other)(name)

    def _pick_of(self, *shapes: Shape) -> int | None:
        found = self.of(*shapes)
        return self.value(found) if found else None

    def _other(self, name: str) -> None:
        i = self._pick_of(VECTOR)
        if name in UNARY or name in KINKED or name in ("factor", "dropout", "no_grad", "force"):
            i = self.value(list(range(len(self.shapes))))
            self.add(name, self.shapes[i], (i,))
        elif name in BINARY:
            self._binary(name)
        elif i is None:
            self.add("lookup", VECTOR, (), 0)
        elif name in ("cross_entropy", "squared_error"):
            self.add(name, SCALAR, (i,))
        else:
            self.add(name, VECTOR, (i,))

    def _binary(self, name: str) -> None:
        i = self.value(list(range(len(self.shapes))))
        fits = {
            SCALAR: [VECTOR, MATRIX, ROWS, CUBE],
            VECTOR: [SCALAR, MATRIX, ROWS, CUBE],
            MATRIX: [SCALAR, VECTOR, CUBE],
            ROWS: [SCALAR, VECTOR],
            CUBE: [SCALAR, VECTOR, MATRIX],
        }.get(self.shapes[i], [])
        j = self.value(self.of(self.shapes[i], *fits))
        shape = max(self.shapes[i], self.shapes[j], key=len)
        self.add(name, shape, (i, j))

    def _matmul(self, name: str) -> None:
        results = {
            (MATRIX, VECTOR): VECTOR,
            (VECTOR, MATRIX): VECTOR,
            (VECTOR, VECTOR): SCALAR,
            (MATRIX, MATRIX): MATRIX,
            (ROWS, MATRIX): ROWS,
            (CUBE, MATRIX): CUBE,
            (CUBE, CUBE): CUBE,
            (CUBE, VECTOR): (2, D),
            (ROWS, VECTOR): (N,),
        }
        pairs = [(i, j) for i, a in enumerate(self.shapes) for j, b in enumerate(self.shapes) if (a, b) in results]
        if not pairs:
            return self.add("parameter", MATRIX, (), "matrix")
        i, j = self.one(pairs)
        shape = results[self.shapes[i], self.shapes[j]]
        self.add(name, shape, (i, j))
        if shape not in (SCALAR, VECTOR, MATRIX, CUBE, ROWS):
            self.add("sum", SCALAR, (len(self.shapes) - 1,), None)
        return None

    def _sum(self, name: str) -> None:
        i = self.value(list(range(len(self.shapes))))
        shape = self.shapes[i]
        axes = {
            SCALAR: [None],
            VECTOR: [0, None],
            MATRIX: [0, 1, -1, None, (0, 1)],
            ROWS: [0, None],
            CUBE: [0, None, (0, 1), -3],
        }.get(shape, [None])
        axis = self.one(axes)
        left = (
            SCALAR
            if axis is None
            else tuple(
                n
                for k, n in enumerate(shape)
                if k not in {a % len(shape) for a in ((axis,) if isinstance(axis, int) else axis)}
            )
        )
        self.add(name, left, (i,), axis)

    _mean = _max = _sum

    def _softmax(self, name: str) -> None:
        i = self._pick_of(VECTOR, MATRIX, ROWS, CUBE)
        if i is None:
            return self.add("lookup", VECTOR, (), 1)
        shape = self.shapes[i]
        axis = self.one([-1] if shape == VECTOR else [-1, 0])
        if name == "logsumexp":
            shape = SCALAR if shape == VECTOR else shape[1:] if axis == 0 else shape[:-1]
        if shape in ((N,), (2, D)):
            return self.add("softmax", self.shapes[i], (i,), axis)
        self.add(name, shape, (i,), axis)
        return None

    _log_softmax = _logsumexp = _softmax

    def _list(self, name: str) -> None:
        shape = self.one(sorted(set(self.shapes)))
        found = self.of(shape)
        n = self.draw(st.integers(1, 4))
        self.add(name, shape, tuple(self.value(found) for _ in range(n)), self.one(["sum", "mean", "max"]))

    def _stack(self, name: str) -> None:
        found = self.of(VECTOR)
        if not found:
            return self.add("lookup", VECTOR, (), 0)
        self.add(name, MATRIX, tuple(self.value(found) for _ in range(D)), self.one([0, 1, -1]))
        return None

    def _concat(self, name: str) -> None:
        found = self.of(VECTOR)
        if not found:
            return self.add("lookup", VECTOR, (), 0)
        self.add(name, (2 * D,), (self.value(found), self.value(found)), 0)
        self.add("flat", VECTOR, (len(self.shapes) - 1,), self.draw(st.integers(0, D)))
        return None

    def _transpose(self, name: str) -> None:
        i = self._pick_of(MATRIX, CUBE)
        if i is None:
            return self.add("parameter", MATRIX, (), "matrix")
        self.add(name, self.shapes[i], (i,), (1, 0) if self.shapes[i] == MATRIX else (0, 2, 1))
        return None

    def _flat(self, name: str) -> None:
        i = self._pick_of(MATRIX, CUBE)
        if i is None:
            return self.add("parameter", CUBE, (), "cube")
        self.add(name, VECTOR, (i,), self.draw(st.integers(0, 6)))
        return None

    def _unit(self, name: str) -> None:
        i = self._pick_of(VECTOR)
        if i is None:
            return self.add("own", VECTOR, (), VECTOR)
        self.add(name, VECTOR, (i,), self.one([False, True]))
        return None

    def _slice(self, name: str) -> None:
        i = self._pick_of(MATRIX, CUBE)
        if i is None:
            return self.add("parameter", CUBE, (), "cube")
        if self.shapes[i] == MATRIX:
            item = self.one([slice(None, None, -1), (slice(None), slice(None, None, -1)), (slice(None), [2, 0, 2])])
            self.add(name, MATRIX, (i,), item)
        else:
            item, shape = self.one(
                [
                    (1, MATRIX),
                    ((slice(None), 0, 0), (2,)),
                    ((0, slice(None), 1), VECTOR),
                    (slice(None, None, -1), CUBE),
                    ((..., 0, slice(None)), (2, D)),
                ]
            )
            self.add(name, shape, (i,), item)
            if shape in ((2,), (2, D)):
                self.add("sum", SCALAR, (len(self.shapes) - 1,), None)
        return None

    def _data(self, name: str) -> None:
        i = self._pick_of(VECTOR, MATRIX)
        if i is None:
            return self.add("lookup", VECTOR, (), 0)
        self.add(name, (2, *self.shapes[i][1:]), (i,))
        self.add("sum", SCALAR, (len(self.shapes) - 1,), None)
        return None

    def _pick(self, name: str) -> None:
        i = self._pick_of(MATRIX, ROWS, CUBE, VECTOR)
        if i is None:
            return self.add("words", ROWS, (), "stack")
        self.add(name, self.shapes[i][1:], (i,), self.one([False, True]))
        return None

    def _cell(self, name: str) -> None:
        found = self.of(VECTOR)
        if not found:
            return self.add("lookup", VECTOR, (), 0)
        i, j = self.value(found), self.value(found)
        inputs = {"cell gate": (i, j), "cell rows": (i, j)[: self.draw(st.integers(0, 2))]}.get(name, (i,))
        self.add(name, VECTOR, inputs, self.draw(st.integers(0, 1 if name == "cell gate" else 2)))
        return None

    def _inner(self, name: str) -> None:
        found = self.of(VECTOR)
        if not found:
            return self.add("lookup", VECTOR, (), 0)
        pair = (self.value(found), self.value(found))
        self.add(name, MATRIX if "parameter" in name else VECTOR, pair if "list" in name else pair[:1])
        return None


PLAIN = frozenset(
    [
        "own",
        "parameter",
        "lookup",
        "words",
        "all words",
        *UNARY,
        *BINARY,
        "factor",
        "matmul",
        "sum",
        "mean",
        "softmax",
        "log_softmax",
        "logsumexp",
        "list",
        "stack",
        "concat",
        "transpose",
        "flat",
        "unit",
        "slice",
        "data slice",
        "pick",
        "split",
        "dropout",
        "normal",
        "cross_entropy",
        "squared_error",
    ]
)
EVERYTHING = PLAIN | frozenset([*KINKED, "max", "no_grad", "force"])
CELLS = frozenset(["cell gate", "cell children", "cell rows", "cell word", "cell noisy"])
GRADS = frozenset(["inner grad", "inner grad of list", "inner grad of parameter", "inner grad of cell"])


def with_kinks(program: Program) -> bool:
    """Whether differences mean nothing: a maximum may have ties, and a detached value has a slope but no derivative."""
    lists = {rest for r in program.routines for s in r.steps for rest in s.rest if isinstance(rest, str)}
    return bool(program.names & {*KINKED, "max", "no_grad", "force", "cell rows"}) or "max" in lists


def draw_steps(draw: Any, drawer: Any, n_steps: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Let a drawer draw up to so many steps, and some sources; which values are summed, and which are returned."""
    for _ in range(draw(st.integers(1, 3))):
        drawer.source()
    for _ in range(draw(st.integers(1, n_steps)) + n_steps // 3):
        if draw(st.integers(0, 5)) == 0:
            drawer.source()
        else:
            drawer.step()
    values = range(len(drawer.steps))
    used = {i for step in drawer.steps for i in step.inputs}
    ends = [i for i in values if i not in used]
    dead = draw(st.sampled_from(ends)) if len(ends) > 1 and draw(st.booleans()) else -1
    return tuple(i for i in ends if i != dead), tuple(draw(st.lists(st.sampled_from(values), max_size=2)))


@st.composite
def programs(draw: Any, allowed: frozenset[str], n_steps: int = 12) -> Program:
    """A program made of the allowed steps."""
    routines = []
    for _ in range(draw(st.integers(1, 2))):
        drawer = _Drawer(draw, allowed)
        summed, returned = draw_steps(draw, drawer, n_steps)
        routines.append(Routine(tuple(drawer.steps), summed, returned))
    examples = []
    for _ in range(draw(st.integers(1, 5))):
        words = tuple(draw(st.lists(st.integers(0, 4), min_size=1, max_size=4)))
        seed = draw(st.integers(0, 1000))
        own = tuple(np.random.default_rng(seed).normal(size=5).round(3).tolist())
        examples.append(
            Example(
                words, draw(st.integers(0, 2)), own, float(1 + seed % 7) / 4, draw(st.integers(0, len(routines) - 1))
            )
        )
    return Program(tuple(routines), tuple(examples))
