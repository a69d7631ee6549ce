"""Tree-LSTM training step by hand in PyTorch on a GPU, level by level. Importing this module imports torch.

`Autograd` is the program of the processor, with derivatives by autograd: operands of a level are joined from slices.

`JoinedLevels` is made for a device, where every call costs: states are written to the slots where parents find them, a
level is one product with all weights put together (zeros where a gate does not read a child), and the derivatives of
the recursion are by hand. `compiled`: what is elementwise in a level is one kernel, by `torch.compile`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.torch_program import TorchProgram, dense
from benchmarks.treelstm.data import Tree
from benchmarks.treelstm.level_plan import LevelPlan, plan_levels
from benchmarks.treelstm.peer_torch import hidden_states, order_by_parents, state
from benchmarks.workload import Parameters


class Autograd(TorchProgram):
    """With autograd."""

    def prepare(self, examples: Sequence[Tree]) -> tuple[np.ndarray, Any]:
        plan = plan_levels(examples)
        parents = order_by_parents(plan)
        lengths = [len(picks) for picks in parents.picks]
        picks = self.sent(torch.cat(parents.picks).numpy()).split(lengths)
        return plan.words[parents.leaves], (replace(parents, picks=list(picks)), self.sent(plan.labels))

    def loss(self, vectors: Tensor, rest: Any) -> Tensor:
        parents, labels = rest
        *_, roots = hidden_states(self.weights, parents, *state(dense(self.weights, "leaf", vectors)))
        return F.cross_entropy(dense(self.weights, "out", roots), labels, reduction="sum")


class JoinedLevels(TorchProgram):
    """With slots, one product a level, and derivatives of the recursion by hand."""

    def __init__(
        self, parameters: Parameters, device: str, prebuilt: bool = False, graph: bool = False, compiled: bool = False
    ) -> None:
        super().__init__(parameters, device, prebuilt, graph)
        self.cells = _compiled() if compiled else (forward_cell, backward_cell)

    def prepare(self, examples: Sequence[Tree]) -> tuple[np.ndarray, Any]:
        plan = plan_levels(examples)
        slots, labels = self.sent(np.concatenate([plan.slot_of, plan.labels])).split(
            [len(plan.slot_of), len(plan.labels)]
        )
        return plan.words, (plan, slots, labels)

    def loss(self, vectors: Tensor, rest: Any) -> Tensor:
        plan, slots, labels = rest
        w = self.weights
        h, c = state(dense(w, "leaf", vectors))
        inner = (w[name] for name in ("node_w", "node_b", "forget_l", "forget_r", "forget_b"))
        roots = _Levels.apply(plan, self.cells, slots, h, c, *inner)
        return F.cross_entropy(dense(w, "out", roots), labels, reduction="sum")


@cache
def _compiled() -> tuple[Any, Any]:
    return torch.compile(forward_cell, dynamic=True), torch.compile(backward_cell, dynamic=True)


def forward_cell(z: Tensor, c_pairs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gates f1, f2, i, o before their activations, u behind them → gates, u, c, tanh(c), h."""
    dim = z.shape[1] // 5
    gates, u = torch.sigmoid(z[:, : 4 * dim]), torch.tanh(z[:, 4 * dim :])
    f1, f2, i, o = gates.chunk(4, dim=1)
    c = torch.addcmul(torch.addcmul(i * u, f1, c_pairs[:, :dim]), f2, c_pairs[:, dim:])
    t = torch.tanh(c)
    return gates, u, c, t, o * t


def backward_cell(
    gates: Tensor, u: Tensor, t: Tensor, c_pairs: Tensor, dh: Tensor, dc: Tensor
) -> tuple[Tensor, Tensor]:
    """Cotangents of z and of the cells of the children."""
    f1, f2, i, o = gates.chunk(4, dim=1)
    c1, c2 = c_pairs.chunk(2, dim=1)
    dc = torch.addcmul(dc, dh * o, 1.0 - t * t)
    d_gates = torch.cat([dc * c1, dc * c2, dc * u, dh * t], dim=1) * gates * (1.0 - gates)
    dz = torch.cat([d_gates, dc * i * (1.0 - u * u)], dim=1)
    return dz, torch.cat([dc * f1, dc * f2], dim=1)


