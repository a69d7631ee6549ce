"""Random batched graphs: the loops, run as plain Python, against op-by-op NumPy.

Run as a script with two numbers, it tries that range of seeds.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.backends.host import parts, threads
from autobatch.base.types import Dim
from autobatch.compile.host import cache
from autobatch.compile.host.lower import lower
from autobatch.errors import OpTypeError
from autobatch.ir.graph import Graph
from autobatch.ops import elementwise as e
from autobatch.ops import functions as fn
from autobatch.ops.index import ARANGE, SCATTER_ADD, TAKE
from autobatch.ops.linalg import PRODUCT
from autobatch.ops.movement import CONCAT, RESHAPE, SLICE, TRANSPOSE, UNSLICE
from autobatch.ops.reduce import MAX, SUM
from tests.compile.host import test_lower as cases

M, N = cases.M, cases.N


class RandomGraph:
    """A graph of up to 22 ops; every op takes what fits it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.b = b = cases.Build(np.float64)
        self.w = w = self.random.choice([1, 2, 3, 4])
        self.values = [
            b.input("rows", 0, M, w),
            b.input("rows", 1, M, 2, w),
            b.input("rows", 2, M),
            b.input("cotangent", 0, M, w),
            b.input("residual", 0, M, 2, w),
            b.input("shared", 0, w),
            b.input("shared", 1),
            b.input("rows", 3, N, w),
            b.input("rows", 4, N, 2, w),
            b.input("rows", 5, M, 2 * w),
            b.const(0.5),
        ]
        self.matrix = b.input("shared", 5, w, w)
        self.segments = b.input("segments", 1, N, dtype=np.int64)
        number = b.op(ARANGE, b.const(0, np.int64), attrs=(M,))  # 0 or 1 for each row, whatever w is
        self.chosen = b.op(e.CAST, b.op(e.LESS, b.input("residual", 1, M), b.const(0.0)), attrs=("int64",))
        self.starts = {n: b.op(e.MUL, number, b.const(n, np.int64)) for n in range(2, 5)}

    def shape(self, i: int) -> tuple[Any, ...]:
        return self.b.graph.nodes[i].type.shape

    def build(self) -> tuple[Graph, tuple[bool, ...]]:
        for _ in range(self.random.randint(3, 22)):
            try:
                y = self.step(self.random.choice(self.values[-8:] if self.random.random() < 0.6 else self.values))
            except OpTypeError:
                continue  # shapes that do not broadcast
            if y is not None and not any(isinstance(n, Dim) for n in self.shape(y)[1:]):
                self.values.append(y)
        outputs = [*self.random.choices(self.values[-10:], k=self.random.randint(1, 5)), self.values[-1]]
        batched = [bool(self.shape(o)) and isinstance(self.shape(o)[0], Dim) for o in outputs]
        return self.b.out(*outputs), tuple(flag and self.random.random() < 0.4 for flag in batched)

    def step(self, x: int) -> int | None:
        kinds = {
            "binary": 7,
            "unary": 3,
            "slice": 3,
            "concat": 2,
            "unslice": 2,
            "reshape": 2,
            "reduce": 2,
            "softmax": 2,
            "pick": 1,
            "place": 1,
            "product": 1,
            "take": 1,
            "scatter": 1,
            "transpose": 1,
        }
        return getattr(self, self.random.choices(list(kinds), list(kinds.values()))[0])(x, self.shape(x))

    def binary(self, x: int, s: Any) -> int:
        return self.b.op(self.random.choice([e.ADD, e.MUL, e.SUB, e.MAXIMUM]), x, self.random.choice(self.values))

    def unary(self, x: int, s: Any) -> int:
        return self.b.op(self.random.choice([fn.TANH, fn.SIGMOID, e.NEG, e.ABS]), x)

    def axis(self, s: Any) -> int:
        return -self.random.randint(1, len(s) - 1)

    def slice(self, x: int, s: Any) -> int | None:
        if len(s) < 2:
            return None
        a = self.axis(s)
        start = self.random.randint(0, s[a] - 1)
        return self.b.op(SLICE, x, attrs=(a, start, self.random.randint(1, s[a] - start), 1))

    def concat(self, x: int, s: Any) -> int | None:
        if len(s) < 2:
            return None
        a = self.axis(s)
        rest = [n for k, n in enumerate(s) if k != len(s) + a]
        fitting = [
            y
            for y in self.values
            if len(self.shape(y)) == len(s) and [n for k, n in enumerate(self.shape(y)) if k != len(s) + a] == rest
        ]
        return self.b.op(CONCAT, x, *self.random.choices(fitting, k=self.random.randint(1, 2)), attrs=(a,))

    def unslice(self, x: int, s: Any) -> int | None:
        if len(s) < 2:
            return None
        a = self.axis(s)
        y = self.random.choice([y for y in self.values if self.shape(y) == s])
        one, two = (self.b.op(UNSLICE, v, attrs=(a, self.random.randint(0, s[a]), s[a], 1, 2 * s[a])) for v in (x, y))
        return self.b.op(e.ADD, one, two) if self.random.random() < 0.7 else one

    def reshape(self, x: int, s: Any) -> int | None:
        if not s or not isinstance(s[0], Dim):
            return None
        n = int(np.prod(s[1:]))
        shapes: list[Any] = [(s[0], n), (s[0], n, 1), (s[0], 1, n)]
        if n % 2 == 0:
            shapes += [(s[0], 2, n // 2), (s[0] * 2, n // 2)]
        if n == 1:
            shapes.append((s[0],))
        if s[0].factor > 1:
            shapes = [(Dim(s[0].index), s[0].factor, n)]
        return self.b.op(RESHAPE, x, attrs=(self.random.choice(shapes),))

    def reduce(self, x: int, s: Any) -> int | None:
        if len(s) < 2:
            return None
        axes = self.random.choice([(-1,), (-1,), (-2, -1)][: len(s)])
        y = self.b.op(self.random.choice([SUM, SUM, MAX]), x, attrs=(axes, self.random.random() < 0.6))
        return y if self.random.random() < 0.5 else self.b.op(e.SUB, x, self.b.op(fn.TANH, y))

    def softmax(self, x: int, s: Any) -> int | None:
        if len(s) < 2:
            return None
        powers = self.b.op(fn.TANH, self.b.op(e.SUB, x, self.b.op(MAX, x, attrs=((-1,), True))))
        total = self.b.op(e.ADD, self.b.op(SUM, powers, attrs=((-1,), True)), self.b.const(9.0))
        return self.b.op(e.DIV, powers, total)

    def index(self, s: Any) -> int | None:
        """One number of each row, as `batch` writes it."""
        return self.b.op(e.ADD, self.chosen, self.starts[s[1]]) if s[0] == M and s[1:] in [(2,), (3,), (4,)] else None

    def pick(self, x: int, s: Any) -> int | None:
        if not s or (index := self.index(s)) is None:
            return None
        one = self.b.op(TAKE, self.b.op(RESHAPE, x, attrs=((s[0] * s[1],),)), index)
        return self.b.op(e.ADD, one, self.b.op(SUM, x, attrs=((-1,), False)))

    def place(self, x: int, s: Any) -> int | None:
        if s != (M,) or (index := self.index((M, self.w))) is None:
            return None
        return self.b.op(RESHAPE, self.b.op(SCATTER_ADD, x, index, attrs=(M * self.w,)), attrs=((M, self.w),))

    def product(self, x: int, s: Any) -> int | None:
        return self.b.op(PRODUCT, x, self.matrix) if len(s) == 2 and s[1] == self.w else None

    def take(self, x: int, s: Any) -> int | None:
        return self.b.op(TAKE, x, self.segments) if s and s[0] == M else None

    def scatter(self, x: int, s: Any) -> int | None:
        return self.b.op(SCATTER_ADD, x, self.segments, attrs=(M,)) if s and s[0] == N else None

    def transpose(self, x: int, s: Any) -> int | None:
        return self.b.op(TRANSPOSE, x, attrs=((0, 2, 1),)) if len(s) == 3 else None


def check(seed: int) -> None:
    graph, accumulate = RandomGraph(seed).build()
    cases.check(graph, (3, 5), accumulate, tolerance=1e-9)


@pytest.mark.parametrize("block", range(4))
def test_random_graphs(block: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOBATCH_CACHE_DIR", str(tmp_path))
    load = cache.load
    monkeypatch.setattr(cache, "load", lambda source: load(source).py_func)  # type: ignore[attr-defined]
    for seed in range(25 * block, 25 * block + 25):
        check(seed)


def run_on(n_threads: int, program: Any, graph: Graph, batched: tuple[bool, ...]) -> tuple[list[Any], int]:
    """Results of a program, those of rows at rows of a pool in any order, and how many loops were shared."""
    ab.set_num_threads(n_threads)
    sizes, rng = (300, 700), np.random.default_rng(0)
    values = cases.make_inputs(graph, sizes, rng, block=False)
    outputs: list[Any] = []
    for i, flag in zip(graph.outputs, batched, strict=True):
        if flag:
            type = graph.nodes[i].type
            n, w = cases.layout(cases.resolve(type.shape, sizes))
            outputs.append(
                (np.full((n + 5, w), 77).astype(type.dtype), rng.permutation(n + 5)[:n].astype(np.int32), -1)
            )
        else:
            outputs.append(None)
    n_shared: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "share", lambda *arguments: n_shared.append(arguments[2]) or threads.share(*arguments))
        found = program.run(sizes[0], sizes, values, outputs)
    return [a if o is None else o[0] for a, o in zip(found, outputs, strict=True)], len(n_shared)


def test_random_graphs_have_the_same_bits_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SHARED", 1)
    monkeypatch.setattr(parts, "PART", 1)
    monkeypatch.setattr(threads, "LONGEST", 0)
    before = ab.get_num_threads()
    total = 0
    try:
        for seed in range(6):
            graph, _ = RandomGraph(seed).build()
            batched = tuple(
                bool(graph.nodes[o].type.shape) and isinstance(graph.nodes[o].type.shape[0], Dim) for o in graph.outputs
            )
            program = lower(graph, "parts", batched, "numba", add=False)
            alone, _ = run_on(1, program, graph, batched)
            for n_threads in (2, 3):
                found, n_shared = run_on(n_threads, program, graph, batched)
                total += n_shared
                assert all(np.array_equal(x, y, equal_nan=True) for x, y in zip(found, alone, strict=True)), seed
    finally:
        ab.set_num_threads(before)
    assert total > 20


if __name__ == "__main__":
    whole = cache.load
    cache.load = lambda source: whole(source).py_func  # type: ignore[attr-defined]
    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        try:
            check(number)
        except Exception as error:
            print("seed", number, type(error).__name__, str(error)[:300])
