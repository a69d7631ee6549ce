"""A signature: what decides which nodes may run together. One is made per op or cell and types of operands."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..base.types import Type, short_dtype
from ..compile.kernel import Kernel, kernel_of
from ..compile.rewrites.rows import as_rows
from ..ir.graph import Graph, _hashable
from ..schedule.structures import CONCAT_ROWS, EACH, FIXED, KERNEL, LIST, ONE, PAYLOAD, SLICE_ROWS
from .shared import Shared


@dataclass(slots=True, frozen=True)
class Slot:
    """One operand: ONE value, a LIST of values, or EACH row of one value. `type` is that of the value, or element."""

    kind: int
    type: Type
    list: int = 0

    @property
    def pool(self) -> tuple[int, np.dtype[Any]]:
        """Width and dtype of the rows read."""
        return self.type.width, self.type.dtype


@dataclass(slots=True, frozen=True)
class Result:
    """One result: width and dtype of its rows, and how many there are (see run/program.py)."""

    width: int
    dtype: np.dtype[Any]
    rule: int = FIXED
    ref: int = 0
    rows: int = 1


@dataclass(eq=False)
class Signature:
    """All that nodes of one launch have in common."""

    name: str
    kind: int
    slots: tuple[Slot, ...]
    results: tuple[Result, ...]
    n_ints: int = 0
    n_floats: int = 0
    graph: Graph = field(default_factory=Graph)
    shared: tuple[Shared, ...] = ()
    data: str = ""
    attrs: tuple[Any, ...] = ()
    frozen: bool = False
    by_rows: bool = False
    """Whether each row of the first operand is a node of its own to the kernel (the leading length may vary)."""
    draws: bool = False
    """Whether the last two of a node's whole numbers are the key of random draws: stream, number of the first draw."""
    members: tuple[Signature, ...] = ()
    """The signatures of the nodes that one of this signature stands for, where it was found as a pattern."""
    constant: frozenset[int] = frozenset()
    """Slots that read values without gradient: nothing is computed for theirs."""

    @cached_property
    def trainable(self) -> frozenset[int]:
        """Shared operands that want a gradient."""
        return frozenset() if self.frozen else frozenset(k for k, x in enumerate(self.shared) if x.trainable)

    @cached_property
    def kernel(self) -> Kernel:
        """The compiled code."""
        graph = as_rows(self.graph, [slot.type.width for slot in self.slots], [result.width for result in self.results])
        return kernel_of(self.name, graph, self.trainable, self.constant)

    @cached_property
    def lists(self) -> tuple[int, ...]:
        """Slot that gives the length of list 1, 2, …"""
        found: dict[int, int] = {}
        for k, slot in enumerate(self.slots):
            if slot.kind != ONE:
                found.setdefault(slot.list, k)
        return tuple(found[k] for k in sorted(found))

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
            _hashable(self.attrs),
            self.frozen,
            self.by_rows,
            self.constant,
        )

    def __str__(self) -> str:
        attrs = "".join(f", {a}" for a in self.attrs)
        return f"{self.name}({', '.join(self.operands())}{attrs})" + (" (constant)" if self.frozen else "")

    def operands(self) -> list[str]:
        """What is read, as text: values (n is a length that may vary), numbers, shared operands."""
        kinds = {ONE: "", LIST: "list of ", EACH: "rows of "}
        texts = []
        for slot in self.slots:
            varies = slot.kind == EACH or self.by_rows
            shape = ", ".join(map(str, ("n", *slot.type.shape[1:]) if varies else slot.type.shape))
            texts.append(f"{kinds[slot.kind]}{short_dtype(slot.type.dtype)}[{shape}]")
        texts += [{"i": "whole number", "f": "number"}[c] for c in self.data]
        return texts + [f"shared {x._type}" for x in self.shared]


def payload(type: Type) -> Signature:
    """Signature of an array from outside."""
    return Signature("tensor", PAYLOAD, (), (Result(type.width, type.dtype, rows=type.rows),), frozen=True)


__all__ = ["CONCAT_ROWS", "KERNEL", "PAYLOAD", "SLICE_ROWS", "Result", "Signature", "Slot", "payload"]
