"""Threads: the same bits for any number of them; faults, forks and Ctrl-C leave nothing behind."""

from __future__ import annotations

import _thread
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import optim
from autobatch.backends.host import parts, threads, tiles
from autobatch.compile import kernel
from autobatch.optim import moves


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Products, loops and updates are shared whatever their size, and in small parts; help is always asked for."""
    before = ab.get_num_threads()
    for module in (tiles, parts, moves):
        monkeypatch.setattr(module, "SHARED", 1)
    monkeypatch.setattr(parts, "PART", 1)
    monkeypatch.setattr(tiles, "PART", 1)
    monkeypatch.setattr(threads, "LONGEST", 0)
    monkeypatch.setattr(kernel, "_kernels", {})
    yield
    ab.set_num_threads(before)


@pytest.mark.parametrize("n_threads", [2, 3, 5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_have_the_same_bits_on_any_number_of_threads(n_threads: Any, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    for m, k, n in [(1, 1, 1), (1, 40, 700), (700, 40, 3), (500, 600, 130), (7, 0, 9), (0, 3, 4)]:
        x, w = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
        v = np.ascontiguousarray(w.T)
        results = []
        for count in (1, n_threads, n_threads):
            ab.set_num_threads(count)
            direct, packed = np.full((m, n), np.nan, dtype), np.full((m, n), np.nan, dtype)
            tiles.multiply(x, w, direct)
            tiles.multiply_panels(x, tiles.panels(v), packed)
            results += [direct, packed]
        assert np.isfinite(results[0]).all()
        assert all(np.array_equal(results[0], y) for y in results)


def train(n_threads: int, make: Any) -> list[np.ndarray]:
    ab.set_num_threads(n_threads)
    ab.seed(0)
    w, v = ab.Parameter(np.eye(50) / 2), ab.Parameter(np.linspace(-1, 1, 500).reshape(50, 10))
    table = ab.Parameter(np.linspace(-1, 1, 3000).reshape(60, 50))
    optimizer = make([w, v, table])

    def loss(n: int) -> ab.Tensor:
        h = table[3 * n] * float(n)
        for _ in range(n):
            h = ab.tanh(w @ h) + h
        return ab.sum(ab.sigmoid(h @ v))

    for _ in range(3):
        optimizer.zero_grad()
        ab.sum(ab.map(loss, [1, 3, 2, 5, 19] * 5)).backward()
        optimizer.step()
    return [w.value, v.value, table.value]


@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: optim.Adam(parameters, lr=0.01),
        lambda parameters: optim.SGD(parameters, lr=0.01),
        lambda parameters: optim.SGD(parameters, lr=0.01, momentum=0.5),
        lambda parameters: optim.SGD(parameters, lr=0.01, momentum=0.5, nesterov=True),
    ],
)
def test_training_has_the_same_bits_on_any_number_of_threads(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = train(1, make)
    calls = []
    share = parts.share  # type: ignore[attr-defined]
    monkeypatch.setattr(parts, "share", lambda *arguments: calls.append(arguments[2]) or share(*arguments))
    for n_threads in (2, 3):
        for got, wanted in zip(train(n_threads, make), alone, strict=True):
            assert np.array_equal(got, wanted)
    assert len(calls) > 100 and max(calls) > 20


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_products_have_the_same_bits_on_any_number_of_threads(dtype: Any) -> None:
    rng = np.random.default_rng(3)
    for shape, n in [((9, 7, 30), 40), ((1, 300, 20), 70), ((0, 3, 4), 5), ((5, 2, 0), 3)]:
        x, w = rng.standard_normal(shape).astype(dtype), rng.standard_normal((shape[0], shape[2], n)).astype(dtype)
        results = []
        for count in (1, 2, 3):
            ab.set_num_threads(count)
            results.append(np.full((*shape[:2], n), np.nan, dtype))
            tiles.multiply_many(x, w, results[-1])
        bound = 1e-5 if dtype == "float32" else 1e-13
        np.testing.assert_allclose(results[0], x @ w, rtol=bound, atol=30 * bound)
        assert all(np.array_equal(results[0], y) for y in results)


def test_the_caller_does_all_parts_where_no_other_thread_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_work", lambda team: None)
    monkeypatch.setattr(threads, "_team", [threads._Team()])
    ab.set_num_threads(4)
    x = np.random.default_rng(1).standard_normal((300, 200))
    y = np.empty((300, 300))
    tiles.multiply(x, x.T.copy(), y)
    np.testing.assert_allclose(y, x @ x.T)


def test_threads_of_the_user_may_share_at_the_same_time() -> None:
    ab.set_num_threads(3)
    x = np.random.default_rng(2).standard_normal((260, 130))
    expected = x @ x.T
    wrong = []

    def work() -> None:
        for _ in range(20):
            y = np.full((260, 260), np.nan)
            tiles.multiply(x, x.T.copy(), y)
            if not np.allclose(y, expected):
                wrong.append(y)

    users = [threading.Thread(target=work) for _ in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert not wrong


def test_few_calls_ask_for_help_that_does_not_come_or_comes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "PATIENCE", 3)
    monkeypatch.setattr(threads, "LONGEST", 1000)
    team = threads._Team()
    monkeypatch.setattr(threads, "_team", [team])
    ab.set_num_threads(2)
    asked = [n for n in range(2000) if threads.is_help_likely(2)]
    assert asked == [0, 1, 2, 3, 19, 51, 115, 243, 499, 999, 1499, 1999]
    assert threads.is_help_likely(1000)

    def help_that_takes(seconds: float) -> None:
        begun, state = threading.Event(), np.zeros(2, np.int64)

        def function() -> int:
            if threading.current_thread() is threading.main_thread():
                assert begun.wait(10)
                time.sleep(0.3 - seconds)
                return -1
            if begun.is_set():
                return -1
            begun.set()
            time.sleep(seconds)
            state[1] = 2
            return 2

        threads.share(function, (), 2, state)

    help_that_takes(0.0)
    assert team.in_vain == 0 and threads.is_help_likely(2)
    help_that_takes(0.3)
    assert [n for n in range(600) if threads.is_help_likely(2)] == [499, 500, 501, 502, 518, 550]
    assert not any(threads.is_help_likely(1) for _ in range(100))
    ab.set_num_threads(1)
    assert not threads.is_help_likely(2)


def test_a_fault_before_the_first_part_leaves_the_threads_at_work() -> None:
    ab.set_num_threads(2)
    failed = threading.Event()

    def fault() -> int:
        if threading.current_thread() is threading.main_thread():
            assert failed.wait(10)
        failed.set()
        raise TypeError("arguments that no loop takes")

    with pytest.raises(TypeError, match="no loop takes"):
        threads.share(fault, (), 2, np.zeros(2, np.int64))
    helped = threading.Event()

    def function(state: np.ndarray) -> int:
        if threading.current_thread() is threading.main_thread():
            assert helped.wait(10)
            return -1
        state[1] = 2
        helped.set()
        return 2

    state = np.zeros(2, np.int64)
    threads.share(function, (state,), 2, state)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer on this system")
def test_control_c_in_shared_loops_leaves_the_threads_at_work() -> None:
    ab.set_num_threads(2)
    w = ab.Parameter(np.linspace(-1, 1, 300))

    def steps() -> np.ndarray:
        w.grad = None
        ab.sum(ab.map(lambda n: ab.sum(ab.tanh(w * float(n)) * w), list(range(64)))).backward()
        return w.grad

    wanted = steps()
    for k in range(3):
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.01 + 0.003 * k)
        try:
            with pytest.raises(KeyboardInterrupt):
                while True:
                    steps()
        finally:
            signal.signal(signal.SIGALRM, before)
        assert np.array_equal(steps(), wanted)


@pytest.mark.parametrize("late", [False, True])
def test_control_c_waits_for_parts_that_others_have_begun(late: Any) -> None:
    """`share` raises only once all parts are done, also if Ctrl-C comes as they are."""
    ab.set_num_threads(2)
    begun, go = threading.Event(), threading.Event()

    state = np.zeros(2, np.int64)

    def function() -> int:
        if threading.current_thread() is threading.main_thread():
            if not begun.is_set():
                assert begun.wait(10)
                signal_soon.start()
            return -1
        begun.set()
        go.wait(10)
        state[1] = 2
        return 2

    def interrupt() -> None:
        if late:
            _thread.interrupt_main()  # seen when the main thread wakes
        else:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
        go.set()

    signal_soon = threading.Timer(0.05, interrupt)
    with pytest.raises(KeyboardInterrupt):
        threads.share(function, (), 2, state)
    assert go.is_set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_threads_of_its_own() -> None:
    command = """
