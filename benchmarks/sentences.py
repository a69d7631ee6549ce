"""Sentences: the data that all sequence workloads share, drawn from a fixed seed so that every program sees the same.

1,600 sentences, 25 minibatches of 64. Lengths are log-normal (median 18, at most 60), words follow Zipf's law. Word
9,999, the last of the vocabulary, never occurs.

`pack` orders the words of a minibatch as programs by hand want them: all first words, then all second words, … of the
sentences from the longest to the shortest, so that the sentences still going on at a step are the first rows of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain

import numpy as np

from benchmarks.workload import Product, linear

N_SENTENCES = 25 * 64
N_WORDS = 10_000
N_TAGS = 17
EMBEDDING = 128


@dataclass(frozen=True, slots=True)
class Sentence:
    """Words as rows of the embedding table, and a tag for each."""

    words: list[int]
    tags: list[int]


@cache
def _sentences() -> tuple[Sentence, ...]:
    rng = np.random.default_rng(4321)
    lengths = np.clip(np.rint(np.exp(rng.normal(2.87, 0.5, size=N_SENTENCES))), 1, 60).astype(int)
    drawn = []
    for length in lengths.tolist():
        words = (N_WORDS ** rng.random(length)).astype(np.int64) - 1
        drawn.append(Sentence(words.tolist(), rng.integers(0, N_TAGS, size=length).tolist()))
    return tuple(drawn)


def sentences() -> list[Sentence]:
    """The 1,600 sentences, the same on every machine."""
    return list(_sentences())


@dataclass(frozen=True, slots=True)
class Packing:
    """Where the items of sequences lie when they are packed by step; sequences go from the longest to the shortest.

    n_rows: items of all sequences
    bounds: step t has the rows bounds[t]:bounds[t + 1], one for each sequence that is longer than t
    flat: int64[n_rows], of each row its place in the sequences, laid end to end in their own order
    mirror: int64[n_rows], of the row of item t of a sequence of length l, the row of its item l - 1 - t
    order: int64[n_sequences], the sequences from the longest to the shortest
    last: int64[n_sequences], of the sequences in this order, the rows of their last items
    """

    n_rows: int
    bounds: list[int]
    flat: np.ndarray
    mirror: np.ndarray
    order: np.ndarray
    last: np.ndarray


def pack(lengths: Sequence[int]) -> Packing:
    """Order of the items of sequences of these lengths, none of them empty."""
    by_sequence = np.asarray(lengths)
    order = np.argsort(-by_sequence, kind="stable")
    descending = by_sequence[order]
    widths = len(descending) - np.cumsum(np.bincount(descending))[:-1]
    starts = np.concatenate([[0], np.cumsum(widths)])
    step = np.repeat(np.arange(len(widths)), widths)
    sequence = np.arange(len(step)) - starts[step]
    begins = (np.cumsum(by_sequence) - by_sequence)[order]
    last = starts[descending - 1] + np.arange(len(order))
    mirror = starts[descending[sequence] - 1 - step] + sequence
    return Packing(len(step), starts.tolist(), begins[sequence] + step, mirror, order, last)


def joined(items: Sequence[Sequence[int]]) -> np.ndarray:
    """Sequences of integers laid end to end, int64[n]."""
    return np.fromiter(chain.from_iterable(items), np.int64, sum(map(len, items)))


def lstm_products(n_items: int, n_sequences: int, n_in: int, dim: int) -> list[Product]:
    """The products of an LSTM in one direction. Its first step has no state to multiply."""
    return [*linear(n_items, n_in, 4 * dim), *linear(n_items - n_sequences, dim, 4 * dim)]


class ParameterDraw:
    """Initial values of parameters, float32, drawn one after the other. Layouts are (outputs, inputs)."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def table(self, n: int, width: int) -> np.ndarray:
        return self.rng.normal(0.0, 0.1, size=(n, width)).astype(np.float32)

    def weight(self, n_out: int, n_in: int) -> np.ndarray:
        bound = (6.0 / (n_in + n_out)) ** 0.5
        return self.rng.uniform(-bound, bound, size=(n_out, n_in)).astype(np.float32)

    def bias(self, n: int) -> np.ndarray:
        return self.rng.uniform(-0.05, 0.05, size=n).astype(np.float32)

    def lstm(self, name: str, n_in: int, dim: int) -> dict[str, np.ndarray]:
        """`NAME_ih` (4 H, n_in), `NAME_hh` (4 H, H), `NAME_b` (4 H,); gates stand in the order i, f, g, o."""
        values = {
            f"{name}_ih": self.weight(4 * dim, n_in),
            f"{name}_hh": self.weight(4 * dim, dim),
            f"{name}_b": self.bias(4 * dim),
        }
        values[f"{name}_b"][dim : 2 * dim] += 1.0
        return values
