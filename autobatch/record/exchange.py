"""Values among arrays of other libraries: the array API's namespace of a value, and its memory by DLPack."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops.value import Tensor
from . import array_api
from .creation import check_device


def array_namespace(self: Tensor, *, api_version: str | None = None) -> Any:
    """The functions of the array API standard on values. Raises ValueError for a version that is not known."""
    if api_version is not None and api_version not in array_api.VERSIONS:
        raise ValueError(f"version {api_version!r} of the array API is not known; {array_api.VERSIONS[-1]} is")
    return array_api


def dlpack(
    self: Tensor, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None
) -> Any:
    """Force, and give a copy of the numbers to another library; raises where that would lose a gradient."""
    if copy is False:
        raise ValueError("the numbers of a lazy value are always copied")
    return np.asarray(self).__dlpack__(max_version=max_version, dl_device=dl_device)


def dlpack_device(self: Tensor) -> tuple[int, int]:
    """The host's memory, where forced values are."""
    return (1, 0)


def to_device(self: Tensor, device: Any, /, *, stream: Any = None) -> Tensor:
    """The value itself: `model.to` moves parameters, and with them what is computed."""
    check_device(device)
    return self


for _name, _method in {
    "__array_namespace__": array_namespace,
    "__dlpack__": dlpack,
    "__dlpack_device__": dlpack_device,
    "to_device": to_device,
    "device": property(lambda self: "cpu", doc="Where forced values are read: the host."),
}.items():
    setattr(Tensor, _name, _method)
