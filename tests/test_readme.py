"""Every Python block of the README and of two tutorials runs, in order, and prints the text block that follows it."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest

import autobatch as ab
from tests import requested

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


def blocks(page: Path) -> list[tuple[int, str, str | None]]:
    """(line, code, what it prints) of each Python block; None where nothing is said of that."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", text, re.MULTILINE | re.DOTALL)
    return [(text[: m.start()].count("\n") + 2, m.group(1), m.group(2)) for m in found]


def without_places(text: str) -> str:
    """The text without the lines of files, which depend on who runs it."""
    return re.sub(r"recorded at .*", "recorded at …", text)


TUTORIALS = "docs/tutorials"


@pytest.mark.parametrize(
    ("pages", "backend"),
    [
        (("README.md", f"{TUTORIALS}/overview.md"), "numba"),
        pytest.param((f"{TUTORIALS}/own-data.md",), "numpy", marks=pytest.mark.unchecked),
    ],
)
def test_every_block_runs(
    pages: tuple[str, ...], backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ab.set_backend(requested.backend(backend))
    scope: dict[str, Any] = {"__name__": "readme"}
    found = [(ROOT / name, *block) for name in pages for block in blocks(ROOT / name)]
    assert len(found) > 5
    for page, line, code, expected in found:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * (line - 1) + code, str(page), "exec"), scope)
        if expected is not None:
            assert without_places(printed.getvalue()) == without_places(expected), f"{page}, the block at line {line}"


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
    assert text.count("\n") < 150
