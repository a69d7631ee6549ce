"""Schedules of small drawn tapes: counts, orders, the bound, and checks that fail when they must."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from textwrap import indent
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autobatch.backends.host.arena import Lease
from autobatch.errors import CompilerBug
from autobatch.schedule.check import check_schedule
from autobatch.schedule.policies import chains, frontier, ready
from autobatch.schedule.schedule import _waits, lower_bound, schedule
from autobatch.schedule.structures import Tape
from tests.tapes import chain

pytestmark = pytest.mark.usefixtures("on_the_host")


Draw = Callable[[str, str], Tape]


@pytest.fixture(scope="module", params=["chains counted", "too many signatures"])
def ways(request: pytest.FixtureRequest) -> Iterator[None]:
    """With chains counted, and as for a tape of so many signatures that they are not."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "too many signatures":
            for module in (frontier, ready):
                patch.setattr(module, "MOST_SIGNATURES", 1)
        yield


both_ways = pytest.mark.usefixtures("ways")

EXAMPLE = """
a = leaf
b = leaf
c = cell a b
d = leaf
e = cell c d
y = out a
z = out e
"""


def launches(tape: Tape) -> list[list[int]]:
    result = schedule(tape)
    check_schedule(tape, result)
    return [part.tolist() for part in np.split(result.nodes, result.launch_of[1:-1])] if result.nodes.size else []


def tree(depth: int, prefix: str = "t") -> str:
    lines = [f"{prefix}{depth}_{i} = leaf" for i in range(2**depth)]
    for level in reversed(range(depth)):
        lines += [
            f"{prefix}{level}_{i} = cell {prefix}{level + 1}_{2 * i} {prefix}{level + 1}_{2 * i + 1}"
            for i in range(2**level)
        ]
    return "\n".join(lines)


@settings(deadline=None)  # the first example compiles
@given(data=st.data())
@both_ways
def test_random_tapes(data: st.DataObject, tapes: st.SearchStrategy[Tape]) -> None:
    tape = data.draw(tapes)
    result = schedule(tape)
    check_schedule(tape, result)
    assert len(result.launch_sig) >= lower_bound(tape, result)
    again = schedule(tape)
    assert np.array_equal(result.nodes, again.nodes) and np.array_equal(result.launch_of, again.launch_of)


def test_the_printed_example(draw: Draw) -> None:
    result = schedule(draw(EXAMPLE, "y z"))
    assert indent(str(result), "    ") in (import_module("autobatch.schedule.schedule").__doc__ or "")


@both_ways
def test_nodes_of_unequal_depth_share_a_launch(draw: Draw) -> None:
    tape = draw(EXAMPLE, "y z")
    assert launches(tape) == [[0, 1, 3], [2], [4], [5, 6]]
    assert lower_bound(tape, schedule(tape)) == 4


@pytest.mark.parametrize("depth", [0, 1, 5])
@both_ways
def test_trees_of_one_signature_need_a_launch_for_each_level(depth: int, draw: Draw) -> None:
    tape = draw(tree(depth) + "\n" + tree(depth, "u"), "t0_0 u0_0")
    assert [len(nodes) for nodes in launches(tape)] == [2 * 2**level for level in reversed(range(depth + 1))]
    assert lower_bound(tape, schedule(tape)) == depth + 1


@both_ways
def test_trees_of_unequal_depth(draw: Draw) -> None:
    tape = draw(tree(4) + "\n" + tree(2, "u") + "\ny = out t0_0\nz = out u0_0", "y z")
    assert len(launches(tape)) == 6


@both_ways
def test_equal_means_go_by_the_lower_signature(draw: Draw) -> None:
    tape = draw("a = one\nb = two\nc = one\nd = two", "a b c d")
    assert launches(tape) == [[0, 2], [1, 3]]


@both_ways
def test_views_and_payloads_do_not_launch(draw: Draw) -> None:
    tape = draw("p*2 = payload\na = leaf\nj = join [p a]\ns = take j # 1 1 2\nt = take s # 0 1 1\ny = out t", "y")
    assert launches(tape) == [[1], [5]]
    assert schedule(tape).depth.tolist() == [0, 1, 1, 1, 1, 2]


@both_ways
def test_dead_nodes_do_not_run(draw: Draw) -> None:
    tape = draw("a = leaf\nb = leaf\nc = cell a b\nd = out a", "d")
    assert launches(tape) == [[0], [3]]
    assert schedule(tape).live.tolist() == [1, 0, 0, 1]


