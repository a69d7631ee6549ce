"""Data of the language model: the shared sentences, initial parameters, and the products of one step.

A sentence of l words is l predictions: each word from those before it. What stands before the first word is `BEGIN`,
the last row of the vocabulary, a word that never occurs in a sentence. The end of a sentence is not predicted.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.sentences import EMBEDDING, N_WORDS, ParameterDraw, Sentence, lstm_products, sentences
from benchmarks.workload import Parameters, Product, linear

BEGIN = N_WORDS - 1

examples = sentences


def parameters(dim: int) -> Parameters:
    """Initial parameters, float32. Layouts are (outputs, inputs); gates stand in the order i, f, g, o.

    | name      | shape        | use                          |
    |-----------|--------------|------------------------------|
    | `table`   | (10000, 128) | x = table[word]              |
    | `lstm_ih` | (4 H, 128)   | i, f, g, o = ih x + hh h + b |
    | `lstm_hh` | (4 H, H)     |                              |
    | `lstm_b`  | (4 H,)       |                              |
    | `out_w`   | (10000, H)   | logits = out_w h + out_b     |
    | `out_b`   | (10000,)     |                              |
    """
    draw = ParameterDraw(4)
    return {
        "table": draw.table(N_WORDS, EMBEDDING),
        **draw.lstm("lstm", EMBEDDING, dim),
        "out_w": draw.weight(N_WORDS, dim),
        "out_b": draw.bias(N_WORDS),
    }


def products(examples: Sequence[Sentence], dim: int) -> list[Product]:
    """The products of one training step at full width."""
    n_words = sum(len(sentence.words) for sentence in examples)
    return [*lstm_products(n_words, len(examples), EMBEDDING, dim), *linear(n_words, dim, N_WORDS)]
