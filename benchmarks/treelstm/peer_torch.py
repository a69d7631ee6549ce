"""Tree-LSTM training step, level-batched by hand in PyTorch, with autograd and with a backward pass of its own.

`TorchTreeLSTM` leaves derivatives to autograd. Nodes of a level are ordered by the level of their parents, so the
operands of a level are joined from few slices of lower levels, each read once, and brought into order by one
permutation; gates that share an input are one product; sigmoids are one call.

`TorchOwnBackward` writes the backward pass of the recursion by hand, as one `autograd.Function`: results go to the
slots where parents find them, and gradients of weights are one product per weight over the rows of all levels.

Both use `F.embedding` with sparse gradients and SparseAdam for the table, and fused Adam for all else. The plan is made
in every step. Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.torch_trainer import TorchTrainer
from benchmarks.treelstm.data import Tree
from benchmarks.treelstm.level_plan import LevelPlan, plan_levels
from benchmarks.workload import Parameters

aten = torch.ops.aten


class TorchTreeLSTM(TorchTrainer):
    """The program with autograd. Parameters come and go as `parameters` has them."""

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters, tables=["table"])

    def loss(self, examples: Sequence[Tree]) -> Tensor:
        """The summed loss of a minibatch."""
        return self._loss(plan_levels(examples))

    def _loss(self, plan: LevelPlan) -> Tensor:
        w, parents = self.weights, order_by_parents(plan)
        words = F.embedding(torch.from_numpy(plan.words[parents.leaves]), w["table"], sparse=True)
        *_, roots = hidden_states(w, parents, *state(F.linear(words, w["leaf_w"], w["leaf_b"])))
        logits = F.linear(roots, w["out_w"], w["out_b"])
        return F.cross_entropy(logits, torch.from_numpy(plan.labels), reduction="sum")


class TorchOwnBackward(TorchTreeLSTM):
    """The program with the backward pass of the recursion written by hand."""

    name = "pytorch, own backward"

    def _loss(self, plan: LevelPlan) -> Tensor:
        w = self.weights
        words = F.embedding(torch.from_numpy(plan.words), w["table"], sparse=True)
        h, c = state(F.linear(words, w["leaf_w"], w["leaf_b"]))
        inner = (w[name] for name in ("node_w", "node_b", "forget_l", "forget_r", "forget_b"))
        logits = F.linear(Levels.apply(plan, False, h, c, *inner), w["out_w"], w["out_b"])
        return F.cross_entropy(logits, torch.from_numpy(plan.labels), reduction="sum")


def _tanh_(x: Tensor) -> Tensor:
    """The same in place."""
    return x.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0)


class Levels(torch.autograd.Function):
    """From the states of the leaves to the hidden states of the roots, or of all slots. Gates: f1, i, o, u, f2."""

    @staticmethod
    def forward(ctx: Any, plan: LevelPlan, all_slots: bool, h: Tensor, c: Tensor, *weights: Tensor) -> Tensor:
        node_w, node_b, forget_l, forget_r, forget_b = weights
        dim, n_leaves, slot_of = h.shape[1], plan.n_leaves, torch.from_numpy(plan.slot_of)
        h_slots, c_slots = h.new_empty(len(slot_of), dim), h.new_empty(len(slot_of), dim)
        h_slots.index_copy_(0, slot_of[:n_leaves], h)
        c_slots.index_copy_(0, slot_of[:n_leaves], c)
        gates, tanh_c = h.new_empty(plan.n_inner, 5 * dim), h.new_empty(plan.n_inner, dim)
        h_pairs, c_pairs = (slots[: 2 * plan.n_inner].view(-1, 2 * dim) for slots in (h_slots, c_slots))
        for a, b in plan.levels():
            x, z = h_pairs[a:b], gates[a:b]
            torch.addmm(forget_b, x[:, :dim], forget_l.t(), out=z[:, :dim])
            torch.addmm(node_b, x, node_w.t(), out=z[:, dim : 4 * dim])
            torch.addmm(forget_b, x[:, dim:], forget_r.t(), out=z[:, 4 * dim :])
            z[:, : 3 * dim].sigmoid_()
            _tanh_(z[:, 3 * dim : 4 * dim])
            z[:, 4 * dim :].sigmoid_()
            f1, i, o, u, f2 = z.chunk(5, dim=1)
            cell = (i * u).addcmul_(f1, c_pairs[a:b, :dim]).addcmul_(f2, c_pairs[a:b, dim:])
            slots = slot_of[n_leaves + a : n_leaves + b]
            c_slots.index_copy_(0, slots, cell)
            tanh_c[a:b] = _tanh_(cell)
            h_slots.index_copy_(0, slots, o * cell)
        ctx.plan, ctx.all_slots = plan, all_slots
        ctx.save_for_backward(h_slots, c_slots, gates, tanh_c, slot_of, node_w, forget_l, forget_r)
        return h_slots if all_slots else h_slots[2 * plan.n_inner :]

    @staticmethod
    def backward(ctx: Any, d_judged: Tensor) -> tuple[Tensor | None, ...]:
        h_slots, c_slots, gates, tanh_c, slot_of, node_w, forget_l, forget_r = ctx.saved_tensors
        plan, dim, n_leaves, n_inner = ctx.plan, gates.shape[1] // 5, ctx.plan.n_leaves, len(gates)
        dh_slots, dc_slots = d_judged.new_empty(len(slot_of), dim), d_judged.new_empty(len(slot_of), dim)
        dh_slots[-len(d_judged) :] = d_judged
        dc_slots[2 * n_inner :] = 0.0
        h_pairs, c_pairs = (slots[: 2 * n_inner].view(-1, 2 * dim) for slots in (h_slots, c_slots))
        dh_pairs, dc_pairs = (slots[: 2 * n_inner].view(-1, 2 * dim) for slots in (dh_slots, dc_slots))
        dz = torch.empty_like(gates)
        for a, b in reversed(plan.levels()):
            slots, d = slot_of[n_leaves + a : n_leaves + b], dz[a:b]
            f1, i, o, u, f2 = gates[a:b].chunk(5, dim=1)
            d_f1, d_i, d_o, d_u, d_f2 = d.chunk(5, dim=1)
            dh, dc = dh_slots.index_select(0, slots), dc_slots.index_select(0, slots)
            dc += aten.tanh_backward(dh * o, tanh_c[a:b])
            torch.mul(dc, c_pairs[a:b, :dim], out=d_f1)
            torch.mul(dc, u, out=d_i)
            torch.mul(dh, tanh_c[a:b], out=d_o)
            torch.mul(dc, c_pairs[a:b, dim:], out=d_f2)
            aten.sigmoid_backward(d[:, : 3 * dim], gates[a:b, : 3 * dim], grad_input=d[:, : 3 * dim])
            aten.tanh_backward(dc * i, u, grad_input=d_u)
            aten.sigmoid_backward(d_f2, f2, grad_input=d_f2)
            torch.mul(dc, f1, out=dc_pairs[a:b, :dim])
            torch.mul(dc, f2, out=dc_pairs[a:b, dim:])
            if ctx.all_slots:
                dx = dh_pairs[a:b].addmm_(d[:, dim : 4 * dim], node_w)
            else:
                dx = torch.mm(d[:, dim : 4 * dim], node_w, out=dh_pairs[a:b])
            dx[:, :dim].addmm_(d_f1, forget_l)
            dx[:, dim:].addmm_(d_f2, forget_r)
        node_w = dz[:, dim : 4 * dim].t() @ h_pairs
        forget_l, forget_r = dz[:, :dim].t() @ h_pairs[:, :dim], dz[:, 4 * dim :].t() @ h_pairs[:, dim:]
        bias = dz.sum(0)
        leaves = slot_of[:n_leaves]
        states = dh_slots.index_select(0, leaves), dc_slots.index_select(0, leaves)
        return None, None, *states, node_w, bias[dim : 4 * dim], forget_l, forget_r, bias[:dim] + bias[4 * dim :]


def hidden_states(w: Mapping[str, Tensor], parents: Parents, h: Tensor, c: Tensor) -> Iterator[Tensor]:
    """From the states of the leaves to the hidden states of every level and, last, of the roots in their order."""
    dim = h.shape[1]
    waiting_h: list[list[Tensor]] = [[] for _ in parents.picks]
    waiting_c: list[list[Tensor]] = [[] for _ in parents.picks]
    for level, picks in enumerate(parents.picks):
        yield h
        counts, readers = parents.counts[level], parents.readers[level]
        for reader, h_piece, c_piece in zip(readers, h.split(counts), c.split(counts), strict=True):
            waiting_h[reader].append(h_piece)
            waiting_c[reader].append(c_piece)
        h = _Permute.apply(torch.cat(waiting_h[level]), picks)
        if level + 1 == len(parents.picks):
            yield h
            return
        h_pairs = h.view(-1, 2 * dim)
        h_left, h_right = h_pairs.chunk(2, dim=1)
        c_left, c_right = _Permute.apply(torch.cat(waiting_c[level]), picks).view(-1, 2 * dim).chunk(2, dim=1)
        f1 = torch.sigmoid(F.linear(h_left, w["forget_l"], w["forget_b"]))
        f2 = torch.sigmoid(F.linear(h_right, w["forget_r"], w["forget_b"]))
        h, c = state(F.linear(h_pairs, w["node_w"], w["node_b"]), f1 * c_left, f2 * c_right)


def state(gates: Tensor, *kept: Tensor) -> tuple[Tensor, Tensor]:
    """h and c from the products of gates i, o, u and what the children's cells keep."""
    dim = gates.shape[1] // 3
    i_o, u = gates.split([2 * dim, dim], dim=1)
    i, o = torch.sigmoid(i_o).chunk(2, dim=1)
    c = i * _tanh(u)
    for term in kept:
        c = c + term
    return o * _tanh(c), c


