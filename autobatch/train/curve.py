"""The learning curve: as CSV, as JSON, as a picture, and in TensorBoard."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base.errors import MissingExtraError, message
from ..base.extras import fault
from ..base.files import put
from .callback import Callback
from .checkpoint import make_folder
from .run import Run

__all__ = ["Curve", "TensorBoard"]


class Curve(Callback):
    """Write `Run.history` to `curve.csv` and `curve.json` after every epoch, and, where matplotlib is installed, draw
    `curve.png` at the end: the loss, and the metrics that are shares. A warning says where that fails.

    Arguments:
        folder: made if it is not there.
        levels: shares to draw beside the metrics, such as those of baselines.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = ab.train.Run(None, None, None)
    ...     run.history.append({"epoch": 1, "loss": 0.5, "accuracy": 0.75})
    ...     ab.train.Curve(folder).on_epoch(run)
    ...     print(pathlib.Path(folder, "curve.csv").read_text())
    epoch,loss,accuracy
    1,0.5,0.75
    """

    def __init__(self, folder: str | os.PathLike[str], levels: Mapping[str, float] | None = None) -> None:
        self.folder, self.levels = Path(folder), dict(levels or {})

    @property
    def shown(self) -> Path:
        """What to look at: the picture, or the table where there is none."""
        drawn = self.folder / "curve.png"
        return drawn if is_drawn() and drawn.exists() else self.folder / "curve.csv"

    def on_start(self, run: Run) -> None:
        make_folder(self.folder)

    def on_epoch(self, run: Run) -> None:
        names = list(dict.fromkeys(name for record in run.history for name in record))
        table = io.StringIO()
        writer = csv.DictWriter(table, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(run.history)
        numbers = [{name: x if math.isfinite(x) else None for name, x in row.items()} for row in run.history]
        lines = ",\n".join(f"  {json.dumps(row)}" for row in numbers)
        self._put("curve.csv", table.getvalue().encode())
        self._put("curve.json", f"[\n{lines}\n]\n".encode())

    def on_interrupt(self, run: Run) -> None:
        if not run.history:  # those there are another run's
            for suffix in ("csv", "json", "png"):
                (self.folder / f"curve.{suffix}").unlink(missing_ok=True)

    def on_end(self, run: Run) -> None:
        if not (run.history and is_drawn()):
            return
        try:
            drawn = picture(run.history, self.levels)
        except Exception as error:  # as where MPLBACKEND names none; what was trained is not to be lost for it
            warnings.warn(f"Curve: matplotlib draws no picture: {error}", RuntimeWarning, stacklevel=2)
            (self.folder / "curve.png").unlink(missing_ok=True)
        else:
            self._put("curve.png", drawn)

    def _put(self, name: str, data: bytes) -> None:
        put(os.fspath(self.folder / name), [data])


def is_drawn() -> bool:
    """Whether there is a matplotlib to draw with."""
    return not fault("matplotlib")


def picture(history: list[dict[str, float]], levels: Mapping[str, float]) -> bytes:
    """A PNG: the loss, and beside it what is a share, in training dashed, on test data solid, by epoch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shares = [name for name in history[0] if name.endswith("accuracy") and not name.startswith("test_")]
    figure = Figure(figsize=(9 if shares else 5, 4), layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(1, 2 if shares else 1, squeeze=False)[0]
    epochs = [record["epoch"] for record in history]
    for axes, names, factor in zip(all_axes, (["loss"], shares), (1, 100), strict=False):
        for k, name in enumerate(names):
            for key, style, where in ((name, "o--", "in training"), (f"test_{name}", "o-", "on test data")):
                if key in history[0]:
                    values = [factor * record.get(key, math.nan) for record in history]
                    axes.plot(epochs, values, style, color=f"C{k}", label=f"{name.replace('_', ' ')} {where}")
        axes.set(xlabel="epoch", ylabel="loss" if factor == 1 else "%")
        axes.legend(fontsize="small")
    if shares:
        all_axes[1].set_ylim(0, 100)
        for name, share in levels.items():
            all_axes[1].axhline(100 * share, color="0.6", linewidth=1)
            all_axes[1].annotate(name, (epochs[0], 100 * share), va="bottom", fontsize="small", color="0.35")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=150)
    return drawn.getvalue()


class TensorBoard(Callback):
    """Write the records of the history for TensorBoard, which has to be installed (`pip install tensorboard`).

    Arguments:
        folder: to be shown by `tensorboard --logdir FOLDER`.

    Raises MissingExtraError where it is not installed.

    >>> issubclass(ab.train.TensorBoard, ab.train.Callback)
    True
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        if not self.is_installed():
            what, why = "tensorboard cannot be used", fault("tensorboard.summary")
            raise MissingExtraError(message(what, got=why, repair="pip install tensorboard"))
        self.folder = Path(folder)
        self._writer: Any = None

    @staticmethod
    def is_installed() -> bool:
        """Whether TensorBoard can be written for."""
        return not fault("tensorboard.summary")

    def on_start(self, run: Run) -> None:
        from tensorboard.summary import Writer

        make_folder(self.folder)
        self._writer = Writer(os.fspath(self.folder))

    def on_epoch(self, run: Run) -> None:
        record = run.history[-1]
        for name, value in record.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, step=int(record["epoch"]))
        self._writer.flush()

    def on_end(self, run: Run) -> None:
        if self._writer is not None:
            self._writer.close()
