"""Arrays of the host and of the device: which of them one is, and copies from one to the other.

An array of the host is NumPy's; any other array here belongs to the device in use. Nothing is ever converted without
one of these functions: each of them that leads to the host waits for the device.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .device import current_device

DEVICES = frozenset(("cupy",))
"""Backends whose arrays are not the host's."""

_OF_THE_HOST = (np.ndarray, np.generic)


def is_on_device(array: Any) -> bool:
    """Whether an array belongs to a device.

    >>> is_on_device(np.zeros(2)), is_on_device(np.float32(1))
    (False, False)
    """
    return not isinstance(array, _OF_THE_HOST) and hasattr(array, "data") and hasattr(array, "get")


def to_host(array: Any, moment: Any = None) -> np.ndarray[Any, Any]:
    """The array where it is the host's, else a copy there; waits for the device, or until an earlier moment on it.

    >>> to_host(np.zeros(2))
    array([0., 0.])
    """
    return current_device().numpy(array, moment) if is_on_device(array) else np.asarray(array)


def to_device(array: Any) -> Any:
    """The array where it is the device's, else a copy there."""
    return array if is_on_device(array) else current_device().array(np.asarray(array, order="C"))


def place_of(array: Any) -> str:
    """Where an array is: the name of the device's backend, or "the host"."""
    return current_device().name if is_on_device(array) else "the host"


def copy_of(array: Any) -> Any:
    """A copy of an array, in the same place."""
    return array.copy() if is_on_device(array) else np.array(array)


def plus(a: Any, b: Any) -> Any:
    """a + b, on the device where one of them is there."""
    return to_device(a) + to_device(b) if is_on_device(a) or is_on_device(b) else a + b
