"""The command `autobatch`: trains the models of the library from a shell, and looks after the kernel cache.

autobatch train syntax-trees
autobatch train trees --data DIR
autobatch cache
autobatch cache --clear
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import autobatch as ab

from ..base.disk import clear, folder, limit, usage
from ..base.errors import AutobatchError
from .bracketed_training import train_bracketed
from .optional import demo_package
from .syntax_tree_demo import syntax_tree_demo
from .training import TrainingOptions

__all__ = ["main"]

click = demo_package("click")


@click.group()
def main() -> None:
    """Write the model for one tree; train on minibatches; no padding, no masks."""


@main.command("cache")
@click.option("--clear", "is_cleared", is_flag=True, help="Remove all of them; they are recompiled when called.")
def cache_command(is_cleared: bool) -> None:
    """Show where compiled functions are kept, and how many."""
    if is_cleared:
        clear()
    n_files, n_bytes = usage()
    click.echo(f"{folder() or 'nowhere'}: {n_files:,} files, {n_bytes / 1e6:.1f} MB of at most {limit() / 1e6:,.0f} MB")


@main.group(name="train")
def train_group() -> None:
    """Train a Tree-LSTM."""


def training_options(epochs: int, batch_size: int, lr: float, dropout: float) -> Callable[[Any], Any]:
    """The options that all training commands have, with their defaults."""
    options = [
        click.option("--epochs", type=click.IntRange(1), default=epochs, help="Passes over the training examples."),
        click.option("--batch-size", type=click.IntRange(1), default=batch_size, help="Examples in a minibatch."),
        click.option("--lr", type=click.FloatRange(0), default=lr, help="Learning rate at the start; falls to 0."),
        click.option("--dropout", type=click.FloatRange(0, 1), default=dropout, help="On the vectors of words."),
        click.option("--seed", type=click.IntRange(0), default=0, help="Of initial values, dropout and order."),
        click.option("--threads", type=click.IntRange(1), default=1, help="Of each matmul."),
        click.option(
            "--backend", type=click.Choice(["numpy", "numba", "cupy"]), default="numba", help="What runs kernels."
        ),
    ]

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@contextmanager
def command_settings(threads: int, backend: str) -> Iterator[None]:
    """Threads of the library's matmuls and of NumPy's; faults of the input end the command without a traceback.

    With NumPy's BLAS a second thread gains a tenth on the small matmuls of trees on an idle machine, and where its core
    has other work to do, every matmul waits for it, ten times as long as it takes.
    """
    own = ab.get_num_threads()
    ab.set_num_threads(threads)
    blas = demo_package("threadpoolctl").ThreadpoolController().select(internal_api="openblas")
    try:
        with blas.limit(limits=threads), ab.backend(backend):
            yield
    except (AutobatchError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        ab.set_num_threads(own)


@train_group.command("syntax-trees", context_settings={"show_default": True})
@click.option("--embedding", type=click.IntRange(1), default=256, help="Width of a word's vector.")
@click.option("--dim", type=click.IntRange(1), default=64, help="Width of a node's state.")
@training_options(epochs=12, batch_size=64, lr=8e-3, dropout=0.3)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/ast"), help="Folder of the learning curve.")
def train_syntax_trees(
    embedding: int, dim: int, dropout: float, seed: int, threads: int, backend: str, out: Path, **options: Any
) -> None:
    """Tell from a function's syntax tree which module of Python's standard library it comes from."""
    with command_settings(threads, backend):
        syntax_tree_demo(TrainingOptions(seed=seed, **options), embedding, dim, dropout, out, click.echo)


@train_group.command("trees", context_settings={"show_default": True})
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder with train.txt, dev.txt and test.txt, each plain, .gz or .xz.",
)
@click.option("--dim", type=click.IntRange(1), default=64, help="Width of a word's vector and of a node's state.")
@training_options(epochs=6, batch_size=64, lr=6e-3, dropout=0.3)
def train_trees(data: Path, dim: int, dropout: float, seed: int, threads: int, backend: str, **options: Any) -> None:
    """Label every node of bracketed binary trees, such as those of the Stanford Sentiment Treebank."""
    with command_settings(threads, backend):
        train_bracketed(data, TrainingOptions(seed=seed, **options), dim, dropout, click.echo)
