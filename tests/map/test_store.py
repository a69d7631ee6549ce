"""Recordings reused: a replay equals what the function would have recorded, or is refused."""

from __future__ import annotations

import gc
import weakref
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autobatch as ab
from autobatch import nn, optim
from autobatch.errors import OpTypeError, RecordingError
from autobatch.map import store as reuse
from autobatch.record.assemble import assemble
from autobatch.record.tape import state
from autobatch.record.tensor import iterate_tensors
from tests import requested
from tests.engine.test_interrupts import TREES, Training, interrupted
from tests.programs.drawing import CELLS, EVERYTHING, GRADS, Model, Program, programs, run


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    ab.set_backend("numpy")
    ab.forget()
    yield
    ab.forget()


class Tree:
    """A tree that is known by identity, and whose label can be edited."""

    def __init__(self, word: int, *children: Tree) -> None:
        self.word, self.children, self.label = word, children, word % 2
        self.factors: dict[str, Any] = {}


FOREST = [Tree(1, Tree(2), Tree(3, Tree(4))), Tree(5), Tree(6, Tree(0)), Tree(2, Tree(1), Tree(1), Tree(5))]


class Net(nn.Module):
    """A tree model with and without cells; counts how often its loss is called."""

    calls = 0

    def __init__(self, cells: bool = True) -> None:
        rng = np.random.default_rng(0)
        self.embed = nn.Embedding(7, 3)
        self.inner = nn.Linear(3, 3)
        self.out = nn.Linear(3, 2)
        self.drop = nn.Dropout(0.4)
        self.start = ab.Parameter(np.zeros(3))
        self.scale = 1.0
        self.cells = cells
        for p in self.parameters():
            p.value = rng.normal(size=p.shape)

    @ab.cell
    def node(self, x: Any, children: list[Any]) -> Any:
        return ab.tanh(self.inner(x) + ab.sum(children, like=x)) * self.scale

    def encode(self, tree: Tree) -> Any:
        children = [self.encode(child) for child in tree.children] or [self.start * 1.0]
        node = self.node if self.cells else lambda *x: Net.node.__wrapped__(self, *x)  # type: ignore[attr-defined]
        return node(self.embed[tree.word], children)

    def loss(self, tree: Tree) -> Any:
        Net.calls += 1
        h = self.drop(self.encode(tree))
        rows = ab.stack([h, self.start, h * 0.5])[1:] + ab.tensor([1.0, 2.0, 3.0])
        return ab.cross_entropy(self.out(rows.sum(axis=0)), tree.label)


def calls(action: Callable[[], Any]) -> int:
    """How often the loss of a `Net` is called."""
    before = Net.calls
    action()
    return Net.calls - before


def outcome(fn: Any, examples: Any, parameters: Any = (), **how: Any) -> list[np.ndarray]:
    """Results of a map as one list of arrays, then the gradients of their sum."""
    for p in parameters:
        p.grad = None
    results = ab.map(fn, examples, **how)
    leaves = list(iterate_tensors(results))
    if parameters:
        ab.sum([x.sum() for x in leaves]).backward()
    grads = [p.grad for p in parameters if p.grad is not None]
    return [x.numpy() for x in leaves] + [g if isinstance(g, np.ndarray) else g.to_dense() for g in grads]


def check(fn: Any, examples: Any, parameters: Any = (), seed: int = 5) -> None:
    """A map with recordings reused gives what the loop gives."""
    ab.seed(seed)
    got = outcome(fn, examples, parameters, reuse=True)
    ab.seed(seed)
    want = outcome(fn, examples, parameters, batched=False)
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# What is replayed is what would have been recorded.


