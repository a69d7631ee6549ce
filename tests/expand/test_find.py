"""What recurs on small drawn tapes, what becomes one node, and checks that fail when they must."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autobatch.errors import CompilerBug
from autobatch.expand import find as search
from autobatch.expand.find import EITHER, Facts, recurring
from autobatch.expand.match import Pattern, join, rules_of
from autobatch.schedule.schedule import schedule
from autobatch.schedule.structures import KERNEL, LIST, Expansion, SignatureTable, Tape
from tests import requested

pytestmark = pytest.mark.usefixtures("on_the_host")


Draw = Callable[[str, str], Tape]
TIMES = 10


def ints(values: Any) -> Any:
    return np.array(list(values), np.int32)


def facts_of(tape: Tape, **changes: Sequence[int]) -> Facts:
    """Every kernel can be joined, and hands over what any other takes."""
    s = tape.signatures
    facts: dict[str, Any] = {
        "joinable": (s.kind == KERNEL).astype(np.int32),
        "constant": np.zeros(len(s.kind), np.int32),
        "weights": np.zeros(len(s.kind), np.int64),
        "slot_type": np.where(s.slot_kind == LIST, -1, 0).astype(np.int32),
        "result_type": np.zeros(len(s.result_pool), np.int32),
    }
    for name, values in changes.items():
        facts[name] = np.array(values, facts[name].dtype)
    return Facts(**facts)


def found(tape: Tape, places: Sequence[int] | None = None, **changes: Sequence[int]) -> list[tuple[list[int], int]]:
    """(signatures of the nodes, times) of the runs that recur."""
    where = np.zeros(len(tape.sig), np.int32) if places is None else ints(places)
    runs = recurring(tape, facts_of(tape, **changes), where)
    return [(tape.sig[r.starts[0] : r.starts[0] + r.size].tolist(), r.starts.size) for r in runs]


def repeated(text: str, times: int = TIMES) -> str:
    """The lines with # replaced by the number of the time, and #- by the one before."""
    return "\n".join(text.replace("#-", str(k)).replace("#", str(k + 1)) for k in range(times))


def names(letter: str, times: int = TIMES) -> str:
    return " ".join(f"{letter}{k + 1}" for k in range(times))


# What recurs.


def test_ops_that_follow_each_other_become_one(draw: Draw) -> None:
    tape = draw(repeated("x# = leaf\na# = f x#\nb# = g a# x#"), names("b"))
    assert found(tape) == [([0, 1, 2], TIMES)]


def test_rare_runs_stay_apart(draw: Draw) -> None:
    assert found(draw(repeated("x# = leaf\na# = f x#", search.MIN_TIMES - 1), "a1")) == []


def test_neighbours_that_have_nothing_to_do_with_each_other_stay_apart(draw: Draw) -> None:
    assert found(draw(repeated("x# = leaf\ny# = other"), names("x") + " " + names("y"))) == []


def test_two_that_read_one_value_become_one(draw: Draw) -> None:
    tape = draw("w = payload\n" + repeated("a# = f w\nb# = g w"), names("a"))
    assert found(tape) == [([1, 2], TIMES)]


def test_a_step_of_a_recurrence_stays_one_node(draw: Draw) -> None:
    tape = draw("h0 = leaf\n" + repeated("a# = f h#-\nh# = g a#", 20), "h20")
    assert found(tape) == [([1, 2], 20)]


def test_what_only_the_next_node_reads_stays_inside(draw: Draw) -> None:
    steps = "h0 = leaf\na0 = f h0\n" + repeated("h# = g a#-\na# = f h#", 20)
    assert found(draw(steps, names("a", 20))) == [([2, 1], 20)]
    assert found(draw(steps, names("h", 20))) == [([1, 2], 20)]


@pytest.mark.parametrize("length", [3, 5])
def test_recurrences_of_one_op_and_one_length_are_not_unrolled(length: int, draw: Draw) -> None:
    steps = "\n".join(f"s{k + 1}x# = step s{k}x#" for k in range(length))
    tape = draw(repeated(f"s0x# = leaf\n{steps}\ny# = out s{length}x#"), names("y"))
    assert all(sigs.count(1) == 1 for sigs, _ in found(tape))


