"""Packages of the extra `demo` that are not there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from autobatch.base.extras import fault
from autobatch.demo.optional import left_out


def test_a_missing_package_is_named_with_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    line = left_out(("rich", "sklearn"))
    assert line == "left out: progress bar (rich), baselines (scikit-learn); pip install 'autobatch-compiler[demo]'"


def test_a_package_that_cannot_be_imported_is_left_out_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_extra.py").write_text("raise ImportError('numpy.core\\nfailed')")
    (tmp_path / "incomplete_extra.py").write_text("import no_such_package")
    assert fault("broken_extra") == "ImportError: numpy.core failed"
    assert fault("incomplete_extra") == "ModuleNotFoundError: No module named 'no_such_package'"
    (tmp_path / "rich.py").write_text("raise ValueError('old')")
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    assert left_out(("rich",)).startswith("left out: progress bar (rich: ValueError: old); pip install")
