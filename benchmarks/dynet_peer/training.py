"""What all programs in DyNet share: parameters made of the workload's arrays, and a step of training.

Runs in DyNet's environment: imports DyNet and NumPy alone.
"""

from __future__ import annotations

from typing import Any

import dynet as dy
import numpy as np


class Weights:
    """DyNet's parameters, made of named arrays or of parts of them, and their gradients under the same names."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.collection = dy.ParameterCollection()
        self.parts: list[tuple[str, Any, Any]] = []

    def __call__(self, name: str, part: Any = ..., shift: Any = 0) -> Any:
        """The parameter of this name, or `array[part]` of it as a parameter of its own; `shift` is added to it."""
        array = np.array(self.arrays[name][part] + shift, dtype=np.float32, order="F")
        parameter = self.collection.parameters_from_numpy(array)
        self.parts.append((name, part, parameter))
        return parameter

    def gates(self, name: str, n: int, columns: slice = slice(None)) -> list[Any]:
        """A parameter for each of n equal blocks of rows."""
        array = self.arrays[name]
        size = len(array) // n
        rows = [slice(k * size, (k + 1) * size) for k in range(n)]
        return [self(name, block if array.ndim == 1 else (block, columns)) for block in rows]

    def table(self, name: str) -> Any:
        """A table to look rows up in. Only rows that were looked up are updated."""
        array = self.arrays[name]
        # DyNet reads a row that is a matrix column by column, but is given it row by row.
        columns_first = array.transpose(0, *range(array.ndim - 1, 0, -1)).reshape(array.shape)
        table = self.collection.lookup_parameters_from_numpy(columns_first)
        self.parts.append((name, ..., table))
        return table

    def gradients(self) -> dict[str, np.ndarray]:
        """The gradients since they were last cleared."""
        gradients = {name: np.zeros_like(array) for name, array in self.arrays.items()}
        for name, part, parameter in self.parts:
            gradients[name][part] = parameter.grad_as_array().reshape(gradients[name][part].shape)
        return gradients


class Program:
    """Training on minibatches. A model makes its parameters in `build` and writes `losses`."""

    def __init__(self, arrays: dict[str, np.ndarray], dim: int, examples: list[Any]) -> None:
        self.weights, self.dim, self.examples = Weights(arrays), dim, examples
        self.build(self.weights, dim)
        # DyNet adds eps to the root of a second moment that is not corrected yet. So it is the others' 1e-8, corrected
        # as at the second of the first three steps, whose losses are compared.
        eps = 1e-8 * (1 - 0.999**2) ** 0.5
        self.adam = dy.AdamTrainer(self.weights.collection, alpha=1e-3, beta_1=0.9, beta_2=0.999, eps=eps)
        self.idle = dy.SimpleSGDTrainer(self.weights.collection, learning_rate=0.0)  # its update only clears gradients
        for trainer in (self.adam, self.idle):
            trainer.set_clip_threshold(0)

    def build(self, w: Weights, dim: int) -> None:
        """Make the parameters."""
        raise NotImplementedError

    def begin(self) -> None:
        """Make what all examples of a graph share."""

    def end(self) -> None:
        """Called when all examples of a graph are recorded."""

    def losses(self, example: Any) -> list[Any]:
        """The losses of one example, to be summed."""
        raise NotImplementedError

    def step(self, indices: list[int]) -> float:
        loss = self._loss(indices)
        value = loss.scalar_value()
        loss.backward()
        self.adam.update()
        return value

    def gradients(self, indices: list[int]) -> tuple[float, dict[str, np.ndarray]]:
        loss = self._loss(indices)
        value = loss.scalar_value()
        loss.backward()
        gradients = self.weights.gradients()
        self.idle.update()
        return value, gradients

    def _loss(self, indices: list[int]) -> Any:
        dy.renew_cg()
        self.begin()
        losses: list[Any] = []
        for index in indices:
            losses += self.losses(self.examples[index])
        self.end()
        return dy.esum(losses)
