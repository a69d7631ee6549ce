"""After any exception, and after Ctrl-C anywhere in a step, the next step works and all has moved or nothing."""

from __future__ import annotations

import contextvars
import gc
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn, optim
from autobatch.errors import NonFiniteError, OpIndexError, OpTypeError, RecordingError
from autobatch.record.tape import state
from tests import requested
from tests.instructions import interrupted

PACKAGE = str(Path(ab.__file__).parent)


@pytest.fixture(autouse=True)
def numpy_backend() -> Iterator[None]:
    with ab.backend("numpy"):
        yield


class Model(nn.Module):
    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.embed = nn.Embedding(7, 3)
        self.inner = nn.Linear(3, 3)
        self.out = nn.Linear(3, 2)
        self.drop = nn.Dropout(0.2)
        self.buffer = nn.Buffer(np.ones(3))
        for p in self.parameters():
            p.value = rng.normal(size=p.shape)

    @ab.cell
    def word(self, index: int) -> Any:
        return ab.tanh(self.embed[index])

    @ab.cell
    def node(self, x: Any, children: list[Any]) -> Any:
        return ab.tanh(self.inner(x) + ab.sum(children, like=x) * self.buffer)

    def encode(self, tree: Any) -> Any:
        return self.node(self.word(tree[0]), [self.encode(child) for child in tree[1]])

    def loss(self, tree: Any) -> Any:
        h = self.drop(self.encode(tree))
        if len(tree[1]) == 1 and float(h.sum()) > 100:
            h = h * 2.0
        rows = ab.stack([h, h * 0.5])
        return ab.cross_entropy(self.out(rows[0] + rows[1:].sum(axis=0) + ab.tensor([1.0, 2.0, 3.0])), tree[0] % 2)


TREES: list[Any] = [(1, [(2, []), (3, [(4, [])])]), (5, []), (6, [(0, [])])]


