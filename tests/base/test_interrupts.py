"""Blocks that no signal breaks off."""

from __future__ import annotations

import signal

import pytest

from autobatch.base.interrupts import uninterrupted


def test_a_signal_waits_for_the_end_of_the_block() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
        done.append("whole")
    assert done == ["whole"]


def test_the_signal_after_a_block_that_was_never_left_goes_to_its_handler() -> None:
    """As where an exception that another thread sent came before the first line of `__exit__`."""
    before = signal.getsignal(signal.SIGINT)

    def begin() -> uninterrupted:
        block = uninterrupted()
        block.__enter__()
        return block

    block = begin()
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        block._restore()
