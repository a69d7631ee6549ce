"""Packages of the extra `demo` that are not there."""

from __future__ import annotations

import sys

import pytest

from autobatch.demo.optional import left_out


def test_a_missing_package_is_named_with_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    line = left_out(("rich", "sklearn"))
    assert line == "left out: progress bar (rich), baselines (scikit-learn); pip install 'autobatch-compiler[demo]'"
