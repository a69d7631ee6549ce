"""The models of the benchmarks as a user of DyNet writes them: for one example, batching left to DyNet.

Runs in DyNet's environment: imports DyNet and NumPy alone. Examples are those of plain.py, parameters those of the
workloads. Of several ways to write a model the fastest was taken; comments say what it was measured against.
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

    def __call__(self, name: str, part: Any = ...) -> Any:
        """The parameter of this name, or `array[part]` of it as a parameter of its own."""
        parameter = self.collection.parameters_from_numpy(np.array(self.arrays[name][part], order="F"))
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
        table = self.collection.lookup_parameters_from_numpy(self.arrays[name])
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
        self.adam = dy.AdamTrainer(self.weights.collection, alpha=1e-3, beta_1=0.9, beta_2=0.999, eps=1e-8)
        self.idle = dy.SimpleSGDTrainer(self.weights.collection, learning_rate=0.0)  # its update only clears gradients
        for trainer in (self.adam, self.idle):
            trainer.set_clip_threshold(0)

    def build(self, w: Weights, dim: int) -> None:
        """Make the parameters."""
        raise NotImplementedError

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
        losses: list[Any] = []
        for index in indices:
            losses += self.losses(self.examples[index])
        return dy.esum(losses)


class TreeLSTM(Program):
    """Binary Tree-LSTM. Each gate has its own parameters: one product for all gates, sliced, took 5 % longer."""

    def build(self, w: Weights, dim: int) -> None:
        left, right = slice(0, dim), slice(dim, 2 * dim)
        self.table = w.table("table")
        self.leaf = [list(each) for each in zip(w.gates("leaf_b", 3), w.gates("leaf_w", 3), strict=True)]
        node_w = w.gates("node_w", 3, left), w.gates("node_w", 3, right)
        self.node = list(zip(w.gates("node_b", 3), *node_w, strict=True))
        self.forget_left, self.forget_right = w("forget_l"), w("forget_r")
        self.forget_b, self.out_w, self.out_b = w("forget_b"), w("out_w"), w("out_b")

    def word(self, index: int) -> tuple[Any, Any]:
        e = self.table[index]
        i, o, u = (dy.affine_transform([b, w, e]) for b, w in self.leaf)
        c = dy.cmult(dy.logistic(i), dy.tanh(u))
        return dy.cmult(dy.logistic(o), dy.tanh(c)), c

    def compose(self, left: tuple[Any, Any], right: tuple[Any, Any]) -> tuple[Any, Any]:
        (h1, c1), (h2, c2) = left, right
        i, o, u = (dy.affine_transform([b, w1, h1, w2, h2]) for b, w1, w2 in self.node)
        f1 = dy.logistic(dy.affine_transform([self.forget_b, self.forget_left, h1]))
        f2 = dy.logistic(dy.affine_transform([self.forget_b, self.forget_right, h2]))
        c = dy.esum([dy.cmult(dy.logistic(i), dy.tanh(u)), dy.cmult(f1, c1), dy.cmult(f2, c2)])
        return dy.cmult(dy.logistic(o), dy.tanh(c)), c

    def states(self, nodes: list[tuple[int, int, int, int]]) -> list[tuple[Any, Any]]:
        states: list[tuple[Any, Any]] = []
        for left, right, word, _ in nodes:
            states.append(self.word(word) if left < 0 else self.compose(states[left], states[right]))
        return states

    def node_loss(self, h: Any, label: int) -> Any:
        return dy.pickneglogsoftmax(dy.affine_transform([self.out_b, self.out_w, h]), label)

    def losses(self, example: Any) -> list[Any]:
        return [self.node_loss(self.states(example)[-1][0], example[-1][3])]


class TreeLSTMNodes(TreeLSTM):
    """The same with a loss on every node."""

    def losses(self, example: Any) -> list[Any]:
        return [self.node_loss(h, node[3]) for (h, _), node in zip(self.states(example), example, strict=True)]


class MLP(Program):
    """Three layers. The vectors are rows of a table that is not trained: given step by step they took twice as long."""

    def build(self, w: Weights, dim: int) -> None:
        self.layers = [(w(f"b{k}"), w(f"w{k}")) for k in (1, 2, 3)]
        self.fixed = dy.ParameterCollection()
        self.vectors = self.fixed.lookup_parameters_from_numpy(np.array([vector for vector, _ in self.examples]))
        self.examples = [(index, label) for index, (_, label) in enumerate(self.examples)]

    def losses(self, example: Any) -> list[Any]:
        index, label = example
        (b1, w1), (b2, w2), (b3, w3) = self.layers
        h = dy.tanh(dy.affine_transform([b1, w1, dy.lookup(self.vectors, index, update=False)]))
        h = dy.tanh(dy.affine_transform([b2, w2, h]))
        return [dy.pickneglogsoftmax(dy.affine_transform([b3, w3, h]), label)]


PROGRAMS = {"treelstm": TreeLSTM, "treelstm_nodes": TreeLSTMNodes, "mlp": MLP}


def make(workload: str, arrays: dict[str, np.ndarray], dim: int, examples: list[Any]) -> Program:
    """The program of this workload."""
    return PROGRAMS[workload](arrays, dim, examples)
