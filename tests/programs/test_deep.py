"""Deep inputs are normal: long chains and deep trees are recorded, run and differentiated without recursion."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn


@pytest.fixture(autouse=True)
def low_recursion_limit() -> Iterator[None]:
    with ab.backend("numpy"):
        limit = sys.getrecursionlimit()
        ab.tanh(ab.tensor(np.ones(1)) * ab.Parameter(np.ones(1))).sum().backward()  # imports and compiles
        sys.setrecursionlimit(600)
        try:
            yield
        finally:
            sys.setrecursionlimit(limit)


def test_a_chain_of_100_000_nodes() -> None:
    n = 100_000
    weight = ab.Parameter(np.full(2, 1.0), np.float64)
    x = weight * ab.tensor(np.ones(2), np.float64)
    one = ab.tensor(np.full(2, 1e-5), np.float64)
    for _ in range(n):
        x = x + one
    loss = x.sum()
    loss.backward()
    assert float(loss) == pytest.approx(2 * (1 + n * 1e-5))
    np.testing.assert_array_equal(weight.grad, [1, 1])


def test_a_chain_of_10_000_nodes_by_the_loop() -> None:
    weight = ab.Parameter(np.full(2, 1.0))

    def fn(n: int) -> Any:
        x = weight * ab.tensor(np.ones(2))
        for _ in range(n):
            x = x * 1.0
        return x.sum()

    for batched in (True, False):
        weight.grad = None
        ab.sum(ab.map(fn, [5_000, 5_000], batched=batched)).backward()
        np.testing.assert_array_equal(weight.grad, [2, 2])


class Deep(nn.Module):
    def __init__(self) -> None:
        self.w = ab.Parameter(np.eye(3) * 0.9)

    @ab.cell
    def node(self, x: Any, children: list[Any]) -> Any:
        return ab.tanh(self.w @ x + ab.sum(children, like=x) * 0.5)


def deep_tree(depth: int) -> Any:
    tree: Any = ([1.0, 2.0, 3.0], [])
    for k in range(depth):
        tree = ([0.1, 0.2, 0.3], [tree, ([1.0, 0.0, 0.0], [])] if k % 2 else [tree])
    return tree


def encode(model: Deep, tree: Any) -> Any:
    """Post-order with a stack of its own."""
    values: list[Any] = []
    stack: list[tuple[Any, bool]] = [(tree, False)]
    while stack:
        (label, children), ready = stack.pop()
        if not ready:
            stack.append(((label, children), True))
            stack.extend((child, False) for child in children)
            continue
        own = [values.pop() for _ in children]
        values.append(model.node(ab.tensor(label), own))
    return values[0]


def dismantle(tree: Any) -> None:
    """Free a deep tree without recursion, whatever the interpreter does about it."""
    while tree[1]:
        tree = tree[1].pop(0)


def test_a_tree_of_depth_10_000() -> None:
    model = Deep()
    tree = deep_tree(10_000)
    losses = ab.map(lambda t: ab.sum(encode(model, t)), [tree, deep_tree(50)])
    loss = ab.sum(losses)
    loss.backward()
    assert np.isfinite(float(loss))
    assert np.isfinite(model.w.grad).all()
    assert np.any(model.w.grad)
    dismantle(tree)


def test_a_chain_of_shared_values() -> None:
    weight = ab.Parameter(np.ones(2))
    w: Any = weight
    for _ in range(1_000):
        w = w * 1.0
    (w * ab.tensor(np.ones(2))).sum().backward()
    np.testing.assert_array_equal(weight.grad, [1, 1])
    w.sum().backward()
    np.testing.assert_array_equal(weight.grad, [2, 2])


def test_a_deep_chain_inside_a_derivative() -> None:
    def fn(x: Any) -> Any:
        for _ in range(2_000):
            x = x + 0.001
        return ab.sum(x * x)

    gradient = ab.grad(fn)(ab.tensor(np.ones(2), np.float64))
    np.testing.assert_allclose(gradient.numpy(), [6.0, 6.0])


def test_a_deep_graph_inside_a_cell() -> None:
    weight = ab.Parameter(np.ones(2))

    @ab.cell
    def long(x: Any) -> Any:
        for k in range(1_000):
            x = x * (1.0 + (k % 2) * 1e-3)
        return ab.sum(x * weight)

    long(ab.tensor(np.ones(2))).backward()
    np.testing.assert_allclose(weight.grad, [1.001**500] * 2, rtol=1e-4)
