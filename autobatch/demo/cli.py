"""The command `autobatch`: trains the models of the library from a shell, and uses what was trained.

autobatch train trees                            20 trees that come with the library
autobatch train trees --data DIR --out runs/sst
autobatch train trees --out runs/sst --resume    goes on after Ctrl-C
autobatch train syntax-trees
autobatch evaluate runs/sst
autobatch predict runs/sst trees.txt
autobatch export runs/sst model.safetensors
autobatch cache --clear
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import autobatch as ab

from ..base.disk import clear, folder, limit, usage
from ..base.errors import AutobatchError
from .bracketed import BracketedTrees
from .lifetime import evaluate_run, export_run, predict_run, train_task
from .machine import command_settings
from .syntax_trees import SyntaxTrees

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default the program's; returns the exit status.

    >>> main(["evaluate", "runs/none"])  # and says on stderr what is wrong
    1
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # words and names of files that a console does not have
    options = vars(_parser().parse_args(arguments))
    run: Callable[..., int] = options.pop("run")
    try:
        status = run(**options)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # as in `autobatch predict ... | head`; nothing more is to be written at exit
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (AutobatchError, OSError, ValueError, FloatingPointError, MemoryError) as error:
        text = f"{error}" or "out of memory"
        if isinstance(error, OSError) and error.filename is not None:
            text = f"{error.filename}: {error.strerror}"
        print(f"Error: {text}", file=sys.stderr)
        return 1
    return status


def _use(action: Callable[..., int], threads: int, backend: str, **options: Any) -> int:
    with command_settings(threads, backend):
        return action(**options)


def _cache(is_cleared: bool) -> int:
    if is_cleared:
        clear()
    n_files, n_bytes = usage()
    print(f"{folder() or 'nowhere'}: {n_files:,} files, {n_bytes / 1e6:.1f} MB of at most {limit() / 1e6:,.0f} MB")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("autobatch", description="Write the model for one tree; train on minibatches.")
    parser.add_argument("--version", action="version", version=ab.__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    train = commands.add_parser("train", help="train a Tree-LSTM, and save it after every epoch")
    tasks = train.add_subparsers(metavar="NAME", required=True)
    text = "label every node of bracketed binary trees, such as those of the Stanford Sentiment Treebank"
    trees = _command(tasks, "trees", text, train_task, task=BracketedTrees)
    text = "folder with train.txt, dev.txt and test.txt, each plain, .gz or .xz; or one file; by default 20 small trees"
    trees.add_argument("--data", type=Path, default=argparse.SUPPRESS, help=text)
    _training_options(trees, BracketedTrees.defaults, "runs/trees", BracketedTrees.of_sample)
    text = "tell from a function's syntax tree which module of Python's standard library it comes from"
    syntax = _command(tasks, "syntax-trees", text, train_task, task=SyntaxTrees)
    _training_options(syntax, SyntaxTrees.defaults, "runs/ast", {})

    text = "loss and accuracy on the test data"
    evaluate = _command(commands, "evaluate", text, _use, action=evaluate_run)
    evaluate.add_argument("source", metavar="RUN", type=Path, help="folder of a run, or a file of it or of export")
    evaluate.add_argument("--data", type=Path, help="other trees with labels than those of the run")
    predict = _command(commands, "predict", "classes and their probabilities", _use, action=predict_run)
    predict.add_argument("source", metavar="RUN", type=Path, help="folder of a run, or a file of it or of export")
    predict.add_argument("files", metavar="FILE", type=Path, nargs="+", help="trees, or Python files")
    for command in (evaluate, predict):
        for flag, text, kind in MACHINE:
            command.add_argument(flag, help=text, **kind)
        command.set_defaults(threads=1, backend="numba")

    text = "write the parameters of the best epoch under PyTorch's names, with the vocabulary in the header"
    export = _command(commands, "export", text, export_run)
    export.add_argument("source", metavar="RUN", type=Path, help="folder of a run, or a file of it")
    export.add_argument("target", metavar="FILE", type=Path, help="safetensors file to write")

    cache = _command(commands, "cache", "show where compiled functions are kept, and how many", _cache)
    text = "remove all of them; they are recompiled when called"
    cache.add_argument("--clear", action="store_true", dest="is_cleared", help=text)
    return parser


def _command(commands: Any, name: str, text: str, run: Callable[..., int], **values: Any) -> argparse.ArgumentParser:
    formatter = argparse.ArgumentDefaultsHelpFormatter
    made: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text, formatter_class=formatter)
    made.set_defaults(run=run, **values)
    return made


def _training_options(
    parser: argparse.ArgumentParser, defaults: Mapping[str, Any], out: str, of_sample: Mapping[str, Any]
) -> None:
    """Options that are settings of a task, as far as it has them: those that are given, for `Task.new_settings`."""
    for flag, text, kind in (*SETTINGS, *MACHINE):
        name = flag.removeprefix("--").replace("-", "_")
        if name in defaults:
            without = f"; {of_sample[name]} without --data" if name in of_sample else ""
            text = f"{text} (default: {defaults[name]}{without})"
            parser.add_argument(flag, default=argparse.SUPPRESS, help=text, **kind)
    text = "folder of the checkpoints and the learning curve"
    parser.add_argument("--out", type=Path, default=Path(out), help=text)
    how = parser.add_mutually_exclusive_group()
    text = "go on with what is in --out, with its settings; --epochs may be larger"
    how.add_argument("--resume", action="store_true", help=text)
    how.add_argument("--overwrite", action="store_true", help="replace what is in --out")


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"expected an integer, 1 or more, got {text}")
    return int(text)


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"expected an integer, 0 or more, got {text}")
    return int(text)


def _number(least: float, most: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"expected a number, {least:g} to {most:g}, got {text}")
        return value

    return number


# An option, what it says, and what it takes.
SETTINGS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("--embedding", "width of a word's vector", {"type": _positive}),
    ("--dim", "width of a node's state", {"type": _positive}),
    ("--epochs", "passes over the training examples", {"type": _positive}),
    ("--batch-size", "examples in a minibatch", {"type": _positive}),
    ("--lr", "learning rate at the start; falls to 0", {"type": _number(0, 1e9)}),
    ("--dropout", "on the vectors of words", {"type": _number(0, 1)}),
    ("--seed", "of initial values, dropout and order", {"type": _seed}),
)
MACHINE: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("--threads", "of each matmul", {"type": _positive}),
    ("--backend", "what runs kernels", {"choices": ("numpy", "numba", "cupy")}),
)
