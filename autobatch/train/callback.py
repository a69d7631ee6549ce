"""Callbacks: what happens beside training."""

from __future__ import annotations

from ..base.errors import message
from .run import Run, checked_mode

__all__ = ["Callback", "EarlyStopping"]


class Callback:
    """Base class; a callback overrides what it needs. Each is given the `Run`, and may set `run.stop`.

    >>> class Losses(ab.train.Callback):
    ...     def on_epoch(self, run):
    ...         print(f"after epoch {len(run.history)}: {run.history[-1]['loss']:.2f}")
    """

    def on_start(self, run: Run) -> None:
        """Before the first epoch; after a checkpoint was taken over, if there is one."""

    def on_step(self, run: Run) -> None:
        """After each minibatch."""

    def on_epoch(self, run: Run) -> None:
        """After each epoch, when the model was tested; `run.history[-1]` is what came out."""

    def on_interrupt(self, run: Run) -> None:
        """When training ends within an epoch, by Ctrl-C or `run.stop`; a state saved here goes on from there."""

    def on_end(self, run: Run) -> None:
        """At the end, however it comes."""


class EarlyStopping(Callback):
    """End training when a metric has not become better for `patience` epochs.

    Arguments:
        monitor: a name in the records of `Run.history`.
        mode: "min" or "max", whichever is better.

    Raises ValueError for another mode, and for a patience below 1.

    It goes by the history alone, so it also counts epochs before a checkpoint.

    >>> ab.train.EarlyStopping("test_accuracy", "max", patience=3)
    EarlyStopping('test_accuracy', 'max', patience=3)
    """

    def __init__(self, monitor: str = "test_loss", mode: str = "min", patience: int = 5) -> None:
        if patience < 1:
            raise ValueError(message("EarlyStopping: patience is too small", expected="1 or more", got=f"{patience}"))
        self.monitor, self.mode, self.patience = monitor, checked_mode(mode), patience

    def on_start(self, run: Run) -> None:
        if run.history:
            self.on_epoch(run)

    def on_epoch(self, run: Run) -> None:
        run.stop |= len(run.history) - 1 - run.best_epoch(self.monitor, self.mode) >= self.patience

    def __repr__(self) -> str:
        return f"EarlyStopping({self.monitor!r}, {self.mode!r}, patience={self.patience})"
