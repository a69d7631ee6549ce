"""Data of the tagger with characters: the shared sentences, a spelling for each rare word, parameters, products."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from benchmarks.bilstm import data as bilstm
from benchmarks.sentences import ParameterDraw, Sentence, lstm_products, sentences
from benchmarks.workload import Parameters, Product

N_KNOWN = 4_000
"""Words from here on have no row of their own: their vector comes from their spelling."""
N_LETTERS = 60
LETTER_WIDTH = 20
LETTER_DIM = 64

examples = sentences


@cache
def spelling(word: int) -> tuple[int, ...]:
    """The letters of a word: 2 to 12 of them, 0 to 59, drawn by its number."""
    rng = np.random.default_rng(word)
    return tuple(rng.integers(0, N_LETTERS, size=int(rng.integers(2, 13))).tolist())


def parameters(dim: int) -> Parameters:
    """Those of the BiLSTM tagger, and of the characters' BiLSTM. Its two last states are the 128 numbers of a word.

    | name                                      | shape     | use                          |
    |-------------------------------------------|-----------|------------------------------|
    | `letter_table`                            | (60, 20)  | x = letter_table[letter]     |
    | `letters_forward_ih`, `letters_backward_ih` | (256, 20) | i, f, g, o = ih x + hh h + b |
    | `letters_forward_hh`, `letters_backward_hh` | (256, 64) |                              |
    | `letters_forward_b`, `letters_backward_b` | (256,)    |                              |
    """
    draw = ParameterDraw(3)
    return {
        **bilstm.parameters(dim),
        "letter_table": draw.table(N_LETTERS, LETTER_WIDTH),
        **draw.lstm("letters_forward", LETTER_WIDTH, LETTER_DIM),
        **draw.lstm("letters_backward", LETTER_WIDTH, LETTER_DIM),
    }


def products(examples: Sequence[Sentence], dim: int) -> list[Product]:
    """The products of one training step at full width."""
    rare = [word for sentence in examples for word in sentence.words if word >= N_KNOWN]
    n_letters = sum(len(spelling(word)) for word in rare)
    letters = lstm_products(n_letters, len(rare), LETTER_WIDTH, LETTER_DIM) if rare else []
    return [*bilstm.products(examples, dim), *2 * letters]