@settings(max_examples=requested.fewer(20))
@given(programs((EVERYTHING - {"force"}) | CELLS | GRADS), st.randoms(use_true_random=False))
def test_random_programs_replayed_equal_the_loop(program: Program, random: Any) -> None:
    ab.set_backend("numpy")
    ab.set_default_dtype("float64")
    ab.forget()
    state.tape = None
    model, order = Model(), list(program.examples)

    def fn(e: Any) -> Any:
        return run(program.routines[e.routine], model, e)

    parameters = list(model.parameters())
    for k in range(3):
        random.shuffle(order)
        batch = order[:2] if k == 0 else [*order, order[0]]  # some known, some new; then all known, one of them twice
        runs = []
        for how in ({"reuse": True}, {}, {"batched": False}):
            ab.seed(k)
            for p in parameters:
                p.grad = None
            results = ab.map(fn, batch, **how)
            ab.sum([loss for loss, _ in results]).backward()
            grads = [p.grad for p in parameters]
            runs.append(
                [np.asarray(x) for loss, more in ab.evaluate(results) for x in (loss, *more)]
                + [np.zeros(1) if g is None else g if isinstance(g, np.ndarray) else g.to_dense() for g in grads]
            )
        for got, anew, want in zip(*runs, strict=True):
            np.testing.assert_allclose(got, anew, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-8)
        ab.map(fn, batch, reuse="check")
        state.tape = None


@pytest.mark.parametrize("cells", [True, False])
def test_a_replayed_tape_is_the_tape_recorded_anew_bit_by_bit(cells: bool) -> None:
    model = Net(cells)
    assert model.out.bias is not None
    model.start = model.out.bias  # no parameter is read as a row

    def fn(tree: Tree) -> Any:
        return ab.map(lambda e: ab.dropout(model.embed[e.word], 0.5) + ab.normal(3), [tree, *tree.children])

    ab.map(fn, FOREST)  # what another test has drawn of another length is known to vary from here on
    tapes = []
    for how in (True, True, False):
        ab.seed(3)
        state.tape = None
        results = ab.map(fn, FOREST, reuse=how)
        tape = state.tape
        roots = [t._id for t in iterate_tensors(results)]
        tapes.append((assemble(tape, roots), list(tape.signatures)))  # type: ignore[attr-defined]
        assert len(tape.blocks) == (len(tapes) == 2)  # type: ignore[attr-defined]
        tapes[-1][0].check()
    for arrays, signatures in tapes[1:]:
        assert signatures == tapes[0][1]
        for name in ("sig", "slot_of", "arg_of", "args", "value_of", "int_of", "float_of", "ints", "floats", "roots"):
            np.testing.assert_array_equal(getattr(arrays, name), getattr(tapes[0][0], name))


@pytest.mark.parametrize("cells", [True, False])
def test_epochs_of_training_equal_the_loop(cells: bool) -> None:
    losses = []
    for how in ({"reuse": True}, {"batched": False}):
        ab.seed(1)
        model = Net(cells)
        optimizer = optim.SGD(model.parameters(), 0.05)
        rng = np.random.default_rng(0)
        found = []
        for _ in range(4):
            order = rng.permutation(len(FOREST))
            for batch in (order[:2], order[2:]):
                optimizer.zero_grad()
                loss = ab.mean(ab.map(model.loss, [FOREST[k] for k in batch], **how))
                loss.backward()
                optimizer.step()
                found.append(float(loss))
        losses.append(found)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_the_function_is_called_once_for_each_example_and_mode() -> None:
    model = Net()
    assert calls(lambda: ab.map(model.loss, FOREST[:2], reuse=True)) == 2
    assert calls(lambda: ab.map(model.loss, FOREST[::-1] * 2, reuse=True)) == 4  # two new ones, twice each
    assert calls(lambda: ab.map(model.loss, FOREST, reuse=True)) == 0
    model.eval()
    assert calls(lambda: ab.map(model.loss, FOREST, reuse=True)) == 4
    with ab.no_grad():
        assert calls(lambda: ab.map(model.loss, FOREST, reuse=True)) == 4
    model.train()
    assert calls(lambda: ab.map(model.loss, FOREST, reuse=True)) == 0
    ab.set_default_dtype("float64")
    assert calls(lambda: ab.map(model.loss, FOREST, reuse=True)) == 4
    ab.set_default_dtype("float32")
    ab.set_backend("numba")
    assert calls(lambda: ab.map(model.loss, FOREST, reuse=True)) == 4
    assert calls(lambda: ab.map(model.loss, FOREST, reuse=True, batched=False)) == 4


def test_draws_are_fresh_in_every_epoch() -> None:
    model = Net()
    ab.seed(0)
    first = [outcome(model.loss, FOREST, reuse=True) for _ in range(3)]
    ab.seed(0)
    again = [outcome(model.loss, FOREST) for _ in range(3)]
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first[0], first[1])
    assert not np.allclose(first[1], first[2])


