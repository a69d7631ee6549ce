"""The life of a model, from training to predictions: what the subcommands do. The loop is `ab.train.fit`."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import autobatch as ab
from autobatch import optim

from ..base.errors import message
from ..data import Tree, minibatches
from ..train.checkpoint import is_checkpoint
from .bracketed import BracketedTrees
from .machine import command_settings
from .optional import left_out
from .syntax_trees import SyntaxTrees
from .task import Task

__all__ = ["evaluate_run", "export_run", "predict_run", "train_task"]

TASKS: dict[str, type[Task]] = {task.name: task for task in (BracketedTrees, SyntaxTrees)}
MAX_NORM = 5.0


def train_task(task: type[Task], out: Path, resume: bool, overwrite: bool, **given: Any) -> int:
    """Train, saving to `out` after every epoch; returns the exit status, 130 after Ctrl-C.

    given: the settings that the command line has.
    """
    last = ab.train.Checkpoint(out).last
    if resume:
        settings = _resumed(task, out, given)
    elif last.exists() and not overwrite:
        what, repair = (
            "this folder holds a run",
            "--resume it, --overwrite it, or choose another --out",
        )
        raise ValueError(message(what, got=str(out), repair=repair))
    else:
        settings = task.new_settings(given)
    checkpoint = ab.train.Checkpoint(out, "test_accuracy", "max")
    checkpoint.prepare()
    if line := left_out(task.packages):
        print(line, file=sys.stderr)
    try:
        with command_settings(settings["threads"], settings["backend"]):
            _train(task(settings), checkpoint, resume)
    except KeyboardInterrupt:
        command = _command("train", task.name, "--out", out, "--resume")
        print(f"\nstopped; go on with: {command}" if last.exists() else "\nstopped before anything was saved")
        return 130
    return 0


def _resumed(task: type[Task], out: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the run in `out`, with those that may be changed: more epochs, the machine, and where the same
    data now are. ValueError for the others."""
    settings = _settings(ab.train.Checkpoint(out).last)
    if settings["task"] != task.name:
        what = f"{out} is no run of `{task.name}`"
        repair = _command("train", settings["task"], "--out", out, "--resume")
        raise ValueError(message(what, repair=repair))
    new = task.new_settings(given)
    changed = [x for x in given if x not in ("data", "threads", "backend", "epochs") and new[x] != settings[x]]
    changed += ["epochs"] * (given.get("epochs", settings["epochs"]) < settings["epochs"])
    if changed:
        then, now = (", ".join(f"--{x.replace('_', '-')} {held[x]}" for x in changed) for held in (settings, new))
        repair = "leave it out, or train from the start with --overwrite; --epochs may be larger"
        raise ValueError(
            message("--resume goes on with the settings of the run", expected=then, got=now, repair=repair)
        )
    return settings | {name: new[name] for name in given}


def _train(task: Task, checkpoint: ab.train.Checkpoint, resume: bool) -> None:
    before = dict(task.settings)
    examples, test = task.load(print)
    s = task.settings
    s["trees"] = _digest(examples, test)
    if resume and s != before:
        changed = ", ".join(name for name in s if s[name] != before.get(name))
        repair = "restore the data, or train from the start with --overwrite"
        raise ValueError(message("the data are not those of the run", got=f"other {changed}", repair=repair))
    checkpoint.settings = s
    ab.seed(s["seed"])
    model = task.model()
    batches = minibatches(examples, s["batch_size"], shuffle=True, seed=s["seed"])
    optimizer = optim.Adam(model.parameters(), lr=s["lr"])
    tensorboard = checkpoint.folder / "tensorboard"
    if not resume:
        shutil.rmtree(tensorboard, ignore_errors=True)  # another run's events would be shown with those of this one
    curve = ab.train.Curve(checkpoint.folder, task.levels())
    callbacks = [ab.train.Progress(test=task.tested_on), checkpoint, curve]
    if ab.train.TensorBoard.is_installed():
        callbacks.append(ab.train.TensorBoard(tensorboard))
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
    print(f"saved: {checkpoint.folder}; {_command('predict', checkpoint.folder, 'FILE')}")


def _command(*arguments: str | Path) -> str:
    """The command with these arguments, to be pasted into a shell."""
    return shlex.join(["autobatch", *map(str, arguments)])


def _digest(*splits: Sequence[Tree]) -> str:
    """A text that is another one for other trees."""
    found = hashlib.sha256()
    for trees in splits:
        for tree in trees:
            found.update(repr([(node.label, node.word, len(node.children)) for node in tree]).encode())
        found.update(b";")
    return found.hexdigest()


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
    if target.is_file() and _is_training_state(target):
        what, repair = "training goes on from this file", "choose another one to export to"
        raise ValueError(message(what, got=str(target), repair=repair))
    task, model = _trained(source)
    ab.train.save_model(target, model, task.settings)
    n = sum(parameter.value.size for parameter in model.parameters())
    print(f"{target}: {n:,} parameters; read it by ab.load, safetensors.torch.load_file or autobatch predict")
    return 0


def _is_training_state(path: Path) -> bool:
    try:
        return is_checkpoint(path)
    except ValueError:
        return False


def _trained(source: Path) -> tuple[Task, Any]:
    """The task and the model of a run's best epoch, or of a file."""
    path = ab.train.Checkpoint(source).best if source.is_dir() else source
    if not path.exists() and (last := ab.train.Checkpoint(source).last).exists():
        repair = _command("train", _settings(last)["task"], "--out", source, "--resume")
        raise ValueError(message("no epoch of this run has ended", got=str(source), repair=repair))
    settings = _settings(path)
    task = TASKS[settings["task"]](settings)
    return task, ab.train.load_model(path, task.model())


def _settings(path: Path) -> dict[str, Any]:
    if not path.exists():
        what, repair = "there is no such run", "autobatch train NAME --out DIR makes one"
        raise FileNotFoundError(message(what, got=str(path), repair=repair))
    found = ab.train.settings_of(path)
    task = TASKS.get(str(found.get("task")))
    if task is None or not {*task.defaults, "vocabulary", "classes"} <= found.keys():
        raise ValueError(message("this file was not written by the command `autobatch`", got=str(path)))
    return found