def _tanh(x: Tensor) -> Tensor:
    """tanh, on a processor through the sigmoid: torch's own takes about four times as long there."""
    return torch.tanh(x) if x.is_cuda else torch.sigmoid(x * 2.0).mul(2.0).sub(1.0)


class _Permute(torch.autograd.Function):
    """Rows in another order: the gradient is a permutation too, where index_select would add row by row."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return rows.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (order,) = ctx.saved_tensors
        return torch.empty_like(gradient).index_copy_(0, order, gradient), None


@dataclass(slots=True)
class Parents:
    """Every level ordered by the level of the parents. Readers are the inner levels from 0 and, last, the roots.

    order:   of all nodes, level by level
    leaves:  the leaves in that order
    picks:   of every reader, the order of its operands within all that waits for it (left, right, left, right, …)
    readers, counts:  of every level, who reads it and how many rows
    """

    order: np.ndarray
    leaves: np.ndarray
    picks: list[Tensor]
    readers: list[list[int]]
    counts: list[list[int]]


def order_by_parents(plan: LevelPlan) -> Parents:
    n_leaves, n_inner = plan.n_leaves, plan.n_inner
    widths = [n_leaves, *np.diff(plan.bounds)]
    height = np.repeat(np.arange(len(widths)), widths)
    reader = np.searchsorted(plan.bounds, plan.slot_of // 2, side="right") - 1
    reader[plan.node_at[2 * n_inner :]] = len(widths) - 1
    cell = height * len(widths) + reader
    order = np.argsort(cell, kind="stable")
    waiting = order[np.argsort(reader[order], kind="stable")]
    starts = np.searchsorted(reader[waiting], np.arange(len(widths)))
    place = np.empty_like(order)
    place[waiting] = np.arange(len(order)) - starts[reader[waiting]]
    rows = order[n_leaves:] - n_leaves
    children = np.stack([plan.node_at[2 * rows], plan.node_at[2 * rows + 1]], axis=1).ravel()
    picks = torch.from_numpy(place[np.concatenate([children, plan.node_at[2 * n_inner :]])])
    counts = np.bincount(cell, minlength=len(widths) ** 2).reshape(len(widths), len(widths))
    return Parents(
        order,
        order[:n_leaves],
        list(picks.split([2 * int(width) for width in widths[1:]] + [len(plan.node_at) - 2 * n_inner])),
        [np.flatnonzero(row).tolist() for row in counts],
        [row[row > 0].tolist() for row in counts],
    )
