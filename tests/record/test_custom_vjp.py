"""Functions whose derivative is another function: that one is taken, batched and one by one, to second order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.errors import AutobatchError, CellError, OpTypeError
from tests import requested


@pytest.fixture(autouse=True)
def float64() -> None:
    ab.set_default_dtype("float64")


def plain(x: Any, y: Any) -> Any:
    return ab.sin(x) * y


@ab.custom_vjp
def product(x: Any, y: Any) -> Any:
    return plain(x, y)


product.defvjp(
    lambda x, y: (ab.sin(x) * y, (ab.cos(x), ab.sin(x), y)), lambda kept, g: (kept[0] * g * kept[2], kept[1] * g)
)


@ab.custom_vjp
def clipped(x: Any) -> Any:
    return x


clipped.defvjp(lambda x: (x, None), lambda _, g: (ab.clip(g, -1.0, 1.0),))


def several_plain(x: Any, w: Any) -> Any:
    return {"y": x @ w, "n": [(x * x).sum(), ab.argmax(x[0])]}


@ab.custom_vjp
def several(x: Any, w: Any) -> Any:
    return several_plain(x, w)


def _several_bwd(kept: Any, g: Any) -> Any:
    x, w = kept
    size, nothing = g["n"]
    assert nothing is None
    return g["y"] @ w.T + 2.0 * x * size, x.T @ g["y"]


several.defvjp(lambda x, w: (several_plain(x, w), [x, w]), _several_bwd)

MATRICES = [np.random.default_rng(n).normal(size=(n, 4)) for n in (2, 5, 3, 2, 7)]


def of_matrices(fn: Any) -> Callable[[Any, Any], Any]:
    return lambda x, w: fn(x @ w, (x @ w) * 2.0).sum()


def of_vectors(fn: Any) -> Callable[[Any, Any], Any]:
    return lambda x, w: ab.sum([fn(row @ w, ab.tanh(row @ w)).sum() for row in x])


def in_cell(fn: Any) -> Callable[[Any, Any], Any]:
    step = ab.cell(lambda h: ab.tanh(fn(h, h + 1.0)))
    return lambda x, w: step(x @ w).sum()


def over_list(fn: Any) -> Callable[[Any, Any], Any]:
    total = ab.cell(lambda rows, h: ab.sum([fn(row, h) for row in rows]).sum())
    return lambda x, w: total([row @ w for row in x], ab.tanh(x[0] @ w))


def of_parameter(fn: Any) -> Callable[[Any, Any], Any]:
    return lambda x, w: (fn(w, ab.tanh(w)) * x.sum()).sum()


PROGRAMS = {made.__name__: made for made in (of_matrices, of_vectors, in_cell, over_list, of_parameter)}


def outcome(loss: Callable[[Any, Any], Any], batched: bool, backend: str = "numpy", by_grad: bool = False) -> Any:
    """A total and its gradient; of the squares of the gradients by an argument where `by_grad`."""
    w = ab.Parameter(np.random.default_rng(0).normal(size=(4, 3)))

    def of_example(x: Any) -> Any:
        x = ab.tensor(x)
        return (ab.grad(lambda t: loss(t, w))(x) ** 2).sum() if by_grad else loss(x, w)

    with ab.backend(requested.backend(backend)):
        total = ab.sum(ab.map(of_example, MATRICES, batched=batched))
        total.backward()
        return float(total), requested.host(w.grad)


def assert_close(found: Any, expected: Any) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("by_grad", [False, True])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_true_derivative_changes_nothing(name: str, by_grad: bool) -> None:
    expected = outcome(PROGRAMS[name](plain), batched=False, by_grad=by_grad)
    loss = PROGRAMS[name](product)
    for batched in (True, True, False):
        assert_close(outcome(loss, batched, by_grad=by_grad), expected)


def test_compiled() -> None:
    expected = outcome(of_matrices(plain), batched=False)
    assert_close(outcome(of_matrices(product), True, "numba"), expected)


@pytest.mark.parametrize("by_grad", [False, True])
def test_several_results_and_a_matrix_of_parameters(by_grad: bool) -> None:
    def loss(fn: Any) -> Callable[[Any, Any], Any]:
        def total(x: Any, w: Any) -> Any:
            found = fn(ab.tanh(x), w=w)
            return ab.sin(found["y"]).sum() * found["n"][0]

        return total

    expected = outcome(loss(several_plain), batched=False, by_grad=by_grad)
    for batched in (True, True, False):
        assert_close(outcome(loss(several), batched, by_grad=by_grad), expected)
    made = several(ab.tensor(MATRICES[0]), ab.tensor(np.ones((4, 3))))
    assert type(made["n"]) is list and int(made["n"][1]) == MATRICES[0][0].argmax()


def test_the_derivative_is_the_one_given() -> None:
    x, v = ab.tensor([0.5, 2.0, -3.0]), ab.tensor([1.0, 1.0, 2.0])
    cube = lambda x: (clipped(x) ** 3).sum()  # noqa: E731
    np.testing.assert_allclose(ab.grad(cube)(x).numpy(), [0.75, 1.0, 1.0])
    # Of min(3 y², 1), y being the result, whose cotangent 6 y = 3 is clipped, too: as PyTorch's double backward.
    np.testing.assert_allclose(ab.hvp(cube, (x,), (v,)).numpy(), [1.0, 0.0, 0.0])
    np.testing.assert_allclose(ab.hessian(cube)(x).numpy(), np.diag([1.0, 0.0, 0.0]))
    _, pull = ab.vjp(clipped, x)
    np.testing.assert_allclose(pull(v * 9.0)[0].numpy(), [1.0, 1.0, 1.0])


@pytest.mark.parametrize("as_cell", [False, True])
@pytest.mark.parametrize("shape", [(), (3,), (3, 2)])
def test_equal_calls_have_their_own_cotangents(as_cell: bool, shape: tuple[int, ...]) -> None:
    """A derivative that is not linear in the cotangent: two calls on equal values are not one."""
    w = ab.Parameter(np.ones(shape))
    twice = lambda x: (clipped(x) * 5.0 + clipped(x) * 7.0 - clipped(x) * 0.25).sum()  # noqa: E731
    fn = ab.cell(twice) if as_cell else twice
    with ab.backend(requested.backend("numpy")):
        for batched in (True, False):
            w.grad = None
            ab.sum(ab.map(lambda _: fn(w), range(3), batched=batched)).backward()
            np.testing.assert_allclose(requested.host(w.grad), np.full(shape, 3 * 1.75))


def test_in_runs_of_nodes_that_recur() -> None:
    w = ab.Parameter(np.full(3, 0.1))

    def chain(n: int) -> Any:
        h = w * 1.0
        for _ in range(n):
            h = ab.tanh(clipped(h) * 3.0) + ab.tanh(clipped(h) * 3.0)
        return h.sum()

    found = []
    with ab.backend(requested.backend("numpy")):
        for batched in (True, True, False):
            w.grad = None
            ab.sum(ab.map(chain, [40, 60, 50, 60], batched=batched)).backward()
            found.append(requested.host(w.grad))
    np.testing.assert_allclose(found[0], found[2], rtol=1e-9)
    np.testing.assert_allclose(found[1], found[2], rtol=1e-9)


def test_nothing_flows_through_what_forward_does() -> None:
    """Not even a zero: at 0 the slope of log is infinite."""
    log = ab.custom_vjp(lambda x: ab.log(x))
    log.defvjp(lambda x: (ab.log(x), 1.0 / x), lambda inverse, g: (ab.where(inverse > 100.0, 100.0, inverse) * g,))
    w = ab.Parameter([0.0, 2.0])
    ab.maximum(log(w), -1.0).sum().backward()
    np.testing.assert_allclose(requested.host(w.grad), [0.0, 0.5])
    w.grad = None
    log(w)[1].backward()
    np.testing.assert_allclose(requested.host(w.grad), [0.0, 0.5])


def test_random_draws_and_modules() -> None:
    layer = nn.Linear(3, 3)

    @ab.custom_vjp
    def noisy(x: Any, layer: Any) -> Any:
        return layer(x)

    def forward(x: Any, layer: Any) -> Any:
        kept = ab.uniform((3,)) < 0.5
        return layer(x), (x, kept)

    def backward(kept: Any, g: Any) -> Any:
        x, chosen = kept
        return None, {"weight": ab.outer(ab.where(chosen, g, 0.0), x)}

    noisy.defvjp(forward, backward)
    found = []
    for batched in (True, False):
        ab.seed(3)
        layer.weight.grad = layer.bias.grad = None
        ab.sum(ab.map(lambda n: noisy(ab.ones(3) * n, layer).sum(), [1.0, 2.0, 4.0], batched=batched)).backward()
        assert layer.bias.grad is None or not requested.host(layer.bias.grad).any()
        found.append(requested.host(layer.weight.grad))
    np.testing.assert_allclose(*found)
    assert set(np.unique(found[0])) <= {0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0}


def test_calls_without_gradient_and_cells_switched_off() -> None:
    called = []

    @ab.custom_vjp
    def square(x: Any) -> Any:
        called.append("fn")
        return x * x

    square.defvjp(lambda x: (x * x, x), lambda x, g: (2.0 * x * g,))
    with ab.no_grad():
        assert float(square(ab.tensor(3.0))) == 9.0
    assert called == ["fn"]
    with ab.disable_cells():
        assert float(ab.grad(square)(ab.tensor(3.0))) == 6.0


def test_what_is_wrong_raises() -> None:
    x = ab.tensor([1.0, 2.0])

    def made(fwd: Any, bwd: Any) -> Any:
        fn = ab.custom_vjp(lambda x: x)
        fn.defvjp(fwd, bwd)
        return fn

    same = lambda x: (x, None)  # noqa: E731
    wrong: list[tuple[Any, type[AutobatchError], str]] = [
        (ab.custom_vjp(lambda x: x), OpTypeError, "no derivative yet"),
        (made(lambda x: x, None), OpTypeError, "must return .result, residuals"),
        (made(same, lambda _, g: g), OpTypeError, "tuple with the cotangent of each argument"),
        (made(same, lambda _, g: (g, g)), OpTypeError, "2 for 1"),
        (made(same, lambda _, g: (g.sum(),)), OpTypeError, r"expected \(2,\), got \(\)"),
        (made(same, lambda _, g: (float(g.sum()),)), CellError, "cannot be forced"),
    ]
    for fn, kind, message in wrong:
        with pytest.raises(kind, match=message):
            fn(x)
    with pytest.raises(OpTypeError, match=r"jvp: a function has a derivative of its own[\s\S]*repair: use ab\.vjp"):
        ab.jvp(clipped, (x,), (x,))
    with pytest.raises(OpTypeError, match="cannot be called"):
        ab.custom_vjp(3)


def test_in_a_recurrent_cell_that_is_cut() -> None:
    """What does not depend on the recurrence is a node of its own: not so what a cotangent leads to."""
    rng = np.random.default_rng(0)
    w, u = (ab.Parameter(rng.normal(size=(16, 16)) * 0.3) for _ in range(2))
    sequences = [rng.normal(size=(n, 16)) for n in (60, 30, 80, 40)]

    def gradients(fn: Any, batched: bool) -> tuple[Any, Any]:
        @ab.cell
        def step(x: Any, h: Any) -> Any:
            z = w @ x
            return ab.tanh(fn(z, z * 2.0) + fn(z, u @ h) + u @ h)

        def last(rows: Any) -> Any:
            h = ab.zeros(16)
            for row in rows:
                h = step(ab.tensor(row), h)
            return (h * h).sum()

        w.grad = u.grad = None
        ab.sum(ab.map(last, sequences, batched=batched)).backward()
        if batched:
            signatures = [found.signature for found in step.cell.traced()]  # type: ignore[attr-defined]
            assert any(s.is_custom and s.decisions.cut for s in signatures)
        return requested.host(w.grad), requested.host(u.grad)

    with ab.backend(requested.backend("numpy")):
        w, u = (ab.Parameter(x.value) for x in (w, u))
        expected = gradients(plain, batched=False)
        assert_close(gradients(product, batched=True), expected)
        assert_close(gradients(product, batched=True), expected)
