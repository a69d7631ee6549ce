"""A module of a user's own, from which the tests of guards take a function by name."""

from __future__ import annotations

from typing import Any

FACTOR = 2.0
LIST: list[float] = [1.0]


def scaled(x: Any) -> Any:
    return x * FACTOR + LIST[0]
