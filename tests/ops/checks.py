"""Checks of one op, made from its declaration. Each raises `AssertionError`; the sabotage tests hand them wrong ops."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import autobatch as ab
from autobatch.base.types import default_dtype, tensor_type
from autobatch.ir.graph import CONST, INPUT, NODE, Graph, Node
from autobatch.ir.interpret import interpret
from autobatch.ir.trace import Builder
from autobatch.ir.vjp import vjp
from autobatch.ops import OPS, Op, Sample, apply
from autobatch.ops.reduce import LIST_REDUCTIONS, LIST_SUM
from autobatch.record.recorder import record_list
from tests.requested import host

Array = np.ndarray[Any, Any]
INT64 = np.dtype(np.int64)
FLOAT64 = np.dtype(np.float64)

VALUES = {np.dtype(np.float32): 1e-5, FLOAT64: 1e-10}
GRADIENTS = {np.dtype(np.float32): 1e-4, FLOAT64: 1e-8}
"""The tolerances of the promise that batched results equal those of the loop."""

LIST_KINDS = {op.name: kind for kind, op in LIST_REDUCTIONS.items()}
OF_AXES = {op.over_list: op for op in OPS.values() if op.over_list}


@dataclass(frozen=True)
class Case:
    """One sample of one op."""

    op: Op
    number: int
    sample: Sample

    def __str__(self) -> str:
        return f"{self.op.name}-{self.number}"


def cases(op: Op) -> list[Case]:
    """The samples of an op, always the same."""
    if op.samples is None:
        return []
    return [Case(op, k, s) for k, s in enumerate(op.samples(np.random.default_rng(5)))]


ALL = [case for op in OPS.values() for case in cases(op)]
GOOD = [case for case in ALL if case.sample.error is None]
WRONG = [case for case in ALL if case.sample.error is not None]
OF_BATCHES = ("batched", "segments", "pairs")
"""How ops are batched that only batched graphs have, and no recording."""


@contextlib.contextmanager
def default(dtype: Any) -> Iterator[None]:
    """Another default dtype inside the block."""
    before = default_dtype()
    ab.set_default_dtype(dtype)
    try:
        yield
    finally:
        ab.set_default_dtype(before)


def converted(x: Any, dtype: np.dtype[Any]) -> Any:
    """A sample operand in a floating dtype: huge and denormal numbers become those of float64."""
    if isinstance(x, list):
        return [converted(e, dtype) for e in x]
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        return x
    if dtype == FLOAT64:
        huge = np.isfinite(x) & (np.abs(x) > 1e37)
        tiny = (x != 0) & (np.abs(x) < 1e-37)
        return np.where(huge, np.sign(x) * 1.5e308, np.where(tiny, np.sign(x) * 1e-310, x))
    return x.astype(dtype)


# Graphs.


def trace(op: Op, operands: Sequence[Any], attrs: tuple[Any, ...]) -> Graph:
    """The single graph of an op on operands of these kinds."""
    builder = Builder()
    tracers: list[Any] = []
    n_data = 0
    for x in operands:
        if isinstance(x, list):
            tracers.append(builder.input("rows", len(tracers) - n_data, tensor_type(x[0].dtype, x[0].shape), 1))
        elif isinstance(x, np.ndarray):
            tracers.append(builder.input("rows", len(tracers) - n_data, tensor_type(x.dtype, x.shape)))
        else:
            kind = INT64 if isinstance(x, int) else FLOAT64
            tracers.append(builder.input("data", n_data, tensor_type(kind, ()), NODE, weak=True))
            n_data += 1
    if op.name == "spread":  # has no list of its own; it leads to one
        given = builder.record(op, tuple(tracers[:1]), attrs)
        return builder.finish([apply(LIST_SUM, (given * tracers[1],), attrs)])
    return builder.finish([builder.record(op, tuple(tracers), attrs)])


class Values:
    """Operands of a graph, to be read by `interpret`."""

    def __init__(self, operands: Sequence[Any]) -> None:
        self.rows = [x for x in operands if isinstance(x, np.ndarray | list)]
        self.data = [x for x in operands if not isinstance(x, np.ndarray | list)]
        self.cotangents: list[Any] = []

    def __call__(self, kind: str, k: int) -> Any:
        if kind in ("lengths", "positions"):
            n = len([x for x in self.rows if isinstance(x, list)][k - 1])
            return np.array(n) if kind == "lengths" else [np.array(position) for position in range(n)]
        return {"rows": self.rows, "data": self.data, "cotangent": self.cotangents}[kind][k]


def check_types(graph: Graph, operands: Sequence[Any]) -> None:
    """What the reference of every node gives has the shape and dtype that its type rule says."""
    values: list[Any] = []
    read = Values(operands)
    length = next((len(x) for x in operands if isinstance(x, list)), 1)
    for node in graph.check().nodes:
        if node.op is INPUT:
            x = read(*node.attrs)
            values.append(np.asarray(x, node.type.dtype) if node.attrs[0] == "data" else x)
            continue
        if node.op is CONST:
            values.append(np.asarray(node.attrs[0], node.type.dtype))
            continue
        xs = [values[j] for j in node.inputs]
        if node.op.name == "spread":
            values.append([xs[0]] * length)
            continue
        columns = [x if isinstance(x, list) else [x] * length for x in xs]
        each = node.level > NODE and node.op.batch != "list"
        calls = list(zip(*columns, strict=True)) if each else [tuple(xs)]
        assert node.op.numpy is not None
        with np.errstate(all="ignore"):
            results = [np.asarray(y) for call in calls for y in each_of(node, node.op.numpy(*call, *node.attrs))]
        for y in results:
            assert y.shape == node.type.shape, f"{node}: {node.type}, the reference gives shape {y.shape}"
            assert y.dtype == node.type.dtype, f"{node}: {node.type}, the reference gives {y.dtype}"
        values.append(results if each or node.op.per_element else results[0])


def each_of(node: Node, y: Any) -> list[Any]:
    """What the reference of a node gives, as the values of the node."""
    return y if node.op.batch == "list" and node.op.per_element else [y]


# Derivatives.


def flat(x: Any) -> list[Array]:
    """An array or list of arrays as a list of arrays."""
    return x if isinstance(x, list) else [x]


def dot(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Sum of products of two nestings of arrays."""
    pairs = zip((e for x in a for e in flat(x)), (e for x in b for e in flat(x)), strict=True)
    return float(sum(np.sum(x * y) for x, y in pairs))


