"""Schedule policies as users choose them: results are the same under all, only launches differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.schedule.policies import POLICIES, current_schedule, learned
from benchmarks.schedules import dags, rnng, spinn

pytestmark = pytest.mark.usefixtures("on_the_host")


@pytest.fixture(autouse=True)
def numpy_backend() -> Iterator[None]:
    ab.set_default_dtype(np.float64)
    with ab.backend("numpy"):
        yield
    ab.set_schedule("auto")
    ab.set_default_dtype(np.float32)


def model_of(module: Any, dim: int = 3) -> nn.Module:
    ab.seed(1)
    model: nn.Module = module.MODEL(dim)
    return model


def outcome(model: Any, batch: list[Any], **options: Any) -> list[np.ndarray]:
    """Losses and gradients."""
    for parameter in model.parameters():
        parameter.grad = None
    losses = ab.map(model.loss, batch, **options)
    ab.sum(losses).backward()
    grads = [p.grad.to_dense() if hasattr(p.grad, "to_dense") else p.grad for p in model.parameters()]
    return [*ab.evaluate(losses), *grads]


def launches(model: Any, batch: list[Any], **options: Any) -> tuple[int, str]:
    with ab.profile() as profile:
        outcome(model, batch, **options)
    ((by, (_, n)),) = profile.schedules.items()
    assert n == profile.launches >= profile.bound
    assert f"{n} launches by {by} (bound {profile.bound})" in profile.table()
    return n, by


@pytest.mark.parametrize("module", [spinn, dags])
def test_results_are_those_of_the_loop_under_all_policies(module: Any) -> None:
    model, batch = model_of(module), module.examples(3)
    expected = outcome(model, batch, batched=False)
    for policy in POLICIES:
        for _ in range(3):  # the third is a plan that was kept
            for a, b in zip(outcome(model, batch, schedule=policy), expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


def test_a_policy_for_all_recordings_and_for_one_map() -> None:
    model, batch = model_of(spinn), spinn.examples(8)
    counts = {policy: launches(model, batch, schedule=policy) for policy in ("frontier", "agenda", "depth")}
    assert counts["frontier"][0] < counts["agenda"][0] < counts["depth"][0]
    assert {by for _, by in counts.values()} == set(counts)
    ab.set_schedule("depth")
    assert launches(model, batch) == counts["depth"]
    assert launches(model, batch, schedule="agenda") == counts["agenda"]
    loss = ab.sum(ab.map(model.loss, batch, schedule="agenda"))  # type: ignore[attr-defined]
    assert f"{counts['agenda'][0]} launches of" in ab.explain(loss) and ", by agenda;" in ab.explain(loss)
    ab.set_schedule("auto")
    launches(model, batch)
    assert launches(model, batch)[0] <= counts["frontier"][0]  # its plan is kept, and so was searched


def test_a_policy_holds_for_values_forced_inside_the_map_and_ends_with_it() -> None:
    def program(x: float) -> Any:
        y = ab.tanh(ab.tensor(x))
        return ab.tanh(y) if float(y) > 0 else y

    with ab.profile() as profile:
        results = ab.map(program, [1.0, -1.0, 2.0], schedule="depth")
        inner = ab.map(lambda x: ab.map(program, [x], schedule="agenda")[0], [1.0, 3.0], schedule="depth")
        ab.evaluate([results, inner])
    assert set(profile.schedules) == {"depth"}
    with ab.profile() as profile:
        float(ab.exp(ab.tensor(1.0)))
    assert set(profile.schedules) == {"frontier"}


def test_a_plan_is_kept_once_a_table_is_frozen() -> None:
    model, batch = model_of(spinn), spinn.examples(6)
    for _ in range(learned.MINIBATCHES):
        assert launches(model, batch, schedule="learned")[1] == "learned, learning"
    expected = outcome(model, batch, batched=False)
    for _ in range(3):
        assert launches(model, batch, schedule="learned")[1] in ("learned", "frontier")
        for a, b in zip(outcome(model, batch, schedule="learned"), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


def test_explain_teaches_nothing() -> None:
    model, batch = model_of(spinn), spinn.examples(6)
    loss = ab.sum(ab.map(model.loss, batch, schedule="learned"))  # type: ignore[attr-defined]
    assert ", by frontier;" in ab.explain(loss)
    recording: Any = loss
    assert not any(s.decisions.learners for s in recording._tape.signatures)


@pytest.mark.parametrize("name", ["fastest", "", None, 3])
def test_a_policy_that_is_not_there_raises_and_says_which_are(name: Any) -> None:
    with pytest.raises(ValueError, match="set_schedule: there is no such schedule policy") as error:
        ab.set_schedule(name)
    assert 'expected "auto" or "frontier" or "agenda" or "depth" or "learned"' in str(error.value)
    assert f"got {name!r}" in str(error.value) and "repair: " in str(error.value) and current_schedule() == "auto"
    if name is not None:
        with pytest.raises(ValueError, match="map: there is no such schedule policy"):
            ab.map(lambda x: x, [1], schedule=name)


def test_small_workloads_stay_below_their_numbers_of_launches() -> None:
    """Of 16 examples, in the first step: what `frontier` needs, beside bounds that no order reaches."""
    for module, most, bound in ((spinn, 55, 46), (rnng, 49, 42), (dags, 51, 32)):
        with ab.profile() as profile:
            ab.sum(ab.map(model_of(module).loss, module.examples(16))).backward()  # type: ignore[attr-defined]
        assert profile.bound == bound and profile.launches <= most
