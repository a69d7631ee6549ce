"""Words and their numbers, with one number kept for every word that is rare or was never seen."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from ..base.errors import message
from ..base.files import put
from .trees import Tree

__all__ = ["Vocabulary"]


class Vocabulary:
    """Numbers for the words that occur at least `min_count` times; all others share the number of the rare token, 0.

    Arguments:
        words: all occurrences, one after the other.
        min_count: how often a word must occur to get a number of its own.
        rare: how the rare token is written. A word written like it is given its number.

    Numbers go by frequency, words of equal frequency in alphabetical order: the same in every run. The `words` of a
    vocabulary give it back: words that begin with the rare token, none of them twice, keep their order. `save` and
    `load` keep everything, as JSON.

    Raises ValueError for a `min_count` below 1, TypeError for None among the words.

    >>> vocabulary = Vocabulary("a b a c b a".split(), min_count=2)
    >>> list(vocabulary), vocabulary["a"], vocabulary["c"], vocabulary["never seen"]
    (['<rare>', 'a', 'b'], 1, 0, 0)
    >>> vocabulary.counts                        # of the rare token: the words that share it
    (1, 3, 2)
    """

    def __init__(self, words: Iterable[str], min_count: int = 1, rare: str = "<rare>") -> None:
        if min_count < 1:
            what = "Vocabulary: a word that never occurs cannot be kept"
            raise ValueError(message(what, expected="min_count >= 1", got=str(min_count)))
        counts = Counter(words)
        if None in counts:
            what, repair = "Vocabulary: None is no word", "leave out nodes without a word: `if node.word is not None`"
            raise TypeError(message(what, repair=repair))
        is_vocabulary = min_count == 1 and next(iter(counts), None) == rare and counts.total() == len(counts)
        n_rare = counts.pop(rare, 0)
        kept = [word for word, count in counts.items() if count >= min_count]
        if not is_vocabulary:
            kept.sort(key=lambda word: (-counts[word], word))
        n_rare += counts.total() - sum(counts[word] for word in kept)
        self._set(rare, min_count, (rare, *kept), (n_rare, *(counts[word] for word in kept)))

    def _set(self, rare: str, min_count: int, words: tuple[str, ...], counts: tuple[int, ...]) -> None:
        self.rare = rare
        self.min_count = min_count
        self.words = words
        self.counts = counts
        self._number = {word: number for number, word in enumerate(words)}

    def __len__(self) -> int:
        """Number of numbers: the kept words and the rare token."""
        return len(self.words)

    def __iter__(self) -> Iterator[str]:
        return iter(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._number

    def __getitem__(self, word: str) -> int:
        """The number of `word`: 0 if it is rare or unknown."""
        return self._number.get(word, 0)

    def encode(self, tree: Tree) -> Tree:
        """The same tree with numbers in the place of words; a node without a word stays without.

        >>> vocabulary = Vocabulary(["good", "film"])
        >>> print(vocabulary.encode(Tree(3, children=[Tree(2, "good"), Tree(2, "play")])))
        (3 (2 2) (2 0))
        """
        number = self._number.get
        return tree.map(lambda node: (node.label, None if node.word is None else number(node.word, 0)))

    def lookup_indices(self, words: Iterable[str]) -> list[int]:
        """The numbers of words, such as those of a sentence.

        >>> Vocabulary(["good", "film"]).lookup_indices(["film", "play"])
        [1, 0]
        """
        number = self._number.get
        return [number(word, 0) for word in words]

    def lookup_tokens(self, numbers: Iterable[int]) -> list[str]:
        """The words of numbers; IndexError for a number that is none's."""
        return [self.words[number] for number in numbers]

    def to_json(self) -> str:
        """The vocabulary as a line of JSON, from which `from_json` makes an equal one.

        >>> again = Vocabulary.from_json(Vocabulary("a b a".split()).to_json())
        >>> again.words, again.counts
        (('<rare>', 'a', 'b'), (0, 2, 1))
        """
        others = [word for word in self.words if not isinstance(word, str)]
        if others:
            what = "Vocabulary: only strings can be written"
            raise TypeError(message(what, expected="str", got=f"{others[0]!r}", repair="pass str(word) for each word"))
        names = ("rare", "min_count", "words", "counts")
        return json.dumps({name: getattr(self, name) for name in names}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The vocabulary that `to_json` wrote; ValueError for any other text."""
        try:
            given: dict[str, Any] = json.loads(text)
            rare, min_count, words, counts = (given[name] for name in ("rare", "min_count", "words", "counts"))
            is_sound = (
                isinstance(words, list)
                and isinstance(counts, list)
                and len(words) == len(counts) == len(set(words))
                and words[0] == rare
                and all(isinstance(word, str) for word in words)
                and all(type(count) is int for count in (min_count, *counts))
            )
        except (ValueError, TypeError, KeyError, IndexError):
            is_sound = False
        if not is_sound:
            raise ValueError(message("Vocabulary: the text holds no vocabulary", got=repr(text[:60])))
        made = cls.__new__(cls)
        made._set(rare, min_count, tuple(words), tuple(counts))
        return made

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the vocabulary to `path` as JSON; at any moment the file is the old one or the new one, whole.

        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "words.json")
        ...     Vocabulary(["good", "film"]).save(path)
        ...     print(*Vocabulary.load(path))
        <rare> film good
        """
        put(os.fsdecode(os.path.realpath(path)), [f"{self.to_json()}\n".encode()])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote; ValueError where the file holds no vocabulary."""
        return cls.from_json(Path(path).read_text(encoding="utf-8"))

    def __repr__(self) -> str:
        return f"<Vocabulary of {len(self.words)} words, each seen {self.min_count} times or more>"
