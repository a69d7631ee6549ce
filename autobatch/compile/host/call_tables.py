"""call tables: the calls that a driver makes, as numbers, so that compiled code can make them for many launches.

Input: a `Program` for "numba", and what its arguments are. Output: a `CallTable`, or None where the driver does what a
table cannot say. The driver is run once, on `symbolic` arrays, and the compiled functions that it calls are noted with
their arguments. Invariant: a table makes the calls that the driver makes. Cost: a millisecond for a piece of a
signature, beside what compiles or loads the functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ...backends.host import tiles
from ...backends.host.native_calls import MOST_WORDS, array_words, as_words, function_address
from ...backends.host.numba_verbs import gather_into
from ...backends.host.parts import ALONE
from ...backends.host.tile_code import PANEL_BYTES
from ...base.jit import CompiledFunction, argument_types
from ...base.types import Array, Dim, Type, size_of
from ...ir.graph import INPUT, Graph, Node
from .driver import Program
from .symbolic import NODES, Amount, Bound, Extent, NotSaid, Variable, View, product, terms_of

_OF_LAUNCH = ("nodes", "at", "ints", "floats")
"""Variables of a launch: its nodes, those of launches of the signature before it, and where its data is."""

_OF_EACH = ("rows", "start", "write")
"""Those of each slot or result: where its row numbers are, the first of them, and the first row that is written."""

FIXED = (
    *("all rows", "all ints", "all floats", "pool", "length", "reverse", "result", "cotangent", "residual"),
    *("shared", "derived", "panels", "scratch"),
)
"""Variables that are the same for all launches of a pass, addresses but for one: of the row numbers and the data of the
plan; of the pool of a slot, with its rows as `length`, and of the pool of their cotangents, `reverse`; of the pool of a
result and of its cotangents; of a residual; of operands that are the same for all nodes, also packed; and of arrays
between calls."""


def column(variable: Variable) -> int:
    """Where a variable of a launch stands among all of them."""
    name, k = variable
    return _OF_LAUNCH.index(name) if name in _OF_LAUNCH else n_columns(k) + _OF_EACH.index(name)


def n_columns(n: int) -> int:
    """How many variables launches of up to n slots and results have."""
    return len(_OF_LAUNCH) + len(_OF_EACH) * n


@dataclass(eq=False, slots=True)
class CallTable:
    """The calls of one piece of a signature.

    words: what they take, of which each is this plus `factor` times a constant of `constants`, plus its changes
    factors, of_constant: [words] that factor, and the number of that constant
    constants: `FIXED` variables; changed: word, column of a variable, factor, 1 if the word has changed before
    calls: address, first word, words; functions: they are in
    scratch: bytes for each node that arrays between the calls take, by number
    consecutive: slots whose rows must be consecutive; limit: nodes from which on threads would share the work
    """

    words: Array
    factors: Array
    of_constant: Array
    constants: list[Variable]
    changed: Array
    calls: Array
    functions: list[Any]
    scratch: list[int]
    consecutive: list[int]
    limit: int


Pool = tuple[int, np.dtype[Any]]
"""Width and dtype of the rows of a pool."""


@dataclass(frozen=True, slots=True)
class Operands:
    """What the arguments of a piece are.

    slots: pool and rows for a node of each; results: pools
    data: "i" for each integer that a node was recorded with, "f" for other numbers
    residuals: the types of all; written: what the results of the piece are, ("result" | "rows" | "residual", number)
    """

    slots: Sequence[tuple[Pool, int]]
    results: Sequence[Pool]
    data: str
    residuals: Sequence[Type]
    written: Sequence[tuple[str, int]]


def call_table(program: Program, graph: Graph, operands: Operands) -> CallTable | None:
    """The calls of the program of a graph, for launches of at least one node."""
    calls = _Calls()
    given = _Given(calls, operands)
    try:
        inputs = [given.input(node) for node in graph.nodes if node.op is INPUT]
        written = zip(operands.written, graph.outputs, strict=True)
        outputs = [given.output(*what, graph.nodes[i].type) for what, i in written]
        nodes = calls.variable(*NODES)
        results = FunctionType(program.run.__code__, calls.names(program))(nodes, (nodes,), inputs, outputs)
        return None if any(result is not None for result in results) else calls.table()
    except NotSaid:
        return None


def _shared(*_: Any) -> None:
    raise NotSaid("a loop whose work threads share in each launch")


class _Given:
    """The arguments of a piece, as views."""

    def __init__(self, calls: _Calls, operands: Operands) -> None:
        self.calls, self.operands = calls, operands
        self.variable = calls.variable

    def input(self, node: Node) -> Any:
        """What a node of the graph reads."""
        kind, k = node.attrs
        type, variable = node.type, self.variable
        if kind == "rows":
            return self._rows("pool", k)
        extents = self._extents(type)
        if kind in ("shared", "derived"):
            return View(type.dtype, variable(kind, k), extents, key=(kind, k))
        if kind == "residual":
            return View(type.dtype, self._residual(k), extents)
        if kind == "cotangent":
            return View(type.dtype, self._written("cotangent", k), extents)
        if kind == "data":
            data = self.operands.data
            name = "ints" if data[k] == "i" else "floats"
            at = variable(name, 0) + variable(*NODES) * data[:k].count(data[k])
            return View(type.dtype, variable(f"all {name}", 0) + at * type.dtype.itemsize, extents)
        raise NotSaid(f"an operand of kind {kind}")

    def output(self, kind: str, k: int, type: Type) -> Any:
        """What a result of the graph is written to."""
        if kind == "rows":
            return self._rows("reverse", k)
        size = terms_of(product(self._extents(type)))
        if set(size) != {NODES}:
            raise NotSaid("a result that is the same for all nodes")
        is_result = kind == "result"
        width = self.operands.results[k][0] if is_result else size_of(self.operands.residuals[k].shape[1:])
        address = self._written("result", k) if is_result else self._residual(k)
        return View(type.dtype, address, (self.variable(*NODES) * (size[NODES] // width), width))

    def _extents(self, type: Type) -> tuple[Extent, ...]:
        if any(isinstance(n, Dim) and n.index for n in type.shape):
            raise NotSaid("elements of lists")
        return tuple(self.variable(*NODES) * n.factor if isinstance(n, Dim) else n for n in type.shape)

    def _rows(self, pool: str, k: int) -> tuple[View, View, Amount]:
        """Pool, row numbers, and the first of these."""
        (width, dtype), n = self.operands.slots[k]
        numbers, variable = np.dtype(np.int32), self.variable
        at = variable("all rows", 0) + variable("rows", k) * numbers.itemsize
        rows = View(numbers, at, (variable(*NODES) * n,))
        return View(dtype, variable(pool, k), (variable("length", k), width)), rows, variable("start", k)

    def _written(self, name: str, k: int) -> Amount:
        """Where rows of a result, or their cotangents, begin."""
        width, dtype = self.operands.results[k]
        return self.variable(name, k) + self.variable("write", k) * (width * dtype.itemsize)

    def _residual(self, k: int) -> Amount:
        """Where a residual begins."""
        type = self.operands.residuals[k]
        self._extents(type)
        n_bytes = type.shape[0].factor * size_of(type.shape[1:]) * type.dtype.itemsize
        return self.variable("residual", k) + self.variable("at", 0) * n_bytes


class _Calls:
    """What a driver calls, noted; its names mean the methods of this."""

    VERBS = ("ascontiguousarray", "empty", "gather", "gather_into", "library")
    METHODS = ("gemm", "gemm_transposed", "reshape", "transpose", "shape", "T")

    def __init__(self) -> None:
        self.bound = Bound()
        self.consecutive: list[int] = []
        self.scratch: list[int] = []
        self.words: list[Extent] = []
        self.calls: list[tuple[int, int, int]] = []
        self.functions: list[Any] = []

    def variable(self, *key: Any) -> Amount:
        """A variable, as an amount."""
        return Amount({key: 1}, self.bound)

    def names(self, program: Program) -> dict[str, Any]:
        """What the names in a driver mean."""
        known, used = program.run.__globals__, program.run.__code__.co_names
        found: dict[str, Any] = {name: known[name] for name in used if isinstance(known.get(name), np.dtype)}
        found |= {verb: getattr(self, verb) for verb in self.VERBS}
        for number, (function, arguments) in enumerate(program.loops):
            found[f"loop{number}"] = self._loop(function, argument_types(arguments))
            found[f"shared_loop{number}"] = _shared
        unknown = set(used) - {*found, *self.METHODS}
        if unknown:
            raise NotSaid(f"the driver calls {unknown}")
        return found

    def _loop(self, function: Any, arguments: Sequence[Any]) -> Callable[..., None]:
        return lambda *passed: self.note(function, arguments, *passed)

    def note(self, function: Any, arguments: Sequence[Any], *passed: View | Extent) -> None:
        """Note the call of a function compiled for these arguments."""
        if not isinstance(function, CompiledFunction):
            raise NotSaid("nothing is compiled")
        first = len(self.words)
        for type, x in zip(arguments, passed, strict=True):
            if isinstance(x, View):
                fits = isinstance(type, types.Array) and (type.ndim, type.dtype) == (x.ndim, from_dtype(x.dtype))
                if not fits or (type.layout == "C" and not x.is_contiguous):
                    raise NotSaid(f"{x.dtype} {x.shape} for {type}")
                self.words += array_words(x.size, x.dtype.itemsize, x.address, x.shape, x.strides)
            elif type is types.intp:
                self.words.append(x)
            else:
                raise NotSaid(f"an argument of type {type}")
        n = len(self.words) - first
        if n > MOST_WORDS:
            raise NotSaid(f"a call of {n} words")
        self.calls.append((function_address(function, tuple(arguments)), first, n))
        self.functions.append(function)

    def ascontiguousarray(self, x: View) -> View:
        """The array itself."""
        if not x.is_contiguous:
            raise NotSaid("a copy")
        return x

    def empty(self, shape: tuple[Extent, ...], dtype: np.dtype[Any]) -> View:
        """An array between calls."""
        size = terms_of(product(shape) * dtype.itemsize)
        if set(size) != {NODES}:
            raise NotSaid("an array whose size is no multiple of the nodes")
        self.scratch.append(size[NODES])
        return View(dtype, self.variable("scratch", len(self.scratch) - 1), shape)

    def gather(self, pool: View, rows: View, start: Amount) -> View:
        """Rows that are consecutive, where they are."""
        self.consecutive += [key[1] for key in start.terms if key is not None]
        return View(pool.dtype, pool.address + start * pool.strides[0], (rows.shape[0], pool.shape[1]))

    def gather_into(self, pool: View, rows: View, target: View) -> None:
        """Rows, copied."""
        kind = from_dtype(pool.dtype)
        into = types.Array(kind, 2, "C" if target.is_contiguous else "A")
        arguments = types.Array(kind, 2, "C"), types.Array(types.int32, 1, "C"), into
        self.note(gather_into, arguments, pool, rows, target)

    def library(self) -> _Calls:
        """What multiplies matrices: this, as `Own` does."""
        return self

    def gemm(self, x: View, w: View, y: View) -> None:
        """y = x w."""
        if w.strides[1] != w.dtype.itemsize:
            raise NotSaid("columns of a matrix that are not side by side")
        width = PANEL_BYTES // w.dtype.itemsize
        self._multiply(x, w, width, width, y)

    def gemm_transposed(self, x: View, v: View, y: View, keep: bool) -> None:
        """y = x vᵀ."""
        n, inner = v.shape
        if v.key is None or not keep or isinstance(n, Amount) or isinstance(inner, Amount):
            raise NotSaid("panels of a matrix of the launch")
        shape = tiles.panels_shape(n, inner, v.dtype.itemsize)
        packed = View(v.dtype, self.variable("panels", *v.key), shape)
        self._multiply(x, packed, shape[1] * inner, shape[1], y)

    def _multiply(self, x: View, w: View, panel: int, width: int, y: View) -> None:
        if y.shape[1] == 1:
            raise NotSaid("sums along rows")
        size = product((*y.shape, x.shape[1]))
        if not size < tiles.SHARED:
            raise NotSaid("a product of one size that threads share")
        self.note(*tiles.product_of(y.dtype), x, w, panel, width, y, ALONE)

    def table(self) -> CallTable:
        """What was noted."""
        constants: list[Variable] = []
        words, factors, of_constant = [], [], []
        changed: list[tuple[int, int, int, int]] = []
        for number, word in enumerate(self.words):
            terms = dict(terms_of(word))
            words.append(terms.pop(None, 0))
            own = [key for key in terms if key is not None and key[0] in FIXED]
            if len(own) > 1:
                raise NotSaid("a word that two constants make")
            constants += [key for key in own if key not in constants]
            factors.append(terms[own[0]] if own else 0)
            of_constant.append(constants.index(own[0]) if own else 0)
            of_launch = [(column(key), factor) for key, factor in terms.items() if key is not None and key not in own]
            changed += [(number, at, factor, int(k > 0)) for k, (at, factor) in enumerate(of_launch)]
        return CallTable(
            as_words(words), as_words(factors), as_words(of_constant), constants, as_words(changed).reshape(-1, 4),
            as_words(self.calls).reshape(-1, 3), self.functions, self.scratch, sorted(set(self.consecutive)),
            self.bound.nodes,
        )  # fmt: skip
