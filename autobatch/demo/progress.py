"""A progress bar of one epoch, where there is a terminal to show it on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .optional import demo_package
from .tally import Tally

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(title: str, n_examples: int) -> Iterator[Callable[[Tally], None]]:
    """Gives a function to be called with what has been counted so far. The bar goes away at the end.

    Arguments:
        n_examples: the bar is full when so many have been counted.

    >>> with progress_bar("epoch 1/9", n_examples=100) as show:
    ...     show(Tally(total_loss=3.0, n_examples=2, n_nodes=2, n_right_nodes=1))
    """
    progress = demo_package("rich.progress")
    console = demo_package("rich.console").Console()
    start = time.perf_counter()
    with progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn(
            "loss {task.fields[loss]:.3f}  accuracy {task.fields[accuracy]:.1%}  {task.fields[rate]:,.0f} examples/s"
        ),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task(title, total=n_examples, loss=0.0, accuracy=0.0, rate=0.0)

        def show(tally: Tally) -> None:
            rate = tally.n_examples / (time.perf_counter() - start)
            bar.update(task, completed=tally.n_examples, loss=tally.loss, accuracy=tally.node_accuracy, rate=rate)

        yield show
