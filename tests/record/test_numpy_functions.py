"""NumPy's functions on values: each entry of the table against NumPy; arrays only where no gradient is lost."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.errors import CellError, OpTypeError
from autobatch.expand import gradient_flow
from autobatch.ops.reduce import REDUCTIONS
from autobatch.record.numpy_functions import FUNCTIONS
from tests import requested
from tests.requested import host

X, Y = np.array([[0.3, -1.2, 2.5], [1.1, 0.4, -0.7]]), np.array([[1.5, 0.6, -2.0], [0.9, 1.3, 0.2]])

ARGUMENTS: dict[str, tuple[Callable[..., Any], ...]] = {
    "round": (lambda f, x, y: f(x), lambda f, x, y: f(x * 9.87, decimals=1)),
    "clip": (lambda f, x, y: f(x, -1.0, 1.0), lambda f, x, y: f(x, min=-1.0), lambda f, x, y: f(x, None, y)),
    "where": (lambda f, x, y: f(x > 0, x, y), lambda f, x, y: f(x > 0, x, 0.5)),
    "matmul": (lambda f, x, y: f(x, y.T), lambda f, x, y: f(x[0], y[0])),
    "outer": (lambda f, x, y: f(x, y),),
    "size": (lambda f, x, y: f(x), lambda f, x, y: f(x, 1)),
    "reshape": (lambda f, x, y: f(x, (3, -1)), lambda f, x, y: f(x, 6)),
    "transpose": (lambda f, x, y: f(x), lambda f, x, y: f(x, axes=(1, 0)), lambda f, x, y: f(x[None], (1, 2, 0))),
    "swapaxes": (lambda f, x, y: f(x, 0, 1), lambda f, x, y: f(x[None], axis1=-1, axis2=0)),
    "moveaxis": (lambda f, x, y: f(x[None], 0, -1), lambda f, x, y: f(x[None], [0, 1], [2, 0])),
    "squeeze": (lambda f, x, y: f(x[None]), lambda f, x, y: f(x[:, None, :, None], axis=-1)),
    "expand_dims": (lambda f, x, y: f(x, 0), lambda f, x, y: f(x, axis=(0, -1)), lambda f, x, y: f(x[0], (1, 0))),
    "broadcast_to": (lambda f, x, y: f(x, (4, 2, 3)), lambda f, x, y: f(x[0, 0], 5)),
    "concatenate": (
        lambda f, x, y: f([x, y]),
        lambda f, x, y: f((x, y), axis=1),
        lambda f, x, y: f([x, y], axis=None),
        lambda f, x, y: f([x, Y]),
    ),
    "stack": (lambda f, x, y: f([x, y]), lambda f, x, y: f([x, y], axis=-1), lambda f, x, y: f([x[0, 0], 2.0])),
    "vstack": (lambda f, x, y: f([x, y[0]]), lambda f, x, y: f([x[0], y[0]])),
    "hstack": (lambda f, x, y: f([x, y]), lambda f, x, y: f([x[0], y[1]]), lambda f, x, y: f([x[0, 0], y[0, 0]])),
    "split": (lambda f, x, y: f(x, 2)[1], lambda f, x, y: f(x, [1, 2], axis=1)[1]),
    "full_like": (lambda f, x, y: f(x, 3.0),),
    "flip": (lambda f, x, y: f(x), lambda f, x, y: f(x, axis=1), lambda f, x, y: f(x, (0, 1))),
    **dict.fromkeys(("arcsin", "arccos", "arctanh"), (lambda f, x, y: f(x * 0.3),)),
    **dict.fromkeys(("arccosh", "log1p"), (lambda f, x, y: f(x * x + 1.0),)),
    "nan_to_num": (lambda f, x, y: f(x / (x - 0.4) / 0.0), lambda f, x, y: f(x / 0.0, posinf=3.0)),
    "log": (lambda f, x, y: f(x * x),),
    "sqrt": (lambda f, x, y: f(x * x),),
    "power": (lambda f, x, y: f(x * x, y), lambda f, x, y: f(x, 2), lambda f, x, y: f(2.0, x)),
    "divmod": (lambda f, x, y: f(x, y)[0], lambda f, x, y: f(x, y)[1]),
    **dict.fromkeys(("bitwise_and", "bitwise_or", "bitwise_xor"), (lambda f, x, y: f(x > 0, y > 0),)),
    "invert": (lambda f, x, y: f(x > 0),),
    **dict.fromkeys(
        (*REDUCTIONS, "amax", "amin", "any", "all"),
        (
            lambda f, x, y: f(x),
            lambda f, x, y: f(x, axis=0),
            lambda f, x, y: f(x, 1, keepdims=True),
            lambda f, x, y: f(x, axis=(0, 1)),
            lambda f, x, y: f(x, axis=None, out=None),
        ),
    ),
    "roll": (lambda f, x, y: f(x, 1), lambda f, x, y: f(x, -1, axis=1), lambda f, x, y: f(x, 6, 0)),
    "repeat": (lambda f, x, y: f(x, 2), lambda f, x, y: f(x, 2, axis=0), lambda f, x, y: f(x, 3, -1)),
    "count_nonzero": (lambda f, x, y: f(x > 0), lambda f, x, y: f(x, axis=1)),
    "pad": (lambda f, x, y: f(x, 1), lambda f, x, y: f(x, ((1, 0), (0, 2)))),
    **dict.fromkeys(("allclose", "array_equal"), (lambda f, x, y: f(x, X), lambda f, x, y: f(x, y))),
}

ONE_OPERAND: tuple[Callable[..., Any], ...] = (lambda f, x, y: f(x),)
TWO_OPERANDS: tuple[Callable[..., Any], ...] = (
    lambda f, x, y: f(x, y),
    lambda f, x, y: f(X, y),
    lambda f, x, y: f(x, np.float64(0.7)),
    lambda f, x, y: f(0.7, y),
)


def calls(function: Callable[..., Any]) -> tuple[Callable[..., Any], ...]:
    found = ARGUMENTS.get(function.__name__)
    if found is None:
        n_inputs = getattr(function, "nin", 0) or len(inspect.signature(FUNCTIONS[function]).parameters)
        found = TWO_OPERANDS if n_inputs == 2 and isinstance(function, np.ufunc) else ONE_OPERAND
    return found


def on_values(fn: Callable[[Any, Any], Any], how: str) -> Any:
    x, y = ab.tensor(X) * 1.0, ab.tensor(Y) * 1.0
    if how == "cell":
        fn = ab.cell(fn)
    if how == "shared":
        x, y = ab.constant(X), ab.constant(Y)
    if how in ("batched", "one by one"):
        first, second = ab.map(lambda _: fn(ab.tensor(X) * 1.0, ab.tensor(Y) * 1.0), [0, 1], batched=how == "batched")
        assert np.array_equal(ab.evaluate(first), ab.evaluate(second), equal_nan=True)
        return first
    return fn(x, y)


OF_NUMBERS = {"allclose", "array_equal", "shape", "ndim", "size"}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_functions_equal_numpys(function: Callable[..., Any]) -> None:
    ab.set_default_dtype("float64")
    ab.set_backend(requested.backend("numpy"))  # what is compared is the table; kernels are compared elsewhere
    for call in calls(function):
        with np.errstate(all="ignore"):
            wanted = call(function, X, Y)
        for how in ("op by op", "cell", "shared", "batched", "one by one"):
            if how == "cell" and function.__name__ in OF_NUMBERS:
                continue
            got = on_values(lambda x, y, call=call: call(function, x, y), how)
            assert isinstance(got, ab.Tensor) or function.__name__ in OF_NUMBERS, how
            got = ab.evaluate(got)
            assert np.shape(got) == np.shape(wanted), (function, how)
            np.testing.assert_allclose(np.asarray(got), wanted, rtol=1e-12, err_msg=how)
            assert np.asarray(got).dtype == np.asarray(wanted).dtype, how


@pytest.mark.parametrize("batched", [True, False])
def test_gradients_go_through_numpys_functions(batched: bool) -> None:
    ab.set_default_dtype("float64")
    w = ab.Parameter([0.5, -1.5])

    def fn(x: Any) -> Any:
        h = np.stack([np.tanh(w * x), np.ones(2) * w], axis=1)
        return np.sum(np.concatenate([h, np.maximum(np.zeros((1, 2)), h[:1])]) @ np.array([1.0, 2.0]))

    def plain(v: Any) -> float:
        total = 0.0
        for x in (1.0, 2.0):
            h = np.stack([np.tanh(v * x), v], axis=1)
            total += float(np.sum(np.concatenate([h, np.maximum(0.0, h[:1])]) @ np.array([1.0, 2.0])))
        return total

    if batched:
        ab.sum(ab.map(lambda x: fn(ab.tensor(x)), [1.0, 2.0])).backward()
    else:
        for x in (1.0, 2.0):
            fn(x).backward()
    v, step = np.array([0.5, -1.5]), 1e-6
    slopes = [(plain(v + d) - plain(v - d)) / (2 * step) for d in np.eye(2) * step]
    np.testing.assert_allclose(host(w.grad), slopes, rtol=1e-6)


@pytest.mark.parametrize(
    ("action", "parts"),
    [
        (lambda t: np.nanmedian(t), ["numpy.nanmedian", "numpy.median", ".numpy()"]),
        (lambda t: np.nextafter(t, t), ["numpy.nextafter", "nearest"]),
        (lambda t: np.linalg.pinv(t), ["numpy.linalg.pinv", "nearest"]),
        (lambda t: np.add(t, 1.0, out=np.zeros(2)), ["numpy.add", "out="]),
        (lambda t: np.exp(t, where=[True, False]), ["numpy.exp", "where=", "ab.where"]),
        (lambda t: np.sum(t, dtype=np.float64), ["numpy.sum", "dtype=", "astype"]),
        (lambda t: np.max(t, initial=3.0), ["numpy.max", "initial="]),
        (lambda t: np.reshape(t, (1, 2), order="F"), ["numpy.reshape", "order='F'"]),
        (lambda t: np.add.accumulate(t), ["numpy.add.accumulate"]),
        (lambda t: np.where(t > 0), ["where", "three"]),
        (lambda t: np.squeeze(t, axis=0), ["squeeze", "not equal to one"]),
        (lambda t: np.stack([t, t], 5), ["stack", "axis 5"]),
        (lambda t: np.sum(t, 0, 1, 2, 3, 4, 5, 6, 7), ["numpy.sum"]),
    ],
)
def test_what_is_not_in_the_table_says_so(action: Callable[[Any], Any], parts: list[str]) -> None:
    for make in (lambda: ab.tensor([1.0, 2.0]) * 1.0, lambda: ab.Parameter([1.0, 2.0])):
        with pytest.raises((OpTypeError, TypeError)) as caught:
            action(make())
        for part in parts:
            assert part in str(caught.value) or (part == "numpy.sum" and "sum" in str(caught.value)), caught.value


def test_an_array_takes_no_value_in_place() -> None:
    x = np.zeros(2)
    with pytest.raises(OpTypeError, match="y = x \\+ y"):
        x += ab.tensor([1.0, 2.0])


def test_reduce_is_a_sum() -> None:
    x = ab.tensor(X) * 1.0
    np.testing.assert_allclose(np.add.reduce(x).numpy(), np.add.reduce(X), rtol=1e-6)
    np.testing.assert_allclose(np.maximum.reduce(x, axis=1).numpy(), np.maximum.reduce(X, axis=1), rtol=1e-6)


# Arrays.


def carrying(w: Any) -> list[Any]:
    """Values that a parameter leads to."""
    t = w * ab.tensor([1.0, 2.0])
    kept = w * ab.tensor(3.0)
    kept.numpy()
    return [w, w * 2.0, w.T + 0.0, t, t[0], ab.tanh(t).sum(), ab.sum([t, t]), ab.cell(lambda a: a * 2.0)(t), kept + 1.0]


def constants(w: Any) -> list[Any]:
    """Values that lose no gradient."""
    x = ab.tensor([1.0, 2.0])
    with ab.no_grad():
        frozen, expression = w * x, w * 2.0
    t = w * x
    numbers = ab.tensor([3.0, 4.0])
    numbers.numpy()
    buffer = ab.nn.Buffer([1.0, 2.0])
    return [x, x + 1.0, frozen, frozen * 2.0, expression, t.detach(), t.detach() * x, t > 0, t.astype(int) * 1.0,
            numbers * x, buffer, buffer * x, ab.ones(2) * 3.0, ab.normal(2), ab.stack([x, x])[0]]  # fmt: skip


@pytest.mark.parametrize("pack", [np.asarray, lambda t: np.array([t, t]), ab.constant, lambda t: np.float64([t])])
def test_what_carries_a_gradient_becomes_an_array_by_name_alone(pack: Callable[[Any], Any]) -> None:
    w = ab.Parameter([1.0, 2.0])
    for value in carrying(w):
        with pytest.raises(OpTypeError, match=r"\.numpy\(\)[\s\S]*\.detach\(\)[\s\S]*ab\.stack"):
            pack(value)
        assert value.numpy().dtype == np.float32
        with pytest.raises(OpTypeError):  # computed or not
            pack(value)
    for k, value in enumerate(constants(w)):
        np.testing.assert_array_equal(np.array(pack(value)), np.array(pack(value.numpy())), err_msg=str(k))


def test_asking_whether_a_gradient_is_lost_runs_nothing() -> None:
    t = ab.Parameter([1.0, 2.0]) * ab.tensor([1.0, 2.0])
    with ab.profile() as profile, pytest.raises(OpTypeError):
        np.asarray(t)
    assert profile.launches == 0
    t.sum().backward()
    with pytest.raises(OpTypeError):
        np.asarray(t)


def test_gradients_are_seen_through_earlier_recordings() -> None:
    w = ab.Parameter([1.0, 2.0])
    x, y = w * ab.tensor(2.0), ab.tensor([1.0, 2.0]) * 2.0
    for _ in range(4):
        x, y = x * 2.0, y * 2.0
        x.numpy(), y.numpy()
    np.asarray(y + 1.0)
    with pytest.raises(OpTypeError, match="detach"):
        np.asarray(x + 1.0)


def test_arrays_in_a_map() -> None:
    w = ab.Parameter([1.0, 2.0])

    def decides(x: Any) -> Any:
        assert np.array([ab.tensor(x), ab.tensor(x) + 1.0]).tolist() == [x, x + 1.0]
        return (w * x).sum()

    assert [float(y) for y in ab.map(decides, [1.0, 2.0])] == [3.0, 6.0]


def test_no_array_in_a_cell() -> None:
    with pytest.raises(CellError, match=r"ab\.stack"):
        ab.cell(lambda x: np.array([x, x]))(ab.tensor(1.0))


def test_an_array_that_may_not_be_a_copy() -> None:
    with pytest.raises(ValueError, match="copied"):
        np.asarray(ab.ones(2), copy=False)
    assert np.asarray(ab.ones(2), dtype=int).dtype == int


def test_each_recording_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    flow = gradient_flow._flow
    monkeypatch.setattr(gradient_flow, "_flow", lambda tape, arrays: looks.append(tape) or flow(tape, arrays))
    w = ab.Parameter([1.0, 2.0])
    with ab.no_grad():
        values = ab.map(lambda x: (w * ab.tensor(x)).sum(), [1.0, 2.0, 3.0, 4.0])
    assert np.array(values).tolist() == [3.0, 6.0, 9.0, 12.0]
    assert len(looks) == 2  # before it ran, and after


def test_a_shape_may_hold_values_that_are_computed() -> None:
    """They are read before anything is recorded."""
    w = ab.Parameter([1.0, 2.0])
    x = ab.tensor([3.0, 4.0]) * w
    found: Any = np.broadcast_to(x, (ab.tensor(1) + 1, 2))
    found.sum().backward()
    np.testing.assert_array_equal(w.grad, [6.0, 8.0])


@pytest.mark.parametrize("ord", [None, 1, 2, 3, np.inf])
@pytest.mark.parametrize("shape", [3, (2, 3)])
def test_norms_of_zeros_have_a_derivative(ord: Any, shape: Any) -> None:
    w = ab.Parameter(np.zeros(shape))
    axes = None if ord is None else -1
    found = np.linalg.norm(w, ord=ord, axis=axes)
    np.testing.assert_array_equal(found.numpy(), np.linalg.norm(w.value, ord=ord, axis=axes))
    found.sum().backward()
    np.testing.assert_array_equal(w.grad, np.zeros(shape))


def test_norms_of_negative_order() -> None:
    for x in ([np.inf, np.inf], [np.inf, 1.0], [2.0, -3.0], [0.0, 1.0]):
        with np.errstate(divide="ignore"):
            wanted = np.linalg.norm(x, ord=-1)
        np.testing.assert_allclose(ab.norm(ab.tensor(x), ord=-1).numpy(), wanted, rtol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(ab.tensor(x), ord=-1).numpy(), wanted, rtol=1e-6)


@pytest.mark.parametrize("x", [[np.inf, 1.0], [np.nan], [], [[], []], np.zeros((0, 2)), [True, True], [[1.0], [2.0]]])
@pytest.mark.parametrize("function", [np.cumulative_sum, np.cumulative_prod])
def test_scans_begin_with_the_identity(function: Callable[..., Any], x: Any) -> None:
    array = np.asarray(x)
    for axis in range(-array.ndim, array.ndim):
        found = function(ab.tensor(array, array.dtype), axis=axis, include_initial=True)
        wanted = function(array, axis=axis, include_initial=True)
        np.testing.assert_array_equal(found.numpy(), wanted, strict=True)


def test_a_list_of_values_beside_a_value_is_stacked() -> None:
    w = ab.Parameter([2.0, 3.0], "float64")
    found: Any = np.inner(w * 1.0, [w[0], w[1] * 2.0])
    found.backward()
    np.testing.assert_array_equal(w.grad, [4.0, 12.0])


BESIDE: list[Callable[[Any, Any], Any]] = [
    *(lambda x, y, join=join: join([x, y]) for join in (np.vstack, np.dstack, np.stack, ab.concat, ab.sum, ab.tensor)),
    lambda x, y: np.hstack([x[0], np.asarray(y)[1]]),
    lambda x, y: np.concatenate([x, y], axis=None),
    *(lambda x, y, fn=fn: fn(y, x) for fn in (np.outer, np.dot, np.copysign, np.logaddexp2, np.trapezoid, np.kron)),
    lambda x, y: np.heaviside(x - x, y),
    lambda x, y: np.append(x, y[0]),
    lambda x, y: ab.cosine_similarity(x, y),
    lambda x, y: ab.cdist(x[None], np.asarray(y)[None]),
    lambda x, y: ab.einsum("i,i", x, y),
    lambda x, y: ab.clip(y, x),
    lambda x, y: ab.layer_norm(x, y, y),
    lambda x, y: ab.scatter_add(x, 0, [0, 1], y),
]


@pytest.mark.parametrize("pack", [np.array, list])
@pytest.mark.parametrize("fn", BESIDE)
def test_numbers_beside_a_float64_value_keep_their_digits(fn: Callable[..., Any], pack: Callable[..., Any]) -> None:
    numbers = [0.1, 0.7]
    x = ab.tensor([0.3, 0.2], "float64") * 1.0
    ab.set_default_dtype("float64")
    wanted = fn(x, ab.tensor(numbers)).numpy()
    ab.set_default_dtype("float32")
    np.testing.assert_allclose(fn(x, pack(numbers)).numpy(), wanted, rtol=1e-14, atol=1e-14, strict=True)
