"""split: the forward and backward graph of a kernel → the programs that run at different times.

Input: a batched graph. Output: `Pieces`:

* *forward*, run launch by launch: results, and residuals: values that other pieces need and that are expensive to
  recompute;
* *backward*, run launch by launch in reverse: cotangents of rows, rematerialising elementwise values from residuals;
* *final*, run once after all launches: cotangents of shared operands, over the residuals of all launches together,
  so that a weight gradient is one GEMM. The gradient of an embedding stays a list of (row numbers, rows).

Invariants: every piece is a checked graph; a piece reads only residuals of earlier ones. Cost: once per signature.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from ..base.types import Type
from ..ir.graph import CONST, INPUT, Graph
from ..ir.simplify import simplify
from ..ir.vjp import differentiable, sum_of_scatters, vjp
from ..ops.elementwise import EQUAL
from ..ops.index import TAKE
from ..ops.movement import CONCAT, RESHAPE, SLICE, TRANSPOSE
from .rewrites.forward_concats import forward_concats
from .rewrites.in_place_matmuls import concats_in_place

CHEAP = frozenset(("elementwise", "reshape", "transpose", "broadcast", "arange"))


@dataclass(slots=True)
class SparseGradient:
    """Cotangent of a table as rows: numbers of the residuals that hold row numbers and rows.

    `of_result`: the rows are the cotangent of a result, with the number `rows`, which is read in place.
    """

    ids: int
    rows: int
    of_result: bool = False


@dataclass(slots=True)
class Pieces:
    """The programs of one kernel. `residuals` are their types: first those of forward, then of backward."""

    forward: Graph
    backward: Graph
    final: Graph
    residuals: list[Type] = field(default_factory=list)
    n_forward_residuals: int = 0
    slots: list[int] = field(default_factory=list)  # slot of each accumulated result of backward
    dense: list[int] = field(default_factory=list)  # shared operand of each result of final
    sparse: list[tuple[int, SparseGradient]] = field(default_factory=list)  # (shared operand, its rows)

    def __str__(self) -> str:
        residuals = ", ".join(f"residual({k}) {t}" for k, t in enumerate(self.residuals))
        graphs = f"forward:\n{self.forward}\n\nbackward:\n{self.backward}\n\nfinal:\n{self.final}"
        return f"{graphs}\n\nresiduals: {residuals or 'nothing'}"


def split(graph: Graph, trainable: Container[int], constant: Container[int] = ()) -> Pieces:
    """Differentiate a batched graph by its rows and by the shared operands `trainable`, and cut it into pieces.

    `constant`: slots whose rows have no cotangents.
    """
    wrt = differentiable(graph, trainable, constant)
    result = vjp(graph, wrt)
    outputs = list(graph.outputs)
    simple, simple_number = simplify(result.graph, is_last=True)
    unmade = {simple_number[i] for i in concats_in_place(graph, graph.outputs)}
    whole, whole_number = forward_concats(simple, set(simple_number[: result.n_forward]) - unmade)
    number = [whole_number[i] for i in simple_number]
    forward_results = [number[i] for i in outputs]
    cotangents = [
        (graph.nodes[w].attrs, None if c is None else number[c]) for w, c in zip(wrt, result.cotangents, strict=True)
    ]
    is_forward = set(number[: result.n_forward])
    is_forward |= {i for i, node in enumerate(whole.nodes) if node.op is SLICE and node.inputs[0] in is_forward}
    cut = _Cut(whole, is_forward)

    pieces = Pieces(Graph(), Graph(), Graph())
    rows_out: list[int] = []
    shared_out: list[int] = []
    for (kind, k), c in cotangents:
        if c is None:
            continue
        if kind == "rows":
            pieces.slots.append(k)
            rows_out.append(c)
            continue
        leaves = sum_of_scatters(whole, c)
        if leaves is None or any(not whole.nodes[ids].type.has_dim for ids, _ in leaves):
            pieces.dense.append(k)
            shared_out.append(c)
        else:
            for ids, rows in leaves:
                pieces.sparse.append((k, SparseGradient(cut.keep(ids), cut.keep(rows))))
    final_nodes = cut.final(shared_out)
    for i in final_nodes:
        for j in whole.nodes[i].inputs:
            if j not in final_nodes and cut.varies[j] and not cut.always_there(j):
                cut.keep(j)
    for i in shared_out:
        if i not in final_nodes and cut.varies[i]:
            cut.keep(i)
    cut.need_in_backward([*rows_out, *(i for i in cut.residuals if i not in is_forward)])

    forward_residuals = [i for i in cut.residuals if i in is_forward]
    backward_residuals = [i for i in cut.residuals if i not in is_forward]
    order = forward_residuals + backward_residuals
    place = {i: k for k, i in enumerate(order)}
    renumber = {old: place[i] for old, i in enumerate(cut.residuals)}
    for _, gradient in pieces.sparse:
        gradient.ids, gradient.rows = renumber[gradient.ids], renumber[gradient.rows]
    pieces.residuals = [whole.nodes[i].type for i in order]
    pieces.n_forward_residuals = len(forward_residuals)
    residuals = {i: ("residual", k) for i, k in place.items()}
    pieces.forward = whole.part([*forward_results, *forward_residuals], lambda i: None)
    pieces.backward = whole.part(
        [*rows_out, *backward_residuals], lambda i: residuals.get(i) if i in is_forward else None
    )
    pieces.final = whole.part(shared_out, residuals.get)
    return pieces


class _Cut:
    def __init__(self, graph: Graph, is_forward: set[int]) -> None:
        self.graph = graph
        self.is_forward = is_forward
        self.residuals: list[int] = []
        self.varies: list[bool] = []
        for node in graph.nodes:
            self.varies.append(node.type.has_dim or any(self.varies[j] for j in node.inputs))

    def keep(self, i: int) -> int:
        if i not in self.residuals:
            self.residuals.append(i)
        return self.residuals.index(i)

    def always_there(self, i: int) -> bool:
        node = self.graph.nodes[i]
        return node.op is CONST or node.kind in ("data", "shared", "cotangent")

    def final(self, outputs: list[int]) -> set[int]:
        """Nodes to run once after all launches: no lead, but made from values that have one; and views for them."""
        nodes = self.graph.nodes
        needed = [i for i, live in enumerate(self.graph.live(outputs)) if live]
        chosen = {i for i in needed if self.varies[i] and not nodes[i].type.has_dim}
        readers: dict[int, list[int]] = {}
        for i in needed:
            for j in nodes[i].inputs:
                readers.setdefault(j, []).append(i)
        for i in reversed(needed):
            if i not in readers:
                continue
            are_chosen = [r in chosen for r in readers[i]]
            part = nodes[i].op is SLICE and nodes[nodes[i].inputs[0]].op is CONCAT  # the whole concat is a residual
            if any(are_chosen) if part else nodes[i].op in (TRANSPOSE, RESHAPE) and all(are_chosen):
                chosen.add(i)
        return chosen

    def need_in_backward(self, outputs: list[int]) -> None:
        """Make residuals of the forward values that the backward piece reads and that are expensive to recompute, or
        compared: another loop may round them differently, and then no element would equal the maximum of them."""
        seen: set[int] = set()
        stack = list(outputs)
        while stack:
            i = stack.pop()
            if i in seen:
                continue
            seen.add(i)
            node = self.graph.nodes[i]
            is_cheap = node.op.batch in CHEAP or node.op in (INPUT, CONST, SLICE)
            is_cheap |= node.op is TAKE and self.graph.nodes[node.inputs[1]].kind == "owners"  # a value of each row
            if i in self.is_forward and self.varies[i] and not is_cheap:
                self.keep(i)
            elif i not in self.is_forward or i not in self.residuals:
                stack.extend(node.inputs)
            if node.op is EQUAL:
                for j in node.inputs:
                    if j in self.is_forward and self.varies[j] and self.graph.nodes[j].op.batch == "elementwise":
                        self.keep(j)
