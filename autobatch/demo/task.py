"""What the command trains: examples, a model, and how predictions are written."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import autobatch as ab

from ..data import Tree, Vocabulary

__all__ = ["Say", "Task", "TreeClassifier"]

Say = Callable[[str], None]


class TreeClassifier(Protocol):
    """What the models of this package have in common."""

    def scored(self, tree: Tree) -> tuple[Any, Any]:
        """The loss of one tree and the logits it comes from."""

    def parameters(self) -> Iterator[ab.Parameter]: ...


class Task(ABC):
    """A model and its data, as settings that JSON can hold say. `load` adds vocabularies and classes to them: what is
    then needed to make the model again is in `settings` alone.

    Attributes:
        name: of the command.
        packages: of the extra `demo`, that are of use.
        defaults: settings where the command line has none.
        tested_on: what the trees are called on which each epoch is tested.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ("rich", "matplotlib", "threadpoolctl")
    defaults: ClassVar[Mapping[str, Any]]
    tested_on: ClassVar[str] = "test"

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    @classmethod
    def new_settings(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a new run, from those that the command line has."""
        return {"task": cls.name, **cls.defaults, **given}

    @abstractmethod
    def load(self, say: Say) -> tuple[list[Tree], list[Tree]]:
        """The trees to train on, and those on which each epoch is tested."""

    @abstractmethod
    def model(self) -> Any:
        """A new model; `settings` must be complete."""

    @abstractmethod
    def read(self, path: Path) -> Iterator[tuple[str, Tree]]:
        """Trees of a file to predict, each with what it is called."""

    @abstractmethod
    def held_out(self, path: Path | None) -> list[Tree]:
        """Trees with labels on which a model is evaluated: of a file, or those that belong to the data."""

    def metrics(self, trees: Sequence[Tree], logits: Sequence[Any]) -> dict[str, tuple[float, float]]:
        """What is counted beside the loss."""
        return dict(ab.train.accuracy(lambda tree: tree.label)(trees, logits))

    def words(self) -> Vocabulary:
        """The words that the model knows."""
        return Vocabulary.from_json(json.dumps(self.settings["vocabulary"]))

    def classes(self) -> list[str]:
        """Names of the classes."""
        return [str(name) for name in self.settings["classes"]]

    def levels(self) -> dict[str, float]:
        """Accuracies to compare with, by name."""
        return {}

    @abstractmethod
    def finish(self, model: Any, run: ab.train.Run, train: list[Tree], say: Say) -> None:
        """What is said at the end of training."""
