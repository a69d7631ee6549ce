"""State dicts on disk, in the safetensors format that other libraries read too."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from safetensors import SafetensorError, deserialize

from ..backends.transfer import is_on_device, to_host
from ..base.errors import message
from ..base.files import put
from ..record.parameter import Buffer, Parameter

if TYPE_CHECKING:
    from . import Module

_RESERVED = "__metadata__"
_LONGEST_HEADER = 100_000_000  # bytes that readers of the format accept
_DTYPES = {
    "BOOL": np.dtype(np.bool_),
    **{f"I{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
    "BF16": np.dtype("<u2"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items() if name != "BF16"}


def save(
    path: str | os.PathLike[str], state: Mapping[str, Any] | Module, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a module, or a state dict of a module or an optimiser, to `path`.

    The file is put in place when it is complete and on disk: at any moment `path` holds all of the old state or all of
    the new one, also when the machine stops or the user presses Ctrl-C; a process that is killed leaves nothing else.

    Arguments:
        path: file to make or to replace; its folder must exist.
        state: arrays by name, or anything that has a `state_dict()`.
        metadata: texts by name, kept in the header of the file.

    Raises OSError where the file cannot be written, before anything else is done; TypeError, listing them, for values
    that are no boolean, integer or floating arrays, and for metadata that are no texts; ValueError for names that
    `load` would refuse, and for texts that UTF-8 lacks.

    >>> import os, tempfile
    >>> layer, other = nn.Linear(2, 3), nn.Linear(2, 3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "layer.safetensors")
    ...     ab.save(path, layer)
    ...     _ = other.load_state_dict(ab.load(path))
    >>> bool((layer.weight.value == other.weight.value).all())
    True
    """
    target = os.fsdecode(os.path.realpath(path))  # behind a link, the file is replaced, not the link
    _check_target(target, os.fsdecode(path))
    texts = _checked_texts({} if metadata is None else metadata)
    if not isinstance(state, Mapping):
        if not hasattr(state, "state_dict"):
            wanted = "a module or a state dict"
            raise TypeError(message("save: nothing to write", expected=wanted, got=type(state).__name__))
        state = cast("Mapping[str, Any]", state.state_dict())
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    faults = []
    for name, value in state.items():
        try:
            array = as_array(value)
        except TypeError as fault:
            faults.append(f"{name!r}: {fault}")
            continue
        stored = array.dtype.newbyteorder("<")
        if not isinstance(name, str) or stored not in _NAMES:
            faults.append(f"{name!r}: {array.dtype} {type(value).__name__}")
            continue
        arrays[name] = np.require(array, stored, requirements="C")
    if faults:
        listed = "".join(f"\n  {fault}" for fault in faults)
        raise TypeError(f"save: only named arrays of booleans, integers and floats can be written{listed}")
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0]))  # so that all are aligned
    put(target, [_header(ordered, texts), *(array.reshape(-1).view(np.uint8) for _, array in ordered)])


def _check_target(target: str, path: str) -> None:
    """Raise the error of a file that cannot be written."""
    folder = os.path.dirname(target)
    if os.path.isdir(target) or path.endswith(os.sep):
        fault = errno.EISDIR
    elif not os.path.exists(folder):
        fault = errno.ENOENT
    elif not os.path.isdir(folder):
        fault = errno.ENOTDIR
    elif not os.access(folder, os.W_OK | os.X_OK):
        fault = errno.EACCES
    else:
        return
    raise OSError(fault, f"save: the file cannot be written: {os.strerror(fault)}", path)


def _checked_texts(metadata: Any) -> dict[str, str]:
    """The texts of the header; another value would make a file that no reader takes."""
    if not isinstance(metadata, Mapping):
        what = "save: metadata are no texts by name"
        raise TypeError(message(what, expected="a dict of str", got=type(metadata).__name__))
    for name, text in metadata.items():
        if not isinstance(name, str) or not isinstance(text, str):
            what, repair = "save: metadata hold something other than texts", "pass str(x), or json.dumps(x)"
            raise TypeError(message(what, expected="str", got=f"{name!r}: {text!r}"[:60], repair=repair))
        try:
            (name + text).encode()
        except UnicodeEncodeError as fault:
            raise ValueError(message(f"save: the metadata {name!r} are no text that can be encoded")) from fault
    return dict(metadata)


def _header(arrays: list[tuple[str, np.ndarray[Any, Any]]], texts: Mapping[str, str]) -> bytes:
    """What stands before the numbers: which arrays there are, and where."""
    entries: dict[str, Any] = {}
    end = 0
    for name, array in arrays:
        start, end = end, end + array.nbytes
        entries[name] = {"dtype": _NAMES[array.dtype], "shape": array.shape, "data_offsets": (start, end)}
    if _RESERVED in entries:
        raise ValueError(message(f"save: {_RESERVED!r} is no name of an array", repair="the format needs it: rename"))
    if texts:
        entries = {_RESERVED: dict(texts), **entries}
    try:
        text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as fault:
        named = next(name for name in entries if any("\ud800" <= letter <= "\udfff" for letter in name))
        raise ValueError(message(f"save: the name {named!r} is no text that can be encoded")) from fault
    text += b" " * (-len(text) % 8)
    if len(text) > _LONGEST_HEADER:
        raise ValueError(message("save: too many names", expected=f"{_LONGEST_HEADER} bytes", got=f"{len(text)}"))
    return len(text).to_bytes(8, "little") + text


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Read a state dict that `save`, or another library, has written in the safetensors format.

    Returns arrays by name, copies in memory that may be changed. bfloat16, which NumPy lacks, comes as float32.

    Raises FileNotFoundError, or another OSError, where the file cannot be read, and ValueError where it is no complete
    safetensors file or holds a dtype that NumPy lacks.

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "arrays.safetensors")
    ...     ab.save(path, {"x": np.ones(2, np.float32)})
    ...     ab.load(path)["x"]
    array([1., 1.], dtype=float32)
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


def metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts that `save`, or another library, has written into the header of a safetensors file.

    Raises OSError where the file cannot be read, and ValueError where it is no safetensors file.
    """
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length) if length <= _LONGEST_HEADER else b""
    try:
        found: dict[str, str] = json.loads(text).get(_RESERVED, {})
    except (ValueError, AttributeError) as fault:
        raise ValueError(f"load: {os.fspath(path)} is no complete safetensors file: {fault}") from fault
    return found


def as_array(value: Any) -> np.ndarray[Any, Any]:
    """The NumPy array of a parameter, buffer, PyTorch tensor or array; TypeError where there is none. A copy only of
    what is on a device."""
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
