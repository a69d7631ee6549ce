"""Tracebacks of the library's errors end at the user's line, and show no frame of the library between the user's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import autobatch as ab
from autobatch import nn
from autobatch.errors import AutobatchError, CellError, CompilerBug, NonFiniteError, OpIndexError, OpTypeError


def functions(error: BaseException) -> list[str]:
    """Names of the functions in the traceback of an error, from `raised` inwards."""
    frames = traceback.extract_tb(error.__traceback__)
    names = [frame.name for frame in frames if frame.name != "checked"]  # which the tests put around stages
    return names[names.index("raised") + 1 :]


def raised(action: Callable[[], Any]) -> BaseException:
    """What an action raises."""
    try:
        action()
    except Exception as error:
        assert sys.gettrace() is None, "nothing is traced any more"
        return error
    pytest.fail("nothing was raised")


def mismatch(x: Any = None) -> Any:
    return ab.tensor([1.0, 2.0]) + ab.tensor([1.0, 2.0, 3.0])


def in_with_blocks(x: Any) -> Any:
    with ab.no_grad(), contextlib.nullcontext():
        return mismatch(x)


def with_finally(x: Any) -> Any:
    try:
        return mismatch(x)
    finally:
        float(ab.tensor(1.0))


class Wrapped(nn.Module):
    def forward(self, x: Any) -> Any:
        return mismatch(x)


@ab.cell
def forcing(x: Any) -> Any:
    return x * 2.0 if x > 0 else x


def not_finite() -> Any:
    with ab.check_finite():
        return float(ab.log(ab.tensor(-1.0)))


@pytest.mark.parametrize(
    ("action", "kind", "expected"),
    [
        (lambda: mismatch(), OpTypeError, ["<lambda>", "mismatch"]),
        (lambda: ab.map(mismatch, [1]), OpTypeError, ["<lambda>", "mismatch"]),
        (lambda: ab.map(lambda x: ab.map(mismatch, [x]), [1]), OpTypeError, ["<lambda>", "<lambda>", "mismatch"]),
        (lambda: ab.map(in_with_blocks, [1]), OpTypeError, ["<lambda>", "in_with_blocks", "mismatch"]),
        (lambda: ab.map(mismatch, [1], reuse=True), OpTypeError, ["<lambda>", "mismatch"]),
        (lambda: Wrapped()(1.0), OpTypeError, ["<lambda>", "forward", "mismatch"]),
        (lambda: ab.cell(mismatch)(1.0), OpTypeError, ["<lambda>", "mismatch"]),
        (lambda: ab.grad(mismatch)(1.0), OpTypeError, ["<lambda>", "mismatch"]),
        (lambda: forcing(ab.tensor(1.0)), CellError, ["<lambda>", "forcing"]),
        (lambda: ab.tensor([1.0])[3], OpIndexError, ["<lambda>"]),
        (lambda: nn.Embedding(3, 2)(7), OpIndexError, ["<lambda>"]),
        (lambda: ab.set_backend("abacus"), AutobatchError, ["<lambda>"]),
        (lambda: ab.tensor([1.0, 2.0]).backward(), OpTypeError, ["<lambda>"]),
        (not_finite, NonFiniteError, ["not_finite"]),
    ],
)
def test_frames_of_the_library_are_left_out(action: Callable[[], Any], kind: type[Exception], expected: Any) -> None:
    error = raised(action)
    assert isinstance(error, kind)
    assert functions(error) == expected


def test_errors_of_the_user_keep_all_frames() -> None:
    def fails(x: Any) -> Any:
        raise ValueError(x)

    names = functions(raised(lambda: ab.map(fails, [1])))
    assert names[0] == "<lambda>"
    assert names[-1] == "fails"
    assert "map" in names


def test_a_fault_of_the_library_keeps_all_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise CompilerBug("between two stages")

    monkeypatch.setattr("autobatch.engine.forward.schedule", broken)
    with ab.backend("numpy"):
        names = functions(raised(lambda: float(ab.tensor(1.0) * 2.0 + 3.0)))
    assert names[-1] == "broken"
    assert "run_tape" in names


def test_all_frames_are_shown_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOBATCH_TRACEBACK", "full")
    names = functions(raised(mismatch))
    assert names[0] == "mismatch"
    assert len(names) > 2


def test_nothing_is_traced_after_an_error_that_was_caught() -> None:
    def caught_inside(x: Any) -> Any:
        with contextlib.suppress(OpTypeError):
            mismatch()
        try:
            mismatch()
        except OpTypeError:
            assert sys.gettrace() is None
        return ab.tensor(x)

    def another(x: Any) -> Any:
        try:
            mismatch()
        except OpTypeError as error:
            raise KeyError from error

    for _ in range(2):
        assert len(ab.map(caught_inside, [1.0, 2.0])) == 2
        assert sys.gettrace() is None
    with pytest.raises(KeyError):
        ab.map(another, [1.0])
    OpTypeError("made, and not raised")
    assert sys.gettrace() is None
    error = raised(lambda: ab.map(with_finally, [1]))
    assert functions(error)[-2:] == ["with_finally", "mismatch"]


def test_who_traces_is_not_disturbed() -> None:
    seen = []

    def tracer(frame: Any, event: str, argument: Any) -> None:
        seen.append(event)

    sys.settrace(tracer)
    try:
        with pytest.raises(OpTypeError):
            mismatch()
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(None)
    assert seen


def test_in_a_coroutine() -> None:
    async def main() -> Any:
        await asyncio.sleep(0)
        return mismatch()

    assert functions(raised(lambda: asyncio.run(main())))[-2:] == ["main", "mismatch"]


SCRIPT = """
    import autobatch as ab

    def compose(x):
        return x + ab.tensor([1.0, 2.0, 3.0])

    def run():
        ab.map(compose, [ab.ones(2)])

    RUN
"""


@pytest.mark.parametrize("way", ["script", "thread", "interpreter"])
@pytest.mark.parametrize("full", [False, True])
def test_what_is_printed(tmp_path: Path, way: str, full: bool) -> None:
    run = {
        "script": "run()",
        "thread": "import threading; t = threading.Thread(target=run); t.start(); t.join()",
        "interpreter": "import code; code.InteractiveInterpreter(globals()).runsource('run()')",
    }[way]
    script = tmp_path / "model.py"
    script.write_text(textwrap.dedent(SCRIPT.replace("RUN", run)), encoding="utf-8")
    package = Path(ab.__file__).parent
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    environment.pop("AUTOBATCH_TRACEBACK", None)
    if full:
        environment["AUTOBATCH_TRACEBACK"] = "full"
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert "OpTypeError: add: shapes do not broadcast" in done.stderr
    assert "in compose" in done.stderr
    assert (str(package) in done.stderr) is full


@pytest.mark.parametrize("way", [["-c", "import autobatch"], ["-m", "autobatch", "cache"]])
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("AUTOBATCH_RECORDER", "BackendError: AUTOBATCH_RECORDER: no such recorder"),
        ("AUTOBATCH_PRODUCTS", "BackendError: AUTOBATCH_PRODUCTS: no library is called 'fortran'"),
    ],
)
def test_an_environment_that_cannot_be_is_said_without_the_library(way: list[str], name: str, line: str) -> None:
    package = Path(ab.__file__).parent
    environment = {**os.environ, "PYTHONPATH": str(package.parent), name: "fortran"}
    environment.pop("AUTOBATCH_TRACEBACK", None)
    done = subprocess.run([sys.executable, *way], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and line in done.stderr
    assert str(package) not in done.stderr
