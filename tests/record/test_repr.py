"""`repr` of pending tensors: the user's line, found without a look at all that was recorded."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

import autobatch as ab
from autobatch.record import assemble
from autobatch.record.tape import WRITING
from tests.instructions import counted


@ab.cell
def pair(x: Any) -> Any:
    return x * 2.0, ab.tanh(x)


@ab.cell
def triple(x: Any, xs: list[Any]) -> Any:
    return x, ab.sum(xs), [y * 2.0 for y in xs]


def chain(x: Any, n: int) -> Any:
    for _ in range(n):
        x = ab.tanh(x)
    return x


def pairs(x: Any, n: int) -> Any:
    for _ in range(n):
        x = pair(x)[1]
    return x


def by_turns(x: Any, n: int) -> Any:
    for k in range(n):
        x = triple(x, [x, x * 2.0])[0] if k % 3 else chain(x, 1)
    return x


def instructions(action: Callable[[], Any]) -> int:
    """How many instructions of Python an action takes."""
    with counted() as count:
        action()
    return count.n


@pytest.mark.parametrize("program", [chain, pairs, by_turns])
def test_it_costs_the_same_in_long_and_short_recordings(
    program: Callable[[Any, int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, counts = [], []
    monkeypatch.setattr(assemble, "listed", lambda *_: pytest.fail("the whole recording is read"))
    for n in (11, 5_000):
        t = program(ab.tensor([1.0]), n)
        texts.append(repr(t))
        counts.append(instructions(lambda t=t: repr(t)))
    assert texts[0] == texts[1]
    assert counts[1] <= counts[0] * 1.1  # a binary search


def test_every_result_of_every_node_has_its_line() -> None:
    found: list[tuple[Any, int]] = []

    def note(*tensors: Any) -> None:
        """Tensors that the line before the caller's recorded."""
        line = sys._getframe(1).f_lineno - 1
        found.extend((t, line) for t in tensors)

    x = ab.tensor([1.0, 2.0])
    for _ in range(3):
        first, second = pair(x)
        note(first, second)
        one, two, listed = triple(first, [second, x])
        note(one, two, *listed)
        x = ab.exp(first)
        note(x)
        last, _ = pair(one)
        note(last)
    pending = [repr(t) for t, _ in found]
    assert pending == [
        f"Tensor(f32[2], recorded at test_repr.py:{line} in test_every_result_of_every_node_has_its_line)"
        for _, line in found
    ]
    ab.evaluate([t for t, _ in found])
    for text, (t, _) in zip(pending, found, strict=True):
        assert repr(t).startswith(text.removesuffix(")") + ", ")


def test_replayed_values_have_their_lines() -> None:
    def doubled(x: float) -> Any:
        return pair(ab.tensor([x]))[1] * 2.0

    for _ in range(2):
        before = ab.tensor([1.0]) * 2.0
        results = ab.map(doubled, [1.0, 2.0], reuse=True)
        after = pair(ab.tensor([1.0]))[1]
        assert all("in doubled" in repr(t) for t in results)
        assert all("in test_replayed" in repr(t) for t in (before, after))
        ab.evaluate([*results, before, after])


def test_what_was_broken_off_has_no_line() -> None:
    t = ab.tensor([1.0]) * 2.0
    t._tape.count = WRITING  # type: ignore[attr-defined]
    assert repr(t) == "Tensor(f32[1])"
