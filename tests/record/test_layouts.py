"""Values that lie in memory in another way than their shape says: nothing but the launches tells them apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.base.types import COLUMNS, ELEMENTS, LEADING, MIDDLE, PAIRS, PAIRS_TRANSPOSED, tensor_type
from autobatch.ops import apply
from autobatch.record.links import lift
from autobatch.record.op_signatures import signatures
from autobatch.record.tape import current_tape
from autobatch.record.views import laid_out
from tests.ops.checks import GOOD, OF_BATCHES, Case
from tests.requested import backend, backends, host

LAYOUTS = [
    {1: ELEMENTS, 2: PAIRS, 3: PAIRS},
    {2: COLUMNS, 3: COLUMNS},
    {2: PAIRS_TRANSPOSED, 3: MIDDLE},
]
"""Ways to lay out the operands of an op, by rank."""


def _is_float(x: Any) -> bool:
    return np.asarray(x).dtype.kind == "f"


RNG = np.random.default_rng(0)
VECTOR, MATRIX = RNG.normal(size=3), RNG.normal(size=(3, 2))
FORMS = [(VECTOR, ELEMENTS), (MATRIX, ELEMENTS), (MATRIX, COLUMNS), (MATRIX, PAIRS), (MATRIX, PAIRS_TRANSPOSED)]

SAMPLES = [
    (case, k)
    for case in GOOD
    for k, layouts in enumerate(LAYOUTS)
    if case.op.batch not in ("list", *OF_BATCHES)
    and any(isinstance(x, np.ndarray) and x.ndim in layouts for x in case.sample.operands)
]


def laid(x: Any, layouts: dict[int, int], is_lifted: bool) -> Any:
    """A sample's operand as a tensor in the layout for its rank, if there is one."""
    if not isinstance(x, np.ndarray):
        return x
    layout = layouts.get(x.ndim, LEADING)
    return lift(x, current_tape(), layout) if is_lifted else laid_out(ab.tensor(x, x.dtype), layout)


@pytest.fixture(autouse=True)
def _without_compiling() -> None:
    ab.set_backend(backend("numpy"))


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_left() -> Iterator[None]:
    """Ops on layouts on which functions record others stay unknown to later recordings, which would take them."""
    yield
    signatures.clear()


def test_layouts_are_of_one_dtype_and_shape() -> None:
    types = [tensor_type("float64", (2, 3), layout) for layout in (LEADING, ELEMENTS, COLUMNS)]
    assert [(t.rows, t.width) for t in types] == [(2, 3), (6, 1), (3, 2)]
    assert len({str(t) for t in types}) == 1
    assert tensor_type("float64", (3, 1), ELEMENTS) is tensor_type("float64", (3, 1))


@pytest.mark.parametrize(("case", "number"), SAMPLES, ids=str)
def test_every_op_reads_every_layout(case: Case, number: int) -> None:
    ab.set_default_dtype("float64")
    x, attrs = case.sample.operands, case.sample.attrs

    def fn(is_lifted: bool) -> Any:
        return apply(case.op, tuple(laid(e, LAYOUTS[number], is_lifted) for e in x), attrs)

    with np.errstate(all="ignore"):
        expected = ab.evaluate(apply(case.op, tuple(laid(e, {}, True) for e in x), attrs))
        for is_batched in (True, False):
            for found in ab.evaluate(ab.map(fn, [False, True], batched=is_batched)):
                np.testing.assert_allclose(found, expected, rtol=1e-10)


SMOOTH = [(case, k) for case, k in SAMPLES if case.sample.smooth and all(map(_is_float, case.sample.operands))]


@pytest.mark.parametrize(("case", "number"), SMOOTH, ids=str)
def test_every_derivative_passes_every_layout(case: Case, number: int) -> None:
    ab.set_default_dtype("float64")
    scale = ab.Parameter(1.0)
    x, attrs = case.sample.operands, case.sample.attrs

    def derivatives(layouts: dict[int, int], is_batched: bool) -> Any:
        def loss(*operands: Any) -> Any:
            y = apply(case.op, tuple(laid(e * scale, layouts, False) for e in operands), attrs)
            return ab.tanh(y).sum()

        def second(*operands: Any) -> Any:
            first = ab.grad(loss, tuple(range(len(operands))))(*operands)
            return ab.sum([(g * g).sum() for g in first])

        total = ab.sum(ab.map(lambda _: second(*(ab.tensor(e) for e in x)), range(2), batched=is_batched)) + scale
        scale.grad = None
        value = float(total.detach())
        total.backward()
        return value, scale.grad

    expected = derivatives({}, True)
    for is_batched in (True, False):
        np.testing.assert_allclose(derivatives(LAYOUTS[number], is_batched), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("x", "layout"), FORMS)
def test_values_are_read_as_they_are(x: Any, layout: int) -> None:
    t = lift(x, current_tape(), layout)
    u = laid_out(t * 1.0, layout)
    np.testing.assert_array_equal(t.numpy(), x)
    np.testing.assert_array_equal(ab.evaluate([u, u, t])[1], x)
    assert u.shape == x.shape and repr(u).startswith(f"Tensor(f64[{', '.join(map(str, x.shape))}]")
    np.testing.assert_array_equal(np.asarray(u.detach()), x)


