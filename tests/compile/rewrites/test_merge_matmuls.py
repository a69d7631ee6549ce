"""Matmuls of one launch merged: graphs before and after, as text, and with the values they had."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autobatch.base.types import Dim
from autobatch.compile.rewrites import merge_matmuls as stage
from autobatch.compile.rewrites.merge_matmuls import COLUMNS, merge_matmuls
from autobatch.ir.graph import INPUT, Graph
from autobatch.ops import elementwise as e
from autobatch.ops.linalg import PRODUCT
from tests.compile.by_hand import Build, by_numpy, resolve

M = Dim(0)


def check(graph: Graph) -> Graph:
    found, rng = merge_matmuls(graph), np.random.default_rng(0)
    values: dict[Any, Any] = {
        node.attrs: rng.normal(size=resolve(node.type.shape, (5,))) for node in graph.nodes if node.op is INPUT
    }
    of_both = [by_numpy(x, (5,), [values[n.attrs] for n in x.nodes if n.op is INPUT]) for x in (found, graph)]
    for a, b in zip(*of_both, strict=True):
        np.testing.assert_allclose(a, b, 1e-5, 1e-5)
    return found


def a_sum(columns: int = COLUMNS) -> Graph:
    b = Build(np.float64)
    x, h = b.input("rows", 0, M, 3), b.input("rows", 1, M, 4)
    u, v = b.input("shared", 0, 3, columns), b.input("shared", 1, 4, columns)
    return b.out(b.op(e.ADD, b.op(PRODUCT, x, u), b.op(PRODUCT, h, v)))


def test_terms_of_a_sum() -> None:
    operands = [node.op.name for node in check(a_sum()).nodes]
    assert operands == ["input", "input", "input", "input", "concat", "concat", PRODUCT.name]


def test_one_operand_and_two_weights() -> None:
    b = Build(np.float64)
    x, u, v = b.input("rows", 0, M, 3), b.input("shared", 0, 3, 8), b.input("shared", 1, 3, 16)
    found = check(b.out(b.op(PRODUCT, x, u), b.op(PRODUCT, x, v)))
    operands = [node.op.name for node in found.nodes]
    assert operands == ["input", "input", "input", "concat", PRODUCT.name, "slice", "slice"]
    assert [node.attrs for node in found.nodes[-2:]] == [(-1, 0, 8, 1), (-1, 8, 16, 1)]


def test_what_does_not_pay_stays() -> None:
    graph = a_sum(COLUMNS - 1)
    assert merge_matmuls(graph).key() == graph.key()
    b = Build()
    x, h, u = b.input("rows", 0, M, 8), b.input("rows", 1, M, 8), b.input("shared", 0, 8, 8)
    graph = b.out(b.op(PRODUCT, x, u), b.op(PRODUCT, h, u))  # another operand
    assert merge_matmuls(graph).key() == graph.key()


def test_a_sabotaged_concat_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = stage._Merger.side_by_side
    b = Build(np.float64)
    x, u, v = b.input("rows", 0, M, 3), b.input("shared", 0, 3, 8), b.input("shared", 1, 3, 8)
    graph = b.out(b.op(PRODUCT, x, u), b.op(PRODUCT, x, v))
    monkeypatch.setattr(stage._Merger, "side_by_side", lambda self, xs, axis: right(self, xs[::-1], axis))
    with pytest.raises(AssertionError):
        check(graph)
