"""Tree-LSTM training step, level-batched by hand in plain NumPy: what a careful user without any framework can reach.

What makes it fast, in order of gain:

* weight gradients once: the rows of all levels are kept, then one product per weight;
* leaves at full width, in one product;
* results are written to the slot where their only reader, the parent, finds them: operands of a level are one block;
* forward products read a copy of the weights transposed once per step (few rows times a transposed matrix is slow);
* gates lie side by side as f1, u, i, o, f2: what depends on the left child are the first 4 H columns, on the right
  child the last 4 H; sigmoid is tanh of half the argument, the half is in the copy: one tanh serves all gates;
* elementwise work goes in blocks of rows that stay in the cache; all parameters are one vector for Adam.

`NumpyTreeLSTM(parameters).step(trees)` trains one step and returns the summed loss before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.adam import BETA1, BETA2, EPSILON, LEARNING_RATE
from benchmarks.treelstm.data import EMBEDDING, N_CLASSES, Tree
from benchmarks.treelstm.level_plan import LevelPlan, plan_levels

_BLOCK = 1 << 15  # numbers in a block of elementwise work, per H-wide operand


@dataclass(slots=True)
class Rows:
    """Values of one minibatch. `h`, `c`, `dh` and `dc` are in order of slots (pairs: two children side by side)."""

    slot_of: np.ndarray
    words: np.ndarray
    leaf_gates: np.ndarray
    d_leaf_gates: np.ndarray
    gates: np.ndarray
    d_gates: np.ndarray
    tanh_c: np.ndarray
    h: np.ndarray
    c: np.ndarray
    dh: np.ndarray
    dc: np.ndarray
    h_pairs: np.ndarray
    c_pairs: np.ndarray
    dh_pairs: np.ndarray
    dc_pairs: np.ndarray


class NumpyTreeLSTM:
    """Parameters, moments and reused memory. Parameters come and go as `parameters` has them."""

    name = "numpy"

    def __init__(self, parameters: dict[str, np.ndarray]) -> None:
        self.dim = dim = parameters["out_w"].shape[1]
        self.shapes = {
            "left": (4 * dim, dim),  # f1, u, i, o of the left child
            "right": (4 * dim, dim),  # u, i, o, f2 of the right child
            "leaf_w": (3 * dim, EMBEDDING),  # u, i, o
            "leaf_b": (3 * dim,),
            "node_b": (3 * dim,),
            "forget_b": (dim,),
            "out_w": (N_CLASSES, dim),
            "out_b": (N_CLASSES,),
        }
        size = sum(int(np.prod(shape)) for shape in self.shapes.values())
        self.vector, self.gradient, self.moment1, self.moment2 = (np.zeros(size, np.float32) for _ in range(4))
        self.weights = self._views(self.vector)
        self.gradients = self._views(self.gradient)
        self.table = parameters["table"].copy()
        self.table_moment1, self.table_moment2 = np.zeros_like(self.table), np.zeros_like(self.table)
        self.n_steps = 0
        self.memory: dict[str, np.ndarray] = {}
        self._load(parameters)

    def step(self, trees: Sequence[Tree]) -> float:
        """One training step: plan, forward, reverse, update. Returns the summed loss before the update."""
        plan = self._plan(trees)
        loss = self._forward(plan)
        self._update(*self._reverse(plan))
        return loss

    def loss_and_gradients(self, trees: Sequence[Tree]) -> tuple[float, dict[str, np.ndarray]]:
        """The summed loss and its gradients under the names of `parameters`; nothing is updated."""
        plan = self._plan(trees)
        loss = self._forward(plan)
        rows, row_gradients = self._reverse(plan)
        table = np.zeros_like(self.table)
        table[rows] = row_gradients
        return loss, {"table": table, **self._unpack(self.gradients)}

    # --- what a loss on other nodes changes ---------------------------------------------------------------------------

    def _plan(self, trees: Sequence[Tree]) -> LevelPlan:
        """The plan of a minibatch, with the classes of the judged slots."""
        return plan_levels(trees)

    def _judged(self, plan: LevelPlan) -> slice:
        """The slots of the nodes that have a loss: the roots."""
        return slice(2 * plan.n_inner, None)

    # --- parameters ---------------------------------------------------------------------------------------------------

    def _views(self, vector: np.ndarray) -> dict[str, np.ndarray]:
        views, start = {}, 0
        for name, shape in self.shapes.items():
            stop = start + int(np.prod(shape))
            views[name] = vector[start:stop].reshape(shape)
            start = stop
        return views

    def _load(self, given: dict[str, np.ndarray]) -> None:
        dim, weights = self.dim, self.weights
        order = np.r_[2 * dim : 3 * dim, : 2 * dim]  # i, o, u → u, i, o
        node = given["node_w"][order]
        weights["left"][:] = np.concatenate([given["forget_l"], node[:, :dim]])
        weights["right"][:] = np.concatenate([node[:, dim:], given["forget_r"]])
        for name in ("leaf_w", "leaf_b", "node_b"):
            weights[name][:] = given[name][order]
        for name in ("forget_b", "out_w", "out_b"):
            weights[name][:] = given[name]

    def _unpack(self, packed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        dim = self.dim
        order = np.r_[dim : 3 * dim, :dim]  # u, i, o → i, o, u
        left, right = packed["left"], packed["right"]
        node = np.concatenate([left[dim:], right[: 3 * dim]], axis=1)
        named = {"forget_l": left[:dim].copy(), "forget_r": right[3 * dim :].copy(), "node_w": node[order]}
        named |= {name: packed[name][order] for name in ("leaf_w", "leaf_b", "node_b")}
        return named | {name: packed[name].copy() for name in ("forget_b", "out_w", "out_b")}

    def _room(self, name: str, *shape: int) -> np.ndarray:
        """Memory kept from step to step; its content is whatever was there."""
        size = int(np.prod(shape))
        if name not in self.memory or self.memory[name].size < size:
            self.memory[name] = np.empty(size + size // 4, np.float32)
        return self.memory[name][:size].reshape(shape)

    def _rows(self, plan: LevelPlan) -> Rows:
        dim, n_leaves, n_inner, n_nodes = self.dim, plan.n_leaves, plan.n_inner, len(plan.slot_of)
        slots = [self._room(name, n_nodes, dim) for name in ("h", "c", "dh", "dc")]
        return Rows(
            plan.slot_of,
            self._room("words", n_leaves, EMBEDDING),
            self._room("leaf_gates", n_leaves, 3 * dim),
            self._room("d_leaf_gates", n_leaves, 3 * dim),
            self._room("gates", n_inner, 5 * dim),
            self._room("d_gates", n_inner, 5 * dim),
            self._room("tanh_c", n_nodes, dim),
            *slots,
            *(array[: 2 * n_inner].reshape(n_inner, 2 * dim) for array in slots),
        )

    def _blocks(self, start: int, stop: int) -> list[tuple[int, int]]:
        rows = max(1, _BLOCK // self.dim)
        return [(first, min(first + rows, stop)) for first in range(start, stop, rows)]

    # --- forward ------------------------------------------------------------------------------------------------------

    def _transposed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Weights as (inputs, outputs), rows of sigmoid gates halved: all gates, leaves, and both biases."""
        dim, weights = self.dim, self.weights
        half = np.full(5 * dim, 0.5, np.float32)
        half[dim : 2 * dim] = 1.0
        gates, leaf = self._room("gates_w", 2 * dim, 5 * dim), self._room("leaf_w", EMBEDDING, 3 * dim)
        self._transpose(weights["left"], half[: 4 * dim], gates[:dim, : 4 * dim])
        self._transpose(weights["right"], half[dim:], gates[dim:, dim:])
        self._transpose(weights["leaf_w"], half[dim : 4 * dim], leaf)
        bias = np.concatenate([weights["forget_b"], weights["node_b"], weights["forget_b"]]) * half
        return gates, leaf, bias, weights["leaf_b"] * half[dim : 4 * dim]

    def _transpose(self, weight: np.ndarray, scale: np.ndarray, out: np.ndarray) -> None:
        """out = (weight * scale[:, None]).T, in narrow bands: a plain copy of a transposed array misses the cache."""
        for a in range(0, len(weight), 16):
            np.copyto(out[:, a : a + 16], (weight[a : a + 16] * scale[a : a + 16, None]).T)

    def _forward(self, plan: LevelPlan) -> float:
        dim = self.dim
        gates_w, leaf_w, gates_b, leaf_b = self._transposed()
        rows = self.rows = self._rows(plan)
        np.take(self.table, plan.words, axis=0, out=rows.words, mode="clip")
        np.matmul(rows.words, leaf_w, out=rows.leaf_gates)
        self._leaf_forward(rows, leaf_b)
        for first, last in plan.levels():
            x, z = rows.h_pairs[first:last], rows.gates[first:last]
            np.matmul(x, gates_w[:, dim : 4 * dim], out=z[:, dim : 4 * dim])
            np.matmul(x[:, :dim], gates_w[:dim, :dim], out=z[:, :dim])
            np.matmul(x[:, dim:], gates_w[dim:, 4 * dim :], out=z[:, 4 * dim :])
            self._inner_forward(rows, first, last, gates_b)
        return self._loss_forward(rows.h[self._judged(plan)], plan)

    def _leaf_forward(self, rows: Rows, bias: np.ndarray) -> None:
        dim = self.dim
        for a, b in self._blocks(0, len(rows.leaf_gates)):
            gate, slots, c = rows.leaf_gates[a:b], rows.slot_of[a:b], self._room("c_block", b - a, dim)
            gate += bias
            np.tanh(gate, out=gate)
            _sigmoid_from_tanh(gate[:, dim:])
            np.multiply(gate[:, :dim], gate[:, dim : 2 * dim], out=c)
            rows.c[slots] = c
            np.tanh(c, out=rows.tanh_c[a:b])
            np.multiply(rows.tanh_c[a:b], gate[:, 2 * dim :], out=c)
            rows.h[slots] = c

    def _inner_forward(self, rows: Rows, first: int, last: int, bias: np.ndarray) -> None:
        dim, n_leaves = self.dim, len(rows.leaf_gates)
        for a, b in self._blocks(first, last):
            gate, c_pair, slots = rows.gates[a:b], rows.c_pairs[a:b], rows.slot_of[n_leaves + a : n_leaves + b]
            c, product = self._room("c_block", b - a, dim), self._room("t", b - a, dim)
            tanh_c = rows.tanh_c[n_leaves + a : n_leaves + b]
            gate += bias
            np.tanh(gate, out=gate)
            _sigmoid_from_tanh(gate[:, :dim])
            _sigmoid_from_tanh(gate[:, 2 * dim :])
            np.multiply(gate[:, dim : 2 * dim], gate[:, 2 * dim : 3 * dim], out=c)
            c += np.multiply(gate[:, :dim], c_pair[:, :dim], out=product)
            c += np.multiply(gate[:, 4 * dim :], c_pair[:, dim:], out=product)
            rows.c[slots] = c
            np.tanh(c, out=tanh_c)
            np.multiply(tanh_c, gate[:, 3 * dim : 4 * dim], out=c)
            rows.h[slots] = c

    def _loss_forward(self, h: np.ndarray, plan: LevelPlan) -> float:
        """Summed cross-entropy; the gradients of the logits are kept."""
        logits = h @ self.weights["out_w"].T
        logits += self.weights["out_b"]
        logits -= logits.max(axis=1, keepdims=True)
        exponentials = np.exp(logits)
        total = exponentials.sum(axis=1, keepdims=True)
        each = np.arange(len(plan.labels))
        self.d_logits = exponentials / total
        self.d_logits[each, plan.labels] -= 1.0
        return float(np.log(total).sum() - logits[each, plan.labels].sum())

    # --- reverse ------------------------------------------------------------------------------------------------------

    def _reverse(self, plan: LevelPlan) -> tuple[np.ndarray, np.ndarray]:
        """Gradients of all parameters into `self.gradients`; of the table, the rows met and their gradients."""
        dim, rows, weights, gradients = self.dim, self.rows, self.weights, self.gradients
        judged = self._judged(plan)
        np.matmul(self.d_logits.T, rows.h[judged], out=gradients["out_w"])
        np.sum(self.d_logits, axis=0, out=gradients["out_b"])
        np.matmul(self.d_logits, weights["out_w"], out=rows.dh[judged])
        rows.dc[2 * plan.n_inner :] = 0.0

        dz = rows.d_gates
        for first, last in reversed(plan.levels()):
            self._inner_reverse(rows, first, last)
            self._children_reverse(dz[first:last], rows.dh_pairs[first:last])
        np.matmul(dz[:, : 4 * dim].T, rows.h_pairs[:, :dim], out=gradients["left"])
        np.matmul(dz[:, dim:].T, rows.h_pairs[:, dim:], out=gradients["right"])
        bias = np.ones(plan.n_inner, np.float32) @ dz
        gradients["node_b"][:] = bias[dim : 4 * dim]
        np.add(bias[:dim], bias[4 * dim :], out=gradients["forget_b"])

        self._leaf_reverse(rows)
        np.matmul(rows.d_leaf_gates.T, rows.words, out=gradients["leaf_w"])
        np.matmul(np.ones(plan.n_leaves, np.float32), rows.d_leaf_gates, out=gradients["leaf_b"])
        d_words = np.matmul(rows.d_leaf_gates, weights["leaf_w"], out=rows.words)
        order = np.argsort(plan.words, kind="stable")
        words_sorted = plan.words[order]
        starts = np.flatnonzero(np.r_[True, words_sorted[1:] != words_sorted[:-1]])
        return words_sorted[starts], self._sum_equal_words(order, starts, d_words)

    def _children_reverse(self, dz: np.ndarray, dh_pairs: np.ndarray) -> None:
        """Gradients of the children's h, to their slots."""
        dim = self.dim
        np.matmul(dz[:, : 4 * dim], self.weights["left"], out=dh_pairs[:, :dim])
        np.matmul(dz[:, dim:], self.weights["right"], out=dh_pairs[:, dim:])

    def _sum_equal_words(self, order: np.ndarray, starts: np.ndarray, d_words: np.ndarray) -> np.ndarray:
        return np.add.reduceat(d_words[order], starts, axis=0)

    def _inner_reverse(self, rows: Rows, first: int, last: int) -> None:
        dim, n_leaves = self.dim, len(rows.leaf_gates)
        for a, b in self._blocks(first, last):
            gate, d, c_pair, dc_pair = rows.gates[a:b], rows.d_gates[a:b], rows.c_pairs[a:b], rows.dc_pairs[a:b]
            f1, u, i, o, f2 = (gate[:, k * dim : (k + 1) * dim] for k in range(5))
            dh, dc, product = self._state_gradients(rows, n_leaves + a, n_leaves + b, o)
            np.multiply(gate, gate, out=d)
            np.subtract(1.0, d[:, dim : 2 * dim], out=d[:, dim : 2 * dim])
            np.subtract(gate[:, :dim], d[:, :dim], out=d[:, :dim])
            np.subtract(gate[:, 2 * dim :], d[:, 2 * dim :], out=d[:, 2 * dim :])
            d[:, 3 * dim : 4 * dim] *= dh
            for k, factor in ((0, c_pair[:, :dim]), (1, i), (2, u), (4, c_pair[:, dim:])):
                d[:, k * dim : (k + 1) * dim] *= np.multiply(dc, factor, out=product)
            np.multiply(dc, f1, out=dc_pair[:, :dim])
            np.multiply(dc, f2, out=dc_pair[:, dim:])

    def _leaf_reverse(self, rows: Rows) -> None:
        dim = self.dim
        for a, b in self._blocks(0, len(rows.leaf_gates)):
            gate, d = rows.leaf_gates[a:b], rows.d_leaf_gates[a:b]
            u, i, o = (gate[:, k * dim : (k + 1) * dim] for k in range(3))
            dh, dc, product = self._state_gradients(rows, a, b, o)
            np.multiply(gate, gate, out=d)
            np.subtract(1.0, d[:, :dim], out=d[:, :dim])
            np.subtract(gate[:, dim:], d[:, dim:], out=d[:, dim:])
            d[:, :dim] *= np.multiply(dc, i, out=product)
            d[:, dim : 2 * dim] *= np.multiply(dc, u, out=product)
            d[:, 2 * dim :] *= dh

    def _state_gradients(self, rows: Rows, a: int, b: int, o: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gradients of o and c of nodes a:b, through h = o tanh(c); and scratch memory of the same shape."""
        dh, dc, through = (self._room(name, b - a, self.dim) for name in ("dh_block", "dc_block", "t"))
        np.take(rows.dh, rows.slot_of[a:b], axis=0, out=dh, mode="clip")
        np.take(rows.dc, rows.slot_of[a:b], axis=0, out=dc, mode="clip")
        np.multiply(rows.tanh_c[a:b], rows.tanh_c[a:b], out=through)
        np.subtract(1.0, through, out=through)
        through *= o
        through *= dh
        dc += through
        dh *= rows.tanh_c[a:b]
        return dh, dc, through

    # --- update -------------------------------------------------------------------------------------------------------

    def _update(self, rows: np.ndarray, row_gradients: np.ndarray) -> None:
        """Adam on the vector of all weights, and on the rows of the table that this minibatch met."""
        self.n_steps += 1
        for a in range(0, len(self.vector), _BLOCK):
            block = slice(a, a + _BLOCK)
            self.vector[block] -= self._adam(self.gradient[block], self.moment1[block], self.moment2[block])
        moment1, moment2 = self.table_moment1[rows], self.table_moment2[rows]
        self.table[rows] -= self._adam(row_gradients, moment1, moment2)
        self.table_moment1[rows], self.table_moment2[rows] = moment1, moment2

    def _adam(self, gradient: np.ndarray, moment1: np.ndarray, moment2: np.ndarray) -> np.ndarray:
        """Updates the moments in place and returns the change to subtract. Kingma & Ba 2015, algorithm 1."""
        correction1, correction2 = 1.0 - BETA1**self.n_steps, 1.0 - BETA2**self.n_steps
        moment1 *= BETA1
        moment1 += gradient * (1.0 - BETA1)
        moment2 *= BETA2
        square = gradient * gradient
        square *= 1.0 - BETA2
        moment2 += square
        np.multiply(moment2, 1.0 / correction2, out=square)
        np.sqrt(square, out=square)
        square += EPSILON
        np.divide(moment1, square, out=square)
        square *= LEARNING_RATE / correction1
        return square


def _sigmoid_from_tanh(gate: np.ndarray) -> None:
    gate *= 0.5
    gate += 0.5
