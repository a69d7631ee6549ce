"""Training the binary Tree-LSTM on a folder of bracketed trees in the layout of the Stanford Sentiment Treebank."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import autobatch as ab

from ..base.errors import message
from ..data import Tree, Vocabulary, read_trees
from ..models.binary_tree_lstm import BinaryTreeClassifier
from .tally import Tally
from .training import TrainingOptions, evaluate, train

__all__ = ["load_split", "train_bracketed"]

SUFFIXES = (".txt", ".txt.gz", ".txt.xz")


def load_split(folder: Path, split: str) -> list[Tree]:
    """The binary trees of a split: of the folder's split.txt, split.txt.gz or split.txt.xz, the first that is there.

    Raises:
        FileNotFoundError: there is none of them.
        TreeFormatError: a tree is malformed.
        ValueError: a node has children, but not two; or there are no trees.
    """
    paths = [path for suffix in SUFFIXES if (path := folder / (split + suffix)).is_file()]
    if not paths:
        expected = f"{split}.txt, {split}.txt.gz or {split}.txt.xz in {folder}"
        raise FileNotFoundError(message(f"no {split} trees", expected=expected, got="none of them"))
    trees = list(read_trees(paths[0]))
    if not trees:
        raise ValueError(message(f"no {split} trees", expected="one tree or more", got=f"none in {paths[0]}"))
    for number, tree in enumerate(trees, start=1):
        for node in tree:
            if len(node.children) not in (0, 2):
                what = f"{paths[0]}: node of tree {number} that is neither a leaf nor binary"
                got = f"{len(node.children)}: {node!r}"
                raise ValueError(message(what, expected="0 or 2 children", got=got, repair="binarise the trees first"))
    return trees


def train_bracketed(
    folder: Path, options: TrainingOptions, dim: int, dropout: float, say: Callable[[str], None]
) -> BinaryTreeClassifier:
    """Train on train.txt, report on dev.txt after each epoch and on test.txt at the end; returns the model."""
    splits = {split: load_split(folder, split) for split in ("train", "dev", "test")}
    vocabulary = Vocabulary(node.word for tree in splits["train"] for node in tree if node.word is not None)
    n_classes = 1 + max(node.label for trees in splits.values() for tree in trees for node in tree)
    encoded = {split: [vocabulary.encode(tree) for tree in trees] for split, trees in splits.items()}
    sizes = ", ".join(f"{split} {len(trees):,}" for split, trees in splits.items())
    say(f"trees: {sizes}; {len(vocabulary):,} words, {n_classes} classes")

    ab.seed(options.seed)
    model = BinaryTreeClassifier(len(vocabulary), n_classes, dim, dropout)
    for epoch in train(model, encoded["train"], encoded["dev"], options):
        say(
            f"epoch {epoch.number:2}  loss {epoch.train.loss:.3f}  nodes {epoch.train.node_accuracy:6.1%}  "
            f"dev: {_accuracies(epoch.test)}  {epoch.examples_per_second:,.0f} examples/s, {epoch.seconds:.1f} s"
        )
    say(f"test: {_accuracies(evaluate(model, encoded['test']))}")
    return model


def _accuracies(tally: Tally) -> str:
    return f"nodes {100 * tally.node_accuracy:.1f} %, root {100 * tally.root_accuracy:.1f} %"
