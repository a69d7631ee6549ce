"""A user's program passes mypy and pyright in strict mode, and runs; mistakes are found; `dir` shows public names."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import autobatch as ab

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MISTAKES = HERE / "mistakes.py"


def run(*command: str) -> str:
    environment = os.environ | {"MYPYPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=HERE, env=environment, stdout=subprocess.PIPE, text=True, timeout=300
    ).stdout


def mypy() -> dict[tuple[str, int], str]:
    """Errors by file and line."""
    output = run(
        "mypy",
        "--strict",
        "--follow-imports=silent",  # the library has settings of its own
        "--config-file=",
        f"--cache-dir={ROOT / '.mypy_cache' / 'typing'}",
        "program.py",
        "mistakes.py",
    )
    assert "checked 2 source files" in output, output
    return {(m[1], int(m[2])): m[0] for m in re.finditer(r"^(\w+\.py):(\d+): error: .*", output, re.MULTILINE)}


def pyright() -> dict[tuple[str, int], str]:
    """The same by pyright, of which basedpyright is a build that needs no Node.js."""
    pytest.importorskip("basedpyright")
    output = json.loads(run("basedpyright", "--outputjson", "--pythonpath", sys.executable))
    assert output["summary"]["filesAnalyzed"] == 2, output
    found = output["generalDiagnostics"]
    return {(Path(d["file"]).name, d["range"]["start"]["line"] + 1): d["message"] for d in found}


@pytest.mark.slow
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_program_has_no_errors_and_each_mistake_is_found(checker: Any) -> None:
    expected = {("mistakes.py", n) for n, line in enumerate(MISTAKES.read_text().splitlines(), 1) if "# error" in line}
    found = checker()
    assert not {place: text for place, text in found.items() if place not in expected}
    assert not expected - set(found)


@pytest.mark.slow
@pytest.mark.unchecked
def test_the_program_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(HERE / "program.py"), run_name="__main__")
    assert capsys.readouterr().out


def test_dir_shows_public_names_only() -> None:
    assert dir(ab) == sorted(ab.__all__)
    assert not [name for name in dir(ab) if name.startswith("_") or not hasattr(ab, name)]
