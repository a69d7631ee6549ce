"""Words and their numbers, with one number kept for every word that is rare or was never seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from ..errors import message
from .trees import Tree

__all__ = ["Vocabulary"]


class Vocabulary:
    """Numbers for the words that occur at least `min_count` times; all others share the number of the rare token, 0.

    Arguments:
        words: all occurrences, one after the other.
        min_count: how often a word must occur to get a number of its own.
        rare: how the rare token is written. A word written like it is given its number.

    Numbers go by frequency, words of equal frequency in alphabetical order: the same in every run.

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
        n_rare = counts.pop(rare, 0)
        kept = [word for word, count in counts.items() if count >= min_count]
        kept.sort(key=lambda word: (-counts[word], word))
        self.rare = rare
        self.min_count = min_count
        self.words: tuple[str, ...] = (rare, *kept)
        n_rare += counts.total() - sum(counts[word] for word in kept)
        self.counts: tuple[int, ...] = (n_rare, *(counts[word] for word in kept))
        self._number = {word: number for number, word in enumerate(self.words)}

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

    def __repr__(self) -> str:
        return f"<Vocabulary of {len(self.words)} words, each seen {self.min_count} times or more>"
