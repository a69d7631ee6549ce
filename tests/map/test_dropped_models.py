"""A model that nobody holds any more goes, with its parameters: through cells, through recordings that are reused."""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn, optim
from autobatch.map.store import own_store

DIM = 6
EXAMPLES = [np.full(DIM, float(k)) for k in range(3)]


@pytest.fixture(autouse=True, scope="module")
def nothing_older_is_collected() -> Iterator[None]:
    """Each collection of what all earlier tests left would take seconds."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True, params=["numpy", "numba"])
def any_backend(request: Any) -> Iterator[None]:
    with ab.backend(request.param):
        ab.forget()
        yield
        ab.forget()


class Model(nn.Module):
    def __init__(self) -> None:
        self.layers = [nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)]
        self.start = ab.Parameter(np.zeros(DIM))
        self.layers[0].parent = self  # type: ignore[attr-defined]  # a module that leads back to the model
        self.activation = self.bent  # and a method that does

    def bent(self, x: Any) -> Any:
        return ab.tanh(x)

    def plain(self, x: Any) -> Any:
        h = ab.tensor(x) + self.start * 2.0
        for layer in self.layers:
            h = self.activation(layer(h))
        return h.sum()

    @ab.cell
    def step(self, x: Any, h: Any) -> Any:
        for layer in self.layers:
            x = self.activation(layer(x))
        return (x + h).sum()

    def by_cell(self, x: Any) -> Any:
        return self.step(ab.tensor(x), self.start)


@ab.cell
def by_argument(model: Model, x: Any) -> Any:
    return model.activation(model.layers[1](x)).sum()


@ab.cell
def by_parameter(weight: Any, x: Any) -> Any:
    return (weight @ x).sum()


CURRENT: Any = None


@ab.cell
def by_global(x: Any) -> Any:
    return CURRENT.activation(CURRENT.layers[1](x)).sum()


def set_current(model: Any) -> None:
    global CURRENT
    CURRENT = model


def caught(model: Model) -> Any:
    weight, bias, layers = model.layers[0].weight, model.start, model.layers
    inner = ab.cell(lambda x: layers[1](x).sum())
    outer = ab.cell(lambda x: (weight @ x + bias).sum())
    return lambda x: inner(ab.tensor(x)) + outer(ab.tensor(x))


def made_a_cell(model: Model) -> Any:
    layer = ab.cell(model.layers[1])
    return lambda x: layer(ab.tensor(x)).sum()


WAYS: dict[str, Callable[[Model], Callable[[Any], Any]]] = {
    "without cells": lambda model: model.plain,
    "cell that is a method": lambda model: model.by_cell,
    "model as an argument": lambda model: lambda x: by_argument(model, ab.tensor(x)),
    "parameter as an argument": lambda model: lambda x: by_parameter(model.layers[0].weight, ab.tensor(x)),
    "caught": caught,
    "global": lambda model: lambda x: by_global(ab.tensor(x)),
    "partial": lambda model: functools.partial(lambda model, x: model.by_cell(x), model),
    "module made a cell": made_a_cell,
}


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_dropped_models_go(way: str, reuse: bool) -> None:
    def one() -> list[Any]:
        model = Model()
        set_current(model)
        function = WAYS[way](model)
        optimizer = optim.Adam(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            loss = ab.mean(ab.map(function, EXAMPLES, reuse=reuse))
            loss.backward()
            optimizer.step()
        return [weakref.ref(model), *(weakref.ref(p) for p in model.parameters())]

    references = [r for _ in range(4) for r in one()]
    set_current(None)
    ab.evaluate(ab.map(lambda x: ab.tensor(x) * 2.0, EXAMPLES))
    gc.collect()
    gc.collect()
    assert sum(r() is not None for r in references) == 0


def test_recordings_of_models_that_went_are_given_up() -> None:
    for _ in range(5):
        model = Model()
        ab.evaluate(ab.map(model.plain, EXAMPLES, reuse=True))
        del model
        gc.collect()
    ab.evaluate(ab.map(lambda x: ab.tensor(x) * 2.0, EXAMPLES, reuse=True))
    store = own_store()
    assert len(store.kept) == len(EXAMPLES)
    assert len(store.contexts) == 1
    assert sum(k.n_bytes for k in store.kept) == store.n_bytes
    assert sum(s is not None for s in store.common.signatures.things) == 2  # the array, and its product


def test_a_parameter_made_where_another_was_is_another() -> None:
    """Identities are used again by Python; what was recorded for the old object is not taken for the new."""
    for k in range(20):
        weight = ab.Parameter(np.full((2, 2), float(k)))
        fn = functools.partial(lambda weight, x: (weight @ ab.tensor(x)).sum(), weight)
        (got,) = ab.map(fn, [(1.0, 1.0)], reuse=True)
        assert float(got) == 4.0 * k
        assert float(by_parameter(weight, ab.tensor([1.0, 1.0]))) == 4.0 * k
        del weight, fn, got
        gc.collect()
