"""asyncio tasks and other contexts: recordings of their own, and modes that do not leak from one to the other."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn, optim
from autobatch.errors import NonFiniteError, RecordingError
from autobatch.record.tape import state
from tests.requested import host


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Any:
    state.tape = None
    yield
    assert state.frozen_tasks == 0
    w = ab.Parameter([1.0])
    (w * ab.tensor([2.0])).sum().backward()
    assert host(w.grad).tolist() == [2.0], "no mode is left on"


class Turns:
    """Runs coroutines alternately: each continues at `await turn()` when all others have."""

    def __init__(self, *makers: Callable[[Callable[[], Awaitable[None]]], Coroutine[Any, Any, Any]]) -> None:
        self.makers = makers

    def run(self) -> list[Any]:
        async def main() -> list[Any]:
            return await asyncio.gather(*(make(lambda: asyncio.sleep(0)) for make in self.makers))

        return asyncio.run(main())


class Model(nn.Module):
    def __init__(self) -> None:
        self.table = ab.Parameter(np.linspace(-1.0, 1.0, 12).reshape(4, 3))
        self.w = ab.Parameter(np.linspace(0.5, 1.5, 9).reshape(3, 3))

    @ab.cell
    def word(self, index: int) -> Any:
        return ab.tanh(self.table[index])

    @ab.cell
    def step(self, h: Any, x: Any) -> Any:
        return ab.tanh(h @ self.w + x), h

    def ops(self, k: int) -> list[Callable[[Any], Any]]:
        """Ways to go on, by fast paths and others."""
        return [
            lambda h: h * 2.0,
            lambda h: h + self.table[k],
            lambda h: ab.tanh(h) * self.w[k % 3],
            lambda h: self.step(h, self.word(k))[0],
            lambda h: ab.concat([h[:1], h[1:]]) @ (self.w * 0.5),
            lambda h: ab.sum([h, ab.tensor([0.1, 0.2, 0.3])]),
            lambda h: h + np.array([0.5, 0.0, 0.5]),
        ]


def alone(model: Model, k: int) -> tuple[float, list[np.ndarray]]:
    """Loss and gradients of one program, run by itself."""
    model.zero_grad() if hasattr(model, "zero_grad") else None
    for p in model.parameters():
        p.grad = None
    h = model.word(k)
    for op in model.ops(k):
        h = op(h)
    loss = h.sum()
    loss.backward()
    return float(loss), [np.array(host(p.grad)) for p in model.parameters()]


def test_tasks_by_turns_compute_what_each_computes_alone() -> None:
    """No op meets the recording, or the end of the recording, of another task."""
    models = [Model() for _ in range(3)]
    expected = [alone(model, k) for k, model in enumerate(models)]
    for model in models:
        for p in model.parameters():
            p.grad = None

    def make(k: int) -> Any:
        async def program(turn: Any) -> Any:
            h = models[k].word(k)
            await turn()
            for op in models[k].ops(k):
                h = op(h)
                await turn()
            loss = h.sum()
            for _ in range(k):
                await turn()  # one ends while others go on
            loss.backward()
            await turn()
            return float(loss), [np.array(host(p.grad)) for p in models[k].parameters()]

        return program

    for (loss, grads), (want, wanted) in zip(Turns(*map(make, range(3))).run(), expected, strict=True):
        assert loss == pytest.approx(want, rel=1e-6)
        for g, w in zip(grads, wanted, strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-7)


def test_no_grad_is_the_tasks_own() -> None:
    """One task evaluates under no_grad while another one trains, whoever is first and wherever they change turns."""
    model = Model()
    _, wanted = alone(model, 1)
    for p in model.parameters():
        p.grad = None

    async def trains(turn: Any) -> Any:
        h = model.word(1)
        for op in model.ops(1):
            await turn()
            h = op(h)
        loss = h.sum()
        await turn()
        loss.backward()
        return [np.array(host(p.grad)) for p in model.parameters()]

    async def evaluates(turn: Any) -> Any:
        await turn()
        with ab.no_grad():
            h = model.word(2)
            for op in model.ops(2):
                await turn()
                h = op(h)
        await turn()
        value = h.sum()
        with pytest.raises(RecordingError, match="no parameter leads"):
            value.backward()
        return float(value)

    for order in ([trains, evaluates], [evaluates, trains], [evaluates, evaluates, trains]):
        for p in model.parameters():
            p.grad = None
        results = Turns(*order).run()
        for g, w in zip(results[order.index(trains)], wanted, strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-7)
        assert results[order.index(evaluates)] == pytest.approx(alone(model, 2)[0], rel=1e-6)


def test_blocks_that_end_in_another_order_than_they_began() -> None:
    async def first(turn: Any) -> None:
        with ab.no_grad(), ab.check_finite(), ab.profile(), ab.disable_cells():
            await turn()
            await turn()

    async def second(turn: Any) -> Any:
        await turn()
        with ab.no_grad(), ab.check_finite(), ab.profile(), ab.disable_cells():
            for _ in range(4):
                await turn()
        w = ab.Parameter([1.0])
        with ab.profile() as prof:
            (w * ab.tensor([0.0])).sum().backward()
            float(ab.log(ab.tensor(0.0)))
            Model().word(1).numpy()
        return w.grad, prof.launches

    _, (grad, launches) = Turns(first, second).run()
    assert grad is not None
    assert launches == 4  # mul, sum, log, and one of a cell


def test_check_finite_and_profile_see_their_own_task() -> None:
    async def careless(turn: Any) -> float:
        for _ in range(3):
            await turn()
            value = float(ab.log(ab.tensor(0.0)))
        return value

    async def careful(turn: Any) -> int:
        with ab.check_finite(), ab.profile() as prof:
            for _ in range(3):
                await turn()
            float(ab.tanh(ab.tensor(1.0)))
        with pytest.raises(NonFiniteError), ab.check_finite():
            await turn()
            float(ab.log(ab.tensor(0.0)))
        return prof.launches

    assert Turns(careless, careful).run() == [-np.inf, 1]


def test_children_inherit_the_modes_of_the_task_that_makes_them() -> None:
    w = ab.Parameter([1.0, 2.0])

    async def child() -> Any:
        await asyncio.sleep(0)
        return (w * ab.tensor([1.0, 1.0])).sum()

    async def main() -> list[Any]:
        with ab.no_grad():
            constants = await asyncio.gather(child(), asyncio.to_thread(lambda: float((w * 2.0).sum())))
        return [*constants, await child()]

    constant, number, differentiated = asyncio.run(main())
    assert number == 6.0
    with pytest.raises(RecordingError, match="no parameter leads"):
        constant.backward()
    differentiated.backward()
    assert host(w.grad).tolist() == [1.0, 1.0]


def test_a_pending_value_of_another_task_is_brought_over_with_its_gradient() -> None:
    w = ab.Parameter([1.0, 2.0])

    async def make() -> Any:
        return ab.tanh(w * ab.tensor([1.0, 1.0]))

    async def use(h: Any) -> Any:
        own = ab.tensor([3.0, 4.0]) * w
        await asyncio.sleep(0)
        return (h * own).sum()

    async def main() -> Any:
        return await asyncio.create_task(use(await asyncio.create_task(make())))

    loss = asyncio.run(main())
    loss.backward()
    got = np.array(host(w.grad))
    w.grad = None
    (ab.tanh(w * ab.tensor([1.0, 1.0])) * (ab.tensor([3.0, 4.0]) * w)).sum().backward()
    np.testing.assert_allclose(got, host(w.grad), rtol=1e-6)


def test_a_value_of_another_task_is_never_silently_constant() -> None:
    """A task uses another one's pending value directly, while that one is inside of no_grad."""
    w = ab.Parameter([1.0])
    shared: list[Any] = []

    async def freezes(turn: Any) -> None:
        with ab.no_grad():
            shared.append(ab.tensor([2.0]) * 1.0)
            for _ in range(3):
                await turn()

    async def uses(turn: Any) -> Any:
        await turn()
        try:
            loss = (shared[0] * w).sum()
        except RecordingError as error:
            return str(error)
        loss.backward()
        return host(w.grad).tolist()

    result = Turns(freezes, uses).run()[1]
    assert result == [2.0] or ("another asyncio task" in result and "repair" in result)