def differentiate(graph: Graph) -> tuple[Graph, list[int | None]]:
    """The graph of the cotangents of its floating rows, which reads the cotangents of its results as further rows;
    and for each operand the number of its result."""
    rows = {n.attrs[1]: i for i, n in enumerate(graph.nodes) if n.is_input and n.attrs[0] == "rows"}
    count = max(rows, default=-1) + 1
    wrt = [rows.get(k) for k in range(count)]
    floating = [i for i in wrt if i is not None and graph.nodes[i].type.dtype.kind == "f"]
    result = vjp(graph, floating)
    known = [i for i, c in zip(floating, result.cotangents, strict=True) if c is not None]
    new = Graph()
    number: list[int] = []
    for node in result.graph.nodes:
        attrs = ("rows", count + node.attrs[1]) if node.is_input and node.attrs[0] == "cotangent" else node.attrs
        number.append(new.add(node.op, tuple(number[j] for j in node.inputs), attrs, node.type, node.level))
    new.outputs = tuple(number[i] for i in result.graph.outputs)
    places = [known.index(i) if i in known else None for i in wrt]
    return new.check(), places


def cotangents_of(graph: Graph, operands: Sequence[Any], rng: np.random.Generator) -> list[Any]:
    """Random cotangents of the results of a graph."""
    results = interpret(graph, Values(operands))
    made: list[Any] = []
    for y in results:
        made.append([rng.normal(size=e.shape) for e in y] if isinstance(y, list) else rng.normal(size=y.shape))
    return made


