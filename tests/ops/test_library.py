"""The functions of the library together: in compiled kernels, and on rows of any number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.errors import OpIndexError, OpTypeError
from tests import requested
from tests.ops.checks import close
from tests.parity.library import losses, numbers, special, trigonometry, units

GROUPS: dict[str, Callable[[Any, Any, Any], list[Any]]] = {
    made.__name__: made for made in (trigonometry, special, numbers, units)
}
COMPILED = ("units",)
"""Whose kernels are compiled here; in the others each op has a test with its own."""


def outcome(made: Callable[[Any, Any, Any], list[Any]], backend: str, as_cell: bool, batched: bool) -> list[Any]:
    """Values and gradients of a group of functions for vectors of three lengths, and of matrices of three."""
    rng = np.random.default_rng(4)
    w = ab.Parameter(rng.normal(size=(9, 3)), "float64")

    def total(x: Any) -> Any:
        return ab.sum([(y * 0.1).sum() for y in made(ab, x, w[0, 0] * ab.ones(1, "float64"))])

    fn = ab.cell(total) if as_cell else total
    with ab.backend(backend):
        results = ab.map(
            lambda n: (fn(w[:n]), fn(w[:n, 0]), made(ab, w[:n, 1], w[0, :1])[0]), [2, 5, 3], batched=batched
        )
        ab.sum([a + b for a, b, _ in results]).backward()
        values = [np.asarray(v) for group in ab.evaluate(results) for v in group]
    return [*values, requested.host(w.grad)]


@pytest.mark.parametrize("name", GROUPS)
def test_rows_of_any_number(name: str) -> None:
    alone = outcome(GROUPS[name], requested.backend("numpy"), as_cell=False, batched=False)
    for a, b in zip(outcome(GROUPS[name], requested.backend("numpy"), False, True), alone, strict=True):
        close(a, b, 1e-8)
    if name in COMPILED:
        for a, b in zip(outcome(GROUPS[name], requested.backend("numba"), True, True), alone, strict=True):
            close(a, b, 1e-8, "compiled")


def test_shared_operands_that_are_compared() -> None:
    w = ab.Parameter([[1.0, -2.0], [0.5, 3.0]])
    with ab.backend(requested.backend("numpy")):
        ab.sum(ab.map(lambda k: ab.logaddexp(w[:k], w[0, 0]).sum(), [2, 2])).backward()
    x = np.array([[1.0, -2.0], [0.5, 3.0]])
    slope = 2 / (1 + np.exp(1 - x))
    slope[0, 0] += (2 - slope).sum()
    np.testing.assert_allclose(requested.host(w.grad), slope, rtol=1e-6)


@pytest.mark.parametrize("batched", [True, False])
def test_losses_of_vectors_of_any_length(batched: bool) -> None:
    rng = np.random.default_rng(2)
    w = ab.Parameter(rng.normal(size=(8, 2)), "float64")
    with ab.backend(requested.backend("numpy")):
        found = ab.map(lambda n: ab.sum(losses(ab, w[:n, 0], w[:n, 1])), [4, 6, 5], batched=batched)
        ab.sum(found).backward()
        alone = [
            float(ab.sum(losses(ab, ab.tensor(w.value[:n, 0], "float64"), ab.tensor(w.value[:n, 1], "float64"))))
            for n in (4, 6, 5)
        ]
    np.testing.assert_allclose([float(y) for y in found], alone, rtol=1e-9)
    GRADIENTS.append(requested.host(w.grad))
    np.testing.assert_allclose(GRADIENTS[-1], GRADIENTS[0], rtol=1e-8, atol=1e-10)


GRADIENTS: list[Any] = []
"""Of the losses, batched and one by one."""


def test_labels_that_are_ignored_or_wrong() -> None:
    w = ab.Parameter([0.5, -1.0, 2.0])
    with ab.backend(requested.backend("numpy")):
        labels = ab.tensor([2, -100])
        plain = ab.map(lambda k: ab.cross_entropy(w * 1.0, k, ignore_index=-100), [2, -100])
        known = ab.map(lambda k: ab.cross_entropy(w * 1.0, labels[k], ignore_index=-100), [0, 1])
        assert [float(x) for x in plain] == [float(x) for x in known] == [float(ab.cross_entropy(w, 2)), 0.0]
        ab.cross_entropy(w * 1.0, -100, ignore_index=-100).backward()
        assert requested.host(w.grad).tolist() == [0.0, 0.0, 0.0]
    for wrong in (lambda: ab.nll_loss(w, 3), lambda: ab.multi_margin_loss(w, -1), lambda: ab.cross_entropy(w, 5, w)):
        with pytest.raises(OpIndexError, match="out of range for 3 classes"):
            wrong()
    with pytest.raises(OpTypeError, match="setting"):
        ab.elu(w, ab.tensor(1.0))
    with pytest.raises(OpTypeError, match="halves"):
        ab.glu(w)


def test_questions_about_elements() -> None:
    x = np.array([[0.0, 2.0, -1.0], [0.0, 0.0, 3.0]])
    with ab.backend(requested.backend("numpy")):
        t = ab.tensor(x) * 1.0
        for axis in (None, 0, (0, 1)):
            for name in ("any", "all", "count_nonzero"):
                wanted, found = getattr(np, name)(x, axis), getattr(ab, name)(t, axis).numpy()
                assert np.array_equal(found, wanted) and found.dtype == np.asarray(wanted).dtype
        assert not bool(ab.any(t[:, :0])) and bool(ab.all(t[:, :0]))
        rows = ab.map(lambda n: ab.one_hot(ab.tensor(list(range(n))), 3), [1, 3, 2])
        assert [y.tolist() for y in rows] == [np.eye(3, dtype=int)[:n].tolist() for n in (1, 3, 2)]
        with pytest.raises(OpIndexError):
            ab.one_hot(ab.tensor([3]), 3).numpy()
        w = ab.Parameter([0.0, 0.0])
        ab.norm(w * 1.0).backward()
        assert requested.host(w.grad).tolist() == [0.0, 0.0]


def test_weights_of_classes_and_empty_axes_are_checked() -> None:
    scores = ab.tensor([1.0, 2.0, 3.0])
    for loss in (ab.nll_loss, ab.multi_margin_loss, ab.cross_entropy):
        with pytest.raises(OpTypeError, match="one for each of the 3 classes"):
            loss(scores, 0, weight=np.ones(4))
    for probabilities in (ab.sparsemax, ab.entmax):
        with pytest.raises(OpTypeError, match="the axis is empty"):
            probabilities(ab.zeros((2, 0)))


def test_integers_to_integer_powers_are_numpys() -> None:
    x = np.array([3, -2, 0, 1, -1, 7, 1, -1, 0])
    y = np.array([20, 63, 0, 70, 71, 2, 1 << 62, (1 << 63) - 1, (1 << 61) + 1])
    for batched in (True, False):
        found = ab.map(lambda pair: ab.tensor(pair[0]) ** ab.tensor(pair[1]), zip(x, y, strict=True), batched=batched)
        assert [int(v) for v in found] == (x**y).tolist()
    for z in (ab.tensor(x) ** y, np.power(x, ab.tensor(y)), 3 ** ab.tensor([20])):
        assert z.dtype == np.int64
    with pytest.raises(OpIndexError, match="integers to a negative whole power"):
        (ab.tensor(3) ** ab.tensor(-1)).numpy()


def test_softmaxes_of_nothing_are_empty_and_sums_of_nothing_are_none() -> None:
    x = ab.zeros((0, 3))
    assert ab.softmax(x, axis=0).shape == ab.log_softmax(x, axis=0).shape == (0, 3)
    assert ab.logsumexp(x, axis=0).tolist() == [-np.inf] * 3 and ab.logsumexp(x, axis=1).shape == (0,)


def test_booleans_are_integers_to_take_and_sign() -> None:
    x = ab.tensor([5.0, 6.0, 7.0])
    for chosen in ([True, False, True], np.array([True, False, True]), ab.tensor([True, False, True])):
        assert ab.take(x, chosen).tolist() == [6.0, 5.0, 6.0]
    assert ab.sign(ab.tensor([True, False])).tolist() == [1, 0]


def test_numbers_that_losses_do_not_take_raise() -> None:
    half = ab.tensor([0.5])
    for loss in (
        lambda: ab.gaussian_nll_loss(half, [1.0], -1.0),
        lambda: ab.binary_cross_entropy([1.5], [1.0]),
        lambda: ab.binary_cross_entropy(half, [2.0]),
        lambda: ab.hinge_loss(half, [0.0]),
        lambda: ab.margin_ranking_loss(half, half, 0),
    ):
        with pytest.raises(OpTypeError, match="is out of range\n  expected"):
            loss()


def test_an_index_out_of_range_names_no_internal_op() -> None:
    for fn in (
        lambda: ab.one_hot(7, 3),
        lambda: ab.gather(ab.tensor([1.0, 2.0]), 0, [7]),
        lambda: ab.tensor([1.0, 2.0])[ab.tensor(7)],
    ):
        with pytest.raises(OpIndexError, match="7 is out of range") as raised:
            fn().numpy()
        assert not any(name in str(raised.value) for name in ("bounded", "_gather", "lookup"))


def test_odd_operands_of_losses_raise() -> None:
    scores, matrix = ab.tensor([1.0, 2.0, 3.0]), np.ones((2, 3))
    for loss in (lambda: ab.softmax_margin_loss(scores, 0, [1.0]), lambda: ab.expected_cost(scores, 2.0)):
        with pytest.raises(OpTypeError, match=r"cost has another shape(.|\n)*repair"):
            loss()
    with pytest.raises(OpTypeError, match="label_smoothing"):
        ab.cross_entropy(scores, 0, label_smoothing=2.0)
    for loss in (
        lambda: ab.cosine_embedding_loss(matrix, matrix, 1),
        lambda: ab.triplet_margin_loss(scores, scores, 1.0),
    ):
        with pytest.raises(OpTypeError, match="vectors of one length"):
            loss()
    with pytest.raises(OpTypeError, match="one vector of scores"):
        ab.nll_loss(matrix, 0)
    assert ab.one_hot([], 3).shape == (0, 3) and ab.one_hot([], 3).dtype == np.int64


@pytest.mark.parametrize(
    ("fn", "at", "value", "slopes"),
    [
        (ab.hardswish, [np.inf], np.inf, [1.0]),
        (ab.hardswish, [-np.inf], 0.0, [0.0]),
        (ab.erfinv, [-1.0], -np.inf, [np.inf]),
        (ab.arctan2, [0.0, 0.0], 0.0, [0.0, 0.0]),
        (ab.power, [0.0, 0.0], 1.0, [0.0, 0.0]),
        (ab.xlogy, [0.0, np.inf], 0.0, [0.0, 0.0]),
    ],
)
def test_derivatives_at_poles(fn: Callable[..., Any], at: list[float], value: float, slopes: list[float]) -> None:
    """They are PyTorch's, but for `xlogy` by x."""
    operands = [ab.Parameter(x) for x in at]
    with ab.backend(requested.backend("numpy")):
        y = fn(*operands) * ab.tensor(1.0)
        y.backward()
    assert float(y) == value and [float(requested.host(p.grad)) for p in operands] == slopes
