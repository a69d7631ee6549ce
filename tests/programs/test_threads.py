"""Two threads train two models at once, each as if it were alone."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn, optim
from tests.requested import backends, host


@pytest.fixture(autouse=True)
def frequent_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


class Model(nn.Module):
    def __init__(self, table: nn.Embedding, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.inner = nn.Linear(4, 4)
        self.embed = nn.Embedding(7, 4)
        self.table = table
        self.drop = nn.Dropout(0.2)
        for p in self.parameters():
            if p is not table.weight:
                p.value = rng.normal(size=p.shape) * 0.5

    @ab.cell
    def node(self, index: int, children: list[Any]) -> Any:
        x = self.embed[index] + self.table.weight[index]
        return self.drop(ab.tanh(self.inner(x) + ab.sum(children, like=x)))

    def encode(self, tree: Any) -> Any:
        return self.node(tree[0], [self.encode(child) for child in tree[1]])

    def loss(self, tree: Any) -> Any:
        h = self.encode(tree)
        scale = 2.0 if float(h.sum()) > 0 else 3.0
        return ab.sum(h * h) * scale


def trees(seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)

    def grow(depth: int) -> Any:
        return int(rng.integers(7)), [grow(depth - 1) for _ in range(int(rng.integers(3)) if depth else 0)]

    return [grow(3) for _ in range(6)]


def train(table: nn.Embedding, seed: int, backend: str) -> list[Any]:
    """What training gives; the table, shared with the other thread, is read and never changed."""
    model = Model(table, seed)
    own = [p for p in model.parameters() if p is not table.weight]
    optimizer = optim.Adam(own, 1e-2)
    data = trees(seed)
    losses = []
    with ab.backend(backend):
        for k in range(8):
            optimizer.zero_grad()
            if k % 3 == 2:
                with ab.no_grad():
                    losses.append(float(ab.mean(ab.map(model.loss, data))))
            loss = ab.mean(ab.map(model.loss, data))
            loss.backward()
            table.weight.grad = None
            optimizer.step()
            losses.append(float(loss))
    return [np.array(losses), *(host(p.value) for p in own)]


def in_threads(jobs: list[tuple[str, Any]]) -> list[Any]:
    results: list[Any] = [None] * len(jobs)
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(jobs))

    def run(k: int, job: Any) -> None:
        try:
            barrier.wait()
            results[k] = job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(k, job), name=name) for k, (name, job) in enumerate(jobs)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]
    return results


@pytest.mark.parametrize("backend", backends("numpy", "numba"))
def test_two_threads_train_as_if_alone(backend: str) -> None:
    table = nn.Embedding(7, 4)
    alone = []
    for k in range(2):
        ab.seed(1)
        alone += in_threads([(f"worker {k}", lambda k=k: train(table, k, backend))])
    for _ in range(2):
        ab.seed(1)
        together = in_threads([(f"worker {k}", lambda k=k: train(table, k, backend)) for k in range(2)])
        for got, want in zip(together, alone, strict=True):
            for a, b in zip(got, want, strict=True):
                np.testing.assert_array_equal(a, b)


def test_modes_belong_to_a_thread() -> None:
    inside, done = threading.Event(), threading.Event()
    weight = ab.Parameter(np.ones(2))

    def hold() -> None:
        with ab.no_grad():
            inside.set()
            done.wait(10)

    def differentiate() -> Any:
        inside.wait(10)
        try:
            (weight * ab.tensor(np.ones(2))).sum().backward()
            return host(weight.grad)
        finally:
            done.set()

    _, gradient = in_threads([("holds", hold), ("differentiates", differentiate)])
    np.testing.assert_array_equal(gradient, [1, 1])


def test_work_that_waits_in_another_thread_is_its_own_affair() -> None:
    mine = ab.tanh(ab.tensor(np.ones(2)))

    def other() -> Any:
        with ab.profile() as profile:
            ab.tanh(ab.tensor(np.zeros(2))).numpy()
        return profile.nodes

    assert in_threads([("other", other)]) == [1]
    with ab.profile() as profile:
        mine.numpy()
    assert profile.nodes == 1
