"""Matmuls with one matrix for each node, read and written where the matrices lie: graphs after, as text.

That kernels of such graphs have the values of the graphs before is held in `tests/compile/host/test_lower.py`.
"""

from __future__ import annotations

from textwrap import dedent

import pytest

from autobatch.base.types import Dim
from autobatch.compile.rewrites import in_place_matmuls as stage
from autobatch.compile.rewrites.in_place_matmuls import matmuls_in_place
from autobatch.ir.graph import Graph
from autobatch.ops.linalg import PRODUCT
from autobatch.ops.movement import CONCAT, RESHAPE, TRANSPOSE
from tests.compile.by_hand import Build

M = Dim(0)


def product_with_concat(columns: int = 16) -> Graph:
    b = Build()
    x, y, w = b.input("rows", 0, M, 4, columns), b.input("rows", 1, M, 4, columns), b.input("shared", 0, 3, 8)
    return b.out(b.op(PRODUCT, w, b.op(CONCAT, x, y, attrs=(-2,))))


PARTS = """
    %0 = rows(0)                  f32[m, 4, 16]
    %1 = rows(1)                  f32[m, 4, 16]
    %2 = shared(0)                f32[3, 8]
    %3 = slice(%2, -1, 0, 4, 1)   f32[3, 4]
    %4 = slice(%2, -1, 4, 4, 1)   f32[3, 4]
    %5 = stacked(%3, %0, %4, %1)  f32[m, 3, 16]
    return %5
    """


def test_a_concat_is_not_made() -> None:
    assert str(matmuls_in_place(product_with_concat(), (False,))) == dedent(PARTS).strip()


def test_narrow_matrices_stay() -> None:
    graph = product_with_concat(8)
    found = matmuls_in_place(graph, (False,))
    assert [node.op for node in found.nodes] == [node.op for node in graph.nodes]


def test_a_sum_over_all_nodes_reads_pools() -> None:
    b = Build()
    operands = b.input("reverse", 0, M, 3, 16), b.input("rows", 0, M, 4, 16)
    transposed = [b.op(TRANSPOSE, i, attrs=((0, 2, 1),)) for i in operands]
    left, right = (b.op(RESHAPE, i, attrs=((M * 16, n),)) for i, n in zip(transposed, (3, 4), strict=True))
    expected = """
        %0 = reverse(0)      f32[m, 3, 16]
        %1 = rows(0)         f32[m, 4, 16]
        %2 = summed(%0, %1)  f32[3, 4]
        return %2
        """
    graph = b.out(b.op(PRODUCT, b.op(TRANSPOSE, left, attrs=((1, 0),)), right))
    assert str(matmuls_in_place(graph, (False,))) == dedent(expected).strip()


def test_a_sabotaged_part_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = stage._Stacker.part
    monkeypatch.setattr(stage._Stacker, "part", lambda self, x, axis, start, n: right(self, x, axis, 0, n))
    with pytest.raises(AssertionError):
        test_a_concat_is_not_made()
