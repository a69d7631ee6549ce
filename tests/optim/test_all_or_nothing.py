"""A step moves every parameter, moment and count, or none: under bad gradients, under Ctrl-C at any line, and under
exceptions that another thread sends, at any instruction."""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import optim
from autobatch.record import parameter
from autobatch.record.parameter import SparseRows
from tests.instructions import Broken, breaking, interrupted
from tests.requested import of_the_host

Make = Callable[[list[ab.Parameter]], optim.Optimizer]

OPTIMIZERS: dict[str, Make] = {
    "SGD": lambda params: optim.SGD(params, 0.1),
    "Adam": lambda params: optim.Adam(params, 0.1),
}
optimizers = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


lines_of_the_host = of_the_host("the lines that are interrupted would be the stand-in's")


def model(make: Make) -> tuple[list[ab.Parameter], optim.Optimizer]:
    """Two dense parameters, a table with a sparse gradient, and one that is not reached; one step already made."""
    params = [ab.Parameter(np.full(shape, 1.0)) for shape in [(3,), (2, 2), (4, 2), (5,)]]
    optimizer = make(params)
    give_gradients(params)
    optimizer.step()
    give_gradients(params)
    return params, optimizer


def give_gradients(params: list[ab.Parameter]) -> None:
    params[0].grad = np.full(3, 0.5, np.float32)
    params[1].grad = np.full((2, 2), 2.0, np.float32)
    params[2].grad = SparseRows(rows=np.array([0, 2]), values=np.ones((2, 2), np.float32), shape=(4, 2))


def snapshot(params: list[ab.Parameter], optimizer: optim.Optimizer) -> list[bytes]:
    return [p.numpy().tobytes() for p in params] + [x.tobytes() for x in optimizer.state_dict().values()]


def check_every_line(prepare: Callable[[], tuple[Callable[[], object], Callable[[], list[bytes]]]]) -> None:
    """Ctrl-C at each line of an action: its state afterwards is that before it, or that of a whole one."""
    action, state = prepare()
    before = state()
    action()
    after = state()
    assert before != after
    line, seen = 0, set()
    while True:
        line += 1
        action, state = prepare()
        lines, stopped = interrupted(action, line)
        if lines < line:
            break
        outcome = state()
        assert outcome in (before, after), f"stopped half way at line {line}"
        assert stopped or outcome == after, f"Ctrl-C at line {line} was lost, and the action with it"
        seen.add((stopped, outcome == after))
        action()  # and the next one works
    assert (True, False) in seen


@lines_of_the_host
@optimizers
def test_a_step_under_ctrl_c(make: Make) -> None:
    def prepare() -> tuple[Callable[[], object], Callable[[], list[bytes]]]:
        params, optimizer = model(make)
        return optimizer.step, lambda: snapshot(params, optimizer)

    check_every_line(prepare)


@lines_of_the_host
@optimizers
def test_load_state_dict_under_ctrl_c(make: Make) -> None:
    wanted = model(make)[1]
    wanted.lr = 0.7
    wanted.step()
    state = wanted.state_dict()

    def prepare() -> tuple[Callable[[], object], Callable[[], list[bytes]]]:
        params, optimizer = model(make)
        return lambda: optimizer.load_state_dict(state), lambda: snapshot(params, optimizer)

    check_every_line(prepare)


def sparse(rows: list[int], width: int = 2, n: int = 4, dtype: type = np.float32) -> SparseRows:
    return SparseRows(rows=np.array(rows), values=np.ones((len(rows), width), dtype), shape=(n, 2))


@optimizers
def test_gradients_that_do_not_fit_are_all_named_and_nothing_moves(make: Make) -> None:
    params, optimizer = model(make)
    before = snapshot(params, optimizer)
    bad: list[tuple[int, Any, str]] = [
        (2, sparse([0, 1], dtype=np.float64), r"parameter 2: expected a gradient f32\[4, 2\], got f64\[4, 2\]"),
        (2, sparse([0, 4]), r"parameter 2: expected sorted row numbers from 0 to 3, each once, got \[0 4\]"),
        (2, sparse([-1, 2]), r"parameter 2: expected sorted row numbers"),
        (2, sparse([2, 1]), r"parameter 2: expected sorted row numbers"),
        (2, sparse([1, 1]), r"parameter 2: expected sorted row numbers"),
        (2, sparse([1, 2], width=3), r"parameter 2: expected rows int64\[k\] and values \[k, 2\]"),
    ]
    with pytest.raises(ValueError, match=r"Parameter.grad: the shape differs"):
        params[1].grad = sparse([0, 1], n=3)
    for index, gradient, message in bad:
        give_gradients(params)
        params[index].grad = gradient
        with pytest.raises(ValueError, match=message):
            optimizer.step()
        assert snapshot(params, optimizer) == before
    give_gradients(params)
    optimizer.step()
    assert snapshot(params, optimizer) != before


