"""Data of the BiLSTM tagger: the shared sentences, initial parameters, and the products of one step."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.sentences import EMBEDDING, N_TAGS, N_WORDS, ParameterDraw, Sentence, lstm_products, sentences
from benchmarks.workload import Parameters, Product, linear

HIDDEN = 32

examples = sentences


def parameters(dim: int) -> Parameters:
    """Initial parameters, float32. Layouts are (outputs, inputs); gates stand in the order i, f, g, o.

    | name                     | shape        | use                                           |
    |--------------------------|--------------|-----------------------------------------------|
    | `table`                  | (10000, 128) | x = table[word]                               |
    | `forward_ih`, `backward_ih` | (4 H, 128) | i, f, g, o = ih x + hh h + b               |
    | `forward_hh`, `backward_hh` | (4 H, H)  |                                               |
    | `forward_b`, `backward_b` | (4 H,)      |                                               |
    | `hidden_w`               | (32, 2 H)    | logits = out_w tanh(hidden_w [h_fwd; h_bwd])  |
    | `out_w`                  | (17, 32)     |                                               |
    """
    draw = ParameterDraw(2)
    return {
        "table": draw.table(N_WORDS, EMBEDDING),
        **draw.lstm("forward", EMBEDDING, dim),
        **draw.lstm("backward", EMBEDDING, dim),
        "hidden_w": draw.weight(HIDDEN, 2 * dim),
        "out_w": draw.weight(N_TAGS, HIDDEN),
    }


def products(examples: Sequence[Sentence], dim: int) -> list[Product]:
    """The products of one training step at full width."""
    n_words = sum(len(sentence.words) for sentence in examples)
    return [
        *2 * lstm_products(n_words, len(examples), EMBEDDING, dim),
        *linear(n_words, 2 * dim, HIDDEN),
        *linear(n_words, HIDDEN, N_TAGS),
    ]
