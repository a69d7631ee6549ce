"""Rows that are part of a concat: matmuls read them from the concat, whatever the order of the ops and the axis."""

from __future__ import annotations

import pytest

from autobatch.compile.rewrites.forward_concats import forward_concats
from autobatch.compile.split import split
from autobatch.ir.graph import Graph
from autobatch.ops import elementwise as e
from autobatch.ops import functions as fn
from autobatch.ops.linalg import PRODUCT
from autobatch.ops.movement import CONCAT, SLICE, TRANSPOSE
from tests.compile.host.test_lower import Build, M, check


def compose(late: bool) -> Graph:
    """Two matmuls of rows and one of their concat, which is recorded first or last."""
    b = Build()
    x, y = b.input("rows", 0, M, 4), b.input("rows", 1, M, 4)
    v, w = b.input("shared", 0, 4, 8), b.input("shared", 1, 8, 8)
    both = b.op(CONCAT, x, y, attrs=(-1,)) if not late else -1
    parts = [b.op(PRODUCT, x, v), b.op(PRODUCT, y, v)]
    both = b.op(CONCAT, x, y, attrs=(-1,)) if late else both
    total = b.op(e.ADD, b.op(fn.TANH, b.op(PRODUCT, both, w)), b.op(e.MUL, *parts))
    return b.out(total)


def operands(graph: Graph) -> list[str]:
    return [graph.nodes[node.inputs[0]].op.name for node in graph.nodes if node.op is PRODUCT]


@pytest.mark.parametrize("late", [False, True])
def test_matmuls_read_slices(late: bool) -> None:
    graph = compose(late)
    found = forward_concats(graph)[0].check()
    assert sorted(operands(found)) == ["concat", "slice", "slice"]
    assert sum(node.op is CONCAT for node in found.nodes) == 1
    assert [node.attrs[1] for node in found.nodes if node.op is SLICE] == [0, 4]
    check(graph)


def test_what_is_computed_from_rows_alone_reads_rows() -> None:
    found = forward_concats(compose(True))[0]
    b = Build()
    x, y = b.input("rows", 0, M, 4), b.input("rows", 1, M, 4)
    graph = b.out(b.op(CONCAT, b.op(fn.TANH, x), y, attrs=(-1,)), b.op(fn.TANH, x))
    assert forward_concats(graph)[0].key() == graph.key()
    assert forward_concats(found)[0].key() == found.key()


def test_a_concat_of_the_matmul_is_not_read_by_it() -> None:
    b = Build()
    x, v = b.input("rows", 0, M, 4), b.input("shared", 0, 4, 4)
    graph = b.out(b.op(CONCAT, x, b.op(PRODUCT, x, v), attrs=(-1,)))
    assert forward_concats(graph)[0].key() == graph.key()
    check(graph)


def test_matrices_one_above_the_other() -> None:
    b = Build()
    x, y, a = b.input("rows", 0, M, 3, 4), b.input("rows", 1, M, 3, 4), b.input("rows", 2, M, 4, 1)
    w = b.input("shared", 0, 5, 6)
    both = b.op(CONCAT, x, y, attrs=(-2,))
    transposed = b.op(TRANSPOSE, y, attrs=((0, 2, 1),))
    graph = b.out(b.op(PRODUCT, w, both), b.op(PRODUCT, x, a), b.op(PRODUCT, transposed, b.op(PRODUCT, y, a)))
    assert "slice" in operands(forward_concats(graph)[0])
    check(graph)


def test_the_concat_is_the_only_residual() -> None:
    pieces = split(compose(True), {0, 1})
    assert len([t for t in pieces.residuals if t.shape == (M, 8)]) >= 1
    assert not [t for t in pieces.residuals if t.shape == (M, 4)]
    assert [node.op is SLICE for node in pieces.final.nodes].count(True) == 2
    assert not [n for n in pieces.backward.nodes if n.is_input and n.attrs[0] == "rows"]