class Training:
    """A model, its optimiser, and one step."""

    def __init__(self) -> None:
        ab.seed(3)
        self.model = Model()
        self.optimizer = optim.Adam(self.model.parameters(), 0.1)

    def step(self) -> None:
        self.optimizer.zero_grad()
        losses = ab.map(self.model.loss, TREES)
        loss = ab.mean(losses)
        loss.backward()
        optim.clip_grad_norm(self.optimizer.params, 1.0)
        self.optimizer.step()

    def snapshot(self) -> list[bytes]:
        values = [np.array(p.value).tobytes() for p in self.optimizer.params]
        return values + [x.tobytes() for x in self.optimizer.state_dict().values()]

    def check(self) -> None:
        """The next step works: gradients are those of the one-by-one loop, with the same draws."""
        assert state.depth == 0
        assert state.builder is None
        assert not state.unbatched
        assert state.training is True
        assert gc.isenabled()
        found = []
        for batched in (True, False):
            ab.seed(1)
            self.optimizer.zero_grad()
            loss = ab.mean(ab.map(self.model.loss, TREES, batched=batched))
            loss.backward()
            grads = [p.grad if isinstance(p.grad, np.ndarray) else p.grad.to_dense() for p in self.optimizer.params]
            found.append([loss.numpy(), *grads])
        for got, want in zip(*found, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
        before = self.snapshot()
        self.step()
        assert self.snapshot() != before


WITHIN = (PACKAGE, "<", __file__)
"""The library, what it generates, and the programs here."""


@pytest.mark.parametrize("part", range(2))
def test_ctrl_c_at_many_lines_of_a_step(part: int) -> None:
    warm = Training()
    warm.step()
    total, _ = interrupted(warm.step, -1, WITHIN)
    assert total > 1000
    lines = np.unique(np.linspace(1, total, requested.fewer(40)).astype(int))[part::2]
    for line in lines.tolist():
        training = Training()
        training.step()
        before = training.snapshot()
        ab.seed(2)
        _, hit = interrupted(training.step, line, WITHIN)
        now = training.snapshot()
        if now != before:
            other = Training()
            other.step()
            ab.seed(2)
            other.step()
            assert now == other.snapshot(), f"line {line}: some moved, some not"
        else:
            assert hit
        training.check()


def test_ctrl_c_while_a_cell_is_traced() -> None:
    total, _ = interrupted(lambda: Training().step(), -1, WITHIN)
    for line in np.linspace(1, total * 0.6, requested.fewer(20)).astype(int).tolist():
        interrupted(lambda: Training().step(), line, WITHIN)
        assert state.builder is None
        assert state.depth == 0
    Training().check()


def test_ctrl_c_at_every_line_of_a_few_ops() -> None:
    weight = ab.Parameter(np.ones((3, 2)))

    def action() -> Any:
        x = weight[1] * 2.0
        y = ab.tanh(x + x) + 0.5
        z = ab.stack([y, x])[0:1]
        return ab.sum([z.sum(), x.sum(), ab.uniform(2).sum()])

    expected = None
    line, hits = 0, 0
    total, _ = interrupted(lambda: action().backward(), -1, WITHIN)
    while line < min(total, 400):
        line += 1
        hits += interrupted(action, line, WITHIN)[1]
        ab.seed(0)
        weight.grad = None
        kept = ab.tanh(ab.tensor([1.0, 2.0]))
        loss = action()
        loss.backward(retain=True)
        got = [float(loss), *weight.grad.to_dense().ravel().tolist()]
        expected = expected or got
        assert got == expected
        assert kept.shape == (2,)
    assert hits > 50


# Exceptions.


def test_an_exception_in_fn_names_the_example() -> None:
    training = Training()

    def faulty(k: int) -> Any:
        loss = training.model.loss(TREES[k])
        if k == 2:
            raise ValueError("as ordered")
        return loss

    for batched in (True, False):
        with pytest.raises(ValueError, match="as ordered") as caught:
            ab.map(faulty, range(3), batched=batched)
        assert caught.value.__notes__ == ["in example 2 of ab.map"]
        training.check()


def test_notes_of_nested_maps() -> None:
    with pytest.raises(OpTypeError) as caught:
        ab.map(lambda k: ab.map(lambda j: ab.ones(k) + ab.ones(j + 2), range(2)), [2, 3])
    assert caught.value.__notes__ == ["in example 1 of ab.map", "in example 0 of ab.map"]
    Training().check()


def test_an_exception_in_a_sequence() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        ab.map(lambda k: ab.ones(k), broken())
    Training().check()


def test_an_op_that_raises_at_run_time() -> None:
    training = Training()
    pending = ab.tanh(ab.tensor([1.0, 2.0]))
    index = ab.tensor(np.array([9])) + 1
    bad = training.model.embed.weight[index]
    with pytest.raises(OpIndexError, match="index 10 is out of range"):
        bad.numpy()
    with pytest.raises(RecordingError, match="given up"):
        pending.numpy()
    with pytest.raises(RecordingError, match="given up"):
        pending + 1
    del pending, bad, index
    training.check()


def test_a_step_that_fails_at_run_time_moves_nothing() -> None:
    training = Training()
    training.step()
    before = training.snapshot()

    def loss(tree: Any) -> Any:
        index = ab.tensor(np.array([tree[0]])) * 2
        return ab.sum(training.model.embed.weight[index]) + training.model.loss(tree)

    training.optimizer.zero_grad()
    with pytest.raises(OpIndexError):
        ab.mean(ab.map(loss, TREES)).backward()
    assert all(p.grad is None for p in training.optimizer.params)
    training.optimizer.step()
    assert training.snapshot() == before
    training.check()


def test_pending_work_that_fails_stops_a_change_of_parameters() -> None:
    weight = ab.Parameter(np.ones((3, 2)))
    bad = weight[ab.tensor(np.array([9]))]
    with pytest.raises(OpIndexError):
        weight.value = np.zeros((3, 2))
    np.testing.assert_array_equal(weight.numpy(), np.ones((3, 2)))
    weight.value = np.zeros((3, 2))
    with pytest.raises(RecordingError):
        bad.numpy()


def test_the_first_value_that_is_not_finite() -> None:
    training = Training()
    before = training.snapshot()
    with pytest.raises(NonFiniteError, match=r"log[\s\S]*test_interrupts.py"), ab.check_finite():
        ab.map(lambda k: ab.log(ab.tensor(float(k))) * 2.0, range(3))[0].numpy()
    assert training.snapshot() == before
    training.check()


def test_modes_are_put_back_after_an_exception() -> None:
    with pytest.raises(KeyError), ab.no_grad():
        raise KeyError("x")
    with pytest.raises(KeyError), ab.backend("numba"):
        raise KeyError("x")
    training = Training()
    training.model.eval()
    with pytest.raises(KeyError):
        ab.map(training.model.loss, [{}])
    training.model.train()
    training.check()


def test_signals_at_any_moment_raise_what_their_handler_raises() -> None:
    """Below compiled code, and where memory is given back, too: nothing else surfaces, and nothing is swallowed."""

    class Expired(BaseException):
        pass

    def expire(*_: object) -> None:
        raise Expired

    swallowed: list[str] = []

    def note(lost: Any) -> None:
        trace = lost.exc_traceback
        while trace is not None:  # other tools of the session have finalisers, too
            name = trace.tb_frame.f_code.co_filename
            if name.startswith(PACKAGE):
                swallowed.append(f"{name}:{trace.tb_lineno}")
            trace = trace.tb_next

    with ab.backend(requested.backend()):
        training = Training()
        for _ in range(30):
            training.step()
        start = time.perf_counter()
        training.step()
        seconds = time.perf_counter() - start
        rng = np.random.default_rng(0)
        handler, hook = signal.signal(signal.SIGALRM, expire), sys.unraisablehook
        sys.unraisablehook = note
        n_raised = 0

        def steps() -> None:
            nonlocal n_raised
            for _ in range(400):
                try:
                    signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, seconds))
                    training.step()
                    signal.setitimer(signal.ITIMER_REAL, 0.0)
                except Expired:
                    n_raised += 1

        try:
            # NumPy's errstate, written in Python, stays as it is where it is interrupted: in this context alone.
            contextvars.copy_context().run(steps)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, handler)
            sys.unraisablehook = hook
        assert n_raised > 50
        assert swallowed == []
        training.check()
