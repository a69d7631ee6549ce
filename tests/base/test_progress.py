"""The line that says what is compiled: where it is written, and that it is removed."""

from __future__ import annotations

import io
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from autobatch.base import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.delenv("AUTOBATCH_QUIET", raising=False)
    monkeypatch.setattr(progress, "_shown", [])
    stream = Terminal()
    stderr_is(monkeypatch, stream)
    return stream


def stderr_is(monkeypatch: pytest.MonkeyPatch, stream: Any) -> None:
    """For the module alone: pytest has its own between a fixture and its test."""
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream, modules=sys.modules))


def on_screen(stream: io.StringIO) -> str:
    """What is left of the line."""
    row = ""
    for text in stream.getvalue().split("\r"):
        row = text + row[len(text) :]
    return row.strip()


def compiled(seconds: float = 1.0) -> None:
    compiling = progress.Compiling()
    compiling.seconds = seconds
    compiling.begin("loop", "/cache")
    compiling.end()


def test_a_line_says_what_is_compiled_and_is_gone_when_it_is(terminal: Terminal) -> None:
    compiling = progress.Compiling()
    compiling.begin("short", None)
    assert terminal.getvalue() == ""  # for a moment nobody is told
    compiling.end()
    compiling.seconds = 2.0
    compiling.begin("a_long_name", "/cache")
    assert on_screen(terminal) == "autobatch: compiling a_long_name, function 2, 2 s so far; they are cached in /cache"
    compiling.begin("short", None)
    assert on_screen(terminal) == "autobatch: compiling short, function 3, 2 s so far"
    compiling.end()
    assert on_screen(terminal) == "" and "\n" not in terminal.getvalue()


def test_it_is_written_where_somebody_sees_it(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled()
    assert terminal.getvalue()
    terminal.seek(0)
    terminal.truncate()
    monkeypatch.setenv("AUTOBATCH_QUIET", "1")
    compiled()
    monkeypatch.delenv("AUTOBATCH_QUIET")
    thread = threading.Thread(target=compiled)
    thread.start()
    thread.join()
    with monkeypatch.context() as patch:
        patch.setattr(progress, "_is_child", lambda: True)
        compiled()
    assert terminal.getvalue() == ""
    for stream in (io.StringIO(), None):
        with monkeypatch.context() as patch:
            stderr_is(patch, stream)
            compiled()
        assert stream is None or stream.getvalue() == ""


def test_a_stream_of_a_notebook_is_watched(terminal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    stderr_is(monkeypatch, stream)
    compiled()
    assert "compiling loop" in stream.getvalue() and on_screen(stream) == ""
