"""The one-by-one loop gives gradients in the form that a batched run gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import optim
from autobatch.record.parameter import SparseRows

pytestmark = pytest.mark.usefixtures("on_the_host")


Loss = Callable[[ab.Parameter, Any], Any]


def looked_up(table: ab.Parameter, words: list[int]) -> Any:
    return ab.sum([(table[word] * table[words[0]]).sum() for word in words])


@ab.cell
def pair(table: ab.Parameter, first: int, second: int) -> Any:
    return (ab.tanh(table[first]) * table[second]).sum()


def in_a_cell(table: ab.Parameter, words: list[int]) -> Any:
    return pair(table, words[0], words[-1])


def at_once(table: ab.Parameter, words: list[int]) -> Any:
    return (table[ab.tensor(words)] ** 2).sum()


def read_whole(table: ab.Parameter, words: list[int]) -> Any:
    return (table[words[0]] * table).sum()


BATCHES = [[[3, 1, 3], [0, -2]], [[2], [4, 4, 1]], [[3, 0]]]


@pytest.mark.parametrize("loss", [looked_up, in_a_cell, at_once, read_whole])
def test_tables_train_alike_one_by_one_and_batched(loss: Loss) -> None:
    start = np.random.default_rng(0).normal(size=(6, 3))
    tables = [ab.Parameter(start, dtype="float64") for _ in range(2)]
    optimizers = [optim.Adam([table], lr=0.1) for table in tables]
    for batch in BATCHES:
        for table, optimizer, batched in zip(tables, optimizers, (True, False), strict=True):
            optimizer.zero_grad()
            ab.sum(ab.map(lambda words, table=table: loss(table, words), batch, batched=batched)).backward()
        gradients = [table.grad for table in tables]
        assert type(gradients[0]) is type(gradients[1])
        if isinstance(gradients[0], SparseRows):
            np.testing.assert_array_equal(gradients[1].rows, gradients[0].rows)
            gradients = [gradient.to_dense() for gradient in gradients]
        np.testing.assert_allclose(gradients[1], gradients[0], atol=1e-12)
        for optimizer in optimizers:
            optimizer.step()
    np.testing.assert_allclose(tables[1].value, tables[0].value, atol=1e-8)
    assert (loss is read_whole) is isinstance(tables[0].grad, np.ndarray)
