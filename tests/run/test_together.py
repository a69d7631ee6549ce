"""Launches that follow each other run as one compiled call: the same bits as launch by launch."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import autobatch as ab
from autobatch import nn, optim
from autobatch.run import together
from autobatch.run.execute import HostRun
from tests import requested
from tests.nested import leaves
from tests.programs.drawing import CELLS, Model, Program, programs
from tests.programs.test_compiled_programs import COMPILED
from tests.programs.test_random_programs import outcome

pytestmark = pytest.mark.usefixtures("on_numba")

NEVER = 1 << 60


@pytest.fixture
def on_numba(initial_state: None) -> None:
    ab.set_backend("numba")
    ab.set_num_threads(1)


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many launches each compiled call was for."""
    sizes: list[int] = []
    own: Any = together.run_calls  # type: ignore[attr-defined]

    def note(launches: Any, *rest: Any) -> int:
        sizes.append(launches.size)
        failed: int = own(launches, *rest)
        return failed

    monkeypatch.setattr(together, "run_calls", note)
    return sizes


class Chain(nn.Module):
    """A recurrence over words, with a number of each, and a matrix of each sentence; with and without a cell."""

    def __init__(self, width: int = 6) -> None:
        ab.seed(0)
        self.table = nn.Embedding(11, width)
        self.step = nn.LSTMCell(width, width)
        self.mix = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, 1)

    @ab.cell
    def scaled(self, x: ab.Tensor, factor: Any) -> ab.Tensor:
        return ab.tanh(self.mix(x)) * factor

    @ab.cell
    def turned(self, m: ab.Tensor, h: ab.Tensor) -> tuple[ab.Tensor, ab.Tensor]:
        return ab.tanh(m * 0.5), h + m[1] - m[0] * h

    def forward(self, words: list[int]) -> ab.Tensor:
        state = None
        rows = ab.constant(np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 6))
        for k, word in enumerate(words):
            x = self.table[word]
            state = self.step(x, state)
            h, c = state
            i, f, g = ab.split(self.scaled(h, 0.5 + 0.1 * word), 3)
            rows, h = self.turned(rows, ab.sigmoid(i) * f + g * (k + 1))
            state = h, c
        assert state is not None
        return ab.sum(self.out(state[0]) ** 2)


class Plain(Chain):
    """Without views, so that its plans are kept."""

    def forward(self, words: list[int]) -> ab.Tensor:
        state = None
        for word in words:
            state = self.step(self.table[word], state)
        assert state is not None
        return ab.sum(self.out(state[0]) ** 2)


SENTENCES = [[1, 2, 3, 4], [5], [6, 7, 8, 9, 10, 0, 1], [2, 2], [3, 1, 4]]


