"""writer: the text of one kernel, and values of a graph at an index.

A value of the graph is an *array* in memory, or it is *inlined*: an element is computed where it is read, from
elements of the operands. What moves elements (transpose, slice, concat, take, broadcast) and what computes
single elements is inlined; so is an operand of kind "rows", whose row numbers are followed.

    %4 = transpose(%3, (0, 2, 1))       read at [i, j, k]:   const float x0 = a0[(i * 5 + k) * 4 + j];

Invariants: a statement computes one index or one element; a load that a condition guards happens only where that
holds. Cost: O(nodes inlined × rank) for each element read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...base.errors import CompilerBug
from ...base.types import Dim, size_of
from ...ir.graph import CONST, INPUT, Graph
from ..steps import rows_domain
from ..text import extent_name
from .inlined import RULES
from .scalars import INT32, DType, affine, c_type, elementwise, literal

Indices = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kernel:
    """A generated kernel.

    text: its source; the name in it is `NAME`
    arguments: what the driver passes, expressions of the driver
    """

    text: str
    arguments: tuple[str, ...]


def _factor(extent: Any) -> int:
    return extent.factor if isinstance(extent, Dim) else extent


def common_groups(a: Sequence[Any], b: Sequence[Any]) -> list[tuple[range, range]] | None:
    """Which consecutive axes of one shape are which of another, in the smallest groups; None for an empty array.

    >>> common_groups((4, 6), (2, 2, 6))
    [(range(0, 1), range(0, 2)), (range(1, 2), range(2, 3))]
    """
    if any(_factor(n) == 0 for n in (*a, *b)):
        return None
    groups = []
    i = j = 0
    while i < len(a) or j < len(b):
        first_i, first_j = i, j
        left = right = 1
        i, left = (i + 1, _factor(a[i])) if i < len(a) else (i, left)
        j, right = (j + 1, _factor(b[j])) if j < len(b) else (j, right)
        while left != right:
            if left < right:
                left, i = left * _factor(a[i]), i + 1
            else:
                right, j = right * _factor(b[j]), j + 1
        groups.append((range(first_i, i), range(first_j, j)))
    return groups


@dataclass(slots=True)
class Writer:
    """Writes one kernel. `places` has the address of each node that is an array, as an expression of the driver."""

    graph: Graph
    places: Mapping[int, str]
    parameters: dict[str, tuple[str, str]] = field(default_factory=dict)  # argument → (name, declaration)
    lines: list[str] = field(default_factory=list)
    known: dict[Any, str] = field(default_factory=dict)
    depth: int = 1
    count: int = 0

    # Text.

    def add(self, line: str) -> None:
        """Append a line."""
        self.lines.append("    " * self.depth + line)

    @contextlib.contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Lines between braces; what is computed there is not known after it."""
        self.add(f"{head} {{")
        before = dict(self.known)
        self.depth += 1
        yield
        self.depth -= 1
        self.known = before
        self.add("}")

    def let(self, kind: str, expression: str, letter: str) -> str:
        """A name for an expression; the same for the same expression."""
        if expression.isalnum():
            return expression
        key = kind, expression
        if key not in self.known:
            self.known[key] = f"{letter}{self.count}"
            self.count += 1
            self.add(f"const {kind} {self.known[key]} = {expression};")
        return self.known[key]

    def index(self, expression: str) -> str:
        """A name for an integer."""
        return self.let("i64", expression, "k")

    def pointer(self, argument: str, dtype: DType, written: bool = False) -> str:
        """The parameter for an address; the same for the same argument."""
        const = "" if written else "const "
        if argument not in self.parameters:
            name = f"a{len(self.parameters)}"
            self.parameters[argument] = name, f"{const}{c_type(dtype)}* __restrict__ {name}"
        name, declaration = self.parameters[argument]
        if declaration.startswith("const ") == written:
            raise CompilerBug(f"a kernel reads and writes {argument}\n{self.graph}")
        return name

    def number(self, argument: str) -> str:
        """The parameter for an integer, which has the name that it has in the driver."""
        self.parameters.setdefault(argument, (argument, f"i64 {argument}"))
        return argument

    def extent(self, extent: Any) -> str:
        """An extent, in C."""
        if not isinstance(extent, Dim):
            return repr(extent)
        text = extent_name(extent)
        self.number(text.rpartition(" ")[2])
        return text if extent.factor == 1 else f"({text})"

    def finish(self) -> Kernel:
        """The kernel."""
        head = f"AB_KERNEL NAME({', '.join(declaration for _, declaration in self.parameters.values())}) {{"
        return Kernel("\n".join([head, *self.lines, "}"]) + "\n", tuple(self.parameters))

    # Indices.

    def flat(self, where: Indices, shape: Sequence[Any]) -> str:
        """The place of an element in row-major order."""
        total = ""
        for k, extent in zip(where, shape, strict=True):
            if extent == 1:
                continue
            if total in ("", "0"):
                total = k
            else:
                scaled = f"{total} * {extent!r}"
                total = scaled if k == "0" else f"({scaled} + {k})"
        return self.index(total or "0")

    def apart(self, flat: str, shape: Sequence[Any]) -> Indices:
        """The index of the element at a place in row-major order; the first extent is not needed."""
        found = ["0"] * len(shape)
        axes = [axis for axis, extent in enumerate(shape) if extent != 1]
        for axis in axes[:0:-1]:
            if flat == "0":
                break
            before = self.index(f"ab_div({flat}, {max(shape[axis], 1)})")
            found[axis] = self.index(f"{flat} - {before} * {shape[axis]}")
            flat = before
        if axes:
            found[axes[0]] = flat
        return tuple(found)

    def reshaped(self, where: Indices, shape: Sequence[Any], target: Sequence[Any]) -> Indices:
        """The index of the same element in another shape."""
        here = [(k, n) for k, n in zip(where, shape, strict=True) if n != 1]
        there = [axis for axis, n in enumerate(target) if n != 1]
        found = ["0"] * len(target)
        groups = common_groups([n for _, n in here], [target[axis] for axis in there])
        if groups is None:
            return tuple(found)
        for mine, others in groups:
            part = [here[k] for k in mine]
            inner = [target[there[k]] for k in others]
            flat = self.flat(tuple(k for k, _ in part), [n for _, n in part])
            for k, index in zip(others, self.apart(flat, inner), strict=True):
                found[there[k]] = index
        return tuple(found)

    # Elements.

    def load(self, pointer: str, where: str, dtype: DType, guard: str = "") -> str:
        """An element of an array."""
        value = f"{pointer}[{where}]"
        return self.let(c_type(dtype), f"{guard} ? {value} : {c_type(dtype)}(0)" if guard else value, "x")

    def element(self, i: int, where: Indices, guard: str = "") -> str:
        """The element of a node at an index, computed where `guard` holds."""
        key = i, where, guard
        if key not in self.known:
            self.known[key] = self._element(i, where, guard)
        return self.known[key]

    def _element(self, i: int, where: Indices, guard: str) -> str:
        node = self.graph.nodes[i]
        shape, dtype = node.type.shape, node.type.dtype
        if node.op is CONST:
            return literal(node.attrs[0], dtype)
        if i in self.places:
            return self.load(self.pointer(self.places[i], dtype), self.flat(where, shape), dtype, guard)
        if node.op is INPUT:
            return self._row(i, where, guard)
        rule = RULES.get(node.op.name)
        if rule is not None:
            return str(rule(self, i, where, guard))
        if node.op.batch != "elementwise":
            raise CompilerBug(f"%{i} = {node} cannot be inlined\n{self.graph}")
        operands = [self.element(j, self.broadcast(where, j), guard) for j in node.inputs]
        return self.let(c_type(dtype), elementwise(node, operands), "x")

    def broadcast(self, where: Indices, j: int) -> Indices:
        """Where an operand that broadcasts is read."""
        shape = self.graph.nodes[j].type.shape
        return tuple("0" if n == 1 else k for k, n in zip(where[len(where) - len(shape) :], shape, strict=True))

    def _row(self, i: int, where: Indices, guard: str) -> str:
        """An element of an operand of kind "rows"."""
        node = self.graph.nodes[i]
        if node.attrs[0] != "rows":
            raise CompilerBug(f"operand %{i} has no place")
        shape = node.type.shape
        lead = 1 if len(shape) <= 2 else 2
        row = self.flat(where[:lead], shape[:lead])
        column = self.flat(where[lead:], shape[lead:])
        return self.pooled(i, row, column, rows_domain(node.type).width, guard)

    def pooled(self, i: int, row: str, column: str, width: int, guard: str = "") -> str:
        """A number of a row that an operand of kind "rows" reads in its pool."""
        dtype = self.graph.nodes[i].type.dtype
        number = self.load(self.pointer(f"r{i}", INT32), row, INT32, guard)
        place = self.index(affine(f"(i64){number}", width, column))
        return self.load(self.pointer(f"p{i}", dtype), place, dtype, guard)

    def source(self, i: int) -> int:
        """The first operand of a node."""
        return self.graph.nodes[i].inputs[0]

    def shape(self, i: int) -> tuple[Any, ...]:
        """The shape of a node."""
        return self.graph.nodes[i].type.shape

    def both(self, guard: str, condition: str) -> str:
        """A name for two conditions."""
        return self.let("bool", f"{guard} && {condition}" if guard else condition, "b")


def size_name(shape: Sequence[Any]) -> str:
    """The number of elements, for the driver."""
    return extent_name(size_of(tuple(shape)))
