"""Steps: the result of the fuse stage, which is lowered.

A value is treated as a matrix of R rows and w columns: the product of its leading extents, starting with the `Dim`, and
that of the others. A `Loop` runs over one such domain; everything else is a call of an op.

    call  %2 = product(%0, %1)
    loop  m × 64
            %5 = add(%2, %3)
            %6 = max(%5)
            %7 = sub(%5, %6)
            %7 → result 0
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..base.types import Dim, Type, size_of
from ..ir.graph import Graph
from ..ops.movement import CONCAT

Extent = int | Dim


@dataclass(frozen=True, slots=True)
class Domain:
    """R rows of w columns."""

    rows: Extent
    width: int

    def __str__(self) -> str:
        return f"{self.rows} × {self.width}"


@dataclass(frozen=True, slots=True)
class Read:
    """How a loop reads an operand.

    level: "element" (row i, column j), "row" (one number per row), "vector" (one per column), "cell" (one number),
        "column" (the number of the column itself; nothing is read)
    node: the array, of `rows` rows and `width` columns; or an input of kind "rows", whose row numbers are followed
    offset: first column; through: a node whose numbers select the row (-1: none)
    in_pool: the array is an input of kind "rows" that is read in its pool, not a copy of it
    """

    level: str
    node: int
    rows: Extent
    width: int
    offset: int = 0
    through: int = -1
    in_pool: bool = False

    def __str__(self) -> str:
        row = f"[%{self.through}]" if self.through >= 0 else ""
        return f"%{self.node}{row}{f'[{self.offset}:]' if self.offset else ''}"


@dataclass(frozen=True, slots=True)
class Store:
    """What a loop writes: a value of the loop, or what it reads, to a "node", an "output", or "add"-ed to one.

    is_row: the value has one number per row, though the loop has several columns
    """

    value: int | Read
    kind: str
    target: int
    width: int
    offset: int = 0
    is_row: bool = False

    def __str__(self) -> str:
        what = {"node": f"%{self.target}", "output": f"result {self.target}", "add": f"result {self.target} +="}
        return f"{self.value if isinstance(self.value, Read) else f'%{self.value}'} → {what[self.kind]}"


@dataclass(slots=True)
class Loop:
    """Elementwise nodes over one domain. `reads[i]` are the operands of node i: nodes of the loop, or reads.

    `row_nodes` have one number per row and are computed before the columns, or between two passes over them: after the
    `reductions` of columns that they follow from.
    """

    stage: int
    domain: Domain
    row_nodes: list[int] = field(default_factory=list)
    nodes: list[int] = field(default_factory=list)
    reads: dict[int, tuple[int | Read, ...]] = field(default_factory=dict)
    stores: list[Store] = field(default_factory=list)
    reductions: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Steps:
    """Calls (numbers of nodes) and loops in order; `order` is what runs."""

    graph: Graph
    order: list[int | Loop]

    def __str__(self) -> str:
        lines = []
        for step in self.order:
            if isinstance(step, int):
                lines.append(f"call  %{step} = {self.graph.nodes[step]}")
            else:
                lines.append(f"loop  {step.domain}")
                for i in sorted(step.row_nodes + step.nodes + step.reductions):
                    node = self.graph.nodes[i]
                    operands = ", ".join(str(r) if isinstance(r, Read) else f"%{r}" for r in step.reads[i])
                    lines.append(f"        %{i} = {node.op.name}({operands})")
                lines += [f"        {store}" for store in step.stores]
        return "\n".join(lines)


def rows_domain(type: Type) -> Domain:
    """How values of a batched type are stored in a pool."""
    shape = type.shape
    if len(shape) <= 2:
        return Domain(shape[0], size_of(shape[1:]))
    return Domain(shape[0] * shape[1], size_of(shape[2:]))


def gathered_concats(graph: Graph) -> tuple[set[int], set[int]]:
    """Concats of matrices whose rows are gathered from a pool, and the inputs that nothing else reads.

    A loop has one row for each matrix, so it cannot follow the numbers of their rows: they are gathered straight into
    their place in the concat by a call.
    """
    nodes = graph.nodes
    concats = {
        i
        for i, node in enumerate(nodes)
        if node.op is CONCAT
        and node.attrs[0] == -2
        and node.type.ndim == 3
        and all(nodes[j].kind == "rows" for j in node.inputs)
    }
    parts = {j for i in concats for j in nodes[i].inputs} - set(graph.outputs)
    read = {j for i, node in enumerate(nodes) if i not in concats for j in node.inputs}
    return concats, parts - read


def splits(shape: tuple[Any, ...]) -> Iterator[tuple[int, Domain]]:
    """Where a shape can be cut into rows and columns: (first axis of the columns, domain).

    >>> [str(domain) for _, domain in splits((Dim(0), 3, 4))]
    ['m × 12', '3m × 4', '12m × 1']
    """
    for s in range(1, len(shape) + 1):
        yield s, Domain(size_of(shape[:s]), size_of(shape[s:]))
