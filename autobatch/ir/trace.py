"""trace: a function and the types of its operands → `Graph`, the program of one example.

Input: a Python function that is called once with tracers in place of its operands.
Output: `Builder.graph`, a single graph, and what the builder noted beside it: shared operands, random draws, bounds.
Invariants: nodes are in topological order; operands of an op have one dtype; a node that depends on elements of a
list carries the list's number as its level.
Cost: once per signature, a few microseconds an op.

    >>> from autobatch.ir.trace import Builder
    >>> from autobatch.ops.functions import tanh
    >>> from autobatch.base.types import tensor_type
    >>> builder = Builder()
    >>> x = builder.input("rows", 0, tensor_type("float32", (4,)))
    >>> print(builder.finish([tanh(x) * 2.0]))
    %0 = rows(0)      f32[4]
    %1 = tanh(%0)     f32[4]
    %2 = const(2.0)   f32[] shared
    %3 = mul(%1, %2)  f32[4]
    return %3
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..base.errors import CellError, OpTypeError, op_error, user_error, user_place
from ..base.types import INT64, LEADING, Type, counted, default_dtype, promote, tensor_type
from ..ops.attention import result_side
from ..ops.custom import COTANGENT, CUSTOM
from ..ops.declare import Attrs, Op, unchanged
from ..ops.elementwise import CAST, STOP_GRADIENT, float_dtype
from ..ops.index import BOUNDED, lowest_index
from ..ops.movement import of_rows
from ..ops.pairs import PAIRS
from ..ops.reduce import LIST_REDUCTIONS, reduce_elements
from .graph import CONST, NODE, SHARED, Graph, Origin
from .tracers import StackedTracer, TracedList, Tracer

SHADOW = 1000
"""Level of the second representative of list k is SHADOW + k: a loop over a list is traced with two elements, and the
second trace must equal the first, so that code which treats elements differently is found."""

FLOAT64 = np.dtype(np.float64)


class ListsMeet(BaseException):
    """Elements of two lists meet, as in a loop over `zip`: one trace stands for both if the lists have one length.

    It is no `Exception`, so that user code does not catch it.
    """

    def __init__(self, first: int, second: int) -> None:
        super().__init__(first, second)
        self.lists = first, second


class Builder:
    """Builds a single graph. One builder belongs to one trace."""

    def __init__(self, is_cell: bool = False, is_frozen: Callable[[], bool] = bool) -> None:
        self.graph = Graph()
        self.is_cell = is_cell  # then the graph says which line of the user's recorded which node
        self.is_frozen = is_frozen  # whether no gradient flows through what is recorded now
        self._op = ""  # the outermost of those that are being recorded
        self.shared: list[Any] = []
        self.arrays: dict[Any, Any] = {}
        """Constants made of arrays that the traced code wrote down, by their numbers."""
        self.bounds: list[tuple[int, int, int]] = []
        """Numbers of the data that are indices: which, the lowest that it may be, and what it must be below."""
        self.draws: dict[int, int] = {}
        self.draw_inputs: tuple[Tracer, Tracer] | None = None
        self._twin: dict[int, int | None] = {}
        self._loop: int = 0

    # Operands.

    def input(self, kind: str, k: int, type: Type, level: int = NODE, weak: bool = False) -> Tracer:
        """The tracer of an operand. One of another layout than LEADING is read as rows, and put into its shape."""
        if type.layout != LEADING:
            return of_rows(self.input(kind, k, type.stored, level, weak), type)
        id = self.graph.input(kind, k, type, level)
        if level >= SHADOW:
            self._twin[id] = self.graph.input(kind, k, type, level - SHADOW)
        return Tracer(self, id, weak)

    def shared_operand(self, value: Any) -> Tracer:
        """The tracer of an array that is the same for all nodes."""
        k = next((k for k, other in enumerate(self.shared) if other is value), len(self.shared))
        if k == len(self.shared):
            self.shared.append(value)
        return self.input("shared", k, value._type, SHARED)

    def constant(self, value: Any, dtype: np.dtype[Any]) -> Tracer:
        """A number that is part of the graph."""
        number = dtype.type(value).item()
        return Tracer(self, self.graph.add(CONST, (), (number,), tensor_type(dtype, ()), SHARED))

    def _lift(self, x: Any, op: Any = "cell", k: int = 0) -> Any:
        if isinstance(x, Tracer):
            if x._builder is not self:
                raise user_error(
                    CellError,
                    "cell: a value of another trace was kept and used here",
                    repair="return it from the cell, and pass it as an argument",
                )
            return x
        enter = getattr(x, "_enter", None)
        if enter is not None:
            return enter(self)
        if isinstance(x, bool | int | float | np.number | np.bool_):
            number = x.item() if isinstance(x, np.generic) else x
            return in_range(op, number) if type(number) is int else number
        raise no_operand(op, k, x)

    # Ops.

    def record(self, op: Op, operands: tuple[Any, ...], attrs: Attrs) -> Any:
        """Add one op: lift its operands, bring them to one dtype, infer the type, add the node or run the body."""
        lifted = [self._lift(x, op, k) for k, x in enumerate(operands)]
        outer, self._op = self._op, self._op or op.name
        try:
            weak = all(not isinstance(x, Tracer) or x._weak for x in lifted)
            weak = weak and (op.batch == "elementwise" or op.body is not None)
            values = self._unify(op, lifted, weak)
            result = self._add(op, values, attrs, weak) if op.body is None else op.body(*values, *attrs)
        finally:
            self._op = outer
        return self.unchanged(result)

    def unchanged(self, x: Tracer) -> Tracer:
        """The same value as the result of what the user wrote: where no gradient flows through that, as a constant."""
        if self._op or not self.is_frozen() or x._weak or x.dtype.kind != "f":
            return x
        return self._add(STOP_GRADIENT, (x,), ())

    def _add(self, op: Op, values: Sequence[Tracer], attrs: Attrs, weak: bool = False) -> Tracer:
        assert op.infer is not None
        inputs = tuple(v._id for v in values)
        type = op.infer([v._type for v in values], attrs)
        if op is COTANGENT:  # each call has its own, of whatever equal values
            attrs = (sum(n.op is op and n.inputs == inputs for n in self.graph.nodes),)
        if op.batch == "segments" and attrs[0] is not None:
            level = attrs[0][result_side(attrs)]
        elif op.batch == "pairs" and attrs[0] is None:
            level = attrs[1]
        elif op.batch == "between":
            level = attrs[0]
        elif op is COTANGENT or op is CUSTOM:
            level = max(values[0].level, NODE)
        else:
            level = self._join(op, [v.level for v in values])
        if op.batch == "list":
            k, whole = attrs[0] if isinstance(attrs[0], tuple) else (attrs[0], NODE)
            shadow = SHADOW if any(v.level >= SHADOW for v in values) else 0
            level = k + shadow if op.per_element else whole
        if op is BOUNDED:
            node = self.graph.nodes[inputs[0]]
            if node.kind == "data":
                self.bounds.append((node.attrs[1], lowest_index(attrs), attrs[0]))
        id = self.graph.add(op, inputs, attrs, type, level)
        if self.is_cell and id not in self.graph.origins:
            self.graph.origins[id] = Origin(self._op or op.name, *user_place())
        if level >= SHADOW:
            real = [self._twin.get(i, i) for i in inputs]
            known = [i for i in real if i is not None]
            same = len(known) == len(real)
            self._twin[id] = self.graph.find(op, tuple(known), attrs, type, level - SHADOW) if same else None
        return Tracer(self, id, weak)

    def _join(self, op: Op, levels: Sequence[int]) -> int:
        lists = {level for level in levels if level > NODE}
        if len(lists) > 1 and not self.is_cell:
            return PAIRS
        if len(lists) > 1:
            numbers = sorted({level % SHADOW for level in lists})
            if len(numbers) > 1:
                raise ListsMeet(numbers[0], numbers[1])
            raise user_error(
                CellError,
                f"cell: two elements of one list, or of lists of one length, meet in {op.name}; a list of any length "
                "is traced once for all elements",
                repair="combine them by ab.sum, prod, mean, max, min or stack, or name it in @ab.cell(static=(...,))",
            )
        return max(levels, default=SHARED)

    def _unify(self, op: Op, values: list[Any], weak: bool) -> list[Tracer]:
        """Operands of one dtype. `weak` says that the result takes the dtype of what it meets, as numbers do."""
        if op.dtypes == "keep":
            return [v if isinstance(v, Tracer) else self.constant(v, _weak_dtype(v)) for v in values]
        if op.dtypes == "count":
            return [self._as(v, counted(_weak_dtype(v))) for v in values]
        start = 1 if op.dtypes == "where" else 0
        dtype = self._common(values[start:], weak)
        if op.dtypes == "float":
            dtype = FLOAT64 if weak and dtype.kind != "f" else float_dtype(dtype)
        if start and not (isinstance(values[0], Tracer) and values[0].dtype.kind == "b"):
            got = str(values[0]._type) if isinstance(values[0], Tracer) else repr(values[0])
            raise op_error(op.name, "the condition is not boolean", expected="bool[...]", got=got)
        head = [self._as(values[0], np.dtype(np.bool_))] if start else []
        return head + [self._as(v, dtype) for v in values[start:]]

    def _common(self, values: Sequence[Any], keep_weak: bool) -> np.dtype[Any]:
        strong: np.dtype[Any] | None = None
        for v in values:
            if isinstance(v, Tracer) and not v._weak:
                strong = v.dtype if strong is None else promote(strong, v.dtype)
        weak = [_weak_dtype(v) for v in values if not isinstance(v, Tracer) or v._weak]
        if strong is None:
            precise = keep_weak and any(isinstance(v, Tracer) for v in values)
            kinds = {w.kind for w in weak}
            return (
                (FLOAT64 if precise else default_dtype()) if "f" in kinds else INT64 if "i" in kinds else np.dtype(bool)
            )
        if any(w.kind == "f" for w in weak) and strong.kind != "f":
            return default_dtype()
        if any(w.kind == "i" for w in weak) and strong.kind == "b":
            return INT64
        return strong

    def _as(self, v: Any, dtype: np.dtype[Any]) -> Tracer:
        if not isinstance(v, Tracer):
            return self.constant(v, dtype)
        if v.dtype == dtype:
            return v
        node = self.graph.nodes[v._id]
        if node.op is CONST:
            return self.constant(node.attrs[0], dtype)
        return self._add(CAST, (v,), (dtype,))

    # Lists.

    def second_of(self, first: Tracer) -> Tracer:
        """The second representative of elements, where the first was recorded: nothing that is kept reads it."""
        id = self.graph.input("second", first._id, first._type, SHADOW + first.level)
        self._twin[id] = first._id
        return Tracer(self, id)

    @contextlib.contextmanager
    def looping(self, k: int) -> Iterator[Any]:
        """Trace the body of a loop over list k for the first element, and again for the second."""
        before, outer = dict(self.draws), self._loop
        self._loop = k

        def again() -> None:
            per_element = self.draws.get(k, 0) - before.get(k, 0)
            if per_element > 1:
                raise user_error(
                    CellError,
                    "cell: two random draws for each element of one loop over a list",
                    repair="draw in two loops, one draw each",
                )
            self.draws = before
            self._loop = SHADOW + k

        yield again
        self._loop = outer

    def record_list(self, kind: str, values: Sequence[Any]) -> Any:
        """sum, mean, max or stack over a list of values of one shape."""
        if isinstance(values, TracedList):
            values = list(values)
        lifted = [self._lift(v) for v in values]
        tracers = [v for v in lifted if isinstance(v, Tracer)]
        levels = {v.level for v in tracers}
        k = next((level for level in levels if NODE < level < SHADOW), 0)
        if not k and not any(level >= SHADOW for level in levels):
            return _fold(kind, [v if isinstance(v, Tracer) else self.constant(v, _weak_dtype(v)) for v in lifted])
        if len(lifted) != 2 or len(tracers) != 2 or tracers[0].level != k or tracers[1].level != SHADOW + k:
            raise user_error(
                CellError,
                f"cell: {kind} of a list that mixes elements of a varying list with other values",
                repair="reduce the list first, then add the others",
            )
        real, shadow = tracers
        if self._twin.get(shadow._id) != real._id:
            raise user_error(
                CellError,
                f"cell: {kind} over a list whose elements are not treated alike",
                repair="a loop over a list runs once for all elements: carry no value from one "
                "element to the next, and use no Python counter",
            )
        if kind == "stack":
            return unchanged(StackedTracer(real))
        if real._weak and real.dtype == FLOAT64:  # numbers become a value, as ab.tensor makes one of them
            real = self._as(real, default_dtype())
        return self.record(LIST_REDUCTIONS[kind], (real,), (k,))

    # Random draws.

    def draw(self) -> tuple[Any, Any]:
        """Stream and number of the next random draw."""
        if self.draw_inputs is None:
            raise user_error(CellError, "cell: a random draw is not possible here")
        stream, first = self.draw_inputs
        number: Any = first
        for k, count in sorted(self.draws.items()):
            if count:
                number = number + (count if k == 0 else self.input("lengths", k, tensor_type(INT64, ())) * count)
        if self._loop:
            k = self._loop % SHADOW
            number = number + self.input("positions", k, tensor_type(INT64, ()), self._loop)
            self.draws[k] = self.draws.get(k, 0) + 1
        else:
            self.draws[0] = self.draws.get(0, 0) + 1
        return stream, number

    # The end.

    def finish(self, outputs: Sequence[Any]) -> Graph:
        """Set the results and return the pruned graph."""
        ids = []
        for x in outputs:
            value = self._lift(x)
            if not isinstance(value, Tracer):
                value = self.constant(value, default_dtype() if isinstance(value, float) else _weak_dtype(value))
            if value.level >= SHADOW:
                raise user_error(CellError, "cell: a single element of a varying list is returned")
            if value._weak and value.dtype == FLOAT64:
                value = self._as(value, default_dtype())
            ids.append(value._id)
        self.graph.outputs = tuple(ids)
        return self.graph.pruned()


def in_range(op: Any, number: int, bits: int = 64) -> int:
    """An integer that fits into so many bits."""
    if -(1 << (bits - 1)) <= number < 1 << (bits - 1):
        return number
    raise op_error(
        str(op),
        f"an integer does not fit into {bits} bits",
        got=f"{number:.4g}" if abs(number) < 10**300 else f"a number of {number.bit_length()} bits",
        repair="write it as a float",
    )


def no_operand(op: Any, k: int, x: Any) -> OpTypeError:
    """The error for operand k, counted from 0, of a kind that no op takes."""
    return op_error(
        str(op),
        f"operand {k + 1} is neither a value nor a number",
        got=f"{type(x).__name__}{'' if x is None else f' {x!r}'[:60]}",
    )


def _weak_dtype(v: Any) -> np.dtype[Any]:
    if isinstance(v, Tracer):
        return v.dtype
    if isinstance(v, bool):
        return np.dtype(np.bool_)
    return INT64 if isinstance(v, int) else default_dtype()


def _fold(kind: str, values: Sequence[Tracer]) -> Any:
    shape = values[0].shape
    for v in values:
        if v.shape != shape:
            raise user_error(
                OpTypeError, f"{kind}: values of a list differ in shape", expected=str(shape), got=str(v.shape)
            )
    return reduce_elements(kind, values)
