"""Stands in for the process with DyNet: the same messages and loop, with arithmetic in place of a model.

Examples are sentences. A word of 100 or more is an order: fail, end, or take long.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "dynet_peer"))

import protocol  # type: ignore[import-not-found]

FAIL, END, TAKE_LONG = 100, 101, 102


class Arithmetic:
    """The loss is the sum of the parameter `w` times the sum of all words; a step adds 1 to `w`."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.w = content["parameters"]["w"].copy()
        self.examples = content["examples"]

    def step(self, indices: list[int]) -> float:
        loss, _ = self.gradients(indices)
        self.w += 1
        return loss

    def gradients(self, indices: list[int]) -> tuple[float, dict[str, np.ndarray]]:
        words = [word for index in indices for word in self.examples[index][0]]
        if FAIL in words:
            raise ArithmeticError("asked to fail")
        if END in words:
            print("last words", file=sys.stderr, flush=True)
            os._exit(7)
        if TAKE_LONG in words:
            time.sleep(60)
        return float(self.w.sum() * sum(words)), {"w": np.full_like(self.w, sum(words))}


if __name__ == "__main__":
    protocol.serve(sys.stdin.buffer, sys.stdout.buffer, Arithmetic)
