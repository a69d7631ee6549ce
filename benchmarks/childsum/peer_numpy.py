"""Child-sum Tree-LSTM training step, level-batched by hand in plain NumPy.

What makes it fast:

* all that depends on words alone is computed for all nodes at once, before the levels; weight gradients after them;
* results are written to the slot where their only reader, the parent, finds them, so the operands of a level are one
  block; slots go by position among the children, so sums over children are sums of blocks, without indices;
* forward products read copies of the weights transposed once per step; sigmoid is tanh of half the argument, the half
  is in the copy: one tanh serves all gates;
* elementwise work goes in blocks of rows that stay in the cache; all parameters are one vector for Adam.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autobatch.data import Tree
from benchmarks.adam import Adam, Rows, merged_rows
from benchmarks.childsum.level_plan import Level, LevelPlan, plan_levels
from benchmarks.workload import Parameters

_BLOCK = 1 << 15  # numbers in a block of elementwise work, per H-wide operand


class NumpyChildSumTreeLSTM:
    """One training program; see `benchmarks.workload.Trainer`. Gates stand in the order i, o, u.

    Values of the minibatch in hand: `words`, `gates`, `tanh_c` and their gradients by node, `sums` (of the children's
    h), `keep` (what a node's word says to its forget gates) and its gradient by inner node; `h`, `c`, `forget` and
    their gradients by slot.
    """

    name = "numpy"

    def __init__(self, parameters: Parameters) -> None:
        self.adam = Adam(parameters, tables=("table",))
        self.dim, self.embedding = parameters["out_w"].shape[1], parameters["table"].shape[1]
        self.memory: dict[str, np.ndarray] = {}

    def step(self, examples: Sequence[Tree]) -> float:
        """One training step. Returns the summed loss before the update."""
        plan = plan_levels(examples)
        loss = self._forward(plan)
        self.adam.step({"table": self._reverse(plan)})
        return loss

    def loss_and_gradients(self, examples: Sequence[Tree]) -> tuple[float, Parameters]:
        """The summed loss and its dense gradients; nothing is updated."""
        plan = plan_levels(examples)
        loss = self._forward(plan)
        rows, row_gradients = self._reverse(plan)
        table = np.zeros_like(self.adam.weights["table"])
        table[rows] = row_gradients
        return loss, {"table": table} | {name: gradient.copy() for name, gradient in self.adam.gradients.items()}

    def _room(self, name: str, n_rows: int, width: int) -> np.ndarray:
        """Memory kept from step to step; its content is whatever was there."""
        if len(self.memory.get(name, ())) < n_rows:
            self.memory[name] = np.empty((n_rows + n_rows // 4, width), np.float32)
        return self.memory[name][:n_rows]

    def _make_room(self, plan: LevelPlan) -> None:
        dim, n_nodes = self.dim, len(plan.words)
        self.words = self._room("words", n_nodes, self.embedding)
        self.gates, self.d_gates = (self._room(name, n_nodes, 3 * dim) for name in ("gates", "d_gates"))
        self.tanh_c, self.h, self.c, self.dh, self.dc, self.forget = (
            self._room(name, n_nodes, dim) for name in ("tanh_c", "h", "c", "dh", "dc", "forget")
        )
        self.keep, self.d_keep, self.sums = (self._room(name, plan.n_inner, dim) for name in ("keep", "d_keep", "sums"))

    def _blocks(self, start: int, stop: int) -> list[tuple[int, int]]:
        rows = max(1, _BLOCK // self.dim)
        return [(first, min(first + rows, stop)) for first in range(start, stop, rows)]

    # --- forward ------------------------------------------------------------------------------------------------------

    def _forward(self, plan: LevelPlan) -> float:
        w, dim, n_leaves = self.adam.weights, self.dim, plan.n_leaves
        self._make_room(plan)
        half = np.repeat(np.array([0.5, 0.5, 1.0], np.float32), dim)  # sigmoid from tanh: i, o, not u
        children_w, child_w = _transposed(w["children_w"], half), _transposed(w["child_w"], half[:dim])
        np.take(w["table"], plan.words, axis=0, out=self.words, mode="clip")
        np.matmul(self.words, _transposed(w["word_w"], half), out=self.gates)
        np.matmul(self.words[n_leaves:], _transposed(w["keep_w"], half[:dim]), out=self.keep)
        word_b, keep_b = w["word_b"] * half, w["keep_b"] * half[:dim]

        for a, b in self._blocks(0, n_leaves):
            self._state(plan, a, b, word_b, None)
        for level in plan.levels:
            first, last = level.first, level.last
            kept = self._children(level, child_w, keep_b)
            extra = np.matmul(self.sums[first:last], children_w, out=self._room("extra", last - first, 3 * dim))
            for a, b in self._blocks(first, last):
                self.gates[n_leaves + a : n_leaves + b] += extra[a - first : b - first]
                self._state(plan, n_leaves + a, n_leaves + b, word_b, kept[a - first : b - first])
        return self._loss(plan)

    def _children(self, level: Level, child_w: np.ndarray, keep_b: np.ndarray) -> np.ndarray:
        """Sum the children's h, and what their forget gates keep of their c; the latter is returned."""
        (s, t), n_rows = level.slots, level.last - level.first
        h, c, forget = self.h[s:t], self.c[s:t], self.forget[s:t]
        np.matmul(h, child_w, out=forget)
        keep = self.keep[level.first : level.last]
        keep += keep_b
        for a, b in level.parts:
            self.forget[a:b] += keep[: b - a]
        np.tanh(forget, out=forget)
        _sigmoid_from_tanh(forget)
        products = np.multiply(forget, c, out=self._room("products", t - s, self.dim))
        sums, kept = self.sums[level.first : level.last], self._room("kept", n_rows, self.dim)
        sums[...] = self.h[s : s + n_rows]
        kept[...] = products[:n_rows]
        for a, b in level.parts[1:]:
            sums[: b - a] += self.h[a:b]
            kept[: b - a] += products[a - s : b - s]
        return kept

    def _state(self, plan: LevelPlan, a: int, b: int, bias: np.ndarray, kept: np.ndarray | None) -> None:
        """From the gates of nodes a:b to their h and c."""
        dim, gate, slots = self.dim, self.gates[a:b], plan.slot_of[a:b]
        gate += bias
        np.tanh(gate, out=gate)
        _sigmoid_from_tanh(gate[:, : 2 * dim])
        c = np.multiply(gate[:, :dim], gate[:, 2 * dim :], out=self._room("c_block", b - a, dim))
        if kept is not None:
            c += kept
        self.c[slots] = c
        np.tanh(c, out=self.tanh_c[a:b])
        np.multiply(self.tanh_c[a:b], gate[:, dim : 2 * dim], out=c)
        self.h[slots] = c

    def _loss(self, plan: LevelPlan) -> float:
        """Summed cross-entropy of the roots; the gradients of the logits are kept."""
        w = self.adam.weights
        logits = self.h[plan.n_children :] @ w["out_w"].T
        logits += w["out_b"]
        logits -= logits.max(axis=1, keepdims=True)
        each = np.arange(len(plan.labels)), plan.labels
        right = logits[each].sum()
        exponentials = np.exp(logits)
        total = exponentials.sum(axis=1, keepdims=True)
        self.d_logits = exponentials / total
        self.d_logits[each] -= 1.0
        return float(np.log(total).sum() - right)

    # --- reverse ------------------------------------------------------------------------------------------------------

    def _reverse(self, plan: LevelPlan) -> Rows:
        """Gradients of all dense parameters into those of Adam; of the table, the rows met and their gradients."""
        w, dw, n_leaves, n_children = self.adam.weights, self.adam.gradients, plan.n_leaves, plan.n_children
        np.matmul(self.d_logits.T, self.h[n_children:], out=dw["out_w"])
        np.sum(self.d_logits, axis=0, out=dw["out_b"])
        np.matmul(self.d_logits, w["out_w"], out=self.dh[n_children:])
        self.dc[n_children:] = 0.0

        for level in reversed(plan.levels):
            first, last = level.first, level.last
            dc = self._room("level_dc", last - first, self.dim)
            for a, b in self._blocks(first, last):
                self._state_reverse(plan, n_leaves + a, n_leaves + b, dc[a - first : b - first])
            self._children_reverse(level, self.d_gates[n_leaves + first : n_leaves + last], dc)
        for a, b in self._blocks(0, n_leaves):
            self._state_reverse(plan, a, b, self._room("level_dc", b - a, self.dim))

        ones = np.ones(len(plan.words), np.float32)
        np.matmul(self.d_gates[n_leaves:].T, self.sums, out=dw["children_w"])
        np.matmul(self.d_forget[:n_children].T, self.h[:n_children], out=dw["child_w"])
        np.matmul(self.d_gates.T, self.words, out=dw["word_w"])
        np.matmul(ones, self.d_gates, out=dw["word_b"])
        np.matmul(self.d_keep.T, self.words[n_leaves:], out=dw["keep_w"])
        np.matmul(ones[: plan.n_inner], self.d_keep, out=dw["keep_b"])
        d_words = np.matmul(self.d_gates, w["word_w"], out=self.words)
        d_words[n_leaves:] += np.matmul(
            self.d_keep, w["keep_w"], out=self._room("d_words", plan.n_inner, self.embedding)
        )
        return merged_rows(plan.words, d_words)

    @property
    def d_forget(self) -> np.ndarray:
        """Gradients of the forget gates' arguments; they take the place of the gates."""
        return self.forget

    def _state_reverse(self, plan: LevelPlan, a: int, b: int, dc: np.ndarray) -> None:
        """From the gradients of h and c of nodes a:b to those of their gates; `dc` gets the whole gradient of c."""
        dim, gate, d, tanh_c = self.dim, self.gates[a:b], self.d_gates[a:b], self.tanh_c[a:b]
        i, o, u = (gate[:, k * dim : (k + 1) * dim] for k in range(3))
        dh, through = self._room("dh_block", b - a, dim), self._room("through", b - a, dim)
        np.take(self.dh, plan.slot_of[a:b], axis=0, out=dh, mode="clip")
        np.take(self.dc, plan.slot_of[a:b], axis=0, out=dc, mode="clip")
        np.multiply(tanh_c, tanh_c, out=through)
        np.subtract(1.0, through, out=through)
        through *= o
        through *= dh
        dc += through
        dh *= tanh_c
        np.multiply(gate, gate, out=d)
        np.subtract(gate[:, : 2 * dim], d[:, : 2 * dim], out=d[:, : 2 * dim])
        np.subtract(1.0, d[:, 2 * dim :], out=d[:, 2 * dim :])
        d[:, :dim] *= np.multiply(dc, u, out=through)
        d[:, dim : 2 * dim] *= dh
        d[:, 2 * dim :] *= np.multiply(dc, i, out=through)

    def _children_reverse(self, level: Level, d_gates: np.ndarray, dc: np.ndarray) -> None:
        """Gradients of the children's h and c, of their forget gates, and of what the words say to those."""
        w, (s, t) = self.adam.weights, level.slots
        forget, scratch = self.forget[s:t], self._room("products", t - s, self.dim)
        d_sums = np.matmul(d_gates, w["children_w"], out=self._room("d_sums", len(d_gates), self.dim))
        for a, b in level.parts:
            np.multiply(forget[a - s : b - s], dc[: b - a], out=self.dc[a:b])
        np.subtract(1.0, forget, out=scratch)
        np.multiply(self.dc[s:t], self.c[s:t], out=forget)  # dc f c (1 - f)
        forget *= scratch
        np.matmul(forget, w["child_w"], out=self.dh[s:t])
        d_keep = self.d_keep[level.first : level.last]
        d_keep[...] = forget[: len(d_keep)]
        for a, b in level.parts:
            self.dh[a:b] += d_sums[: b - a]
        for a, b in level.parts[1:]:
            d_keep[: b - a] += forget[a - s : b - s]


def _transposed(weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(weight * scale[:, None]).T, in narrow bands: a plain copy of a transposed array misses the cache."""
    out = np.empty(weight.shape[::-1], np.float32)
    for a in range(0, len(weight), 16):
        np.copyto(out[:, a : a + 16], (weight[a : a + 16] * scale[a : a + 16, None]).T)
    return out


def _sigmoid_from_tanh(gate: np.ndarray) -> None:
    gate *= 0.5
    gate += 0.5
