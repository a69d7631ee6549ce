"""Child-sum Tree-LSTM training step, level-batched by hand in PyTorch, with autograd and with an own backward pass.

`TorchChildSumTreeLSTM` leaves derivatives to autograd. The states of a level are sorted by the level that reads them:
the operands of a level are joined from few slices of lower levels, each read once, and brought into order by one
permutation; sums over children are sums of blocks, as slots go by position among the children.

`TorchOwnBackward` writes the backward pass of the recursion by hand, as one `autograd.Function`: results go to the
slots where parents find them, and gradients of weights are one product per weight over the rows of all levels.

What depends on words alone is computed for all nodes at once. Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from autobatch.data import Tree
from benchmarks.childsum.level_plan import LevelPlan, plan_levels
from benchmarks.torch_trainer import TorchTrainer
from benchmarks.workload import Parameters

aten = torch.ops.aten


class TorchChildSumTreeLSTM(TorchTrainer):
    """The program with autograd."""

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters, tables=("table",))

    def loss(self, examples: Sequence[Tree]) -> Tensor:
        w, plan = self.weights, plan_levels(examples)
        words = F.embedding(torch.from_numpy(plan.words), w["table"], sparse=True)
        gates = F.linear(words, w["word_w"], w["word_b"])
        keep = F.linear(words[plan.n_leaves :], w["keep_w"], w["keep_b"])
        logits = F.linear(self.roots(plan, gates, keep), w["out_w"], w["out_b"])
        return F.cross_entropy(logits, torch.from_numpy(plan.labels), reduction="sum")

    def roots(self, plan: LevelPlan, gates: Tensor, keep: Tensor) -> Tensor:
        """The hidden states of the roots, from what the words of all nodes and of the inner nodes say to the gates."""
        w, n_leaves, readers = self.weights, plan.n_leaves, _Readers(plan)
        sizes = [level.last - level.first for level in plan.levels]
        leaves, *inner = gates.split([n_leaves, *sizes])
        h, c = _state(leaves)
        for k, (level, gate, hold) in enumerate(zip(plan.levels, inner, keep.split(sizes), strict=True)):
            readers.offer(k, h, c)
            h_children, c_children = readers.states(k)
            parts = [b - a for a, b in level.parts]
            forget = torch.sigmoid(F.linear(h_children, w["child_w"]) + _Spread.apply(hold, parts))
            kept = _SumParts.apply(forget * c_children, parts)
            h, c = _state(gate + F.linear(_SumParts.apply(h_children, parts), w["children_w"]), kept)
        readers.offer(len(sizes), h, c)
        return readers.states(len(sizes))[0]


class TorchOwnBackward(TorchChildSumTreeLSTM):
    """The program with the backward pass of the recursion written by hand."""

    name = "pytorch, own backward"

    def roots(self, plan: LevelPlan, gates: Tensor, keep: Tensor) -> Tensor:
        return _Recursion.apply(plan, gates, keep, self.weights["children_w"], self.weights["child_w"])


def _state(gates: Tensor, kept: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """h and c from the arguments of the gates i, o, u and what is kept of the children's cells."""
    dim = gates.shape[1] // 3
    i_o, u = gates.split([2 * dim, dim], dim=1)
    i, o = torch.sigmoid(i_o).chunk(2, dim=1)
    c = i * _tanh(u)
    if kept is not None:
        c = c + kept
    return o * _tanh(c), c


def _tanh(x: Tensor) -> Tensor:
    """tanh through the sigmoid: torch's own takes about four times as long."""
    return torch.sigmoid(x * 2.0).mul(2.0).sub(1.0)


class _Readers:
    """States of finished levels, waiting for the levels that read them.

    Reader k is inner level k, the last reader are the roots. The states of a level are sorted by reader and cut; what
    waits for a reader is joined and brought into the order of its slots.
    """

    def __init__(self, plan: LevelPlan) -> None:
        n_leaves, levels = plan.n_leaves, plan.levels
        widths = [n_leaves, *(level.last - level.first for level in levels)]
        bounds = [0, *(level.slots[1] for level in levels), len(plan.words)]
        self.n_readers = len(bounds) - 1
        height = np.repeat(np.arange(len(widths)), widths)
        reader = np.searchsorted(bounds, plan.slot_of, side="right") - 1
        order = np.lexsort((reader, height))
        starts = np.cumsum([0, *widths])
        self.orders = [torch.from_numpy(order[a:b] - a) for a, b in pairwise(starts)]
        self.counts = np.bincount(height * self.n_readers + reader, minlength=len(widths) * self.n_readers)
        self.counts = self.counts.reshape(len(widths), self.n_readers)
        waiting = order[np.argsort(reader[order], kind="stable")]  # readers one after the other, as they will be joined
        place = np.empty_like(waiting)
        place[waiting] = np.arange(len(waiting)) - np.array(bounds)[reader[waiting]]
        self.picks = [torch.from_numpy(place[plan.node_at[a:b]]) for a, b in pairwise(bounds)]
        self.waiting: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(self.n_readers)]

    def offer(self, height: int, h: Tensor, c: Tensor) -> None:
        """Take the states of all nodes of this height."""
        readers = np.flatnonzero(self.counts[height]).tolist()
        sizes = self.counts[height][readers].tolist()
        pieces = (_Permute.apply(x, self.orders[height]).split(sizes) for x in (h, c))
        for reader, *states in zip(readers, *pieces, strict=True):
            self.waiting[reader].append((states[0], states[1]))

    def states(self, reader: int) -> tuple[Tensor, Tensor]:
        """h and c in the order of the reader's slots."""
        h, c = (torch.cat(pieces) for pieces in zip(*self.waiting[reader], strict=True))
        return _Permute.apply(h, self.picks[reader]), _Permute.apply(c, self.picks[reader])


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