@pytest.mark.parametrize(("x", "layout"), FORMS)
def test_lists_of_several_layouts_are_lists_of_one_type(x: Any, layout: int) -> None:
    @ab.cell
    def total(values: list[ab.Tensor]) -> ab.Tensor:
        return ab.sum([ab.tanh(v) for v in values])

    def fn(k: int) -> Any:
        values = [ab.tensor(x) * 1.0, laid_out(ab.tensor(x) * 2.0, layout)]
        return ab.sum(values), ab.max(values[::-1]), ab.stack(values), total(values), total(values[::-1])

    for is_batched in (True, False):
        plain = np.tanh(x) + np.tanh(2 * x)
        for found in ab.evaluate(ab.map(fn, range(2), batched=is_batched)):
            for y, expected in zip(
                found, (3 * x, np.maximum(x, 2 * x), np.stack([x, 2 * x]), plain, plain), strict=True
            ):
                np.testing.assert_allclose(y, expected)


@pytest.mark.parametrize(("x", "layout"), FORMS)
def test_gradients_return_to_earlier_recordings(x: Any, layout: int) -> None:
    p = ab.Parameter(x)
    for is_batched in (True, False):
        p.grad = None
        early = ab.map(lambda k: laid_out(p * ab.tensor(float(k)), layout), range(3), batched=is_batched)
        ab.evaluate(early)
        ab.sum(ab.map(lambda t: (t * ab.tensor(x)).sum(), early, batched=is_batched)).backward()
        np.testing.assert_allclose(p.grad, 3 * x)


@pytest.mark.parametrize(("x", "layout"), FORMS)
def test_recordings_are_reused(x: Any, layout: int) -> None:
    constant = laid_out(ab.tensor(x) * 1.0, layout).detach()
    ab.evaluate(constant)

    def fn(k: int) -> Any:
        return laid_out(ab.tensor(x) * float(k), layout), laid_out(ab.tensor(x), layout) + constant

    for _ in range(3):
        for k, found in enumerate(ab.evaluate(ab.map(fn, [0, 1, 2], reuse=True))):
            np.testing.assert_allclose(found, (k * x, 2 * x))


@pytest.mark.parametrize("batched", [True, False])
def test_columns_cut_into_heads_are_the_same_rows(batched: bool) -> None:
    """A reshape that leaves the rows as they are takes no launch, and has first and second derivatives."""
    rng = np.random.default_rng(6)
    cases = [rng.normal(size=(n, 6)) for n in (1, 3, 0, 2)]

    def program(x: ab.Tensor) -> ab.Tensor:
        y = ab.tanh(x).reshape(len(x), 2, 3) ** 2
        return (y.reshape(len(x), 6) * x).sum(axis=0).sum()

    def slope(x: Any) -> ab.Tensor:
        (g,) = ab.grad(lambda xs: program(xs[0]))([x * 1.0])
        return (g * g).sum(axis=0).sum()

    def flat(x: Any) -> ab.Tensor:
        (g,) = ab.grad(lambda xs: (ab.tanh(xs[0]) ** 2 * xs[0]).sum(axis=0).sum())([x * 1.0])
        return (g * g).sum(axis=0).sum()

    found = []
    for fn in (slope, flat):
        sources = [ab.Parameter(x) for x in cases]
        total = ab.sum(ab.map(fn, sources, batched=batched))
        total.backward()
        found.append((float(total), [host(x.grad) for x in sources if x.shape[0]]))
    assert abs(found[0][0] - found[1][0]) < 1e-4 * (1 + abs(found[1][0]))
    for a, b in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    with ab.profile() as profile:
        ab.evaluate(ab.map(lambda x: ab.tensor(x).reshape(len(x), 2, 3), cases))
    assert not batched or profile.launches == 0


def test_a_stack_of_many_numbers_needs_no_code_of_its_length() -> None:
    w = ab.Parameter(np.ones(2))

    def fn(n: int) -> Any:
        return ab.stack([ab.tensor([0.1 * k, 1.0]) @ w for k in range(n)])

    assert [ab.map(fn, [n])[0]._type.layout for n in (40, 17)] == [ELEMENTS, ELEMENTS]


@pytest.mark.parametrize("name", backends("numpy", "numba"))
def test_rows_cut_into_several(name: str) -> None:
    """Rows of any number that are cut take one launch, and have first and second derivatives."""
    ab.set_default_dtype("float64")
    w = ab.Parameter(np.linspace(-1.0, 2.0, 6).reshape(2, 3))
    shapes: list[Callable[[int], Any]] = [lambda n: (2 * n, 3), lambda n: (3 * n, 2), lambda n: 6 * n]

    def one(n: int, way: Callable[[int], Any]) -> tuple[Any, Any]:
        h = ab.tensor(np.random.default_rng(n).normal(size=(n, 2, 3))) * w

        def loss(h: Any) -> Any:
            return (h.reshape(way(n)) ** 3).sum()

        slope = ab.grad(loss)(h)
        return h.reshape(n, 6).reshape(way(n)), loss(h) + (slope * slope).sum()

    lengths = [2, 1, 5, 0]
    with ab.backend(name):
        for way in shapes:
            found = []
            for ways in ({"batched": False}, {}, {"reuse": True}):
                w.grad = None
                made = ab.map(lambda n, way=way: one(n, way), lengths, **ways)
                ab.sum([loss for _, loss in made]).backward(retain=True)
                found.append([*(x for pair in ab.evaluate(made) for x in pair), host(w.grad)])
            for got in found[1:]:
                for a, b in zip(got, found[0], strict=True):
                    assert a.shape == b.shape
                    np.testing.assert_allclose(a, b, rtol=1e-9)
            arrays = [np.ones((n, 2, 3)) for n in lengths]
            with ab.profile() as p:
                ab.evaluate(ab.map(lambda x, way=way: ab.tensor(x).reshape(way(len(x))), arrays))
            assert p.launches == 1, p.table()
