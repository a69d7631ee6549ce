"""The table of ops in the documents is what the declarations say now, and names what there is elsewhere."""

from __future__ import annotations

import operator
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "make_ops.py"))


def test_the_table_of_ops_is_up_to_date(made: dict[str, Any]) -> None:
    assert (DOCS / "ops.md").read_text(encoding="utf-8") == made["table"](), "run python docs/make_ops.py"


def test_the_table_of_ops_names_what_there_is(made: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    for space, names in ((np, made["NUMPY"]), (torch, made["TORCH"]), (torch.nn.functional, made["FUNCTIONAL"])):
        for name in names:
            operator.attrgetter(name)(space)