def differences(graph: Graph, operands: Sequence[Any], cotangents: Sequence[Any], step: float = 3e-4) -> list[Any]:
    """Central differences of fourth order of the dot product of the results with their cotangents."""
    read = Values(
        [
            [e.copy() for e in x] if isinstance(x, list) else x.copy() if isinstance(x, np.ndarray) else x
            for x in operands
        ]
    )
    found: list[Any] = []
    for x in read.rows:
        parts = []
        for array in flat(x):
            slope = np.zeros(array.shape)
            for at in np.ndindex(array.shape if array.dtype.kind == "f" else (0,)):
                before = array[at]
                sums = []
                for k in (-2, -1, 1, 2):
                    array[at] = before + k * step
                    sums.append(dot(interpret(graph, read), cotangents))
                array[at] = before
                slope[at] = (sums[0] - 8 * sums[1] + 8 * sums[2] - sums[3]) / (12 * step)
            parts.append(slope)
        found.append(parts if isinstance(x, list) else parts[0])
    return found


def has_floats(operands: Sequence[Any]) -> bool:
    """Whether an operand can have a derivative."""
    return any(np.asarray(e).dtype.kind == "f" for x in Values(operands).rows for e in flat(x))


def check_vjp(graph: Graph, operands: Sequence[Any], order: int = 1) -> None:
    """Cotangents equal central differences, to the given order; the tolerance is that of the differences."""
    rng = np.random.default_rng(11)
    cotangents = cotangents_of(graph, operands, rng)
    assert has_floats(operands), "nothing to differentiate"
    reverse, places = differentiate(graph)
    together = [*operands, *cotangents]
    results = interpret(reverse, Values(together))
    wanted = differences(graph, operands, cotangents)
    for k, expected in enumerate(wanted):
        place = places[k] if k < len(places) else None
        for n, e in enumerate(flat(expected)):
            actual = np.zeros(e.shape) if place is None else flat(results[place])[n]
            assert actual.shape == e.shape
            close(actual, e, 1e-8, f"order {order}, operand {k}")
    if order > 1 and reverse.outputs:
        check_vjp(reverse, together, order - 1)


