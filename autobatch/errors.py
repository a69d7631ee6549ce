"""The errors that the library raises, all of them `AutobatchError`, but for the warning."""

from __future__ import annotations

from .base.errors import (
    AutobatchError,
    BackendError,
    CacheWarning,
    CellError,
    CompilerBug,
    DeviceMemoryError,
    MissingExtraError,
    NonFiniteError,
    OpIndexError,
    OpTypeError,
    RecordingError,
)

__all__ = [
    "AutobatchError",
    "BackendError",
    "CacheWarning",
    "CellError",
    "CompilerBug",
    "DeviceMemoryError",
    "MissingExtraError",
    "NonFiniteError",
    "OpIndexError",
    "OpTypeError",
    "RecordingError",
]

for _name in __all__:
    globals()[_name].__module__ = __name__  # tracebacks name it so
