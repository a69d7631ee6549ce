"""MV-RNN in plain NumPy, level-batched by hand.

What makes it fast:

* matrices are kept transposed, those of two children with their rows side by side (n, d, 2, d): for all nodes of a
  level P = pair_w [A; B] is then one product of (n d, 2 d) rows, and so is the gradient of pair_w over all levels;
* results are written to the slot where the parent reads them;
* outer products, the gradients of A through A b, are added in blocks that stay in the cache;
* the matrices of the roots, which nothing reads, are not computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.adam import Adam, Rows, merged_rows
from benchmarks.mvrnn.plan import MergePlan, plan_merges
from benchmarks.treelstm.data import Tree
from benchmarks.workload import Parameters

_BLOCK = 16  # nodes in a block of outer products: 512 KB at width 64


class NumpyMVRNN:
    """One training program; see `benchmarks.workload.Trainer`."""

    name = "numpy"

    def __init__(self, parameters: Parameters) -> None:
        self.dim = parameters["out_w"].shape[1]
        transposed = parameters | {"matrices": parameters["matrices"].transpose(0, 2, 1)}
        self.adam = Adam(transposed, tables=("vectors", "matrices"))
        self.memory: dict[str, np.ndarray] = {}

    def step(self, examples: Sequence[Tree]) -> float:
        """One training step. Returns the summed loss before the update."""
        loss, rows = self._differentiate(examples)
        self.adam.step(rows)
        return loss

    def loss_and_gradients(self, examples: Sequence[Tree]) -> tuple[float, Parameters]:
        """The summed loss and its dense gradients; nothing is updated."""
        loss, rows = self._differentiate(examples)
        gradients = {name: gradient.copy() for name, gradient in self.adam.gradients.items()}
        for name, (numbers, values) in rows.items():
            gradients[name] = np.zeros_like(self.adam.weights[name])
            gradients[name][numbers] = values
        gradients["matrices"] = gradients["matrices"].transpose(0, 2, 1)
        return loss, gradients

    def _room(self, name: str, *shape: int) -> np.ndarray:
        """Memory kept from step to step; its content is whatever was there."""
        size = int(np.prod(shape))
        if name not in self.memory or self.memory[name].size < size:
            self.memory[name] = np.empty(size + size // 4, np.float32)
        return self.memory[name][:size].reshape(shape)

    def _differentiate(self, examples: Sequence[Tree]) -> tuple[float, dict[str, Rows]]:
        plan, dim = plan_merges(examples), self.dim
        vectors = self._room("vectors", plan.n_inner, 2, dim)  # a and b of every inner node
        matrices = self._room("matrices", plan.n_inner, dim, 2, dim)  # rows of Aᵀ and Bᵀ side by side
        acted = self._room("acted", plan.n_inner, 2, dim)  # B a and A b
        hidden = self._room("hidden", plan.n_inner, dim)
        self._forward(plan, vectors, matrices, acted, hidden)
        first, last = plan.levels[-1]
        loss, d_roots = self._judge(hidden[first:last], plan.labels)
        return loss, self._reverse(plan, vectors, matrices, acted, hidden, d_roots)

    def _forward(
        self, plan: MergePlan, vectors: np.ndarray, matrices: np.ndarray, acted: np.ndarray, hidden: np.ndarray
    ) -> None:
        dim, n_leaves, weights = self.dim, plan.n_leaves, self.adam.weights
        node_w, pair_w = np.ascontiguousarray(weights["node_w"].T), np.ascontiguousarray(weights["pair_w"].T)
        slots = matrices.transpose(0, 2, 1, 3)
        leaves = plan.parent[:n_leaves], plan.side[:n_leaves]
        vectors[leaves] = weights["vectors"][plan.words]
        slots[leaves] = weights["matrices"][plan.words]
        for first, last in plan.levels:
            n = last - first
            np.matmul(vectors[first:last, :1], matrices[first:last, :, 1], out=acted[first:last, :1])
            np.matmul(vectors[first:last, 1:], matrices[first:last, :, 0], out=acted[first:last, 1:])
            p = hidden[first:last]
            np.matmul(acted[first:last].reshape(n, 2 * dim), node_w, out=p)
            p += weights["node_b"]
            np.tanh(p, out=p)
            if last <= plan.n_read:
                where = slice(n_leaves + first, n_leaves + last)
                target = plan.parent[where], plan.side[where]
                vectors[target] = p
                product = self._room("product", n * dim, dim)
                np.matmul(matrices[first:last].reshape(n * dim, 2 * dim), pair_w, out=product)
                slots[target] = product.reshape(n, dim, dim)

    def _judge(self, roots: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
        """Summed cross-entropy, and its gradient for the roots."""
        weights, gradients = self.adam.weights, self.adam.gradients
        logits = roots @ weights["out_w"].T
        logits += weights["out_b"]
        logits -= logits.max(axis=1, keepdims=True)
        exponentials = np.exp(logits)
        total = exponentials.sum(axis=1, keepdims=True)
        each = np.arange(len(labels))
        loss = float(np.log(total).sum() - logits[each, labels].sum())
        d_logits = exponentials / total
        d_logits[each, labels] -= 1.0
        np.matmul(d_logits.T, roots, out=gradients["out_w"])
        np.sum(d_logits, axis=0, out=gradients["out_b"])
        return loss, d_logits @ weights["out_w"]

    def _reverse(
        self,
        plan: MergePlan,
        vectors: np.ndarray,
        matrices: np.ndarray,
        acted: np.ndarray,
        hidden: np.ndarray,
        d_roots: np.ndarray,
    ) -> dict[str, Rows]:
        dim, n_leaves, weights, gradients = self.dim, plan.n_leaves, self.adam.weights, self.adam.gradients
        d_vectors, d_matrices = (self._room(f"d {k}", *x.shape) for k, x in enumerate((vectors, matrices)))
        dz, d_products = self._room("dz", *hidden.shape), self._room("d products", plan.n_read, dim, dim)
        d_slots = d_matrices.transpose(0, 2, 1, 3)
        for first, last in reversed(plan.levels):
            n, level = last - first, slice(first, last)
            where = slice(n_leaves + first, n_leaves + last)
            source = plan.parent[where], plan.side[where]
            np.multiply(hidden[level], hidden[level], out=dz[level])
            np.subtract(1.0, dz[level], out=dz[level])
            dz[level] *= d_vectors[source] if last <= plan.n_read else d_roots
            d_acted = (dz[level] @ weights["node_w"]).reshape(n, 2, dim)
            np.matmul(matrices[level, :, 1], d_acted[:, 0, :, None], out=d_vectors[level, 0, :, None])
            np.matmul(matrices[level, :, 0], d_acted[:, 1, :, None], out=d_vectors[level, 1, :, None])
            # Aᵀ has b (A b)′ᵀ, Bᵀ has a (B a)′ᵀ: the other side's vector, the other half of what it acted on.
            columns, rows = vectors[level, ::-1].transpose(0, 2, 1)[..., None], d_acted[:, None, ::-1]
            if last > plan.n_read:
                np.multiply(columns, rows, out=d_matrices[level])
                continue
            d_products[level] = d_slots[source]
            for a in range(0, n, _BLOCK):
                b = min(a + _BLOCK, n)
                block = d_matrices[first + a : first + b]
                flat = block.reshape((b - a) * dim, 2 * dim)
                np.matmul(d_products[first + a : first + b].reshape(-1, dim), weights["pair_w"], out=flat)
                block += np.multiply(columns[a:b], rows[a:b], out=self._room("outer", b - a, dim, 2, dim))
        np.matmul(dz.T, acted.reshape(plan.n_inner, 2 * dim), out=gradients["node_w"])
        np.sum(dz, axis=0, out=gradients["node_b"])
        all_rows = matrices[: plan.n_read].reshape(plan.n_read * dim, 2 * dim)
        np.matmul(d_products.reshape(-1, dim).T, all_rows, out=gradients["pair_w"])

        leaves = plan.parent[:n_leaves], plan.side[:n_leaves]
        words, first_leaf, word_of = np.unique(plan.words, return_index=True, return_inverse=True)
        d_words = d_slots[leaves[0][first_leaf], leaves[1][first_leaf]]
        again = np.ones(n_leaves, bool)
        again[first_leaf] = False
        for word, row, side in zip(*(x[again].tolist() for x in (word_of, *leaves)), strict=True):
            d_words[word] += d_slots[row, side]
        return {"vectors": merged_rows(plan.words, d_vectors[leaves]), "matrices": (words, d_words)}
