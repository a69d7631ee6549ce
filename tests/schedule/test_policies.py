"""Policies: launches of known structures, what comes last, and what is learned."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autobatch.schedule.check import check_schedule
from autobatch.schedule.policies import POLICIES, learned
from autobatch.schedule.schedule import lower_bound, schedule
from autobatch.schedule.structures import Tape

pytestmark = pytest.mark.usefixtures("on_the_host")

Draw = Callable[[str, str], Tape]


@dataclass(eq=False)
class Decisions:
    learners: dict[Any, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Signature:
    kernel: object = field(default_factory=object)
    trainable: frozenset[int] = frozenset([0])
    decisions: Decisions = field(default_factory=Decisions)


def count(tape: Tape, policy: str, recurs: bool = False, signatures: Sequence[Signature] | None = None) -> int:
    made = schedule(tape, policy, signatures, recurs)
    check_schedule(tape, made)
    return int(made.launch_sig.size)


def stack_machine(transitions: str, prefix: str) -> tuple[str, str]:
    """SPINN: before each transition a tracker reads its own state and the top of the stack; what it says goes into a
    reduction, and is judged, which nothing waits for. Lines, and roots."""
    lines, stack, roots = [f"{prefix}p = payload"], [f"{prefix}p"], []
    state = f"{prefix}p"
    for k, transition in enumerate(transitions):
        lines += [f"{prefix}t{k} = track {state} {stack[-1]}", f"{prefix}j{k} = judge {prefix}t{k}"]
        state = f"{prefix}t{k}"
        roots.append(f"{prefix}j{k}")
        if transition == "s":
            lines.append(f"{prefix}w{k} = word {prefix}p")
            stack.append(f"{prefix}w{k}")
        else:
            right, left = stack.pop(), stack.pop()
            lines.append(f"{prefix}r{k} = reduce {left} {right} {state}")
            stack.append(f"{prefix}r{k}")
    return "\n".join(lines), " ".join([*roots, stack[-1]])


def machines(*transitions: str) -> tuple[str, str]:
    drawn = [stack_machine(text, f"m{k}") for k, text in enumerate(transitions)]
    return "\n".join(lines for lines, _ in drawn), " ".join(roots for _, roots in drawn)


SENTENCES = ("ssrsrsr", "sssrrsr", "ssssrrr", "ssrssrr", "sssrsrr", "ssr", "sssrr")


@settings(deadline=None, max_examples=25)
@given(data=st.data(), policy=st.sampled_from(list(POLICIES)), recurs=st.booleans())
def test_all_policies_give_schedules(
    data: st.DataObject, policy: str, recurs: bool, tapes: st.SearchStrategy[Tape]
) -> None:
    tape = data.draw(tapes)
    signatures = [Signature() for _ in tape.signatures.kind]
    for _ in range(2):
        assert count(tape, policy, recurs, signatures) >= lower_bound(tape, schedule(tape))
    assert count(tape, "auto", True) <= count(tape, policy, recurs)


def test_a_stack_machine(draw: Draw) -> None:
    tape = draw(*machines(*SENTENCES))
    assert lower_bound(tape, schedule(tape)) == 12
    assert count(tape, "auto", recurs=True) <= count(tape, "frontier") <= 14 < count(tape, "agenda") <= 19
    assert count(tape, "depth") <= 30


def test_what_nothing_waits_for_runs_last_and_at_once(draw: Draw) -> None:
    """No class is ready as a whole, so that nodes are chosen one launch at a time."""
    tape = draw(*machines(*SENTENCES))
    made = schedule(tape)
    names = made.launch_sig.tolist()
    judge = int(tape.sig[2])
    assert names.count(judge) == 1


def test_a_search_goes_on_from_each_decision(draw: Draw) -> None:
    tape = draw(*machines("ssrsssrrrsrssrr", "ssssrrrsr", "sssrrsrsrssrr", "ssrsrssrssrrrsr"))
    made = schedule(tape, "auto", None, True)
    check_schedule(tape, made)
    assert lower_bound(tape, made) == 24 and count(tape, "frontier") == count(tape, "auto") == 29
    assert made.launch_sig.size == 27 and made.by == "frontier, searched"


def learner_of(signatures: Sequence[Signature]) -> learned.Learner:
    (found,) = (learner for s in signatures for learner in s.decisions.learners.values())
    assert isinstance(found, learned.Learner)
    return found


def drawn_machines(draw: Draw, n: int) -> list[Tape]:
    rng = np.random.default_rng(n)
    tapes = []
    for _ in range(n):
        texts = []
        for _ in range(4):
            text, on_stack = "", 0
            while len(text) < 12 or on_stack > 1:
                shifts = len(text) < 12 and (on_stack < 2 or rng.random() < 0.5)
                text += "s" if shifts else "r"
                on_stack += 1 if shifts else -1
            texts.append(text)
        tapes.append(draw(*machines(*texts)))
    return tapes


def test_learning_ends_repeats_itself_and_is_forgotten(draw: Draw) -> None:
    tapes = drawn_machines(draw, learned.MINIBATCHES + 4)
    orders = []
    for _ in range(2):
        signatures = [Signature() for _ in range(8)]
        made = [schedule(tape, "learned", signatures) for tape in tapes]
        for tape, order in zip(tapes, made, strict=True):
            check_schedule(tape, order)
        orders.append(np.concatenate([order.nodes for order in made]))
        settled = [order.is_settled for order in made]
        assert settled == [False] * learned.MINIBATCHES + [True] * 4
        assert made[0].by == "learned, learning" and made[-1].by in ("learned", "frontier")
        learner = learner_of(signatures)
        assert learner.is_frozen and made[-1].by == ("learned" if learner.pays else "frontier")
        assert all(
            order.launch_sig.size <= count(tape, "frontier") for tape, order in zip(tapes[:10], made, strict=False)
        )
    assert np.array_equal(*orders)
    dropped = weakref.ref(learner)
    del learner, signatures
    gc.collect()
    assert dropped() is None


def test_a_table_that_pays_is_used_and_unseen_states_go_by_frontier(draw: Draw) -> None:
    tapes = drawn_machines(draw, learned.MINIBATCHES)
    signatures = [Signature() for _ in range(8)]
    for tape in tapes:
        schedule(tape, "learned", signatures)
    learner = learner_of(signatures)
    learner.totals[:] = [1, 0]
    assert schedule(tapes[0], "learned", signatures).by == "learned"
    learner.keys[:] = 0
    assert np.array_equal(schedule(tapes[0], "learned", signatures).nodes, schedule(tapes[0]).nodes)


def test_tables_are_bounded(draw: Draw) -> None:
    (tape,) = drawn_machines(draw, 1)
    first = Signature()
    for _ in range(2 * learned.MOST_TABLES):
        schedule(tape, "learned", [first] * 2 + [Signature() for _ in range(8)])
    assert len(first.decisions.learners) == learned.MOST_TABLES
    steps = np.array([np.arange(1, 5000), np.zeros(4999), np.zeros(4999), np.arange(4999)], np.int64)
    learner = learned.Learner([])
    learned.teach(steps, learner.keys, learner.cost, learner.visits, learner.choices)
    assert np.count_nonzero(learner.keys) == learned.SLOTS // 2


def test_another_thread_that_comes_while_a_table_is_taught_goes_by_frontier(draw: Draw) -> None:
    (tape,) = drawn_machines(draw, 1)
    signatures = [Signature() for _ in range(8)]
    schedule(tape, "learned", signatures)
    found: list[Any] = []
    with learner_of(signatures).lock:
        thread = threading.Thread(target=lambda: found.append(schedule(tape, "learned", signatures)))
        thread.start()
        thread.join()
    assert found[0].by == "frontier" and not found[0].is_settled
    assert learner_of(signatures).n_seen == 1
