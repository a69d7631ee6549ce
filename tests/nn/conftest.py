"""Layers are compared in float64, where rounding does not hide mistakes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import autobatch as ab


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    ab.set_default_dtype("float64")
    ab.seed(0)
    yield
    ab.set_default_dtype("float32")
