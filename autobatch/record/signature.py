"""A signature: what decides which nodes may run together. One is made per op or cell and types of operands."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from ..base.types import Type, short_dtype
from ..compile.host.call_tables import CallTable
from ..compile.kernel import Kernel, kernel_of
from ..compile.rewrites.flatten_operands import flatten_operands
from ..ir.graph import Graph, hashable
from ..ops.custom import CUSTOM
from ..run.feed import Feed
from ..schedule.structures import EACH, LIST, ONE, PAYLOAD, TAKE_ROWS, Result, Slot
from .decisions import Decisions
from .shared import Shared


@dataclass(eq=False, kw_only=True, slots=True, weakref_slot=True)
class Signature:
    """All that nodes of one launch have in common."""

    name: str
    kind: int
    slots: tuple[Slot, ...]
    results: tuple[Result, ...]
    graph: Graph = field(default_factory=Graph)
    shared: tuple[Shared, ...] = ()
    data: str = ""
    attrs: tuple[Any, ...] = ()
    frozen: bool = False
    by_rows: bool = False
    """Whether each row of the first operand is a node of its own to the kernel (the leading length may vary)."""
    is_paired: bool = False
    """Whether a node has rows, columns and pairs of these (`ops.pairs`), as many as its first two integers say."""
    draws: bool = False
    """Whether the last two of a node's integers are the key of random draws: stream, number of the first draw."""
    members: tuple[Signature, ...] = ()
    """The signatures of the nodes that one of this signature stands for, where it was found as a pattern."""
    constant: frozenset[int] = frozenset()
    """Slots that read values without gradient: nothing is computed for theirs."""
    late: bool = False
    """Whether it is frozen only because gradients are wanted of something else."""

    n_ints: int = field(init=False)
    n_floats: int = field(init=False)
    trainable: frozenset[int] = field(init=False)
    """Shared operands that want a gradient."""
    lists: tuple[int, ...] = field(init=False)
    """Slot that gives the length of list 1, 2, …; none where integers do."""
    decisions: Decisions = field(init=False, repr=False, default_factory=Decisions)
    feeds: dict[str, Feed] = field(init=False, repr=False, default_factory=dict)
    """How the arguments of each piece come together."""
    tables: dict[tuple[str, bool], CallTable | None] = field(init=False, repr=False, default_factory=dict)
    """The calls of each piece, and whether it adds, where compiled code can make them."""
    reverse_graph: tuple[Graph, list[tuple[str, int]]] | None = field(init=False, repr=False, default=None)
    """The VJP of one node, and the operands its results belong to, for the one-by-one loop."""
    _kernel: Kernel | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        self.n_ints = 3 if self.kind == TAKE_ROWS else self.data.count("i")
        self.n_floats = self.data.count("f")
        self.trainable = frozenset(k for k, x in enumerate(self.shared) if x.trainable and not self.frozen)
        first: dict[int, int] = {}
        for k, slot in enumerate(self.slots):
            if slot.kind != ONE and not self.is_paired:
                first.setdefault(slot.list, k)
        self.lists = tuple(first[k] for k in sorted(first))

    @property
    def kernel(self) -> Kernel:
        """The compiled code."""
        if self._kernel is None:
            operands, results = [slot.type.width for slot in self.slots], [result.width for result in self.results]
            graph = flatten_operands(self.graph, operands, results)
            self._kernel = kernel_of(self.name, graph, self.trainable, self.constant)
        return self._kernel

    @property
    def is_custom(self) -> bool:
        """Whether a function of the user's says what a derivative in it is."""
        return any(node.op is CUSTOM for node in self.graph.nodes)

    def key(self) -> Any:
        """All of it, to be compared in full, with the lengths that may vary left out."""
        slots = tuple((s.kind, s.pool, s.list, s.type.rows if s.kind == LIST else 0) for s in self.slots)
        return (
            "signature",
            self.name,
            self.kind,
            slots,
            self.results,
            self.graph.key(),
            self.shared,
            self.data,
            hashable(self.attrs),
            self.frozen,
            self.by_rows,
            self.is_paired,
            self.constant,
        )

    def __str__(self) -> str:
        attrs = "".join(f", {a}" for a in self.attrs)
        return f"{self.name}({', '.join(self.operands())}{attrs})" + (" (constant)" if self.frozen else "")

    def operands(self) -> list[str]:
        """What is read, as text: values (n and m are lengths that may vary), numbers, shared operands."""
        kinds = {ONE: "", LIST: "list of ", EACH: "rows of "}
        texts = []
        for slot in self.slots:
            extents = list(slot.type.shape)
            if slot.kind == EACH or self.by_rows:
                for name, axis in zip("nm", sorted(slot.type.order[: max(slot.type.n_row_axes, 1)]), strict=False):
                    extents[axis] = name
            shape = ", ".join(map(str, extents))
            texts.append(f"{kinds[slot.kind]}{short_dtype(slot.type.dtype)}[{shape}]")
        texts += [{"i": "integer", "f": "number"}[c] for c in self.data[2 if self.is_paired else 0 :]]
        return texts + [f"shared {x._type}" for x in self.shared]


@functools.cache
def payload(type: Type) -> Signature:
    """Signature of a host input."""
    result = Result(type.width, type.dtype, rows=type.rows)
    return Signature(name="tensor", kind=PAYLOAD, slots=(), results=(result,), frozen=True)