def test_the_end_of_an_example_is_not_joined_with_the_next(draw: Draw) -> None:
    tape = draw(repeated("x# = leaf\na# = f x#\nb# = g a#"), names("b"))
    assert [sigs for sigs, _ in found(tape)] == [[0, 1, 2]]


def test_an_op_of_two_contexts_is_joined_in_each_by_where_it_was_recorded(draw: Draw) -> None:
    both = "x# = leaf\na# = act x#\np# = f a#\ny# = other\nb# = act y#\nq# = g b#"
    tape = draw(repeated(both), names("p") + " " + names("q"))
    places = [0, 1, 2, 3, 4, 5] * TIMES
    assert [sigs for sigs, _ in found(tape, places)] == [[0, 1, 2], [3, 1, 4]]
    assert [sigs for sigs, _ in found(tape)] == [[0, 1, 2], [3, 1, 4]]  # without weights it is as good in any context


def test_weights_are_not_split_over_contexts(draw: Draw) -> None:
    text = "x# = leaf\na# = product x#\np# = f a#\nb# = product p#\nq# = g b#"
    tape = draw(repeated(text), names("q"))
    assert found(tape, weights=[0, 9, 0, 0]) == []


RECURRENT = "x# = leaf\nz# = projection x#\nh# = step z# h#-"


def test_a_projection_ahead_of_a_recurrence_stays_ahead_of_it(draw: Draw) -> None:
    tape = draw("h0 = start\n" + repeated(RECURRENT, 20), "h20")
    assert found(tape, weights=[0, 0, 10**7, 0]) == [([1, 2], 20)]
    assert found(tape, weights=[0, 0, 0, 0]) == [([1, 2, 3], 20)]
    assert found(tape, weights=[0, 0, 10, 10**7]) == [([1, 2, 3], 20)]  # few weights, and the step reads its own anyway


def test_elements_of_a_list_come_from_outside(draw: Draw) -> None:
    tape = draw(repeated("x# = leaf\ns# = sum [x#]\ny# = out s#"), names("y"))
    assert found(tape) == [([1, 2], TIMES)]


def test_types_that_do_not_fit_are_not_handed_over(draw: Draw) -> None:
    tape = draw(repeated("x# = leaf\ny# = out x#"), names("y"))
    assert found(tape, result_type=[1, 0]) == []


def test_constants_stay_apart_from_what_has_a_gradient(draw: Draw) -> None:
    tape = draw(repeated("x# = leaf\na# = f x#\ny# = out a#"), names("y"))
    assert found(tape, constant=[0, 1, 1]) == [([1, 2], TIMES)]
    assert found(tape, constant=[0, EITHER, 0]) == [([0, 1, 2], TIMES)]
    assert found(tape, constant=[0, EITHER, 1]) != [([0, 1, 2], TIMES)]


def test_runs_are_bounded(draw: Draw) -> None:
    lines = "\n".join(f"a{k + 1}x# = op{k} a{k}x#" for k in range(search.MAX_NODES + 20))
    tape = draw(repeated("a0x# = leaf\n" + lines), names(f"a{search.MAX_NODES + 20}x"))
    assert 0 < max(len(sigs) for sigs, _ in found(tape)) <= search.MAX_NODES


def test_views_and_payloads_end_a_run(draw: Draw) -> None:
    tape = draw(repeated("x# = leaf\na# = f x#\nv# = join [a# x#]\np# = payload\nb# = g v#\nc# = k b#"), names("c"))
    assert [sigs for sigs, _ in found(tape)] == [[0, 1], [4, 5]]


# What becomes one node.


def pattern_at(tape: Tape, first: int, size: int, results: Sequence[int] | None, sig: int) -> Pattern:
    """The pattern of these nodes; `results`: the values that are results, None: all."""
    base = int(tape.value_of[first])
    slots: list[int] = []
    reads: list[int] = []
    operands: dict[Any, int] = {}
    for k, slot in enumerate(range(tape.slot_of[first], tape.slot_of[first + size])):
        read = tape.args[tape.arg_of[slot] : tape.arg_of[slot + 1]].tolist()
        if len(read) == 1 and read[0] >= base:
            slots.append(read[0] - base)
            continue
        operand = operands.setdefault(read[0] if len(read) == 1 else (k, "list"), len(reads))
        if operand == len(reads):
            reads.append(k)
        slots.append(-1 - operand)
    values = list(range(int(tape.value_of[first + size]) - base))
    kept = values if results is None else list(results)
    return Pattern(
        tuple(tape.sig[first : first + size].tolist()),
        tuple(slots),
        tuple(reads),
        tuple(kept.index(v) if v in kept else -1 for v in values),
        sig,
    )


