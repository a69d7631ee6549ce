"""Cells found by themselves: un-annotated code runs in the launches of annotated code, with the values of the loop."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.errors import NonFiniteError, OpIndexError
from autobatch.expand import expand as expansion
from autobatch.expand import find as recurring
from autobatch.expand import patterns
from autobatch.explain.reasons import batching_reasons, why_not_together
from autobatch.record.signature import Signature
from autobatch.schedule.structures import Expansion
from tests.found_cells import forget
from tests.nested import leaves

D, WORDS = 4, 7
Tree = Any


@pytest.fixture(autouse=True)
def from_the_beginning(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """NumPy in float64; nothing is known of ops on values alone, which have one signature in all tests."""
    monkeypatch.setattr(patterns, "effort", patterns._Effort())
    monkeypatch.setattr(patterns, "MIN_NODES", 300)
    ab.set_backend("numpy")
    ab.set_default_dtype("float64")
    forget()
    yield
    forget()


class Model(nn.Module):
    """Trees of words: a leaf is a word, an inner node a pair."""

    def __init__(self) -> None:
        rng = np.random.default_rng(2)
        self.table = ab.Parameter(rng.normal(size=(WORDS, D)))
        self.leaf = nn.Linear(D, 2 * D)
        self.pair = nn.Linear(2 * D, 3 * D)
        self.out = nn.Linear(D, 3)
        for p in self.parameters():
            p.value = rng.normal(size=p.shape) * 0.6

    def word(self, index: int) -> Any:
        a, b = ab.split(self.leaf(self.table[index]), 2)
        return ab.sigmoid(a) * ab.tanh(b)

    def compose(self, left: Any, right: Any) -> Any:
        a, b, c = ab.split(self.pair(ab.concat([left, right])), 3)
        return ab.tanh(ab.sigmoid(a) * left + ab.sigmoid(b) * right + c)

    def encode(self, tree: Tree) -> Any:
        if isinstance(tree, int):
            return self.word(tree)
        return self.compose(self.encode(tree[0]), self.encode(tree[1]))

    def judge(self, h: Any, label: int) -> Any:
        return ab.cross_entropy(self.out(h), label)

    def loss(self, tree: Tree) -> Any:
        return self.judge(self.encode(tree), 1)


class CellModel(Model):
    word = ab.cell(Model.word)
    compose = ab.cell(Model.compose)
    judge = ab.cell(Model.judge)


def trees(n: int = 16, seed: int = 0) -> list[Tree]:
    rng = np.random.default_rng(seed)

    def grow(leaves: int) -> Tree:
        if leaves == 1:
            return int(rng.integers(WORDS))
        k = int(rng.integers(1, leaves))
        return (grow(k), grow(leaves - k))

    return [grow(int(rng.integers(1, 9))) for _ in range(n)]


def gradients(model: Model, fn: Any, examples: list[Any], batched: bool = True) -> tuple[Any, dict[str, Any], Any]:
    """Values of a function that returns a loss first, gradients, profile."""
    ab.seed(3)
    for p in model.parameters():
        p.grad = None
    with ab.profile() as prof:
        results = ab.map(fn, examples, batched=batched)
        losses = [r[0] if isinstance(r, tuple) else r for r in results]
        ab.sum(losses).backward()
    found = {}
    for name, p in model.named_parameters():
        g: Any = p.grad
        found[name] = np.zeros(p.shape) if g is None else g.to_dense() if hasattr(g, "to_dense") else g
    return ab.evaluate(results), found, prof


def check(model: Model, fn: Any, examples: list[Any]) -> Any:
    """Batched equals the loop; the profile of the batched run."""
    values, found, prof = gradients(model, fn, examples)
    expected, wanted, _ = gradients(model, fn, examples, batched=False)
    for a, b in zip(leaves(values), leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)
    for name, g in wanted.items():
        np.testing.assert_allclose(found[name], g, rtol=1e-9, atol=1e-11, err_msg=name)
    return prof


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_un_annotated_code_runs_in_the_launches_of_cells(backend: str) -> None:
    ab.set_backend(backend)
    model, cells = Model(), CellModel()
    for seed in (0, 1):
        prof = check(model, model.loss, trees(seed=seed))
        wanted = check(cells, cells.loss, trees(seed=seed))
        assert prof.launches == wanted.launches
        assert {name: nodes for name, (_, nodes) in prof.kernels.items()} == {
            name: nodes for name, (_, nodes) in wanted.kernels.items()
        }


def test_no_more_launches_than_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def launches() -> int:
        forget()
        model = Model()
        return gradients(model, model.loss, trees())[2].launches

    found = launches()
    monkeypatch.setattr(recurring, "NEARLY_ALWAYS", 0.1)
    monkeypatch.setattr(recurring._Search, "_pays", lambda *_: True)
    forced = launches()
    monkeypatch.setattr(expansion, "join_recording", lambda tape, signatures, *_: (Expansion(tape), signatures))
    assert max(found, forced) < launches()


class Recurrent(nn.Module):
    """Each step reads a wide projection of its input that does not depend on the step before."""

    def __init__(self) -> None:
        rng = np.random.default_rng(2)
        self.project = ab.Parameter(rng.normal(size=(400, 400)) * 0.05)
        self.scale = ab.Parameter(rng.normal(size=400))

    def loss(self, xs: Any) -> Any:
        h = ab.zeros(400)
        for x in ab.tensor(xs):
            h = ab.tanh(self.project @ x + self.scale * h)
        return ab.sum(h)


@pytest.mark.parametrize("guard", ["search", "measure", "none"])
def test_weights_are_not_read_in_every_step(guard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one guard lets pass the other finds; without either, the projection becomes part of the step."""
    if guard != "search":
        monkeypatch.setattr(recurring._Search, "_pays", lambda *_: True)
    if guard == "none":
        monkeypatch.setattr(patterns, "_useful", lambda tape, signatures, found: list(found))
    monkeypatch.setattr(expansion, "WEIGHT", 0.0)  # and it is not cut off again
    model = Recurrent()
    examples = [np.ones((30, 400)) * k for k in (0.1, 0.2, 0.3)]
    gradients(model, model.loss, examples)
    loss = ab.sum(ab.map(model.loss, examples))
    float(loss)
    run = loss._tape.run  # type: ignore[attr-defined]
    reading = [n for n in run.schedule.launch_sig if model.project in run.signatures[n].shared]
    assert len(reading) == (30 if guard == "none" else 1)