# Exceptions that another thread sends come between any two instructions.


MOST = 150
"""Most instructions of an action at which an exception is raised, evenly chosen."""


def check_every_instruction(prepare: Callable[[], tuple[Callable[[], object], Callable[[], Any]]]) -> None:
    action, state = prepare()
    before = state()
    action()
    after = state()
    _, n, _ = breaking(prepare()[0], -1)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    seen = set()
    for at in range(1, n + 1, max(1, n // MOST)):
        action, state = prepare()
        _, _, is_sent = breaking(
            action, at
        )  # where threads help there are more instructions at one time than at another
        outcome = state()
        assert outcome in (before, after), f"half way at instruction {at} of {n}"
        assert is_sent or outcome == after
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
        seen.add(outcome == after)
        action()
    assert seen == {False, True}


@lines_of_the_host
@optimizers
def test_a_step_at_any_instruction(make: Make) -> None:
    def prepare() -> tuple[Callable[[], object], Callable[[], list[bytes]]]:
        params, optimizer = model(make)
        return optimizer.step, lambda: snapshot(params, optimizer)

    check_every_instruction(prepare)


@lines_of_the_host
def test_a_step_of_large_parameters_at_any_instruction() -> None:
    """Its rows are shared among threads, which go on while the exception is on its way."""

    def prepare() -> tuple[Callable[[], object], Callable[[], list[bytes]]]:
        w = ab.Parameter(np.ones(1 << 20))
        optimizer = optim.SGD([w], 0.5, momentum=0.9)
        w.grad = np.ones(1 << 20, np.float32)
        return optimizer.step, lambda: [w.value[:: 1 << 17].tobytes(), str(w.value.sum(dtype=float)).encode()]

    check_every_instruction(prepare)


@lines_of_the_host
@pytest.mark.parametrize("what", ["replace", "zero_grad", "accumulate", "clip", "random state"])
def test_other_changes_at_any_instruction(what: str) -> None:
    def prepare() -> tuple[Callable[[], object], Callable[[], Any]]:
        params, optimizer = model(OPTIMIZERS["SGD"])
        params[1].grad = np.full((2, 4), 3.0, np.float32)[:, ::2]  # not in one piece
        ab.seed(5)
        saved = ab.random_state()
        ab.uniform()
        actions: dict[str, Callable[[], object]] = {
            "replace": lambda: parameter.replace([(p, np.full(p.shape, 7.0)) for p in params]),
            "zero_grad": optimizer.zero_grad,
            "accumulate": lambda: parameter.accumulate([(p, p.grad) for p in params[:3] if p.grad is not None]),
            "clip": lambda: optim.clip_grad_norm(params, 0.5),
            "random state": lambda: ab.set_random_state(saved),
        }

        def state() -> Any:
            grads = [p.grad.to_dense() if isinstance(p.grad, SparseRows) else p.grad for p in params]
            streams = [x.tobytes() for x in ab.random_state().values()]
            return [p.value.tobytes() for p in params], [None if g is None else g.tobytes() for g in grads], streams

        return actions[what], state

    check_every_instruction(prepare)


def test_exceptions_that_a_thread_sends() -> None:
    params, optimizer = model(OPTIMIZERS["Adam"])
    send = ctypes.pythonapi.PyThreadState_SetAsyncExc
    caught, steps, is_done = 0, 0, threading.Event()
    counts: list[Any] = []

    def work() -> None:
        nonlocal caught, steps
        while not is_done.is_set():
            try:
                for _ in range(50):
                    give_gradients(params)
                    optimizer.step()
                    steps += 1
            except Broken:
                caught += 1
                counts.append(optimizer._steps[:3].tolist())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        until = time.monotonic() + 3.0
        while caught < 100 and time.monotonic() < until:
            send(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Broken))
            time.sleep(0.002)
    finally:
        is_done.set()
        thread.join()
    assert caught
    assert all(len(set(steps)) == 1 for steps in counts)
    moved = 1.0 - params[0].value
    assert np.allclose(moved, moved[0]) and np.isfinite(moved).all()
