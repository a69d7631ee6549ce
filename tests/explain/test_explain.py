"""`ab.explain`: golden texts of small programs, and the rules that the texts follow.

`pytest tests/explain/test_explain.py --update-golden` writes the texts; review them as a diff.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.engine.flush import run_pending
from autobatch.explain.explain import STAGES
from autobatch.explain.reasons import Reason, Reasons, batching_reasons

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(autouse=True)
def nothing_pending() -> None:
    """What earlier tests left pending belongs to no program of this file."""
    run_pending()


# Programs. Each gives what is explained.


def elementwise() -> Any:
    """Lengths differ, so that two launches do what one could."""

    def f(x: np.ndarray) -> Any:
        y = ab.tensor(x)
        return (ab.tanh(y * 2.0) + ab.exp(-y)).sum()

    return ab.map(f, [np.ones(3), np.zeros(3), np.ones(4)])


def linear() -> Any:
    layer = nn.Linear(3, 2)
    return ab.mean(ab.map(lambda x: ab.squared_error(layer(ab.tensor(x)), np.zeros(2)), np.eye(3)))


class TreeLSTM(nn.Module):
    def __init__(self) -> None:
        self.embed = nn.Embedding(5, 2)
        self.leaf = nn.Linear(2, 6)
        self.node = nn.Linear(4, 10)
        self.out = nn.Linear(2, 3)

    @ab.cell
    def word(self, index: int) -> Any:
        i, o, g = ab.split(self.leaf(self.embed[index]), 3)
        c = ab.sigmoid(i) * ab.tanh(g)
        return ab.sigmoid(o) * ab.tanh(c), c

    @ab.cell
    def compose(self, left: Any, right: Any) -> Any:
        (hl, cl), (hr, cr) = left, right
        i, fl, fr, o, g = ab.split(self.node(ab.concat([hl, hr])), 5)
        c = ab.sigmoid(fl) * cl + ab.sigmoid(fr) * cr + ab.sigmoid(i) * ab.tanh(g)
        return ab.sigmoid(o) * ab.tanh(c), c

    def encode(self, tree: Any) -> Any:
        return self.word(tree) if isinstance(tree, int) else self.compose(*map(self.encode, tree))

    def loss(self, tree: Any) -> Any:
        h, _ = self.encode(tree)
        return ab.cross_entropy(self.out(h), 1)


def tree_lstm() -> Any:
    model = TreeLSTM()
    return ab.mean(ab.map(model.loss, [((0, 1), 2), (3, (4, (0, 1))), 2]))


class ChildSum(nn.Module):
    def __init__(self) -> None:
        self.embed = nn.Embedding(4, 2)
        self.weight = ab.Parameter(np.eye(2))

    @ab.cell
    def node(self, word: int, children: list[Any]) -> Any:
        x = self.embed[word]
        return ab.tanh(x + ab.sum([h @ self.weight for h in children]) if children else x)

    def encode(self, tree: Any) -> Any:
        return self.node(tree[0], [self.encode(child) for child in tree[1:]])


def child_sum() -> Any:
    """One kernel for nodes with children, however many, and one for nodes without."""
    model = ChildSum()
    return ab.map(model.encode, [(0, (1,), (2,), (3,)), (1, (2, (3,)), (0,)), (3,)])


def embedding() -> Any:
    """Word indices are data: one signature."""
    table = nn.Embedding(7, 3)

    def bag(words: list[int]) -> Any:
        return ab.sum(list(map(table, words)))  # a comprehension has a name of its own in Python 3.11 only

    return ab.map(bag, [[0, 3], [6], [1, 1, 2]])


def softmax_axes() -> Any:
    """Equal operands, unequal axes: never together."""

    def f(x: np.ndarray) -> Any:
        y = ab.tensor(x)
        return ab.softmax(y, axis=0) + ab.softmax(y, axis=1)

    return ab.map(f, [np.ones((2, 2)), np.zeros((2, 2))])


def inner_gradient() -> Any:
    """Forces as the derivative of an energy, and a loss on them."""
    weight = ab.Parameter([1.0, 2.0])

    def energy(x: Any) -> Any:
        return (ab.tanh(x * weight)).sum()

    return ab.sum(ab.map(lambda x: (ab.grad(energy)(ab.tensor(x)) ** 2).sum(), np.eye(2)))


def mixed_precision() -> Any:
    """The same op on float32, float64 and integers."""
    return [
        ab.tensor([1.0, 2.0]) * ab.tensor([3.0, 4.0]),
        ab.tensor([1.0, 2.0], "float64") * ab.tensor([3.0, 4.0], "float64"),
        ab.tensor([1, 2]) * ab.tensor([3, 4]),
    ]


def ragged_rows() -> Any:
    """Values of 1, 2 and 3 rows: all rows of all examples at once."""
    layer = nn.Linear(2, 2)

    def f(n: int) -> Any:
        rows = ab.stack([ab.tensor(np.full(2, float(k))) for k in range(n)])
        return ab.tanh(layer(rows)).sum(axis=0)

    return ab.map(f, [1, 2, 3])


def no_grad() -> Any:
    """A constant node and a differentiated one do not share a launch."""
    weight = ab.Parameter([1.0, 2.0])
    with ab.no_grad():
        fixed = ab.tensor([1.0, 1.0]) * weight
    return (fixed + ab.tensor([2.0, 2.0]) * weight).sum()


def two_recordings() -> Any:
    """A value is forced half way: what is above and below it runs apart."""
    weight = ab.Parameter(np.eye(2))
    h = ab.tanh(ab.tensor([1.0, 2.0]) @ weight)
    bool(h.sum() > 0)
    return ab.tanh(h @ weight).sum()


PROGRAMS: dict[Callable[[], Any], tuple[str, ...]] = {
    elementwise: ("tape", "schedule", "place"),
    linear: ("schedule", "place"),
    tree_lstm: ("graph", "batch", "vjp", "split", "fuse", "schedule", "place"),
    child_sum: ("graph", "batch", "schedule", "place"),
    embedding: ("graph", "split", "schedule", "place"),
    softmax_axes: ("schedule",),
    inner_gradient: ("graph", "schedule"),
    mixed_precision: ("schedule", "place"),
    ragged_rows: ("graph", "batch", "schedule", "place"),
    no_grad: ("schedule", "split"),
    two_recordings: ("expand", "schedule"),
}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_text_is_the_golden_one(program: Callable[[], Any], update_golden: bool) -> None:
    x = program()
    parts = [f"=== {stage} ===\n{ab.explain(x, stage=stage)}\n" for stage in PROGRAMS[program]]
    text = re.sub(r"(\w+\.py):\d+", r"\1", "\n".join(parts))
    path = GOLDEN / f"{program.__name__}.txt"
    if update_golden:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), "no golden text yet; repair: pytest --update-golden"
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_every_stage_has_a_text_and_runs_nothing(stage: str, backend: str) -> None:
    with ab.backend(backend), ab.profile() as profile:
        loss = tree_lstm()
        text = ab.explain([loss, loss.detach(), loss], stage=stage)
        assert text
        assert profile.launches == 0
        before = ab.explain(loss)
        loss.backward()
    assert profile.launches == int(before.split()[0])


def test_pending_executed_and_ended_recordings_have_one_schedule() -> None:
    loss = tree_lstm()
    pending = ab.explain(loss)
    loss.backward(retain=True)
    executed = ab.explain(loss)
    plan = ab.explain(loss, "place")
    loss.backward()
    ended = ab.explain(loss)
    assert pending.replace("pending", "") == executed.replace("executed", "") == ended.replace("ended", "")
    assert ab.explain(loss, "place") == plan


def test_explaining_changes_no_result() -> None:
    def run(explained: bool) -> tuple[float, np.ndarray]:
        ab.seed(3)
        model = TreeLSTM()
        loss = ab.mean(ab.map(model.loss, [((0, 1), 2), 4]))
        for stage in STAGES if explained else ():
            ab.explain(loss, stage=stage)
        loss.backward()
        return float(loss), np.asarray(model.node.weight.grad)

    (loss, gradient), (again, other) = run(False), run(True)
    assert loss == again
    assert (gradient == other).all()


def test_launches_are_the_ops_and_the_reasons() -> None:
    for program in PROGRAMS:
        reasons = batching_reasons(program())
        assert reasons.launches == reasons.ops + sum(r.launches for r in reasons.reasons), program
        assert reasons.bound <= reasons.launches
        counts = [r.launches for r in reasons.reasons]
        assert counts == sorted(counts, reverse=True)
        assert all(n > 0 for n in counts)


def test_most_frequent_reason() -> None:
    assert batching_reasons(tree_lstm()).most_frequent() == "compose: a node depends on another (2 launches)"
    assert Reasons(1, 1, 1, 1).most_frequent() == "none, every op has one launch"
    assert str(Reason("sum", "axes differs", 1, "(-1,) / (-2,)")) == "sum: axes differs, (-1,) / (-2,)"


def test_an_order_that_costs_launches_says_so() -> None:
    """A node that is ready early runs without those that become ready later."""
    x = ab.tensor([1.0, 2.0])
    chain = ab.tensor([1.0, 1.0])
    for _ in range(4):
        chain = ab.exp(chain)
    y = [ab.tanh(x), ab.tanh(chain), ab.exp(ab.tanh(ab.tensor([3.0, 3.0])))]
    reasons = batching_reasons(y)
    assert reasons.launches == reasons.bound + sum(r.launches for r in reasons.reasons if "ready" in r.why)
    assert reasons.launches > reasons.bound
    assert "was not ready; it reads a result of launch" in ab.explain([y[0], y[1]], stage="reasons")


def test_only_what_leads_to_the_loss_is_explained() -> None:
    """Other work of the recording, pending or executed, is not counted."""
    w = ab.Parameter([1.0, 2.0])

    def program(beside: bool) -> tuple[Any, Any]:
        h = ab.tanh(ab.tensor([1.0, 2.0]) * w)
        return h.sum(), [ab.exp(h), ab.exp(ab.exp(h)), ab.tanh(ab.tensor([5.0, 6.0]))] if beside else None

    def explained(loss: Any) -> list[str]:
        return re.sub(r"\d+ of \d+ recorded nodes", "", ab.explain(loss)).splitlines()

    alone, _ = program(False)
    loss, others = program(True)
    lonely = explained(alone)
    assert lonely[0].startswith("3 launches of 3 nodes")
    assert explained(loss) == lonely
    assert ab.explain([loss, others]).startswith("5 launches of 7 nodes")
    pools = ab.explain(alone, "place")
    ab.evaluate(others)
    assert explained(loss) == [line.replace("pending", "executed") for line in lonely]
    assert ab.explain(loss, "place") == pools
    assert batching_reasons(loss).launches == 3
    loss.backward()
    assert explained(loss)[1:] == lonely[1:]


def test_only_earlier_recordings_that_lead_to_the_loss_are_explained() -> None:
    w = ab.Parameter([1.0, 2.0])
    a, b = ab.tensor([1.0, 2.0]) * w, ab.exp(ab.tensor([1.0, 2.0]) * w)
    float(b.sum())
    ab.evaluate(a)
    loss, other = a.sum(), b.sum()
    text = ab.explain(loss)
    assert "recording 1 of 2" in text
    assert "exp(" not in text
    assert "  1 value of earlier recordings" in text
    assert "exp(" in ab.explain(other)
    assert "  2 values of earlier recordings" in ab.explain([loss, other])


def test_chains_through_other_signatures_are_counted_as_chains() -> None:
    """Two alternating signatures of one op: each node depends on the one before, and no count is negative."""

    @ab.cell(static=("k",))
    def scaled(x: Any, k: float) -> Any:
        return x * k

    x = ab.tensor([1.0])
    for k in (2.0, 3.0) * 3:
        x = scaled(x, k)
    reasons = batching_reasons(x)
    assert [(r.why, r.launches) for r in reasons.reasons] == [("a node depends on another", 5)]
    y = ab.tanh(ab.exp(ab.tanh(ab.exp(ab.tensor([1.0])))))
    assert {(r.op, r.why, r.launches) for r in batching_reasons(y).reasons} == {
        ("tanh", "a node depends on another", 1),
        ("exp", "a node depends on another", 1),
    }


# Why two nodes did or did not share a launch.


def why(a: Any, b: Any) -> list[str]:
    lines = ab.explain([a, b], stage="reasons").splitlines()
    assert len(lines) > 2
    return lines[2:]


def test_together() -> None:
    a, b = ab.map(lambda x: ab.tensor(x) * 2.0, [1.0, 3.0])
    assert why(a, b) == ["one launch: number 0, of 2 nodes"]


def test_different_ops() -> None:
    x = ab.tensor(1.0)
    assert why(ab.exp(x), ab.tanh(x)) == ["not one launch: different ops, exp / tanh"]


def test_attribute_differs() -> None:
    x = ab.tensor(np.ones((2, 2)))
    assert why(ab.softmax(x, 0), ab.softmax(x, 1)) == ["not one launch: axis differs, -2 / -1"]


def test_operand_type_differs() -> None:
    a, b = ab.tensor([1.0]), ab.tensor([1.0, 2.0])
    assert why(a + a, b + b) == ["not one launch: operands 1 and 2 differ, f32[1] / f32[2]"]
    assert why(a + a, a + 1.0) == ["not one launch: operand 2 differs, f32[1] / number"]


def test_shared_operand_differs() -> None:
    x, v, w = ab.tensor([1.0]), ab.Parameter([1.0]), ab.Parameter([1.0])
    assert why(x * v, x * w) == ["not one launch: shared operand differs, two parameters f32[1]"]
    c = ab.constant([1.0])
    assert why(x + c, x + ab.constant([1.0])) == ["not one launch: shared operand differs, two constants f32[1]"]


def test_constant_differs_from_differentiated() -> None:
    x, w = ab.tensor([1.0]), ab.Parameter([1.0])
    with ab.no_grad():
        a = x * w
    assert why(a, x * w) == ["not one launch: one is constant (no_grad)"]


def test_what_does_not_lead_to_the_loss_runs_apart() -> None:
    x, w = ab.tensor([1.0]), ab.Parameter([1.0])
    a, b = x * w, x * w
    loss = a.sum()
    loss.backward()
    assert why(a, b) == ["not one launch: one does not lead to what is differentiated"]


def test_one_depends_on_the_other() -> None:
    a = ab.tanh(ab.tensor([1.0]))
    b = ab.tanh(a * 2.0)
    assert why(a, b) == ["not one launch: the second depends on the first"]
    assert why(b, a) == ["not one launch: the first depends on the second"]


def test_forced_separately() -> None:
    a = ab.tanh(ab.tensor([1.0]))
    a.numpy()
    b = ab.tanh(ab.tensor([1.0]))
    assert why(a, b) == ["not one launch: forced separately, in different recordings"]


def test_views_and_arrays_do_not_run() -> None:
    x = ab.tensor([1.0])
    rows = ab.stack([ab.tanh(x), ab.exp(x)])
    assert why(x, ab.tanh(x))[0].endswith("is a host input, nothing is run for it")
    assert why(rows, x)[0].endswith("is a view, nothing is run for it")
    matrix = ab.tanh(ab.tensor(np.ones((3, 2))))
    assert why(matrix[0], matrix[1:]) == ["one node: both are results of it, or views of them"]


def test_traced_code_differs() -> None:
    @ab.cell(static=("k",))
    def scaled(x: Any, k: float) -> Any:
        return x * k

    x = ab.tensor([1.0])
    assert why(scaled(x, 2.0), scaled(x, 3.0)) == [
        "not one launch: traced code differs, const(2.0) f32[] / const(3.0) f32[]"
    ]


def test_one_by_one_is_said() -> None:
    a, b = ab.map(lambda x: ab.tanh(ab.tensor(x)), [1.0, 2.0], batched=False)
    assert "one by one (batched=False)" in ab.explain(a)
    assert why(a, b) == ["not one launch: forced separately, in different recordings"]


# Cells, shared values, and what cannot be explained.


def test_cell_function_is_explained_once_traced() -> None:
    @ab.cell
    def step(x: Any) -> Any:
        return ab.tanh(x) * 2.0

    with pytest.raises(ab.errors.CellError, match="has not been traced"):
        ab.explain(step, stage="graph")
    step(ab.zeros(2))
    assert "tanh(%0)" in ab.explain(step, stage="graph")
    assert "f32[m, 2]" in ab.explain(step, stage="batch")
    assert "def loop" in ab.explain(step, stage="lower")
    with pytest.raises(ab.errors.CellError, match="has no stage 'schedule'"):
        ab.explain(step)


def test_method_is_explained_for_its_own_module() -> None:
    one, two = ChildSum(), ChildSum()
    one.node(0, [])
    assert ab.explain(one.node, stage="graph").startswith("node(integer, shared f32[4, 2])")
    with pytest.raises(ab.errors.CellError, match="has not been traced"):
        ab.explain(two.node, stage="graph")
    # The class has the traces of other modules, too, that are not collected yet.
    assert ab.explain(one.node, stage="graph") in ab.explain(ChildSum.node, stage="graph")


def test_shared_value_is_in_no_launch() -> None:
    weight = ab.Parameter(np.eye(2))
    assert "computed once for all examples, in no launch" in ab.explain(weight @ weight)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="there is no such stage"):
        ab.explain(ab.tensor(1.0), stage="assembler")
    with pytest.raises(ab.errors.OpTypeError, match="there is no tensor"):
        ab.explain(3)


def test_many_launches_are_cut_short() -> None:
    x = ab.tensor([1.0])
    for _ in range(100):
        x = ab.tanh(x)
    text = ab.explain(x)
    assert "… and 60 more" in text
    assert "99  tanh: a node depends on another" in text


def test_an_op_with_a_launch_for_each_length_says_what_to_use_instead() -> None:
    def fn(n: int) -> Any:
        x = ab.tensor(np.ones((n, 40)))
        return (x.T @ x).sum()

    text = ab.explain(ab.map(fn, range(2, 8)))
    assert "matmul: operands 1 and 2 differ" in text and "these share launches: x @ w, a @ x" in text