def test_small_recordings_are_left_as_they_are() -> None:
    model = Model()
    prof = check(model, model.loss, trees(2))
    assert "sigmoid" in prof.kernels and "compose" not in prof.kernels
    check(model, model.loss, trees())
    assert "compose" in check(model, model.loss, trees(2)).kernels  # but what was found is used


def test_patterns_are_searched_for_once() -> None:
    model = Model()
    for seed in range(4):
        check(model, model.loss, trees(seed=seed))
    searched = patterns.effort.searched
    check(model, model.loss, trees(seed=4))
    assert 0 < searched == patterns.effort.searched < patterns.effort.recorded


def test_many_signatures_of_few_nodes_are_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nothing comes of it; again where there are more than twice as many nodes."""
    searched: list[int] = []
    monkeypatch.setattr(patterns, "recurring", lambda tape, *_: searched.append(tape.sig.size) or [])
    weights = [ab.Parameter(np.full(D, 0.1 * k)) for k in range(20)]

    def fn(x: Any) -> Any:
        for w in weights:
            x = ab.tanh(x * w)
        return x.sum()

    for n in (12, 12, 11, 13, 12, 26, 26, 24):
        ab.mean(ab.map(lambda k: fn(ab.tensor(np.full(D, 0.1 * k))), range(n))).backward()
    assert len(searched) == 2


def test_effort_is_bounded() -> None:
    effort = patterns._Effort()
    assert effort.allows(patterns.FREE) and not effort.allows(patterns.FREE + 1)
    effort.recorded = 10 * patterns.EARNED
    assert effort.allows(patterns.FREE + 10) and not effort.allows(patterns.FREE + 11)


def test_other_values_kept_find_patterns_of_their_own() -> None:
    model = Model()
    check(model, model.loss, trees())

    def with_states(tree: Tree) -> Any:
        states: list[Any] = []

        def encode(tree: Tree) -> Any:
            if isinstance(tree, int):
                return model.word(tree)
            left, right = encode(tree[0]), encode(tree[1])
            a, b, c = ab.split(model.pair(ab.concat([left, right])), 3)
            states.append(a)  # inside of what was found before
            return ab.tanh(ab.sigmoid(a) * left + ab.sigmoid(b) * right + c)

        return model.judge(encode(tree), 1), states

    check(model, with_states, trees(seed=1))
    prof = check(model, with_states, trees(seed=2))
    assert "slice" not in prof.kernels
    assert "slice" not in check(model, model.loss, trees(seed=3)).kernels


def test_values_forced_inside_a_map() -> None:
    model = Model()
    check(model, model.loss, trees())

    def forced(tree: Tree) -> Any:
        h = model.encode(tree)
        scale = 2.0 if float(ab.sum(h)) > 0.1 else 0.5
        return model.judge(h * scale, 1)

    check(model, forced, trees(12, seed=5))


def test_constants_and_derivatives_inside() -> None:
    model = Model()

    def mixed(tree: Tree) -> Any:
        h = model.encode(tree)
        with ab.no_grad():
            gate = ab.sigmoid(model.encode(tree))
        slope = ab.grad(lambda x: ab.sum(ab.tanh(x) * x))(h)
        return model.judge(h * gate + slope, 0) + ab.sum(h.detach() * h)

    for seed in (0, 1):
        prof = check(model, mixed, trees(24, seed))
    assert {"word", "compose"} <= prof.kernels.keys()


def test_draws_are_those_of_the_loop() -> None:
    model = Model()

    def noisy(tree: Tree) -> Any:
        h = ab.dropout(model.encode(tree), 0.4, training=True)
        return model.judge(h * ab.sigmoid(h) + ab.normal(D) * 0.1, 2) * 0.25

    for seed in (0, 1):
        check(model, noisy, trees(24, seed))


def test_lists_are_operands_of_a_pattern() -> None:
    model = Model()

    def node(children: list[Any], scale: float) -> Any:
        total = ab.sum(children) * scale
        return ab.tanh(model.out.weight.T @ ab.tanh(model.out.weight @ total) + ab.mean(children))

    def encode(tree: Tree) -> Any:
        if isinstance(tree, int):
            return model.word(tree)
        left, right = encode(tree[0]), encode(tree[1])
        return node([left, right, model.word(1)], 0.5)

    for seed in (0, 1):
        prof = check(model, lambda tree: model.judge(encode(tree), 1), trees(seed=seed))
    assert "node" in prof.kernels and "mean of list" not in prof.kernels


def test_a_slope_that_is_not_finite_where_nothing_leads_to_the_loss() -> None:
    model = Model()

    def dead_end(tree: Tree) -> Any:
        h = model.encode(tree)
        root = ab.sqrt(h * 0.0)  # its derivative is infinite
        return model.judge(h, 1), root

    for seed in (0, 1):
        check(model, dead_end, trees(24, seed))


def test_errors_are_those_of_the_ops(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model()

    def by_value(indices: list[int]) -> Any:
        h = ab.zeros(D)
        for index in indices:
            h = ab.tanh(h + model.table[ab.tensor(index) * 1])
        return model.judge(h, 1)

    def failure(error: type[Exception], indices: list[int]) -> str:
        with pytest.raises(error) as caught:
            ab.evaluate(ab.map(by_value, [[1, 2, 3, 4], indices]))
        return str(caught.value)

    assert "by_value" in check(model, by_value, [[k % WORDS, 1, 2, 3, 4, 5] for k in range(30)]).kernels
    joined = failure(OpIndexError, [1, WORDS])
    with ab.check_finite():
        model.out.bias.value = np.full(3, np.nan)
        text = failure(NonFiniteError, [1])
        assert "add: the first value that is not finite" in text and "test_patterns.py" in text
    monkeypatch.setattr(expansion, "join_recording", lambda tape, signatures, *_: (Expansion(tape), signatures))
    model.out.bias.value = np.zeros(3)
    assert f"index {WORDS} is out of range" in joined
    assert failure(OpIndexError, [1, WORDS]).splitlines()[0] == joined.splitlines()[0]


def test_explain_shows_what_was_joined() -> None:
    model = Model()
    check(model, model.loss, trees())
    losses = ab.map(model.loss, trees(seed=1))
    text = ab.explain(losses, stage="expand")
    assert "compose(f64[4], f64[4], shared f64[12, 8], shared f64[12]) joins 13 nodes: concat matmul add" in text
    assert "recorded" in ab.explain(losses)
    assert "compose: a node depends on another" in str(batching_reasons(losses))
    assert "one launch" in why_not_together(losses[0], losses[1])
    ab.evaluate(losses)
    assert "joins 13 nodes" in ab.explain(losses, stage="expand")


def test_nothing_is_searched_where_a_length_was_first_seen_to_vary(monkeypatch: pytest.MonkeyPatch) -> None:
    model, searched = Model(), []
    search = patterns._search
    monkeypatch.setattr(patterns, "_search", lambda *arguments: (searched.append(1), search(*arguments)))

    def summed(example: tuple[int, Tree]) -> Any:
        n, tree = example
        wide = np.ones((n, 37))  # rows of a width that no other test has: what was seen to vary stays known
        return ab.sum(ab.tensor(wide) * model.out.weight[0, 0]) + model.loss(tree)

    counts = []
    for lengths in ([2], [2, 5], [3, 4]):
        check(model, summed, [(lengths[k % len(lengths)], tree) for k, tree in enumerate(trees(24))])
        forget()
        counts.append(len(searched))
        searched.clear()
    assert counts[0] and not counts[1] and counts[2]


def test_patterns_go_with_their_parameters() -> None:
    model = Model()
    check(model, model.loss, trees())
    check(model, model.loss, trees(3))
    alive = weakref.ref(model.pair.weight)
    assert any(s.decisions.found_cells for s in _known_signatures(model))
    del model
    gc.collect()
    assert alive() is None


def _known_signatures(model: Model) -> list[Any]:
    kept = (known for p in model.parameters() for known in p._signatures.values() if isinstance(known, tuple))
    return [s for known in kept for s in known if isinstance(s, Signature)]


def test_two_models_of_one_shape_share_kernels() -> None:
    first, second = Model(), Model()
    check(first, first.loss, trees())
    check(second, second.loss, trees())
    kernels = [
        {p.signature.name: p.signature.kernel for s in _known_signatures(m) for p in s.decisions.found_cells}
        for m in (first, second)
    ]
    assert kernels[0].keys() == kernels[1].keys() != set()
    assert all(kernels[0][name] is kernels[1][name] for name in kernels[0])


def test_a_sabotaged_pattern_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    original = patterns._joined

    def wrong(members: Any, slots: Any, *rest: Any) -> Any:
        changed = list(slots)
        inside = [k for k, s in enumerate(slots) if s >= 1 and members[0].name == "concat"]
        if inside:
            changed[inside[-1]] -= 1  # a neighbour of the same type
        return original(members, changed, *rest)

    model = Model()
    check(model, model.loss, trees())
    monkeypatch.setattr(patterns, "_joined", wrong)
    model = Model()
    with pytest.raises(AssertionError):
        check(model, model.loss, trees())
