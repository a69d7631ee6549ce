"""Every Python block of the README runs, one after the other, and prints the text block that follows it."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parent.parent / "README.md"
TRAIN = """\
(3 (2 a) (3 (3 good) (2 film)))
(1 (1 (1 dull) (2 (2 and) (1 long))) (2 film))
(2 long)
"""


def blocks() -> list[tuple[int, str, str | None]]:
    """(line, code, what it prints) of each Python block; None where nothing is said of that."""
    text = README.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", text, re.MULTILINE | re.DOTALL)
    return [(text[: m.start()].count("\n") + 2, m.group(1), m.group(2)) for m in found]


def without_places(text: str) -> str:
    """The text without the lines of files, which depend on who runs it."""
    return re.sub(r"recorded at .*", "recorded at …", text)


def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.txt").write_text(TRAIN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {"__name__": "readme"}
    assert len(blocks()) > 5
    for line, code, expected in blocks():
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * (line - 1) + code, str(README), "exec"), scope)
        if expected is not None:
            assert without_places(printed.getvalue()) == without_places(expected), f"the block at line {line}"


def test_first_screen_is_in_order() -> None:
    text = README.read_text(encoding="utf-8")
    parts = [
        "Write the model for one tree; train on minibatches; no padding, no masks.",
        "class TreeLSTM(nn.Module):",
        "optimizer.step()",
        "make demo",
        "make test",
        "<!-- demo -->",
        "<!-- ratios -->",
        "What does not batch yet",
        "## Install",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
