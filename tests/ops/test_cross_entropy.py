"""The cross-entropy of a matrix of logits with a label for each row; what it gives is compared in `tests/parity`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.errors import OpIndexError, OpTypeError
from tests import requested

WEIGHT = np.linspace(0.5, 2.0, 5)
OPTIONS: list[dict[str, Any]] = [
    {},
    {"reduction": "sum"},
    {"reduction": "none"},
    {"weight": WEIGHT, "label_smoothing": 0.1, "ignore_index": 3},
]


def examples() -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(0)
    lengths = [7, 2, 11, 3, 16, 5, 9, 4, 13, 6, 8, 12, 10, 15, 14, 17]
    return [(rng.normal(size=(n, 3)), rng.integers(0, 5, n)) for n in lengths]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "mean")
def test_lengths_share_launches(options: dict[str, Any]) -> None:
    ab.set_default_dtype("float64")
    ab.seed(0)
    layer = nn.Linear(3, 5)

    def loss(example: tuple[Any, Any]) -> Any:
        x, labels = example
        found = ab.cross_entropy(layer(ab.tensor(x)), labels, **options)
        return (found**2).sum()

    def gradient(batched: bool) -> tuple[Any, int, float]:
        layer.weight.grad = None
        with ab.profile() as profile:
            total = ab.sum(ab.map(loss, examples(), batched=batched))
            total.backward()
        return requested.host(layer.weight.grad), profile.launches, float(total)

    with ab.backend(requested.backend("numpy")):
        gradient(True)  # lengths are seen to vary
        got, launches, value = gradient(True)
        alone, _, expected = gradient(False)
    np.testing.assert_allclose(got, alone, rtol=1e-10)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    assert launches - 4 <= 6  # but for the layer, the square and the sum over examples


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "mean")
@pytest.mark.parametrize("n", [1, 4])
def test_derivatives_of_first_and_second_order(options: dict[str, Any], n: int) -> None:
    ab.set_default_dtype("float64")
    rng = np.random.default_rng(n)
    x, v, labels = rng.normal(size=(n, 5)), rng.normal(size=(n, 5)), rng.integers(0, 3, n)

    def loss(x: Any) -> Any:
        return (ab.cross_entropy(x, labels, **options) ** 2).sum()

    def slope(x: Any) -> Any:
        return ab.evaluate(ab.grad(loss)(ab.tensor(x)))

    with ab.backend(requested.backend("numpy")):
        difference = (float(loss(ab.tensor(x + 1e-5 * v))) - float(loss(ab.tensor(x - 1e-5 * v)))) / 2e-5
        np.testing.assert_allclose((slope(x) * v).sum(), difference, rtol=1e-6, atol=1e-8)
        product = ab.evaluate(ab.hvp(loss, (ab.tensor(x),), (ab.tensor(v),)))
        np.testing.assert_allclose(product, (slope(x + 1e-5 * v) - slope(x - 1e-5 * v)) / 2e-5, rtol=1e-5, atol=1e-7)


def test_labels_of_any_kind_and_in_a_cell() -> None:
    logits, labels = np.random.default_rng(3).normal(size=(3, 4)), [2, 0, 3]
    wanted = [float(ab.cross_entropy(ab.tensor(x), k)) for x, k in zip(logits, labels, strict=True)]
    known, x = np.array(labels), ab.tensor(logits)
    in_cell = ab.cell(lambda x, k: ab.cross_entropy(x, k, reduction="none"))
    for found in (
        ab.cross_entropy(x, labels, reduction="none"),
        ab.cross_entropy(x, known, reduction="none"),
        ab.cross_entropy(x, ab.tensor(known - 1) + 1, reduction="none"),
        ab.cross_entropy(ab.constant(logits), ab.tensor([0, *labels])[1:], reduction="none"),
        in_cell(x, ab.tensor(known)),
    ):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-6)


def test_no_rows_and_labels_that_are_all_ignored() -> None:
    assert np.isnan(float(ab.cross_entropy(ab.ones((2, 3)), [1, 1], ignore_index=1)))
    assert float(ab.cross_entropy(ab.ones((2, 3)), [1, 1], ignore_index=1, reduction="sum")) == 0.0
    assert np.isnan(float(ab.cross_entropy(ab.ones((0, 3)), [])))
    assert float(ab.cross_entropy(ab.ones((0, 3)), [], reduction="sum")) == 0.0
    assert ab.cross_entropy(ab.ones((0, 3)), np.zeros(0, int), reduction="none").numpy().shape == (0,)


def test_infinite_logits_of_other_classes_do_not_matter() -> None:
    x = ab.tensor([[0.0, -np.inf], [-np.inf, 0.0]])
    assert ab.cross_entropy(x, [0, 1], reduction="none").tolist() == [0.0, 0.0]


def test_wrong_operands_raise() -> None:
    x = ab.ones((2, 3))
    with pytest.raises(OpTypeError, match="each vector of logits has one label\n"):
        ab.cross_entropy(x, [0, 1, 2])
    with pytest.raises(OpTypeError, match="expected an integer"):
        ab.cross_entropy(x, [0.5, 1.0])
    with pytest.raises(OpTypeError, match="no such reduction"):
        ab.cross_entropy(x, [0, 1], reduction="average")
    with pytest.raises(OpTypeError, match="one for each of the 3 classes"):
        ab.cross_entropy(x, [0, 1], weight=np.ones(2))
    for labels in ([0, 3], [0, -1]):
        with pytest.raises(OpIndexError, match="out of range for 3 classes"):
            ab.cross_entropy(x, labels).numpy()
