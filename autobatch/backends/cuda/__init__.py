"""What generated CUDA kernels have in common: `HEADER`, the text that stands before the kernels of a program."""

from __future__ import annotations

from pathlib import Path

HEADER = (Path(__file__).parent / "kernels.h").read_text("utf-8")
