"""Indexing is NumPy's: values and gradients, on every kind of value, run together and one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

import autobatch as ab
from autobatch import nn
from autobatch.errors import AutobatchError, OpIndexError
from tests import requested

Array = np.ndarray[Any, Any]

SHAPES: list[tuple[int, ...]] = [(3,), (3, 2), (2, 3), (2, 1, 3), (2, 3, 2), (0,), (2, 0), (0, 3), (1, 2, 0)]
SCALES = (0.5, 2.0, -1.5)
"""One example each: the value that is indexed is the table times this number."""


@pytest.fixture(autouse=True)
def in_float64() -> Iterator[None]:
    ab.set_default_dtype("float64")
    yield


# What is drawn.


@st.composite
def basic(draw: Any) -> tuple[tuple[int, ...], Any]:
    shape = draw(st.sampled_from(SHAPES))
    return shape, draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))


@st.composite
def mixed(draw: Any) -> tuple[tuple[int, ...], Any]:
    """Index arrays that broadcast, masks, lists, integers, slices, None and ... in any order."""
    shape = draw(st.sampled_from(SHAPES))
    together = draw(st.sampled_from([(2,), (3,), (2, 2), (1,), (0,), (2, 0)]))
    left, items, kinds = (
        list(shape),
        list[Any](),
        ["array", "array", "list", "mask", "int", "slice", "none", "dots", "end"],
    )
    while left:
        n = left[0]
        kind = draw(st.sampled_from(kinds))
        if kind == "end":
            break
        if kind == "none":
            items.append(None)
            continue
        if kind == "dots":
            items.append(Ellipsis)
            kinds.remove("dots")
            del left[: draw(st.integers(0, len(left)))]
            continue
        if kind == "mask":
            rank = draw(st.integers(1, min(2, len(left))))
            items.append(draw(hnp.arrays(bool, tuple(left[:rank]))))
            del left[:rank]
            continue
        if kind == "slice" or (n == 0 and (kind == "int" or 0 not in together)):
            items.append(draw(st.slices(n)))
        elif kind == "int":
            items.append(draw(st.sampled_from([int, np.int64, np.int32]))(draw(st.integers(-n, n - 1))))
        else:
            whole = st.integers(-n, n - 1) if n else st.just(0)
            extents = together[draw(st.integers(0, len(together) - 1)) if n else 0 :]
            array = draw(hnp.arrays(draw(st.sampled_from([np.int64, np.int32])), extents, elements=whole))
            items.append(array.tolist() if kind == "list" else array)
        del left[0]
    index = items[0] if len(items) == 1 else tuple(items)
    try:
        np.zeros(shape)[index]
    except IndexError:  # a mask selects another number than the arrays beside it hold
        with pytest.raises(OpIndexError):
            ab.zeros(shape)[index]
        reject()
    return shape, index


# What is done with it.


class Picker(nn.Module):
    """Cells that index by what the module holds: it belongs to the trace, as a mask must."""

    def __init__(self, index: Any) -> None:
        self.index = index
        self.table: Any = None

    @ab.cell
    def of_value(self, x: Any) -> Any:
        return x[self.index]

    @ab.cell
    def of_table(self, s: Any) -> Any:
        return self.table[self.index] * s

    @ab.cell
    def of_list(self, xs: list[Any]) -> Any:
        return ab.sum([x[self.index] for x in xs])


Pick = Callable[[Any, Picker, float], Any]

KINDS: dict[str, Pick] = {
    "parameter": lambda table, p, s: table[p.index] * s,
    "expression of parameters": lambda table, p, s: (table * 2.0)[p.index] * (s / 2.0),
    "tensor": lambda table, p, s: (table * ab.tensor(s))[p.index],
    "constant": lambda table, p, s: ab.constant(table.numpy())[p.index] * ab.tensor(s),
    "cell": lambda table, p, s: p.of_value(table * ab.tensor(s)),
    "parameter in a cell": lambda table, p, s: p.of_table(ab.tensor(s)),
    "list in a cell": lambda table, p, s: p.of_list([table * ab.tensor(s)] * 3) / 3.0,
}


def gradient_of(table: ab.Parameter) -> Array:
    return np.zeros(table.shape) if table.grad is None else np.asarray(requested.host(table.grad))


def check(shape: tuple[int, ...], index: Any, kind: str, batched: bool) -> None:
    """Values are NumPy's, gradients add up where an element is picked more than once."""
    rng = np.random.default_rng(3)
    numbers = rng.normal(size=shape)
    picked = numbers[index]
    weight = rng.normal(size=picked.shape)
    table = ab.Parameter(numbers)
    picker = Picker(index)
    picker.table = table

    def one(s: float) -> Any:
        y = KINDS[kind](table, picker, s)
        return y, (y * y * weight).sum()

    results = ab.map(one, SCALES, batched=batched)
    loss = ab.sum([loss for _, loss in results])
    for (y, _), s in zip(results, SCALES, strict=True):
        assert y.shape == picked.shape
        np.testing.assert_allclose(y.numpy(), picked * s, rtol=1e-12)
    if kind == "constant":
        return
    loss.backward()
    wanted = np.zeros(shape)
    for s in SCALES:
        np.add.at(wanted, index, 2 * weight * picked * s * s)
    np.testing.assert_allclose(gradient_of(table), wanted, rtol=1e-10, atol=1e-12)


