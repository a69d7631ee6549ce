"""Loops: the source of one generated loop, for Numba.

Input: a `Loop` of the fuse stage. Output: the text of a module with one function `loop`, and what the driver passes to
it. Invariants: the text holds no extents and no node numbers, so one text serves all sizes and all kernels with the
same arithmetic; infinities and NaN go through as in NumPy (no "nnan", "ninf", and no "arcp", which makes 1 / sqrt(0) a
NaN); slices are taken before the inner loop and stores are its last lines, which is what lets it vectorise; what is
written through one argument is touched through no other, so that LLVM need not compare addresses: a launch writes other
rows than it reads, and all rows that are added to go through one argument, as they may meet; a loop that adds nothing
to rows writes each row once, so that threads may take parts of its rows (`backends.parts`).
Where a loop reduces its rows it passes the columns of each row several times (`passes`). Only the combiners of the
reductions may be reordered there, as moving x - max - log(sum) out of the columns would lose all digits of it. Maxima,
and minima as maxima of -x, are those of integers that are ordered like floating ones, with NaN on top, since they
vectorise. Where functions such as tanh are called, columns that fill no vector are not left to a scalar loop.
Cost: O(nodes of the loop × passes).

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
                    x2 = x0 + x1
                    t0[j] = x2
            n_done += 1
            first, last = take_part(parts, n, n)
        return parts_done(parts, n_done)

    for i in range(first, last):  # the logarithm of a sum of exponentials, of a loop that is otherwise the same
        s0 = a0[i, :w]
        m0 = LOWEST_f32
        for j in range(w):
            x0 = s0[j]
            m0 = max(m0, ordered_f32(x0))
        x1 = unordered_f32(m0)
        m1 = float32(0.0)
        for j in range(w):
            x2 = s0[j]
            x3 = exp_f32(x2 - x1)
            m1 = combine_add_f32(m1, x3)
        x4 = log_f32(m1)
        x5 = x4 + x1
        y0[i] = x5
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...backends.host.scalar_functions import WHOLE_FUNCTIONS
from ...backends.host.tile_code import VECTOR_BYTES
from ...ir.graph import CONST, Graph
from ...ops.elementwise import CAST, EQUAL, MAXIMUM, MINIMUM
from ...ops.functions import POWER_OF
from ...ops.movement import BROADCAST, RESHAPE
from ..steps import Loop, Read, Store
from ..text import power
from .passes import CALL, n_calls, plan_passes

_HEADER = """from autobatch.base.jit import njit
from numpy import empty, float32, float64, inf, int32, int64, nan, uint64
{imports}

