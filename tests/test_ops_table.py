"""The table of ops in the documents is what the declarations say now, and names what there is elsewhere."""

from __future__ import annotations

import operator
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.ops import OPS

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "make_ops.py"))


def test_the_table_of_ops_is_up_to_date(made: dict[str, Any]) -> None:
    assert (DOCS / "ops.md").read_text(encoding="utf-8") == made["table"](), "run python docs/make_ops.py"


def test_the_lists_of_the_table_of_ops_hold_nothing_that_is_not_in_it(made: dict[str, Any]) -> None:
    names = set(made["functions"]())
    for listed in ("NUMPY", "TORCH", "FUNCTIONAL", "OTHER_NAMES", "OWN_NAMES"):
        assert {name.removeprefix("linalg.") for name in made[listed]} <= names, listed
    assert made["NOT_OPS"] <= set(ab.__all__)
    assert set(made["OWN_NAMES"].values()) <= set(OPS)
    assert made["OTHER_NAMES"].keys().isdisjoint(made["NUMPY"] | made["TORCH"] | made["FUNCTIONAL"])


def test_the_table_of_ops_names_what_there_is(made: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    for space, names in ((np, made["NUMPY"]), (torch, made["TORCH"]), (torch.nn.functional, made["FUNCTIONAL"])):
        for name in names:
            operator.attrgetter(name)(space)
