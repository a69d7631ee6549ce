"""Cotangents, written behind the graph that they are of: as text, and beside central differences."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from autobatch.base.types import tensor_type
from autobatch.ir import vjp as stage
from autobatch.ir.graph import SHARED, Graph
from autobatch.ir.interpret import interpret
from autobatch.ir.trace import Builder
from autobatch.ir.vjp import differentiable, sum_of_scatters, vjp
from autobatch.ops.declare import apply
from autobatch.ops.elementwise import STOP_GRADIENT
from autobatch.ops.functions import tanh
from autobatch.ops.movement import CONCAT

Fn = Callable[..., Any]


def traced(fn: Fn, *shapes: tuple[int, ...]) -> Graph:
    builder = Builder()
    operands = [builder.input("rows", k, tensor_type("float64", shape)) for k, shape in enumerate(shapes)]
    return builder.finish([fn(*operands)])


def derivative(graph: Graph) -> Graph:
    return vjp(graph, differentiable(graph, ())).graph.pruned()


def check(graph: Graph) -> None:
    """Hold the cotangents of all operands equal to central differences."""
    rng = np.random.default_rng(0)
    rows = {k: rng.normal(size=type.shape) for k, type in graph.types("rows").items()}
    seed = rng.normal(size=graph.nodes[graph.outputs[0]].type.shape)

    def value() -> float:
        return float((interpret(graph, lambda _, k: rows[k])[0] * seed).sum())

    found = interpret(derivative(graph), lambda kind, k: seed if kind == "cotangent" else rows[k])
    for x, g in zip(rows.values(), found, strict=True):
        assert g.shape == x.shape
        for place in np.ndindex(x.shape):
            before = x[place]
            x[place] = before + 1e-6
            above = value()
            x[place] = before - 1e-6
            wanted = (above - value()) / 2e-6
            x[place] = before
            np.testing.assert_allclose(g[place], wanted, 1e-6, 1e-6)


def test_the_derivative_of_a_product() -> None:
    expected = """
        %0 = rows(0)       f64[3]
        %1 = rows(1)       f64[3]
        %2 = cotangent(0)  f64[3]
        %3 = mul(%2, %1)   f64[3]
        %4 = mul(%2, %0)   f64[3]
        return %3, %4
        """
    assert str(derivative(traced(lambda x, y: x * y, (3,), (3,)))) == dedent(expected).strip()


PROGRAMS: dict[str, tuple[Fn, tuple[tuple[int, ...], ...]]] = {
    "an operand read twice": (lambda x: x * tanh(x), ((3,),)),
    "operands of unequal shapes": (lambda x, y, z: x * y + z, ((2, 3), (3,), ())),
    "slices that share an element": (lambda x: x[0:3] * x[2:5] + x[1:4], ((6,),)),
    "slices side by side": (lambda x: x[0:2] * x[3:5], ((6,),)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_equals_differences(name: str) -> None:
    fn, shapes = PROGRAMS[name]
    check(traced(fn, *shapes))


def test_cotangents_of_slices_become_one_concat() -> None:
    nodes = derivative(traced(*PROGRAMS["slices side by side"][:1], (6,))).nodes
    assert [node.op.name for node in nodes].count(CONCAT.name) == 1
    assert "add" not in {node.op.name for node in nodes}


def test_what_has_no_derivative_has_no_cotangent() -> None:
    graph = traced(lambda x, y: apply(STOP_GRADIENT, (x,)) * y, (3,), (3,))
    first, second = vjp(graph, differentiable(graph, ())).cotangents
    assert first is None and second is not None


def test_the_cotangent_of_a_table_is_a_sum_of_scatters() -> None:
    builder = Builder()
    table = builder.input("shared", 0, tensor_type("float64", (5, 2)), SHARED)
    i, j = (builder.input("data", k, tensor_type("int64", ())) for k in range(2))
    graph = builder.finish([table[i] * table[j]])
    assert differentiable(graph, {0}) == [0] and differentiable(graph, ()) == []
    result = vjp(graph, [0])
    assert len(sum_of_scatters(result.graph, result.cotangents[0] or 0) or ()) == 2
    assert sum_of_scatters(graph, graph.outputs[0]) is None


def forget(sums: Any, i: int, part: Any) -> None:
    sums.parts[i] = sums.fit(part, sums.forward[i])


@pytest.mark.parametrize(
    ("method", "wrong", "name"),
    [
        ("add", forget, "an operand read twice"),
        ("fit", lambda sums, g, value: g, "operands of unequal shapes"),
        ("has", lambda sums, i: i in sums.parts, "slices side by side"),
    ],
)
def test_a_sabotaged_sum_is_found(method: str, wrong: Fn, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage._Sums, method, wrong)
    fn, shapes = PROGRAMS[name]
    with pytest.raises((AssertionError, ValueError)):
        check(traced(fn, *shapes))


def test_an_empty_slice_beside_another_one() -> None:
    """Cotangents of slices are joined in order, an empty one before what begins at the same place."""
    builder = Builder()
    x = builder.input("rows", 0, tensor_type("float64", (6,)))
    graph = builder.finish([(x[3:6] * x[0:3]).sum() + (x[3:3] * 2.0).sum()])
    result = vjp(graph, [0])
    assert result.cotangents[0] is not None
    assert result.graph.nodes[result.cotangents[0]].type.shape == (6,)
