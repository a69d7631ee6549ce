"""What the benchmarks and the process with DyNet say to each other. Both sides read this file.

Messages are pickles of (kind, content), made of lists, tuples, dicts, strings and numbers alone, on the standard input
and output of the process; an array goes as dtype, shape and bytes. So the two sides may have different versions of
Python and NumPy. Requests and their replies:

    ("start", {"workload", "dim", "strategy", "parameters", "examples"})    ("ready", None)
    ("step", indices of the minibatch's examples)                           ("loss", loss)
    ("gradients", indices)                                                  ("gradients", (loss, packed gradients))

A request that fails is answered by ("error", traceback). The process ends when its input ends.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from typing import IO, Any, Protocol

import numpy as np


class Program(Protocol):
    """What the process runs once it was told to start."""

    def step(self, indices: list[int]) -> float:
        """One step of training on these examples. Returns the summed loss before the update."""

    def gradients(self, indices: list[int]) -> tuple[float, dict[str, np.ndarray]]:
        """The summed loss and its dense gradients under the names of the parameters; nothing is updated."""


def send(stream: IO[bytes], kind: str, content: Any) -> None:
    """Write one message."""
    pickle.dump((kind, content), stream, protocol=4)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[str, Any]:
    """Read one message; EOFError when the other side has closed."""
    return pickle.load(stream)


def packed(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Arrays as plain values."""
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}


def unpacked(arrays: dict[str, Any]) -> dict[str, np.ndarray]:
    """Arrays from plain values."""
    return {name: np.frombuffer(data, dtype).reshape(shape) for name, (dtype, shape, data) in arrays.items()}


def serve(requests: IO[bytes], replies: IO[bytes], start: Callable[[dict[str, Any]], Program]) -> None:
    """Answer requests until there are no more; `start` makes the program from the content of the first."""
    program: Program | None = None
    while True:
        try:
            kind, content = receive(requests)
        except EOFError:
            return
        try:
            if kind == "start":
                program = start({**content, "parameters": unpacked(content["parameters"])})
                send(replies, "ready", None)
            elif program is None:
                raise RuntimeError(f"asked for {kind!r} before the start")
            elif kind == "step":
                send(replies, "loss", program.step(content))
            elif kind == "gradients":
                loss, gradients = program.gradients(content)
                send(replies, "gradients", (loss, packed(gradients)))
            else:
                raise ValueError(f"no such request: {kind!r}")
        except Exception:
            send(replies, "error", traceback.format_exc())
