"""Plans that are kept: recordings of one structure give what the loop gives, whatever their data."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.engine import forward as running
from autobatch.errors import OpIndexError
from autobatch.run import kept_plans as planned


@pytest.fixture(autouse=True)
def numpy_backend() -> Iterator[None]:
    with ab.backend("numpy"):
        yield


class Net(nn.Module):
    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.embed = nn.Embedding(5, 3)
        self.out = nn.Linear(3, 3)
        self.drop = nn.Dropout(0.4)
        for p in self.parameters():
            p.value = rng.normal(size=p.shape)

    @ab.cell
    def scored(self, x: Any, words: list[Any], factor: float, label: int) -> Any:
        return ab.cross_entropy(self.out(x + ab.sum(words)) * factor, label)

    def loss(self, example: tuple[list[int], float, int]) -> Any:
        words, factor, label = example
        rows = [self.embed[word] for word in words]
        x = self.drop(ab.tanh(ab.stack(rows).sum(axis=0)) * factor)
        return self.scored(x, rows, factor, label)


def batch(k: int) -> list[tuple[list[int], float, int]]:
    """Lists of the same lengths, of other words, factors and labels."""
    return [([(k + j) % 5 for j in range(n)], 0.5 + k + n, (k + n) % 3) for n in (1, 3, 2)]


def outcome(net: Net, k: int, batched: bool) -> list[Any]:
    ab.seed(k)
    for p in net.parameters():
        p.grad = None
    losses = ab.map(net.loss, batch(k), batched=batched)
    ab.sum(losses).backward()
    grads = [p.grad if isinstance(p.grad, np.ndarray) else p.grad.to_dense() for p in net.parameters()]
    return [*ab.evaluate(losses), *grads]


@pytest.fixture
def scheduled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Tapes that were scheduled."""
    seen: list[Any] = []
    plain: Callable[..., Any] = running.schedule  # type: ignore[attr-defined]
    monkeypatch.setattr(running, "schedule", lambda tape, *more: seen.append(tape) or plain(tape, *more))
    return seen