class _Levels(torch.autograd.Function):
    """From the states of the leaves to the hidden states of the roots."""

    @staticmethod
    def forward(
        ctx: Any, plan: LevelPlan, cells: Any, slot_of: Tensor, h: Tensor, c: Tensor, *weights: Tensor
    ) -> Tensor:
        node_w, node_b, forget_l, forget_r, forget_b = weights
        dim, n_leaves, n_inner = h.shape[1], plan.n_leaves, plan.n_inner
        nothing = torch.zeros_like(forget_l)
        joined = torch.cat([torch.cat([forget_l, nothing], dim=1), torch.cat([nothing, forget_r], dim=1), node_w])
        bias = torch.cat([forget_b, forget_b, node_b])
        h_slots, c_slots = h.new_empty(len(slot_of), dim), h.new_empty(len(slot_of), dim)
        h_slots.index_copy_(0, slot_of[:n_leaves], h)
        c_slots.index_copy_(0, slot_of[:n_leaves], c)
        h_pairs, c_pairs = (slots[: 2 * n_inner].view(-1, 2 * dim) for slots in (h_slots, c_slots))
        kept = []
        for a, b in plan.levels():
            gates, u, cell, t, hidden = cells[0](torch.addmm(bias, h_pairs[a:b], joined.t()), c_pairs[a:b])
            slots = slot_of[n_leaves + a : n_leaves + b]
            c_slots.index_copy_(0, slots, cell)
            h_slots.index_copy_(0, slots, hidden)
            kept += [gates, u, t]
        ctx.plan, ctx.cells = plan, cells
        ctx.save_for_backward(h_slots, c_slots, slot_of, joined, *kept)
        return h_slots[2 * n_inner :]

    @staticmethod
    def backward(ctx: Any, d_roots: Tensor) -> tuple[Tensor | None, ...]:
        h_slots, c_slots, slot_of, joined, *kept = ctx.saved_tensors
        plan, dim = ctx.plan, h_slots.shape[1]
        n_leaves, n_inner = plan.n_leaves, plan.n_inner
        dh_slots, dc_slots = torch.empty_like(h_slots), torch.empty_like(c_slots)
        dh_slots[2 * n_inner :] = d_roots
        dc_slots[2 * n_inner :] = 0.0
        h_pairs, c_pairs = (slots[: 2 * n_inner].view(-1, 2 * dim) for slots in (h_slots, c_slots))
        dh_pairs, dc_pairs = (slots[: 2 * n_inner].view(-1, 2 * dim) for slots in (dh_slots, dc_slots))
        dz = h_slots.new_empty(n_inner, 5 * dim)
        for level, (a, b) in reversed(list(enumerate(plan.levels()))):
            slots = slot_of[n_leaves + a : n_leaves + b]
            dh, dc = dh_slots.index_select(0, slots), dc_slots.index_select(0, slots)
            dz[a:b], dc_pairs[a:b] = ctx.cells[1](*kept[3 * level : 3 * level + 3], c_pairs[a:b], dh, dc)
            torch.mm(dz[a:b], joined, out=dh_pairs[a:b])
        d_joined, d_bias = dz.t() @ h_pairs, dz.sum(0)
        leaves = slot_of[:n_leaves]
        return (
            *(None, None, None, dh_slots.index_select(0, leaves), dc_slots.index_select(0, leaves)),
            *(d_joined[2 * dim :], d_bias[2 * dim :], d_joined[:dim, :dim], d_joined[dim : 2 * dim, dim:]),
            d_bias[:dim] + d_bias[dim : 2 * dim],
        )
