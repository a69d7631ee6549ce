"""A counter that moves whenever an attribute of any module is set, so that cells know when to check their guards."""

from __future__ import annotations

import itertools

_numbers = itertools.count(1)
epoch: list[int] = [0]
"""The current number; compare, never count."""


def changed() -> None:
    """Note that some module changed."""
    epoch[0] = next(_numbers)