def test_a_structure_that_recurs_is_planned_no_more_and_equals_the_loop(scheduled: list[Any]) -> None:
    net = Net()
    for k in range(5):
        scheduled.clear()
        got = outcome(net, k, batched=True)
        assert len(scheduled) == (1 if k < 3 else 0)  # the first decides how cells are expanded
        for a, b in zip(got, outcome(net, k, batched=False), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_another_structure_or_question_is_planned_anew(scheduled: list[Any]) -> None:
    net = Net().eval()
    for _ in range(3):
        outcome(net, 0, batched=True)
    for ask in (
        lambda: ab.evaluate(ab.map(net.loss, batch(1))),  # no gradient is asked for
        lambda: ab.sum(ab.map(net.loss, batch(1)[:2])).backward(),
        lambda: ab.sum(ab.map(net.loss, batch(1))).backward(retain=True),
    ):
        for n_planned in (1, 1, 0):
            scheduled.clear()
            ask()
            assert len(scheduled) == n_planned
    w = ab.Parameter([1.0, 2.0])
    x = ab.tensor([3.0, 4.0]) * w
    for rows in ([0, 1], [1, 0], [1, 1], [0, 0]):  # which rows a view shows is data that the plan depends on
        y = ab.stack([x, x * 2.0])
        np.testing.assert_array_equal((y[rows[0]] + y[rows[1]]).numpy(), [3.0 * (2 + sum(rows)), 8.0 * (2 + sum(rows))])
    for rows in ([0, 1, 1], [1, 0, 1], [0, 0, 0]):
        y = ab.stack([x, x * 2.0])
        np.testing.assert_array_equal((y[rows] * y[rows]).numpy(), np.square([[3.0, 8.0], [6.0, 16.0]])[rows])


def test_earlier_values_are_asked_by_another_name_each_time() -> None:
    w = ab.Parameter([1.0, 2.0])
    for k in range(4):
        w.grad = None
        a, b = (ab.tensor([1.0, 1.0]) * w * float(k) for _ in range(2))
        a.numpy()  # the first recording ends here; what follows is linked to it
        ((a if k % 2 else b) * 3.0).sum().backward()
        np.testing.assert_array_equal(w.grad, [3.0 * k, 3.0 * k])


def test_an_error_is_found_in_a_plan_that_is_kept() -> None:
    net = Net()
    table = ab.tensor(np.eye(3))

    def row(k: int) -> Any:
        return (table.detach() * net.out.weight)[ab.tensor(k)]

    for _ in range(3):
        ab.evaluate(ab.map(row, [0, 1, 2]))
    with pytest.raises(OpIndexError):
        ab.evaluate(ab.map(row, [0, 1, 3]))
    np.testing.assert_array_equal(ab.evaluate(ab.map(row, [2]))[0].shape, (3,))


class Scaled(nn.Module):
    """A few nodes whose plan and layout are kept from the third recording on."""

    def __init__(self) -> None:
        self.w = ab.Parameter(np.eye(3) + 0.5)
        self.b = ab.Parameter([0.1, 0.2, 0.3])

    def loss(self, example: tuple[list[float], float]) -> Any:
        x, factor = example
        return (ab.tanh(self.w @ ab.tensor(x) + self.b) * factor).sum()


EXAMPLES = [([1.0, 2.0, 3.0], 0.5), ([0.0, -1.0, 1.0], 2.0), ([0.3, 0.2, 0.1], -1.0)]


def gradients_of(model: Scaled, examples: list[Any], batched: bool = True, retain: bool = False) -> list[Any]:
    for p in model.parameters():
        p.grad = None
    ab.sum(ab.map(model.loss, examples, batched=batched)).backward(retain=retain)
    return [model.w.grad, model.b.grad]


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_recordings_that_wait_together_do_not_share_a_layout(backend: str) -> None:
    with ab.backend(backend):
        model = Scaled()
        for _ in range(4):
            gradients_of(model, EXAMPLES)
        for p in model.parameters():
            p.grad = None
        kept = ab.map(model.loss, EXAMPLES)
        whole = ab.sum(kept)
        whole.backward(retain=True)
        before = np.array(model.w.grad)
        other = [(list(reversed(x)), 2 * f) for x, f in EXAMPLES]
        got = gradients_of(model, other)
        want = gradients_of(Scaled(), other, batched=False)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        model.w.grad = model.b.grad = None
        whole.backward()
        np.testing.assert_allclose(model.w.grad, before, rtol=1e-6)
        values = [model.loss(example).numpy() for example in EXAMPLES]
        np.testing.assert_allclose(ab.evaluate(kept), values, rtol=1e-6)


def test_gradients_that_are_held_stay_as_they_are() -> None:
    model = Scaled()
    other = [([9.0, 8.0, 7.0], 3.0), *EXAMPLES[1:]]
    held, copies = [], []
    for k in range(8):
        found = gradients_of(model, other if k % 2 else EXAMPLES)
        want = gradients_of(Scaled(), other if k % 2 else EXAMPLES, batched=False)
        for a, b in zip(found, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        if k % 3 != 1:  # some go at once, and their memory is written again
            held.append(found[0][1:] if k % 2 else found[0])
            copies.append(np.array(held[-1]))
        del found
    for a, b in zip(held, copies, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_second_backward_adds_to_what_the_first_left() -> None:
    model = Scaled()
    for _ in range(4):
        once = [np.array(g) for g in gradients_of(model, EXAMPLES)]
    for p in model.parameters():
        p.grad = None
    loss = ab.sum(ab.map(model.loss, EXAMPLES))
    loss.backward(retain=True)
    loss.backward(retain=True)
    loss.backward()
    for p, g in zip((model.w, model.b), once, strict=True):
        np.testing.assert_allclose(p.grad, 3 * g, rtol=1e-6)


def test_parameters_that_changed_are_seen() -> None:
    model = Scaled()
    for k in range(6):
        model.w.value = np.eye(3) * (k + 1)
        if k == 4:
            model.b.to("numpy")
        fresh = Scaled()
        fresh.w.value = np.eye(3) * (k + 1)
        got, want = gradients_of(model, EXAMPLES), gradients_of(fresh, EXAMPLES, batched=False)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_an_error_leaves_a_layout_that_works() -> None:
    table = ab.Parameter(np.eye(3))

    def picked(k: int) -> Any:
        return (table * 2.0)[ab.tensor(k)].sum()

    def step(indices: list[int]) -> Any:
        table.grad = None
        ab.sum(ab.map(picked, indices)).backward()
        return table.grad if isinstance(table.grad, np.ndarray) else table.grad.to_dense()

    for _ in range(4):
        step([0, 1])
    with pytest.raises(OpIndexError):
        step([0, 3])
    np.testing.assert_array_equal(step([2, 2]), [[0.0] * 3, [0.0] * 3, [4.0] * 3])


def waiting() -> list[int]:
    """Bytes of the layouts that wait for a run."""
    places = [reference() for reference in planned._used]
    return [use.layout.n_bytes for place in places if place is not None for use in place]


def test_few_layouts_wait_and_they_go_with_their_model() -> None:
    model = Scaled()
    for n in range(1, 2 * planned.LAYOUTS):
        for _ in range(3):
            gradients_of(model, EXAMPLES[:1] * n)
    assert len(waiting()) == planned.LAYOUTS
    assert min(waiting()) > 0
    del model
    gc.collect()
    assert waiting() == []


def test_large_layouts_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    model = Scaled()
    monkeypatch.setattr(planned, "LAYOUT_BYTES", 0)
    for _ in range(4):
        gradients_of(model, EXAMPLES)
    assert waiting() == []
