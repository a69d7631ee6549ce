"""`ab.attention` against PyTorch's, batched against the loop, to second order; errors, masks, cells and launches."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from tests import requested
from tests.ops.checks import GRADIENTS, VALUES, close, default
from tests.requested import host

Array = np.ndarray[Any, Any]
Example = tuple[Array, ...]

LENGTHS = [(3, 4), (1, 1), (5, 2), (0, 3), (0, 0), (30, 41), (2, 7)]


def examples(heads: int, mask: str = "", seed: int = 0, lengths: Sequence[tuple[int, int]] = LENGTHS) -> list[Example]:
    """Queries, keys, values, cotangents and a mask of every length."""
    rng = np.random.default_rng(seed)

    def rows(n: int, width: int) -> Array:
        return rng.normal(size=(n, heads, width) if heads else (n, width))

    made = []
    for n, m in lengths:
        bias = rng.normal(size=(heads, n, m) if heads else (n, m))
        chosen = () if not mask else (rng.random((n, m)) > 0.4,) if mask == "bool" else (bias,)
        made.append((rows(n, 4), rows(m, 4), rows(m, 3), rows(n, 3), *chosen))
    return made


def run(
    fn: Callable[..., Any], cases: Sequence[Example], n_constant: int = 0, **options: Any
) -> tuple[list[Array], list[list[Array]], int]:
    """Values, gradients by all operands but the last so many, and launches."""
    sources = [
        [ab.Parameter(x) if k < len(case) - n_constant and x.dtype.kind == "f" else x for k, x in enumerate(case)]
        for case in cases
    ]
    with ab.profile() as profile:
        results = ab.map(
            lambda source: fn(*(x * 1 if isinstance(x, ab.Tensor) else x for x in source)), sources, **options
        )
        ab.sum([ab.sum(y * y) for y in results]).backward()
        values = ab.evaluate(results)
    parameters = [[x for x in source if isinstance(x, ab.Parameter)] for source in sources]
    return (
        [np.asarray(y) for y in values],
        [[np.zeros(p.shape) if p.grad is None else host(p.grad) for p in ps] for ps in parameters],
        profile.launches,
    )


def agree(a: Any, b: Any, dtype: str = "float64") -> None:
    for y, z in zip(a[0], b[0], strict=True):
        close(y, z, VALUES[np.dtype(dtype)])
    for ys, zs in zip(a[1], b[1], strict=True):
        for y, z in zip(ys, zs, strict=True):
            close(y, z, GRADIENTS[np.dtype(dtype)])


@pytest.mark.parametrize("mask", ["", "bool", "bias"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [0, 2])
def test_values_and_gradients_are_pytorchs(heads: int, causal: bool, mask: str) -> None:
    torch = pytest.importorskip("torch")
    cases = examples(heads, mask)

    def program(q: Any, k: Any, v: Any, g: Any, mask: Any = None) -> Any:
        return ab.attention(q, k, v, mask, causal) * g

    def torch_program(q: Any, k: Any, v: Any, g: Any, mask: Any = None) -> Any:
        if causal:
            lower = torch.ones(len(q), len(k), dtype=torch.bool).tril()
            mask = (
                lower if mask is None else lower & mask if mask.dtype == torch.bool else mask.where(lower, -torch.inf)
            )
        if heads:
            q, k, v = (x.transpose(0, 1) for x in (q, k, v))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask)
        return (y.transpose(0, 1) if heads else y) * g

    with default("float64"):
        actual = run(program, cases)
    values, gradients = [], []
    for case in cases:
        xs = [torch.tensor(x, requires_grad=x.dtype.kind == "f") for x in case]
        y = torch_program(*xs)
        (y * y).sum().backward()
        values.append(y.detach().numpy())
        gradients.append([np.zeros(x.shape) if x.grad is None else x.grad.numpy() for x in xs if x.requires_grad])
    agree(actual, (values, gradients))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mask", ["", "bool", "bias"])
def test_batched_equals_loop_on_all_backends(mask: str, dtype: str) -> None:
    cases = examples(2, mask)
    is_compiled = (dtype == "float64") == (mask == "bool")  # one dtype for each kind of mask
    for backend in requested.backends("numpy", "numba") if is_compiled else [requested.backend("numpy")]:
        with ab.backend(backend), default(dtype):
            for causal in (False, True):

                def program(q: Any, k: Any, v: Any, g: Any, mask: Any = None, causal: bool = causal) -> Any:
                    return ab.attention(q, k, v, mask, causal, scale=0.7) * g

                agree(run(program, cases), run(program, cases, batched=False), dtype)


def test_one_launch_for_all_lengths() -> None:
    def program(q: Any, k: Any, v: Any) -> Any:
        return ab.attention(q, k, v)

    few, many = (
        [(ab.tensor(x) for x in case[:3]) for case in examples(0, lengths=some)] for some in (LENGTHS[:1], LENGTHS)
    )
    counts = []
    for cases in (few, many):
        with ab.profile() as profile:
            ab.evaluate(ab.map(lambda case: program(*case), cases))
        counts.append(profile.launches)
    assert counts == [1, 1]


@pytest.mark.parametrize("mask", ["", "bias"])
def test_second_derivatives(mask: str) -> None:
    """By `ab.grad` inside `ab.map`, batched against the loop, and the loop against differences."""
    lengths = [(2, 3), (1, 1), (3, 2)]
    cases = [case[:3] + case[4:] for case in examples(0, mask, lengths=lengths)]
    ways = [case[:3] + case[4:] for case in examples(0, mask, seed=1, lengths=lengths)]

    def energy(xs: Sequence[Any]) -> Any:
        q, k, v, *rest = xs
        return ab.sum(ab.attention(q, k, v, *rest, causal=True) ** 3)

    def along(xs: Sequence[Any], way: Sequence[Any]) -> Any:
        return ab.sum([ab.sum(g * w) for g, w in zip(ab.grad(energy)(list(xs)), way, strict=True)])

    def gradients(some: Sequence[Sequence[Array]], **options: Any) -> tuple[list[float], list[list[Array]]]:
        sources = [[ab.Parameter(x) for x in case] for case in some]
        slopes = ab.map(lambda source, way: along([x * 1.0 for x in source], way), sources, ways, **options)
        ab.sum(slopes).backward()
        return [float(s) for s in slopes], [[host(x.grad) for x in source] for source in sources]

    with default("float64"):
        slopes, expected = gradients(cases, batched=False)
        for backend in requested.backends("numpy", "numba"):
            with ab.backend(backend):
                actual_slopes, actual = gradients(cases)
            close(np.array(actual_slopes), np.array(slopes), 1e-10)
            for a, b in zip(actual, expected, strict=True):
                for y, z in zip(a, b, strict=True):
                    close(y, z, 1e-8)
        step = 1e-5
        moved = [
            gradients(
                [
                    [x + sign * step * w for x, w in zip(case, way, strict=True)]
                    for case, way in zip(cases, ways, strict=True)
                ]
            )
            for sign in (1, -1)
        ]
        for k, way in enumerate(ways):
            actual_slope = sum(float(np.sum(g * w)) for g, w in zip(expected[k], way, strict=True))
            assert abs(actual_slope - (moved[0][0][k] - moved[1][0][k]) / (2 * step)) < 1e-5 * (1 + abs(actual_slope))


def test_one_query_and_lists_of_vectors() -> None:
    rng = np.random.default_rng(3)
    with default("float64"):
        for m in (1, 4):
            q, keys, values = rng.normal(size=3), rng.normal(size=(m, 3)), rng.normal(size=(m, 2))
            weights = np.exp(keys @ q / np.sqrt(3))
            wanted = weights / weights.sum() @ values
            close(ab.attention(q, list(keys), list(values)).numpy(), wanted, 1e-12)
            tensors = [ab.tensor(x) for x in keys], [ab.tensor(x) for x in values]
            close(ab.attention(ab.tensor(q), *tensors).numpy(), wanted, 1e-12)
            close(ab.attention([ab.tensor(q)], *tensors).numpy(), wanted[None], 1e-12)
            close(ab.attention(q, *tensors, mask=np.ones(m, bool)).numpy(), wanted, 1e-12)
        assert ab.attention([], keys, values).shape == (0, 2)


def test_masked_rows_give_zeros_and_no_gradient() -> None:
    q, k = ab.Parameter(np.ones((2, 3))), ab.Parameter(np.ones((2, 3)))
    y = ab.map(lambda _: ab.attention(q, k, k, mask=np.array([[False, False], [True, False]])), [0])[0]
    ab.sum(y).backward()
    assert y.numpy().tolist() == [[0.0] * 3, [1.0] * 3]
    assert q.grad is not None and np.isfinite(host(q.grad)).all() and not host(q.grad)[0].any()


def test_memory_that_all_examples_share() -> None:
    rng = np.random.default_rng(4)
    keys, values = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    queries = [rng.normal(size=(n, 3)) for n in (1, 4, 2)]
    found = []
    with default("float64"):
        for batched in (True, False):
            memory = ab.Parameter(keys), ab.Parameter(values)
            results = ab.map(lambda q, memory=memory: ab.attention(q, *memory), queries, batched=batched)
            ab.sum([ab.sum(y * y) for y in results]).backward()
            found.append(([np.asarray(y) for y in ab.evaluate(results)], [[host(x.grad) for x in memory]]))
    agree(*found)


def test_reused_recordings_and_no_grad() -> None:
    cases = [case[:3] for case in examples(0)]

    def program(case: Example) -> ab.Tensor:
        return ab.sum(ab.attention(*case))

    with default("float64"):
        wanted = ab.evaluate(ab.map(program, cases, batched=False))
        for _ in range(3):
            close(np.array(ab.evaluate(ab.map(program, cases, reuse=True))), np.array(wanted), 1e-10)
        with ab.no_grad():
            close(np.array(ab.evaluate(ab.map(program, cases))), np.array(wanted), 1e-10)


@ab.cell
def _of_pairs(q: Any, pairs: Any) -> Any:
    return ab.attention(q, [key for key, _ in pairs], [value for _, value in pairs])


@ab.cell
def _of_one_list(xs: Any) -> Any:
    x = ab.stack(xs)
    return ab.sum(ab.tanh(ab.attention(x, x, x, causal=True)), axis=0)


def test_cells_with_lists_of_any_length() -> None:
    rng = np.random.default_rng(5)
    lists = [[rng.normal(size=3) for _ in range(n)] for n in (1, 4, 2)]
    with default("float64"):
        for fn in (lambda xs: _of_pairs(xs[0], [(x, x * 2.0) for x in xs]), _of_one_list):
            found = []
            for options in ({}, {"batched": False}, {"plain": True}):
                sources = [[ab.Parameter(x) for x in xs] for xs in lists]
                plain = options.pop("plain", False)

                def program(xs: Any, fn: Any = fn) -> Any:
                    return fn([x * 1.0 for x in xs])

                if plain:
                    with ab.disable_cells():
                        results = ab.map(program, sources)
                else:
                    results = ab.map(program, sources, **options)
                ab.sum([ab.sum(y * y) for y in results]).backward()
                gradients = [[host(x.grad) for x in xs] for xs in sources]
                found.append(([np.asarray(y) for y in ab.evaluate(results)], gradients))
            agree(found[0], found[1])
            agree(found[0], found[2])


@pytest.mark.parametrize("heads", [0, 2])
@pytest.mark.parametrize("causal", [False, True])
def test_cells_of_fixed_shapes(causal: bool, heads: int) -> None:
    cases = [case[:3] for seed in range(2) for case in examples(heads, seed=seed, lengths=[(3, 4)])]
    mask = np.array([[True, False, True, True], [False] * 4, [True] * 4])

    @ab.cell
    def program(q: Any, k: Any, v: Any) -> Any:
        return ab.attention(q, k, v, mask, causal)

    with default("float64"):
        inside = run(program, cases)
        with ab.disable_cells():
            agree(inside, run(program, cases))


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: ab.attention(np.ones((2, 3)), np.ones((4, 5)), np.ones((4, 5))), "queries and keys differ in width"),
    (lambda: ab.attention(np.ones((2, 3)), np.ones((4, 3)), np.ones((5, 3))), "there are not as many values as keys"),
    (lambda: ab.attention(np.ones((2, 1, 3)), np.ones((4, 3)), np.ones((4, 3))), "ranks do not fit"),
    (lambda: ab.attention(np.ones((2, 1, 3)), np.ones((4, 2, 3)), np.ones((4, 2, 3))), "the numbers of heads differ"),
    (lambda: ab.attention(np.ones((2, 3)), np.ones((0, 3)), np.ones((0, 3))), "there are no keys to attend to"),
    (lambda: ab.attention(np.ones((2, 3)), np.ones((4, 3)), np.ones((4, 3)), np.ones((3, 4))), "the mask does not"),
    (
        lambda: ab.attention(np.ones((2, 3)), np.ones((4, 3)), np.ones((4, 3)), np.ones((2, 4), int)),
        "a mask is boolean",
    ),
    (lambda: ab.attention(*[np.ones((2, 3), int)] * 3), "no floating numbers"),
    (lambda: ab.attention(*[np.ones((2, 3))] * 3, scale=ab.tensor(1.0)), "scale is a number"),
]


@pytest.mark.parametrize(("call", "what"), WRONG, ids=[what for _, what in WRONG])
def test_errors_name_the_users_line(call: Callable[[], Any], what: str) -> None:
    with pytest.raises(ab.errors.OpTypeError, match=f"attention: .*{what}") as error:
        call()
    assert re.search(r"recorded at test_attention.py:\d+ in <lambda>", str(error.value))
