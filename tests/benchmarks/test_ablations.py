"""Mechanisms are switched off in processes of their own, and every name that is replaced is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks import ablations
from benchmarks.ablations import BASES, MECHANISMS, measured, table

SWITCH_ALL_OFF = """
from benchmarks.ablations import MECHANISMS, switch_off
for replaced in MECHANISMS.values():
    switch_off(replaced)
"""


def test_one_mechanism_on_a_tiny_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablations, "BASES", BASES[:1])
    rows = measured(["treelstm cells 8 4"], ["merged matmuls"], 1)
    assert set(rows[0]["percent"]) == {BASES[0], "merged matmuls"}
    assert rows[0]["milliseconds"] > 0
    assert table(rows).splitlines()[-1].startswith("merged matmuls")


def test_what_is_replaced_is_there() -> None:
    assert len(MECHANISMS) > 10
    subprocess.run([sys.executable, "-c", SWITCH_ALL_OFF], check=True)
