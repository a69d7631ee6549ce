"""Plans of small drawn tapes: rows, blocks, views, reuse, and checks that fail when they must."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from textwrap import indent
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autobatch.errors import CompilerBug
from autobatch.schedule.check import check_plan
from autobatch.schedule.place import place
from autobatch.schedule.schedule import schedule
from autobatch.schedule.structures import Plan, Schedule, Tape
from tests.tapes import chain

pytestmark = pytest.mark.usefixtures("on_the_host")


Draw = Callable[[str, str], Tape]


def placed(tape: Tape, keep: Any = True) -> tuple[Schedule, Plan]:
    order = schedule(tape)
    plan = place(tape, order, keep)
    check_plan(tape, order, plan, keep)
    return order, plan


def reads(plan: Plan, launch: int, slot: int = 0) -> tuple[list[int], int]:
    access = plan.access_of[launch] + slot
    return plan.rows[plan.rows_of[access] : plan.rows_of[access + 1]].tolist(), int(plan.block[access])


@settings(deadline=None)  # the first example compiles
@given(data=st.data())
def test_random_tapes(data: st.DataObject, tapes: st.SearchStrategy[Tape]) -> None:
    tape = data.draw(tapes)
    order = schedule(tape)
    n_values = int(tape.value_of[-1])
    some = np.array(data.draw(st.lists(st.booleans(), min_size=n_values, max_size=n_values)), np.bool_)
    most = place(tape, order).pool_rows
    for keep in (True, False, some):
        plan = place(tape, order, keep)
        check_plan(tape, order, plan, keep)
        assert (plan.pool_rows <= most).all()
        for value in np.flatnonzero(plan.start < -1):
            listed = plan.scattered[-plan.start[value] - 2 :][: plan.count[value]]
            assert (np.diff(listed) != 1).any()


def test_the_printed_example(draw: Draw) -> None:
    text = "a = leaf\nb = leaf\nc = cell a b\nd = leaf\ne = cell c d\ny = out a\nz = out e"
    _, plan = placed(draw(text, "y z"))
    assert indent(str(plan), "    ") in (import_module("autobatch.schedule.place").__doc__ or "")


def test_payloads_then_blocks(draw: Draw) -> None:
    tape = draw("a = leaf\np*2 = payload\nb = leaf\nq = payload\nc = cell a p\nd = cell b p", "c d q")
    _, plan = placed(tape)
    assert plan.start.tolist() == [3, 0, 4, 2, 5, 6]
    assert plan.write_start.tolist() == [3, 5] and plan.write_rows.tolist() == [2, 2]
    assert reads(plan, 1, 0) == ([3, 4], 3)
    assert reads(plan, 1, 1) == ([0, 1, 0, 1], -1)
    assert plan.peak_bytes == 7 * 4 * 4


def test_each_result_is_a_block_in_its_pool(draw: Draw) -> None:
    tape = draw("a, b@1 = leaf\nc, d@1 = leaf\ne*2, f = cell a\ng*2, h = cell c", "e f g h")
    _, plan = placed(tape)
    assert plan.start.tolist() == [0, 0, 1, 1, 2, 6, 4, 7]
    assert plan.pool_rows.tolist() == [8, 2] and plan.peak_bytes == 8 * 4 * 4 + 2 * 8


def test_views(draw: Draw) -> None:
    tape = draw(
        """
        p*4 = payload
        whole = join [p]
        halves = take p # 0 1 2
        back = take p # 3 -1 4
        again = take back # 3 -1 3
        mixed = join [p back]
        part = take mixed # 3 1 3
        one = take mixed # 5 1 1
        listed = take mixed # 0 0 3 7 7 0
        range = take back # 0 0 3 3 2 1
        none = take mixed # 5 1 0
        both = join [none halves one]
        alias = join [mixed]
        """,
        "whole again part one listed range none both alias",
    )
    _, plan = placed(tape)
    assert plan.start.tolist() == [0, 0, 0, -2, 0, -6, -14, 2, -17, 0, 0, 0, -6]
    assert plan.scattered.tolist() == [3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0, 3, 3, 2, 0, 0, 0]


def test_lists_and_elements(draw: Draw) -> None:
    tape = draw(
        """
        a = leaf
        b = leaf
        c = leaf
        l = join [c a]
        e = join []
        x = sum [a b c]
        y = sum [a]
        u*2^1 = each a l:
        v*2^1 = each b e:
        t~0 = tanh u
        """,
        "x y u v t",
    )
    order, plan = placed(tape)
    starts = {tuple(order.nodes[order.launch_of[l] : order.launch_of[l + 1]].tolist()): l for l in range(4)}
    sums, each = starts[5, 6], starts[7, 8]
    assert reads(plan, sums) == ([0, 1, 2, 0], -1)
    assert plan.offsets[plan.offsets_of[plan.access_of[sums]] :][:3].tolist() == [0, 3, 4]
    assert reads(plan, each, 0) == ([0, 1], 0) and reads(plan, each, 1) == ([2, 0], -1)
    assert plan.offsets[plan.offsets_of[plan.access_of[each] + 1] :][:3].tolist() == [0, 2, 2]
    assert plan.count[-3:].tolist() == [4, 0, 4]


def test_data_go_column_by_column(draw: Draw) -> None:
    tape = draw("a = leaf # 1 2 0.5\nb = other # 9\nc = leaf # 3 4 1.5", "a b c")
    _, plan = placed(tape)
    assert plan.ints.tolist() == [1, 3, 2, 4, 9] and plan.int_of.tolist() == [0, 4, 5]
    assert plan.floats.tolist() == [0.5, 1.5] and plan.float_of.tolist() == [0, 2, 2]


def test_a_chain_needs_two_rows_when_nothing_is_kept(draw: Draw) -> None:
    lines = ["v0 = leaf", *(f"v{i} = cell v{i - 1}" for i in range(1, 20))]
    tape = draw("\n".join(lines), "v19")
    assert placed(tape)[1].pool_rows[0] == 20
    assert placed(tape, keep=False)[1].pool_rows[0] == 2


def test_views_prolong_life(draw: Draw) -> None:
    tape = draw("a = leaf\nj = join [a a]\nb = f a\nc = g b\nd = h c\ny = out d j", "y")
    _, plan = placed(tape, keep=False)
    assert plan.start[2:5].tolist() == [1, 2, 1]


def test_neighbouring_free_ranges_become_one(draw: Draw) -> None:
    payloads = "p = payload\nq = payload\nr = payload\ns = payload\n"
    _, plan = placed(draw(payloads + "a*0 = f p\nb*0 = g r a\nc*0 = h q b\nd*3 = k c", "s d"), keep=False)
    assert plan.start.tolist()[:4] == [0, 1, 2, 3] and plan.start[-1] == 0 and plan.pool_rows[0] == 4


def test_a_free_end_of_the_pool_is_given_back(draw: Draw) -> None:
    _, plan = placed(draw("a = f\nb*3 = g a\nc*4 = h b\nd*5 = k c\ne*4 = m d\nf*9 = n e", "f"), keep=False)
    assert plan.start.tolist() == [0, 1, 4, 8, 4, 8] and plan.pool_rows[0] == 17


def test_kept_values_stay(draw: Draw) -> None:
    tape = draw("a = leaf\nb = f a\nc = g b\nd = h c\ne = k d", "e")
    keep = np.array([True, False, True, False, False])
    _, plan = placed(tape, keep)
    assert plan.start[0] != plan.start[2] and not np.isin(plan.start[3:], plan.start[[0, 2]]).any()


def test_a_long_chain_is_fast() -> None:
    n = 100_000
    long = chain(n)
    for keep, rows in ((True, n), (False, 2)):
        placed(chain(2), keep)
        order = schedule(long)
        started = time.perf_counter()
        plan = place(long, order, keep)
        assert time.perf_counter() - started < 0.5
        assert plan.pool_rows[0] == rows


SABOTAGED = """
p*2 = payload
a, m@1 = leaf # 1 0.5
b, n@1 = leaf # 2 0.25
l = join [b p a]
x = sum [a b a]
y = sum [b]
u*2^0 = each l: m
s = take l # 2 1 2
v*2^0 = each s: n
t~0 = tanh u
"""


def arrays(plan: Plan) -> list[str]:
    return [name for name in plan.__dataclass_fields__ if isinstance(getattr(plan, name), np.ndarray)]


def test_every_sabotaged_number_fails(draw: Draw) -> None:
    tape = draw(SABOTAGED, "x y v t")
    order, plan = placed(tape)
    for name in arrays(plan):
        right = getattr(plan, name)
        assert right.size
        for at in range(right.size):
            for by in (-1, 1):
                wrong = right.copy()
                wrong[at] += by
                if name == "offsets_of" and right[at] < 0 and by < 0:
                    continue  # any negative number would do
                with pytest.raises(CompilerBug, match=r"^place: "):
                    check_plan(tape, order, replace(plan, **{name: wrong}))
                    pytest.fail(f"{name}[{at}] = {wrong[at]} passes")


def test_reuse_where_all_is_kept_fails(draw: Draw) -> None:
    tape = draw("a = leaf\nb = f a\nc = g b", "c")
    order, plan = placed(tape, keep=False)
    with pytest.raises(CompilerBug, match="do not hold it in the end"):
        check_plan(tape, order, plan)


def test_writing_what_is_read_fails(draw: Draw) -> None:
    tape = draw("a = leaf\nb = f a", "b")
    order, plan = placed(tape, keep=False)
    same = replace(plan, start=plan.start * 0, write_start=plan.write_start * 0)
    with pytest.raises(CompilerBug, match="writes rows that it reads"):
        check_plan(tape, order, same, keep=False)


def test_another_order_fails(draw: Draw) -> None:
    tape = draw("a = leaf\nb = f a\nc = g a\nd = h b c", "d")
    order, plan = placed(tape)
    swapped = replace(order, nodes=order.nodes[[0, 2, 1, 3]], launch_sig=order.launch_sig[[0, 2, 1, 3]])
    with pytest.raises(CompilerBug):
        check_plan(tape, swapped, plan)