def close(a: Any, b: Any, tolerance: float, what: str = "", signs: bool = False) -> None:
    """|a - b| ≤ tolerance (1 + max |b|) where b is finite, equal elsewhere; `signs`: of zeros too."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape, f"{what}: shapes {a.shape} and {b.shape}"
    if b.dtype.kind != "f":
        assert a.dtype == b.dtype and np.array_equal(a, b), f"{what}:\n{a}\n{b}"
        return
    plain = np.isfinite(b)
    ordinary = plain & (np.abs(b) < 1e30)
    scale = 1.0 + float(np.max(np.abs(b), where=ordinary, initial=0.0))
    with np.errstate(all="ignore"):
        good = np.where(ordinary, np.abs(a - b) <= tolerance * scale, np.abs(a / b - 1) <= tolerance)
    good = np.where(plain, good, (a == b) | (np.isnan(a) & np.isnan(b)))
    assert good.all(), f"{what}:\n{a}\n{b}"
    if signs:
        zero = (a == 0) & (b == 0)
        assert np.array_equal(np.signbit(a)[zero], np.signbit(b)[zero]), f"{what}: signs of zero\n{a}\n{b}"


# Programs: an op recorded for several examples, run together and one by one.


def varied(x: Any, i: int, special: bool) -> Any:
    """Operand x of example i."""
    if isinstance(x, list):
        return [varied(e, i + k, special) for k, e in enumerate((x * 3)[: 1 + (i + 2) % 4])]
    if not isinstance(x, np.ndarray):
        return x if isinstance(x, int) else x + 0.01 * i
    if x.dtype.kind != "f":
        return x
    return np.roll(x, i) if special else (x * (1 + 0.03 * i)).astype(x.dtype)


def call(op: Op, operands: Sequence[Any], attrs: tuple[Any, ...]) -> Any:
    """Record one op."""
    kind = LIST_KINDS.get(op.name)
    if kind:
        return record_list(kind, operands[0])
    if op.batch == "list":  # of the rows of a matrix
        rows = ab.stack(operands[0])
        of_axes, more = OF_AXES[op], attrs[1:]
        attrs = (-rows.ndim, *more) if op.per_element or op.name == "list_logsumexp" else ((-rows.ndim,), False, *more)
        return apply(of_axes, (rows,), attrs)
    return apply(op, tuple(operands), attrs)


@dataclass
class Outcome:
    """Values of the examples and gradients of their operands."""

    values: list[Array]
    gradients: list[Any]


def outcome(op: Op, sample: Sample, m: int, shared: Sequence[bool], batched: bool, dtype: Any) -> Outcome:
    """Run an op for m examples; operands marked in `shared` are parameters, the others are looked up or given."""
    special = not sample.smooth
    rng = np.random.default_rng(3)
    tables: list[Any] = []
    for x, flag in zip(sample.operands, shared, strict=True):
        x = converted(x, dtype)
        if isinstance(x, list):
            n = sum(len(varied(x, i, special)) for i in range(m))
            tables.append(ab.Parameter(np.stack([varied(x[0], i, special) for i in range(n)]), dtype) if n else None)
        elif isinstance(x, np.ndarray) and x.dtype.kind == "f":
            rows = x if flag else np.stack([varied(x, i, special) for i in range(max(m, 1))])
            tables.append(ab.Parameter(rows, dtype))
        elif isinstance(x, np.ndarray):
            tables.append(ab.constant(x) if flag else x)
        else:
            tables.append(x)

    def one(i: int) -> Any:
        operands = []
        for x, table, flag in zip(sample.operands, tables, shared, strict=True):
            if isinstance(x, list):
                first = sum(len(varied(x, j, special)) for j in range(i))
                operands.append([table[first + k] for k in range(len(varied(x, i, special)))])
            elif isinstance(table, ab.Parameter):
                operands.append(table if flag else table[i])
            else:
                operands.append(
                    varied(x, i, special) if not isinstance(x, np.ndarray) else ab.tensor(table) if not flag else table
                )
        y = call(op, operands, sample.attrs)
        if y.dtype.kind != "f":
            return y, None
        weight = ab.tensor(rng.normal(size=y.shape), y.dtype)
        return y, (y * weight).astype(dtype).sum()

    results = ab.map(one, range(m), batched=batched)
    losses = [loss for _, loss in results if loss is not None]
    values = [np.asarray(v) for v in ab.evaluate([y for y, _ in results])]
    if losses:
        (ab.sum(losses) + ab.Parameter(0.0)).backward()  # some ops pass no gradient on
    gradients = []
    for p in tables:
        g = p.grad if isinstance(p, ab.Parameter) else None
        dense = host(g)
        gradients.append(np.zeros(p.shape, p.dtype) if dense is None and isinstance(p, ab.Parameter) else dense)
    return Outcome(values, gradients)


def check_batched(op: Op, sample: Sample, m: int, shared: Sequence[bool], dtype: Any, backend: str) -> None:
    """Values and gradients of m examples run together equal those of the loop."""
    dtype = np.dtype(dtype)
    with default(dtype), ab.backend(backend):
        together = outcome(op, sample, m, shared, True, dtype)
        alone = outcome(op, sample, m, shared, False, dtype)
    assert len(together.values) == len(alone.values) == m
    # Loops of numba may drop the sign of a zero, and a sum over a list starts from +0.
    signs = backend == "numpy" and op.name not in ("list_sum", "list_mean")
    for i, (a, b) in enumerate(zip(together.values, alone.values, strict=True)):
        assert a.dtype == b.dtype
        close(a, b, VALUES[dtype], f"example {i}", signs)
    if any(shared) and not sample.smooth:
        return  # summed over the nodes in another order, inf - inf may come out as inf
    for k, (a, b) in enumerate(zip(together.gradients, alone.gradients, strict=True)):
        if b is not None:
            close(a, b, GRADIENTS[dtype], f"gradient of operand {k}")


def masks(sample: Sample) -> list[tuple[bool, ...]]:
    """Which operands are shared: none, each of the arrays alone, all arrays."""
    arrays = [isinstance(x, np.ndarray) for x in sample.operands]
    none = tuple(False for _ in arrays)
    found = [none]
    for k, is_array in enumerate(arrays):
        if is_array:
            found.append(tuple(j == k for j in range(len(arrays))))
    if sum(arrays) > 1:
        found.append(tuple(arrays))
    return found
