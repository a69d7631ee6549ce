"""Labels and their numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..base.errors import message
from ..base.files import put

__all__ = ["LabelEncoder"]


class LabelEncoder:
    """Numbers for labels, in their order; names as scikit-learn's. Unlike a `Vocabulary`, it knows all there are.

    Arguments:
        classes: the labels in the order of their numbers; or else `fit` finds them.

    Attributes:
        classes_: the labels in the order of their numbers.

    >>> encoder = LabelEncoder().fit(["NOUN", "VERB", "DET", "NOUN"])
    >>> encoder.classes_, encoder.transform(["VERB", "DET"]), encoder.inverse_transform([2, 0])
    (('DET', 'NOUN', 'VERB'), [2, 0], ['VERB', 'DET'])
    """

    def __init__(self, classes: Iterable[Hashable] = ()) -> None:
        self._set(tuple(classes))

    def _set(self, classes: tuple[Any, ...]) -> None:
        classes = tuple(label.item() if isinstance(label, np.generic) else label for label in classes)
        numbers = {label: number for number, label in enumerate(classes)}
        if len(numbers) != len(classes):
            raise ValueError(message("LabelEncoder: a label is there twice", got=f"{list(classes)[:20]}"))
        self.classes_ = classes
        self._number = numbers

    def fit(self, labels: Iterable[Any]) -> Self:
        """Number the labels that occur, in their order; returns the encoder. TypeError for None, which is no label."""
        found = set(labels)
        if None in found:
            what, repair = "LabelEncoder: None is no label", "leave out what has no label: `if node.label is not None`"
            raise TypeError(message(what, repair=repair))
        self._set(tuple(sorted(found)))
        return self

    def transform(self, labels: Iterable[Any]) -> list[int]:
        """The numbers of labels; ValueError with those that have none."""
        labels = list(labels)
        unknown = sorted({repr(label) for label in labels if label not in self._number})
        if unknown:
            expected, got = f"{', '.join(map(repr, self.classes_[:20]))}", ", ".join(unknown[:20])
            raise ValueError(message("LabelEncoder: unknown labels", expected=expected or "to be fitted", got=got))
        return [self._number[label] for label in labels]

    def fit_transform(self, labels: Iterable[Any]) -> list[int]:
        """`fit`, then `transform`."""
        labels = list(labels)
        return self.fit(labels).transform(labels)

    def inverse_transform(self, numbers: Iterable[int]) -> list[Any]:
        """The labels of numbers; ValueError for a number that is none's."""
        numbers = list(numbers)
        wrong = [x for x in numbers if x != x or not 0 <= x < len(self.classes_) or x != int(x)]
        if wrong:
            expected = f"numbers from 0 to {len(self.classes_) - 1}"
            raise ValueError(message("LabelEncoder: no label has this number", expected=expected, got=f"{wrong[:20]}"))
        return [self.classes_[int(number)] for number in numbers]

    def __len__(self) -> int:
        return len(self.classes_)

    def __contains__(self, label: object) -> bool:
        return label in self._number

    def to_json(self) -> str:
        """The labels, strings or numbers, as a line of JSON, from which `from_json` makes an equal encoder."""
        if others := [label for label in self.classes_ if not isinstance(label, (str, int, float))]:
            what, repair = "LabelEncoder: this label cannot be written", "use strings or numbers"
            raise TypeError(message(what, got=repr(others[0]), repair=repair))
        return json.dumps({"classes": self.classes_}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The encoder that `to_json` wrote; ValueError for any other text."""
        try:
            classes: Sequence[Any] = json.loads(text)["classes"]
            is_sound = isinstance(classes, list) and all(isinstance(label, (str, int, float)) for label in classes)
        except (ValueError, TypeError, KeyError):
            is_sound = False
        if not is_sound:
            raise ValueError(message("LabelEncoder: the text holds no labels", got=repr(text[:60])))
        return cls(classes)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the labels to `path` as JSON; at any moment the file is the old one or the new one, whole."""
        put(os.fsdecode(os.path.realpath(path)), [f"{self.to_json()}\n".encode()])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote; ValueError where the file holds no labels."""
        return cls.from_json(Path(path).read_text(encoding="utf-8"))

    def __repr__(self) -> str:
        return f"<LabelEncoder of {len(self.classes_)} labels>"
