"""Matrices of nodes: products that read and leave them in pools give what the one-by-one loop gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from tests.requested import host

WIDTH = 16
Tree = Any  # a word, or a pair of trees
TREES: list[Tree] = [(0, 1), ((2, 3), 1), 4, (((0, 0), 2), (1, (3, 4))), ((1, 2), (3, 3))]


class Matrices(nn.Module):
    """A vector and a matrix at each node; both children's matrices meet in one product, and act on a vector."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.vectors = ab.Parameter(rng.normal(size=(5, WIDTH)))
        self.matrices = ab.Parameter(rng.normal(size=(5, WIDTH, WIDTH)) / 4)
        self.pair = ab.Parameter(rng.normal(size=(WIDTH, 2 * WIDTH)) / 6)
        self.halves = ab.Parameter(rng.normal(size=(WIDTH, WIDTH)) / 4)

    def word(self, number: int) -> Any:
        return self.vectors[number], self.matrices[number]

    @ab.cell
    def compose(self, a: Any, A: Any, b: Any, B: Any) -> Any:
        return ab.tanh(B @ a + ab.transpose(A) @ b), self.pair @ ab.concat([A, B], axis=0)

    @ab.cell
    def mixed(self, A: Any, a: Any) -> Any:
        return self.halves @ A, A @ a

    def encode(self, tree: Tree) -> Any:
        if isinstance(tree, int):
            return self.word(tree)
        (a, A), (b, B) = map(self.encode, tree)
        a, A = self.compose(a, A, b, B)
        swapped = ab.concat([A[WIDTH // 2 :], A[: WIDTH // 2]], axis=0)  # a view, whose rows lie apart
        A, c = self.mixed(swapped, a)
        return a + c, A

    def loss(self, tree: Tree) -> Any:
        vector, matrix = self.encode(tree)
        return ab.sum(vector * vector) + 0.1 * ab.sum(matrix * vector)


def outcome(model: Matrices, batched: bool, n_steps: int = 1) -> list[Any]:
    for p in model.parameters():
        p.grad = None
    for _ in range(n_steps):
        losses = ab.map(model.loss, TREES, batched=batched)
        ab.sum(losses).backward()
    return [*ab.evaluate(losses), *(host(p.grad) for p in model.parameters())]


@pytest.mark.parametrize("library", ["own", "numpy"])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_batched_equals_loop(library: str, backend: str) -> None:
    with ab.backend(backend), ab.products(library):
        model = Matrices()
        for got, want in zip(outcome(model, True), outcome(model, False), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(want).max())))


def test_nothing_is_copied() -> None:
    with ab.backend("numba"), ab.profile() as prof:
        outcome(Matrices(), True)
    copied, in_place = prof.kernel_bytes["compose"]
    assert in_place > 4 * copied


def test_rows_of_a_table_from_two_recordings_in_one_reverse_pass() -> None:
    """Their cotangents lie in memory that is used again; each table is put together before."""
    table = ab.Parameter(np.random.default_rng(1).normal(size=(7, 3)))

    def gradient(force: bool) -> Any:
        table.grad = None
        first = ab.map(lambda k: ab.tanh(table[k]), [0, 1, 1, 4])
        if force:
            ab.evaluate(first)
        second = ab.map(
            lambda pair: ab.sum(pair[0] * table[pair[1]] * table[2]), list(zip(first, [4, 2, 6, 0], strict=True))
        )
        ab.sum(second).backward()
        return host(table.grad)

    np.testing.assert_allclose(gradient(True), gradient(False), rtol=1e-5, atol=1e-6)
