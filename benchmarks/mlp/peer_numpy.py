"""MLP training step by hand in NumPy: three products, tanh in place, and the same backwards.

Products read weights transposed as they lie: with 64 rows and more this BLAS is as fast on them as on a copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.adam import Adam
from benchmarks.mlp.data import N_INPUTS, Example
from benchmarks.workload import Parameters


class NumpyMLP:
    """One training program; see `benchmarks.workload.Trainer`."""

    name = "numpy"

    def __init__(self, parameters: Parameters) -> None:
        self.adam = Adam(parameters)
        self.widths = (N_INPUTS, *(len(parameters[f"b{k}"]) for k in (1, 2, 3)))
        self.memory: dict[str, np.ndarray] = {}

    def step(self, examples: Sequence[Example]) -> float:
        """One training step. Returns the summed loss before the update."""
        loss = self._forward_and_reverse(examples)
        self.adam.step()
        return loss

    def loss_and_gradients(self, examples: Sequence[Example]) -> tuple[float, Parameters]:
        """The summed loss and its gradients; nothing is updated."""
        loss = self._forward_and_reverse(examples)
        return loss, {name: gradient.copy() for name, gradient in self.adam.gradients.items()}

    def _forward_and_reverse(self, examples: Sequence[Example]) -> float:
        w, dw, n = self.adam.weights, self.adam.gradients, len(examples)
        vectors, classes = zip(*examples, strict=True)
        x, h1, h2, logits = (self._room(f"h{k}", n, width) for k, width in enumerate(self.widths))
        np.stack(vectors, out=x)
        for k, (layer, result) in enumerate(((x, h1), (h1, h2), (h2, logits)), start=1):
            np.matmul(layer, w[f"w{k}"].T, out=result)
            result += w[f"b{k}"]
            if k < 3:
                np.tanh(result, out=result)
        logits -= logits.max(axis=1, keepdims=True)
        each = np.arange(n), np.array(classes)
        right = logits[each].sum()
        np.exp(logits, out=logits)
        total = logits.sum(axis=1, keepdims=True)
        loss = float(np.log(total).sum() - right)

        logits /= total
        logits[each] -= 1.0
        d, dh2, dh1 = logits, self._room("dh2", n, self.widths[2]), self._room("dh1", n, self.widths[1])
        for k, (layer, into) in ((3, (h2, dh2)), (2, (h1, dh1)), (1, (x, None))):
            np.matmul(d.T, layer, out=dw[f"w{k}"])
            np.sum(d, axis=0, out=dw[f"b{k}"])
            if into is not None:
                np.matmul(d, w[f"w{k}"], out=into)
                layer *= layer
                into *= np.subtract(1.0, layer, out=layer)
                d = into
        return loss

    def _room(self, name: str, n_rows: int, width: int) -> np.ndarray:
        """Memory kept from step to step; its content is whatever was there."""
        if len(self.memory.get(name, ())) < n_rows:
            self.memory[name] = np.empty((n_rows, width), np.float32)
        return self.memory[name][:n_rows]