def with_patterns(tape: Tape, patterns: Sequence[Pattern]) -> SignatureTable:
    """The table with the signatures of patterns behind those of the tape."""
    s = tape.signatures
    slot_kind, slot_rows, pool, rule, ref, rows = ([] for _ in range(6))
    n_slots, n_results = [], []
    for p in patterns:
        slots = [k for m in p.sigs for k in range(s.slot_of[m], s.slot_of[m + 1])]
        results = [k for m in p.sigs for k in range(s.result_of[m], s.result_of[m + 1])]
        slot_kind += [s.slot_kind[slots[k]] for k in p.reads]
        slot_rows += [s.slot_rows[slots[k]] for k in p.reads]
        made = [results[v] for v, r in enumerate(p.results) if r >= 0]
        pool += [s.result_pool[r] for r in made]
        rule += [s.result_rule[r] for r in made]
        ref += [0 for _ in made]
        rows += [s.result_rows[r] for r in made]
        n_slots.append(len(p.reads))
        n_results.append(len(made))
    n = len(patterns)

    def then(old: Any, more: Any) -> Any:
        return np.concatenate([old, ints(more)])

    return SignatureTable(
        kind=then(s.kind, [KERNEL] * n),
        slot_of=then(s.slot_of, s.slot_of[-1] + np.cumsum(ints(n_slots))),
        slot_kind=then(s.slot_kind, slot_kind),
        slot_rows=then(s.slot_rows, slot_rows),
        result_of=then(s.result_of, s.result_of[-1] + np.cumsum(ints(n_results))),
        result_pool=then(s.result_pool, pool),
        result_rule=then(s.result_rule, rule),
        result_ref=then(s.result_ref, ref),
        result_rows=then(s.result_rows, rows),
        n_ints=then(s.n_ints, [sum(s.n_ints[m] for m in p.sigs) for p in patterns]),
        n_floats=then(s.n_floats, [sum(s.n_floats[m] for m in p.sigs) for p in patterns]),
        frozen=then(s.frozen, [0] * n),
        trainable=then(s.trainable, [0] * n),
    )


def check_join(tape: Tape, patterns: Sequence[Pattern], expansion: Expansion) -> None:
    """Check the invariants of the stage, by independent code.

    Raises:
        CompilerBug: one of them is broken; the message shows both tapes.
    """
    new = expansion.tape
    if expansion.number is None or expansion.origin is None:
        return
    number, origin = expansion.number.tolist(), [*expansion.origin.tolist(), len(tape.sig)]
    of_sig = {pattern.sig: pattern for pattern in patterns}

    def hold(true: bool, what: str) -> None:
        if not true:
            raise CompilerBug(f"join: {what}\n{tape}\n{new}")

    def read(t: Tape, slot: int) -> list[int]:
        values: list[int] = t.args[t.arg_of[slot] : t.arg_of[slot + 1]].tolist()
        return values

    hidden = {v for v, n in enumerate(number) if n < 0}
    hold(origin[0] == 0 and hidden.isdisjoint(tape.roots.tolist()), "a root stays inside, or the tape begins late")
    hold([number[v] for v in tape.roots.tolist()] == new.roots.tolist(), "the roots are others")
    for node in range(len(new.sig)):
        first, end = origin[node], origin[node + 1]
        slots = list(range(tape.slot_of[first], tape.slot_of[end]))
        values = range(tape.value_of[first], tape.value_of[end])
        own = range(new.slot_of[node], new.slot_of[node + 1])
        sig = int(new.sig[node])
        pattern = of_sig.get(sig)
        if pattern is None:
            hold(end == first + 1 and sig == tape.sig[first], f"node {node} is no copy of node {first}")
            codes, results = [-1 - k for k in range(len(slots))], list(range(len(values)))
        else:
            hold(tuple(tape.sig[first:end].tolist()) == pattern.sigs, f"node {node} has other signatures")
            codes, results = list(pattern.slots), list(pattern.results)
        hold(len(codes) == len(slots) and len(results) == len(values), f"node {node} has other slots or values")
        for slot, code in zip(slots, codes, strict=True):
            if code >= 0:
                hold(read(tape, slot) == [values[0] + code], f"node {node} is handed another value")
            else:
                wanted = [number[v] for v in read(tape, slot)]
                hold(wanted == read(new, own[-1 - code]), f"node {node} reads other values")
        for v, result in zip(values, results, strict=True):
            hold(number[v] == (new.value_of[node] + result if result >= 0 else -1), f"value {v} has another number")
        for a, b in ((tape.int_of, new.int_of), (tape.float_of, new.float_of)):
            hold(bool(a[first] == b[node] and a[end] == b[node + 1]), f"node {node} has other data")
        before = hidden.intersection(v for slot in slots for v in read(tape, slot) if v < values.start)
        hold(not before, f"node {node} reads what stays inside another")


