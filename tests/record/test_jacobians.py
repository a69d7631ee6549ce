"""Derivatives of functions of any results against each other, the loop over examples and differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.errors import OpTypeError, RecordingError
from tests import requested

pytestmark = pytest.mark.usefixtures("numpy_in_float64")

X, V = np.array([0.3, -0.7, 1.1]), np.array([1.0, -2.0, 0.5])


def layer() -> nn.Linear:
    made = nn.Linear(3, 2)
    made.weight.value = np.linspace(-0.5, 0.7, 6).reshape(2, 3)
    made.bias.value = np.array([0.1, -0.2])
    return made


def energy(m: Any, x: Any) -> Any:
    h = ab.tanh(m(x))
    return (h * h).sum() + h[0] * x[1]


def differences(fn: Callable[[np.ndarray[Any, Any]], Any], x: np.ndarray[Any, Any], h: float = 1e-5) -> Any:
    """[..., x] derivatives of an array by the last axis."""
    steps = [(fn(x + d) - fn(x - d)) / (2 * h) for d in np.eye(x.size) * h]
    return np.stack(steps, -1)


def at_x(m: Any) -> Callable[[Any], Any]:
    return lambda x: energy(m, x)


def test_each_is_what_differences_give() -> None:
    m = layer()
    slope = ab.grad(at_x(m))
    expected = differences(lambda x: slope(ab.tensor(x)).numpy(), X)
    x = ab.tensor(X)
    ways = {
        "hessian": ab.hessian(at_x(m))(x).numpy() @ V,
        "jacobian of grad": ab.jacobian(slope)(x).numpy() @ V,
        "hvp": ab.hvp(at_x(m), (x,), (V,)).numpy(),
        "forward over reverse": ab.jvp(slope, (x,), (V,))[1].numpy(),
        "reverse over forward": ab.grad(lambda x: ab.jvp(at_x(m), (x,), (V,))[1])(x).numpy(),
        "reverse over reverse": ab.vjp(slope, x)[1](V)[0].numpy(),
    }
    for name, found in ways.items():
        np.testing.assert_allclose(found, expected @ V, rtol=1e-6, atol=1e-8, err_msg=name)
    value, along = ab.jvp(at_x(m), (x,), (V,))
    np.testing.assert_allclose([float(value), float(along)], [float(energy(m, x).detach()), slope(x).numpy() @ V])


def test_a_module_among_the_arguments() -> None:
    m = layer()
    directions = {"weight": np.linspace(1, 2, 6).reshape(2, 3), "bias": np.array([0.5, -1.0])}
    value, along = ab.jvp(lambda m, x: ab.tanh(m(x)), (m, ab.tensor(X)), (directions, V))
    assert value.shape == along.shape == (2,)
    jacobians, by_x = ab.jacobian(lambda m, x: ab.tanh(m(x)), (0, 1))(m, ab.tensor(X))
    assert jacobians["weight"].shape == (2, 2, 3)
    expected = sum(np.tensordot(jacobians[name].numpy(), d, d.ndim) for name, d in directions.items())
    np.testing.assert_allclose(along.numpy(), expected + by_x.numpy() @ V, rtol=1e-10)
    product = ab.hvp(energy, (m, ab.tensor(X)), (directions, np.zeros(3)))[0]
    shifted = [ab.grad(lambda m: energy(m, X))(m) for _ in _along(m, directions)]
    for name in directions:
        steps = [one[name].numpy() for one in shifted]
        np.testing.assert_allclose(product[name].numpy(), (steps[1] - steps[0]) / 2e-5, rtol=1e-5, atol=1e-8)


def _along(m: Any, directions: dict[str, Any]) -> Iterator[None]:
    before = {name: requested.host(p.value).copy() for name, p in m.named_parameters()}
    for h in (-1e-5, 1e-5):
        for name, p in m.named_parameters():
            p.value = before[name] + h * directions[name]
        yield
    for name, p in m.named_parameters():
        p.value = before[name]


def test_inside_and_around_map_they_are_those_of_the_loop() -> None:
    m = layer()
    xs = [X, 2 * X, V]

    def inside(x: Any) -> Any:
        x = ab.tensor(x)
        y, pull = ab.vjp(lambda x: ab.tanh(m(x)), x)
        return ab.hessian(at_x(m))(x), ab.hvp(at_x(m), (x,), (V,)), pull(y)[0], ab.jvp(at_x(m), (x,), (V,))[1]

    batched, alone = (ab.map(inside, xs, batched=flag) for flag in (True, False))
    for one, other in zip(ab.evaluate(batched), ab.evaluate(alone), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    around = ab.hvp(lambda m: ab.sum(ab.map(lambda x: energy(m, x), xs)), (m,), ({"bias": np.ones(2)},))
    each = [ab.hvp(lambda m, x=x: energy(m, x), (m,), ({"bias": np.ones(2)},)) for x in xs]
    np.testing.assert_allclose(around["weight"].numpy(), sum(e["weight"].numpy() for e in each), rtol=1e-9)
    ab.sum([(found[1] ** 2).sum() for found in ab.map(inside, xs)]).backward()
    expected = differences(lambda b: _norm_of_hvps(m, b, xs), requested.host(m.bias.value).copy())
    np.testing.assert_allclose(requested.host(m.bias.grad), expected, rtol=1e-6)


def _norm_of_hvps(m: Any, bias: Any, xs: Any) -> Any:
    m.bias.value = bias
    return sum(float((ab.hvp(at_x(m), (ab.tensor(x),), (V,)) ** 2).sum().detach()) for x in xs)


def test_structures_and_aux() -> None:
    def fn(a: Any, rest: Any) -> Any:
        return {"y": a * rest[0], "z": (rest[1], 3)}, "note"

    a, rest = ab.tensor(2.0), [ab.tensor([1.0, 2.0]), ab.tensor(4.0)]
    value, pull, aux = ab.vjp(fn, a, rest, has_aux=True)
    assert (aux, value["z"][1]) == ("note", 3)
    by_a, (by_0, by_1) = pull({"y": np.array([1.0, 3.0]), "z": (5.0, 0)})
    assert [by_a.tolist(), by_0.tolist(), by_1.tolist()] == [7.0, [2.0, 6.0], 5.0]
    _, along, _ = ab.jvp(fn, (a, rest), (1.0, [np.zeros(2), 2.0]), has_aux=True)
    assert [along["y"].tolist(), along["z"][0].tolist(), along["z"][1].tolist()] == [[1.0, 2.0], 2.0, 0.0]
    found, aux = ab.jacobian(lambda a: ((a * a, a[:0]), "note"), has_aux=True)(rest[0])
    assert (found[0].tolist(), found[1].shape, aux) == ([[2.0, 0.0], [0.0, 4.0]], (0, 2), "note")
    (value, aux), slope = ab.value_and_grad(lambda x: (x * x, {"twice": 2 * x}), has_aux=True)(3.0)
    assert [float(value), float(aux["twice"]), float(slope)] == [9.0, 6.0, 6.0]
    assert [float(x) for x in ab.grad(lambda x: (x * x, x), has_aux=True)(3.0)] == [6.0, 3.0]


def test_a_vjp_after_its_recording_has_run_draws_the_same_numbers() -> None:
    ab.seed(1)
    fn = lambda x: ab.dropout(x, 0.5, training=True) * x  # noqa: E731
    y, pull = ab.vjp(fn, ab.tensor(np.ones(20)))
    forced = y.numpy()
    after = ab.normal(3).numpy()
    np.testing.assert_allclose(pull(np.ones(20))[0].numpy(), 2 * forced)
    ab.seed(1)
    y, pull = ab.vjp(fn, ab.tensor(np.ones(20)))
    np.testing.assert_array_equal(pull(np.ones(20))[0].numpy(), 2 * forced)
    np.testing.assert_array_equal(ab.normal(3).numpy(), after)


def test_values_forced_inside_decide() -> None:
    w = ab.Parameter([0.5, 0.2])

    def fn(x: Any) -> Any:
        n = 0
        while float((x * x).sum()) < 50:
            x, n = x * 2 * w + x, n + 1
        return (x * w).sum() * n

    xs = [[0.3, 0.7], [1.0, 2.0], [6.0, 5.0]]
    earlier = ab.tensor(xs[0]) * 1.0
    earlier.numpy()
    for x in (ab.tensor(xs[0]), earlier):
        expected = differences(lambda x: float(fn(ab.tensor(x)).detach()), np.array(xs[0]))
        np.testing.assert_allclose(ab.grad(fn)(x).numpy(), expected, rtol=1e-6)
        curved = differences(lambda x: ab.grad(fn)(ab.tensor(x)).numpy(), np.array(xs[0]))
        np.testing.assert_allclose(ab.hessian(fn)(x).numpy(), curved, rtol=1e-6, atol=1e-6)
    batched, alone = (ab.map(lambda x: ab.grad(fn)(ab.tensor(x)), xs, batched=flag) for flag in (True, False))
    np.testing.assert_allclose(ab.evaluate(batched), ab.evaluate(alone), rtol=1e-12)
    ab.sum([g.sum() for g in ab.map(lambda x: ab.grad(fn)(ab.tensor(x)), xs)]).backward()
    assert w.grad is not None
    with pytest.raises(IndexError, match="test_jacobians"):
        ab.grad(lambda x: (x * float(ab.tensor([1.0])[ab.tensor(7)])).sum())(ab.tensor(1.0))


def test_under_no_grad_results_are_constants() -> None:
    w = ab.Parameter([1.0, 2.0])
    with ab.no_grad():
        y, pull = ab.vjp(lambda x: x * w, ab.tensor([3.0, 4.0]))
        results = [y, pull(np.ones(2))[0], *ab.jvp(lambda x: x * w, (w,), (np.ones(2),))]
    assert [r.tolist() for r in results] == [[3.0, 8.0], [1.0, 2.0], [1.0, 4.0], [1.0, 2.0]]
    for r in results:
        with pytest.raises(RecordingError):
            r.sum().backward()


def change(w: ab.Parameter) -> Any:
    w.value = [2.0, 3.0]


def test_errors_name_what_is_wrong() -> None:
    x = ab.tensor([1.0, 2.0])
    w = ab.Parameter([1.0, 2.0])
    for match, call in {
        "shape of its value": lambda: ab.vjp(lambda x: x * x, x)[1](np.ones(3)),
        "structure of the result": lambda: ab.vjp(lambda x: (x, x), x)[1](np.ones(2)),
        "one tangent": lambda: ab.jvp(lambda x: x * x, (x,), (x, x)),
        "primals are not a tuple": lambda: ab.hvp(lambda x: x.sum(), x, x),
        "floating scalar": lambda: ab.hvp(lambda x: x * x, (x,), (x,)),
        "only floating values": lambda: ab.jacobian(lambda x: x)(ab.tensor([1])),
        "value, aux": lambda: ab.grad(lambda x: x.sum(), has_aux=True)(x),
        "floating tensors": lambda: ab.jacobian(lambda x: 3)(x),
    }.items():
        with pytest.raises(OpTypeError, match=match):
            call()
    _, pull = ab.vjp(lambda x: x * w, x)
    change(w)
    with pytest.raises(RecordingError, match="parameters have changed"):
        pull(np.ones(2))
    with pytest.raises(RecordingError, match="pending work was run"):
        ab.grad(lambda x: (change(w), (x * w).sum())[1])(x)