import os, numpy as np, autobatch as ab
from autobatch.backends.host import tiles
from autobatch.backends.host import parts
tiles.SHARED = parts.SHARED = parts.PART = 1
ab.set_num_threads(2)
x = np.ones((300, 300))
y = np.empty_like(x)
tiles.multiply(x, x, y)
w = ab.Parameter(np.ones(3))
ab.evaluate(ab.map(lambda n: w * float(n) + w, [1, 2, 3]))
child = os.fork()
if child == 0:
    y[:] = 0
    for _ in range(5):
        tiles.multiply(x, x, y)
        z = ab.evaluate(ab.map(lambda n: w * float(n) + w, [1, 2, 3]))
    right = (y == 300).all() and float(z[2][0]) == 4 and ab.get_num_threads() == 2
    os._exit(0 if right else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("variable", "count"), [("3", 3), ("2,4", 2), ("", None), ("many", None)])
def test_the_usual_variable_sets_the_default(monkeypatch: pytest.MonkeyPatch, variable: Any, count: Any) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert threads.default_threads() == (count or len(os.sched_getaffinity(0)))


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True])
def test_a_count_of_threads_is_a_whole_number(wrong: Any) -> None:
    with pytest.raises(ValueError, match="integer"):
        ab.set_num_threads(wrong)
