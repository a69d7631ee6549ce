"""Lowered programs against op-by-op NumPy on the same batched graphs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autobatch.backends.host.numba_verbs import gather_into
from autobatch.base.types import Dim
from autobatch.compile.fuse import fuse
from autobatch.compile.host.lower import lower, steps_of
from autobatch.compile.host.passes import plan_passes
from autobatch.compile.rewrites.movement import rewrite_movement
from autobatch.compile.steps import Loop
from autobatch.compile.text import graph_inputs
from autobatch.errors import OpIndexError
from autobatch.ir.graph import INPUT, Graph
from autobatch.ops import elementwise as e
from autobatch.ops import functions as fn
from autobatch.ops.index import ARANGE, BOUNDED, SCATTER_ADD, TAKE
from autobatch.ops.linalg import PRODUCT
from autobatch.ops.movement import BROADCAST, CONCAT, RESHAPE, SLICE, TRANSPOSE, UNSLICE
from autobatch.ops.reduce import MAX, SEGMENT_MAX, SUM
from tests.compile.by_hand import Build, by_numpy, resolve

M = Dim(0)
N = Dim(1)
BACKENDS = ("numpy", "numba")


@pytest.fixture(autouse=True, scope="module")
def cache_folder(tmp_path_factory: Any) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOBATCH_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def layout(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) <= 2:
        return shape[0], int(np.prod(shape[1:]))
    return shape[0] * shape[1], int(np.prod(shape[2:]))


def make_inputs(graph: Graph, sizes: tuple[int, ...], rng: Any, block: bool, special: bool = False) -> list[Any]:
    values: list[Any] = []
    for node in graph.nodes:
        if node.op is not INPUT:
            continue
        kind, shape = node.attrs[0], resolve(node.type.shape, sizes)
        if kind == "segments":
            values.append(np.sort(rng.integers(0, max(sizes[0], 1), shape[0])))
            continue
        if kind == "data" and node.type.dtype.kind == "i":
            values.append(rng.integers(0, 5, shape))
            continue
        x = rng.normal(size=shape).astype(node.type.dtype)
        if special and x.size:
            x.reshape(-1)[rng.integers(0, x.size, 6)] = [np.nan, np.inf, -np.inf, 0, 1e30, -1e-40]
        if kind in ("rows", "reverse"):
            n, w = layout(shape)
            pool = rng.normal(size=(2 * n + 3, w)).astype(node.type.dtype)
            first = 2 if block else -1
            rows = np.arange(2, 2 + n) if block else rng.integers(0, len(pool), n)
            pool[rows] = x.reshape(n, w)
            x = pool, rows.astype(np.int32), first
        elif kind == "shared" and x.ndim == 2:
            x = np.asfortranarray(x)
        values.append(x)
    return values


def check(
    graph: Graph,
    sizes: tuple[int, ...] = (7,),
    accumulate: tuple[bool, ...] | None = None,
    special: bool = False,
    tolerance: float | None = None,
) -> None:
    accumulate = accumulate or (False,) * len(graph.outputs)
    programs = {backend: lower(graph, "test", accumulate, backend) for backend in BACKENDS}
    assert graph_inputs(graph) == [n.attrs for n in graph.nodes if n.op is INPUT]
    for m in (0, 1, sizes[0]):
        now = (m, *(0 if m == 0 else s for s in sizes[1:]))
        for block in (False, True):
            rng = np.random.default_rng(m)
            values = make_inputs(graph, now, rng, block, special)
            wanted = by_numpy(graph, now, values)
            targets: list[Any] = []
            before: dict[Any, Any] = {}  # rows of one width and dtype lie in one pool
            pools: dict[Any, Any] = {}
            for o, (i, add) in enumerate(zip(graph.outputs, accumulate, strict=True)):
                type = graph.nodes[i].type
                n, w = layout(wanted[o].shape) if wanted[o].ndim else (1, 1)
                if not type.shape or not isinstance(type.shape[0], Dim):
                    targets.append(None)
                elif add:
                    pool = (w, type.dtype)
                    if pool not in pools:
                        before[pool] = rng.normal(size=(9 * max(now) + 2, w)).astype(type.dtype)
                        pools[pool] = before[pool].copy()
                    total = pools[pool]
                    rows = np.arange(1, n + 1) if block else rng.integers(0, len(total), n)
                    targets.append((pool, rows.astype(np.int32), 1 if block else -1))
                    with np.errstate(all="ignore"):
                        np.add.at(total, rows, wanted[o].reshape(n, w))
                    wanted[o] = total
                else:
                    targets.append(np.full((n, w), 77).astype(type.dtype))
            for backend, program in programs.items():
                made = {pool: before[pool].copy() for pool in pools}
                outputs = [
                    (made[t[0]], *t[1:]) if isinstance(t, tuple) else None if t is None else t.copy() for t in targets
                ]
                found = program.run(m, now, values, outputs)
                for o, want in enumerate(wanted):
                    got = outputs[o]
                    if got is None:
                        got = found[o]
                        assert not any(got is v for v in values)
                    else:
                        assert found[o] is None
                    got = np.asarray(got[0] if isinstance(got, tuple) else got).reshape(want.shape)
                    assert got.dtype == want.dtype
                    limit = tolerance or (3e-6 if want.dtype == np.float32 else 1e-12)
                    np.testing.assert_allclose(got, want, limit, limit, err_msg=f"{backend}, m={m}\n{program.text}")


def split(b: Build, x: int, parts: int) -> list[int]:
    width = b.graph.nodes[x].type.shape[-1] // parts
    return [b.op(SLICE, x, attrs=(-1, k * width, width, 1)) for k in range(parts)]


def tree_cell(b: Build, w: int) -> tuple[int, ...]:
    hl, hr, cl, cr = (b.input("rows", k, M, w) for k in range(4))
    weight, bias = b.input("shared", 0, 5 * w, 2 * w), b.input("shared", 1, 5 * w)
    x = b.op(CONCAT, hl, hr, attrs=(-1,))
    z = b.op(PRODUCT, x, b.op(TRANSPOSE, weight, attrs=((1, 0),)))
    i, fl, fr, o, g = split(b, b.op(e.ADD, z, bias), 5)
    c = b.op(e.ADD, b.op(e.MUL, b.op(fn.SIGMOID, fl), cl), b.op(e.MUL, b.op(fn.SIGMOID, fr), cr))
    c = b.op(e.ADD, c, b.op(e.MUL, b.op(fn.SIGMOID, i), b.op(fn.TANH, g)))
    return b.op(e.MUL, b.op(fn.SIGMOID, o), b.op(fn.TANH, c)), c, z, x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("w", [0, 1, 6])
def test_tree_cell(dtype: Any, w: Any) -> None:
    b = Build(dtype)
    h, c, z, x = tree_cell(b, w)
    check(b.out(h, c, z, x))


def test_tree_cell_plan() -> None:
    b = Build()
    h, c, *_ = tree_cell(b, 64)
    steps = fuse(rewrite_movement(b.out(h, c)), (False, False))
    loops = [s for s in steps.order if isinstance(s, Loop)]
    assert [str(s.domain) for s in loops] == ["m × 64", "m × 64"], str(steps)
    assert len(loops[0].nodes) == 0 and "tanh" in str(steps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("w", [1, 5])
def test_gradients_of_a_gate(dtype: Any, w: Any) -> None:
    b = Build(dtype)
    g, z = b.input("cotangent", 0, M, w), b.input("residual", 0, M, 2 * w)
    x, weight = b.input("rows", 0, M, 3), b.input("shared", 0, 2 * w, 3)
    z0, z1 = split(b, z, 2)
    y0, y1 = b.op(fn.SIGMOID, z0), b.op(fn.TANH, z1)
    one = b.const(1.0)
    d0 = b.op(e.MUL, b.op(e.MUL, b.op(e.MUL, g, y1), y0), b.op(e.SUB, one, y0))
    d1 = b.op(e.MUL, b.op(e.MUL, g, y0), b.op(e.SUB, one, b.op(e.MUL, y1, y1)))
    dz = b.op(e.ADD, b.op(UNSLICE, d0, attrs=(-1, 0, w, 1, 2 * w)), b.op(UNSLICE, d1, attrs=(-1, w, w, 1, 2 * w)))
    dx = b.op(PRODUCT, dz, weight)
    dw = b.op(PRODUCT, b.op(TRANSPOSE, dz, attrs=((1, 0),)), x)
    db = b.op(SUM, dz, attrs=((-2,), False))
    graph = b.out(dx, dw, db, g, dx)
    assert not any(n.op is UNSLICE for n in rewrite_movement(graph).nodes)
    check(graph, accumulate=(True, False, False, True, False))


def test_parts_with_gaps_and_other_terms() -> None:
    b = Build()
    x, y, z = b.input("rows", 0, M, 2), b.input("rows", 1, M, 3), b.input("rows", 2, M, 9)
    part = b.op(UNSLICE, x, attrs=(-1, 5, 2, 1, 9))
    total = b.op(e.ADD, b.op(e.ADD, part, z), b.op(UNSLICE, y, attrs=(-1, 1, 3, 1, 9)))
    overlap = b.op(e.ADD, part, b.op(UNSLICE, y, attrs=(-1, 4, 3, 1, 9)))
    strided = b.op(UNSLICE, x, attrs=(-1, 6, 2, -2, 9))
    check(b.out(total, overlap, strided, b.op(UNSLICE, y, attrs=(-1, 1, 3, 1, 9))))


UNARY = [e.NEG, e.ABS, e.SIGN, fn.EXP, fn.LOG, fn.TANH, fn.SQRT, fn.SIGMOID, fn.RELU, fn.SOFTPLUS, e.STOP_GRADIENT]
BINARY = [e.ADD, e.SUB, e.MUL, e.DIV, e.MAXIMUM, e.MINIMUM, e.LESS, e.LESS_EQUAL, e.EQUAL, e.NOT_EQUAL]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_elementwise_op(dtype: Any) -> None:
    b = Build(dtype)
    x, y = b.input("rows", 0, M, 33), b.input("cotangent", 0, M, 33)
    outputs = [b.op(op, x) for op in UNARY] + [b.op(op, x, y) for op in BINARY]
    outputs.append(b.op(e.WHERE, b.op(e.LESS, x, b.const(0.0)), x, y))
    outputs += [b.op(fn.POWER_OF, x, attrs=(p,)) for p in (0, 1, 2, 3, -1, -2, 0.5)]
    outputs.append(b.op(fn.POWER, x, y))
    outputs.append(b.op(e.CAST, b.op(e.LESS, x, y), attrs=(np.dtype(dtype),)))
    check(b.out(*outputs))
    check(b.out(*outputs), special=True)


def test_functions_over_their_range() -> None:
    b = Build()
    x = b.input("cotangent", 0, M, 1)
    names = [fn.EXP, fn.LOG, fn.TANH, fn.SIGMOID, fn.SOFTPLUS]
    program = lower(b.out(*(b.op(op, x) for op in names)), "range", (False,) * len(names), "numba")
    edges = [np.nan, np.inf, -np.inf, 0, -1]
    grid = np.concatenate([np.linspace(-120, 120, 100001), np.geomspace(1e-44, 3e38, 5000), edges])
    values = grid.astype(np.float32)[:, None]
    outputs = [np.empty_like(values) for _ in names]
    program.run(len(values), (len(values),), [values], outputs)
    exact = values.astype(np.float64)
    for op, got in zip(names, outputs, strict=True):
        with np.errstate(all="ignore"):
            want = op.numpy(exact).astype(np.float32)
        absolute = 4e-7 if op in (fn.TANH, fn.SIGMOID) else 1e-44
        np.testing.assert_allclose(got, want, 5e-7, absolute, err_msg=op.name)


def test_data_scalars_and_vectors() -> None:
    b = Build()
    x, n, f = b.input("rows", 0, M, 4), b.input("data", 0, M, dtype=np.int64), b.input("data", 1, M, dtype=np.float64)
    s, k, v = b.input("rows", 1, M), b.input("shared", 0), b.input("shared", 1, 8)
    column = [b.op(RESHAPE, b.op(e.CAST, c, attrs=(np.dtype(np.float32),)), attrs=((M, 1),)) for c in (n, f)]
    y = b.op(e.MUL, b.op(e.ADD, x, column[0]), column[1])
    y = b.op(e.ADD, b.op(e.MUL, y, b.op(RESHAPE, s, attrs=((M, 1),))), k)
    y = b.op(e.ADD, y, b.op(SLICE, v, attrs=(-1, 3, 4, 1)))
    total = b.op(SUM, y, attrs=((-1,), False))
    small = b.op(e.MUL, b.op(fn.TANH, total), s)
    spread = b.op(BROADCAST, b.op(RESHAPE, small, attrs=((M, 1),)), attrs=((M, 4),))
    check(b.out(y, total, small, spread, x, small, s), accumulate=(False, False, True, True, False, False, True))
    less = b.op(e.LESS, b.op(e.MUL, n, n), b.const(5, np.int64))
    check(b.out(less, n, b.op(e.ADD, n, n), b.op(e.DIV, b.op(e.SUB, y, y), small := b.op(RESHAPE, s, attrs=((M, 1),)))))


def test_higher_ranks() -> None:
    b = Build()
    x, w, v = b.input("rows", 0, M, 3, 4), b.input("shared", 0, 5, 4), b.input("shared", 1, 5)
    flat = b.op(RESHAPE, x, attrs=((M * 3, 4),))
    y = b.op(RESHAPE, b.op(PRODUCT, flat, b.op(TRANSPOSE, w, attrs=((1, 0),))), attrs=((M, 3, 5),))
    y = b.op(fn.TANH, b.op(e.ADD, y, v))
    scale = b.op(SUM, y, attrs=((-1,), True))
    z = b.op(e.MUL, y, scale)
    other = b.op(e.MUL, z, b.op(RESHAPE, b.input("rows", 1, M, 5), attrs=((M, 1, 5),)))
    middle = b.op(SLICE, other, attrs=(-2, 1, 1, 1))
    top = b.op(MAX, other, attrs=((-2,), False))
    joined = b.op(CONCAT, other, z, middle, attrs=(-2,))
    turned = b.op(fn.EXP, b.op(TRANSPOSE, z, attrs=((0, 2, 1),)))
    batched = b.op(PRODUCT, turned, z)
    graph = b.out(y, z, other, middle, top, joined, turned, batched, x, b.op(fn.TANH, joined))
    check(graph, tolerance=2e-5)
    check(graph, accumulate=(True,) * 10, tolerance=2e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lists(dtype: Any) -> None:
    b = Build(dtype)
    seg = b.input("segments", 1, N, dtype=np.int64)
    h, x, c = b.input("rows", 0, N, 4), b.input("rows", 1, M, 4), b.input("rows", 2, N, 4)
    w = b.input("shared", 0, 4, 4)
    spread = b.op(TAKE, b.op(PRODUCT, x, w), seg)
    f = b.op(fn.SIGMOID, b.op(e.ADD, b.op(PRODUCT, h, w), spread))
    total = b.op(SCATTER_ADD, b.op(e.MUL, f, c), seg, attrs=(M,))
    top = b.op(SEGMENT_MAX, h, seg, attrs=(M,))
    y = b.op(fn.TANH, b.op(e.ADD, total, x))
    raw = b.op(e.MUL, b.op(TAKE, x, seg), c)
    half = b.op(e.ADD, b.op(SLICE, b.op(TAKE, x, seg), attrs=(-1, 2, 2, 1)), b.op(SLICE, c, attrs=(-1, 0, 2, 1)))
    late = b.op(e.MUL, b.op(TAKE, y, seg), f)
    check(b.out(total, y, f, top, raw, half, late, spread), sizes=(7, 19))
    check(b.out(total, y, f, raw, raw), sizes=(7, 19), accumulate=(True,) * 5)


def test_shared_results_and_copies() -> None:
    b = Build()
    x, w = b.input("rows", 0, M, 3), b.input("shared", 0, 2, 3)
    y = b.op(PRODUCT, x, b.op(TRANSPOSE, w, attrs=((1, 0),)))
    t = b.op(fn.TANH, w)
    table = b.op(SCATTER_ADD, x, b.input("data", 0, M, dtype=np.int64), attrs=(5,))
    check(b.out(y, y, w, t, x, x, table, b.op(TRANSPOSE, w, attrs=((1, 0),)), w))


def test_stages_have_no_cycle() -> None:
    b = Build()
    x, w = b.input("rows", 0, M, 4), b.input("shared", 0, 4, 4)
    a = b.op(fn.TANH, x)
    p = b.op(PRODUCT, a, w)
    c = b.op(e.ADD, p, a)
    q = b.op(PRODUCT, c, w)
    narrow = b.op(fn.EXP, b.op(SLICE, c, attrs=(-1, 1, 2, 1)))
    d = b.op(e.MUL, b.op(e.ADD, q, c), a)
    wide = b.op(CONCAT, d, narrow, x, b.op(fn.EXP, d), attrs=(-1,))
    check(b.out(wide, d, narrow, c, b.op(e.NEG, wide)), tolerance=1e-5)


def test_one_source_for_all_widths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOBATCH_CACHE_DIR", str(tmp_path / "new"))
    texts = []
    for w in (2, 8):
        b = Build()
        h, c, *_ = tree_cell(b, w)
        texts.append(lower(b.out(h, c), "cell", (False, False), "numba").text.split("\n\n", 1)[1])
    assert texts[0] == texts[1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns_that_fill_no_vector_are_computed_in_one_more(dtype: Any) -> None:
    texts = set()
    for w in (7, 16, 17, 50):
        b = Build(dtype)
        x, y = b.input("rows", 0, M, w), b.input("cotangent", 0, M, 2 * w)
        low, high = split(b, y, 2)
        graph = b.out(b.op(fn.TANH, b.op(e.ADD, x, low)), b.op(e.MUL, b.op(fn.SIGMOID, x), high), low)
        check(graph, accumulate=(False, True, True))
        texts.add(lower(graph, "tails", (False, True, True), "numba").text.split("\n\n", 1)[1])
    (text,) = texts
    assert "columns - vector if end < columns" in text and text.count("+= b") == 2


def softmax(b: Build, x: int) -> tuple[int, int]:
    """log_softmax and softmax, as the ops of these names do it."""
    top = b.op(MAX, x, attrs=((-1,), True))
    finite = b.op(e.WHERE, b.op(e.LESS, b.op(e.ABS, top), b.const(np.inf)), top, b.const(0.0))
    exps = b.op(fn.EXP, b.op(e.SUB, x, finite))
    total = b.op(SUM, exps, attrs=((-1,), True))
    return b.op(e.SUB, x, b.op(e.ADD, b.op(fn.LOG, total), finite)), b.op(e.DIV, exps, total)


def test_softmax_computes_row_values_in_the_loop() -> None:
    b = Build()
    graph = b.out(*softmax(b, b.input("rows", 0, M, 5)))
    steps = fuse(rewrite_movement(graph), (False, False))
    loops = [s for s in steps.order if isinstance(s, Loop)]
    assert all(s.domain.width == 5 for s in loops) and any(s.row_nodes for s in loops), str(steps)
    check(graph)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5,), (70,), (3, 17)])
def test_softmax_is_one_loop(dtype: Any, shape: Any) -> None:
    b = Build(dtype)
    graph = b.out(*softmax(b, b.input("rows", 0, M, *shape)))
    (loop,) = (s for s in steps_of(graph, (False, False), "numba").order if isinstance(s, Loop))
    most, exps = plan_passes(graph, loop)[:2]
    assert len(loop.reductions) == 2 and most.reductions and exps.reductions and len(exps.keep) == 1, str(loop)
    check(graph)
    check(graph, special=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_reductions_of_rows(dtype: Any) -> None:
    b = Build(dtype)
    x, y, g = b.input("rows", 0, M, 3, 33), b.input("rows", 1, M, 33), b.input("cotangent", 0, M)
    whole = b.op(SUM, b.op(e.MUL, x, x), attrs=((-2, -1), False))
    inner = b.op(MAX, x, attrs=((-1,), False))
    narrow = b.op(SUM, b.op(e.MUL, inner, inner), attrs=((-1,), False))  # of one loop, read by another
    both = b.op(e.ADD, b.op(SUM, y, attrs=((-1,), False)), b.op(e.ADD, narrow, g))
    mean = b.op(e.MUL, b.op(SUM, y, attrs=((-1,), True)), b.const(1 / 33))
    apart = b.op(e.SUB, y, mean)
    square = b.op(SUM, b.op(e.MUL, apart, apart), attrs=((-1,), True))
    norm = b.op(e.DIV, apart, b.op(fn.SQRT, square))
    parts = b.op(CONCAT, norm, square, mean, attrs=(-1,))
    graph = b.out(whole, inner, both, norm, parts, square, whole)
    steps = steps_of(graph, (False,) * 7, "numba")
    assert not [s for s in steps.order if not isinstance(s, Loop) and graph.nodes[s].op in (SUM, MAX)], str(steps)
    limit = 1e-4 if dtype == np.float32 else 1e-11
    check(graph, tolerance=limit)
    check(graph, accumulate=(True, False, True, True, False, False, False), tolerance=limit)
    b = Build(dtype)
    x = b.input("rows", 0, M, 70)
    check(b.out(b.op(MAX, x, attrs=((-1,), False)), b.op(SUM, x, attrs=((-1,), True))), (40,), special=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_number_of_each_row_is_found_in_the_loop(dtype: Any) -> None:
    b = Build(dtype)
    x, k, g = b.input("rows", 0, M, 9), b.input("data", 0, M, dtype=np.int64), b.input("cotangent", 0, M)
    start = b.op(e.MUL, b.op(ARANGE, b.const(0, np.int64), attrs=(M,)), b.const(9, np.int64))
    index = b.op(e.ADD, k, start)
    doubled = b.op(e.ADD, x, x)
    one = b.op(TAKE, b.op(RESHAPE, doubled, attrs=((M * 9,),)), index)
    total = b.op(SUM, b.op(fn.EXP, doubled), attrs=((-1,), False))
    most = b.op(MAX, doubled, attrs=((-1,), False))
    table = b.op(RESHAPE, b.op(SCATTER_ADD, g, index, attrs=(M * 9,)), attrs=((M, 9),))
    graph = b.out(b.op(e.SUB, total, one), b.op(e.MUL, table, x), most)
    steps = steps_of(graph, (False,) * 3, "numba")
    assert sum(isinstance(s, Loop) for s in steps.order) == 1 and "take" not in str(steps), str(steps)
    assert "scatter_add" not in str(steps), str(steps)
    check(graph)


def test_a_lookup_alone_does_not_read_all_of_its_row() -> None:
    b = Build()
    x, k = b.input("rows", 0, M, 900), b.input("data", 0, M, dtype=np.int64)
    start = b.op(e.MUL, b.op(ARANGE, b.const(0, np.int64), attrs=(M,)), b.const(900, np.int64))
    one = b.op(TAKE, b.op(RESHAPE, x, attrs=((M * 900,),)), b.op(e.ADD, k, start))
    graph = b.out(one)
    assert "take" in str(steps_of(graph, (False,), "numba"))
    check(graph)


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_results_added_to_the_same_rows_of_one_pool(backend: Any) -> None:
    b = Build()
    x, y = b.input("cotangent", 0, M, 64), b.input("cotangent", 1, M, 64)
    program = lower(b.out(b.op(e.MUL, x, y), b.op(e.ADD, x, y), x), "both", (True,) * 3, backend)
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(2, 9, 64)).astype(np.float32)
    pool = np.zeros((4, 64), np.float32)
    rows = rng.integers(0, 4, (3, 9)).astype(np.int32)
    rows[1] = rows[0]
    want = np.zeros((4, 64))
    for r, term in zip(rows, (u * v, u + v, u), strict=True):
        np.add.at(want, r, term)
    program.run(9, (9,), [u, v], [(pool, r, -1) for r in rows])
    np.testing.assert_allclose(pool, want, 1e-5, 1e-5)


def test_loops_promise_that_their_arrays_are_apart() -> None:
    from autobatch.compile.host import cache
    from autobatch.compile.host.loops import write_loop

    build = Build()
    x, y = build.input("rows", 0, M, 3), build.input("rows", 1, M, 3)
    graph = build.out(build.op(e.MUL, build.op(fn.TANH, x), y))
    (step,) = [step for step in fuse(rewrite_movement(graph), [False]).order if isinstance(step, Loop)]
    loop = cache.load(write_loop(graph, step)[0])
    pool, rows, result = np.ones((2, 3), np.float32), np.arange(2), np.empty((2, 3), np.float32)
    loop(2, 3, pool, rows, pool, rows, result, 0)
    np.testing.assert_allclose(result, np.tanh(1.0), rtol=1e-6)
    (signature,) = loop.signatures  # type: ignore[attr-defined]
    define = next(line for line in loop.inspect_llvm(signature).splitlines() if line.startswith("define"))  # type: ignore[attr-defined]
    assert "noalias" in define.split(" %arg.a0.4")[0].rpartition(",")[2]


def test_gradients_of_one_pool_are_added_through_one_argument() -> None:
    from autobatch.compile.host.loops import ArrayArgument, write_loop

    build = Build()
    x, y = build.input("cotangent", 0, M, 3), build.input("rows", 1, M, 3)
    graph = build.out(build.op(e.MUL, x, y), build.op(e.MUL, x, x))
    (step,) = [step for step in fuse(rewrite_movement(graph), [True, True]).order if isinstance(step, Loop)]
    text, arguments = write_loop(graph, step)
    assert text.count("+=") == 2
    written = [a for a in arguments if isinstance(a, ArrayArgument) and getattr(a.use, "kind", "") == "add"]
    assert len(written) == 1


@pytest.mark.parametrize("columns", [4, 16])
def test_the_sum_of_products_of_stacks_needs_no_transposed_copies(columns: int) -> None:
    b = Build()
    x, v = b.input("residual", 0, M, 3, columns), b.input("residual", 1, M, 5, columns)
    turned = [b.op(TRANSPOSE, i, attrs=((0, 2, 1),)) for i in (x, v)]
    left, right = (b.op(RESHAPE, i, attrs=((M * columns, n),)) for i, n in zip(turned, (3, 5), strict=True))
    total = b.op(PRODUCT, b.op(TRANSPOSE, left, attrs=((1, 0),)), right)
    only = b.out(total)
    check(only)
    text = lower(only, "test", (False,), "numba").text
    assert ("gemm_batch_reduce(" in text) == (columns == 16) == (".transpose(" not in text)
    also_read = b.out(total, b.op(PRODUCT, b.op(TRANSPOSE, right, attrs=((1, 0),)), left), right)
    check(also_read)


@pytest.mark.parametrize(("rows", "columns"), [(1, 16), (3, 16), (1, 4)])
def test_the_sum_of_products_of_elements_needs_none_of_each(rows: int, columns: int) -> None:
    b = Build()
    x, v = b.input("rows", 0, N, rows * 5), b.input("rows", 1, N, rows * columns)
    left, right = b.op(RESHAPE, x, attrs=((N, rows, 5),)), b.op(RESHAPE, v, attrs=((N, rows, columns),))
    product = b.op(PRODUCT, b.op(TRANSPOSE, left, attrs=((0, 2, 1),)), right)
    segments = b.input("segments", 1, N, dtype=np.int64)
    only = b.out(b.op(SCATTER_ADD, product, segments, attrs=(M,)))
    check(only, sizes=(7, 19))
    assert ("gemm_segments(" in lower(only, "test", (False,), "numba").text) == (columns == 16)
    check(b.out(b.op(SCATTER_ADD, product, segments, attrs=(M,)), product), sizes=(7, 19))


def matrices(b: Build) -> tuple[int, ...]:
    """What a node that combines two vectors and two matrices reads and makes, and its two products with one matrix."""
    x, y = b.input("rows", 0, M, 4, 16), b.input("rows", 1, M, 4, 16)
    u = b.op(RESHAPE, b.input("rows", 2, M, 16), attrs=((M, 16, 1),))
    w = b.input("shared", 0, 3, 8)
    both = b.op(CONCAT, x, y, attrs=(-2,))
    vectors = [b.op(PRODUCT, b.op(TRANSPOSE, x, attrs=((0, 2, 1),)), b.op(PRODUCT, y, u)), b.op(PRODUCT, x, u)]
    return b.op(PRODUCT, w, both), *vectors, both, x, u


def test_stacked_matrices_are_read_in_their_pool() -> None:
    b = Build()
    *results, both, x, _ = matrices(b)
    graph = b.out(*results)
    check(graph)
    text = lower(graph, "test", (False,) * 3, "numba").text
    assert "gather(p0" not in text and "gather(p1" not in text and "gather_into" not in text
    check(b.out(*results, both))  # it is made, as it is a result
    check(b.out(*results, x))
    check(b.out(*results, b.op(fn.TANH, both), b.op(fn.TANH, x)))


def test_sums_of_products_are_added_to_rows() -> None:
    b = Build()
    w, g = b.input("shared", 0, 3, 8), b.input("cotangent", 0, M, 3, 16)
    u, v = (b.op(RESHAPE, b.input("residual", k, M, 4 * n), attrs=((M, 4, n),)) for k, n in ((0, 1), (1, 4)))
    row, stack = (
        b.op(TRANSPOSE, b.op(RESHAPE, b.input("residual", 2, M, 16), attrs=((M, 16, 1),)), attrs=((0, 2, 1),)),
        g,
    )
    whole = b.op(PRODUCT, b.op(TRANSPOSE, w, attrs=((1, 0),)), g)
    parts = [b.op(SLICE, whole, attrs=(-2, start, 4, 1)) for start in (0, 4)]
    first = b.op(e.ADD, parts[0], b.op(PRODUCT, u, row))
    second = b.op(e.ADD, b.op(e.ADD, parts[1], b.op(PRODUCT, u, row)), b.op(PRODUCT, v, b.op(fn.TANH, first)))
    graph = b.out(first, parts[1])
    check(graph, accumulate=(True, True))
    text = lower(graph, "test", (True, True), "numba", add=False).text
    assert text.count("gemm_batched_sum_to_rows(") == 2 and "gemm_batched(" not in text and "loop0" not in text
    check(b.out(first, second), accumulate=(True, True))  # of which `first` is read, too
    check(b.out(first, first), accumulate=(True, True))
    check(b.out(first, stack), accumulate=(True, False))
    check(b.out(b.op(e.ADD, parts[0], first), b.op(e.ADD, parts[1], u)), accumulate=(True, True))


def test_sums_over_all_nodes_read_pools() -> None:
    b = Build()
    g, x, y = b.input("reverse", 0, M, 3, 16), b.input("rows", 0, M, 4, 16), b.input("rows", 1, M, 2, 16)
    both = b.op(CONCAT, x, y, attrs=(-2,))
    turned = [b.op(TRANSPOSE, i, attrs=((0, 2, 1),)) for i in (g, both)]
    left, right = (b.op(RESHAPE, i, attrs=((M * 16, n),)) for i, n in zip(turned, (3, 6), strict=True))
    graph = b.out(b.op(PRODUCT, b.op(TRANSPOSE, left, attrs=((1, 0),)), right))
    check(graph)
    text = lower(graph, "test", (False,), "numba").text
    assert "gemm_batch_reduce((p0, r0, 3, False), ((p1, r1, 4, False), (p2, r2, 2, False)), " in text
    check(b.out(*graph.outputs, both))


@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_an_index_is_bounded_and_taken_into_place(dtype: Any) -> None:
    b = Build()
    table, i = b.input("shared", 0, 5, 3), b.input("data", 0, M, dtype=dtype)
    bounded = b.op(BOUNDED, i, attrs=(5,))
    graph = b.out(b.op(TAKE, table, bounded), bounded)
    program = lower(graph, "test", (False, False), "numba")
    rng = np.random.default_rng(0)
    rows, index, out = (
        rng.normal(size=(5, 3)).astype(np.float32),
        np.array([4, -5, 0, -1], dtype),
        np.empty((4, 3), "f4"),
    )
    found = np.empty((4, 1), np.int64)
    program.run(4, (4,), [rows, index], [out, found])
    np.testing.assert_array_equal(found[:, 0], [4, 0, 0, 4])
    np.testing.assert_array_equal(out, rows[[4, 0, 0, 4]])
    for bad in (5, -6):
        with pytest.raises(OpIndexError, match=f"index {bad} is out of range for an axis of 5"):
            program.run(1, (1,), [rows, np.array([bad], dtype)], [out[:1], found[:1]])


def test_matrices_are_gathered_straight_into_a_concat() -> None:
    b = Build()
    x, y = b.input("rows", 0, M, 3, 4), b.input("rows", 1, M, 2, 4)
    both = b.op(CONCAT, x, y, attrs=(-2,))
    graph = b.out(both, b.op(PRODUCT, b.input("shared", 0, 2, 5), both))
    check(graph)
    assert " gather(" not in lower(graph, "test", (False, False), "numba").text
    read_twice = b.out(both, b.op(TRANSPOSE, y, attrs=((0, 2, 1),)), b.op(fn.TANH, x))
    check(read_twice)
    pool = np.arange(40, dtype=np.float32).reshape(10, 4)
    target = np.full((3, 16), -1, np.float32)
    rows = np.array([0, 1, 2, 7, 9, 8, 5, 6, 0], np.int32)
    gather_into(pool, rows, target[:, :12])
    np.testing.assert_array_equal(target[:, :12], pool[rows].reshape(3, 12))
    assert (target[:, 12:] == -1).all()
