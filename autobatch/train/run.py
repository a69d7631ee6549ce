"""What training holds: the state that a checkpoint keeps, and what callbacks look at."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn, optim

from ..base.errors import key_error, message
from .metrics import Metrics, Sums, counted

__all__ = ["Run"]


class Run:
    """Training under way, or at its end.

    Attributes:
        model, batches, optimizer, scheduler, epochs, metrics, max_norm: as given to `fit`.
        loss: of an example, as given to `fit`, or `model.loss`.
        history: a dict for each epoch: `epoch` (from 1), `loss`, metrics, `lr` (at its end), `seconds` of training,
            `examples_per_second`, and loss and metrics on test data, as `test_loss` and so on.
        sums: what was counted in the epoch under way.
        seconds: spent in it.
        stop: set it to end training: after this minibatch, if set in `on_step`, after this epoch, if set in `on_epoch`.
        interrupted: whether Ctrl-C was pressed.

    >>> model = nn.Linear(1, 1)
    >>> batches = ab.data.minibatches([1.0, 2.0], batch_size=2)
    >>> optimizer = optim.SGD(model.parameters(), lr=0.01)
    >>> loss = lambda x: ab.squared_error(model(ab.tensor([x])), ab.tensor([x]))
    >>> run = ab.train.fit(model, batches, optimizer, epochs=2, callbacks=[], loss=loss)
    >>> [record["epoch"] for record in run.history]
    [1, 2]
    """

    def __init__(
        self,
        model: nn.Module,
        batches: ab.data.Minibatches[Any],
        optimizer: optim.Optimizer,
        scheduler: Any = None,
        epochs: int = 0,
    ) -> None:
        self.model, self.batches, self.optimizer = model, batches, optimizer
        self.scheduler, self.epochs = scheduler, epochs
        self.loss: Callable[[Any], Any] = lambda example: None
        self.metrics: Metrics | None = None
        self.max_norm: float | None = None
        self.history: list[dict[str, float]] = []
        self.sums = Sums()
        self.seconds = 0.0
        self.stop = self.interrupted = False
        self.uncounted: tuple[Any, Any, Any] | None = None

    def count(self) -> None:
        """Count the last minibatch, if it has not been counted; FloatingPointError if its loss is not finite."""
        if self.uncounted is None:
            return
        batch, loss, outputs = self.uncounted
        self.uncounted = None
        value, found = ab.evaluate((loss, outputs))
        if not math.isfinite(value):
            what = f"fit: the loss of a minibatch of epoch {len(self.history) + 1} is not finite"
            repair = "lower the learning rate or max_norm, or find the op under `with ab.check_finite():`"
            raise FloatingPointError(message(what, got=f"{float(value)}", repair=repair))
        self.sums.add({"loss": (float(value) * len(batch), len(batch))})
        if self.metrics is not None:
            self.sums.add(counted(self.metrics, batch, found))

    def is_best(self, monitor: str, mode: str = "min") -> bool:
        """Whether the last epoch is better than all before it, by this name in `history`.

        >>> run = ab.train.Run(None, None, None)
        >>> run.history = [{"loss": 3.0}, {"loss": 2.0}, {"loss": 2.0}]
        >>> run.is_best("loss")
        False
        """
        return len(self.history) - 1 == self.best_epoch(monitor, mode)

    def best_epoch(self, monitor: str, mode: str = "min") -> int:
        """The first of the best epochs, counted from 0; NaN is worse than any number. KeyError for an unknown name."""
        sign = 1 if checked_mode(mode) == "min" else -1
        if any(monitor not in record for record in self.history):
            expected, got = ", ".join(self.history[-1]), repr(monitor)
            raise key_error("history: there is no such name", expected=expected, got=got)
        values = [sign * record[monitor] for record in self.history]
        return min(range(len(values)), key=lambda k: (math.isnan(values[k]), values[k]), default=-1)

    # State.

    def state_dict(self) -> dict[str, Any]:
        """All that training changes, in the flat form that `ab.save` takes, but for `history`: parameters, the state of
        optimiser and scheduler, which minibatch comes next, where the random streams are, what was counted."""
        self.count()
        state = {f"{part}.{name}": x for part, held in self._parts().items() for name, x in held.state_dict().items()}
        state |= {f"random.{name}": x for name, x in ab.random_state().items()}
        state |= {f"sums.{name}": np.array(pair, np.float64) for name, pair in self.sums.sums.items()}
        return state | {"seconds": np.array(self.seconds)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was called; ValueError where the state does not fit."""
        had, has = ("scheduler" if x else "no scheduler" for x in (below(state, "scheduler"), self.scheduler))
        if had != has:
            repair = "pass the scheduler of the run" if had == "scheduler" else "leave out scheduler="
            raise ValueError(message("fit: the state is not that of such a run", expected=had, got=has, repair=repair))
        for part, held in self._parts().items():
            held.load_state_dict(below(state, part))
        ab.set_random_state(below(state, "random"))
        self.sums = Sums()
        sums = sorted(below(state, "sums").items(), key=lambda item: item[0] != "loss")
        self.sums.sums = {name: (float(pair[0]), float(pair[1])) for name, pair in sums}
        self.seconds = float(state["seconds"])

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer, "batches": self.batches, "scheduler": self.scheduler}
        return {name: part for name, part in parts.items() if part is not None}


def checked_mode(mode: str) -> str:
    """`mode`; ValueError if there is no such one."""
    if mode not in ("min", "max"):
        raise ValueError(message("train: there is no such mode", expected='"min" or "max"', got=repr(mode)))
    return mode


def below(state: Mapping[str, Any], part: str) -> dict[str, Any]:
    """What stands in a state under `part.`, without it."""
    return {name.removeprefix(f"{part}."): x for name, x in state.items() if name.startswith(f"{part}.")}
