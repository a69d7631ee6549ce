"""What generated CUDA kernels have in common: `HEADER`, the text that stands before the kernels of a program, and
`RESIDENT`, which follows it where one kernel does the work of many launches."""

from __future__ import annotations

from pathlib import Path

HEADER, RESIDENT = ((Path(__file__).parent / name).read_text("utf-8") for name in ("kernels.h", "resident.h"))