def check_twice(shape: tuple[int, ...], index: Any, batched: bool) -> None:
    """The gradient of the gradient of a sum of cubes."""
    rng = np.random.default_rng(4)
    numbers, along = rng.normal(size=shape), rng.normal(size=shape)
    picked = numbers[index]
    weight = rng.normal(size=picked.shape)
    table = ab.Parameter(numbers)

    def cubes(x: Any) -> Any:
        return (x[index] ** 3 * weight).sum()

    def slope(x: Any) -> Any:
        return (ab.grad(cubes)(x) * along).sum()

    wanted = np.zeros(shape)
    np.add.at(wanted, index, 6 * weight * picked * along[index])
    for s, found in zip(
        SCALES, ab.map(lambda s: ab.grad(slope)(table * ab.tensor(s)), SCALES, batched=batched), strict=True
    ):
        np.testing.assert_allclose(found.numpy(), s * wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=requested.fewer(15))
@given(case=basic() | mixed(), batched=st.booleans())
def test_values_and_gradients_are_numpys(kind: str, case: tuple[tuple[int, ...], Any], batched: bool) -> None:
    with ab.backend(requested.backend("numpy")):
        check(*case, kind, batched)


@settings(max_examples=requested.fewer(20))
@given(case=basic() | mixed(), batched=st.booleans())
@example(case=((3, 2), (np.array([], np.int64), 0)), batched=False)  # rows without numbers
def test_derivatives_of_derivatives(case: tuple[tuple[int, ...], Any], batched: bool) -> None:
    with ab.backend(requested.backend("numpy")):
        check_twice(*case, batched)


COMMON: dict[str, tuple[tuple[int, ...], Any]] = {
    "pairs": ((3, 3), (np.array([0, 2, 2]), np.array([1, 0, 0]))),
    "a part of a matrix": ((3, 3), np.ix_([2, 0], [1])),
    "above the diagonal": ((3, 3), np.triu_indices(3, 1)),
    "a mask": ((2, 3), np.array([[True, False, True], [False, False, True]])),
    "rows twice": ((3, 2), np.array([-1, 0, -1])),
    "no rows": ((3, 2), np.array([], int)),
    "the second axis": ((2, 3), (slice(None), np.array([[2, 0], [2, 2]]))),
    "separated": ((2, 3, 2), (np.array([1, 1, 0]), slice(1, None), np.array([0, 1, 0]))),
    "backwards": ((2, 3, 2), (slice(None), slice(None, None, -2), None, 1)),
}


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("kind", ["parameter", "tensor", "cell"])
@pytest.mark.parametrize("name", COMMON)
def test_compiled(name: str, kind: str, batched: bool) -> None:
    check(*COMMON[name], kind, batched)


# Particular indices.


def test_pairs_of_a_table_run_together() -> None:
    scores = ab.Parameter(np.arange(9.0).reshape(3, 3))
    tags = [np.array([0, 1, 2]), np.array([2, 2, 0]), np.array([1, 0, 0])]
    with ab.profile() as profile:
        totals = ab.evaluate(ab.map(lambda t: scores[t[:-1], t[1:]].sum(), tags))
    assert [float(v) for v in totals] == [float(scores.numpy()[t[:-1], t[1:]].sum()) for t in tags]
    assert profile.kernels["lookup"] == [1, 3]  # one launch for all three


def test_rows_of_a_table_have_a_sparse_gradient() -> None:
    for index in (np.array([4, 1, 4]), [4, 1, 4], (np.array([4, 1]), slice(1, 3)), ([4, 1, 1], 0)):
        table = ab.Parameter(np.ones((1000, 3)))
        ab.sum(ab.map(lambda i, table=table: table[i].sum(), [index, index])).backward()
        assert table.grad is not None and list(table.grad.rows) == [1, 4]