def test_a_step_runs_what_other_tasks_have_pending() -> None:
    w = ab.Parameter([1.0])

    async def waits(turn: Any) -> float:
        h = (w * ab.tensor([3.0])).sum()
        for _ in range(4):
            await turn()
        return float(h)

    async def steps(turn: Any) -> None:
        await turn()
        optimizer = optim.SGD([w], lr=1.0)
        (w * ab.tensor([5.0])).sum().backward()
        optimizer.step()

    assert Turns(waits, steps).run()[0] == 3.0
    assert host(w.value).tolist() == [-4.0]


def test_code_before_between_and_after_tasks_goes_on() -> None:
    w = ab.Parameter([1.0, 2.0])
    before = ab.tensor([1.0, 1.0]) * w

    async def main() -> Any:
        asyncio.get_running_loop().call_soon(called.append, None)
        inside = ab.tensor([2.0, 2.0]) * w
        await asyncio.sleep(0)
        return inside + before

    called: list[Any] = []
    after = asyncio.run(main()) * 2.0
    (after + before).sum().backward()
    assert host(w.grad).tolist() == [7.0, 7.0]


def test_tasks_that_have_ended_keep_nothing() -> None:
    kept = []

    async def leaves() -> None:
        h = ab.tensor([1.0]) * 2.0
        kept.append(weakref.ref(h._tape))  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    async def main() -> None:
        for _ in range(5):
            await asyncio.create_task(leaves())

    asyncio.run(main())
    ab.tensor([1.0]) * 2.0
    gc.collect()
    assert sum(tape() is not None for tape in kept) <= 1
    assert len(state.others) <= 1


