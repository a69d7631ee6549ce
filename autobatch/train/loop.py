"""The training loop: minibatches of examples, epochs, counts, tests, and calls of callbacks.

Where it does not fit, write your own. Without what surrounds it, it is

    for batch in batches:
        optimizer.zero_grad()
        loss = ab.mean(ab.map(model.loss, batch))
        loss.backward()
        optim.clip_grad_norm(model.parameters(), max_norm)
        optimizer.step()
        scheduler.step()
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import autobatch as ab
from autobatch import nn, optim

from .arguments import check_data, check_kinds, listed
from .callback import Callback
from .checkpoint import restore
from .evaluation import evaluate, loss_of, losses_of
from .metrics import Metrics, Sums
from .progress import Progress
from .run import Run

__all__ = ["fit"]


def fit(
    model: nn.Module,
    batches: ab.data.Minibatches[Any],
    optimizer: optim.Optimizer,
    epochs: int,
    test: Iterable[Sequence[Any]] = (),
    *,
    loss: Callable[[Any], Any] | None = None,
    metrics: Metrics | None = None,
    scheduler: Any = None,
    max_norm: float | None = None,
    callbacks: Sequence[Callback] | None = None,
    resume: str | os.PathLike[str] | None = None,
) -> Run:
    """Train a model until it has seen all minibatches `epochs` times.

    It has many arguments, of which the first four are enough.

    Arguments:
        model: what is trained.
        batches: of `ab.data.minibatches`.
        optimizer: of the model's parameters.
        epochs: in all, those before `resume` included.
        test: minibatches on which the model is evaluated after every epoch.
        loss: of an example, a scalar; or a pair of it and what `metrics` looks at. By default `model.loss`.
        metrics: counts beside the loss, such as `ab.train.accuracy(labels)`: of examples and what the model said of
            each, a sum and a count for each name.
        scheduler: of the learning rate, stepped after every minibatch; `ReduceLROnPlateau`, after every epoch, with the
            loss on `test` if there is one.
        max_norm: longer gradients are scaled down to this length.
        callbacks: called in this order; by default `[ab.train.Progress()]`.
        resume: a checkpoint to go on from, as if training had never stopped.

    Returns the run, whose `history` has a dict for each epoch. Ctrl-C ends training after the minibatch under way, when
    all callbacks have been called, with KeyboardInterrupt; pressed again, at once.

    Raises FloatingPointError where the loss of a minibatch is not finite; ValueError where there are no examples or
    minibatches, where the optimiser has none of the model's parameters, where the scheduler is that of another
    optimiser, for a metric whose name is taken, and where `resume` does not fit, as with another batch size; TypeError
    for arguments of other kinds, and for a model without `loss`, where none is given.

    >>> class Line(nn.Module):
    ...     def __init__(self):
    ...         self.w = ab.Parameter([0.0])
    ...
    ...     def loss(self, point):
    ...         x, y = point
    ...         return ab.squared_error(self.w * x, ab.tensor([y]))
    >>> model = Line()
    >>> points = ab.data.minibatches([(1.0, 2.0), (2.0, 4.0)], batch_size=2)
    >>> run = ab.train.fit(model, points, optim.SGD(model.parameters(), lr=0.1), epochs=20, callbacks=[])
    >>> model.w.value.round(3), run.history[0]["loss"], len(run.history)
    (array([2.], dtype=float32), 10.0, 20)
    """
    called = [Progress()] if callbacks is None else listed(callbacks)
    check_data(model, batches, optimizer, epochs, test)
    check_kinds({"loss": loss, "metrics": metrics}, scheduler, optimizer)
    run = Run(model, batches, optimizer, scheduler, epochs)
    run.loss = loss_of(model, loss)
    run.metrics, run.max_norm = metrics, max_norm
    if resume is not None:
        restore(run, resume)
    model.train()
    with _ctrl_c_waits(run), ExitStack() as ends:
        for callback in reversed(called):
            ends.callback(callback.on_end, run)  # also where that of another one raises
        for callback in called:
            callback.on_start(run)
        while len(run.history) < epochs and not run.stop:
            _epoch(run, test, called)
    if run.interrupted:
        raise KeyboardInterrupt
    return run


def _epoch(run: Run, test: Iterable[Sequence[Any]], callbacks: Sequence[Callback]) -> None:
    """Train on every minibatch once, from where the run is."""
    under_way = iter(run.batches)  # as long as it is there, the state of `batches` is that of this epoch
    for batch in under_way:
        start = time.perf_counter()
        run.optimizer.zero_grad()
        losses, outputs = losses_of(run.loss, batch)
        loss = ab.mean(losses)
        loss.backward()
        if run.max_norm is not None:
            optim.clip_grad_norm(run.model.parameters(), run.max_norm)
        run.optimizer.step()
        if run.scheduler is not None and not _goes_by_epochs(run.scheduler):
            run.scheduler.step()
        # Counted after the next step was launched, so that a device never waits for the host to ask.
        run.count()
        run.uncounted = batch, loss, outputs
        run.seconds += time.perf_counter() - start
        for callback in callbacks:
            callback.on_step(run)
        if run.stop:
            break
    run.count()
    if run.stop:
        for callback in callbacks:
            callback.on_interrupt(run)
        return
    record = {"epoch": len(run.history) + 1, **run.sums.means(), "lr": float(run.optimizer.lr), "seconds": run.seconds}
    record["examples_per_second"] = run.sums.sums["loss"][1] / run.seconds if run.sums.sums else float("nan")
    run.sums, run.seconds = Sums(), 0.0
    record |= {f"test_{name}": x for name, x in evaluate(run.model, test, run.loss, run.metrics).items()}
    if run.scheduler is not None and _goes_by_epochs(run.scheduler):
        run.scheduler.step(record.get("test_loss", record["loss"]))
    run.history.append(record)
    for callback in callbacks:
        callback.on_epoch(run)


def _goes_by_epochs(scheduler: Any) -> bool:
    return isinstance(scheduler, optim.lr_scheduler.ReduceLROnPlateau)


@contextmanager
def _ctrl_c_waits(run: Run) -> Iterator[None]:
    """The first Ctrl-C sets `stop`, so that a minibatch is either trained on or not; the second one acts at once."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return

    def note(number: int, frame: Any) -> None:
        if run.interrupted:
            before(number, frame)
        run.interrupted = run.stop = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
