"""A binary Tree-LSTM on bracketed trees, as those of the Stanford Sentiment Treebank: every node is labelled."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import autobatch as ab

from ..base.errors import message
from ..data import Tree, Vocabulary, class_label, minibatches, random_split, read_trees, sample
from ..models.binary_tree_lstm import BinaryTreeClassifier
from .task import Say, Task

__all__ = ["BracketedTrees"]

SUFFIXES = (".txt", ".txt.gz", ".txt.xz")
SPLITS = ("train", "dev", "test")

MAX_CLASSES = 1000
"""A larger label is a number of something else: the logits of a minibatch would not fit into memory."""


class BracketedTrees(Task):
    """`data` is a folder with train.txt, dev.txt and test.txt, plain, .gz or .xz; or a file, of which 8 of 10 trees are
    trained on, and one each are the other two. Without it, the sample of the library, in small minibatches."""

    name = "trees"
    defaults: ClassVar = {
        "dim": 64,
        "epochs": 6,
        "batch_size": 64,
        "lr": 6e-3,
        "dropout": 0.3,
        "seed": 0,
        "threads": 1,
        "backend": "numba",
    }
    of_sample: ClassVar = {"epochs": 30, "batch_size": 2}
    tested_on = "dev"

    @classmethod
    def new_settings(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        if "data" in given:
            return super().new_settings({**given, "data": str(given["data"].absolute())})
        return super().new_settings({"data": sample("reviews.txt"), **cls.of_sample, **given})

    def load(self, say: Say) -> tuple[list[Tree], list[Tree]]:
        splits = self._splits()
        if "vocabulary" not in self.settings:
            words = Vocabulary(node.word for tree in splits["train"] for node in tree if node.word is not None)
            n_classes = 1 + max(node.label for trees in splits.values() for tree in trees for node in tree)
            if n_classes > MAX_CLASSES:
                expected, got = f"classes from 0 to {MAX_CLASSES - 1}", f"{n_classes - 1}"
                raise ValueError(message("a label is too large for a class", expected=expected, got=got))
            self.settings |= {"vocabulary": json.loads(words.to_json()), "classes": list(range(n_classes))}
        encoded = {name: self._encoded(trees) for name, trees in splits.items()}
        sizes = ", ".join(f"{name} {len(trees):,}" for name, trees in splits.items())
        say(f"trees: {sizes}; {len(self.words()):,} words, {len(self.classes())} classes")
        self._test = encoded["test"]
        return encoded["train"], encoded["dev"]

    def model(self) -> BinaryTreeClassifier:
        s = self.settings
        return BinaryTreeClassifier(len(self.words()), len(self.classes()), s["dim"], s["dropout"])

    def read(self, path: Path) -> Iterator[tuple[str, Tree]]:
        words = self.words()
        for tree in binary_trees(path, label=lambda text: 0):
            yield " ".join(node.word for node in tree if node.is_leaf), words.encode(tree)

    def held_out(self, path: Path | None) -> list[Tree]:
        where = Path(self.settings["data"]) if path is None else path
        if path is None and not where.is_dir():
            return self._encoded(self._splits()["test"])
        return self._encoded(binary_trees(where) if where.is_file() else load_split(where, "test"))

    def metrics(self, trees: Sequence[Tree], logits: Sequence[Any]) -> dict[str, tuple[float, float]]:
        nodes = ab.train.accuracy(lambda tree: [node.label for node in tree])(trees, logits)
        roots = ab.train.accuracy(lambda tree: tree.label)(trees, [rows[-1:] for rows in logits])
        return {"node_accuracy": nodes["accuracy"], "accuracy": roots["accuracy"]}

    def finish(self, model: Any, run: ab.train.Run, train: list[Tree], say: Say) -> None:
        found = ab.train.evaluate(model, minibatches(self._test, 256), run.loss, run.metrics)
        say(f"test: nodes {100 * found['node_accuracy']:.1f} %, root {100 * found['accuracy']:.1f} %")

    def _encoded(self, trees: list[Tree]) -> list[Tree]:
        words, n_classes = self.words(), len(self.classes())
        largest = max(node.label for tree in trees for node in tree)
        if largest >= n_classes:
            expected, got = f"labels from 0 to {n_classes - 1}", f"{largest}"
            raise ValueError(message("a label that the model does not know", expected=expected, got=got))
        return [words.encode(tree) for tree in trees]

    def _splits(self) -> dict[str, list[Tree]]:
        data = Path(self.settings["data"])
        if data.is_dir():
            return {split: load_split(data, split) for split in SPLITS}
        parts = random_split(binary_trees(data), [0.8, 0.1, 0.1], self.settings["seed"])
        if not all(parts):
            raise ValueError(
                message(f"{data} cannot be split", expected="10 trees or more", got=f"{sum(map(len, parts))}")
            )
        return dict(zip(SPLITS, parts, strict=True))


def load_split(folder: Path, split: str) -> list[Tree]:
    """The binary trees of a split: of the folder's split.txt, split.txt.gz or split.txt.xz, the first that is there.

    Raises FileNotFoundError where there is none of them, and what `binary_trees` does.
    """
    paths = [path for suffix in SUFFIXES if (path := folder / (split + suffix)).is_file()]
    if not paths:
        expected = f"{split}.txt, {split}.txt.gz or {split}.txt.xz in {folder}"
        raise FileNotFoundError(message(f"no {split} trees", expected=expected, got="none of them"))
    return binary_trees(paths[0])


def binary_trees(path: Path, label: Callable[[str], Any] = class_label) -> list[Tree]:
    """The trees of a file.

    Raises TreeFormatError for one that is malformed; ValueError for a node that has children, but not two, and where
    there are no trees; OSError.
    """
    trees = list(read_trees(path, label))
    if not trees:
        raise ValueError(message("no trees", expected="one tree or more", got=f"none in {path}"))
    for number, tree in enumerate(trees, start=1):
        for node in tree:
            if len(node.children) not in (0, 2):
                what = f"{path}: node of tree {number} that is neither a leaf nor binary"
                got = f"{len(node.children)}: {node!r}"
                raise ValueError(message(what, expected="0 or 2 children", got=got, repair="binarise the trees first"))
    return trees
