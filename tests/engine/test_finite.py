"""`ab.check_finite`: the first NaN or infinity, in values and gradients, batched and one by one, inside cells, too."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.errors import NonFiniteError
from tests.requested import backends, host

LINES: dict[str, int] = {}


def here(name: str) -> None:
    """Note that the caller's next line is the one that errors shall name."""
    LINES[name] = sys._getframe(1).f_lineno + 1


@ab.cell
def rooted(x: Any) -> Any:
    scaled = x * 2.0
    here("rooted")
    root = ab.sqrt(scaled)
    return root * 3.0


@ab.cell
def logged(x: Any, xs: list[Any]) -> Any:
    total = x + ab.sum(xs)
    here("logged")
    return ab.tanh(total), [ab.log(y) * x for y in xs]


@ab.cell
def normalised(x: Any) -> Any:
    here("normalised")
    y = ab.log_softmax(x * 1e30 * 1e30)
    return y * 0.5


def failure(action: Callable[[], Any]) -> str:
    """What is raised inside the block, and what would be computed without it."""
    action()
    with pytest.raises(NonFiniteError) as caught, ab.check_finite():
        action()
    return str(caught.value)


@pytest.fixture(params=backends("numpy", "numba"))
def backend(request: pytest.FixtureRequest) -> Any:
    with ab.backend(request.param):
        yield request.param


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.usefixtures("backend")
class TestEverywhere:
    def run(self, fn: Callable[[Any], Any], batched: bool, backward: bool = True) -> str:
        """The failure of a loss over three examples, the second of which has a zero."""
        w = ab.Parameter([1.0, 2.0])
        xs = [[1.0, 2.0], [0.0, 1.0], [3.0, 1.0]]

        def action() -> None:
            w.grad = None
            loss = ab.sum(ab.map(lambda x: fn(ab.tensor(x) * w).sum(), xs, batched=batched))
            float(loss)
            if backward:
                loss.backward()

        return failure(action)

    def test_a_value(self, batched: bool) -> None:
        def fn(x: Any) -> Any:
            here("fn")
            return ab.log(x) * 2.0

        text = self.run(fn, batched)
        assert text.startswith("log: the first value that is not finite: -inf")
        assert f"recorded at test_finite.py:{LINES['fn']} in fn" in text

    def test_a_gradient(self, batched: bool) -> None:
        def fn(x: Any) -> Any:
            here("fn")
            return ab.sqrt(x) * 2.0

        text = self.run(fn, batched)
        assert text.startswith("sqrt: the first gradient that is not finite: inf")
        assert f"recorded at test_finite.py:{LINES['fn']} in fn" in text

    def test_a_gradient_in_a_cell(self, batched: bool) -> None:
        text = self.run(rooted, batched)
        assert text.startswith("sqrt in cell rooted: the first gradient that is not finite: inf")
        assert f"recorded at test_finite.py:{LINES['rooted']} in rooted, called at test_finite.py" in text

    def test_a_value_in_a_cell(self, batched: bool) -> None:
        text = self.run(lambda x: ab.sum(logged(x, [x, x + 1.0])[1]), batched)
        assert text.startswith("log in cell logged: the first value that is not finite: -inf")
        inner = "<listcomp>" if sys.version_info < (3, 12) else "logged"
        assert f"recorded at test_finite.py:{LINES['logged']} in {inner}, called at" in text

    def test_what_is_made_of_several_ops_is_named_by_its_own_name(self, batched: bool) -> None:
        text = self.run(normalised, batched)
        assert re.match(r"(mul|log_softmax) in cell normalised: the first value that is not finite: (-?inf|nan)", text)
        assert f"recorded at test_finite.py:{LINES['normalised']} in normalised" in text

    def test_a_gradient_alone_inside_the_block(self, batched: bool) -> None:
        """What was recorded and run before the block is looked at when it is reversed."""
        w = ab.Parameter([0.0, 1.0])
        losses = ab.map(lambda x: rooted(ab.tensor(x) * w).sum(), [[1.0, 2.0]], batched=batched)
        loss = ab.sum(losses)
        float(loss)
        with pytest.raises(NonFiniteError, match="sqrt in cell rooted"), ab.check_finite():
            loss.backward()

    def test_what_does_not_lead_to_the_loss_is_no_fault_of_its_gradient(self, batched: bool) -> None:
        w = ab.Parameter([0.0, 1.0])

        def fn(x: Any) -> Any:
            h = ab.tensor(x) * w
            return (h * h).sum(), ab.sqrt(h).sum()

        pairs = ab.map(fn, [[1.0, 2.0], [2.0, 3.0]], batched=batched)
        with ab.check_finite():
            loss = ab.sum([a for a, _ in pairs])
            loss.backward()
        assert np.isfinite(host(w.grad)).all()

    def test_across_recordings(self, batched: bool) -> None:
        """A gradient that is not finite in an earlier recording."""
        w = ab.Parameter([0.0, 1.0])

        def fn(x: Any) -> Any:
            h = ab.sqrt(ab.tensor(x) * w)
            assert float(h.sum()) > 0
            return (h * 2.0).sum()

        with pytest.raises(NonFiniteError, match=r"sqrt: .*gradient"), ab.check_finite():
            ab.sum(ab.map(fn, [[1.0, 2.0]], batched=batched)).backward()


@pytest.mark.usefixtures("backend")
def test_inside_a_derivative() -> None:
    w = ab.Parameter([0.0, 1.0])
    with pytest.raises(NonFiniteError, match=r"vjp of sqrt: the first value .* inf"), ab.check_finite():
        ab.grad(lambda x: ab.sqrt(x * w).sum())(ab.tensor([1.0, 1.0])).numpy()


@pytest.mark.usefixtures("backend")
def test_nothing_is_raised_or_changed_where_all_is_finite() -> None:
    model = nn.Linear(3, 2)
    grads = []
    for block in (ab.check_finite, ab.profile):
        model.weight.grad = None
        with block():
            ab.mean(ab.map(lambda x: rooted((model(ab.tensor(x)) ** 2).sum() + 1.0), np.eye(3))).backward()
        grads.append(host(model.weight.grad))
    assert np.array_equal(*grads)


def test_the_block_looks_at_what_is_pending_when_it_ends_and_at_nothing_else() -> None:
    before = ab.log(ab.tensor(0.0))
    float(before)
    with pytest.raises(NonFiniteError), ab.check_finite():
        kept = ab.log(ab.tensor(0.0))
    assert float(ab.log(ab.tensor(0.0))) == -np.inf
    with pytest.raises(ZeroDivisionError), ab.check_finite():
        kept = ab.log(ab.tensor(0.0))
        raise ZeroDivisionError
    assert float(kept) == -np.inf


def test_a_block_inside_a_cell_looks_at_nothing_by_itself() -> None:
    w = ab.Parameter([2.0, 3.0])

    @ab.cell
    def checked(x: Any) -> Any:
        with ab.check_finite():
            total = (x * w).sum()
        return total * 2.0

    assert float(checked(w * 1.0)) == 26.0
    assert [float(y) for y in ab.map(lambda k: checked(w * k), [1.0, 2.0])] == [26.0, 52.0]
