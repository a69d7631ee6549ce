"""What `fit` is given: each argument is checked before training begins."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any

import autobatch as ab
from autobatch import optim

from ..base.errors import message
from .callback import Callback

__all__ = ["check_data", "check_kinds", "listed"]


def listed(callbacks: Any) -> list[Callback]:
    """The callbacks; TypeError where one is none."""
    given: list[Any] = (
        [callbacks] if isinstance(callbacks, type) or not isinstance(callbacks, Iterable) else list(callbacks)
    )
    wrong = [x for x in given if not isinstance(x, Callback)]
    if wrong or not isinstance(callbacks, Iterable):
        what, repair = "fit: callbacks is no list of callbacks", "callbacks=[ab.train.Progress()]"
        raise TypeError(message(what, got=repr((wrong or given)[0]), repair=repair))
    return given


def check_data(model: Any, batches: Any, optimizer: Any, epochs: Any, test: Any) -> None:
    """TypeError and ValueError for what cannot be trained with."""
    if not isinstance(batches, ab.data.Minibatches):
        repair = "pass ab.data.minibatches(examples, batch_size=32, shuffle=True)"
        raise TypeError(message("fit: these are no minibatches", got=type(batches).__name__, repair=repair))
    if not batches.n_examples:
        raise ValueError(message("fit: there is nothing to train on", expected="one example or more", got="none"))
    if not len(batches):
        what, repair = "fit: there is no minibatch to train on", "leave out drop_last, or take a smaller batch_size"
        raise ValueError(message(what, got=f"{batches.n_examples} examples", repair=repair))
    if not isinstance(optimizer, optim.Optimizer):
        repair = "pass optim.Adam(model.parameters(), lr=1e-3), or another one"
        raise TypeError(message("fit: this is no optimiser", got=repr(optimizer), repair=repair))
    if operator.index(epochs) < 0:
        raise ValueError(message("fit: epochs is negative", expected="0 or more", got=str(epochs)))
    if isinstance(test, Iterator):
        what, repair = "fit: test can be iterated once only", "pass a list of minibatches, or ab.data.minibatches(...)"
        raise TypeError(message(what, got=type(test).__name__, repair=repair))
    own = {id(parameter) for parameter in model.parameters()}
    if own.isdisjoint(map(id, optimizer.params)):
        what, repair = "fit: the optimiser has none of the model's parameters", "make it of model.parameters()"
        raise ValueError(message(what, repair=repair))


def check_kinds(functions: dict[str, Any], scheduler: Any, optimizer: optim.Optimizer) -> None:
    """TypeError for what is no function or no scheduler; ValueError for the scheduler of another optimiser."""
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise TypeError(message(f"fit: {name} is no function", got=repr(function)))
    if scheduler is None:
        return
    if isinstance(scheduler, type) or not hasattr(scheduler, "step"):
        repair = "pass optim.lr_scheduler.StepLR(optimizer, 10), or another one"
        raise TypeError(message("fit: this is no scheduler", got=repr(scheduler), repair=repair))
    own = getattr(scheduler, "optimizer", optimizer)
    if {id(group) for group in own.param_groups}.isdisjoint(map(id, optimizer.param_groups)):
        what, repair = "fit: the scheduler is that of another optimiser", "make it of the optimiser that is given"
        raise ValueError(message(what, repair=repair))
