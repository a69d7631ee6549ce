"""MV-RNN in PyTorch, level-batched by hand, with autograd and with a backward pass of its own.

`TorchMVRNN` keeps the vectors and matrices that no parent has read yet in one tensor each; a level takes its children
from there, and what is left waits on, beside the level's own results.

`TorchOwnBackward` keeps matrices transposed, those of two children with their rows side by side, so that
P = pair_w [A; B] is one product for all nodes of a level and its gradients are too; results go to the slots where
parents read them.

Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.mvrnn.plan import MergePlan, plan_merges
from benchmarks.torch_trainer import TorchTrainer
from benchmarks.treelstm.data import Tree
from benchmarks.workload import Parameters


class TorchMVRNN(TorchTrainer):
    """The program with autograd."""

    def __init__(self, parameters: Parameters) -> None:
        self.dim = parameters["out_w"].shape[1]
        flat = parameters["matrices"].reshape(-1, self.dim**2)
        super().__init__({**parameters, "matrices": flat}, tables=["vectors", "matrices"])

    def loss(self, examples: Sequence[Tree]) -> Tensor:
        """The summed loss of a minibatch."""
        w, plan = self.weights, plan_merges(examples)
        words = torch.from_numpy(plan.words)
        vectors = F.embedding(words, w["vectors"], sparse=True)
        matrices = F.embedding(words, w["matrices"], sparse=True).view(-1, self.dim, self.dim)
        for (first, last), order in zip(plan.levels, _orders(plan), strict=True):
            n_read = 2 * (last - first)
            vectors, matrices = vectors.index_select(0, order), matrices.index_select(0, order)
            a, b = vectors[:n_read].view(-1, 2, self.dim).unbind(1)
            pairs = matrices[:n_read].view(-1, 2, self.dim, self.dim)
            acted = torch.cat([torch.bmm(pairs[:, 1], a[:, :, None]), torch.bmm(pairs[:, 0], b[:, :, None])], dim=1)
            p = torch.tanh(F.linear(acted.squeeze(2), w["node_w"], w["node_b"]))
            if last > plan.n_read:
                break
            products = torch.matmul(w["pair_w"], pairs.reshape(-1, 2 * self.dim, self.dim))
            vectors, matrices = torch.cat([p, vectors[n_read:]]), torch.cat([products, matrices[n_read:]])
        logits = F.linear(p, w["out_w"], w["out_b"])
        return F.cross_entropy(logits, torch.from_numpy(plan.labels), reduction="sum")

    def loss_and_gradients(self, examples: Sequence[Tree]) -> tuple[float, Parameters]:
        """The summed loss and its dense gradients under the names of the workload; nothing is updated."""
        loss, gradients = super().loss_and_gradients(examples)
        return loss, {**gradients, "matrices": gradients["matrices"].reshape(-1, self.dim, self.dim)}


def _orders(plan: MergePlan) -> Iterator[Tensor]:
    """For every level, the order of the waiting rows that puts its children first."""
    children = np.empty(2 * plan.n_inner, np.int64)
    children[2 * plan.parent + plan.side] = np.arange(len(plan.parent))
    waiting, place = np.arange(plan.n_leaves), np.empty_like(plan.parent)
    for first, last in plan.levels:
        place[waiting] = np.arange(len(waiting))
        read = place[children[2 * first : 2 * last]]
        left = np.ones(len(waiting), bool)
        left[read] = False
        rest = np.flatnonzero(left)
        yield torch.from_numpy(np.concatenate([read, rest]))
        waiting = np.concatenate([plan.n_leaves + np.arange(first, last), waiting[rest]])


class TorchOwnBackward(TorchTrainer):
    """The program with the recursion as one `autograd.Function`."""

    name = "pytorch, own backward"

    def __init__(self, parameters: Parameters) -> None:
        self.dim = parameters["out_w"].shape[1]
        flat = parameters["matrices"].transpose(0, 2, 1).reshape(-1, self.dim**2)
        super().__init__({**parameters, "matrices": flat}, tables=["vectors", "matrices"])

    def loss(self, examples: Sequence[Tree]) -> Tensor:
        """The summed loss of a minibatch."""
        w, plan = self.weights, plan_merges(examples)
        words = torch.from_numpy(plan.words)
        vectors = F.embedding(words, w["vectors"], sparse=True)
        matrices = F.embedding(words, w["matrices"], sparse=True).view(-1, self.dim, self.dim)
        roots = _Merges.apply(plan, vectors, matrices, w["node_w"], w["node_b"], w["pair_w"])
        logits = F.linear(roots, w["out_w"], w["out_b"])
        return F.cross_entropy(logits, torch.from_numpy(plan.labels), reduction="sum")

    def loss_and_gradients(self, examples: Sequence[Tree]) -> tuple[float, Parameters]:
        """The summed loss and its dense gradients under the names of the workload; nothing is updated."""
        loss, gradients = super().loss_and_gradients(examples)
        flat = gradients["matrices"]
        return loss, {**gradients, "matrices": flat.reshape(-1, self.dim, self.dim).transpose(0, 2, 1)}


class _Merges(torch.autograd.Function):
    """From vectors and transposed matrices of the leaves to the vectors of the roots."""

    @staticmethod
    def forward(ctx: Any, plan: MergePlan, a: Tensor, m: Tensor, *weights: Tensor) -> Tensor:
        node_w, node_b, pair_w = weights
        dim, n_leaves, n_read = a.shape[1], plan.n_leaves, plan.n_read
        parent, side = torch.from_numpy(plan.parent), torch.from_numpy(plan.side)
        vectors, matrices = a.new_empty(plan.n_inner, 2, dim), a.new_empty(plan.n_inner, dim, 2, dim)
        acted, hidden = a.new_empty(plan.n_inner, 2, dim), a.new_empty(plan.n_inner, dim)
        slots = matrices.transpose(1, 2)
        vectors[parent[:n_leaves], side[:n_leaves]] = a
        slots[parent[:n_leaves], side[:n_leaves]] = m
        for first, last in plan.levels:
            x, y = matrices[first:last], acted[first:last]
            torch.bmm(vectors[first:last, :1], x[:, :, 1], out=y[:, :1])
            torch.bmm(vectors[first:last, 1:], x[:, :, 0], out=y[:, 1:])
            p = torch.addmm(node_b, y.view(-1, 2 * dim), node_w.t(), out=hidden[first:last]).tanh_()
            if last <= n_read:
                where = slice(n_leaves + first, n_leaves + last)
                vectors[parent[where], side[where]] = p
                slots[parent[where], side[where]] = (x.view(-1, 2 * dim) @ pair_w.t()).view(-1, dim, dim)
        ctx.plan = plan
        ctx.save_for_backward(vectors, matrices, acted, hidden, parent, side, node_w, pair_w)
        return hidden[n_read:]

    @staticmethod
    def backward(ctx: Any, d_roots: Tensor) -> tuple[Tensor | None, ...]:
        vectors, matrices, acted, hidden, parent, side, node_w, pair_w = ctx.saved_tensors
        plan, dim, n_leaves, n_read = ctx.plan, hidden.shape[1], ctx.plan.n_leaves, ctx.plan.n_read
        d_vectors, d_matrices, dz = torch.empty_like(vectors), torch.empty_like(matrices), torch.empty_like(hidden)
        d_products = hidden.new_empty(n_read, dim, dim)
        d_slots = d_matrices.transpose(1, 2)
        for first, last in reversed(plan.levels):
            x, dx = matrices[first:last], d_matrices[first:last]
            where = slice(n_leaves + first, n_leaves + last)
            dp = d_vectors[parent[where], side[where]] if last <= n_read else d_roots
            torch.ops.aten.tanh_backward(dp, hidden[first:last], grad_input=dz[first:last])
            d_acted = (dz[first:last] @ node_w).view(-1, 2, dim)
            torch.bmm(x[:, :, 1], d_acted[:, 0, :, None], out=d_vectors[first:last, 0, :, None])
            torch.bmm(x[:, :, 0], d_acted[:, 1, :, None], out=d_vectors[first:last, 1, :, None])
            a, b, d_ba, d_ab = vectors[first:last, 0], vectors[first:last, 1], d_acted[:, 0], d_acted[:, 1]
            if last <= n_read:
                d_products[first:last] = d_slots[parent[where], side[where]]
                torch.mm(d_products[first:last].view(-1, dim), pair_w, out=dx.view(-1, 2 * dim))
            else:
                dx.zero_()
            dx[:, :, 0].addcmul_(b[:, :, None], d_ab[:, None])
            dx[:, :, 1].addcmul_(a[:, :, None], d_ba[:, None])
        leaves = parent[:n_leaves], side[:n_leaves]
        d_pair = d_products.view(-1, dim).t() @ matrices[:n_read].view(-1, 2 * dim)
        d_node = dz.t() @ acted.view(-1, 2 * dim)
        return None, d_vectors[leaves], d_slots[leaves], d_node, dz.sum(0), d_pair