def test_draws_of_nested_maps_and_in_derivatives() -> None:
    w = ab.Parameter([1.0, 2.0])

    def noisy(x: Any) -> Any:
        return (ab.dropout(w * x) * ab.normal(2)).sum()

    def fn(k: int) -> Any:
        inner = ab.map(lambda j: ab.map(lambda i: ab.uniform(2) * (i + j), range(2)), range(k))
        return inner, ab.grad(noisy)(ab.tensor([3.0, float(k)])), ab.normal(2)

    for seed in range(3):
        check(fn, [3, 1, 2], seed=seed)


def test_replays_in_modes() -> None:
    model = Net()
    for _ in range(2):
        check(model.loss, FOREST, list(model.parameters()))
        model.eval()
        check(model.loss, FOREST[::-1], list(model.parameters()))
        model.train()
        with ab.no_grad():
            check(model.loss, FOREST)


@pytest.mark.parametrize("cells", [True, False])
def test_what_changes_in_a_module_is_seen(cells: bool) -> None:
    model = Net(cells)
    parameters = list(model.parameters())
    changes: list[Callable[[], Any]] = [
        lambda: setattr(model, "scale", 3.0),
        lambda: setattr(model.inner, "weight", ab.Parameter(np.ones((3, 3)))),
        lambda: setattr(model, "start", ab.Parameter(np.ones(3))),
        lambda: setattr(model.drop, "p", 0.9),
        lambda: setattr(model, "inner", nn.Linear(3, 3)),
    ]
    for change in changes:
        check(model.loss, FOREST, parameters)
        change()
        assert calls(lambda: check(model.loss, FOREST, parameters)) == 2 * len(FOREST)
    model.scale, before = 1.0, model.scale
    check(model.loss, FOREST, parameters)
    model.scale = before
    assert calls(lambda: check(model.loss, FOREST, parameters)) == len(FOREST)  # those of the loop


def test_changed_numbers_of_parameters_are_seen_without_recording() -> None:
    model = Net()
    check(model.loss, FOREST, list(model.parameters()))
    model.inner.weight.value = np.ones((3, 3))
    other = {name: x * 0.5 for name, x in model.state_dict().items()}
    assert calls(lambda: check(model.loss, FOREST)) == len(FOREST)
    model.load_state_dict(other)
    assert calls(lambda: check(model.loss, FOREST, list(model.parameters()))) == len(FOREST)


FACTOR = 2.0
HELPER: Any = None


def test_globals_and_closures_of_the_function_are_seen() -> None:
    global FACTOR, HELPER
    HELPER = Net()
    layers = [nn.Linear(3, 3)]
    power = 2

    def encode(tree: Tree) -> Any:
        return layers[0](HELPER.embed[tree.word]) ** power * FACTOR

    def loss(tree: Tree) -> Any:
        Net.calls += 1
        return encode(tree)

    for change in (
        lambda: None,
        lambda: layers.__setitem__(0, nn.Linear(3, 3)),
        lambda: setattr(HELPER, "embed", nn.Embedding(9, 3)),
    ):
        change()
        assert calls(lambda: ab.map(loss, FOREST, reuse=True)) == len(FOREST)
        check(loss, FOREST)
        assert calls(lambda: ab.map(loss, FOREST, reuse=True)) == 0


def test_a_function_made_anew_is_the_same_function() -> None:
    model = Net()
    for k in range(3):
        made = calls(lambda: ab.map(lambda tree: model.loss(tree) * 2.0, FOREST, reuse=True))
        assert made == (0 if k else len(FOREST))
    for factor in (2.0, 3.0, 2.0):
        check(lambda tree, f=factor: model.loss(tree) * f, FOREST)
    for factor in (2.0, 3.0, 2.0):
        check(lambda tree: model.loss(tree) * factor, FOREST)  # noqa: B023


def test_globals_that_change_are_seen() -> None:
    global FACTOR
    x = ab.constant([1.0, 2.0])
    for number in (2.0, 3.0, 2.0):
        FACTOR = number
        check(lambda k: x * FACTOR + ab.tensor([k, k]), [1.0, 2.0])  # noqa: B023