@both_ways
def test_nothing_to_run(draw: Draw) -> None:
    tape = draw("p = payload\na = leaf", "p")
    assert launches(tape) == []
    assert lower_bound(tape, schedule(tape)) == 0


def test_lower_bound_counts_chains_through_other_signatures(draw: Draw) -> None:
    tape = draw("a = f\nb = g a\nl = join [b]\nc = f2 l\nd = g c\ne = g a", "d e")
    assert lower_bound(tape, schedule(tape)) == 4


@both_ways
def test_a_long_chain_is_fast(draw: Draw) -> None:
    schedule(chain(10))
    tape = chain(100_000)
    started = time.perf_counter()
    result = schedule(tape)
    seconds = time.perf_counter() - started
    assert len(result.launch_sig) == 100_000 == lower_bound(tape, result)
    assert seconds < 0.5


SABOTAGE: dict[str, Callable[[dict[str, Any]], None]] = {
    "two launches swapped": lambda s: s.update(nodes=s["nodes"][[0, 1, 2, 4, 3, 5, 6]]),
    "reader in the launch of what it reads": lambda s: s.update(
        launch_of=np.delete(s["launch_of"], 2), launch_sig=np.delete(s["launch_sig"], 2)
    ),
    "node missing": lambda s: s.update(nodes=s["nodes"][:-1], launch_of=np.minimum(s["launch_of"], 6)),
    "node twice": lambda s: s.update(nodes=s["nodes"][[0, 0, 1, 2, 3, 4, 5]]),
    "not in tape order": lambda s: s.update(nodes=s["nodes"][[1, 0, 2, 3, 4, 5, 6]]),
    "other signature": lambda s: s.update(launch_sig=s["launch_sig"][::-1]),
    "empty launch": lambda s: s.update(launch_of=np.array([0, 3, 4, 4, 7], np.int32)),
    "alive but dead": lambda s: s.update(live=s["live"] * 0),
    "depth": lambda s: s.update(depth=s["depth"] + 1),
    "bounds": lambda s: s.update(launch_of=s["launch_of"] + 1),
}


@pytest.mark.parametrize("fault", SABOTAGE)
def test_a_sabotaged_schedule_fails(fault: str, draw: Draw) -> None:
    tape = draw(EXAMPLE, "y z")
    right = schedule(tape)
    check_schedule(tape, right)
    fields = {name: getattr(right, name) for name in right.__dataclass_fields__}
    SABOTAGE[fault](fields)
    with pytest.raises(CompilerBug, match=r"^schedule: "):
        check_schedule(tape, type(right)(**fields))


def test_a_dead_node_that_runs_fails(draw: Draw) -> None:
    tape = draw(EXAMPLE, "y z")
    result = schedule(tape)
    with pytest.raises(CompilerBug, match="node 1 is live"):
        check_schedule(replace(tape, roots=tape.roots[:1]), result)


@pytest.mark.parametrize(
    "change",
    [
        {"args": np.array([0, 1, 2, 3, 0, 6], np.int32)},
        {"roots": np.array([7], np.int32)},
        {"sig": np.array([0, 0, 1, 0, 1, 2, 1], np.int32)},
        {"value_of": np.array([0, 1, 2, 3, 4, 5, 7, 7], np.int32)},
    ],
)
def test_a_wrong_tape_fails(change: dict[str, Any], draw: Draw) -> None:
    tape = draw(EXAMPLE, "y z")
    tape.check()
    with pytest.raises(CompilerBug, match=r"^record: "):
        replace(tape, **change).check()


@settings(deadline=None)
@given(data=st.data())
def test_classes_need_as_many_launches_as_the_bound(data: st.DataObject, tapes: st.SearchStrategy[Tape]) -> None:
    tape = data.draw(tapes)
    lease = Lease()
    found = frontier.by_classes(_waits(tape, lease))
    assert found is None or found.number == lower_bound(tape, schedule(tape))


def test_a_class_that_is_never_ready_as_a_whole(draw: Draw) -> None:
    """One example needs f before g, the other g before f: one of the signatures runs twice."""
    tape = draw("p = payload\na = f p\nb = g a\nc = g p\nd = f c", "b d")
    lease = Lease()
    assert frontier.by_classes(_waits(tape, lease)) is None
    assert launches(tape) == [[1], [2, 3], [4]]


def test_many_signatures(draw: Draw) -> None:
    n = chains.MOST_SIGNATURES + 1
    tape = draw("\n".join(f"a{i} = s{i}" for i in range(n)), " ".join(f"a{i}" for i in range(n)))
    assert launches(tape) == [[i] for i in range(n)]
    assert lower_bound(tape, schedule(tape)) == n
