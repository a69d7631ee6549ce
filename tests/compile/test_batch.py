"""Graphs of one example and of a whole launch: as text, and with the same values."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from autobatch.base.types import Dim, tensor_type
from autobatch.compile import batch as stage
from autobatch.compile.batch import batch
from autobatch.ir.graph import INPUT, SHARED, Graph
from autobatch.ir.interpret import interpret
from autobatch.ir.trace import Builder
from autobatch.ops.declare import apply
from autobatch.ops.functions import tanh
from autobatch.ops.movement import broadcast_to
from autobatch.ops.reduce import LIST_MAX, LIST_SUM
from tests.compile.by_hand import by_numpy


def traced(fn: Callable[..., Any]) -> Graph:
    """fn(x, element, w, i) of a row, an element of a list, shared numbers and a datum."""
    builder = Builder()
    x = builder.input("rows", 0, tensor_type("float64", (3,)))
    element = builder.input("rows", 1, tensor_type("float64", (3,)), 1)
    w = builder.input("shared", 0, tensor_type("float64", (2, 3)), SHARED)
    return builder.finish([fn(x, element, w, builder.input("data", 0, tensor_type("int64", ())))])


def check(graph: Graph, lengths: tuple[int, ...] = (2, 1, 3)) -> None:
    """Hold the launch of three nodes equal to the interpreter, node by node."""
    rng = np.random.default_rng(0)
    n, bounds = len(lengths), np.cumsum([0, *lengths])
    w, data = rng.normal(size=(2, 3)), rng.integers(0, 2, n)
    rows = [rng.normal(size=(count, 3)) for count in (n, bounds[-1])]
    segments = np.repeat(np.arange(n), lengths)
    of_all: dict[str, Any] = {"shared": w, "data": data, "segments": segments, "lengths": np.array(lengths)}
    batched = batch(graph).check()
    operands = [node.attrs for node in batched.nodes if node.op is INPUT]
    values = [rows[k] if kind == "rows" else of_all[kind] for kind, k in operands]
    (found,) = by_numpy(batched, (n, int(bounds[-1])), values)
    for node in range(n):
        elements = list(rows[1][bounds[node] : bounds[node + 1]])
        of_one = {"shared": w, "data": data[node], "lengths": len(elements)}
        own = (rows[0][node], elements)
        (wanted,) = interpret(graph, lambda kind, k, own=own, of=of_one: own[k] if kind == "rows" else of[kind])
        np.testing.assert_allclose(found[node], wanted, 1e-12)


def total(element: Any) -> Any:
    return apply(LIST_SUM, (element,), (1,))


PROGRAMS: dict[str, Callable[..., Any]] = {
    "rows and shared numbers": lambda x, element, w, i: tanh(x + w.sum(axis=0)),
    "a matmul with weights": lambda x, element, w, i: w @ x,
    "a lookup": lambda x, element, w, i: w[i] * x,
    "a sum over a list": lambda x, element, w, i: x + total(element * x),
    "a maximum over a list": lambda x, element, w, i: apply(LIST_MAX, (tanh(element),), (1,)) + x,
    "a reduction of an axis": lambda x, element, w, i: (w * x).sum(axis=0),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_equals_the_interpreter(name: str) -> None:
    check(traced(PROGRAMS[name]))


def test_a_sum_over_no_elements() -> None:
    check(traced(PROGRAMS["a sum over a list"]), (2, 0, 3))


def test_what_differs_from_node_to_node_gets_a_leading_axis() -> None:
    expected = """
        %0 = rows(0)                f64[m, 3]
        %1 = shared(0)              f64[2, 3]
        %2 = sum(%1, (-2,), False)  f64[3]
        %3 = add(%0, %2)            f64[m, 3]
        %4 = tanh(%3)               f64[m, 3]
        return %4
        """
    assert str(batch(traced(PROGRAMS["rows and shared numbers"]))) == dedent(expected).strip()


def test_elements_are_added_by_the_numbers_of_their_nodes() -> None:
    expected = """
        %0 = rows(0)                 f64[m, 3]
        %1 = rows(1)                 f64[n1, 3]
        %2 = segments(1)             i64[n1]
        %3 = take(%0, %2)            f64[n1, 3]
        %4 = mul(%1, %3)             f64[n1, 3]
        %5 = scatter_add(%4, %2, m)  f64[m, 3]
        return %5
        """
    assert str(batch(traced(lambda x, element, w, i: total(element * x)))) == dedent(expected).strip()


def test_a_sabotaged_rule_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_row(self: Any, node: Any, xs: Any, lead: int) -> Any:
        return stage._Value(broadcast_to(xs[0].tracer[0], (Dim(lead), 3)), lead)

    monkeypatch.setattr(stage._Batcher, "take", first_row)
    with pytest.raises(AssertionError):
        check(traced(PROGRAMS["a lookup"]))
