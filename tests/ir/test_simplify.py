"""Graphs with fewer moves: before and after, as text, and with the values they had."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from autobatch.base.types import Dim
from autobatch.ir import simplify as stage
from autobatch.ir.graph import Graph
from autobatch.ir.interpret import interpret
from autobatch.ir.simplify import simplify
from autobatch.ops.linalg import PRODUCT
from autobatch.ops.movement import RESHAPE, TRANSPOSE
from tests.compile.by_hand import Build

TURN = ((1, 0),)


def check(graph: Graph, expected: str) -> None:
    found, number = simplify(graph)
    assert [number[i] for i in graph.outputs] == list(found.outputs)
    assert str(found.pruned().check()) == dedent(expected).strip()
    rng = np.random.default_rng(0)
    rows = {k: rng.normal(size=type.shape).astype(type.dtype) for k, type in graph.types("rows").items()}
    for g, wanted in zip(interpret(found, lambda _, k: rows[k]), interpret(graph, lambda _, k: rows[k]), strict=True):
        np.testing.assert_allclose(g, wanted, 1e-6)


def test_reshapes() -> None:
    b = Build()
    x = b.input("rows", 0, 2, 3)
    flat = b.op(RESHAPE, x, attrs=((6,),))
    expected = """
        %0 = rows(0)                 f32[2, 3]
        %1 = reshape(%0, (1, 3, 2))  f32[1, 3, 2]
        return %1, %0
        """
    check(b.out(b.op(RESHAPE, flat, attrs=((1, 3, 2),)), b.op(RESHAPE, flat, attrs=((2, 3),))), expected)


def test_transposes() -> None:
    b = Build()
    x = b.input("rows", 0, 2, 3, 4)
    transposed = b.op(TRANSPOSE, x, attrs=((1, 2, 0),))
    expected = """
        %0 = rows(0)                   f32[2, 3, 4]
        %1 = transpose(%0, (2, 0, 1))  f32[4, 2, 3]
        return %1, %0
        """
    twice = b.op(TRANSPOSE, transposed, attrs=((1, 2, 0),))
    check(b.out(twice, b.op(TRANSPOSE, twice, attrs=((1, 2, 0),))), expected)


def transposed_product() -> Graph:
    b = Build()
    x, y = b.input("rows", 0, 3, 3), b.input("rows", 1, 3, 3)
    return b.out(b.op(TRANSPOSE, b.op(PRODUCT, b.op(TRANSPOSE, x, attrs=TURN), y), attrs=TURN))


PRODUCT_OF_TRANSPOSES = """
    %0 = rows(0)                f32[3, 3]
    %1 = rows(1)                f32[3, 3]
    %2 = transpose(%1, (1, 0))  f32[3, 3]
    %3 = NAME(%2, %0)        f32[3, 3]
    return %3
    """.replace("NAME", PRODUCT.name)


def test_the_transpose_of_a_product() -> None:
    check(transposed_product(), PRODUCT_OF_TRANSPOSES)


def test_a_product_with_a_row_for_each_node_stays() -> None:
    b = Build()
    x, w = b.input("rows", 0, Dim(0), 3), b.input("shared", 0, 3, 4)
    graph = b.out(b.op(TRANSPOSE, b.op(PRODUCT, x, w), attrs=TURN))
    assert simplify(graph)[0].key() == graph.key()


def test_a_sabotaged_rule_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: Callable[..., Any] = lambda graph, source, level: source  # noqa: E731
    monkeypatch.setattr(stage, "_flip", wrong)
    with pytest.raises(AssertionError):
        check(transposed_product(), str(simplify(transposed_product())[0].pruned()))
