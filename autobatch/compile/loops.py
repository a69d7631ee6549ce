"""Loops: the source of one generated loop, for Numba.

Input: a `Loop` of the fuse stage. Output: the text of a module with one function `loop`, and what the driver passes to
it. Invariants: the text holds no extents and no node numbers, so one text serves all sizes and all kernels with the
same arithmetic; infinities and NaN go through as in NumPy (no "nnan", "ninf", and no "arcp", which makes 1 / sqrt(0) a
NaN); slices are taken before the inner loop and stores are its last lines, which is what lets it vectorise; what is
written through one argument is touched through no other, so that LLVM need not compare addresses: a launch writes other
rows than it reads, and all rows that are added to go through one argument, as they may meet; a loop that adds nothing
to rows writes each row once, so that threads may take parts of its rows (`backends.parts`).
Cost: O(nodes of the loop).

    def loop(n, w, a0, a1, y0, parts):
        n_done = 0
        v1 = a1[:w]
        first, last = take_part(parts, 0, n)
        while first < last:
            for i in range(first, last):
                s0 = a0[i, w:2 * w]
                t0 = y0[i, :w]
                for j in range(w):
                    x0 = s0[j]
                    x1 = v1[j]
                    x2 = tanh_f32(x0 + x1)
                    t0[j] = x2
            n_done += 1
            first, last = take_part(parts, n, n)
        return parts_done(parts, n_done)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backends.scalar_functions import FLOAT_FUNCTIONS
from ..graph import CONST, Graph
from ..ops.elementwise import CAST, POWER_OF
from ..ops.movement import BROADCAST, RESHAPE
from .steps import Loop, Read, Store

_CALL = re.compile(rf"\b({'|'.join(FLOAT_FUNCTIONS)})\(")
_HEADER = """from numba import njit
from numpy import float32, float64, inf, int64, nan
{imports}

