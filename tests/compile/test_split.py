"""The pieces of a kernel: what each of them makes, and that together they make what the derivative makes."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from autobatch.base.types import Dim, tensor_type
from autobatch.compile import split as stage
from autobatch.compile.batch import batch
from autobatch.compile.split import split
from autobatch.ir.graph import INPUT, SHARED, Graph
from autobatch.ir.trace import Builder
from autobatch.ir.vjp import differentiable, vjp
from autobatch.ops import functions as fn
from autobatch.ops.linalg import PRODUCT
from tests.compile.by_hand import Build, by_numpy, resolve

SIZES = (5,)


def traced(fn: Callable[..., Any]) -> Graph:
    """The batched graph of fn(x, w, i, j) of a row, shared numbers and two indices."""
    builder = Builder()
    x = builder.input("rows", 0, tensor_type("float64", (3,)))
    w = builder.input("shared", 0, tensor_type("float64", (3, 3)), SHARED)
    indices = [builder.input("data", k, tensor_type("int64", ())) for k in range(2)]
    return batch(builder.finish([fn(x, w, *indices)]))


def run(graph: Graph, operands: dict[Any, Any]) -> list[Any]:
    return by_numpy(graph, SIZES, [operands[node.attrs] for node in graph.nodes if node.op is INPUT])


def check(graph: Graph) -> None:
    """Hold what the pieces make equal to what the derivative of the whole graph makes."""
    rng = np.random.default_rng(0)
    wrt = differentiable(graph, {0})
    result = vjp(graph, wrt)
    operands: dict[Any, Any] = {}
    for node in [*graph.nodes, *result.graph.nodes]:
        if node.op is INPUT:
            shape = resolve(node.type.shape, SIZES)
            is_index = node.type.dtype.kind == "i"
            operands.setdefault(node.attrs, rng.integers(0, 3, shape) if is_index else rng.normal(size=shape))
    wanted = dict(zip([graph.nodes[i].attrs for i in wrt], run(result.graph, operands), strict=True))

    pieces = split(graph, {0})
    n = len(graph.outputs)
    results = run(pieces.forward, operands)
    np.testing.assert_array_equal(results[:n], run(graph, operands))
    operands.update((("residual", k), value) for k, value in enumerate(results[n:]))
    results = run(pieces.backward, operands)
    found = {("rows", k): results[at] for at, k in enumerate(pieces.slots)}
    residuals = results[len(pieces.slots) :]
    operands.update((("residual", pieces.n_forward_residuals + k), value) for k, value in enumerate(residuals))
    found |= {("shared", k): g for k, g in zip(pieces.dense, run(pieces.final, operands), strict=True)}
    for k, rows in pieces.sparse:
        table = found.setdefault(("shared", k), np.zeros((3, 3)))
        np.add.at(table, operands["residual", rows.ids], operands["residual", rows.rows])
    assert found.keys() == wanted.keys()
    for operand, g in wanted.items():
        np.testing.assert_allclose(found[operand], g, 1e-12)


PROGRAMS: dict[str, Callable[..., Any]] = {
    "a layer": lambda x, w, i, j: fn.tanh(w @ x),
    "two layers": lambda x, w, i, j: fn.tanh(w @ fn.tanh(w @ x)) * x,
    "lookups": lambda x, w, i, j: w[i] * w[j] * x,
    "a table that is read whole, too": lambda x, w, i, j: w[i] * (w @ x),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_pieces_make_the_derivative(name: str) -> None:
    check(traced(PROGRAMS[name]))


def test_gradients_of_lookups_stay_rows() -> None:
    pieces = split(traced(PROGRAMS["lookups"]), {0})
    assert not pieces.dense and [k for k, _ in pieces.sparse] == [0, 0]
    assert split(traced(PROGRAMS["a table that is read whole, too"]), {0}).dense == [0]


def test_the_gradient_of_weights_is_one_matmul_over_all_launches() -> None:
    b = Build()
    x, w = b.input("rows", 0, Dim(0), 3), b.input("shared", 0, 3, 4)
    pieces = split(b.out(b.op(fn.TANH, b.op(PRODUCT, x, w))), {0})
    expected = """
        %0 = residual(0)            f32[m, 3]
        %1 = residual(2)            f32[m, 4]
        %2 = transpose(%0, (1, 0))  f32[3, m]
        %3 = NAME(%2, %1)        f32[3, 4]
        return %3
        """.replace("NAME", PRODUCT.name)
    assert str(pieces.final) == dedent(expected).strip()
    assert (pieces.slots, pieces.dense, pieces.n_forward_residuals) == ([0], [0], 2)


def test_a_sabotaged_sum_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = stage.sum_of_scatters  # type: ignore[attr-defined]
    monkeypatch.setattr(stage, "sum_of_scatters", lambda graph, i: (right(graph, i) or [])[:1] or None)
    with pytest.raises(AssertionError):
        check(traced(PROGRAMS["lookups"]))