def test_modules_cells_and_objects_as_functions() -> None:
    layer = nn.Linear(3, 2)
    vectors = [ab.tensor([1.0, 2.0, float(k)]) for k in range(3)]
    ab.evaluate(vectors)
    kept = [x.detach() for x in vectors]
    ab.evaluate(kept)

    @ab.cell
    def twice(x: Any) -> Any:
        return x * 2.0

    class Plain:
        def __init__(self) -> None:
            self.layer, self.factor = layer, 2.0

        def loss(self, x: Any) -> Any:
            return self.layer(x) * self.factor

    plain = Plain()
    recurrent = nn.LSTMCell(3, 3)
    for _ in range(2):
        for fn in (layer, twice, ab.tanh, plain.loss, recurrent, recurrent.forward):
            check(fn, kept)
    plain.factor = 5.0
    check(plain.loss, kept)


def test_of_an_object_what_its_method_reads_is_seen() -> None:
    @dataclass
    class Options:
        power: int = 2

    class Trainer:
        def __init__(self) -> None:
            self.model, self.options, self.factor, self.steps = Net(), Options(), 2.0, 0

        def loss(self, tree: Tree) -> Any:
            Net.calls += 1
            return self.scaled(self.model.encode(tree)) ** self.options.power

        def scaled(self, x: Any) -> Any:
            return x * getattr(self, "factor")  # noqa: B009

        def step(self) -> int:
            self.steps += 1
            return calls(lambda: ab.map(self.loss, FOREST, reuse=True))

    trainer = Trainer()
    assert [trainer.step() for _ in range(3)] == [4, 0, 0]
    trainer.factor = 3.0
    assert trainer.step() == 4
    trainer.options.power = 3
    assert [trainer.step(), trainer.step()] == [4, 0]
    check(trainer.loss, FOREST, list(trainer.model.parameters()))
    trainer.model.scale = 2.0
    assert trainer.step() == 4


def test_results_of_any_nesting() -> None:
    pair = namedtuple("pair", "left right")
    w = ab.Parameter([1.0, 2.0])

    def fn(k: int) -> Any:
        x = ab.tensor([float(k), 1.0]) * w
        return {
            "a": [x, (x, x + 1.0)],
            "b": pair(x * 2.0, None),
            "c": OrderedDict(z=x.sum(), n=k),
            "d": np.arange(k),
            "e": w,
            "f": (),
        }

    for _ in range(3):
        got, want = ab.map(fn, [3, 4], reuse=True), ab.map(fn, [3, 4])
        for a, b in zip(got, want, strict=True):
            assert a["a"][0] is a["a"][1][0]
            assert type(a["b"]) is pair
            assert type(a["c"]) is OrderedDict
            assert a["e"] is w
            np.testing.assert_array_equal(a["d"], b["d"])
            a["d"][:] = 9  # a copy
            for x, y in zip(iterate_tensors(a), iterate_tensors(b), strict=True):
                np.testing.assert_array_equal(x.numpy(), y.numpy())


def test_functions_that_record_nothing_and_examples_known_by_value() -> None:
    w = ab.Parameter([1.0, 2.0])

    def fn(x: Any) -> Any:
        Net.calls += 1
        return x, w

    assert ab.map(fn, [], reuse=True) == []
    for made in (8, 0):
        before = Net.calls
        examples = [1, True, 1.0, -0.0, 0.0, "1", np.float32(1), None, int("1")]
        results = ab.map(fn, examples, reuse=True)
        assert [repr(x) for x, _ in results] == [repr(x) for x in examples]
        assert all(y is w for _, y in results)
        assert Net.calls - before == (made and made + 1)  # the last is a first, twice


def test_rows_lists_and_several_sequences() -> None:
    table = ab.Parameter(np.arange(12.0).reshape(4, 3))

    def fn(words: Any, label: int, scale: float) -> Any:
        rows = table[words] * scale
        return ab.concat([rows, ab.stack([table[label]])], 0).sum(axis=0), ab.mean([table[w] for w in words]), rows

    words = [[0, 1], [3], [2, 2, 0]]
    for labels in ([1, 2, 3], [1, 2, 3], [0, 2, 1]):
        ab.seed(0)
        got = ab.map(fn, words, labels, [0.5, 1.0, 2.0], reuse=True)
        want = ab.map(fn, words, labels, [0.5, 1.0, 2.0], batched=False)
        for a, b in zip(iterate_tensors(got), iterate_tensors(want), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy())


