"""Packages of the extra `demo`, missing or broken."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from autobatch.demo.optional import demo_package
from autobatch.errors import MissingExtraError


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.delitem(sys.modules, "rich.progress", raising=False)
    with pytest.raises(MissingExtraError, match=r"rich is not installed\n  repair: pip install .*\[demo\]"):
        demo_package("rich.progress")


def test_a_package_that_lacks_something_else_says_what(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tmp_path.joinpath("half_installed.py").write_text("import not_there_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        demo_package("half_installed")
