"""State dicts on disk, in the safetensors format that other libraries read too."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors import numpy as safetensors

from .backends.transfer import is_on_device, to_host
from .errors import message
from .parameter import Buffer, Parameter

if TYPE_CHECKING:
    from .nn import Module

_KINDS = "biuf"  # bool, integers, floats
_LARGEST_ITEM = 8  # bytes
_DTYPES = {
    "BOOL": np.dtype(np.bool_),
    **{f"I{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
    "BF16": np.dtype("<u2"),
}


def save(path: str | os.PathLike[str], state: Mapping[str, Any] | Module) -> None:
    """Write a module, or a state dict of a module or an optimiser, to `path`.

    The file is written beside `path` and put in its place when complete: at any moment `path` holds all of the old
    state or all of the new one, also when the machine stops or the user presses Ctrl-C.

    Arguments:
        path: file to make or to replace; its folder must exist.
        state: arrays by name, or anything that has a `state_dict()`.

    Raises TypeError, listing them, for values that are no boolean, integer or floating arrays; OSError where the file
    cannot be written.

    >>> import os, tempfile
    >>> import autobatch as ab
    >>> from autobatch import nn
    >>> layer, other = nn.Linear(2, 3), nn.Linear(2, 3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "layer.safetensors")
    ...     ab.save(path, layer)
    ...     _ = other.load_state_dict(ab.load(path))
    >>> bool((layer.weight.value == other.weight.value).all())
    True
    """
    if not isinstance(state, Mapping):
        if not hasattr(state, "state_dict"):
            wanted = "a module or a state dict"
            raise TypeError(message("save: nothing to write", expected=wanted, got=type(state).__name__))
        state = cast("Mapping[str, Any]", state.state_dict())
    arrays, faults = {}, []
    for name, value in state.items():
        try:
            array = as_array(value)
        except TypeError as fault:
            faults.append(f"{name!r}: {fault}")
            continue
        if not isinstance(name, str) or array.dtype.kind not in _KINDS or array.dtype.itemsize > _LARGEST_ITEM:
            faults.append(f"{name!r}: {array.dtype} {type(value).__name__}")
        # The writer takes the bytes as they lie.
        arrays[name] = np.require(array, array.dtype.newbyteorder("="), requirements="C")
    if faults:
        listed = "".join(f"\n  {fault}" for fault in faults)
        raise TypeError(f"save: only named arrays of booleans, integers and floats can be written{listed}")
    target = Path(os.path.realpath(path))  # behind a link, the file is replaced, not the link
    beside = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        beside.touch(exist_ok=False)  # errors of the file system as OSError, with the path in them
        mode = beside.stat().st_mode
        safetensors.save_file(arrays, beside)
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        beside.chmod(mode)  # the writer makes files that nobody else can read
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Read a state dict that `save`, or another library, has written in the safetensors format.

    Returns arrays by name, copies in memory that may be changed. bfloat16, which NumPy lacks, comes as float32.

    Raises FileNotFoundError, or another OSError, where the file cannot be read, and ValueError where it is no complete
    safetensors file or holds a dtype that NumPy lacks.
    """
    with open(path, "rb") as file:
        data = file.read()
    try:
        entries = deserialize(data)
    except SafetensorError as fault:
        raise ValueError(f"load: {os.fspath(path)} is no complete safetensors file: {fault}") from fault
    unknown = [f"{name}: {entry['dtype']}" for name, entry in entries if entry["dtype"] not in _DTYPES]
    if unknown:
        listed = "".join(f"\n  {fault}" for fault in unknown)
        raise ValueError(f"load: {os.fspath(path)} holds dtypes that NumPy lacks{listed}")
    return {name: _decoded(entry) for name, entry in entries}


def as_array(value: Any) -> np.ndarray[Any, Any]:
    """The NumPy array of a parameter, buffer, PyTorch tensor or array; TypeError where there is none. A copy only of
    what lies on a device."""
    if isinstance(value, (Parameter, Buffer)):
        return to_host(value.value)
    if is_on_device(value):
        return to_host(value)
    if hasattr(value, "detach") and hasattr(value, "cpu"):  # PyTorch, which need not be installed
        return np.asarray(value.detach().cpu().numpy())
    return np.asarray(value)


def _decoded(entry: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """One entry of a safetensors file as an array that may be changed."""
    stored = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
    if entry["dtype"] == "BF16":  # the upper half of a float32
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return np.require(stored, stored.dtype.newbyteorder("="), requirements="W")