def test_shared_expressions_parameters_as_rows_and_constants_from_before() -> None:
    w, v = ab.Parameter([1.0, 2.0]), ab.Parameter([0.5, 0.5])
    with ab.no_grad():
        feature = ab.tensor([3.0, 4.0]) * 2.0

    def fn(k: int) -> Any:
        x = ab.tensor([float(k), 1.0])
        with ab.no_grad():
            constant = ab.stack([w, x])[0]
        return ab.stack([w, x, v]).sum(axis=0) * (w + v) + constant + feature, ab.stack([v, v])[0]

    feature.numpy()
    for examples in ([1], [2, 1], [1, 2, 3]):
        check(fn, examples, [w, v])


def test_between_other_recorded_nodes() -> None:
    w = ab.Parameter([1.0, 2.0])

    def fn(x: Any) -> Any:
        return ab.tensor(x) * w

    for _ in range(3):
        w.grad = None
        before = ab.tanh(w * 2.0)
        left = ab.map(fn, [[1.0, 2.0], [3.0, 4.0]], reuse=True)
        between = before * left[0]
        right = ab.map(lambda k: ab.map(fn, [[1.0, k], [2.0, k]], reuse=True)[1] + 1.0, [5.0, 6.0])
        gradient = ab.grad(lambda u, y=left[1]: (u * y).sum())(w)
        total = (between + right[0] * right[1] + gradient).sum()
        total.backward()
        array = np.array([1.0, 2.0])
        x = np.tanh(array * 2)
        want = (x * array * [1, 2] + (array * [2, 5] + 1) * (array * [2, 6] + 1) + array * [3, 4]).sum()
        np.testing.assert_allclose(float(total), want, rtol=1e-6)
        assert w.grad.shape == (2,)


def test_inside_a_derivative_everything_is_recorded() -> None:
    model = Net()
    examples = FOREST[:2]

    def total(m: Any, how: Any) -> Any:
        return ab.sum(ab.map(m.loss, examples, reuse=how))

    for _ in range(2):
        ab.seed(0)
        got = ab.evaluate(ab.grad(lambda m: total(m, True))(model))
        ab.seed(0)
        want = ab.evaluate(ab.grad(lambda m: total(m, False))(model))
        for name, g in want.items():
            np.testing.assert_allclose(got[name], g, rtol=1e-6)


def test_derivatives_recorded_beside_what_is_replayed() -> None:
    w = ab.Parameter([1.0, 2.0])

    def fn(k: int) -> Any:
        return ab.grad(lambda u: (ab.tanh(u * w) * float(k)).sum())(ab.tensor([float(k), 1.0]))

    for examples in ([1], [2, 1, 3], [1, 4, 2]):
        check(fn, examples, [w])


# What is refused.


def refused(fn: Any, examples: Any, match: str) -> None:
    """The map raises, keeps nothing, and leaves the thread as it was."""
    for _ in range(2):
        with pytest.raises(RecordingError, match=match) as caught:
            ab.map(fn, examples, reuse=True)
        assert "test_store.py" in str(caught.value)
        assert "repair: " in str(caught.value)
    assert not reuse.own_store().kept
    state.tape = None
    assert float(ab.map(lambda k: ab.tensor(k) * 2.0, [1.5], reuse=True)[0]) == 3.0
    ab.forget()


