"""Graphs of one row: as text, beside the graph of the matrices, and where rows are mixed."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.base.types import tensor_type
from autobatch.ir.by_rows import LEVEL, by_rows
from autobatch.ir.graph import SHARED, Graph
from autobatch.ir.interpret import interpret
from autobatch.ir.trace import Builder

Fn = Callable[..., Any]

ROW_BY_ROW: dict[str, Fn] = {
    "elementwise": lambda x, y, v, w: ab.tanh(x) * y + v - 0.5,
    "with one row": lambda x, y, v, w: x * v[None] + ab.where(x > 0, y, v[None]),
    "matmul": lambda x, y, v, w: (x @ w.T) @ w,
    "matrices of rows": lambda x, y, v, w: ab.reshape(x, (-1, 2, 2)) @ ab.reshape(y, (-1, 2, 2)),
    "columns": lambda x, y, v, w: ab.concat([part * y[:, :2] for part in ab.split(x, 2, axis=1)], axis=1),
    "softmax": lambda x, y, v, w: ab.softmax(x + y, axis=-1) / ab.max(y, axis=1, keepdims=True),
    "norm": lambda x, y, v, w: ab.layer_norm(x, v, v),
    "sum of rows": lambda x, y, v, w: ab.sum(x * y, axis=0) + v,
    "of all": lambda x, y, v, w: ab.sum(x @ w.T) * v,
    "kept axis": lambda x, y, v, w: x - ab.max(x * y, axis=0, keepdims=True),
    "permuted": lambda x, y, v, w: ab.sum(ab.transpose(ab.reshape(x, (-1, 2, 2)), (0, 2, 1)), axis=1),
}

MIXING: dict[str, Fn] = {
    "transpose": lambda x, y, v, w: x.T,
    "matmul of rows": lambda x, y, v, w: x @ y.T,
    "slice": lambda x, y, v, w: x[1:],
    "pick": lambda x, y, v, w: x[0],
    "concat": lambda x, y, v, w: ab.concat([x, y]),
    "reshape": lambda x, y, v, w: ab.reshape(x, (4, -1)),
    "softmax": lambda x, y, v, w: ab.sum(ab.transpose(x), axis=0),
}


def traced(fn: Fn, n: int) -> Graph:
    builder = Builder()
    operands = [
        builder.input("rows", k, tensor_type("float64", shape)) for k, shape in enumerate(((n, 4), (n, 4), (4,)))
    ]
    weight = builder.input("shared", 0, tensor_type("float64", (3, 4)), SHARED)
    return builder.finish([fn(*operands, weight)])


def test_the_graph_of_one_row() -> None:
    graph = by_rows(traced(lambda x, y, v, w: ab.sum(ab.tanh(x) * v, axis=0), 7), {0})
    expected = """
        %0 = rows(0)          f64[4] each of list 1
        %1 = rows(2)          f64[4]
        %2 = tanh(%0)         f64[4] each of list 1
        %3 = mul(%2, %1)      f64[4] each of list 1
        %4 = list_sum(%3, 1)  f64[4]
        return %4"""
    assert str(graph) == dedent(expected).strip()


@pytest.mark.parametrize("name", ROW_BY_ROW)
def test_it_computes_what_that_of_the_matrices_does(name: str) -> None:
    of_rows = [by_rows(traced(ROW_BY_ROW[name], n), {0, 1}) for n in (1, 2, 3)]
    assert all(graph is not None for graph in of_rows)
    assert len({graph.key() for graph in of_rows if graph}) == 1
    for n in (1, 3):
        rng = np.random.default_rng(n)
        x, y, v, w = (rng.normal(size=shape) for shape in ((n, 4), (n, 4), (4,), (3, 4)))
        wanted = interpret(
            traced(ROW_BY_ROW[name], n), lambda kind, k, of=(x, y, v, w): of[3 if kind == "shared" else k]
        )
        graph = of_rows[0]
        assert graph is not None
        rows = (list(x), list(y), v, w)
        found = interpret(graph, lambda kind, k, of=rows: of[3 if kind == "shared" else k])
        assert (graph.nodes[graph.outputs[0]].level == LEVEL) is isinstance(found[0], list)
        np.testing.assert_allclose(np.array(found[0]), wanted[0], 1e-12, 1e-12)


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_rows_has_none(name: str) -> None:
    assert by_rows(traced(MIXING[name], 2), {0, 1}) is None


def test_a_number_of_rows_that_is_computed_with_tells_lengths_apart() -> None:
    graphs = [by_rows(traced(lambda x, y, v, w: x * (1.0 / x.shape[0]), n), {0, 1}) for n in (2, 3)]
    assert graphs[0] is not None and graphs[1] is not None
    assert graphs[0].key() != graphs[1].key()
