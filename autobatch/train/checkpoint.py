"""Checkpoints: one safetensors file each, with the arrays of `Run.state_dict`, and history and settings as JSON in its
header. `last.safetensors` is where training goes on, `best.safetensors` is that of the best epoch. At any moment each
is the old file or the new one, whole.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import autobatch as ab
from autobatch import nn

from ..base.errors import message
from ..nn.saving import metadata
from .callback import Callback
from .run import Run, below, checked_mode

__all__ = ["Checkpoint", "load_model", "restore", "save_model", "settings_of"]

Path_ = str | os.PathLike[str]


class Checkpoint(Callback):
    """Save `last.safetensors` after every epoch and at an interruption, `best.safetensors` after the best epoch.

    Arguments:
        folder: made if it is not there.
        monitor, mode: what is best, as in `EarlyStopping`; by default the least `test_loss`, or `loss` without a test.
        settings: whatever JSON can hold, kept in the file: what is needed to make the model again, vocabularies.
            `ab.train.settings_of` reads it.

    A run that begins anew in the folder of another replaces its files when it first saves: no best epoch of the other
    stays. Raises ValueError for another mode, TypeError for settings that JSON cannot hold; OSError before training
    where the folder cannot be written.

    >>> import tempfile
    >>> model = nn.Linear(2, 1)
    >>> batches = ab.data.minibatches([np.ones(2)], batch_size=1)
    >>> def train(epochs, **options):
    ...     optimizer = optim.SGD(model.parameters(), lr=0.1)
    ...     return ab.train.fit(model, batches, optimizer, epochs, loss=lambda x: ab.sum(model(x)), **options)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = train(2, callbacks=[ab.train.Checkpoint(folder, settings={"width": 2})])
    ...     run = train(3, callbacks=[], resume=f"{folder}/last.safetensors")
    ...     len(run.history), ab.train.settings_of(f"{folder}/best.safetensors")
    (3, {'width': 2})
    """

    def __init__(
        self, folder: Path_, monitor: str | None = None, mode: str = "min", settings: Mapping[str, Any] | None = None
    ) -> None:
        self.folder, self.monitor, self.mode = Path(folder), monitor, checked_mode(mode)
        self.settings = dict(settings or {})
        written(self.settings)

    @property
    def last(self) -> Path:
        """Where training goes on."""
        return self.folder / "last.safetensors"

    @property
    def best(self) -> Path:
        """The best epoch's."""
        return self.folder / "best.safetensors"

    def prepare(self) -> None:
        """Make the folder; OSError where nothing can be written in it, TypeError for settings that JSON cannot hold."""
        make_folder(self.folder)
        written(self.settings)

    def on_start(self, run: Run) -> None:
        self.prepare()

    def on_epoch(self, run: Run) -> None:
        state, texts = run.state_dict(), self._texts(run)
        record = run.history[-1]
        try:
            is_best = run.is_best(self.monitor or ("test_loss" if "test_loss" in record else "loss"), self.mode)
        except KeyError:  # the epoch is not lost: training goes on from it with the right name
            if len(run.history) == 1:
                self.best.unlink(missing_ok=True)
            ab.save(self.last, state, texts)
            raise
        if is_best:
            ab.save(self.best, state, texts)
        ab.save(self.last, state, texts)

    def on_interrupt(self, run: Run) -> None:
        if not run.history:
            self.best.unlink(missing_ok=True)  # another run's
        ab.save(self.last, run.state_dict(), self._texts(run))

    def _texts(self, run: Run) -> dict[str, str]:
        return {"settings": written(self.settings), "history": json.dumps(run.history)}


def written(settings: Mapping[str, Any]) -> str:
    """Settings as JSON; TypeError where it cannot hold them."""
    try:
        return json.dumps(settings)
    except (TypeError, ValueError) as error:
        what, repair = "train: JSON cannot hold the settings", "use strings, numbers, lists and dicts"
        raise TypeError(message(what, got=f"{error}", repair=repair)) from None


def make_folder(folder: Path) -> None:
    """Make a folder, if it is not there; OSError where nothing can be written in it."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(message("this is a file", expected="a folder", got=str(folder)))
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(message("nothing can be written here", got=str(folder), repair="choose another folder"))


def restore(run: Run, path: Path_) -> None:
    """Take over what a `Checkpoint` saved; ValueError where it does not fit."""
    texts = metadata(path)
    if "history" not in texts:
        what, repair = "fit: this is no checkpoint to go on from", "pass the last.safetensors of ab.train.Checkpoint"
        raise ValueError(message(what, got=os.fspath(path), repair=repair))
    run.load_state_dict(ab.load(path))
    run.history = json.loads(texts["history"])


def is_checkpoint(path: Path_) -> bool:
    """Whether training can go on from a safetensors file; OSError, and ValueError where it is none."""
    return "history" in metadata(path)


def settings_of(path: Path_) -> dict[str, Any]:
    """The settings that a `Checkpoint` or `save_model` kept in the file `path`; empty where there are none.

    Raises OSError where the file cannot be read, and ValueError where it is no safetensors file, or its settings are no
    dict as JSON.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ab.train.save_model(f"{folder}/model.safetensors", nn.Linear(1, 1), {"dim": 1})
    ...     ab.train.settings_of(f"{folder}/model.safetensors")
    {'dim': 1}
    """
    text = metadata(path).get("settings", "{}")
    with contextlib.suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    what = f"settings_of: the settings in {os.fspath(path)} are no dict as JSON"
    raise ValueError(message(what, got=text if len(text) < 40 else f"{text[:40]}..."))


def load_model(path: Path_, model: nn.Module) -> nn.Module:
    """Give a model the parameters in a checkpoint, or in a file of `save_model` or `ab.save`; returns the model, in
    evaluation mode. ValueError where they do not fit.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ab.train.save_model(f"{folder}/a.safetensors", nn.Linear(2, 3), {"width": 2})
    ...     model = ab.train.load_model(f"{folder}/a.safetensors", nn.Linear(2, 3))
    ...     ab.train.settings_of(f"{folder}/a.safetensors"), model.training
    ({'width': 2}, False)
    """
    state = ab.load(path)
    model.load_state_dict(below(state, "model") if "random.seed" in state else state)
    return model.eval()


def save_model(path: Path_, model: nn.Module, settings: Mapping[str, Any] | None = None) -> None:
    """Write the parameters of a model to `path`, under PyTorch's names, with settings as JSON in the file's header.

    Raises TypeError for settings that JSON cannot hold; OSError.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ab.train.save_model(f"{folder}/model.safetensors", nn.Linear(1, 1))
    ...     sorted(ab.load(f"{folder}/model.safetensors"))
    ['bias', 'weight']
    """
    ab.save(path, model, {"settings": written(dict(settings or {}))})
