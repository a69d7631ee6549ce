"""A GPU: `cupy_device` is the device that CuPy gives, `cupy_missing` says what it lacks where there is none.

`HEADER`, the files `kernels.h` and `whole.h`, is what generated kernels have in common. Nothing here is imported where
no GPU is used.
"""

from __future__ import annotations

from pathlib import Path

HEADER = "".join((Path(__file__).parent / name).read_text("utf-8") for name in ("kernels.h", "whole.h"))
