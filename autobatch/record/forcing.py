"""Hooks by which a value calls the engine: forcing and gradients. The engine sets them when it is imported, so that the
classes of values need not import it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..base.types import Array


class _Engine:
    """
    compute: the array of a tensor, run together with all that is pending
    backward: adds gradients of a tensor to those of the parameters; True retains the recording
    backward_of_shared: the same for a value made of parameters alone
    carries_gradient: whether a parameter leads to a value (recording, number)
    """

    compute: Callable[[Any], Array]
    backward: Callable[[Any, bool], None]
    backward_of_shared: Callable[[Any, bool], None]
    carries_gradient: Callable[[Any, int], bool]


engine = _Engine()
