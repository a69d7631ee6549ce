"""The typed graph of ops: what a cell, an op of the tape, or a batched kernel computes.

A `Graph` is a list of nodes with one result each; a node's operands have smaller numbers, so the list is in
topological order by construction and every pass is a loop. Two kinds of graph share the class:

* a *single* graph describes one example. Each node has a level: `SHARED` (the same for all nodes of a signature),
  `NODE` (one per recorded node) or k ≥ 1 (one per element of list k of the node).
* a *batched* graph describes a whole launch. Shapes may lead with a `Dim`; levels are no longer needed.

    %0 = rows(0)            f32[64]
    %1 = shared(0)          f32[64, 64]
    %2 = product(%0, %1)    f32[64]

What a graph reads are nodes of these kinds:

    rows k       operand k of the node (or element of a list)
    data k       number k of the node, int64 or float64
    shared k     shared operand k
    derived k    batched only: expression k of shared operands, computed once in a run
    segments k   batched only: for each element of list k the number of its node, i64[n_k], ascending
    lengths k    number of elements of list k of the node, i64[]
    positions k  position of the element in list k, i64[]
    owners k     batched only: for each pair the number of its row (k is 1) or column (2), among those of all nodes
    starts k     batched only: for each row (k is 1) the number of its first pair
    residual k   value k that an earlier graph of the same kernel saved
    cotangent k  cotangent of result k
    reverse k    the same as rows of a pool, batched only
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

import numpy as np

from ..base.errors import CompilerBug
from ..base.types import Type
from ..ops.declare import Attrs, Op

SHARED = -1
NODE = 0

OF_LISTS = ("lengths", "positions", "segments", "owners", "starts", "firsts")
"""Kinds of operand that follow from how many elements the lists of each node have."""


def _no_rule(*args: Any) -> Any:
    raise CompilerBug("inputs and constants have no rule")


INPUT = Op("input", "an operand of the graph", _no_rule)
CONST = Op("const", "a number that is part of the graph", _no_rule)


@dataclass(slots=True, frozen=True)
class Node:
    """One op of a graph. For `INPUT` attrs are (kind, k); for `CONST` the number."""

    op: Op
    inputs: tuple[int, ...]
    attrs: Attrs
    type: Type
    level: int = NODE

    @property
    def is_input(self) -> bool:
        """Whether the node reads an operand."""
        return self.op is INPUT

    @property
    def kind(self) -> str:
        """The kind of operand that the node reads, "" for any other node."""
        return self.attrs[0] if self.op is INPUT else ""

    def __str__(self) -> str:
        arguments = [f"%{i}" for i in self.inputs]
        if self.op is INPUT:
            return f"{self.attrs[0]}({self.attrs[1]})"
        return f"{self.op.name}({', '.join(arguments + [str(a) for a in self.attrs])})"


@dataclass(slots=True, frozen=True)
class Origin:
    """What recorded an op inside a cell: its name, and the user's code object and instruction."""

    op: str
    code: CodeType | None
    instruction: int


