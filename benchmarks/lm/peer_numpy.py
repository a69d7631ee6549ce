"""Language model training step by hand in plain NumPy: what a careful user without any framework can reach.

The recursion is `benchmarks.packed_lstm`. Beside it all cost is in the 10,000 logits of each word:

* the softmax goes by few rows at a time, while they are in the cache;
* it is never divided by its sums: with e = exp(logits) and s = sum(e), the gradient of the states is (e W) / s, that of
  the weights eᵀ (h / s), each less what the predicted words contribute, which are few rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.adam import Rows, merged_rows
from benchmarks.bilstm.peer_numpy import adam_of, dense_gradients
from benchmarks.lm.data import BEGIN
from benchmarks.packed_lstm import PackedLSTM, Room
from benchmarks.sentences import Sentence, joined, pack
from benchmarks.workload import Parameters

_PRODUCT_ROWS, _SOFTMAX_ROWS = 256, 16


class NumpyLanguageModel:
    """Parameters, moments and reused memory."""

    name = "numpy"

    def __init__(self, parameters: Parameters) -> None:
        self.adam = adam_of(parameters)
        self.lstm = PackedLSTM(("lstm",), self.adam.weights, self.adam.gradients)
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
        """The loss, and of the table the rows met and their gradients; all others are in `self.adam.gradients`."""
        packing = pack([len(sentence.words) for sentence in sentences])
        before = joined([(BEGIN, *sentence.words[:-1]) for sentence in sentences])[packing.flat]
        words = joined([sentence.words for sentence in sentences])[packing.flat]
        table = self.adam.weights["table"]
        x = np.take(table, before, axis=0, out=self.room("x", len(before), table.shape[1]), mode="clip")
        h = self.lstm.forward(packing, [x])
        d_h = self.room("d h", *h.shape)
        loss = self._predict(h[:, 0], words, d_h[:, 0])
        d_x = self.room("d x", *x.shape)
        self.lstm.reverse(d_h, [d_x])
        return loss, {"table": merged_rows(before, d_x)}

    def _predict(self, h: np.ndarray, words: np.ndarray, d_h: np.ndarray) -> float:
        """Summed cross-entropy; the gradient of the states into `d_h`, those of the output layer where they belong."""
        weights, gradients, n = self.adam.weights, self.adam.gradients, len(words)
        weight, bias = weights["out_w"], weights["out_b"]
        exponentials, totals = self.room("e", n, len(weight)), self.room("s", n, 1)
        loss = 0.0
        for a in range(0, n, _PRODUCT_ROWS):
            np.matmul(h[a : a + _PRODUCT_ROWS], weight.T, out=exponentials[a : a + _PRODUCT_ROWS])
            for b in range(a, min(a + _PRODUCT_ROWS, n), _SOFTMAX_ROWS):
                rows = slice(b, min(b + _SOFTMAX_ROWS, a + _PRODUCT_ROWS))
                logits = exponentials[rows]
                logits += bias
                logits -= logits.max(axis=1, keepdims=True)
                loss -= float(logits[np.arange(len(logits)), words[rows]].sum())
                np.exp(logits, out=logits)
                np.sum(logits, axis=1, keepdims=True, out=totals[rows])
        loss += float(np.log(totals).sum())
        np.divide(1.0, totals, out=totals)
        np.matmul(exponentials, weight, out=d_h)
        d_h *= totals
        d_h -= weight[words]
        np.matmul(exponentials.T, h * totals, out=gradients["out_w"])
        np.matmul(totals[:, 0], exponentials, out=gradients["out_b"])
        predicted, states = merged_rows(words, h)
        gradients["out_w"][predicted] -= states
        gradients["out_b"] -= np.bincount(words, minlength=len(bias))
        return loss
