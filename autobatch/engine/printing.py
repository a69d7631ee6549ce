"""`ab.print`: values that are printed once they are computed."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from ..base.types import Array
from ..ops.value import Tensor
from ..record.context import NotTraced, refuse_if_kept
from ..record.tape import OPEN, Recording, state
from ..record.tensor import RecordedTensor, known_value


def print(label: str, t: Any) -> None:
    """Print a value once it is computed, with its label and, inside `ab.map`, the number of the example.

    Arguments:
        label: what stands in front of the value.
        t: a tensor of any shape and dtype, a parameter, an array or a number.

    Nothing is forced and no example waits: a value that is pending is printed when the recording runs, by `backward()`
    or where some value is forced, and counts as wanted until then; what is known already is printed at once. Values of
    one recording are printed in the order of these calls. A call of a cell that prints is recorded op by op. Raises
    `RecordingError` inside `ab.map(..., reuse=True)`, whose function is not called again.

    >>> def double(x):
    ...     y = ab.tensor(x) * 2.0
    ...     ab.print("y", y)
    ...     return y.sum()
    >>> total = ab.sum(ab.map(double, [[1.0, 2.0], [3.0]]))
    >>> value = float(total)
    y, example 0: [2. 4.]
    y, example 1: [6.]
    """
    refuse_if_kept("a value is printed")
    if state.builder is not None:
        raise NotTraced
    example = state.example if state.depth else -1
    if isinstance(t, RecordedTensor) and t._tape.state == OPEN and known_value(t) is None:
        t._tape.prints.append((label, example, t))
    else:
        _show(label, example, t.numpy() if isinstance(t, Tensor) else np.asarray(t))


def print_values(tape: Recording) -> None:
    """Print what was asked for in a recording that has run; a value that raised an error is not there."""
    prints, tape.prints = tape.prints, []
    for label, example, t in prints:
        if t._id not in tape.failed:
            _show(label, example, t.numpy())


def _show(label: str, example: int, value: Array) -> None:
    of = "" if example < 0 else f", example {example}"
    builtins.print(f"{label}{of}:", np.array2string(value, precision=4))
