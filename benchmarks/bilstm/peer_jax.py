"""BiLSTM tagger training step by hand in JAX: as most of its users write it, and at its best. Imports jax.

`VmapTagger` is the program for one sentence, a `lax.scan` in each direction over a sentence padded to a multiple of 16
words, under `jax.vmap`; all derivatives are JAX's.

`PackedTagger` sorts the sentences of a minibatch, packs their words by step, and unrolls the steps, so that the batch
narrows from step to step; the backward pass of the recursion is by hand. Each step is as wide as the widest that was
met, or a program would be compiled for each minibatch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.jax_trainer import Arrays, JaxTrainer, distinct_rows, jax, jnp, packed_lstm
from benchmarks.sentences import N_WORDS, Packing, Sentence, joined, pack
from benchmarks.workload import Parameters


def tag_losses(weights: Arrays, states: Any, tags: Any) -> Any:
    """Cross-entropies (n,) of tags (n,), from the states (n, 2 H) of both directions."""
    logits = jnp.tanh(states @ weights["hidden_w"].T) @ weights["out_w"].T
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), tags[:, None], axis=1)[:, 0]


class VmapTagger(JaxTrainer):
    """With padded sentences."""

    name = "jax, vmap"

    def arrays(self, examples: Sequence[Sentence]) -> tuple[dict[str, np.ndarray], Any]:
        length = -(-max(len(sentence.words) for sentence in examples) // 16) * 16
        rows, places = distinct_rows(joined([sentence.words for sentence in examples]), N_WORDS)
        found = {name: np.zeros((len(examples), length), np.int32) for name in ("words", "tags")}
        is_word = np.arange(length) < np.array([[len(sentence.words)] for sentence in examples])
        found["words"][is_word] = places
        found["tags"][is_word] = joined([sentence.tags for sentence in examples])
        return {"rows": rows, "is_word": is_word, **found}, None

    def loss(self, weights: Arrays, vectors: Any, arrays: Arrays, shape: Any) -> Any:
        of_one = jax.vmap(lambda *sentence: self._loss_of_one(weights, vectors, *sentence))
        return of_one(arrays["words"], arrays["tags"], arrays["is_word"]).sum()

    def _loss_of_one(self, weights: Arrays, vectors: Any, words: Any, tags: Any, is_word: Any) -> Any:
        x = vectors[words]
        ways = [self._scan(weights, way, x, is_word, way == "backward") for way in ("forward", "backward")]
        return jnp.where(is_word, tag_losses(weights, jnp.concatenate(ways, axis=1), tags), 0.0).sum()

    def _scan(self, weights: Arrays, way: str, x: Any, is_word: Any, reverse: bool) -> Any:
        ih, hh, b = (weights[f"{way}_{name}"] for name in ("ih", "hh", "b"))

        def step(state: Any, at: Any) -> Any:
            h, c = state
            given, inside = at
            i, f, g, o = jnp.split(given + hh @ h, 4)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            h, c = jnp.where(inside, h, 0.0), jnp.where(inside, c, 0.0)  # padding comes first in one direction
            return (h, c), h

        zeros = jnp.zeros(hh.shape[1])
        return jax.lax.scan(step, (zeros, zeros), (x @ ih.T + b, is_word), reverse=reverse)[1]


def packed(examples: Sequence[Sentence]) -> Packing:
    return pack([len(sentence.words) for sentence in examples])


class PackedTagger(JaxTrainer):
    """With packed sentences."""

    name = "jax, packed"

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.widths = np.zeros(0, np.int64)  # of each step, the most sentences met

    def prepare(self, batches: Sequence[Sequence[Sentence]]) -> None:
        """Make the steps wide enough for these minibatches, so that one program is compiled for all of them."""
        for examples in batches:
            self._widen(np.diff(packed(examples).bounds))

    def _widen(self, own: np.ndarray) -> None:
        self.widths = np.pad(self.widths, (0, max(0, len(own) - len(self.widths))))
        self.widths[: len(own)] = np.maximum(self.widths[: len(own)], own)

    def arrays(self, examples: Sequence[Sentence]) -> tuple[dict[str, np.ndarray], Any]:
        packing = packed(examples)
        own = np.diff(packing.bounds)
        self._widen(own)
        bounds = np.concatenate([[0], np.cumsum(self.widths)])
        step = np.repeat(np.arange(len(own)), own)
        place = bounds[step] + np.arange(packing.n_rows) - np.array(packing.bounds)[step]  # of each row in wide steps
        rows, places = distinct_rows(joined([s.words for s in examples])[packing.flat], N_WORDS)
        found = {name: np.zeros(bounds[-1], np.int32) for name in ("words", "tags", "mirror")}
        found["words"][place] = places
        found["tags"][place] = joined([sentence.tags for sentence in examples])[packing.flat]
        found["mirror"][place] = place[packing.mirror]
        is_word = np.zeros(bounds[-1], bool)
        is_word[place] = True
        return {"rows": rows, "is_word": is_word, **found}, tuple(bounds.tolist())

    def loss(self, weights: Arrays, vectors: Any, arrays: Arrays, shape: Any) -> Any:
        x, mirror = vectors[arrays["words"]], arrays["mirror"]
        ways = []
        for way, given in (("forward", x), ("backward", x[mirror])):
            ways.append(packed_lstm(shape, given, *(weights[f"{way}_{name}"] for name in ("ih", "hh", "b"))))
        states = jnp.concatenate([ways[0], ways[1][mirror]], axis=1)
        return jnp.where(arrays["is_word"], tag_losses(weights, states, arrays["tags"]), 0.0).sum()