@njit(cache=True, nogil=True, error_model="numpy", fastmath={{"reassoc", "contract", "nsz", "afn"}})
"""


@dataclass(frozen=True, slots=True)
class ArrayArgument:
    """An array that the driver passes: one that is read, or one that is written."""

    use: Read | Store


@dataclass(frozen=True, slots=True)
class RowsArgument:
    """A vector of row numbers that the driver passes: of an input in its pool, of a node, or of a result."""

    use: Read | Store


@dataclass(slots=True)
class _Writer:
    graph: Graph
    loop: Loop
    add: bool
    arguments: dict[Any, tuple[str, Any]] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    per_row: list[str] = field(default_factory=list)
    inner: list[str] = field(default_factory=list)
    last: list[str] = field(default_factory=list)
    names: dict[Any, str] = field(default_factory=dict)
    functions: set[str] = field(default_factory=set)

    def argument(self, letter: str, key: Any, value: Any) -> str:
        """The parameter for something the driver passes; the same one for the same key."""
        if key not in self.arguments:
            count = sum(name[0] == letter for name, _ in self.arguments.values())
            self.arguments[key] = (f"{letter}{count}", value)
        return self.arguments[key][0]

    def columns(self, offset: int) -> str:
        """A slice of w columns."""
        w = self.loop.domain.width
        if offset == 0 or w == 0:
            return ":w"
        if offset % w == 0:
            k = offset // w
            return f"{'' if k == 1 else f'{k} * '}w:{k + 1} * w"
        o = self.argument("o", ("offset", offset), offset)
        return f"{o}:{o} + w"

    def column(self, offset: int) -> str:
        """One column, where the width of the domain is 1 or a row has one number."""
        return self.argument("o", ("offset", offset), offset) if offset else "0"

    def fresh(self, prefix: str) -> str:
        """A new name."""
        count = sum(name.startswith(prefix) for name in self.names.values())
        return f"{prefix}{count}"

    def value(self, operand: int | Read) -> str:
        """The name of a value inside the innermost loop."""
        if operand in self.names:
            return self.names[operand]
        assert isinstance(operand, Read)
        node = self.graph.nodes[operand.node]
        if node.op is CONST:
            return literal(node.attrs[0], node.type.dtype)
        array = self.argument(
            "a",
            (
                "array",
                operand.node,
                operand.rows,
                operand.width,
                operand.in_pool,
                operand.level in ("vector", "cell"),
                operand.through >= 0,
            ),
            ArrayArgument(operand),
        )
        row = "i"
        if operand.in_pool or operand.through >= 0:
            rows = self.argument(
                "r", ("rows", operand.node if operand.in_pool else -1, operand.through), RowsArgument(operand)
            )
            row = f"{rows}[i]"
        name = self.fresh("x")
        if operand.level == "element":
            source = self.fresh("s")
            self.names["slice", operand] = source
            self.per_row.append(f"{source} = {array}[{row}, {self.columns(operand.offset)}]")
            self.inner.append(f"{name} = {source}[j]")
        elif operand.level == "row":
            plain = operand.width == 1 and row == "i"
            target = self.inner if self.loop.domain.width == 1 else self.per_row
            target.append(f"{name} = {array}[{row if plain else f'{row}, {self.column(operand.offset)}'}]")
        elif operand.level == "vector":
            source = self.fresh("v")
            self.names["slice", operand] = source
            self.before.append(f"{source} = {array}[{self.columns(operand.offset)}]")
            self.inner.append(f"{name} = {source}[j]")
        else:
            self.before.append(f"{name} = {array}[{self.column(operand.offset)}]")
        self.names[operand] = name
        return name

    def node(self, i: int, lines: list[str]) -> None:
        """The line that computes one node, in the inner loop or once per row."""
        node = self.graph.nodes[i]
        operands = [self.value(r) for r in self.loop.reads[i]]
        inside = self.graph.nodes[node.inputs[0]].type.dtype
        if node.op in (RESHAPE, BROADCAST):
            self.names[i] = operands[0]
            return
        if node.op is CAST:
            expression = operands[0] if inside == node.type.dtype else f"{node.type.dtype.name}({operands[0]})"
        elif node.op is POWER_OF:
            expression = self.power(operands[0], node.attrs[0], node.type.dtype)
        else:
            expression = node.op.scalar.format(*operands)
        dtype = inside if node.type.dtype.kind == "b" else node.type.dtype
        name = self.fresh("x")
        lines.append(f"{name} = {self.suffixed(expression, dtype)}")
        self.names[i] = name

    def suffixed(self, expression: str, dtype: np.dtype[Any]) -> str:
        """Names of scalar functions with the dtype they work on."""
        suffix = f"_f{dtype.itemsize * 8}"
        for name in _CALL.findall(expression):
            self.functions.add(name + suffix)
        self.functions.update(name for name in ("maximum", "minimum") if f"{name}(" in expression)
        return _CALL.sub(lambda match: f"{match[1]}{suffix}(", expression)

    def power(self, x: str, exponent: Any, dtype: np.dtype[Any]) -> str:
        """x to a constant."""
        if exponent in (1, 2, 3, 4):
            return " * ".join([x] * int(exponent))
        if exponent == -1:
            return f"{literal(1.0, dtype)} / {x}"
        if exponent == 0.5:
            return f"sqrt({x})"
        return f"power({x}, {literal(exponent, dtype)})"

    def store(self, store: Store) -> None:
        """The lines that write one value."""
        value = self.value(store.value)
        key: tuple[Any, ...] = ("store", store.kind, store.target, store.width)
        if store.kind == "add":  # rows of one width and dtype lie in one pool, which must be one argument
            key = ("store", "add", self.graph.nodes[self.graph.outputs[store.target]].type.dtype, store.width)
        name = self.argument("y", key, ArrayArgument(store))
        row = "i"
        if store.kind == "add":
            row = f"{self.argument('r', ('add', store.target), RowsArgument(store))}[i]"
        sign = "+=" if store.kind == "add" and self.add else "="
        if self.loop.domain.width == 1:
            plain = store.width == 1 and row == "i"
            where = row if plain else f"{row}, {self.column(store.offset)}"
            self.last.append(f"{name}[{where}] {sign} {value}")
            return
        target = self.fresh("t")
        self.names["target", store] = target
        self.per_row.append(f"{target} = {name}[{row}, {self.columns(store.offset)}]")
        self.last.append(f"{target}[j] {sign} {value}")

    def text(self) -> str:
        """The whole module."""
        if self.loop.domain.width == 1:
            rows = self.per_row + self.inner + self.last
        else:
            rows = [*self.per_row, "for j in range(w):", *(f"    {line}" for line in self.inner + self.last)]
        rows = [f"    {line}" for line in rows]
        parameters = [name for name, _ in self.arguments.values()]
        imports = ""
        if self.functions:
            imports = f"\nfrom autobatch.backends.scalar_functions import {', '.join(sorted(self.functions))}\n"
        if can_share(self.loop, self.add):
            imports = f"\nfrom autobatch.backends.parts import parts_done, take_part{imports or chr(10)}"
            lines = ["n_done = 0", *self.before, "first, last = take_part(parts, 0, n)", "while first < last:"]
            lines += [f"    {line}" for line in ("for i in range(first, last):", *rows)]
            lines += ["    n_done += 1", "    first, last = take_part(parts, n, n)", "return parts_done(parts, n_done)"]
            parameters.append("parts")
        else:
            lines = [*self.before, "for i in range(n):", *rows]
        head = f"def loop({', '.join(['n', 'w', *parameters])}):"
        return _HEADER.format(imports=imports) + "\n".join([head, *(f"    {line}" for line in lines)]) + "\n"


def literal(number: Any, dtype: np.dtype[Any]) -> str:
    """A constant of a dtype, in Python.

    >>> literal(0.5, np.dtype(np.float32))
    'float32(0.5)'
    """
    if dtype.kind == "b":
        return repr(bool(number))
    if dtype.kind in "iu":
        return f"int64({int(number)})"
    return f"{dtype.name}({float(number)!r})"


def can_share(loop: Loop, add: bool) -> bool:
    """Whether threads may take parts of a loop's rows; `add` as of `write_loop`. Rows that are added to may repeat."""
    return not add or all(store.kind != "add" for store in loop.stores)


def touches(graph: Graph, loop: Loop) -> int:
    """Numbers that a column of a row reads, writes and puts through functions like tanh: what its time goes by."""
    values = [r for i in loop.nodes for r in loop.reads[i]] + [store.value for store in loop.stores]
    levels = ("element",) if loop.domain.width > 1 else ("element", "row")
    reads = {r for r in values if isinstance(r, Read) and r.level in levels and graph.nodes[r.node].op is not CONST}
    scalars = [graph.nodes[i].op.scalar or "" for i in loop.nodes]
    return max(1, len(reads) + len(loop.stores) + sum(len(_CALL.findall(scalar)) for scalar in scalars))


def write_loop(graph: Graph, loop: Loop, add: bool = True) -> tuple[str, list[Any]]:
    """The module text of a loop, and its arguments: `ArrayArgument`, `RowsArgument` or an offset.

    Before them stand n and w, after them `parts` if the loop can be shared.
    `add`: whether what goes to rows of a pool is added to them, or stored.
    """
    writer = _Writer(graph, loop, add)
    for i in loop.row_nodes:
        writer.node(i, writer.per_row)
    for i in loop.nodes:
        writer.node(i, writer.inner)
    for store in loop.stores:
        writer.store(store)
    return writer.text(), [value for _, value in writer.arguments.values()]
