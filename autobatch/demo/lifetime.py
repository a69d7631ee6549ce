"""The life of a model, from training to predictions: what the subcommands do. The loop is `ab.train.fit`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import autobatch as ab
from autobatch import optim

from ..base.errors import message
from ..data import minibatches
from .bracketed import BracketedTrees
from .machine import command_settings
from .optional import left_out
from .syntax_trees import SyntaxTrees
from .task import Task

__all__ = ["evaluate_run", "export_run", "predict_run", "train_task"]

TASKS: dict[str, type[Task]] = {task.name: task for task in (BracketedTrees, SyntaxTrees)}
MAX_NORM = 5.0


def train_task(task: type[Task], out: Path, resume: bool, overwrite: bool, **options: Any) -> int:
    """Train, saving to `out` after every epoch; returns the exit status, 130 after Ctrl-C."""
    settings: dict[str, Any] = {"task": task.name, **options}
    if "data" in settings:
        settings["data"] = str(settings["data"].absolute())
    last = ab.train.Checkpoint(out).last
    if resume:
        settings = _settings(last)
    elif last.exists() and not overwrite:
        what, repair = (
            "this folder holds a run",
            "--resume it, --overwrite it, or choose another --out",
        )
        raise ValueError(message(what, got=str(out), repair=repair))
    if settings["task"] != task.name:
        what, repair = f"{out} is no run of `{task.name}`", f"autobatch train {settings['task']} --out {out} --resume"
        raise ValueError(message(what, repair=repair))
    checkpoint = ab.train.Checkpoint(out, "test_accuracy", "max")
    checkpoint.prepare()
    if line := left_out(task.packages):
        print(line, file=sys.stderr)
    try:
        with command_settings(settings["threads"], settings["backend"]):
            _train(task(settings), checkpoint, resume)
    except KeyboardInterrupt:
        command = f"autobatch train {task.name} --out {out} --resume"
        print(f"\nstopped; go on with: {command}" if last.exists() else "\nstopped before anything was saved")
        return 130
    return 0


def _train(task: Task, checkpoint: ab.train.Checkpoint, resume: bool) -> None:
    before = dict(task.settings)
    examples, test = task.load(print)
    s = task.settings
    s["n_nodes"] = [sum(tree.n_nodes for tree in trees) for trees in (examples, test)]
    if resume and s != before:
        changed = ", ".join(name for name in s if s[name] != before.get(name))
        repair = "restore the data, or train from the start with --overwrite"
        raise ValueError(message("the data are not those of the run", got=f"other {changed}", repair=repair))
    checkpoint.settings = s
    ab.seed(s["seed"])
    model = task.model()
    batches = minibatches(examples, s["batch_size"], shuffle=True, seed=s["seed"])
    optimizer = optim.Adam(model.parameters(), lr=s["lr"])
    curve = ab.train.Curve(checkpoint.folder, task.levels())
    callbacks = [ab.train.Progress(), checkpoint, curve]
    if ab.train.TensorBoard.is_installed():
        callbacks.append(ab.train.TensorBoard(checkpoint.folder / "tensorboard"))
    run = ab.train.fit(
        model,
        batches,
        optimizer,
        s["epochs"],
        minibatches(test, 256),
        loss=model.scored,
        metrics=task.metrics,
        scheduler=optim.lr_scheduler.PolynomialLR(optimizer, len(batches) * s["epochs"]),
        max_norm=MAX_NORM,
        callbacks=callbacks,
        resume=checkpoint.last if resume else None,
    )
    task.finish(model, run, examples, print)
    print(f"learning curve: {curve.shown}")
    print(f"saved: {checkpoint.folder}; autobatch predict {checkpoint.folder} FILE")


def evaluate_run(source: Path, data: Path | None) -> int:
    """Print loss and metrics on the run's test data, or on other trees."""
    task, model = _trained(source)
    found = ab.train.evaluate(model, minibatches(task.held_out(data), 256), model.scored, task.metrics)
    for name, value in found.items():
        print(f"{name.replace('_', ' ')} {f'{value:.3f}' if name == 'loss' else f'{100 * value:.1f} %'}")
    return 0


def predict_run(source: Path, files: Sequence[Path]) -> int:
    """Print, for each tree, its likeliest class, the probability of that, and what the tree is."""
    task, model = _trained(source)
    classes = task.classes()
    for path in files:
        names, trees = zip(*task.read(path), strict=True)
        for name, logits in zip(names, ab.train.predict(model, trees), strict=True):
            root = np.atleast_2d(logits)[-1].astype(np.float64)
            shares = np.exp(root - root.max())
            print(f"{classes[int(root.argmax())]}\t{shares.max() / shares.sum():.3f}\t{name}")
    return 0


def export_run(source: Path, target: Path) -> int:
    """Write a model alone: its parameters, and what makes it again."""
    task, model = _trained(source)
    ab.train.save_model(target, model, task.settings)
    n = sum(parameter.value.size for parameter in model.parameters())
    print(f"{target}: {n:,} parameters; read it by ab.load, safetensors.torch.load_file or autobatch predict")
    return 0


def _trained(source: Path) -> tuple[Task, Any]:
    """The task and the model of a run's best epoch, or of a file."""
    path = ab.train.Checkpoint(source).best if source.is_dir() else source
    settings = _settings(path)
    task = TASKS[settings["task"]](settings)
    return task, ab.train.load_model(path, task.model())


def _settings(path: Path) -> dict[str, Any]:
    if not path.exists():
        what, repair = "there is no such run", "autobatch train NAME --out DIR makes one"
        raise FileNotFoundError(message(what, got=str(path), repair=repair))
    found = ab.train.settings_of(path)
    if found.get("task") not in TASKS:
        raise ValueError(message("this file was not written by the command `autobatch`", got=str(path)))
    return found
