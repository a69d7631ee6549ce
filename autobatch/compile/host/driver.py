"""driver: the function that runs a lowered graph: calls, and generated loops between them.

Input: `Steps`, and what becomes of the results. Output: a `Program`. Invariants: arrays that loops write to are made
before the first step; what a loop reads as a whole is C-contiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...backends.host import parts
from ...ir.graph import CONST, INPUT
from ...ops.movement import RESHAPE, SLICE, TRANSPOSE
from ..steps import Loop, Read, Steps, Store
from ..text import argument_lines, count_lines, extent_name, function_name
from .cache import load
from .calls import Calls
from .loops import RowsArgument, can_share, touches, write_loop


@dataclass(frozen=True, slots=True)
class Program:
    """One lowered graph.

    text: the driver and its loops, to read
    run: run(m, sizes, inputs, outputs) → results that are the same for all nodes, None for the others; an array given
        for such a result may become it
    loops: the generated loops, and the types of the arguments that the driver passes, as `cache.compile_for` reads them
    gemm_dtypes: the dtypes in which matrices are multiplied by the library in use
    """

    text: str
    run: Callable[[int, Sequence[int], Sequence[Any], Sequence[Any]], list[Any]]
    loops: tuple[tuple[Any, str], ...]
    gemm_dtypes: frozenset[str]


def _is_flat(loop: Loop) -> bool:
    """Whether a loop of several columns reads and writes whole arrays only: it then runs over them as one long row."""
    width = loop.domain.width
    reads = [r for operands in loop.reads.values() for r in operands if isinstance(r, Read)]
    reads += [store.value for store in loop.stores if isinstance(store.value, Read)]
    whole = all(
        r.level == "cell" or (r.level == "element" and r.width == width and not r.in_pool and r.through < 0)
        for r in reads
    )
    by_row = loop.row_nodes or loop.reductions
    return whole and width > 1 and not by_row and all(s.kind != "add" and s.width == width for s in loop.stores)


class Driver:
    """Writes a driver and compiles it."""

    def __init__(self, steps: Steps, name: str, accumulate: Sequence[bool], backend: str, add: bool) -> None:
        self.steps, self.name, self.accumulate, self.add = steps, name, accumulate, add
        self.graph, self.nodes = steps.graph, steps.graph.nodes
        self.is_compiled = backend == "numba"
        self.calls = Calls(steps.graph, accumulate, self.is_compiled, add)
        self.sources: list[str] = []
        self.loops: list[tuple[Any, str]] = []
        self.flat = False  # whether the loop being called runs over one long row

    def loop(self, loop: Loop) -> None:
        """Generate a loop and call it."""
        source, arguments = write_loop(self.graph, loop, self.add)
        name = f"loop{len(self.sources)}"
        self.sources.append(source)
        self.calls.names[name] = load(source)
        self.flat = _is_flat(loop)
        rows, width = extent_name(loop.domain.rows), repr(loop.domain.width)
        sizes = ("1", f"{rows} * {width}") if self.flat else (rows, width)
        given = [(size, "int") for size in sizes]
        for argument in arguments:
            if isinstance(argument, int):
                given.append((repr(argument), "int"))
            elif isinstance(argument, RowsArgument):
                given.append(self._rows(argument.use))
            elif isinstance(argument.use, Read):
                given.append(self._array_read(argument.use))
            else:
                given.append(self._array_written(argument.use, loop))
        passed, types = ([pair[k] for pair in given] for k in (0, 1))
        called = name
        if can_share(loop, self.add):
            called = self._shared(name, loop, touches(self.graph, loop), [t.endswith(":2") for t in types[2:]])
            passed.append("0")
            types.append("int")
        self.loops.append((self.calls.names[name], " ".join(types)))
        self.calls.body.append(f"{called}({', '.join(passed)})")

    def _shared(self, name: str, loop: Loop, touches: int, is_row: list[bool]) -> str:
        """What is called for a loop that threads may share: from a number of rows on, the loop in parts."""
        per_row = touches * max(1, loop.domain.width)
        least = -(-parts.SHARED // per_row)
        rows = loop.domain.rows
        if isinstance(rows, int) and rows < least:
            return name
        if self.flat:
            run = parts.share_columns(self.calls.names[name], touches, is_row)
        else:
            run = parts.share_rows(self.calls.names[name], per_row)
        shared = f"shared_{name}"
        self.calls.names[shared] = run
        return shared if isinstance(rows, int) else f"({name} if {extent_name(rows)} < {least} else {shared})"

    def _array_read(self, use: Read) -> tuple[str, str]:
        """An array that a loop reads: its expression, and its dtype with the number of its axes."""
        i, type = use.node, self.nodes[use.node].type
        one, two = f"{type.dtype.name}:1", f"{type.dtype.name}:2"
        if use.in_pool:
            return f"p{i}", two
        if i in self.calls.strided and type.ndim:
            self.calls.strided.discard(i)
            self.calls.body.append(f"v{i} = ascontiguousarray(v{i})")
        if self.flat and use.level != "cell":
            return f"v{i}.reshape(1, -1)", two
        if use.level in ("vector", "cell"):
            return (f"v{i}" if type.ndim == 1 else f"v{i}.reshape(-1)"), one
        if use.level == "row" and use.width == 1 and use.through < 0:
            return (f"v{i}" if type.ndim == 1 else f"v{i}.reshape({extent_name(use.rows)})"), one
        return self._in_rows(i, use.rows, use.width), two

    def _array_written(self, store: Store, loop: Loop) -> tuple[str, str]:
        """An array that a loop writes, in the same way."""
        i = store.target if store.kind == "node" else self.graph.outputs[store.target]
        type, rows = self.nodes[i].type, loop.domain.rows
        one, two = f"{type.dtype.name}:1", f"{type.dtype.name}:2"
        if store.kind == "add":
            return f"q{store.target}", two
        name = f"v{i}" if store.kind == "node" else f"out{store.target}"
        if self.flat:
            return f"{name}.reshape(1, -1)", two
        if store.width == 1 and (store.is_row or loop.domain.width == 1):  # the one number of a row
            plain = store.kind == "node" and type.ndim == 1
            return (name if plain else f"{name}.reshape({extent_name(rows)})"), one
        if store.kind == "node":
            return self._in_rows(i, rows, store.width), two
        plain = type.ndim <= 2 and rows == type.shape[0]
        return (name if plain else f"{name}.reshape({extent_name(rows)}, {store.width})"), two

    def _in_rows(self, i: int, rows: Any, width: int) -> str:
        """A node as an array of rows."""
        return f"v{i}" if self.nodes[i].type.shape == (rows, width) else f"v{i}.reshape({extent_name(rows)}, {width})"

    def _rows(self, use: Read | Store) -> tuple[str, str]:
        """Row numbers that a loop follows, and their dtype."""
        if isinstance(use, Store):
            return f"w{use.target}", "int32:1"
        if use.through < 0:
            return f"r{use.node}", "int32:1"
        if use.in_pool:
            return f"r{use.node}[v{use.through}]", "int32:1"
        return f"v{use.through}", f"{self.nodes[use.through].type.dtype.name}:1"

    def program(self, wanted: Sequence[tuple[str, int]]) -> Program:
        """Write the driver and compile it; `wanted` is what its `inputs` are."""
        made = self._written_by_loops()
        for i in sorted(made):
            self.calls.buffer(i)
        for step in self.steps.order:
            if isinstance(step, Loop):
                self.loop(step)
            elif step not in made:
                self.calls.call(step)
        if not self.is_compiled:
            self._write_outputs()
        results = []
        for o, i in enumerate(self.graph.outputs):
            own = self.nodes[i].op not in (INPUT, CONST, RESHAPE, SLICE, TRANSPOSE) and self.graph.outputs.index(i) == o
            results.append("None" if self.nodes[i].type.has_dim else f"v{i}" if own else f"array(v{i})")
        title = function_name(self.name)
        heads = argument_lines(self.graph, self.accumulate, "(q{0}, w{0}, b{0}_)", wanted)
        body = self.calls.body or ["pass"]
        if not self.is_compiled:  # elsewhere the whole loop over the launches is inside
            body = ['with errstate(all="ignore"):', *(f"    {line}" for line in body)]
        lines = [*count_lines(self.graph), *heads, *body, f"return [{', '.join(results)}]"]
        text = "\n".join([f"def {title}(m, sizes, inputs, outputs):", *(f"    {line}" for line in lines)]) + "\n"
        exec(compile(text, f"<{self.name}>", "exec"), self.calls.names)
        run = self.calls.names[title]
        return Program("\n\n".join([text, *self.sources]), run, tuple(self.loops), frozenset(self.calls.gemm_dtypes))

    def _written_by_loops(self) -> set[int]:
        """Arrays that loops write to, which are made before the first step."""
        read = {j for step in self.steps.order if isinstance(step, int) for j in self.nodes[step].inputs}
        made, values = set(), set()
        for step in self.steps.order:
            if isinstance(step, Loop):
                reads = [r for rs in step.reads.values() for r in rs] + [s.value for s in step.stores]
                read |= {r.node for r in reads if isinstance(r, Read)}
                made |= {s.target for s in step.stores if s.kind == "node"}
                values |= {*step.nodes, *step.row_nodes, *step.reductions}
        return made | (values & read & set(self.calls.output_of))

    def _write_outputs(self) -> None:
        """Without loops: results that no call has written in place."""
        for o, i in enumerate(self.graph.outputs):
            if self.accumulate[o]:
                self.calls.body.append(f"{'add' if self.add else 'store'}_rows((q{o}, w{o}, b{o}_), v{i})")
            elif self.nodes[i].type.has_dim and (self.calls.output_of[i] != o or self.nodes[i].op in (INPUT, CONST)):
                self.calls.body.append(f"store(out{o}, v{i})")
