"""A bar for each epoch, and a line after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ..base.extras import fault
from ..base.progress import bars
from .callback import Callback
from .run import Run

__all__ = ["Progress", "line"]


def say_at_once(text: str) -> None:
    """Print a line, also into a file that somebody follows, when it is said."""
    print(text, flush=True)


class Progress(Callback):
    """Print a line after each epoch; during it show a bar with loss, metrics and examples a second.

    The bar is drawn by `rich`, if it is installed, in a terminal, or in a notebook with ipywidgets. It goes away.

    Arguments:
        say: what is done with a line; by default it is printed at once.
        test: what the minibatches are called on which every epoch is tested.

    >>> run = ab.train.Run(None, None, None, epochs=20)
    >>> run.history += [{"epoch": 1, "loss": 0.512, "accuracy": 0.9, "test_loss": 0.6, "examples_per_second": 1234}]
    >>> ab.train.Progress().on_epoch(run)
    epoch  1/20  loss 0.512  accuracy 90.0 %  test: loss 0.600  1,234 examples/s
    """

    def __init__(self, say: Callable[[str], None] = say_at_once, test: str = "test") -> None:
        self.say, self.test = say, test
        self._bar: Any = None
        self._start = 0.0

    def on_start(self, run: Run) -> None:
        self._bar = _bar()
        if self._bar is not None:
            self._bar.start()
            total = run.batches.n_examples
            self._task = self._bar.add_task(self._title(run), total=total, values="")
            bars.append(self._show)
        self._start = 0.0

    def on_step(self, run: Run) -> None:
        if self._bar is None or time.perf_counter() - self._start < 0.1:
            return
        self._start = time.perf_counter()
        done = int(run.sums.sums.get("loss", (0, 0))[1])
        rate = done / run.seconds if run.seconds else 0.0
        values = f"{shown(run.sums.means())}  {rate:,.0f} examples/s"
        self._bar.update(self._task, completed=done, values=values)

    def on_epoch(self, run: Run) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=self._title(run), completed=0, values="")
        self.say(line(run.history[-1], run.epochs, self.test))

    def on_end(self, run: Run) -> None:
        if self._bar is not None:
            bars.remove(self._show)
            self._bar.stop()
            self._bar = None

    def _title(self, run: Run) -> str:
        return f"epoch {min(len(run.history) + 1, run.epochs)}/{run.epochs}"

    def _show(self, text: str) -> None:
        self._bar.update(self._task, values=text)


def line(record: Mapping[str, float], epochs: int, test: str) -> str:
    """A record of the history in words; `test` is what the data are called on which it was tested."""
    left_out = ("epoch", "lr", "seconds", "examples_per_second")
    trained = {name: x for name, x in record.items() if name not in left_out and not name.startswith("test_")}
    tested = {name.removeprefix("test_"): x for name, x in record.items() if name.startswith("test_")}
    parts = [f"epoch {record['epoch']:{len(str(epochs))}}/{epochs}", shown(trained)]
    parts += [f"{test}: {shown(tested)}"] * bool(tested)
    return "  ".join([*parts, f"{record['examples_per_second']:,.0f} examples/s"])


def shown(values: Mapping[str, float]) -> str:
    """Names and numbers; shares as per cent."""
    texts = (f"{100 * x:.1f} %" if name.endswith("accuracy") else f"{x:.3f}" for name, x in values.items())
    return "  ".join(f"{name.replace('_', ' ')} {text}" for name, text in zip(values, texts, strict=True))


def _bar() -> Any:
    """A progress bar of rich, or None where there is none, or nowhere to show it."""
    if fault("rich"):
        return None
    from rich import get_console, progress

    console = get_console()
    in_notebook = console.is_jupyter and not fault("ipywidgets")
    if not (console.is_terminal or in_notebook) or console.is_dumb_terminal:
        return None
    columns = ("{task.description}", progress.BarColumn(), progress.MofNCompleteColumn(), "{task.fields[values]}")
    return progress.Progress(*columns, console=console, transient=True)
