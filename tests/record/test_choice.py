"""Which recorder runs, and what only one of them promises."""

from __future__ import annotations

import gc
import importlib
import sysconfig
import weakref
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.errors import BackendError
from autobatch.record import choice
from autobatch.record.tape import state

needs_compiled = pytest.mark.skipif(choice.compiled is None, reason="the compiled recorder was not built or not chosen")


def test_what_runs_is_visible() -> None:
    assert ab.recorder == ("python" if choice.compiled is None else "compiled")


def test_the_one_in_python_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOBATCH_RECORDER", "python")
    assert choice.choose() is None


def test_a_wrong_name_says_what_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOBATCH_RECORDER", "cython")
    with pytest.raises(BackendError, match="expected python or compiled, got cython"):
        choice.choose()


def test_one_built_from_other_sources_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTOBATCH_RECORDER", raising=False)
    monkeypatch.setattr(importlib, "import_module", lambda *_: object())
    assert choice.choose() is None
    monkeypatch.setenv("AUTOBATCH_RECORDER", "compiled")
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        with pytest.raises(BackendError, match="built from other sources"):
            choice.choose()


def test_where_it_was_not_built_the_one_in_python_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> None:
        raise ImportError("No module named 'autobatch.record.compiled'")

    monkeypatch.setattr(importlib, "import_module", missing)
    monkeypatch.delenv("AUTOBATCH_RECORDER", raising=False)
    assert choice.choose() is None
    monkeypatch.setenv("AUTOBATCH_RECORDER", "compiled")
    with pytest.raises(BackendError, match="cannot be used"):
        choice.choose()


def test_without_a_global_lock_the_one_in_python_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: name == "Py_GIL_DISABLED")
    monkeypatch.delenv("AUTOBATCH_RECORDER", raising=False)
    assert choice.choose() is None


@needs_compiled
def test_a_tensor_that_dies_is_not_held() -> None:
    x = ab.tensor(np.ones(3, np.float32))
    y = x * 2.0
    number = y._id  # type: ignore[attr-defined]
    tape = state.tape
    assert tape is not None
    assert [t is x or t is y for t in tape.held_tensors()[0]] == [True, True]
    del y
    assert tape.held_tensors()[0] == [x]
    again = tape.tensor(number)
    assert again.shape == (3,)
    assert tape.tensor(number) is again
    assert (again + x).numpy().tolist() == [3.0, 3.0, 3.0]


@needs_compiled
def test_a_recording_goes_with_its_last_tensor() -> None:
    x = ab.tensor(np.ones(3, np.float32))
    tape = weakref.ref(state.tape)
    y = x * 2.0
    state.tape = None
    del x
    assert tape() is not None
    del y
    assert tape() is None


@needs_compiled
def test_results_of_an_op_after_its_signature_has_lost_its_length() -> None:
    """What an op's table knows goes once a length was seen to vary."""

    def total(n: int) -> Any:
        rows = ab.tensor(np.ones((n, 2), np.float32))
        return ab.tanh(rows * 0.5).sum()

    for lengths in ([3, 3], [3, 4], [4, 3, 5]):
        got = ab.evaluate(ab.map(total, lengths))
        np.testing.assert_allclose(got, [2 * n * np.tanh(0.5) for n in lengths], rtol=1e-6)


@needs_compiled
def test_finalisers_that_record_in_the_middle_of_an_op() -> None:
    """The cycle collector may run wherever an object is made; what it finalises may record."""
    base, x, y = (ab.tensor([a, 2.0 * a]) for a in (100.0, 1.0, 3.0))
    logged: list[Any] = []
    results: list[Any] = []

    class Meter:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            logged.append(base * 3.0)

    @ab.cell
    def both(a: Any, b: Any) -> Any:
        return a + b, (a - b, a * b)

    before = gc.get_threshold()
    gc.set_threshold(3, 1, 1)
    try:
        for k in range(200):
            Meter()
            results.append((both(x, y)[0], ab.split(ab.concat([x, y]), 2)[1], x + y, x * float(k))[k % 4])
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert len(logged) > 100
    for k, value in enumerate(ab.evaluate(results)):
        want = ([4.0, 8.0], [3.0, 6.0], [4.0, 8.0], [float(k), 2.0 * k])[k % 4]
        np.testing.assert_allclose(value, want)
    for value in ab.evaluate(logged):
        np.testing.assert_allclose(value, [300.0, 600.0])


@needs_compiled
def test_cycles_through_tensors_are_collected() -> None:
    class Holder:
        pass

    def made() -> weakref.ref[Any]:
        holder: Any = Holder()
        holder.x = ab.tensor(np.ones(3, np.float32))
        state.tape.shared_rows["cycle"] = holder
        state.tape = None
        return weakref.ref(holder)

    gone = made()
    gc.collect()
    assert gone() is None