@njit(noalias=True, nogil=True, error_model="numpy", fastmath={{{relaxed}}})
"""


_COLUMN = re.compile(r"(?<!\[)\bj\b")
"""The number of a column, as a number."""

_ADDED = re.compile(r"(t\d+\[j\]) \+= (.+)")
"""What is added to, and what is added."""

_EXTREMES = {MAXIMUM: "", MINIMUM: "-"}
"""What makes a maximum of a combiner."""


@dataclass(frozen=True, slots=True)
class ArrayArgument:
    """An array that the driver passes: one that is read, or one that is written."""

    use: Read | Store


@dataclass(frozen=True, slots=True)
class RowsArgument:
    """A vector of row numbers that the driver passes: of an input in its pool, of a node, or of a result."""

    use: Read | Store


@dataclass(slots=True)
class _Pass:
    """One pass over the columns of a row, and what is done once per row before it."""

    row: list[str] = field(default_factory=list)
    inner: list[str] = field(default_factory=list)
    last: list[str] = field(default_factory=list)
    names: dict[Any, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Writer:
    graph: Graph
    loop: Loop
    add: bool
    arguments: dict[Any, tuple[str, Any]] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    per_row: list[str] = field(default_factory=list)
    passes: list[_Pass] = field(default_factory=lambda: [_Pass()])
    after: list[str] = field(default_factory=list)
    names: dict[Any, str] = field(default_factory=dict)
    kept: dict[int, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    functions: set[str] = field(default_factory=set)
    combiners: set[str] = field(default_factory=set)
    added: dict[str, str] = field(default_factory=dict)  # dtypes of what is added to
    is_split: bool = False

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
        self.counts[prefix] += 1
        return f"{prefix}{self.counts[prefix] - 1}"

    def value(self, operand: int | Read, now: _Pass) -> str:
        """The name of a value in a pass."""
        found = self.names.get(operand) or now.names.get(operand)
        if found:
            return found
        assert isinstance(operand, Read)
        node = self.graph.nodes[operand.node]
        if node.op is CONST:
            return literal(node.attrs[0], node.type.dtype)
        if operand.level == "column":
            return "j"
        is_flat, is_indirect = operand.level in ("vector", "cell"), operand.through >= 0
        key = ("array", operand.node, operand.rows, operand.width, operand.in_pool, is_flat, is_indirect)
        array, row = self.argument("a", key, ArrayArgument(operand)), "i"
        if operand.in_pool or is_indirect:
            rows = ("rows", operand.node if operand.in_pool else -1, operand.through)
            row = f"{self.argument('r', rows, RowsArgument(operand))}[i]"
        name = self.fresh("x")
        if operand.level in ("element", "vector"):
            source = self.names.get(("slice", operand))
            if source is None:
                is_vector = operand.level == "vector"
                source = self.names["slice", operand] = self.fresh("v" if is_vector else "s")
                where = self.columns(operand.offset) if is_vector else f"{row}, {self.columns(operand.offset)}"
                (self.before if is_vector else self.per_row).append(f"{source} = {array}[{where}]")
            now.inner.append(f"{name} = {source}[j]")
            now.names[operand] = name
            return name
        if operand.level == "row":
            plain = operand.width == 1 and row == "i"
            self.per_row.append(f"{name} = {array}[{row if plain else f'{row}, {self.column(operand.offset)}'}]")
        else:
            self.before.append(f"{name} = {array}[{self.column(operand.offset)}]")
        self.names[operand] = name
        return name

    def node(self, i: int, now: _Pass, once: bool) -> None:
        """The line that computes one node, in a pass or once per row before it."""
        lines, names = (now.row, self.names) if once else (now.inner, now.names)
        if i in self.kept:
            name = self.fresh("x")
            lines.append(f"{name} = {self.kept[i]}[j]")
            names[i] = name
            return
        node = self.graph.nodes[i]
        operands = [self.value(r, now) for r in self.loop.reads[i]]
        inside = self.graph.nodes[node.inputs[0]].type.dtype
        if node.op in (RESHAPE, BROADCAST):
            names[i] = operands[0]
            return
        if node.op is CAST:
            expression = operands[0] if inside == node.type.dtype else f"{node.type.dtype.name}({operands[0]})"
        elif node.op is POWER_OF:
            expression, number = power(node.attrs[0], node.type.dtype)
            expression = expression.format(operands[0], literal(number, node.type.dtype))
        elif node.op is EQUAL and "j" in operands:
            expression = self.is_column(operands, now)
        else:
            expression = node.op.scalar.format(*operands)
        dtype = inside if node.type.dtype.kind == "b" else node.type.dtype
        expression = self.suffixed(expression, dtype)
        if node.type.dtype.name in ("int32", "bool") and inside == node.type.dtype:  # sums of them are int64 to Numba
            expression = f"{node.type.dtype.name}({expression})"
        name = self.fresh("x")
        lines.append(f"{name} = {expression}")
        names[i] = name

    def is_column(self, operands: list[str], now: _Pass) -> str:
        """Whether a number is that of the column: both in 32 bits if it is one for the row, twice as many a step."""
        number = operands[operands.index("j") - 1]
        if number not in self.names.values() or operands[0] == operands[1]:
            return f"{operands[0]} == {operands[1]}"
        small = self.names.get(("small", number))
        if small is None:
            small = self.names["small", number] = self.fresh("k")
            now.row.append(f"{small} = int32({number} if 0 <= {number} < w else -1)")
        return f"{small} == int32(j)"

    def reduce(self, i: int, now: _Pass, following: _Pass) -> None:
        """The lines that reduce the columns in a pass."""
        op, dtype = self.graph.nodes[i].op, self.graph.nodes[i].type.dtype
        assert op.combine is not None
        value = self.value(self.loop.reads[i][0], now)
        total = self.fresh("m")
        bits = f"f{dtype.itemsize * 8}"
        sign = _EXTREMES.get(op.combine)
        if sign is None:
            step = f"combine_{op.combine.name}_{bits}"
            self.functions.add("combiner")
            self.combiners.add(f"\n{step} = combiner({op.combine.scalar!r}, {dtype.itemsize * 8}, True)\n")
            now.row.append(f"{total} = {literal(op.identity, dtype)}")
            now.last.append(f"{total} = {step}({total}, {value})")
            self.names[i] = total
            return
        self.functions.update((f"LOWEST_{bits}", f"ordered_{bits}", f"unordered_{bits}"))
        now.row.append(f"{total} = LOWEST_{bits}")
        now.last.append(f"{total} = max({total}, ordered_{bits}({sign}{value}))")
        self.names[i] = self.fresh("x")
        following.row.append(f"{self.names[i]} = {sign}unordered_{bits}({total})")

    def suffixed(self, expression: str, dtype: np.dtype[Any]) -> str:
        """Names of scalar functions with the dtype they work on."""

        def named(name: str) -> str:
            is_whole = dtype.kind != "f" and name in WHOLE_FUNCTIONS
            return f"{name}_{dtype.kind}" if is_whole else f"{name}_f{dtype.itemsize * 8}"

        self.functions.update(map(named, CALL.findall(expression)))
        self.functions.update(name for name in ("maximum", "minimum") if f"{name}(" in expression)
        return CALL.sub(lambda match: f"{named(match[1])}(", expression)

    def store(self, store: Store, now: _Pass) -> None:
        """The lines that write one value."""
        value = self.value(store.value, now)
        key: tuple[Any, ...] = ("store", store.kind, store.target, store.width)
        if store.kind == "add":  # rows of one width and dtype lie in one pool, which must be one argument
            key = ("store", "add", self.graph.nodes[self.graph.outputs[store.target]].type.dtype, store.width)
        name = self.argument("y", key, ArrayArgument(store))
        row = "i"
        if store.kind == "add":
            row = f"{self.argument('r', ('add', store.target), RowsArgument(store))}[i]"
        sign = "+=" if store.kind == "add" and self.add else "="
        if store.is_row or self.loop.domain.width == 1:
            plain = store.width == 1 and row == "i"
            where = row if plain else f"{row}, {self.column(store.offset)}"
            self.after.append(f"{name}[{where}] {sign} {value}")
            return
        target = self.fresh("t")
        self.per_row.append(f"{target} = {name}[{row}, {self.columns(store.offset)}]")
        now.last.append(f"{target}[j] {sign} {value}")
        if sign == "+=":
            self.added[f"{target}[j]"] = key[2].name

    def write(self) -> None:
        """All lines."""
        plan = plan_passes(self.graph, self.loop)
        self.passes = [_Pass() for _ in plan]
        is_stored: set[int] = set()
        for k, (step, now) in enumerate(zip(plan, self.passes, strict=True)):
            for i in step.row_nodes:
                self.node(i, now, once=True)
            for i in step.nodes:
                self.node(i, now, once=False)
                if i in step.keep:
                    dtype = self.graph.nodes[i].type.dtype.name
                    kept = self.kept[i] = self.fresh("b")
                    self.before.append(f"{kept} = empty(w, {dtype})")
                    now.last.append(f"{kept}[j] = {now.names[i]}")
            for i in step.reductions:
                self.reduce(i, now, self.passes[k + 1])
            for number, store in enumerate(self.loop.stores):
                is_known = isinstance(store.value, Read) or store.value in self.names or store.value in now.names
                if is_known and number not in is_stored:
                    is_stored.add(number)
                    self.store(store, now)

    def over_columns(self, now: _Pass) -> list[str]:
        """The lines of a pass. Where it calls functions, the columns beyond whole vectors are computed as the end of
        one more vector, whose other columns are computed twice: a scalar loop over a few takes as long as all vectors.
        What is added to rows is added once, from a row of scratch. Numbers of columns are unsigned there: Numba would
        look for negative ones."""
        lines = now.inner + now.last
        is_dear = any(f"{name}(" in line for line in now.inner for name in self.functions)
        if not is_dear or any(line.startswith("m") or _COLUMN.search(line) for line in lines):
            return ["for j in range(w):", *(f"    {line}" for line in lines)]
        itemsize = max(self.graph.nodes[i].type.dtype.itemsize for i in self.loop.nodes)
        if not self.is_split:
            self.is_split = True
            self.before.append(f"columns, vector = uint64(w), uint64({VECTOR_BYTES // itemsize})")
            self.before.append("whole = columns - columns % vector if columns >= vector else columns")
        adds = []
        for k, line in enumerate(lines):
            if added := _ADDED.fullmatch(line):
                kept = self.fresh("b")
                self.before.append(f"{kept} = empty(w, {self.added[added[1]]})")
                lines[k] = f"{kept}[j] = {added[2]}"
                adds += ["for j in range(w):", f"    {added[1]} += {kept}[j]"]
        return [
            "begin, end = uint64(0), whole",
            "while begin < columns:",
            "    for j in range(begin, end):",
            *(f"        {line}" for line in lines),
            "    begin, end = (columns - vector if end < columns else columns), columns",
            *adds,
        ]

    def text(self) -> str:
        """The whole module."""
        rows = list(self.per_row)
        for now in self.passes:
            rows += now.row
            if self.loop.domain.width == 1:
                rows += now.inner
            elif now.last:
                rows += self.over_columns(now)
        rows += self.after
        rows = [f"    {line}" for line in rows]
        parameters = [name for name, _ in self.arguments.values()]
        imports = ""
        if self.functions:
            imports = f"\nfrom autobatch.backends.host.scalar_functions import {', '.join(sorted(self.functions))}\n"
        if can_share(self.loop, self.add):
            imports = f"\nfrom autobatch.backends.host.parts import parts_done, take_part{imports or chr(10)}"
            lines = ["n_done = 0", *self.before, "first, last = take_part(parts, 0, n)", "while first < last:"]
            lines += [f"    {line}" for line in ("for i in range(first, last):", *rows)]
            lines += ["    n_done += 1", "    first, last = take_part(parts, n, n)", "return parts_done(parts, n_done)"]
            parameters.append("parts")
        else:
            lines = [*self.before, "for i in range(n):", *rows]
        relaxed = '"contract", "nsz", "afn"' if self.loop.reductions else '"reassoc", "contract", "nsz", "afn"'
        imports += "".join(sorted(self.combiners))
        if any("math." in line for line in rows):
            imports = f"import math\n{imports}"
        head = _HEADER.format(imports=imports, relaxed=relaxed) + f"def loop({', '.join(['n', 'w', *parameters])}):"
        return "\n".join([head, *(f"    {line}" for line in lines)]) + "\n"


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
    """Numbers that a column of a row reads, writes and passes to functions like tanh: a measure of its time."""
    values = [r for i in loop.nodes for r in loop.reads[i]] + [store.value for store in loop.stores]
    levels = ("element",) if loop.domain.width > 1 else ("element", "row")
    reads = {r for r in values if isinstance(r, Read) and r.level in levels and graph.nodes[r.node].op is not CONST}
    scalars = [graph.nodes[i].op.scalar or "" for i in loop.nodes]
    return max(1, len(reads) + len(loop.stores) + sum(map(n_calls, scalars)))


def write_loop(graph: Graph, loop: Loop, add: bool = True) -> tuple[str, list[Any]]:
    """The module text of a loop, and its arguments: `ArrayArgument`, `RowsArgument` or an offset.

    Before them stand n and w, after them `parts` if the loop can be shared.
    `add`: whether what goes to rows of a pool is added to them, or stored.
    """
    writer = _Writer(graph, loop, add)
    writer.write()
    return writer.text(), [value for _, value in writer.arguments.values()]