def joined(tape: Tape, patterns: Sequence[Pattern]) -> tuple[Expansion, int]:
    whole = dataclasses.replace(tape, signatures=with_patterns(tape, patterns))
    expansion, refused = join(whole, rules_of(tuple(patterns), len(tape.signatures.kind)))
    if expansion.tape is whole:
        return Expansion(tape), refused
    expansion.tape.check()
    check_join(tape, patterns, expansion)
    return expansion, refused


def program(times: int = 4) -> str:
    return "\n".join(f"x{k} = leaf # {k} 0.5\na{k} = f x{k}\nb{k} = g a{k} x{k}" for k in range(times))


def test_every_match_becomes_one_node(draw: Draw) -> None:
    tape = draw(program(), "b0 b1 b2 b3")
    n_sigs = len(tape.signatures.kind)
    expansion, refused = joined(tape, [pattern_at(tape, 0, 3, [2], n_sigs)])
    new = expansion.tape
    assert (new.sig.tolist(), new.roots.tolist(), refused) == ([n_sigs] * 4, [0, 1, 2, 3], 0)
    assert expansion.origin is not None and expansion.origin.tolist() == [0, 3, 6, 9]
    assert new.ints.tolist() == [0, 1, 2, 3] and new.int_of.tolist() == [0, 1, 2, 3, 4]
    assert schedule(new).launch_sig.size == 1 < schedule(tape).launch_sig.size
    assert expansion.value(2) == 0
    with pytest.raises(CompilerBug, match="stays inside"):
        expansion.value(0)


@pytest.mark.parametrize(
    ("more", "roots"),
    [("", "b0 b1 b2 b3 a1"), ("c = f a1", "b0 b1 b2 b3 c"), ("c = join [a1 x1]", "b0 b1 b2 b3 c")],
)
def test_what_is_wanted_outside_stays_as_it_is(more: str, roots: str, draw: Draw) -> None:
    tape = draw(f"{program()}\n{more}", roots)
    n_sigs = len(tape.signatures.kind)
    expansion, refused = joined(tape, [pattern_at(tape, 0, 3, [2], n_sigs)])
    assert expansion.tape.sig[:6].tolist() == [n_sigs, 0, 1, 2, n_sigs, n_sigs] and refused == 3
    again, refused = joined(tape, [pattern_at(tape, 0, 3, [2], n_sigs), pattern_at(tape, 0, 3, None, n_sigs + 1)])
    assert again.tape.sig[:4].tolist() == [n_sigs, n_sigs + 1, n_sigs, n_sigs] and refused == 0


def test_other_values_handed_over_are_no_match(draw: Draw) -> None:
    tape = draw(
        f"{program(2)}\nx = leaf # 1 0.5\na = f x\nb = g x a\ny = leaf # 1 0.5\nc = f x\nd = g c y", "b0 b1 b d"
    )
    n_sigs = len(tape.signatures.kind)
    expansion, refused = joined(tape, [pattern_at(tape, 0, 3, [2], n_sigs)])
    assert expansion.tape.sig.tolist() == [n_sigs, n_sigs, 0, 1, 2, 0, 1, 2] and refused == 6


def test_operands_that_were_one_must_be_one(draw: Draw) -> None:
    tape = draw("x = leaf\ny = leaf\na = f x\nb = g a x\nc = f x\nd = g c y", "b d")
    n_sigs = len(tape.signatures.kind)
    expansion, _ = joined(tape, [pattern_at(tape, 2, 2, [1], n_sigs)])
    assert expansion.tape.sig.tolist() == [0, 0, n_sigs, 1, 2]
    expansion, _ = joined(tape, [pattern_at(tape, 4, 2, [1], n_sigs)])  # here they may be one
    assert expansion.tape.sig.tolist() == [0, 0, n_sigs, n_sigs]


