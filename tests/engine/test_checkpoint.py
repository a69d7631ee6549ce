"""Functions that are called again in the backward pass: same values and gradients, in less memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.backends.host.arena import arena
from autobatch.errors import RecordingError
from tests import requested

W: Any = None
B: Any = None
"""Parameters that the functions read, made for each test."""
EXAMPLES = [(np.random.default_rng(k).normal(size=4), n) for k, n in enumerate((1, 3, 2, 4, 3))]

Call = Callable[..., Any]


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    ab.set_default_dtype("float64")
    with ab.backend(requested.backend("numpy")):
        globals()["W"] = ab.Parameter(np.random.default_rng(0).normal(size=(4, 4)) * 0.5)
        globals()["B"] = ab.Parameter(np.linspace(-0.2, 0.3, 4))
        yield


def plain(fn: Any, *args: Any, **kwargs: Any) -> Any:
    return fn(*args, **kwargs)


def segment(h: Any, scale: Any = 1.0) -> Any:
    for _ in range(3):
        h = ab.tanh(W @ h + B) * scale
    return h


def chain(call: Call, x: Any, n: int) -> Any:
    h = x * B + W[0]
    for _ in range(n):
        h = call(segment, h, scale=1.25)
    return (h * h).sum()


def random_draws(call: Call, x: Any, n: int) -> Any:
    def noisy(h: Any) -> Any:
        return ab.dropout(segment(ab.dropout(h, 0.3, training=True)), 0.5, training=True) + ab.normal(4)

    for _ in range(n):
        x = call(noisy, x * B) * ab.uniform(4)
    return (x * x).sum()


def several_results(call: Call, x: Any, n: int) -> Any:
    def both(h: Any, more: Any) -> Any:
        return {"h": segment(h), "rest": [(h * more[0]).sum(), ab.argmax(h), "text", more[1] @ h]}

    found = call(both, x * B, (x + B, W))
    assert found["rest"][2] == "text"
    return (found["h"] * found["rest"][3]).sum() * found["rest"][0] + found["rest"][1] * B[0]


def one_result_unused(call: Call, x: Any, n: int) -> Any:
    a, _ = call(lambda h: (segment(h), ab.exp(h * B)), x * B)
    return a.sum()


def nested(call: Call, x: Any, n: int) -> Any:
    def outer(h: Any) -> Any:
        for _ in range(n):
            h = call(segment, h) + call(segment, h * B)
        return h

    return (call(outer, x * B) + call(outer, x)).sum()


def closures(call: Call, x: Any, n: int) -> Any:
    h = segment(x * B)
    return ab.sum([call(lambda k: segment(h * float(k + 1)) * W[k], k).sum() for k in range(n)])


def unchanged(call: Call, x: Any, n: int) -> Any:
    h = x * B
    return (call(lambda h: h, h) * call(lambda h: W[0], h) * h * call(lambda: W).sum()).sum()


def decisions(call: Call, x: Any, n: int) -> Any:
    def fn(h: Any) -> Any:
        h = segment(h)
        return segment(h) if float(h[0]) > 0.0 else h * B

    return call(fn, x * B).sum()


def rows(call: Call, x: Any, n: int) -> Any:
    def fn(m: Any) -> tuple[Any, Any]:
        m = ab.tanh(m @ W)
        return m, (m * B).sum(-1)

    m = ab.stack([x * float(k) for k in range(n + 1)]) * B
    m, v = call(fn, m)
    return (m * v[:, None]).sum()


PROGRAMS = (chain, random_draws, several_results, one_result_unused, nested, closures, unchanged, decisions, rows)


def outcome(fn: Any, call: Call, batched: bool = True) -> tuple[Any, ...]:
    W.grad = B.grad = None
    ab.seed(3)
    total = ab.sum(ab.map(lambda x, n: fn(call, ab.tensor(x), n), *zip(*EXAMPLES, strict=True), batched=batched))
    total.backward()
    return float(total), requested.host(W.grad), requested.host(B.grad)


def assert_close(found: Any, expected: Any) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("fn", PROGRAMS)
def test_changes_no_value_and_no_gradient(fn: Any) -> None:
    expected = outcome(fn, plain, batched=False)
    for _ in range(2):
        assert_close(outcome(fn, ab.checkpoint), expected)
    assert_close(outcome(fn, ab.checkpoint, batched=False), expected)


def test_outside_of_maps() -> None:
    def total(call: Call) -> Any:
        return ab.sum([chain(call, ab.tensor(x), n) for x, n in EXAMPLES])

    found = []
    for call in (plain, ab.checkpoint):
        W.grad = B.grad = None
        loss = total(call)
        loss.backward(retain=True)
        loss.backward()
        found.append((requested.host(W.grad), requested.host(B.grad)))
    assert_close(*found)
    W.grad = None
    ab.checkpoint(lambda x: (W @ x).sum(), ab.ones(4)).backward()
    np.testing.assert_allclose(requested.host(W.grad), 1.0)


def test_examples_share_launches_in_the_backward_pass() -> None:
    def launches(n: int) -> int:
        with ab.profile() as profile:
            ab.sum(ab.map(lambda k: chain(ab.checkpoint, ab.ones(4) * float(k), 2), range(n))).backward()
        return profile.launches

    launches(16)
    assert launches(16) == launches(8)


def test_memory() -> None:
    """A chain of 12 parts of 8 steps needs less than a third of what it needs without checkpoints."""

    with ab.backend("numpy"):
        w = ab.Parameter(np.eye(64) * 0.9)

    def part(h: Any) -> Any:
        for _ in range(8):
            h = ab.tanh(h @ w)
        return h

    def most_bytes(call: Call) -> tuple[int, Any]:
        w.grad = None
        arena().clear()
        before = arena().in_use
        h = ab.tensor(np.ones((128, 64)))
        for _ in range(12):
            h = call(part, h)
        h.sum().backward()
        return arena().peak_bytes - before, w.grad

    with ab.backend("numpy"):
        most_bytes(plain)
        (without, expected), (found, gradient) = most_bytes(plain), most_bytes(ab.checkpoint)
    np.testing.assert_allclose(gradient, expected, rtol=1e-10)
    value = 128 * 64 * 8
    assert without > 12 * 8 * 2 * value
    assert found < without / 3


def test_where_values_are_kept_it_is_a_plain_call() -> None:
    x = ab.tensor(EXAMPLES[0][0])
    calls = []

    def fn(h: Any) -> Any:
        calls.append(1)
        return segment(h)

    slope = ab.grad(lambda x: ab.checkpoint(fn, x).sum())(x)
    np.testing.assert_allclose(slope.numpy(), ab.grad(lambda x: segment(x).sum())(x).numpy())
    product = ab.hvp(lambda x: ab.checkpoint(segment, x).sum(), (x,), (x,))
    np.testing.assert_allclose(product.numpy(), ab.hvp(lambda x: segment(x).sum(), (x,), (x,)).numpy())
    with ab.no_grad():
        ab.checkpoint(fn, x)
    ab.cell(lambda x: ab.checkpoint(fn, x))(x)
    assert len(calls) == 3


def test_the_mode_is_that_of_the_call() -> None:
    class Inside(nn.Module):
        def forward(self) -> Any:
            return ab.checkpoint(lambda: ab.dropout(B * 1.0))

    model = Inside()
    model.eval()
    B.grad = None
    model().sum().backward()
    np.testing.assert_array_equal(requested.host(B.grad), 1.0)
    layer = nn.Dropout(0.5)
    y = ab.checkpoint(lambda: layer(B * 1.0))
    layer.eval()
    with pytest.raises(RecordingError, match="gives other results"):
        y.sum().backward()


def test_parameters_that_changed_raise() -> None:
    with pytest.raises(RecordingError, match="a recording meets a parameter"):
        z = ab.checkpoint(segment, ab.ones(4))
        W.value = W.value * 2.0
        z.sum().backward()
    W.value = W.value / 2.0


def test_a_function_that_does_something_else_raises() -> None:
    sizes = iter([4, 3])
    y = ab.checkpoint(lambda: B[: next(sizes)] * 2.0)
    with pytest.raises(RecordingError, match=r"checkpoint: the function gives other results[\s\S]*repair"):
        y.sum().backward()
    parts = []
    for k in range(2):
        parts.append(ab.checkpoint(lambda: B * float(k + 1)))  # noqa: B023 (it reads the last k when called again)
    with pytest.raises(RecordingError, match="gives other results"):
        ab.sum(parts).sum().backward()


def test_results_that_outlive_their_recording() -> None:
    y = ab.checkpoint(segment, ab.ones(4))
    y.sum().backward()
    with pytest.raises(RecordingError, match="after its recording has ended"):
        (y * 2.0).numpy()
