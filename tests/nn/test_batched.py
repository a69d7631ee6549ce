"""Layers in models: a minibatch has the values and gradients of the one-by-one loop and of finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.record.parameter import SparseRows
from tests.requested import host

Tree = tuple[int, list[Any]]  # word, children


class Sequences(nn.Module):
    """A sentence is a list of word numbers, of any length but 0."""

    def __init__(self, cell: nn.Module) -> None:
        self.embed = nn.Embedding(9, 3)
        self.cell = cell
        self.norm = nn.LayerNorm(4)
        self.out = nn.Linear(4, 2)

    def loss(self, words: list[int]) -> Any:
        state = None
        for word in words:
            state = self.cell(self.embed[word], state)
        h = state[0] if isinstance(state, tuple) else state
        return ab.sum(self.out(self.norm(h)) ** 2)


class ChildSumTrees(nn.Module):
    def __init__(self) -> None:
        self.embed = nn.Embedding(9, 3)
        self.node = nn.ChildSumTreeLSTMCell(3, 4)
        self.out = nn.Linear(4, 2)

    def encode(self, tree: Tree) -> Any:
        word, children = tree
        return self.node(self.embed[word], [self.encode(child) for child in children])

    def loss(self, tree: Tree) -> Any:
        return ab.sum(self.out(self.encode(tree)[0]) ** 2)


class BinaryTrees(nn.Module):
    def __init__(self) -> None:
        self.embed = nn.Embedding(9, 3)
        self.leaf = nn.TreeLSTMLeaf(3, 4)
        self.node = nn.BinaryTreeLSTMCell(4)

    def encode(self, tree: Tree) -> Any:
        word, children = tree
        if len(children) < 2:
            return self.leaf(self.embed[word])
        return self.node(self.encode(children[0]), self.encode(children[1]))

    def loss(self, tree: Tree) -> Any:
        h, c = self.encode(tree)
        return ab.sum(h * h) + ab.sum(c)


def grow(rng: np.random.Generator, depth: int) -> Tree:
    n_children = int(rng.integers(0, 4)) if depth else 0
    return int(rng.integers(9)), [grow(rng, depth - 1) for _ in range(n_children)]


RNG = np.random.default_rng(3)
SENTENCES = [RNG.integers(9, size=length).tolist() for length in (1, 4, 2, 6, 1)]
TREES = [grow(RNG, 3) for _ in range(6)]
MODELS: dict[str, tuple[Callable[[], Any], list[Any]]] = {
    "LSTMCell": (lambda: Sequences(nn.LSTMCell(3, 4)), SENTENCES),
    "LSTMCell without bias": (lambda: Sequences(nn.LSTMCell(3, 4, bias=False)), SENTENCES),
    "GRUCell": (lambda: Sequences(nn.GRUCell(3, 4)), SENTENCES),
    "GRUCell without bias": (lambda: Sequences(nn.GRUCell(3, 4, bias=False)), SENTENCES),
    "ChildSumTreeLSTMCell": (ChildSumTrees, TREES),
    "BinaryTreeLSTMCell": (BinaryTrees, TREES),
}

models = pytest.mark.parametrize(("make", "examples"), MODELS.values(), ids=MODELS.keys())


def losses_and_gradients(model: Any, examples: list[Any], batched: bool) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    model.zero_grad()
    losses = ab.map(model.loss, examples, batched=batched)
    ab.mean(losses).backward()
    return np.array([float(loss) for loss in losses]), dense_gradients(model)


def dense_gradients(model: nn.Module) -> dict[str, np.ndarray]:
    gradients = {}
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        assert gradient is not None, f"{name} was not reached"
        gradients[name] = host(gradient)
    return gradients


@models
def test_batched_equals_one_by_one(make: Callable[[], Any], examples: list[Any]) -> None:
    model = make()
    batched, batched_gradients = losses_and_gradients(model, examples, batched=True)
    single, single_gradients = losses_and_gradients(model, examples, batched=False)
    assert np.abs(batched - single).max() <= 1e-10 * (1 + np.abs(single).max())
    for name, expected in single_gradients.items():
        assert np.abs(batched_gradients[name] - expected).max() <= 1e-8 * (1 + np.abs(expected).max()), name


@models
def test_gradients_are_those_of_central_differences(make: Callable[[], Any], examples: list[Any]) -> None:
    model, step = make(), 1e-5
    _, gradients = losses_and_gradients(model, examples, batched=True)
    rng = np.random.default_rng(0)
    # One random direction for each parameter: a wrong gradient is orthogonal to the error only by chance.
    for name, parameter in model.named_parameters():
        start, direction = parameter.numpy(), rng.normal(size=parameter.shape)
        ends = []
        for sign in (1, -1):
            parameter.value = start + sign * step * direction
            with ab.no_grad():
                ends.append(float(ab.mean(ab.map(model.loss, examples))))
        parameter.value = start
        slope = (ends[0] - ends[1]) / (2 * step)
        expected = float((gradients[name] * direction).sum())
        # Central differences err by about step² and by rounding / step, both near 1e-10 here.
        assert abs(slope - expected) <= 1e-7 * (1 + abs(slope)), name


@ab.cell
def total(table: Any, indices: list[int]) -> Any:
    return ab.sum(ab.sum([table[k] * 2.0 for k in indices], shape=(3,)))


LOOKUPS: dict[str, Callable[[Any, int], Any]] = {
    "one": lambda table, k: ab.sum(table[k]),
    "several at once": lambda table, k: ab.sum(table[np.array([k, k + 1])] * 3.0),
    "one twice": lambda table, k: ab.sum(table[k] * table[k + 1]) + ab.sum(table[k]),
    "a list": lambda table, k: total(table, list(range(k))),
}


@pytest.mark.parametrize("look_up", LOOKUPS.values(), ids=LOOKUPS.keys())
def test_a_table_only_looked_up_has_a_gradient_of_rows_one_by_one_too(look_up: Callable[[Any, int], Any]) -> None:
    """What kind of gradient a table has decides which rows an optimiser moves."""
    table = ab.Parameter(np.arange(30.0).reshape(10, 3))
    gradients = []
    for batched in (True, False):
        table.grad = None
        ab.sum(ab.map(lambda k: look_up(table, k), [0, 2, 5, 2], batched=batched)).backward()
        gradients.append(table.grad)
    expected, rows = gradients
    assert isinstance(expected, SparseRows) and isinstance(rows, SparseRows)
    np.testing.assert_array_equal(rows.rows, expected.rows)
    np.testing.assert_allclose(host(rows.values), host(expected.values), rtol=1e-10)


@pytest.mark.parametrize("batched", [True, False])
def test_a_mask_of_dropout_belongs_to_the_example_not_to_the_batch(batched: bool) -> None:
    drop, x = nn.Dropout(0.5), ab.constant(np.ones(50))
    ab.seed(2)
    together = [t.numpy() for t in ab.map(lambda _: drop(x), range(4), batched=batched)]
    ab.seed(2)
    fewer = [t.numpy() for t in ab.map(lambda _: drop(x), range(2))]
    for mask, again in zip(fewer, together, strict=False):
        np.testing.assert_array_equal(mask, again)
    assert not np.array_equal(together[0], together[1])