def test_what_cannot_be_replayed_is_refused() -> None:
    w = ab.Parameter([1.0, 2.0])
    outer = ab.tensor([1.0, 2.0]) * 2.0
    seen: list[Any] = []
    earlier = w * ab.tensor([3.0, 4.0])
    earlier.numpy()
    outer = ab.tensor([1.0, 2.0]) * 2.0
    refused(lambda k: ab.tensor([k]) * float(ab.tensor(k) * 2.0), [1.0], "a value is forced inside a function")
    outer = ab.tensor([1.0, 2.0]) * 2.0
    refused(lambda k: outer * ab.tensor(k), [1.0], "reads a value recorded outside of the example")
    outer = ab.tensor([1.0, 2.0]) * 2.0
    refused(lambda k: outer, [1.0], "returns a value recorded outside of the example")
    refused(lambda k: earlier * ab.tensor(k), [1.0], "earlier recording, through which gradient flows")
    refused(lambda k: [seen.append(ab.tensor(k)), ab.tensor(k)][1], [1.0], "changes a module or name that it reads")
    pairs = [(t := Tree(0)), t]
    refused(
        lambda tree: [setattr(tree, "kept", ab.tensor(1.0)), ab.tensor(2.0)][1], pairs, "kept elsewhere than in its"
    )
    for read in (float, lambda x: x.value, lambda x: (x * 2.0).numpy()):
        refused(
            lambda k, r=read: ab.tensor(r(w.sum() if r is float else w)), [1.0], "the numbers of a parameter are read"
        )
    refused(lambda k: ab.tensor(ab.rng().normal(size=2)), [1.0], "a NumPy generator is asked for")
    refused(lambda k: ab.map(lambda j: ab.tensor(j), [1.0], batched=False), [1.0], "pending work is run")
    refused(lambda k: setattr(w, "value", [2.0, 3.0]), [1.0], "a parameter is changed")
    ab.map(lambda k: ab.tensor(float(w[0])), [1.0], reuse=True, batched=False)


def test_values_passed_from_example_to_example_are_refused() -> None:
    class Running:
        def __call__(self, k: float) -> Any:
            self.last = getattr(self, "last", ab.zeros(1)) + ab.tensor([k])
            return self.last

    with pytest.raises(RecordingError, match="changes a module or name that it reads"):
        ab.map(Running(), [1.0, 2.0], reuse=True)


def test_a_function_that_changes_its_module_is_refused() -> None:
    model = Net()

    def fn(tree: Tree) -> Any:
        model.scale += 1.0
        return model.encode(tree)

    refused(fn, FOREST, "changes a module or name that it reads")


def test_a_function_that_calls_itself_by_a_closure_is_not_refused() -> None:
    model = Net()

    def fn(tree: Tree) -> Any:
        states = []

        def encode(t: Tree) -> Any:
            states.append(model.embed[t.word] + ab.sum([encode(c) for c in t.children], shape=3))
            return states[-1]

        return encode(tree) * 2.0

    for _ in range(2):
        check(fn, FOREST, list(model.parameters()))
    assert len(reuse.own_store().kept) == len(FOREST)


def test_an_unknown_way_of_reuse() -> None:
    with pytest.raises(ValueError, match="reuse is False, True or"):
        ab.map(lambda k: k, [1], reuse="always")


# The check.


def test_the_check_finds_what_was_edited() -> None:
    model = Net()
    model.eval()
    for tree in FOREST:
        tree.factors = {"x": np.array([1.0, 2.0, 3.0]), "n": 2.0, "words": [1]}

    def fn(tree: Tree) -> Any:
        h = model.encode(tree) * ab.tensor(tree.factors["x"]) * tree.factors["n"]
        return ab.cross_entropy(model.out(h), tree.label), len(tree.factors["words"])

    ab.map(fn, FOREST, reuse="check")
    assert calls(lambda: ab.map(model.loss, FOREST, reuse="check")) == 4
    assert calls(lambda: ab.map(model.loss, FOREST, reuse="check")) == 4
    assert calls(lambda: ab.map(model.loss, FOREST, reuse=True)) == 0
    tree = FOREST[2]
    edits: list[tuple[Callable[[], Any], Callable[[], Any], str]] = [
        (lambda: setattr(tree, "label", 1), lambda: setattr(tree, "label", 0), "other integers"),
        (lambda: setattr(tree, "children", ()), lambda: setattr(tree, "children", (Tree(0),)), "other ops"),
        (
            lambda: tree.factors["x"].fill(5.0),
            lambda: tree.factors["x"].__setitem__(slice(3), [1, 2, 3]),
            "other arrays",
        ),
        (lambda: tree.factors["words"].append(1), lambda: tree.factors["words"].pop(), "another result"),
    ]
    for edit, back, what in edits:
        edit()
        with pytest.raises(RecordingError, match=f"out of date: recorded again it holds {what}") as caught:
            ab.map(fn, FOREST, reuse="check")
        assert "test_store.py" in str(caught.value)
        assert "ab.forget()" in str(caught.value)
        assert caught.value.__notes__[0].startswith("in example ")
        back()
        ab.map(fn, FOREST, reuse="check")
    tree.label = 1
    ab.forget()
    ab.map(fn, FOREST, reuse="check")
    tree.label = 0


