"""Values forced inside `ab.map`: phases, where they come from, and their cost, in `ab.profile` and `ab.explain`."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.explain.reasons import batching_reasons


class Greedy:
    """Each example forces one value, and goes on by what it is."""

    def __init__(self) -> None:
        self.w = ab.Parameter([1.0, 2.0])
        self.line = 0

    def loss(self, x: Any) -> Any:
        h = ab.tanh(ab.tensor(x) * self.w)
        self.line = sys._getframe().f_lineno + 1
        if float(h.sum()) > 0:
            return (h * 2.0).sum()
        return (h * 3.0).sum()


EXAMPLES = list(np.random.default_rng(0).normal(size=(16, 2)))


def test_sixteen_values() -> None:
    """They are computed together: mul, tanh, sum; then mul and sum, and a mean."""
    model = Greedy()
    with ab.profile() as prof:
        loss = ab.mean(ab.map(model.loss, EXAMPLES))
        pending = ab.explain(loss, stage="reasons")
        loss.backward()
    where = f"test_forcing.py:{model.line} in loss"
    assert (prof.launches, prof.bound, prof.together) == (3 + 3, 5, 5)
    assert (prof.forced.phases, prof.forced.lines) == (1, {where: (16, 1)})
    for text in (prof.table(), pending, ab.explain(loss, stage="reasons"), ab.explain(loss)):
        assert "1 phase of ab.map for 16 forced values, 16.0 at a time: 100% of the examples under way" in text
        assert f"16  at {where}, in 1 phase" in text
    # Of the sums, the last example's alone leads to the loss beside those that were forced.
    reasons = batching_reasons(loss)
    assert reasons.bound == 5
    assert reasons.launches == reasons.ops + sum(r.launches for r in reasons.reasons)
    assert f"launches that lead here: {reasons.launches}, had none been forced: 5" in pending


def test_a_chain_across_forced_values_counts() -> None:
    """What depends on what was forced cannot run beside it."""
    w = ab.Parameter([1.0, 2.0])

    def chain(n: int) -> Any:
        h = ab.tensor([1.0, 1.0]) * w
        for _ in range(n):
            h = ab.tanh(h)
            float(h[0])
        return h.sum()

    with ab.profile() as prof:
        ab.sum(ab.map(chain, [2, 3, 1])).backward()
    assert prof.bound == 1 + 3 + 1 + 1 + 1  # mul, three times tanh, h[0], sum, sum of list
    assert prof.launches == 1 + 3 * 2 + 3 + 1  # each sum runs with what others wait for
    assert prof.forced.phases == 3
    assert sum(times for times, _ in prof.forced.lines.values()) == 6


def test_each_map_call_counts_by_itself() -> None:
    model = Greedy()
    with ab.profile() as once:
        ab.mean(ab.map(model.loss, EXAMPLES[:4])).backward()
    with ab.profile() as twice:
        for _ in range(2):
            ab.mean(ab.map(model.loss, EXAMPLES[:4])).backward()
        inside = twice.bound
    assert (twice.launches, twice.bound, twice.together) == (2 * once.launches, 2 * once.bound, 2 * once.together)
    assert inside == twice.bound


def test_a_nested_map_belongs_to_the_outer_one() -> None:
    model = Greedy()
    with ab.profile() as prof:
        ab.sum(ab.map(lambda xs: ab.sum(ab.map(model.loss, xs)), [EXAMPLES[:3], EXAMPLES[3:5]])).backward()
    assert [times for times, _ in prof.forced.lines.values()] == [5]
    assert prof.bound == 6  # as above, and a sum of a list inside and outside of the other map


@pytest.mark.parametrize("batched", [True, False])
def test_where_nothing_is_split_nothing_is_said(batched: bool) -> None:
    w = ab.Parameter([1.0, 2.0])
    with ab.profile() as prof:
        float(ab.tensor(1.0) * 2.0)
        losses = ab.map(lambda x: (ab.tensor(x) * w).sum() if batched else Greedy().loss(x), EXAMPLES, batched=batched)
        loss = ab.mean(losses)
        texts = [ab.explain(loss), ab.explain(loss, "reasons")]
        loss.backward()
    assert prof.forced.lines == {}
    assert prof.launches == prof.bound == prof.together
    assert not any("forced value" in text for text in [*texts, prof.table()])


def test_a_map_that_failed_leaves_nothing_to_the_next() -> None:
    def fails(x: Any) -> Any:
        float(ab.tensor(x).sum())
        raise ValueError

    with pytest.raises(ValueError):
        ab.map(fails, EXAMPLES)
    loss = ab.mean(ab.map(lambda x: ab.tensor(x).sum(), EXAMPLES))
    assert "forced value" not in ab.explain(loss)
