"""Launches by policy: what the documentation says is what the command counts."""

from __future__ import annotations

import pytest

from benchmarks import schedules


def test_the_documented_table_is_what_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert schedules.main(["dags"]) == 0
    header, rule, row = capsys.readouterr().out.splitlines()
    text = schedules.DOCS.read_text(encoding="utf-8")
    table = text.partition(schedules.BEGIN)[2].partition(schedules.END)[0]
    assert table.startswith(f"\n{header}\n{rule}\n") and row in table
    assert all(title in table for title in schedules.PROGRAMS.values())
