"""Graphs by hand: what samples and random graphs are too small for, or do not have."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from autobatch.base.types import Dim
from autobatch.compile.cuda import loops
from autobatch.compile.cuda.scalars import elementwise
from autobatch.compile.cuda.writer import Writer
from autobatch.ir.graph import INPUT, Graph
from autobatch.ops import elementwise as e
from autobatch.ops import functions as fn
from autobatch.ops.index import ARANGE, BOUNDED, SCATTER_ADD, TAKE
from autobatch.ops.linalg import PRODUCT
from autobatch.ops.movement import BROADCAST, CONCAT, RESHAPE, SLICE, TRANSPOSE, UNSLICE
from autobatch.ops.reduce import MAX, SEGMENT_MAX, SUM
from tests.compile.by_hand import Build
from tests.compile.cuda.agreement import Agreement, Sizes, at, resolve
from tests.stand_in import kernels
from tests.stand_in.device import StandIn
from tests.stand_in.device import at as memory

pytestmark = pytest.mark.skipif(bool(kernels.MISSING), reason=kernels.MISSING)
M, N = Dim(0), Dim(1)
INT64 = np.dtype(np.int64)


def check(
    graph: Graph, *all_sizes: Sizes, accumulate: tuple[bool, ...] = (), add: bool = True, below: int = 3
) -> Agreement:
    """The program agrees; integers are drawn below `below`."""
    agreement = Agreement(graph, accumulate or (False,) * len(graph.outputs), add)
    types = {node.attrs: node.type for node in graph.nodes if node.op is INPUT}

    def operand(kind: str, k: int, sizes: Sizes) -> Any:
        rng = np.random.default_rng([k, len(kind)])
        shape = resolve(types[kind, k].shape, sizes)
        if kind == "segments":
            return np.sort(rng.integers(0, max(sizes[0], 1), shape))
        whole = types[kind, k].dtype.kind == "i"
        return rng.integers(0, below, shape) if whole else rng.normal(size=shape)

    for sizes in all_sizes:
        for block in (False, True):
            for apart in (False, True) if any(agreement.accumulate) and add else (False,):
                agreement.check(sizes, operand, sizes[0], block, apart)
    return agreement


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_over_many_rows(dtype: Any) -> None:
    b = Build(dtype)
    x = b.input("residual", 0, M, 40)
    wide = b.input("residual", 1, M, 3, 5)
    columns = b.op(SUM, x, attrs=((-2,), False))
    everything = b.op(SUM, wide, attrs=((-3, -2, -1), False))
    middle = b.op(SUM, wide, attrs=((-3, -1), True))
    top = b.op(MAX, x, attrs=((-2,), True))
    check(b.out(columns, everything, middle, top), (1,), (700,), (3000,))


def test_sums_along_long_rows() -> None:
    b = Build()
    x = b.input("rows", 0, M, 1500)
    y = b.op(fn.EXP, b.op(e.SUB, x, b.op(MAX, x, attrs=((-1,), True))))
    total = b.op(SUM, y, attrs=((-1,), True))
    agreement = check(b.out(b.op(e.DIV, y, total), b.op(SUM, x, attrs=((-1,), False))), (0,), (5,))
    assert agreement.program.scratch(5, (5,)) < 1500 * 4 + 5 * 1500 * 4, "exponentials are written only once"


def test_a_loop_that_one_sum_reads_is_part_of_it() -> None:
    b = Build()
    x, y = b.input("rows", 0, M, 8), b.input("cotangent", 0, M, 8)
    total = b.op(SUM, b.op(fn.EXP, b.op(e.MUL, x, y)), attrs=((-1,), False))
    agreement = check(b.out(total), (0,), (9,))
    assert agreement.program.text.count("launch(") == 1
    assert agreement.program.scratch(9, (9,)) == 0


def test_products_of_all_layouts() -> None:
    b = Build()
    x, w, v = b.input("rows", 0, M, 4), b.input("shared", 0, 6, 4), b.input("shared", 1, 4, 3)
    stack, other = b.input("residual", 0, M, 3, 4), b.input("residual", 1, M, 4, 2)
    four, five = b.input("residual", 2, M, 2, 3, 4), b.input("residual", 3, M, 1, 4, 3)
    flip = (0, 2, 1)
    products = [
        b.op(PRODUCT, x, b.op(TRANSPOSE, w, attrs=((1, 0),))),
        b.op(PRODUCT, b.op(SLICE, b.op(fn.TANH, x), attrs=(-1, 1, 2, 1)), b.op(SLICE, v, attrs=(-2, 1, 2, 1))),
        b.op(PRODUCT, b.op(TRANSPOSE, x, attrs=((1, 0),)), b.op(fn.TANH, x)),
        b.op(PRODUCT, stack, other),
        b.op(PRODUCT, stack, v),
        b.op(PRODUCT, b.op(TRANSPOSE, other, attrs=(flip,)), b.op(TRANSPOSE, stack, attrs=(flip,))),
        b.op(PRODUCT, b.op(TRANSPOSE, stack, attrs=(flip,)), b.input("shared", 2, 3, 2)),
        b.op(PRODUCT, b.op(TRANSPOSE, v, attrs=((1, 0),)), other),
        b.op(PRODUCT, b.op(SLICE, stack, attrs=(-2, 1, 2, 1)), v),
        b.op(PRODUCT, four, v),
        b.op(PRODUCT, four, five),
        b.op(PRODUCT, w, v),
    ]
    agreement = check(b.out(*products), (0,), (1,), (7,))
    assert agreement.program.text.count("device.gemm") == 11  # one broadcasts in part


def test_products_of_whole_numbers() -> None:
    b = Build(np.int64)
    x, w = b.input("residual", 0, M, 4), b.input("shared", 0, 6, 4)
    transposed = b.op(TRANSPOSE, w, attrs=((1, 0),))
    stack = b.input("residual", 1, M, 2, 4)
    check(b.out(b.op(PRODUCT, x, transposed), b.op(PRODUCT, stack, transposed)), (0,), (7,))


def test_rows_of_a_table_that_all_share() -> None:
    b = Build()
    x, ids = b.input("residual", 0, M, 3), b.input("data", 0, M, dtype=np.int64)
    table = b.op(SCATTER_ADD, x, ids, attrs=(50,))
    pairs = b.input("residual", 1, M, 2, 3)
    numbers = b.input("residual", 2, M, 2, dtype=np.int64)
    narrow = b.input("residual", 3, M, 2, dtype=np.int32)
    other = b.op(SCATTER_ADD, pairs, numbers, attrs=(50,))
    third = b.op(SCATTER_ADD, pairs, narrow, attrs=(50,))
    check(b.out(table, b.op(fn.TANH, other), third), (0,), (1,), (300,), below=50)


@pytest.mark.parametrize("count", [1, 3, 9])
def test_rows_of_a_table_of_each_node(count: int) -> None:
    b = Build()
    x, ids = b.input("residual", 0, M, count, 2), b.input("data", 0, M, count, dtype=np.int64)
    first = b.op(e.MUL, b.op(ARANGE, b.const(0, np.int64), attrs=(M,)), b.const(7, np.int64))
    index = b.op(e.ADD, ids, b.op(RESHAPE, first, attrs=((M, 1),)))
    table = b.op(SCATTER_ADD, x, index, attrs=(M * 7,))
    back = b.op(TAKE, b.op(fn.TANH, table), index)
    doubled = b.op(e.ADD, b.op(RESHAPE, table, attrs=((M, 14),)), b.input("rows", 0, M, 14))
    agreement = check(b.out(back, doubled), (0,), (1,), (20,), below=7)
    assert ("scatter_add" in agreement.program.text) == (count == 9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_lists(dtype: Any) -> None:
    b = Build(dtype)
    segments = b.input("segments", 1, N, dtype=np.int64)
    h, x = b.input("rows", 0, N, 4), b.input("rows", 1, M, 4)
    spread = b.op(TAKE, x, segments)
    total = b.op(SCATTER_ADD, b.op(e.MUL, h, spread), segments, attrs=(M,))
    top = b.op(SEGMENT_MAX, h, segments, attrs=(M,))
    graph = b.out(total, top, spread, b.op(e.ADD, total, x))
    check(graph, (0, 0), (1, 5), (7, 19), (40, 3))
    check(graph, (7, 19), accumulate=(True,) * 4)
    check(graph, (7, 19), accumulate=(True,) * 4, add=False)


def test_moves() -> None:
    b = Build()
    x, s = b.input("rows", 0, M, 3, 4), b.input("shared", 0, 5, 3)
    transposed = b.op(TRANSPOSE, x, attrs=((0, 2, 1),))
    flipped = b.op(SLICE, transposed, attrs=(-2, 3, 4, -1))
    every_other = b.op(SLICE, x, attrs=(-1, 0, 2, 2))
    padded = b.op(UNSLICE, flipped, attrs=(-1, 1, 3, 2, 7))
    behind = b.op(CONCAT, transposed, padded, flipped, attrs=(-1,))
    repeated = b.op(BROADCAST, b.op(RESHAPE, every_other, attrs=((M, 3, 1, 2),)), attrs=((M, 3, 2, 2),))
    static = b.op(CONCAT, s, b.op(fn.EXP, s), attrs=(-2,))
    again = b.op(TAKE, static, b.input("data", 0, M, dtype=np.int64))
    results = [flipped, every_other, padded, behind, repeated, b.op(e.ADD, padded, padded), static, again]
    check(b.out(*results, b.op(TRANSPOSE, static, attrs=((1, 0),))), (0,), (1,), (6,))
    check(b.out(*results[:4]), (6,), accumulate=(True,) * 4)


def test_whole_numbers_and_truth_values() -> None:
    b = Build()
    n, m = b.input("data", 0, M, dtype=np.int64), b.input("data", 1, M, dtype=np.int64)
    x = b.input("rows", 0, M, dtype=np.int32)
    results = [b.op(op, n, m) for op in (e.ADD, e.SUB, e.MUL, e.MAXIMUM, e.LESS, e.EQUAL)]
    results += [b.op(op, n) for op in (e.NEG, e.ABS, e.SIGN, fn.RELU)]
    results.append(b.op(e.CAST, x, attrs=(np.dtype(np.int64),)))
    results.append(b.op(e.WHERE, b.op(e.LESS, n, m), x, b.op(e.NEG, x)))
    flags = b.op(e.LESS, b.input("rows", 1, M, 5), b.const(0.0))
    results += [b.op(SUM, flags, attrs=((-1,), False)), b.op(MAX, flags, attrs=((-1,), True))]
    check(b.out(*results), (0,), (1,), (30,))


def test_a_product_goes_straight_to_a_block_of_rows() -> None:
    b = Build()
    x = b.input("cotangent", 0, M, 3, 4)
    product = b.op(PRODUCT, x, b.input("shared", 0, 4, 5))
    for add in (True, False):
        agreement = check(b.out(product), (0,), (1,), (8,), accumulate=(True,), add=add)
        assert "if f0 >= 0:\n" in agreement.program.text


def test_several_results_added_to_rows_of_one_pool() -> None:
    b = Build()
    x, y = b.input("cotangent", 0, M, 6), b.input("cotangent", 1, M, 6)
    product = b.op(PRODUCT, x, b.input("shared", 0, 6, 12))
    halves = [b.op(SLICE, product, attrs=(-1, 6 * k, 6, 1)) for k in range(2)]
    graph = b.out(b.op(e.MUL, x, y), x, *halves, b.op(e.ADD, x, y), y)
    check(graph, (0,), (1,), (50,), accumulate=(True, True, True, True, False, False))
    check(graph, (0,), (1,), (50,), accumulate=(True, True, True, True, False, False), add=False)


def test_an_index_out_of_range_is_reported() -> None:

    b = Build()
    x, ids = b.input("residual", 0, M, 4, 2), b.input("data", 0, M, dtype=np.int64)
    graph = b.out(b.op(TAKE, b.input("shared", 0, 4, 2), b.op(BOUNDED, ids, attrs=(4,))), x)
    program = Agreement(graph, (False, False)).program
    device = StandIn()
    table, rows, residuals = np.ones((4, 2), np.float32), np.zeros((3, 2), np.float32), np.zeros((3, 8), np.float32)
    numbers = np.array([1, 9, -4])
    inputs = {"residual": at(residuals), "data": at(numbers), "shared": at(table)}
    order = [inputs[node.attrs[0]] for node in graph.nodes if node.op is INPUT]
    program.run(device, 3, (3,), order, [at(rows), at(np.zeros((3, 8), np.float32))], 0)
    assert memory(device.faults, (4,), INT64).tolist() == [1, 9, 4, -4]


def test_a_wrong_kernel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    b = Build()
    x, y = b.input("rows", 0, M, 3), b.input("rows", 1, M, 3)
    graph = b.out(b.op(e.SUB, x, y), b.op(e.MUL, x, y))
    check(graph, (5,))
    monkeypatch.setattr(loops, "elementwise", lambda node, operands: elementwise(node, operands[::-1]))
    with pytest.raises(AssertionError, match="result 0"):
        check(graph, (5,))


def test_a_missing_barrier_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    b = Build()
    graph = b.out(b.op(SUM, b.input("rows", 0, M, 30), attrs=((-1,), False)))
    check(graph, (5,))
    add = Writer.add
    monkeypatch.setattr(Writer, "add", lambda self, line: None if line == "AB_BARRIER" else add(self, line))
    with pytest.raises(AssertionError, match="no barrier"):
        check(graph, (5,))


def test_a_program_reads_well() -> None:
    b = Build()
    x, y = b.input("rows", 0, M, 3), b.input("shared", 0, 3)
    agreement = Agreement(b.out(b.op(fn.TANH, b.op(e.ADD, x, y))), (False,))
    assert (
        agreement.program.text
        == """\
def test(device, m, sizes, inputs, outputs, scratch, apart=False):
    k0, = kernels(device)
    launch = device.launch
    (p0, r0, b0), v1 = inputs
    out0, = outputs
    launch(k0, (m * 3 + 255) // 256, 256, (m, r0, p0, v1, out0))


AB_KERNEL test_loop0(i64 m, const int* __restrict__ a1, const float* __restrict__ a2, \
const float* __restrict__ a3, float* __restrict__ a4) {
    AB_THREADS AB_EACH(t, m * 3) {
        const i64 i = ab_div(t, 3), j = t - i * 3;
        const int x0 = a1[i];
        const i64 k1 = (i64)x0 * 3 + j;
        const float x2 = a2[k1];
        const float x3 = a3[j];
        const float x4 = (x2 + x3);
        const float x5 = ab_tanh(x4);
        a4[t] = x5;
    }
}
"""
    )
    assert not re.search(r"atomic|__shfl", agreement.program.source)
