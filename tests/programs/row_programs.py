"""Programs over rows of any number, and what their steps compute; `drawing_rows` draws them at random.

A length is "n" or "m", which every example has its own of (0 and 1 among them), or follows from these: `LENGTHS`.
A program is a list of steps; step k makes value k.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn

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
