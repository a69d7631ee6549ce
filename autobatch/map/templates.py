"""What a function returned, without its tensors: how to build the same nesting around tensors of another recording.

(loss, {"states": [h, c], "length": 3})
  tensors  0: value 9 f32[], 1: value 4 f32[8], 2: value 5 f32[8]
  steps    tensor 0, tensor 1, tensor 2, list of 2, object 3, dict of 2, tuple of 2
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..base.types import Type
from ..record.containers import filled, keys_of, kind_of, parts_of
from ..record.expressions import Tied
from ..record.shared import Shared
from ..record.tape import Recording
from ..record.tensor import RecordedTensor

_new: Any = RecordedTensor.__new__


@dataclass(slots=True)
class Template:
    """A result as steps: push a tensor, a shared value, an object or a copy of an array; make a container of these.

    tensors: of each, whether its value belongs to the recording rather than to the example, its number, its type
    alone: number and type where the result is one tensor of the example, which is most often so
    """

    tensors: list[tuple[bool, int, Type]]
    steps: list[tuple[str, Any]]
    alone: tuple[int, Type] | None = field(init=False)

    def __post_init__(self) -> None:
        only = len(self.steps) == 1 and self.tensors and not self.tensors[0][0]
        self.alone = self.tensors[0][1:] if only else None

    def build(self, tape: Recording, base: int, outside: Sequence[int], made: list[RecordedTensor]) -> Any:
        """The result of an example whose first value is `base`; the tensors made are appended to `made`."""
        first = len(made)
        for is_outside, number, type in self.tensors:
            t: RecordedTensor = _new(RecordedTensor)
            t._tape = tape
            t._id = int(outside[number]) if is_outside else base + number
            t._type = type
            made.append(t)
        stack: list[Any] = []
        for what, x in self.steps:
            if what == "tensor":
                stack.append(made[first + x])
            elif what == "object":
                stack.append(x)
            elif what == "shared":
                stack.append(x())
            elif what == "array":
                stack.append(x.copy())
            else:
                kind, n, keys = x
                parts = stack[len(stack) - n :]
                del stack[len(stack) - n :]
                stack.append(filled(kind, keys, parts))
        return stack[0]

    def same(self, other: Template) -> bool:
        """Whether both build the same."""
        return (
            self.tensors == other.tensors
            and len(self.steps) == len(other.steps)
            and all(a == b and _same(x, y) for (a, x), (b, y) in zip(self.steps, other.steps, strict=True))
        )


def template_of(result: Any, tape: Recording, number: Callable[[RecordedTensor], tuple[bool, int]]) -> Template:
    """The template of a result. `number` says of a tensor of the recording whether it is outside, and its number."""
    tensors: list[tuple[bool, int, Type]] = []
    slots: dict[int, int] = {}
    steps: list[tuple[str, Any]] = []
    stack: list[tuple[Any, Any]] = [(result, None)]
    while stack:
        x, make = stack.pop()
        if make is not None:
            steps.append(("make", make))
        elif isinstance(x, RecordedTensor) and x._tape is tape:
            if x._id not in slots:
                slots[x._id] = len(tensors)
                tensors.append((*number(x), x._type))
            steps.append(("tensor", slots[x._id]))
        elif isinstance(x, list | tuple | dict):
            parts = parts_of(x)
            stack.append((None, (kind_of(x), len(parts), keys_of(x))))
            stack += [(part, None) for part in reversed(parts)]
        else:
            shared = isinstance(x, Shared)
            array = type(x) is np.ndarray
            steps.append(("shared", Tied(x, (x,))) if shared else ("array", x.copy()) if array else ("object", x))
    return Template(tensors, steps)


def same_array(a: Any, b: Any) -> bool:
    """Whether two arrays are equal to the bit."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _same(x: Any, y: Any) -> bool:
    if x is y:
        return True
    if type(x) is not type(y):
        return False
    if isinstance(x, Tied):
        return bool(x() is y())
    if isinstance(x, np.ndarray):
        return same_array(x, y)
    try:
        return bool(x == y)
    except Exception:
        return False
