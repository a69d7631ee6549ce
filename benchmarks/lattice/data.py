"""Data of the lattice LSTM: random sentences of characters with the words of a lexicon that match in them.

A sentence is a chain of characters; at every position a word of two, three or four characters may begin, each with a
probability of its own, so words overlap and several may end at one character. Every character has a tag. Characters and
words follow Zipf's law.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.workload import Parameters, Product, linear

N_SENTENCES = 25 * 64
N_CHARACTERS, N_WORDS, N_TAGS = 4_000, 10_000, 5
EMBEDDING = 64
CHANCES = {2: 0.45, 3: 0.2, 4: 0.1}  # of a word with so many characters, at every place where it has room


@dataclass(frozen=True, slots=True)
class Lattice:
    """A sentence and its words.

    characters: of every position, the row of the table of characters
    words: of every position, the words that end there: row of the table of words, and position of the first character
    tags: of every position, its class
    """

    characters: tuple[int, ...]
    words: tuple[tuple[tuple[int, int], ...], ...]
    tags: tuple[int, ...]


def examples() -> list[Lattice]:
    """The 1,600 lattices, the same on every machine."""
    rng = np.random.default_rng(2018)
    lengths = np.clip(np.rint(np.exp(rng.normal(3.0, 0.5, size=N_SENTENCES))), 2, 60).astype(int)
    return [lattice(int(length), rng) for length in lengths]


def lattice(length: int, rng: np.random.Generator) -> Lattice:
    words: list[list[tuple[int, int]]] = [[] for _ in range(length)]
    for start in range(length):
        for span, chance in CHANCES.items():
            if start + span <= length and rng.random() < chance:
                words[start + span - 1].append((int(N_WORDS ** rng.random()) - 1, start))
    characters = (N_CHARACTERS ** rng.random(length)).astype(int) - 1
    tags = rng.integers(0, N_TAGS, size=length)
    return Lattice(tuple(characters.tolist()), tuple(map(tuple, words)), tuple(tags.tolist()))


def parameters(dim: int, seed: int = 1) -> Parameters:
    """Initial parameters, float32. Layouts are (outputs, inputs); gates stand in the order i, o, u, of words i, f, u.

    | name         | shape       | use                                                                |
    |--------------|-------------|--------------------------------------------------------------------|
    | `char_table` | (4000, 64)  | e = char_table[character]                                          |
    | `word_table` | (10000, 64) | d = word_table[word]                                               |
    | `char_w`     | (3 H, 64)   | i, o, u = char_w e + char_b + char_h h                             |
    | `char_b`     | (3 H,)      |                                                                    |
    | `char_h`     | (3 H, H)    |                                                                    |
    | `word_w`     | (3 H, 64)   | i, f, u = word_w d + word_b + word_h h, h of the first character   |
    | `word_b`     | (3 H,)      |                                                                    |
    | `word_h`     | (3 H, H)    |                                                                    |
    | `link_w`     | (H, 64)     | g = link_w e + link_b + link_c c, c of a word, e of its end        |
    | `link_b`     | (H,)        |                                                                    |
    | `link_c`     | (H, H)      |                                                                    |
    | `out_w`      | (5, H)      | logits = out_w h + out_b, at every character                       |
    | `out_b`      | (5,)        |                                                                    |
    """
    rng = np.random.default_rng(seed)

    def weight(n_out: int, n_in: int) -> np.ndarray:
        bound = (6.0 / (n_in + n_out)) ** 0.5
        return rng.uniform(-bound, bound, (n_out, n_in)).astype(np.float32)

    def bias(n: int) -> np.ndarray:
        return rng.uniform(-0.05, 0.05, n).astype(np.float32)

    return {
        "char_table": rng.normal(0.0, 0.3, (N_CHARACTERS, EMBEDDING)).astype(np.float32),
        "word_table": rng.normal(0.0, 0.3, (N_WORDS, EMBEDDING)).astype(np.float32),
        "char_w": weight(3 * dim, EMBEDDING),
        "char_b": bias(3 * dim),
        "char_h": weight(3 * dim, dim),
        "word_w": weight(3 * dim, EMBEDDING),
        "word_b": bias(3 * dim),
        "word_h": weight(3 * dim, dim),
        "link_w": weight(dim, EMBEDDING),
        "link_b": bias(dim),
        "link_c": weight(dim, dim),
        "out_w": weight(N_TAGS, dim),
        "out_b": bias(N_TAGS),
    }


def products(examples: Sequence[Lattice], dim: int) -> list[Product]:
    """The first state of a sentence is zero: it has no product."""
    n_characters = sum(len(lattice.characters) for lattice in examples)
    n_words = sum(len(words) for lattice in examples for words in lattice.words)
    n_ends = sum(bool(words) for lattice in examples for words in lattice.words)
    return [
        *linear(n_characters, EMBEDDING, 3 * dim),
        *linear(n_characters - len(examples), dim, 3 * dim),
        *linear(n_words, EMBEDDING, 3 * dim),
        *linear(n_words, dim, 3 * dim),
        *linear(n_ends, EMBEDDING, dim),
        *linear(n_words, dim, dim),
        *linear(n_characters, dim, N_TAGS),
    ]
