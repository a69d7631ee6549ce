"""BiLSTM tagger training step by hand in plain NumPy: what a careful user without any framework can reach.

The recursion is `benchmarks.packed_lstm`. The hidden layer is narrow, so that its halves are multiplied where the
states of each direction stand, and the 32 results are brought into one order, not the states.

`NumpyTagger(parameters).step(sentences)` trains one step and returns the summed loss before it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.adam import Adam, Rows, merged_rows
from benchmarks.packed_lstm import PackedLSTM, Room, gates_last
from benchmarks.sentences import Packing, Sentence, joined, pack
from benchmarks.workload import Parameters


class NumpyTagger:
    """Parameters, moments and reused memory."""

    name = "numpy"

    def __init__(self, parameters: Parameters) -> None:
        self.adam = adam_of(parameters)
        self.lstm = PackedLSTM(("forward", "backward"), self.adam.weights, self.adam.gradients)
        self.room = Room()

    def step(self, sentences: Sequence[Sentence]) -> float:
        """One training step: plan, forward, reverse, update. Returns the summed loss before the update."""
        loss, rows = self._differentiate(sentences)
        self.adam.step(rows)
        return loss

    def loss_and_gradients(self, sentences: Sequence[Sentence]) -> tuple[float, Parameters]:
        """The summed loss and its dense gradients under the names of the parameters; nothing is updated."""
        loss, rows = self._differentiate(sentences)
        return loss, dense_gradients(self.adam, rows)

    def _differentiate(self, sentences: Sequence[Sentence]) -> tuple[float, dict[str, Rows]]:
        """The loss, and of each table the rows met and their gradients; all others are in `self.adam.gradients`."""
        packing = pack([len(sentence.words) for sentence in sentences])
        words = joined([sentence.words for sentence in sentences])[packing.flat]
        tags = joined([sentence.tags for sentence in sentences])[packing.flat]
        x = self._embed(words)
        loss, d_x = self._tag(packing, x, tags)
        return loss, self._embed_reverse(words, d_x)

    def _embed(self, words: np.ndarray) -> np.ndarray:
        table = self.adam.weights["table"]
        return np.take(table, words, axis=0, out=self.room("x", len(words), table.shape[1]), mode="clip")

    def _embed_reverse(self, words: np.ndarray, d_x: np.ndarray) -> dict[str, Rows]:
        return {"table": merged_rows(words, d_x)}

    def _tag(self, packing: Packing, x: np.ndarray, tags: np.ndarray) -> tuple[float, np.ndarray]:
        """Summed cross-entropy of all words, and its gradient with respect to their vectors x (n, 128)."""
        weights, gradients, mirror, room = self.adam.weights, self.adam.gradients, packing.mirror, self.room
        dim = self.lstm.dim
        mirrored = np.take(x, mirror, axis=0, out=room("mirrored", *x.shape), mode="clip")
        h = self.lstm.forward(packing, [x, mirrored])
        left, right = weights["hidden_w"][:, :dim], weights["hidden_w"][:, dim:]
        hidden = h[:, 0] @ left.T
        hidden += (h[:, 1] @ right.T)[mirror]
        np.tanh(hidden, out=hidden)
        loss, d_logits = cross_entropy(hidden @ weights["out_w"].T, tags)
        np.matmul(d_logits.T, hidden, out=gradients["out_w"])
        d_hidden = d_logits @ weights["out_w"]
        d_hidden *= 1.0 - hidden * hidden
        d_mirrored = d_hidden[mirror]
        np.matmul(d_hidden.T, h[:, 0], out=gradients["hidden_w"][:, :dim])
        np.matmul(d_mirrored.T, h[:, 1], out=gradients["hidden_w"][:, dim:])
        d_h = room("d h", *h.shape)
        np.matmul(d_hidden, left, out=d_h[:, 0])
        np.matmul(d_mirrored, right, out=d_h[:, 1])
        d_x = room("d x", 2, *x.shape)
        self.lstm.reverse(d_h, d_x)
        d_x[0] += np.take(d_x[1], mirror, axis=0, out=mirrored, mode="clip")
        return loss, d_x[0]


def adam_of(parameters: Parameters) -> Adam:
    """Parameters in the layout of `PackedLSTM`, and their moments."""
    layout = {name: gates_last(value) if _of_lstm(name) else value for name, value in parameters.items()}
    return Adam(layout, [name for name in parameters if name.endswith("table")])


def dense_gradients(adam: Adam, rows: dict[str, Rows]) -> Parameters:
    """Gradients in the layout of the parameters; `rows` has those of the tables."""
    gradients = {}
    for name, (numbers, values) in rows.items():
        gradients[name] = np.zeros_like(adam.weights[name])
        gradients[name][numbers] = values
    for name, gradient in adam.gradients.items():
        gradients[name] = gates_last(gradient) if _of_lstm(name) else gradient.copy()
    return gradients


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Summed cross-entropy of rows of logits, which are used up, and its gradient, in their place."""
    each = np.arange(len(labels))
    logits -= logits.max(axis=1, keepdims=True)
    chosen = float(logits[each, labels].sum())
    np.exp(logits, out=logits)
    total = logits.sum(axis=1, keepdims=True)
    logits /= total
    logits[each, labels] -= 1.0
    return float(np.log(total).sum()) - chosen, logits


def _of_lstm(name: str) -> bool:
    return name.endswith(("_ih", "_hh", "forward_b", "backward_b", "lstm_b"))
