"""Programs over rows of any number, drawn at random: vectors and matrices whose axes differ from example to example.

A length is "n" or "m", which every example has its own of (0 and 1 among them), or follows from these: `LENGTHS`.
Shapes are followed while drawing, so that programs are valid. A program is a list of steps; step k makes value k.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import autobatch as ab
from autobatch import nn
from tests.programs.drawing import draw_steps

D = 4
Shape = tuple[int | str, ...]

LENGTHS: dict[str, Callable[[int, int], int]] = {
    "n": lambda n, m: n,
    "m": lambda n, m: m,
    "both": lambda n, m: n + m,
    "half": lambda n, m: (n + 1) // 2,
    "less": lambda n, m: max(n - 1, 0),
}


@dataclass(frozen=True)
class Example:
    """Words, of which there are n; m numbers of words; a label, and a seed of private arrays."""

    words: tuple[int, ...]
    picked: tuple[int, ...]
    label: int
    seed: int

    def size(self, length: int | str) -> int:
        """What a length is here."""
        return length if isinstance(length, int) else LENGTHS[length](len(self.words), len(self.picked))

    def array(self, shape: Shape, key: int) -> Any:
        """A private array."""
        return np.random.default_rng([self.seed, key]).normal(size=[self.size(length) for length in shape])

    def mask(self, shape: Shape) -> Any:
        """Which keys each query attends to; the first for certain."""
        mask = self.array(shape, 0) > 0
        mask[..., :1] = True
        return mask


@dataclass(frozen=True)
class Step:
    """One op: name, numbers of operand values, and the rest."""

    name: str
    inputs: tuple[int, ...] = ()
    rest: Any = None


@dataclass(frozen=True)
class Program:
    """Steps, the values that are summed to the loss, those that are returned beside it, and the examples."""

    steps: tuple[Step, ...]
    summed: tuple[int, ...]
    returned: tuple[int, ...]
    examples: tuple[Example, ...]


class Model(nn.Module):
    """Parameters, and cells over rows."""

    def __init__(self) -> None:
        rng = np.random.default_rng(9)
        self.table = ab.Parameter(rng.normal(size=(5, D)) * 0.7)
        self.matrix = ab.Parameter(rng.normal(size=(D, D)) * 0.6)
        self.vector = ab.Parameter(rng.normal(size=D) * 0.7)
        self.number = ab.Parameter(0.8)
        self.kernel = ab.Parameter(rng.normal(size=(D, D, 3)) * 0.4)

    @ab.cell
    def each_row(self, x: Any) -> Any:
        return ab.tanh(x @ self.matrix + self.vector) * x.mean(axis=-1, keepdims=True)

    @ab.cell
    def all_rows(self, x: Any) -> Any:
        return ab.softmax(x @ self.vector) @ x

    def energy(self, x: Any) -> Any:
        return (ab.tanh(x * self.number) * x).sum() + (x * x * x).mean() * 0.1


# What steps do: `x` are the operands, `m` the model, `e` the example, `r` the rest.

Run = Callable[[list[Any], Model, Example, Any], Any]


def _no_grad(x: Any) -> Any:
    with ab.no_grad():
        constant = ab.tanh(x)
    return constant * x


SOURCES: dict[str, Run] = {
    "own": lambda x, m, e, r: ab.tensor(e.array(*r)),
    "parameter": lambda x, m, e, r: getattr(m, r),
    "words": lambda x, m, e, r: m.table[list(e.words)],
    "stack of vectors": lambda x, m, e, r: ab.stack([m.table[w] * (k + 1.0) for k, w in enumerate(e.words)]),
    "stack of scalars": lambda x, m, e, r: ab.stack([(m.table[w] * m.vector).sum() for w in e.words]),
}
UNARY: dict[str, Run] = {
    "tanh": lambda x, m, e, r: ab.tanh(x[0]),
    "exp": lambda x, m, e, r: ab.exp(ab.tanh(x[0])),
    "square": lambda x, m, e, r: ab.tanh(x[0]) ** 2,
    "relu": lambda x, m, e, r: ab.relu(x[0]),
    "where": lambda x, m, e, r: ab.where(x[0] > 0.05, x[0], x[0] * 0.5),
    "factor": lambda x, m, e, r: x[0] * (1.0 + e.label),
    "number": lambda x, m, e, r: x[0] * m.number,
    "dropout": lambda x, m, e, r: ab.dropout(x[0], 0.4, training=True),
    "detach": lambda x, m, e, r: x[0] * x[0].detach(),
    "no_grad": lambda x, m, e, r: _no_grad(x[0]),
}
BINARY: dict[str, Run] = {
    "add": lambda x, m, e, r: x[0] + x[1],
    "mul": lambda x, m, e, r: x[0] * x[1],
    "div": lambda x, m, e, r: x[0] / (x[1] * x[1] + 1.0),
    "maximum": lambda x, m, e, r: ab.maximum(x[0], x[1]),
}
REDUCTIONS: dict[str, Run] = {
    "sum": lambda x, m, e, r: ab.sum(x[0], axis=r[0], keepdims=r[1]),
    "prod": lambda x, m, e, r: ab.prod(ab.tanh(x[0]) + 1.0, axis=r[0], keepdims=r[1]),
    "mean": lambda x, m, e, r: ab.mean(x[0], axis=r[0], keepdims=r[1]),
    "var": lambda x, m, e, r: ab.var(x[0], axis=r[0], keepdims=r[1]),
    "argmax": lambda x, m, e, r: ab.argmax(x[0], axis=r[0], keepdims=r[1]) * 0.5,
    "max": lambda x, m, e, r: ab.max(x[0], axis=r[0], keepdims=r[1]),
    "min": lambda x, m, e, r: ab.min(x[0], axis=r[0], keepdims=r[1]),
}
OTHERS: dict[str, Run] = {
    "matmul": lambda x, m, e, r: x[0] @ x[1],
    "softmax": lambda x, m, e, r: ab.softmax(x[0], axis=r),
    "logsumexp": lambda x, m, e, r: ab.logsumexp(x[0], axis=r),
    "cumsum": lambda x, m, e, r: ab.cumsum(x[0], axis=r),
    "log_softmax": lambda x, m, e, r: ab.log_softmax(x[0], axis=r),
    "transpose": lambda x, m, e, r: x[0].T,
    "slice": lambda x, m, e, r: _along(x[0], r[1], SLICES[r[0]](e)),
    "gather": lambda x, m, e, r: x[0][[k % len(e.words) for k in e.picked] if e.words else []],
    "permute": lambda x, m, e, r: x[0][[(k + e.label) % len(e.words) for k in range(len(e.words))]],
    "rotate": lambda x, m, e, r: ab.concat([x[0][1:], x[0][:1]]),
    "columns": lambda x, m, e, r: x[0][:, r],
    "expand": lambda x, m, e, r: x[0][:, None] if r else x[0][None],
    "join rows": lambda x, m, e, r: ab.concat(x),
    "join columns": lambda x, m, e, r: ab.concat(x, axis=1),
    "heads": lambda x, m, e, r: x[0].reshape(x[0].shape[0], 2, 2),
    "no heads": lambda x, m, e, r: x[0].reshape(x[0].shape[0], D),
    "pick": lambda x, m, e, r: x[0][r] if r is not None else x[0][e.label % x[0].shape[0]],
    "list": lambda x, m, e, r: LISTS[r]([row * (k + 1.0) for k, row in enumerate(x[0])]),
    "attention": lambda x, m, e, r: ab.attention(*x, causal=r[0], mask=None if r[1] is None else e.mask(r[1])),
    "convolution": lambda x, m, e, r: ab.conv1d(x[0], m.kernel, padding=r),
    "cross_entropy": lambda x, m, e, r: ab.cross_entropy(x[0], e.label % x[0].shape[0]),
    "squared_error": lambda x, m, e, r: ab.squared_error(x[0], x[1]),
    "cell each row": lambda x, m, e, r: m.each_row(x[0]),
    "cell all rows": lambda x, m, e, r: m.all_rows(x[0]),
    "inner grad": lambda x, m, e, r: ab.grad(m.energy)(x[0]),
}
RUN = SOURCES | UNARY | BINARY | REDUCTIONS | OTHERS

LISTS: dict[str, Callable[[list[Any]], Any]] = {
    "sum": ab.sum,
    "mean": ab.mean,
    "max": ab.max,
    "stack": ab.stack,
    "softmax": lambda xs: ab.softmax(xs, axis=0),
    "logsumexp": lambda xs: ab.logsumexp(xs, axis=0),
}
SLICES: dict[str, Callable[[Example], slice]] = {
    "reversed": lambda e: slice(None, None, -1),
    "tail": lambda e: slice(1, None),
    "head": lambda e: slice(None, -1),
    "every other": lambda e: slice(None, None, 2),
    "first part": lambda e: slice(None, len(e.words)),
    "second part": lambda e: slice(len(e.words), None),
}
SLICED = {
    ("n", "tail"): "less",
    ("n", "head"): "less",
    ("n", "every other"): "half",
    ("both", "first part"): "n",
    ("both", "second part"): "m",
}


def _along(x: Any, axis: int, part: slice) -> Any:
    return x[part] if axis == 0 else x[:, part]


def run(program: Program, m: Model, e: Example, first: Any = None) -> tuple[Any, list[Any]]:
    """Loss and returned values of one example; `first` stands in for value 0."""
    v: list[Any] = [] if first is None else [first]
    for step in program.steps[len(v) :]:
        v.append(RUN[step.name]([v[i] for i in step.inputs], m, e, step.rest))
    loss = ab.tensor(0.0)
    for k, i in enumerate(program.summed):
        loss = loss + (ab.tanh(v[i]) * (0.5 + k)).sum()
    return loss, [v[i] for i in program.returned]


# Drawing.


def broadcast(a: Shape, b: Shape) -> Shape | None:
    """The shape of an elementwise result, or None."""
    short, long = sorted((a, b), key=len)
    lined = (1,) * (len(long) - len(short)) + short
    pairs = list(zip(lined, long, strict=True))
    if any(x != y and 1 not in (x, y) for x, y in pairs):
        return None
    return tuple(y if x == 1 else x for x, y in pairs)


def product(a: Shape, b: Shape) -> Shape | None:
    """The shape of `a @ b` for vectors and matrices, or None."""
    if not 1 <= len(a) <= 2 or not 1 <= len(b) <= 2 or a[-1] != b[0] or a[-1] == 1:
        return None
    return a[:-1] + b[1:]


class _Drawer:
    """Adds steps; `least` is what an example must have of n and of m so that no axis is empty that must not be."""

    def __init__(self, draw: Any, allowed: frozenset[str]) -> None:
        self.draw = draw
        self.allowed = allowed
        self.steps: list[Step] = []
        self.shapes: list[Shape] = []
        self.least = {"n": 0, "m": 0}
        self.add("own", ("n", D), (), (("n", D), 0))

    def add(self, name: str, shape: Shape, inputs: tuple[int, ...] = (), rest: Any = None) -> None:
        self.steps.append(Step(name, inputs, rest))
        self.shapes.append(shape)

    def one(self, options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def fill(self, *lengths: int | str) -> None:
        """These axes must not be empty."""
        for length in lengths:
            if length == "m":
                self.least["m"] = 1
            if isinstance(length, str):
                self.least["n"] = max(self.least["n"], 2 if length == "less" else 1)

    def value(self, suits: Callable[[Shape], bool]) -> int | None:
        """A value of such a shape, most often one that nothing has used yet, so that programs grow deep."""
        found = [i for i, shape in enumerate(self.shapes) if suits(shape)]
        used = {i for step in self.steps for i in step.inputs}
        fresh = [i for i in found if i not in used]
        if not found:
            return None
        return int(self.one(fresh if fresh and self.draw(st.integers(0, 3)) else found))

    def source(self) -> None:
        name = self.one(sorted(self.allowed & set(SOURCES)))
        if name == "own":
            shapes: list[Shape] = [("n", D), ("m", D), ("n",), ("n", "m"), (D, "n"), (D,), ("n", "n"), ("n", 1)]
            shape = self.one(shapes)
            self.add(name, shape, (), (shape, len(self.steps)))
        elif name == "parameter":
            which, shape = self.one([("matrix", (D, D)), ("vector", (D,)), ("number", ())])
            self.add(name, shape, (), which)
        elif name == "words":
            self.add(name, ("n", D))
        else:
            self.fill("n")
            self.add(name, ("n", D) if name == "stack of vectors" else ("n",))

    def step(self) -> None:
        """Add one step where operands for it are there."""
        name = self.one(sorted(self.allowed - set(SOURCES)))
        if name in UNARY:
            i = self.value(lambda shape: True)
            assert i is not None
            self.add(name, self.shapes[i], (i,))
        elif name in BINARY or name in ("matmul", "squared_error"):
            self._pair(name)
        elif name in REDUCTIONS:
            self._reduction(name)
        else:
            getattr(self, "_" + name.replace(" ", "_"))(name)

    def _pair(self, name: str) -> None:
        rule = product if name == "matmul" else broadcast
        i = self.value(lambda shape: name != "matmul" or 1 <= len(shape) <= 2)
        assert i is not None
        j = self.value(lambda shape: rule(self.shapes[i], shape) is not None)
        if name == "squared_error":
            j = self.value(lambda shape: shape == self.shapes[i])
        if j is None:
            return
        shape = rule(self.shapes[i], self.shapes[j])
        assert shape is not None
        self.add(name, () if name == "squared_error" else shape, (i, j))

    def _reduction(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) > 0)
        assert i is not None
        shape = self.shapes[i]
        axis, keepdims = self.one([None, *range(-len(shape), len(shape))]), self.draw(st.booleans())
        gone = set(range(len(shape))) if axis is None else {axis % len(shape)}
        if name not in ("sum", "prod"):
            self.fill(*(shape[k] for k in gone))
        left = tuple(1 if k in gone else length for k, length in enumerate(shape) if keepdims or k not in gone)
        self.add(name, left, (i,), (axis, keepdims))

    def _softmax(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) > 0)
        assert i is not None
        axis = self.draw(st.integers(-len(self.shapes[i]), len(self.shapes[i]) - 1))
        if name != "cumsum":
            self.fill(self.shapes[i][axis])
        k = axis % len(self.shapes[i])
        left = self.shapes[i][:k] + self.shapes[i][k + 1 :]
        self.add(name, left if name == "logsumexp" else self.shapes[i], (i,), axis)

    _log_softmax = _logsumexp = _cumsum = _softmax

    def _transpose(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) == 2)
        assert i is not None
        self.add(name, self.shapes[i][::-1], (i,))

    def _slice(self, name: str) -> None:
        part = self.one(sorted(SLICES))
        axis = self.draw(st.integers(0, 1))

        def sliced(length: int | str) -> int | str | None:
            return length if part == "reversed" else SLICED.get((str(length), part))

        i = self.value(lambda shape: len(shape) > axis and sliced(shape[axis]) is not None)
        if i is not None:
            shape = list(self.shapes[i])
            shape[axis] = sliced(shape[axis]) or 0
            self.add(name, tuple(shape), (i,), (part, axis))

    def _of_rows(
        self, name: str, lengths: tuple[str, ...] = ("n",), rest: Any = None, first: str | None = None
    ) -> None:
        """A step on a value with one of these lengths first, which stays or becomes another."""
        i = self.value(lambda shape: len(shape) > 0 and shape[0] in lengths)
        if i is not None:
            self.add(name, (first or self.shapes[i][0], *self.shapes[i][1:]), (i,), rest)

    def _gather(self, name: str) -> None:
        self._of_rows(name, first="m")

    def _permute(self, name: str) -> None:
        self._of_rows(name)

    def _rotate(self, name: str) -> None:
        self._of_rows(name, tuple(LENGTHS))

    def _columns(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) == 2 and shape[1] == D)
        if i is not None:
            which, left = self.one([(1, ()), (slice(1, 3), (2,)), ([2, 0, 1, 1], (D,)), (slice(2, 3), (1,))])
            self.add(name, (self.shapes[i][0], *left), (i,), which)

    def _expand(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) == 1)
        if i is not None:
            last = self.draw(st.booleans())
            self.add(name, (*self.shapes[i], 1) if last else (1, *self.shapes[i]), (i,), last)

    def _join_rows(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) > 0 and shape[0] == "n")
        j = self.value(lambda shape: shape == ("m", *self.shapes[i or 0][1:]))
        if i is not None and j is not None:
            self.add(name, ("both", *self.shapes[i][1:]), (i, j))

    def _join_columns(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) == 2 and shape[1] in (1, 2))
        if i is not None:
            j = self.value(lambda shape: shape == self.shapes[i])
            assert j is not None
            self.add(name, (self.shapes[i][0], 2 * int(self.shapes[i][1])), (i, j))

    def _attention(self, name: str) -> None:
        def suits(shape: Shape) -> bool:
            return shape[1:] in ((D,), (2, 2)) and isinstance(shape[0], str)

        i = self.value(suits)
        assert i is not None
        q = self.shapes[i]
        j = self.value(lambda shape: suits(shape) and shape[1:] == q[1:])
        assert j is not None
        k = self.value(lambda shape: shape == self.shapes[j])
        assert k is not None
        self.fill(self.shapes[j][0])
        mask = self.one([None, (self.shapes[j][0],), (q[0], self.shapes[j][0])])
        self.add(name, q, (i, j, k), (self.draw(st.booleans()), mask))

    def _heads(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) == 2 and shape[1] == D)
        if i is not None:
            self.add(name, (self.shapes[i][0], 2, 2), (i,))

    def _no_heads(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) == 3 and shape[1:] == (2, 2))
        if i is not None:
            self.add(name, (self.shapes[i][0], D), (i,))

    def _pick(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) > 0)
        assert i is not None
        self.fill(self.shapes[i][0])
        self.add(name, self.shapes[i][1:], (i,), self.one([0, -1, None]))

    def _list(self, name: str) -> None:
        how = self.one(sorted(LISTS))
        i = self.value(lambda shape: len(shape) > 0)
        assert i is not None
        self.fill(self.shapes[i][0])
        self.add(name, self.shapes[i] if how in ("stack", "softmax") else self.shapes[i][1:], (i,), how)

    def _cross_entropy(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) == 1)
        if i is not None:
            self.fill(self.shapes[i][0])
            self.add(name, (), (i,))

    def _convolution(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) == 2 and shape[1] == D and isinstance(shape[0], str))
        assert i is not None
        self.fill(self.shapes[i][0])
        self.add(name, self.shapes[i], (i,), self.one([1, "same"]))

    def _cell_each_row(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) == 2 and shape[1] == D)
        if i is not None:
            self.add(name, self.shapes[i], (i,))

    def _cell_all_rows(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) == 2 and shape[1] == D)
        if i is not None:
            self.fill(self.shapes[i][0])
            self.add(name, (D,), (i,))

    def _inner_grad(self, name: str) -> None:
        i = self.value(lambda shape: True)
        assert i is not None
        self.fill(*self.shapes[i])
        self.add(name, self.shapes[i], (i,))


EVERYTHING = frozenset(RUN)
CELLS = frozenset(name for name in RUN if name.startswith("cell"))
NOT_TWICE = frozenset(["inner grad"])
"""Left out where a program is itself differentiated twice: a third derivative takes long and adds little."""


@st.composite
def programs(draw: Any, allowed: frozenset[str], n_steps: int = 10) -> Program:
    """A program made of the allowed steps, and one to six examples."""
    drawer = _Drawer(draw, allowed)
    summed, returned = draw_steps(draw, drawer, n_steps)
    examples = []
    for _ in range(draw(st.integers(1, 6))):
        n = draw(st.one_of(st.integers(drawer.least["n"], 5), st.just(19)))
        m = draw(st.integers(drawer.least["m"], 4)) if n else 0
        words, picked = (draw(st.lists(st.integers(0, 4), min_size=k, max_size=k)) for k in (n, m))
        examples.append(Example(tuple(words), tuple(picked), draw(st.integers(0, 2)), draw(st.integers(0, 1000))))
    return Program(tuple(drawer.steps), summed, returned, tuple(examples))
