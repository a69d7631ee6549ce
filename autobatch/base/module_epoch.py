"""A counter that is incremented whenever an attribute of any module or of its class is set: cells then check again."""

from __future__ import annotations

import itertools
from typing import Any, Protocol

_numbers = itertools.count(1)
epoch: list[int] = [0]
"""The current number; compare, never count."""


def changed() -> None:
    """Note that some module changed."""
    epoch[0] = next(_numbers)


class Noted(type(Protocol)):  # type: ignore[misc]  # derived, so that modules can be abstract, and follow protocols
    """The class of classes whose attributes, set or deleted, move the epoch."""

    def __setattr__(cls, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        changed()

    def __delattr__(cls, name: str) -> None:
        super().__delattr__(name)
        changed()

    __instancecheck__ = type.__instancecheck__  # those of protocols take longer
    __subclasscheck__ = type.__subclasscheck__
