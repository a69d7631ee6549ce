"""Time plan: a minibatch of lattices → the row numbers that a program batched by hand works from.

Sentences are sorted by length, longest first, and all advance together: the characters of one position are one block of
rows, and those that go on are its first rows. Words are computed where they begin: the words that begin at one position
are one block, those of two characters first, then of three, then of four. Two words of one block end at different
characters, so results can be added where they end without a collision; within one span they also begin at different
ones.

Cost: O(characters + words), one visit in Python each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.lattice.data import CHANCES, Lattice


@dataclass(frozen=True, slots=True)
class Step:
    """One position of all sentences.

    first, last: the rows of its characters
    merging: which of them, counted from `first`, have words that end there
    spans: blocks of words that begin here, by number of characters: first and last (exclusive) row, empty ones left out
    """

    first: int
    last: int
    merging: np.ndarray
    spans: list[tuple[int, int]]

    @property
    def words(self) -> tuple[int, int]:
        """First and last (exclusive) row of the words that begin here."""
        return (self.spans[0][0], self.spans[-1][1]) if self.spans else (0, 0)


@dataclass(frozen=True, slots=True)
class TimePlan:
    """Where the values of one minibatch live.

    characters, tags: i64[n_characters]
    words:            i64[n_words]
    begins, ends:     i64[n_words]  the rows of a word's first and last character
    steps:            the positions, the first one first
    """

    characters: np.ndarray
    tags: np.ndarray
    words: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    steps: list[Step]


def plan_time(examples: Sequence[Lattice]) -> TimePlan:
    """Number the characters and words of a minibatch."""
    lattices = sorted(examples, key=lambda lattice: -len(lattice.characters))
    lengths = np.array([len(lattice.characters) for lattice in lattices])
    n_steps = int(lengths[0])
    starts = np.cumsum([0, *(int((lengths > t).sum()) for t in range(n_steps))]).tolist()

    characters: list[list[int]] = [[] for _ in range(n_steps)]
    tags: list[list[int]] = [[] for _ in range(n_steps)]
    merging: list[list[int]] = [[] for _ in range(n_steps)]
    found: list[dict[int, list[tuple[int, int, int]]]] = [{span: [] for span in CHANCES} for _ in range(n_steps)]
    for s, lattice in enumerate(lattices):
        for t, words in enumerate(lattice.words):
            characters[t].append(lattice.characters[t])
            tags[t].append(lattice.tags[t])
            if words:
                merging[t].append(s)
                for word, start in words:
                    found[start][t - start + 1].append((word, starts[start] + s, starts[t] + s))
    steps: list[Step] = []
    rows: list[tuple[int, int, int]] = []
    for t in range(n_steps):
        spans = []
        for block in found[t].values():
            if block:
                spans.append((len(rows), len(rows) + len(block)))
                rows += block
        steps.append(Step(starts[t], starts[t + 1], np.array(merging[t], np.int64), spans))
    words, begins, ends = np.array(rows, np.int64).reshape(-1, 3).T.copy()
    return TimePlan(
        np.array([number for each in characters for number in each], np.int64),
        np.array([tag for each in tags for tag in each], np.int64),
        words,
        begins,
        ends,
        steps,
    )