def trained(model: nn.Module, steps: int = 3, **options: Any) -> Iterator[Any]:
    """Losses, gradients and parameters of some steps."""
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    for step in range(steps):
        optimizer.zero_grad()
        batch = SENTENCES[step % 2 :]
        losses = ab.map(model, batch, **options)
        ab.sum(losses).backward()
        yield ab.evaluate(losses)
        yield {name: np.array(requested.host(p.grad)) for name, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
        yield {name: np.array(p.value) for name, p in model.named_parameters()}


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        found, expected = list(found.values()), list(expected.values())
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("options", [{}, {"reuse": True}])
@pytest.mark.parametrize("found", ["cells", "ops"])
def test_the_same_bits(monkeypatch: pytest.MonkeyPatch, joined: list[int], options: dict[str, Any], found: str) -> None:
    expected: list[Any] = []
    for least in (NEVER, 1):
        monkeypatch.setattr(together, "LEAST", least)
        monkeypatch.setattr(together, "LEAST_AGAIN", least)
        model = Chain()
        if found == "ops":
            monkeypatch.setattr(nn.LSTMCell, "__call__", nn.LSTMCell.forward)
        results = list(trained(model, 6, **options))
        if least == NEVER:
            expected = results
            assert not joined
    for a, b in zip(results, expected, strict=True):
        assert_same(a, b)
    assert max(joined) >= 12


def test_the_same_bits_where_plans_are_kept(monkeypatch: pytest.MonkeyPatch, joined: list[int]) -> None:
    found = []
    for least in (NEVER, 1):
        monkeypatch.setattr(together, "LEAST", least)
        monkeypatch.setattr(together, "LEAST_AGAIN", least)
        found.append(list(trained(Plain(), 12)))
        assert bool(joined) == (least == 1)
    for a, b in zip(*found, strict=True):
        assert_same(a, b)


class Recurrence(nn.Module):
    """Matrices that are multiplied by as they are, or by some of their rows."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.weight = ab.Parameter(rng.normal(size=(16, 16)) * 0.3)
        self.tall = ab.Parameter(rng.normal(size=(40, 16)) * 0.3)
        self.table = ab.Parameter(rng.normal(size=(11, 16)))

    def forward(self, words: list[int]) -> ab.Tensor:
        h = self.table[words[0]]
        for word in words:
            h = ab.tanh(h @ self.weight.T) + self.table[word]
        return ab.sum(h)

    def of_rows(self, words: list[int]) -> ab.Tensor:
        h = self.table[words[0]]
        for word in words:
            h = ab.softmax(ab.tanh(h @ self.tall[3:19].T) + h @ self.tall[20:36].T) + self.table[word]
        return ab.sum(h)


def _stepped(model: Recurrence, step: int) -> None:
    model.weight.value = model.weight.value * 0.9


def _loaded(model: Recurrence, step: int) -> None:
    model.load_state_dict({name: 0.9 * x for name, x in model.state_dict().items()})


@pytest.mark.parametrize("change", [_stepped, _loaded])
@pytest.mark.parametrize("of_rows", [False, True])
def test_packed_weights_are_those_of_now(
    monkeypatch: pytest.MonkeyPatch, joined: list[int], change: Any, of_rows: bool
) -> None:
    found = []
    for least in (NEVER, 1):
        monkeypatch.setattr(together, "LEAST", least)
        monkeypatch.setattr(together, "LEAST_AGAIN", least)
        model, results = Recurrence(), []
        for step in range(8):
            model.zero_grad()
            losses = ab.map(model.of_rows if of_rows else model.forward, SENTENCES)
            ab.sum(losses).backward()
            results.append(
                [*ab.evaluate(losses), *(requested.host(p.grad) for p in model.parameters() if p.grad is not None)]
            )
            change(model, step)
        found.append(results)
    assert joined
    for a, b in zip(*found, strict=True):
        assert_same(a, b)


def test_few_launches_are_left_as_they_are(joined: list[int]) -> None:
    for _ in trained(Chain(), 1):
        pass
    assert sum(joined) > together.LEAST
    joined.clear()
    w = ab.Parameter(np.ones((3, 3)))
    ab.evaluate(ab.map(lambda x: ab.tanh(w @ x), [np.ones(3, np.float32)]))
    assert not joined


def test_a_profile_sees_each_launch(joined: list[int]) -> None:
    model = Chain()
    list(trained(model, 2))
    assert max(joined) > 1
    joined.clear()
    with ab.profile() as seen:
        losses = ab.map(model, SENTENCES)
        ab.sum(losses).backward()
    assert set(joined) == {1}
    assert "scaled" in str(seen)


def test_a_check_of_all_values_names_the_op(joined: list[int]) -> None:
    model = Chain()
    list(trained(model, 2))
    model.mix.bias.value = model.mix.bias.value + np.float32(np.nan)
    with ab.check_finite(), pytest.raises(ab.errors.NonFiniteError, match=r"add|tanh|scaled"):
        ab.evaluate(ab.map(model, SENTENCES))


def test_which_pieces_have_no_table() -> None:
    """What checks indices, sums over a launch or lists, or gives one number for each node by a matmul."""
    signatures = _signatures(Chain())
    tables = [(s.name, piece, table) for s in signatures for (piece, _), table in s.tables.items()]
    having = {(name, piece) for name, piece, table in tables if table is not None}
    without = {(name, piece) for name, piece, _ in tables} - having
    sums = {("sum", "forward"), ("sum of list", "forward"), ("sum of list", "backward")}
    assert without == {("lookup", "forward"), ("matmul", "forward")} | sums
    assert len(having) >= 16


def test_threads_take_large_launches(monkeypatch: pytest.MonkeyPatch, joined: list[int]) -> None:
    ab.set_num_threads(2)
    monkeypatch.setattr(together, "LEAST", 1)
    model = Chain()
    for table in (table for s in _signatures(model) for table in s.tables.values() if table is not None):
        table.limit = 3
    joined.clear()
    expected = ab.evaluate(ab.map(model, SENTENCES, batched=False))
    np.testing.assert_allclose(ab.evaluate(ab.map(model, SENTENCES)), expected, rtol=1e-5)
    few = sum(joined)
    ab.set_num_threads(1)
    joined.clear()
    ab.evaluate(ab.map(model, SENTENCES))
    assert 0 < few < sum(joined)


def _signatures(model: nn.Module) -> list[Any]:
    """The signatures of a run."""
    seen: list[Any] = []
    own = together.Together.__init__

    def note(self: Any, run: Any, *rest: Any) -> None:
        seen.extend(run.signatures)
        own(self, run, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(together.Together, "__init__", note)
        ab.sum(ab.map(model, SENTENCES)).backward()
    return seen


def _runs() -> list[HostRun]:
    """All runs that there are; other tests may have left some."""
    return [x for x in gc.get_objects() if type(x) is HostRun]  # a dead proxy has no class


def test_a_run_is_freed_at_once(joined: list[int]) -> None:
    model = Plain()
    gc.collect()
    before = len(_runs())
    gc.disable()
    try:
        for _ in range(6):
            losses = ab.map(model, SENTENCES)
            ab.sum(losses).backward()
        del losses
        assert len(_runs()) <= before
    finally:
        gc.enable()
    assert joined


def test_what_was_prepared_for_one_thread_is_prepared_anew_for_two(joined: list[int]) -> None:
    model = Plain()
    for _ in range(4):
        ab.evaluate(ab.map(model, SENTENCES))
    for table in (table for s in _signatures(model) for table in s.tables.values() if table is not None):
        table.limit = 1
    joined.clear()
    ab.set_num_threads(2)
    ab.evaluate(ab.map(model, SENTENCES))
    assert not joined
    ab.set_num_threads(1)
    ab.evaluate(ab.map(model, SENTENCES))
    assert joined


def test_another_library_multiplies_where_plans_are_kept(joined: list[int]) -> None:
    model = Recurrence()
    for _ in range(6):
        expected = ab.evaluate(ab.map(model, SENTENCES))
    joined.clear()
    with ab.products("numpy"):
        np.testing.assert_allclose(ab.evaluate(ab.map(model, SENTENCES)), expected, rtol=1e-5)
    assert not joined
    np.testing.assert_array_equal(ab.evaluate(ab.map(model, SENTENCES)), expected)
    assert joined


def test_compiled_code_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Chain()
    ab.evaluate(ab.map(model, SENTENCES))
    monkeypatch.setattr(together, "run_calls", lambda launches, *_: launches[0])
    with pytest.raises(ab.errors.CompilerBug, match="compiled code failed in launch"):
        ab.evaluate(ab.map(model, SENTENCES))
    monkeypatch.undo()
    ab.evaluate(ab.map(model, SENTENCES))


@settings(max_examples=requested.fewer(25))
@given(programs(COMPILED | CELLS | {"inner grad", "inner grad of cell"}))
def test_random_programs(program: Program) -> None:
    ab.set_default_dtype("float64")
    found: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        for least in (NEVER, NEVER, 1):  # a first run may learn what the next ones do
            patch.setattr(together, "LEAST", least)
            patch.setattr(together, "LEAST_AGAIN", least)
            values, gradients = outcome(program, Model(), batched=True)
            found.append(([np.asarray(x) for x in leaves(values)], gradients))
    _, (expected, wanted), (values, gradients) = found
    assert_same(values, expected)
    assert_same(gradients, wanted)