def test_a_copied_context() -> None:
    w = ab.Parameter([1.0, 2.0])

    def loss() -> Any:
        return (ab.tanh(ab.tensor([1.0, 1.0]) * w) * w).sum()

    with ab.no_grad():
        constant = contextvars.copy_context().run(loss)
    with pytest.raises(RecordingError, match="no parameter leads"):
        constant.backward()
    contextvars.copy_context().run(loss).backward()
    got = np.array(host(w.grad))
    w.grad = None
    loss().backward()
    np.testing.assert_array_equal(got, host(w.grad))


def test_a_map_with_coroutines_outside_of_it() -> None:
    """Examples are not interrupted by other tasks: maps of two tasks give what they give alone."""
    model = Model()

    def fn(k: int) -> Any:
        return (ab.dropout(model.word(k), 0.5) * model.word(k)).sum()

    async def program(turn: Any) -> Any:
        await turn()
        ys = ab.map(fn, [0, 1, 2])
        await turn()
        return [float(y) for y in ys]

    for results in Turns(program, program).run():
        assert len(results) == 3


def test_cells_of_a_notebook_are_one_recording() -> None:
    """Each runs in a task of its own, whose coroutine is of ipykernel."""
    scope: dict[str, Any] = {}
    code = "async def shell_main(cell):\n    return cell()\n"
    exec(compile(code, "/somewhere/ipykernel/kernelbase.py", "exec"), scope)
    w = ab.Parameter([1.0, 2.0])

    async def kernel() -> None:
        x = await asyncio.create_task(scope["shell_main"](lambda: ab.tensor([1.0, 2.0]) * w))
        loss = await asyncio.create_task(scope["shell_main"](lambda: x.sum()))
        assert ab.explain(loss).startswith("2 launches of 2 nodes")
        await asyncio.create_task(scope["shell_main"](loss.backward))

    asyncio.run(kernel())
    assert np.asarray(w.grad).tolist() == [1.0, 2.0]