def test_the_check_compares_floats_and_does_not_mind_draws() -> None:
    tree = Tree(1)

    def fn(tree: Tree) -> Any:
        return ab.dropout(ab.tensor([1.0, 2.0]) * (1.5 + tree.label)) + ab.normal(2)

    for _ in range(3):
        ab.map(fn, [tree], reuse="check")
    tree.label = 2
    with pytest.raises(RecordingError, match="other numbers"):
        ab.map(fn, [tree], reuse="check")


# Errors and Ctrl-C.


def test_an_exception_midway_keeps_nothing_of_that_map() -> None:
    model = Net()

    def faulty(k: int) -> Any:
        loss = model.loss(FOREST[k])
        if k == 2:
            raise OpTypeError("as ordered")
        return loss

    for _ in range(2):
        with pytest.raises(OpTypeError, match="as ordered") as caught:
            ab.map(faulty, range(4), reuse=True)
        assert caught.value.__notes__ == ["in example 2 of ab.map"]
        assert not reuse.own_store().kept
        assert state.depth == 0
        assert gc.isenabled()
    check(model.loss, FOREST, list(model.parameters()))


class Reusing(Training):
    """Training steps with recordings reused."""

    def step(self) -> None:
        self.optimizer.zero_grad()
        ab.mean(ab.map(self.loss, TREES, reuse=True)).backward()
        self.optimizer.step()

    def loss(self, tree: Any) -> Any:
        h = self.model.drop(self.model.encode(tree))
        rows = ab.stack([h, self.model.inner.bias]) + ab.tensor([1.0, 2.0, 3.0])
        return ab.cross_entropy(self.model.out(rows.sum(axis=0)), tree[0] % 2)


