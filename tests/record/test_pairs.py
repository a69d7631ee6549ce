"""Scores of queries and keys whose numbers vary, by separate ops: few launches, and the values and derivatives of the
loop, and of NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autobatch as ab
from tests import requested
from tests.ops.checks import GRADIENTS, VALUES, default
from tests.requested import host

pytestmark = pytest.mark.usefixtures("numpy_in_float64")

Array = np.ndarray[Any, Any]
Example = tuple[Array, Array]

D, HEADS = 4, 2
LENGTHS = [(2, 3), (3, 3), (1, 1), (5, 2), (1, 4), (4, 1), (3, 7), (2, 3)]
RNG = np.random.default_rng(0)


def examples(lengths: Sequence[tuple[int, int]] = LENGTHS, dtype: str = "float64") -> list[Example]:
    """Queries and keys of every length."""
    return [(RNG.normal(size=(n, D)).astype(dtype), RNG.normal(size=(m, D)).astype(dtype)) for n, m in lengths]


def model() -> list[Any]:
    """Two matrices, and a number."""
    rng = np.random.default_rng(1)
    return [ab.Parameter(rng.normal(size=(D, D)) / 2) for _ in range(2)] + [ab.Parameter(np.array(0.7))]


def projected(p: Sequence[Any], x: Example) -> tuple[Any, Any]:
    q, k = x
    return ab.tensor(q) @ p[0], ab.tensor(k) @ p[1]


def causal(p: Sequence[Any], x: Example) -> Any:
    q = ab.tensor(x[0]) @ p[0]
    mask = np.tril(np.ones((q.shape[0], q.shape[0]), bool))
    return ab.softmax(ab.where(mask, q @ q.T * p[2], -np.inf)) @ q


def stable(p: Sequence[Any], x: Example) -> Any:
    q, k = projected(p, x)
    s = q @ k.T / 2.0
    e = ab.exp(s - ab.max(s, axis=-1, keepdims=True))
    return (e / ab.sum(e, axis=-1, keepdims=True)) @ k


def in_heads(p: Sequence[Any], x: Example) -> Any:
    q, k = projected(p, x)
    n, m = q.shape[0], k.shape[0]
    of_queries = ab.transpose(q.reshape((n, HEADS, D // HEADS)), (1, 0, 2))
    of_keys = ab.transpose(k.reshape((m, HEADS, D // HEADS)), (1, 2, 0))
    bias = np.where(np.arange(m) <= np.arange(n)[:, None] + 2, 0, -1e3)
    weights = ab.softmax(of_queries @ of_keys * 0.5 + bias)
    y = weights @ ab.transpose(k.reshape((m, HEADS, D // HEADS)), (1, 0, 2))
    return ab.transpose(y, (1, 0, 2)).reshape((n, D)) + ab.mean(weights)


def additive(p: Sequence[Any], x: Example) -> Any:
    q, k = projected(p, x)
    weights = ab.softmax(ab.tanh(ab.sum(q, axis=1)[:, None] + ab.mean(k, axis=1)[None, :]), axis=0)
    return weights @ k + (weights @ ab.sum(k, axis=1))[:, None]


def by_columns(p: Sequence[Any], x: Example) -> Any:
    q, k = projected(p, x)
    s = q @ k.T
    weights = ab.softmax(s, axis=0)
    highest = ab.max(s) + ab.sum(ab.argmax(s, axis=0) * 0.1)
    means = ab.mean(s, axis=-2, keepdims=True) * s + ab.var(s, axis=1)[:, None]
    return (weights.T @ q) * ab.logsumexp(s, axis=0)[:, None] + ab.sum(means) + ab.sum(q.T @ weights @ k) * highest


def moved(p: Sequence[Any], x: Example) -> Any:
    q, k = projected(p, x)
    s = q @ k.T
    parts = (s[0], s[:, 0], s[::2] * 1.5, s[:, 1:], s.reshape((-1,)), ab.cumsum(s, axis=-1) * s, s.T @ s)
    joined = ab.concat([s, s]), ab.concat([s, s], axis=1), ab.concat([s.T, s.T]), s.T * s.T
    return sum((ab.sum(ab.tanh(y)) for y in (*parts, *joined)), ab.sum(s[None]))


def square(p: Sequence[Any], x: Example) -> Any:
    q = ab.tensor(x[0]) @ p[0]
    s = q @ (q @ p[1]).T
    n = q.shape[0]
    parts = s + s.T, ab.where(s > s.T, s, 0.0) @ q, s @ s, s * np.arange(n), s - np.arange(n)[:, None]
    return sum((ab.sum(ab.tanh(y)) for y in parts), ab.sum(s * ab.tensor(np.eye(n))))


PROGRAMS: dict[Callable[..., Any], int] = {
    causal: 16, stable: 20, in_heads: 20, additive: 40, by_columns: 40, moved: 400, square: 200,
}  # fmt: skip
"""Programs, and most launches of their forward pass."""


def run(program: Callable[..., Any], cases: Sequence[Example], dtype: str = "float64", **options: Any) -> list[Array]:
    """Losses and gradients."""
    p = model()
    if dtype == "float32":
        p = [ab.Parameter(x.value.astype(dtype)) for x in p]
    losses = ab.map(lambda x: ab.sum(ab.tanh(program(p, x))), cases, **options)
    ab.sum(losses).backward()
    return [np.array(ab.evaluate(losses)), *(np.zeros(x.shape) if x.grad is None else host(x.grad) for x in p)]


def agree(found: Sequence[Array], expected: Sequence[Array], dtype: str = "float64") -> None:
    for k, (a, b) in enumerate(zip(found, expected, strict=True)):
        within = (GRADIENTS if k else VALUES)[np.dtype(dtype)]
        assert np.abs(a - b).max(initial=0) <= within * (1 + np.abs(b).max(initial=0)), k


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_batched_equals_loop(program: Callable[..., Any]) -> None:
    cases = examples()
    expected = run(program, cases, batched=False)
    for _ in range(2):
        agree(run(program, cases), expected)
    p = model()
    with ab.profile() as profile:
        ab.evaluate(ab.map(lambda x: program(p, x), cases))
    assert profile.launches <= PROGRAMS[program]


def test_on_the_compiled_backend() -> None:
    ab.set_backend(requested.backend("numba"))
    with default("float32"):
        cases = examples(dtype="float32")
        expected = run(in_heads, cases, "float32", batched=False)
        for _ in range(2):
            agree(run(in_heads, cases, "float32"), expected, "float32")


@pytest.mark.parametrize("program", [in_heads, by_columns], ids=lambda program: program.__name__)
def test_derivatives_of_derivatives(program: Callable[..., Any]) -> None:
    """`ab.grad` inside `ab.map`, differentiated once more by `backward` and by itself."""

    def loss(p: Sequence[Any], x: Example) -> Any:
        def value(q: Any, k: Any) -> Any:
            return ab.sum(ab.tanh(program(p, (q, k))))

        q, k = map(ab.tensor, x)
        of_queries, of_keys = ab.grad(value, argnums=(0, 1))(q, k)
        twice = ab.grad(lambda q: ab.sum(ab.grad(value)(q, k) ** 2))(q)
        return ab.sum(of_queries**2) + ab.sum(ab.tanh(of_keys)) + ab.sum(twice) * 0.1

    cases = examples(LENGTHS[:3])
    expected = run(loss, cases, batched=False)
    for _ in range(2):
        agree(run(loss, cases), expected)


def sums(p: Sequence[Any], x: Example) -> Any:
    q, k = projected(p, x)
    s = q @ k.T
    y = (s * 2.0 + ab.sum(s, axis=0, keepdims=True)) @ k
    return ab.sum(y) + ab.sum(s.T @ q) + ab.sum(ab.tanh(ab.sum(s, axis=-1)))


@pytest.mark.parametrize(
    "lengths",
    [[(0, 3), (2, 0), (0, 0), (2, 3), (1, 1), (3, 2)], [(2, 0)], [(0, 2)], [(3, 4)], [(1, 2), (40, 70), (2, 1)]],
    ids=str,
)
def test_empty_lone_and_long_examples(lengths: list[tuple[int, int]]) -> None:
    run(sums, examples([(2, 3), (3, 4)]))  # lengths are seen to vary
    cases = examples(lengths)
    agree(run(sums, cases), run(sums, cases, batched=False))


def test_values_that_decide_and_those_of_earlier_recordings() -> None:
    def program(p: Sequence[Any], x: Example) -> Any:
        q, k = projected(p, x)
        s = q @ k.T
        if float(ab.max(s)) > 1:
            s = s * 0.5
        weights = ab.softmax(s)
        if float(ab.sum(weights @ k)) > 0:
            weights = weights * ab.sum(s, axis=-1, keepdims=True)
        return ab.sum(weights @ k) + ab.sum(weights.T @ q)

    cases = examples()
    agree(run(program, cases), run(program, cases, batched=False))


def test_recordings_that_are_replayed() -> None:
    p, cases = model(), examples()
    expected = run(in_heads, cases, batched=False)
    for _ in range(3):
        for x in p:
            x.grad = None
        losses = ab.map(lambda x: ab.sum(ab.tanh(in_heads(p, x))), cases, reuse=True)
        ab.sum(losses).backward()
        agree([np.array(ab.evaluate(losses)), *(np.zeros(x.shape) if x.grad is None else host(x.grad) for x in p)],
              expected)  # fmt: skip


def test_arguments_of_cells() -> None:
    @ab.cell
    def weighted(s: Any, k: Any) -> Any:
        return ab.softmax(s) @ k

    def program(p: Sequence[Any], x: Example) -> Any:
        q, k = projected(p, x)
        return weighted(q @ k.T, k)

    cases = examples(LENGTHS[:4])
    agree(run(program, cases), run(program, cases, batched=False))


# Random programs, against NumPy and the loop.


class _NumPy:
    """The functions of `ab` that programs call, of NumPy."""

    tanh, where, sum, mean, max = np.tanh, np.where, np.sum, np.mean, np.max

    @staticmethod
    def softmax(x: Array, axis: int) -> Array:
        e = np.exp(x - x.max(axis=axis, keepdims=True))
        return e / e.sum(axis=axis, keepdims=True)

    @staticmethod
    def logsumexp(x: Array, axis: int) -> Array:
        return np.log(np.sum(np.exp(x), axis=axis))


STEPS: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "products": ("qk", "s", lambda f, q, k: f.tanh(q @ k.T)),
    "products, transposed": ("kq", "t", lambda f, k, q: f.tanh(k @ q.T)),
    "transposed": ("s", "t", lambda f, s: s.T),
    "back": ("t", "s", lambda f, t: t.T),
    "over keys": ("sk", "q", lambda f, s, k: f.tanh(s @ k)),
    "over queries": ("sq", "k", lambda f, s, q: f.tanh(s.T @ q)),
    "at the right": ("kt", "q", lambda f, k, t: f.tanh((k.T @ t).T)),
    "of vectors": ("sn", "m", lambda f, s, n: f.tanh(n @ s)),
    "and back": ("sm", "n", lambda f, s, m: f.tanh(s @ m)),
    "together": ("st", "s", lambda f, s, t: s * t.T - 0.5),
    "chosen": ("ss", "s", lambda f, a, b: f.where(a > b, a, b * 0.5)),
    "with rows": ("sn", "s", lambda f, s, n: s + n[:, None]),
    "with columns": ("sm", "s", lambda f, s, m: s * m),
    "rows and columns": ("nm", "s", lambda f, n, m: f.tanh(n[:, None] * m[None, :])),
    "masked": ("s", "s", lambda f, s: f.where(np.arange(s.shape[1]) <= np.arange(s.shape[0])[:, None], s, -1.0)),
    "softmax": ("s", "s", lambda f, s: f.softmax(s, axis=-1)),
    "softmax of columns": ("s", "s", lambda f, s: f.softmax(s, axis=0)),
    "of the transposed": ("t", "t", lambda f, t: f.softmax(t, axis=-1)),
    "sum": ("s", "n", lambda f, s: f.tanh(f.sum(s, axis=-1))),
    "log of sums": ("t", "n", lambda f, t: f.tanh(f.logsumexp(t, axis=0))),
    "mean": ("s", "m", lambda f, s: f.mean(s, axis=0)),
    "less the largest": ("s", "s", lambda f, s: s - f.max(s, axis=-1, keepdims=True)),
    "of all": ("s", "s", lambda f, s: s * f.mean(s)),
}
"""Kinds of the operands and of the result, and what is done. q and k are queries and keys, n and m a number for each of
them, s and t pairs and these transposed."""


def steps(f: Any, drawn: Sequence[tuple[str, int]], p: Any, x: Example) -> Any:
    """A random program: each step takes values of its kinds that were made before."""
    q, k = x[0] @ p, x[1] @ p
    values = [("q", q), ("k", k), ("n", f.sum(q, axis=1)), ("m", f.sum(k, axis=1)), ("s", q @ k.T), ("t", k @ q.T)]
    for name, choice in drawn:
        kinds, made, step = STEPS[name]
        operands = []
        for kind in kinds:
            known = [value for k, value in values if k == kind]
            operands.append(known[choice % len(known) - 1])
        values.append((made, step(f, *operands)))
    return sum((f.sum(f.tanh(value)) for _, value in values[6:]), f.sum(q))


@given(st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 3)), min_size=1, max_size=6))
@settings(max_examples=requested.fewer(15), deadline=None)
def test_random_programs(drawn: list[tuple[str, int]]) -> None:
    cases = examples([(2, 3), (4, 1), (1, 2), (3, 3)])
    w = np.random.default_rng(2).normal(size=(D, D)) / 2

    def run_one(**options: Any) -> list[Array]:
        p = ab.Parameter(w)
        losses = ab.map(lambda x: steps(ab, drawn, p, (ab.tensor(x[0]), ab.tensor(x[1]))), cases, **options)
        ab.sum(losses).backward()
        return [np.array(ab.evaluate(losses)), host(p.grad)]

    found = run_one()
    agree(found, run_one(batched=False))
    agree(found[:1], [np.array([steps(_NumPy, drawn, w, x) for x in cases])])
