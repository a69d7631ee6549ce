"""Blocks that no signal breaks off."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from autobatch.base.interrupts import uninterrupted

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="signals of POSIX")


class Told(Exception):
    """What the handler of this test raises."""


def raises(number: int, frame: Any) -> None:
    raise Told(signal.Signals(number).name)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    old = {number: signal.signal(number, raises) for number in (signal.SIGINT, signal.SIGALRM, signal.SIGUSR1)}
    yield
    for number, handler in old.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGALRM, signal.SIGUSR1])
def test_a_signal_raises_when_the_block_has_ended(number: signal.Signals) -> None:
    done = []
    with pytest.raises(Told, match=number.name), uninterrupted():
        signal.raise_signal(number)
        done.append(1)
    assert done
    assert signal.getsignal(number) is raises


def test_each_signal_comes_through_and_all_handlers_are_back() -> None:
    with pytest.raises(Told), uninterrupted(), uninterrupted():
        for number in (signal.SIGUSR1, signal.SIGINT, signal.SIGINT):
            signal.raise_signal(number)
    with pytest.raises(Told, match="SIGALRM"):
        signal.raise_signal(signal.SIGALRM)


def test_a_signal_while_handlers_are_put_back_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    real = signal.signal

    def put(number: int, handler: Any) -> Any:
        old = real(number, handler)
        signal.raise_signal(number)
        return old

    block = uninterrupted()
    block.__enter__()
    monkeypatch.setattr(signal, "signal", put)
    with pytest.raises(Told):
        block.__exit__()
    monkeypatch.undo()
    assert all(signal.getsignal(number) is raises for number in (signal.SIGINT, signal.SIGALRM, signal.SIGUSR1))


def test_another_thread_holds_nothing_back() -> None:
    seen = []

    def work() -> None:
        with uninterrupted():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [raises]