@pytest.mark.parametrize("epoch", [0, 1])
def test_ctrl_c_at_many_lines(epoch: int) -> None:
    def begin() -> Reusing:
        ab.forget()
        training = Reusing()
        for _ in range(epoch):
            training.step()
        ab.seed(2)
        return training

    begin().step()
    total, _ = interrupted(begin().step, -1)
    after = begin()
    after.step()
    for line in np.unique(np.linspace(1, total, requested.fewer(12)).astype(int)).tolist():
        training = begin()
        before = training.snapshot()
        _, hit = interrupted(training.step, line)
        assert training.snapshot() in (before, after.snapshot())
        assert hit or training.snapshot() == after.snapshot()
        for how in ({"reuse": True}, {"reuse": "check"}):
            ab.seed(4)
            got = outcome(training.loss, TREES, training.optimizer.params, **how)
            ab.seed(4)
            want = outcome(training.loss, TREES, training.optimizer.params, batched=False)
            for a, b in zip(got, want, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


# What is kept.


def test_forget_lets_go_of_examples() -> None:
    tree = Tree(3)
    alive = weakref.ref(tree)
    model = Net()
    ab.map(model.loss, [tree], reuse=True)
    state.tape = None
    del tree
    gc.collect()
    assert alive() is not None
    ab.forget()
    gc.collect()
    assert alive() is None
    assert calls(lambda: ab.map(model.loss, FOREST, reuse=True)) == len(FOREST)


def test_what_was_used_longest_ago_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Net()
    forest = [Tree(k % 7, *(Tree(j) for j in range(k % 4))) for k in range(40)]
    ab.map(model.loss, forest, reuse=True)
    store = reuse.own_store()
    whole = store.n_bytes
    assert whole > 40 * 400
    monkeypatch.setattr(reuse, "LIMIT_BYTES", whole)
    ab.map(model.loss, forest[:10], reuse=True)
    assert calls(lambda: ab.map(model.loss, [Tree(1)], reuse=True)) == 1
    assert 0 < store.n_bytes <= whole * 0.75
    assert sum(k.n_bytes for k in store.kept) == store.n_bytes
    assert calls(lambda: ab.map(model.loss, forest[:10], reuse=True)) == 0
    assert calls(lambda: ab.map(model.loss, forest[10:], reuse=True)) > 5
    for _ in range(3):
        check(model.loss, forest[::-1], list(model.parameters()))
        assert store.n_bytes <= whole
        ab.map(model.loss, forest, reuse="check")
    monkeypatch.setattr(reuse, "LIMIT_BYTES", 10)
    check(model.loss, [Tree(2), Tree(3)], list(model.parameters()))
    assert store.n_bytes == 0
    assert not store.contexts
    assert all(s is None for s in store.common.signatures.things)


def test_arrays_count(monkeypatch: pytest.MonkeyPatch) -> None:
    features = [np.ones(1000) for _ in range(5)]
    mask = ab.tensor(np.ones(2000))
    mask.numpy()
    ab.map(lambda x: ab.tensor(x).sum() + mask.sum(), features, reuse=True)
    copied, examples, closure = 5 * 4000, 5 * 8000, 8000
    assert copied + examples + closure < reuse.own_store().n_bytes < copied + examples + closure + 5 * 1000


# What other parts see.


def test_replayed_nodes_know_their_lines() -> None:
    def fn(k: float) -> Any:
        return ab.log(ab.tensor(k)) * 2.0

    for _ in range(2):
        results = ab.map(fn, [1.0, 2.0], reuse=True)
        assert "in fn" in repr(results[1])
        text = ab.explain(results)
        assert "log" in text
        assert "in fn" in ab.explain(results, stage="tape") or "in fn" in text
        tape = state.tape
        assert [tape.where(k)[-5:] for k in range(6)] == ["in fn"] * 6
        assert [tape.node_of(k) for k in range(6)] == list(range(6))
        later = results[0] + 1.0
        assert "test_replayed_nodes" in repr(later)
        ab.evaluate(results)
        assert "in fn" in repr(results[1])
        assert "test_replayed_nodes" in repr(later)
    with pytest.raises(ab.errors.NonFiniteError, match="in fn"), ab.check_finite():
        for _ in range(2):
            ab.evaluate(ab.map(fn, [0.0] if _ else [1.0], reuse=True))


def test_profile_and_explain_of_a_replay() -> None:
    model = Net()
    figures, texts = [], []
    for _ in range(2):
        ab.seed(0)
        with ab.profile() as prof:
            loss = ab.mean(ab.map(model.loss, FOREST, reuse=True))
            texts.append(ab.explain(loss))
            loss.backward()
        figures.append((prof.nodes, prof.launches, prof.rows))
        assert prof.replayed == (len(FOREST) if len(texts) == 2 else 0)
        assert ("recordings of 4 examples reused" in prof.table()) == (len(texts) == 2)
        assert "record" in prof.seconds
    assert figures[0] == figures[1]
    assert sorted(texts[0].splitlines()) == sorted(texts[1].splitlines())


def test_a_tensor_kept_beyond_its_recording() -> None:
    model = Net()
    for _ in range(2):
        losses = ab.map(model.loss, FOREST, reuse=True)
        extra = losses[0] * 2.0
        ab.mean(losses).backward()
        assert losses[0].numpy().shape == ()
        with pytest.raises(RecordingError, match="ended"):
            extra.numpy()


@pytest.mark.parametrize("reuse", [True, "check"])
def test_recordings_of_lengths_that_turn_out_to_vary_are_made_again(reuse: Any) -> None:
    w = ab.Parameter(np.linspace(0.1, 0.3, 3))

    @ab.cell
    def step(rows: Any) -> Any:
        return ab.tanh(rows) * 2.0

    def fn(rows: Any) -> Any:
        return ab.sum(ab.exp(step(ab.tensor(rows)) @ w))

    examples = [np.full((n, 3), 0.1 * n) for n in (3, 3, 1, 5, 4)]
    wanted = ab.evaluate(ab.map(fn, examples, batched=False))
    launches = []
    for _ in range(4):
        with ab.profile() as profile:
            np.testing.assert_allclose(ab.evaluate(ab.map(fn, examples, reuse=reuse)), wanted, 1e-6)
        launches.append(profile.launches)
    assert launches[-1] <= 4, launches