@dataclass(slots=True)
class Graph:
    """Nodes in topological order and the numbers of the results."""

    nodes: list[Node] = field(default_factory=list)
    outputs: tuple[int, ...] = ()
    origins: dict[int, Origin] = field(default_factory=dict, repr=False, compare=False)
    """What recorded the nodes of a cell."""
    _seen: dict[Any, int] = field(default_factory=dict, repr=False)

    def add(self, op: Op, inputs: tuple[int, ...], attrs: Attrs, type: Type, level: int = NODE) -> int:
        """Append a node, or find the equal one that is already there."""
        key = (op, inputs, hashable(attrs), type, level)
        found = self._seen.get(key)
        if found is None:
            found = self._seen[key] = len(self.nodes)
            self.nodes.append(Node(op, inputs, attrs, type, level))
        return found

    def find(self, op: Op, inputs: tuple[int, ...], attrs: Attrs, type: Type, level: int = NODE) -> int | None:
        """The number of an equal node, or None."""
        return self._seen.get((op, inputs, hashable(attrs), type, level))

    def input(self, kind: str, k: int, type: Type, level: int = NODE) -> int:
        """The node that reads operand `k` of a kind."""
        return self.add(INPUT, (), (kind, k), type, level)

    def copy(self, node: Node, number: Mapping[int, int] | Sequence[int]) -> int:
        """A node of another graph, whose operands have these numbers here."""
        return self.add(node.op, tuple(number[j] for j in node.inputs), node.attrs, node.type, node.level)

    def types(self, kind: str) -> dict[int, Type]:
        """Types of the operands of a kind, by number."""
        return {n.attrs[1]: n.type for n in self.nodes if n.kind == kind}

    def live(self, results: Iterable[int] | None = None) -> list[bool]:
        """Which nodes these need, themselves included; None: the outputs."""
        needed = [False] * len(self.nodes)
        for i in self.outputs if results is None else results:
            needed[i] = True
        for i in range(len(self.nodes) - 1, -1, -1):
            if needed[i]:
                for j in self.nodes[i].inputs:
                    needed[j] = True
        return needed

    def uses(self) -> list[list[int]]:
        """For each node the live nodes that read it, once for each operand."""
        found: list[list[int]] = [[] for _ in self.nodes]
        for i, live in enumerate(self.live()):
            for j in self.nodes[i].inputs if live else ():
                found[j].append(i)
        return found

    def pruned(self) -> Graph:
        """The same graph without nodes that no result needs."""
        new = Graph()
        number: dict[int, int] = {}
        for i, (node, needed) in enumerate(zip(self.nodes, self.live(), strict=True)):
            if needed:
                number[i] = new.copy(node, number)
        new.outputs = tuple(number[i] for i in self.outputs)
        new.origins = {number[i]: origin for i, origin in self.origins.items() if i in number}
        return new

    def part(self, outputs: Sequence[int], read: Callable[[int], tuple[str, int] | None]) -> Graph:
        """The graph of these results alone. Where `read` gives a kind and a number for a node, that operand is read."""
        operands: dict[int, tuple[str, int] | None] = {}
        stack = list(outputs)
        while stack:
            i = stack.pop()
            if i not in operands:
                operands[i] = read(i)
                if operands[i] is None:
                    stack.extend(self.nodes[i].inputs)
        new = Graph()
        number: dict[int, int] = {}
        for i in sorted(operands):
            node, operand = self.nodes[i], operands[i]
            if operand is not None:
                number[i] = new.input(*operand, node.type, node.level if node.is_input else max(node.level, NODE))
            else:
                number[i] = new.copy(node, number)
        new.outputs = tuple(number[i] for i in outputs)
        return new.check()

    def key(self) -> Any:
        """Everything that distinguishes this graph from another, compared in full."""
        return (
            tuple((n.op.name, n.inputs, hashable(n.attrs), n.type, n.level) for n in self.nodes),
            self.outputs,
        )

    def check(self) -> Graph:
        """Raise `CompilerBug` unless order, numbers and types hold; return the graph."""
        for i, node in enumerate(self.nodes):
            if any(not 0 <= j < i for j in node.inputs):
                raise CompilerBug(f"%{i} = {node} reads a later value\n{self}")
            if node.op.infer is not None and node.op not in (INPUT, CONST):
                wanted = node.op.infer([self.nodes[j].type for j in node.inputs], node.attrs)
                if wanted is not node.type and node.op.batch != "list":
                    raise CompilerBug(f"%{i} = {node} has type {node.type}, its rule says {wanted}\n{self}")
        if any(not 0 <= i < len(self.nodes) for i in self.outputs):
            raise CompilerBug(f"results {self.outputs} are out of range\n{self}")
        return self

    def __str__(self) -> str:
        texts = [f"%{i} = {node}" for i, node in enumerate(self.nodes)]
        width = max(map(len, texts), default=0)
        names = {SHARED: "shared", NODE: ""}
        lines = [
            f"{text:<{width}}  {node.type} {names.get(node.level, f'each of list {node.level}')}".rstrip()
            for text, node in zip(texts, self.nodes, strict=True)
        ]
        return "\n".join([*lines, f"return {', '.join(f'%{i}' for i in self.outputs)}"])


def hashable(attrs: Sequence[Any]) -> Any:
    """Attributes as a key that keeps 0.0 and -0.0, 1 and 1.0 and True, and NaN apart."""
    parts: list[Any] = []
    for a in attrs:
        if isinstance(a, tuple):
            parts.append(hashable(a))
        elif isinstance(a, float | np.floating):
            parts.append((type(a), float(a).hex()))
        else:
            parts.append((type(a), a))
    return tuple(parts)
