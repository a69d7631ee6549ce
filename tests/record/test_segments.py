"""Rows reduced by the segments that they belong to, and looked up by computed numbers: of all lengths in one launch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.errors import OpIndexError, OpTypeError
from tests import requested
from tests.ops.checks import close

SIZES = [(3, 5), (1, 0), (6, 2), (4, 4), (2, 9)]
"""Numbers of segments and of rows."""
NAMES = ("segment_sum", "segment_max", "segment_min", "segment_mean", "segment_softmax", "segment_logsumexp")
IDS = [np.random.default_rng(m).integers(0, n, m) for n, m in SIZES]


def total(y: Any) -> Any:
    """A weighted sum of what is finite."""
    safe = ab.where(ab.isfinite(y), y, 0.0)
    return (safe * ab.sin(safe + 1.0)).sum()


def outcome(kind: str, batched: bool) -> list[Any]:
    """Values, and gradients of the rows, where the numbers are known, given or computed."""
    w = ab.Parameter(np.random.default_rng(0).normal(size=(9, 3)), "float64")

    def one(k: int) -> tuple[list[Any], Any]:
        n, m = SIZES[k]
        x = w[:m] * ab.tensor(1.5, "float64")
        index: Any = IDS[k]
        if kind != "known":
            index = ab.tensor(index) if kind == "given" else ab.tensor(index) * 2 - ab.tensor(index)
        found = [getattr(ab, name)(z, index, n) for name in NAMES for z in (x, x[:, 0])]
        found += [x[index % max(m, 1) - max(m, 1) * (index > 1)]] if kind == "computed" and m else []
        return found, ab.sum([total(y) for y in found])

    with ab.backend(requested.backend("numpy")):
        results = ab.map(one, range(len(SIZES)), batched=batched)
        values = ab.evaluate([found for found, _ in results])
        ab.sum([loss for _, loss in results]).backward()
    return [*(np.asarray(y) for found in values for y in found), requested.host(w.grad)]


@pytest.mark.parametrize("kind", ["known", "given", "computed"])
def test_batched_equals_loop(kind: str) -> None:
    outcome(kind, True)  # then lengths are known to vary
    for a, b in zip(outcome(kind, True), outcome(kind, False), strict=True):
        close(a, b, 1e-9)


def test_all_lengths_share_a_launch() -> None:
    w = ab.Parameter(np.random.default_rng(0).normal(size=(9, 3)))

    def one(k: int) -> list[Any]:
        x = ab.stack([w[j] for j in range(SIZES[k][1])])
        return [getattr(ab, name)(x, IDS[k], SIZES[k][0]) for name in NAMES]

    with ab.backend(requested.backend("numpy")), ab.profile() as profile:
        ab.evaluate(ab.map(one, [0, 2, 3, 4]))
    assert profile.launches == 1 + len(NAMES)


def test_values_are_those_of_numpy() -> None:
    x, index = np.random.default_rng(1).normal(size=(5, 2)), np.array([2, 0, 2, 2, 0])
    groups = [x[index == k] for k in range(3)]
    for default in (ab.tensor, ab.Parameter):  # of an example, and of parameters alone
        rows = default(x, "float64")
        close(ab.segment_sum(rows, index).numpy(), np.stack([g.sum(0) for g in groups]), 1e-12)
        close(ab.segment_max(rows, index).numpy(), np.stack([g.max(0, initial=-np.inf) for g in groups]), 1e-12)
        close(ab.segment_min(rows, index).numpy(), np.stack([g.min(0, initial=np.inf) for g in groups]), 1e-12)
        sums = np.stack([np.exp(g).sum(0) for g in groups])
        with np.errstate(divide="ignore"):
            close(ab.segment_logsumexp(rows, index).numpy(), np.log(sums), 1e-12)
        close(
            ab.segment_mean(rows, index, 3).numpy(),
            np.stack([g.mean(0) if len(g) else g.sum(0) for g in groups]),
            1e-12,
        )
        soft = ab.segment_softmax(rows, index)
        close(ab.segment_sum(soft, index).numpy(), np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]]), 1e-12)
    assert ab.segment_sum(ab.tensor([3, 4, 5]), [1, 1, 0]).tolist() == [5, 7]


def test_second_derivatives() -> None:
    x, index = np.random.default_rng(2).normal(size=(4, 2)), np.array([1, 0, 1, 1])

    def loss(v: Any) -> Any:
        return (ab.segment_logsumexp(v, index, 2) ** 3).sum() + (ab.segment_softmax(v, index, 2) ** 2).sum()

    direction, step = np.random.default_rng(3).normal(size=(4, 2)), 1e-5
    slope = [ab.grad(loss)(ab.tensor(x + s * direction, "float64")).numpy() for s in (-step, step)]
    found = ab.grad(lambda v: (ab.grad(loss)(v) * ab.tensor(direction, "float64")).sum())(ab.tensor(x, "float64"))
    close(found.numpy(), (slope[1] - slope[0]) / (2 * step), 1e-7)


def test_numbers_out_of_range_and_other_shapes_raise() -> None:
    x = ab.ones((3, 2))
    with pytest.raises(OpIndexError, match="segment 3 is out of range for 3"):
        ab.segment_sum(x, [0, 3, 1], 3)
    for make in (lambda: x, lambda: x * ab.tensor(2.0)):
        with pytest.raises(OpIndexError, match=r"out of range|not below"):
            ab.segment_sum(make(), ab.tensor([0, -1, 1]), 3).numpy()
    with pytest.raises(OpTypeError, match="one number for each row"):
        ab.segment_sum(x, [0, 1])
    with pytest.raises(OpTypeError, match="num_segments="):
        ab.segment_sum(x, ab.tensor([0, 1, 1]))
    with pytest.raises(OpTypeError, match="holds integers"):
        ab.segment_sum(x, [0.0, 1.0, 1.0])