def test_computed_indices_are_paired_with_known_ones() -> None:
    table = ab.Parameter(np.arange(12.0).reshape(3, 4))
    rows, columns = np.array([0, 2, -1]), np.array([1.2, 3.9, 0.1])
    for batched in (True, False):
        found = ab.map(lambda c: table[rows, ab.tensor(c).astype(int)], [columns, columns[::-1]], batched=batched)
        assert found[1].numpy().tolist() == table.numpy()[rows, columns[::-1].astype(int)].tolist()
    i, j = ab.tensor(2), ab.tensor(1)
    assert float(table[i, j]) == 9.0
    assert table[[i, j, 0]].numpy().tolist() == table.numpy()[[2, 1, 0]].tolist()


def test_numbers_and_arrays_passed_to_a_cell() -> None:
    table = ab.Parameter(np.arange(12.0).reshape(3, 4))
    look = ab.cell(lambda i, j, k: table[i, j].sum() + table[[k, 0], j].sum() + table[k, 1:].sum())
    for rows, columns, k in (([0, 1], [2, 3], 1), ([2, -1], [0, -4], 2)):
        x = table.numpy()
        wanted = x[rows, columns].sum() + x[[k, 0], columns].sum() + x[k, 1:].sum()
        assert float(look(np.array(rows), np.array(columns), k)) == wanted


def test_an_array_that_code_in_a_loop_of_a_cell_writes_down() -> None:
    cell = ab.cell(lambda xs: ab.sum([x[[1, 0]] * np.array([1.0, 2.0]) for x in xs]))
    assert cell([ab.tensor([1.0, 2.0]), ab.tensor([3.0, 4.0])]).numpy().tolist() == [6.0, 8.0]


# What is refused.


@pytest.mark.parametrize(
    "index",
    [
        lambda x: x > 1.0,
        lambda x: x[0] > 1.0,
        lambda x: x,
        lambda x: x[0, 0],
        lambda x: 1.0,
        lambda x: float("nan"),
        lambda x: np.array([0.0, 1.0]),
        lambda x: [0.5],
        lambda x: True,
        lambda x: np.bool_(False),
        lambda x: (0, np.array(True)),
        lambda x: np.array([], np.float64),
    ],
)
@pytest.mark.parametrize("place", ["tensor", "parameter", "cell"])
def test_what_is_no_index_names_where(index: Callable[[Any], Any], place: str) -> None:
    x: Any = ab.Parameter(np.ones((2, 2)))
    look: Callable[[Any], Any] = lambda x: x[index(x)]  # noqa: E731
    if place != "parameter":
        x = x * ab.tensor(1.0)
    with pytest.raises(AutobatchError, match=r"test_indexing\.py[\s\S]*ab\.where"):
        (ab.cell(look) if place == "cell" else look)(x)


@pytest.mark.parametrize(
    "index",
    [
        3,
        -4,
        np.array([0, 3]),
        [[-4]],
        (0, 2),
        (slice(None), np.array([5])),
        (np.array([0, 1]), np.array([0, 2])),
        2**70,
        np.array([2**64 - 1], np.uint64),
        (0, 0, 0),
        (..., ...),
        np.ones(2, bool),
        np.ones((3, 3), bool),
        (np.array([0, 1]), np.array([0, 1, 1])),
    ],
)
def test_what_numpy_raises_is_raised_at_the_line(index: Any) -> None:
    table = ab.Parameter(np.ones((3, 2)))
    for x in (table, table * ab.tensor(1.0), table * 2.0, ab.constant(np.ones((3, 2)))):
        with pytest.raises(OpIndexError, match=r"recorded at test_indexing\.py"):
            x[index]
        with pytest.raises(OpIndexError, match=r"recorded at test_indexing\.py"):
            Picker(index).of_value(x)


def test_an_index_out_of_range_names_the_table() -> None:
    for embed in (nn.Embedding(5, 3), nn.Embedding(5, 3).weight):
        for index in (5, [1, -6]):
            with pytest.raises(OpIndexError, match=r"out of range for an axis of 5 of Parameter f64\[5, 3\]"):
                embed[index]


@pytest.mark.parametrize("batched", [True, False])
def test_a_computed_index_out_of_range_names_the_line_that_looked_it_up(batched: bool) -> None:
    table = ab.Parameter(np.ones((5, 3)))

    def one(n: float) -> Any:
        x = ab.tensor([n, 0.0])
        return ab.tanh(table[x.astype(int)]).sum()  # here

    line = one.__code__.co_firstlineno + 2
    with pytest.raises(OpIndexError, match=rf"index 7 is out of range for an axis of 5[\s\S]*test_indexing\.py:{line}"):
        ab.evaluate(ab.map(one, [1.0, 7.0, 2.0], batched=batched))
