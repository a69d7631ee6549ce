"""Single steps on rows whose number varies: batched equals the one-by-one loop, with two derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from tests.requested import backend, host

DIM = 3
LENGTHS = [1, 4, 2, 0, 7, 2, 1, 4]


class Weights:
    """What all examples share."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.square = ab.Parameter(rng.normal(size=(DIM, DIM)))
        self.row = ab.Parameter(rng.normal(size=DIM))
        self.table = ab.Parameter(rng.normal(size=(5, DIM)))
        self.all = [self.square, self.row, self.table]


def _pairs(n: int) -> list[int]:
    return [k % n for k in (0, n // 2, n - 1, 0)] if n else []


Step = tuple[str, str, Callable[..., Any]]
"""Kinds of the operands, kind of the result, and what computes it of (weights, number of rows, *operands)."""

STEPS: list[Step] = [
    ("m", "m", lambda w, n, m: ab.tanh(m @ w.square)),
    ("m", "v", lambda w, n, m: m @ w.row),
    ("md", "v", lambda w, n, m, d: m @ d),
    ("m", "v", lambda w, n, m: m.mean(axis=-1)),
    ("m", "v", lambda w, n, m: (m * m).sum(axis=1)),
    ("m", "v", lambda w, n, m: m.max(axis=-1)),
    ("m", "v", lambda w, n, m: ab.logsumexp(m)),
    ("m", "s", lambda w, n, m: m.sum()),
    ("m", "d", lambda w, n, m: m.sum(axis=0)),
    ("mm", "s", lambda w, n, a, b: ab.squared_error(a, b)),
    ("mm", "m", lambda w, n, a, b: a * b + 1.0),
    ("md", "m", lambda w, n, m, d: m * d),
    ("md", "m", lambda w, n, m, d: m - d.reshape((1, DIM))),
    ("mv", "m", lambda w, n, m, v: m * v[:, None]),
    ("mv", "d", lambda w, n, m, v: v @ m),
    ("mv", "d", lambda w, n, m, v: m.T @ v),
    ("mv", "d", lambda w, n, m, v: (v[None] @ m)[0]),
    ("mm", "d", lambda w, n, a, b: (a.T @ b).sum(axis=0)),
    ("v", "s", lambda w, n, v: ab.cross_entropy(v, n // 2) if n else v.sum()),
    ("ms", "m", lambda w, n, m, s: m * s),
    ("vs", "v", lambda w, n, v, s: v * s - 0.5),
    ("vv", "v", lambda w, n, a, b: ab.tanh(a) * b),
    ("vv", "s", lambda w, n, a, b: a @ b),
    ("vv", "v", lambda w, n, a, b: ab.where(a > b, a, b * 0.5)),
    ("v", "s", lambda w, n, v: v.sum()),
    ("v", "v", lambda w, n, v: v[::-1]),
    ("v", "v", lambda w, n, v: ab.concat([v[n // 2 :], v[: n // 2]]) if n > 1 else v),
    ("v", "v", lambda w, n, v: v.astype("float32").astype("float64") * 0.5),
    ("v", "v", lambda w, n, v: ab.stack([v[k] for k in range(n)]) if n else v),
    ("v", "v", lambda w, n, v: v + np.linspace(0.0, 1.0, n)),
    ("v", "v", lambda w, n, v: ab.tensor(np.linspace(0.0, 1.0, n)) * v),
    ("v", "v", lambda w, n, v: ab.softmax(v, axis=0) if n else v),
    ("v", "s", lambda w, n, v: ab.logsumexp(v) if n else v.sum()),
    ("v", "v", lambda w, n, v: v.reshape((n, 1)).reshape(n)),
    ("v", "v", lambda w, n, v: ab.concat([v, v])[n // 2 : n // 2 + n]),
    ("v", "v", lambda w, n, v: v[list(_pairs(n))].sum() + v if n else v),
    ("m", "m", lambda w, n, m: m[::-1]),
    ("m", "m", lambda w, n, m: m.T.T * 2.0),
    ("m", "d", lambda w, n, m: (m.T * 0.5).sum(axis=-1)),
    ("m", "m", lambda w, n, m: ab.tanh(m.T).T),
    ("m", "d", lambda w, n, m: m[_pairs(n)].sum(axis=0) if n else m.sum(axis=0)),
    ("m", "m", lambda w, n, m: m + w.table[[k % 5 for k in range(n)]] if n else m),
    ("m", "m", lambda w, n, m: ab.softmax(m, axis=0) if n else m),
    ("m", "s", lambda w, n, m: ab.stack([m[k] @ w.row for k in range(n)]).sum() if n else m.sum()),
    (
        "m",
        "v",
        lambda w, n, m: ab.concat([m[k] for k in range(n)]).sum() + m.sum(axis=1) if n else m.sum(axis=1),
    ),
]


def run(step: Step, weights: Weights, x: Any) -> Any:
    """A scalar that the step and its operands lead to."""
    kinds, _, fn = step
    values: dict[str, Any] = {"m": x, "v": x.sum(axis=1), "s": x.sum(), "d": x.sum(axis=0)}
    found = ab.tanh(fn(weights, x.shape[0], *(values[kind] for kind in kinds)))
    return ab.sum([(v * 0.3).sum() if v.ndim else v for v in (*values.values(), found)])


def outcome(step: Step, seed: int, is_batched: bool) -> list[Any]:
    """Numbers and norms of derivatives, and gradients of parameters of both."""
    weights = Weights(seed)
    rng = np.random.default_rng(seed)
    examples = [rng.normal(size=(n, DIM)) for n in LENGTHS]

    def one(x: Any) -> Any:
        value, slope = ab.value_and_grad(lambda t: run(step, weights, t))(ab.tensor(x))
        return value, (slope * slope).sum()

    results = ab.map(one, examples, batched=is_batched)
    total = ab.sum([value + norm for value, norm in results]) + ab.sum([(p * p).sum() for p in weights.all])
    total.backward()
    return [*np.ravel(ab.evaluate(results)), *(host(p.grad) for p in weights.all)]


@pytest.fixture(autouse=True)
def _in_double_precision() -> None:
    ab.set_default_dtype("float64")
    ab.set_backend(backend("numpy"))


@pytest.mark.parametrize("number", range(len(STEPS)))
def test_each_step_equals_the_loop(number: int) -> None:
    """When its lengths are new, and when they are known to vary."""
    expected = outcome(STEPS[number], number, False)
    for _ in range(2):
        for found, wanted in zip(outcome(STEPS[number], number, True), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("number", range(len(STEPS)))
def test_each_step_is_one_signature_for_all_lengths(number: int) -> None:
    """Lengths 0 and 1, and joins of few vectors, may have signatures of their own."""
    weights = Weights(0)
    examples = [np.ones((n, DIM)) * n for n in range(9, 25)]

    def launches() -> int:
        with ab.profile() as p:
            ab.evaluate(ab.map(lambda x: run(STEPS[number], weights, ab.tensor(x)), examples))
        return p.launches

    launches()
    assert launches() <= 16
