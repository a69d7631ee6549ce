"""Lists in cells: several of one length, and ops along them; one trace for all lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.errors import CellError
from tests import requested


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    ab.set_default_dtype("float64")
    with ab.backend("numpy"):
        yield


def vector(*numbers: float) -> Any:
    return ab.tensor(np.array(numbers, float))


def traces(cell: Any) -> int:
    return int(cell.cell.traces)


def zipped(xs: list[Any], ys: list[Any]) -> Any:
    return ab.sum([(x * y).sum() for x, y in zip(xs, ys, strict=True)])


def attending(q: Any, keys: list[Any], values: list[Any]) -> Any:
    weights = ab.softmax([(q * key).sum() for key in keys])
    return ab.sum([p * value for p, value in zip(weights, values, strict=True)])


def beside_others(xs: list[Any], ys: list[Any], zs: list[Any]) -> Any:
    sums = [x + z for x, z in zip(xs, zs, strict=True)]
    return ab.sum(sums) + ab.sum(ys), sums


def along(xs: list[Any]) -> Any:
    logits = [x[0] * 2.0 for x in xs]
    total = ab.logsumexp(logits) + ab.log_softmax(logits).max() + ab.cumsum(logits).sum() + ab.var(xs).sum()
    return total + ab.softmax(xs, axis=0).max(axis=0).sum() + ab.cumsum(xs, axis=0).mean(axis=0).sum(), ab.argmax(xs)


LISTED: dict[str, tuple[Callable[..., Any], Callable[[Any, int], tuple[Any, ...]]]] = {
    "zipped": (zipped, lambda at, n: (at(n, 1), at(n, 2))),
    "attending": (attending, lambda at, n: (at(1, 3)[0], at(n, 1), at(n, 2))),
    "beside others": (beside_others, lambda at, n: (at(n, 1), at(n + 2, 2), at(n, 3))),
    "along": (along, lambda at, n: (at(n, 1),)),
}


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", LISTED)
def test_lists_in_a_cell_are_rows(name: str, backend: str) -> None:
    fn, arguments = LISTED[name]
    weight = ab.Parameter(np.arange(1.0, 4.0))

    def at(n: int, k: int) -> list[Any]:
        return [weight * ab.tensor(float(np.sin(3 * i + k))) for i in range(n)]

    def run(decorated: Any, batched: bool, lengths: tuple[int, ...]) -> list[Any]:
        weight.grad = None
        results = ab.map(lambda n: decorated(*arguments(at, n)), lengths, batched=batched)
        flat: list[Any] = []
        for r in results:
            flat += (r,) if not isinstance(r, tuple) else (r[0], *(r[1] if isinstance(r[1], list) else [r[1]]))
        ab.sum([(y * y).sum() for y in flat if y.dtype.kind == "f"]).backward(retain=True)
        return [*ab.evaluate(flat), np.array(weight.grad)]

    decorated = ab.cell(fn)
    with ab.backend(backend):
        want = run(fn, False, (1, 4, 2, 3))
        for _ in range(2):
            for a, b in zip(run(decorated, True, (1, 4, 2, 3)), want, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
        for a, b in zip(run(decorated, False, (1, 4, 2, 3)), want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    assert traces(decorated) == 1


def test_lists_that_are_zipped_have_one_length() -> None:
    cell = ab.cell(zipped)
    two, three = [vector(1, 2)] * 2, [vector(3, 4)] * 3
    for _ in range(2):
        with pytest.raises(CellError, match=r"different lengths[\s\S]*2 and 3[\s\S]*test_lists\.py"):
            cell(two, three)
        assert float(cell(two, two)) == 10.0
    assert traces(cell) == 1


def test_every_element_with_every_other_raises() -> None:
    @ab.cell
    def pairs(xs: list[Any], ys: list[Any]) -> Any:
        return ab.sum([x * y for x in xs for y in ys])

    with pytest.raises(CellError, match=r"meet in mul[\s\S]*test_lists\.py"):
        pairs([vector(1, 2)] * 2, [vector(3, 4)] * 2)


@ab.cell
def weighted(items: list[tuple[ab.Tensor, float]], table: Any) -> tuple[ab.Tensor, ab.Tensor]:
    return ab.sum([ab.tanh(x * table[1]) * k for x, k in items]), ab.mean([k for _, k in items])


@ab.cell
def looked_up(items: list[tuple[int, ab.Tensor, float]], table: Any) -> ab.Tensor:
    return ab.sum([table[k] * x + y for k, x, y in items])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_stand_beside_values_in_a_list(dtype: str) -> None:
    ab.set_default_dtype("float32")
    table = ab.Parameter(np.linspace(0.1, 1.2, 12).reshape(4, 3), dtype)

    def fn(n: int) -> Any:
        xs = [ab.tensor(np.full(3, 0.3 + k), dtype) for k in range(n)]
        mixed = [2, 0.7, 0.1, np.float64(0.3)][:n]
        return (
            *weighted(list(zip(xs, mixed, strict=True)), table),
            weighted(list(zip(xs, range(n), strict=True)), table)[0],
            looked_up([(k, x, 0.1 * k if k else 1) for k, x in enumerate(xs)], table),
        )

    def outcome(batched: bool) -> tuple[list[Any], Any]:
        table.grad = None
        results = ab.map(fn, [2, 4, 1, 3], batched=batched)
        ab.sum([y.sum() for one in results for y in one]).backward(retain=True)
        return ab.evaluate(results), requested.host(table.grad)

    together, gradient = outcome(True)
    with ab.profile() as profile:
        outcome(True)
    with ab.disable_cells():
        alone, wanted = outcome(False)
    for a, b in zip(together, alone, strict=True):
        for x, y in zip(a, b, strict=True):
            assert x.dtype == y.dtype
            np.testing.assert_allclose(x, y, rtol=1e-6 if dtype == "float32" else 1e-12)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-5 if dtype == "float32" else 1e-10)
    assert profile.launches < 20