def test_the_longest_match_wins(draw: Draw) -> None:
    tape = draw(program(), "b0 b1 b2 b3")
    n_sigs = len(tape.signatures.kind)
    patterns = [pattern_at(tape, 0, 2, None, n_sigs), pattern_at(tape, 0, 3, [2], n_sigs + 1)]
    assert joined(tape, patterns)[0].tape.sig.tolist() == [n_sigs + 1] * 4


def test_nothing_matches_nothing_changes(draw: Draw) -> None:
    tape = draw("x = leaf\ny = out x", "y")
    other = Pattern((1, 0), (-1,), (0,), (0, 1), 2)
    expansion, refused = joined(tape, [other])
    assert expansion.tape is tape and refused == 0


@settings(max_examples=requested.fewer(100))
@given(data=st.data())
def test_random_windows_of_random_tapes(data: st.DataObject, tapes: st.SearchStrategy[Tape]) -> None:
    tape = data.draw(tapes)
    kind = tape.signatures.kind[tape.sig]
    n_sigs = len(tape.signatures.kind)
    patterns: list[Pattern] = []
    windows: list[tuple[int, int]] = []
    for _ in range(data.draw(st.integers(1, 3))):
        first = data.draw(st.integers(0, len(tape.sig) - 1))
        size = data.draw(st.integers(1, 4))
        window = kind[first : first + size]
        inner_list = any(
            tape.arg_of[slot + 1] - tape.arg_of[slot] > 1
            and (tape.args[tape.arg_of[slot] : tape.arg_of[slot + 1]] >= tape.value_of[first]).any()
            for slot in range(tape.slot_of[first], tape.slot_of[min(first + size, len(tape.sig))])
        )
        if len(window) < size or (window != KERNEL).any() or inner_list:
            continue
        read = set(tape.args[tape.arg_of[tape.slot_of[first + size]] :].tolist()) | set(tape.roots.tolist())
        base, end = int(tape.value_of[first]), int(tape.value_of[first + size])
        wanted = [v - base for v in range(base, end) if v in read]
        if wanted:
            patterns.append(pattern_at(tape, first, size, wanted, n_sigs + len(patterns)))
            windows.append((first, size))
    expansion, _ = joined(tape, patterns)
    if len(windows) == 1 and len(patterns[0].sigs) > 1:
        assert len(expansion.tape.sig) < len(tape.sig)


@pytest.mark.parametrize("fault", ["args", "number", "sig", "origin", "roots", "int_of"])
def test_a_sabotaged_tape_fails(fault: str, draw: Draw) -> None:
    tape = draw("x = leaf # 1 0.5\ny = leaf # 2 0.5\na = f x\nb = g a x\nc = f y\nd = g c y", "b d")
    n_sigs = len(tape.signatures.kind)
    patterns = [pattern_at(tape, 2, 2, [1], n_sigs)]
    expansion, _ = joined(tape, patterns)
    assert expansion.tape.sig.tolist() == [0, 0, n_sigs, n_sigs]
    owner: Any = expansion if fault in ("number", "origin") else expansion.tape
    array = getattr(owner, fault).copy()
    array[-1 if fault != "number" else 3] -= 1
    wrong = dataclasses.replace(owner, **{fault: array})
    if owner is expansion.tape:
        wrong = dataclasses.replace(expansion, tape=wrong)
    with pytest.raises(CompilerBug):
        check_join(tape, patterns, wrong)


def test_a_wrong_value_inside_is_found(draw: Draw) -> None:
    tape = draw(program(2), "b0 b1")
    n_sigs = len(tape.signatures.kind)
    right = pattern_at(tape, 0, 3, [2], n_sigs)
    expansion, _ = joined(tape, [right])
    wrong = dataclasses.replace(right, slots=(0, 0, 0))
    assert right.slots == (0, 1, 0)
    with pytest.raises(CompilerBug, match="handed another value"):
        check_join(tape, [wrong], expansion)
    assert joined(tape, [wrong])[0].tape is tape  # and such a pattern matches nowhere
