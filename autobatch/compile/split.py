"""split: the forward and reverse graph of a kernel → the programs that run at different times.

Input: a batched graph. Output: `Pieces`:

* *forward*, run launch by launch: results, and the values that the other pieces need and would be dear to compute anew;
* *backward*, run launch by launch in reverse: cotangents of rows, recomputing elementwise values from what was kept;
* *final*, run once after all launches: cotangents of shared operands, over the kept rows of all launches together,
  so that a weight gradient is one product. The gradient of a looked-up table stays a list of (row numbers, rows).

Parts of a cell that depend on some arguments only are not yet launched apart from the rest.
Invariants: every piece is a checked graph; what a piece reads was kept by an earlier one. Cost: once per signature.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from ..base.types import Dim, Type
from ..ir.graph import CONST, INPUT, Graph
from ..ir.simplify import simplify
from ..ir.vjp import differentiable, sum_of_scatters, vjp
from ..ops.movement import CONCAT, RESHAPE, SLICE, TRANSPOSE
from .rewrites.forward_concats import forward_concats
from .rewrites.in_place_matmuls import concats_in_place, is_in_pool, is_stack

CHEAP = frozenset(("elementwise", "reshape", "transpose", "broadcast", "arange"))


@dataclass(slots=True)
class SparseGradient:
    """Cotangent of a table as rows: numbers of the kept values that hold row numbers and rows.

    `of_result`: the rows are the cotangent of a result, with the number `rows`, which is read where it lies.
    """

    ids: int
    rows: int
    of_result: bool = False


@dataclass(slots=True)
class Pieces:
    """The programs of one kernel. `kept` are the types of kept values: first those of forward, then of backward."""

    forward: Graph
    backward: Graph
    final: Graph
    kept: list[Type] = field(default_factory=list)
    n_kept_forward: int = 0
    slots: list[int] = field(default_factory=list)  # slot of each accumulated result of backward
    dense: list[int] = field(default_factory=list)  # shared operand of each result of final
    sparse: list[tuple[int, SparseGradient]] = field(default_factory=list)  # (shared operand, its rows)

    def __str__(self) -> str:
        kept = ", ".join(f"kept({k}) {t}" for k, t in enumerate(self.kept))
        graphs = f"forward:\n{self.forward}\n\nbackward:\n{self.backward}\n\nfinal:\n{self.final}"
        return f"{graphs}\n\nkeeps: {kept or 'nothing'}"


def split(graph: Graph, trainable: set[int], constant: Container[int] = (), in_place: bool = False) -> Pieces:
    """Differentiate a batched graph by its rows and by the shared operands `trainable`, and cut it into pieces.

    `constant`: slots whose rows have no cotangents; `in_place`: the final piece reads matrices of each node in their
    pools, instead of copies that were kept; and the cotangents of looked-up rows are not copied.
    """
    wrt = differentiable(graph, trainable, constant)
    result = vjp(graph, wrt)
    outputs = list(graph.outputs)
    simple, simple_number = simplify(result.graph)
    unmade = {simple_number[i] for i in concats_in_place(graph)} if in_place else set()
    joint, joint_number = forward_concats(simple, set(simple_number[: result.n_forward]) - unmade)
    number = [joint_number[i] for i in simple_number]
    forward_results = [number[i] for i in outputs]
    cotangents = [
        (graph.nodes[w].attrs, None if c is None else number[c]) for w, c in zip(wrt, result.cotangents, strict=True)
    ]
    is_forward = set(number[: result.n_forward])
    is_forward |= {i for i, node in enumerate(joint.nodes) if node.op is SLICE and node.inputs[0] in is_forward}
    cut = _Cut(joint, is_forward, in_place, {joint_number[i] for i in unmade})

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
        leaves = sum_of_scatters(joint, c)
        if leaves is None or any(_lead(joint.nodes[ids].type) is None for ids, _ in leaves):
            pieces.dense.append(k)
            shared_out.append(c)
        else:
            for ids, rows in leaves:
                of_result = cut.result_of(rows)
                at = cut.keep(rows) if of_result is None else of_result
                pieces.sparse.append((k, SparseGradient(cut.keep(ids), at, of_result is not None)))
    final_nodes = cut.final(shared_out)
    for i in final_nodes:
        for j in joint.nodes[i].inputs:
            if j not in final_nodes and cut.varies[j] and not cut.always_there(j) and not cut.is_cotangent(j):
                cut.keep(j)
    for i in shared_out:
        if i not in final_nodes and cut.varies[i]:
            cut.keep(i)
    cut.need_in_backward([*rows_out, *(i for i in cut.kept if i not in is_forward)])

    kept_forward = [i for i in cut.kept if i in is_forward]
    kept_backward = [i for i in cut.kept if i not in is_forward]
    order = kept_forward + kept_backward
    place = {i: k for k, i in enumerate(order)}
    renumber = {old: place[i] for old, i in enumerate(cut.kept)}
    for _, gradient in pieces.sparse:
        gradient.ids = renumber[gradient.ids]
        gradient.rows = gradient.rows if gradient.of_result else renumber[gradient.rows]
    pieces.kept = [joint.nodes[i].type for i in order]
    pieces.n_kept_forward = len(kept_forward)
    kept = {i: ("kept", k) for i, k in place.items()}
    pieces.forward = joint.part([*forward_results, *kept_forward], lambda i: None)
    pieces.backward = joint.part([*rows_out, *kept_backward], lambda i: kept.get(i) if i in is_forward else None)
    pieces.final = joint.part(shared_out, lambda i: cut.in_reverse_pool(i) or kept.get(i))
    return pieces


class _Cut:
    def __init__(self, graph: Graph, is_forward: set[int], in_place: bool, unmade: set[int]) -> None:
        self.graph = graph
        self.is_forward = is_forward
        self.in_place = in_place
        self.unmade = unmade
        self.kept: list[int] = []
        self.varies: list[bool] = []
        for node in graph.nodes:
            self.varies.append(_lead(node.type) is not None or any(self.varies[j] for j in node.inputs))

    def keep(self, i: int) -> int:
        if i not in self.kept:
            self.kept.append(i)
        return self.kept.index(i)

    def always_there(self, i: int) -> bool:
        node = self.graph.nodes[i]
        found = node.op is CONST or (node.op is INPUT and node.attrs[0] in ("data", "shared"))
        return found or (self.in_place and is_in_pool(node))

    def result_of(self, i: int) -> int | None:
        """The result whose cotangent a value is, in whatever shape, if the cotangent is read where it lies."""
        while self.in_place and self.graph.nodes[i].op is RESHAPE:
            i = self.graph.nodes[i].inputs[0]
        return self.graph.nodes[i].attrs[1] if self.in_place and self.is_cotangent(i) else None

    def in_reverse_pool(self, i: int) -> tuple[str, int] | None:
        """How the final piece reads the cotangent of a matrix of each node, if it reads it in its pool."""
        if self.in_place and self.is_cotangent(i) and is_stack(self.graph.nodes[i].type):
            return "reverse", self.graph.nodes[i].attrs[1]
        return None

    def is_cotangent(self, i: int) -> bool:
        node = self.graph.nodes[i]
        return node.op is INPUT and node.attrs[0] == "cotangent"

    def final(self, outputs: list[int]) -> set[int]:
        """Nodes to run once after all launches: no lead, but made from values that have one; and views for them."""
        nodes = self.graph.nodes
        needed = self.needed(outputs)
        chosen = {i for i in needed if self.varies[i] and _lead(nodes[i].type) is None}
        readers: dict[int, list[int]] = {}
        for i in needed:
            for j in nodes[i].inputs:
                readers.setdefault(j, []).append(i)
        for i in sorted(needed, reverse=True):
            if i not in readers:
                continue
            are_chosen = [r in chosen for r in readers[i]]
            part = nodes[i].op is SLICE and nodes[nodes[i].inputs[0]].op is CONCAT  # the concat is kept as a whole
            part = part or i in self.unmade
            if any(are_chosen) if part else nodes[i].op in (TRANSPOSE, RESHAPE) and all(are_chosen):
                chosen.add(i)
        return chosen

    def needed(self, outputs: list[int]) -> set[int]:
        seen, stack = set(), list(outputs)
        while stack:
            i = stack.pop()
            if i not in seen:
                seen.add(i)
                stack.extend(self.graph.nodes[i].inputs)
        return seen

    def need_in_backward(self, outputs: list[int]) -> None:
        """Keep the forward values that the backward piece reads and that are dear to recompute."""
        seen: set[int] = set()
        stack = list(outputs)
        while stack:
            i = stack.pop()
            if i in seen:
                continue
            seen.add(i)
            node = self.graph.nodes[i]
            if i in self.is_forward and node.op not in (INPUT, CONST) and self.varies[i] and not self.cheap(i):
                self.keep(i)
            elif i not in self.is_forward or i not in self.kept:
                stack.extend(node.inputs)

    def cheap(self, i: int) -> bool:
        op = self.graph.nodes[i].op
        return op.batch in CHEAP or op.name == "slice" or i in self.unmade


def _lead(type: Type) -> int | None:
    """Index of the Dim in a shape, or None."""
    return next((n.index for n in type.shape if isinstance(n, Dim)), None)