def _sum_parts(rows: Tensor, parts: Sequence[int]) -> Tensor:
    """The sum of blocks of rows; shorter ones are added to the first rows."""
    first, *others = rows.split(parts)
    total = first.clone()
    for part in others:
        total[: len(part)] += part
    return total


def _spread(rows: Tensor, parts: Sequence[int]) -> Tensor:
    """The first rows again for every block."""
    return torch.cat([rows[:n] for n in parts])


class _SumParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, parts: Sequence[int]) -> Tensor:
        ctx.parts = parts
        return _sum_parts(rows, parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _spread(gradient, ctx.parts), None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, parts: Sequence[int]) -> Tensor:
        ctx.parts = parts
        return _spread(rows, parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _sum_parts(gradient, ctx.parts), None


class _Recursion(torch.autograd.Function):
    """From what words say to the gates, to the hidden states of the roots. Gates stand in the order i, o, u."""

    @staticmethod
    def forward(ctx: Any, plan: LevelPlan, gates: Tensor, keep: Tensor, children_w: Tensor, child_w: Tensor) -> Tensor:
        n_leaves, n_nodes, dim = plan.n_leaves, len(plan.words), keep.shape[1]
        slot_of, gates = torch.from_numpy(plan.slot_of), gates.clone()
        h, c, forget, tanh_c = (gates.new_empty(n_nodes, dim) for _ in range(4))
        sums = gates.new_empty(plan.n_inner, dim)

        def state(a: int, b: int, kept: Tensor | None) -> None:
            gate, slots = gates[a:b], slot_of[a:b]
            gate[:, : 2 * dim].sigmoid_()
            _tanh_(gate[:, 2 * dim :])
            i, o, u = gate.chunk(3, dim=1)
            cell = i * u if kept is None else kept.addcmul_(i, u)
            c.index_copy_(0, slots, cell)
            tanh_c[a:b] = _tanh_(cell)
            h.index_copy_(0, slots, o * cell)

        state(0, n_leaves, None)
        for level in plan.levels:
            (s, t), a, b = level.slots, level.first, level.last
            parts = [stop - start for start, stop in level.parts]
            torch.mm(h[s:t], child_w.t(), out=forget[s:t])
            for start, stop in level.parts:
                forget[start:stop] += keep[a : a + stop - start]
            forget[s:t].sigmoid_()
            sums[a:b] = _sum_parts(h[s:t], parts)
            gates[n_leaves + a : n_leaves + b].addmm_(sums[a:b], children_w.t())
            state(n_leaves + a, n_leaves + b, _sum_parts(forget[s:t] * c[s:t], parts))
        ctx.plan = plan
        ctx.save_for_backward(gates, h, c, forget, tanh_c, sums, slot_of, children_w, child_w)
        return h[plan.n_children :]

    @staticmethod
    def backward(ctx: Any, d_roots: Tensor) -> tuple[Tensor | None, ...]:
        gates, h, c, forget, tanh_c, sums, slot_of, children_w, child_w = ctx.saved_tensors
        plan, dim, n_leaves, n_children = ctx.plan, sums.shape[1], ctx.plan.n_leaves, ctx.plan.n_children
        dh, dc, d_forget = torch.empty_like(h), torch.empty_like(h), torch.empty_like(h)
        d_gates, d_keep = torch.empty_like(gates), torch.empty_like(sums)
        dh[n_children:] = d_roots
        dc[n_children:] = 0.0

        def state(a: int, b: int) -> Tensor:
            slots, d, gate = slot_of[a:b], d_gates[a:b], gates[a:b]
            i, o, u = gate.chunk(3, dim=1)
            d_i, d_o, d_u = d.chunk(3, dim=1)
            h_part, c_part = dh.index_select(0, slots), dc.index_select(0, slots)
            c_part += aten.tanh_backward(h_part * o, tanh_c[a:b])
            torch.mul(c_part, u, out=d_i)
            torch.mul(h_part, tanh_c[a:b], out=d_o)
            aten.sigmoid_backward(d[:, : 2 * dim], gate[:, : 2 * dim], grad_input=d[:, : 2 * dim])
            aten.tanh_backward(c_part * i, u, grad_input=d_u)
            return c_part

        for level in reversed(plan.levels):
            (s, t), a, b = level.slots, level.first, level.last
            level_dc = state(n_leaves + a, n_leaves + b)
            d_sums = d_gates[n_leaves + a : n_leaves + b] @ children_w
            spread = _spread(level_dc, [stop - start for start, stop in level.parts])
            torch.mul(spread, forget[s:t], out=dc[s:t])
            aten.sigmoid_backward(spread.mul_(c[s:t]), forget[s:t], grad_input=d_forget[s:t])
            torch.mm(d_forget[s:t], child_w, out=dh[s:t])
            for start, stop in level.parts:
                dh[start:stop] += d_sums[: stop - start]
            d_keep[a:b] = _sum_parts(d_forget[s:t], [stop - start for start, stop in level.parts])
        state(0, n_leaves)
        d_children = d_gates[n_leaves:].t() @ sums
        d_child = d_forget[:n_children].t() @ h[:n_children]
        return None, d_gates, d_keep, d_children, d_child


def _tanh_(x: Tensor) -> Tensor:
    """The same in place."""
    return x.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0)
