"""Appending a node: by `write`, or by the same lines generated inline where a call would cost too much.

Both keep to the protocol of `tape`: what can fail comes before `count` is `WRITING`, and only then are lists changed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any

from ..base.errors import user_place
from ..base.tracebacks import PACKAGE
from ..base.types import Array, Type
from .choice import compiled as chosen
from .tape import WRITING, Recording
from .tensor import RecordedTensor

SCOPE: dict[str, Any] = {"WRITING": WRITING, "getframe": sys._getframe, "Tensor": RecordedTensor}
"""What generated lines need."""


def _write(
    tape: Recording,
    number: int,
    operands: Sequence[int],
    types: Sequence[Type],
    place: tuple[CodeType | None, int] | None = None,
    ints: Sequence[int] = (),
    floats: Sequence[float] = (),
    array: Array | tuple[int, int, int] | None = None,
) -> list[RecordedTensor]:
    """Write one node, whole or not at all; the tensors of its results.

    Args:
        number: of the node's signature on this tape.
        operands: value numbers; before those of a list its length.
        types: of the results.
        place: what recorded it; the caller's line unless given.
        ints, floats: its data.
        array: what a node without operands holds, or where that is to be read, as `Recording.linked` has it.

    Raises `RecordingError` if an earlier write was interrupted.
    """
    code, instruction = user_place() if place is None else place
    if code is not tape.user_code:
        tape.note_code(code)
    if tape.count + len(types) - 1 > tape.room:
        tape.more_tensors(tape.count + len(types) - 1)
    first = tape.count  # only now: where objects are made, finalisers may run, and record
    after = first + len(types)
    tape.count = WRITING
    tape.ints += ints
    tape.floats += floats
    if isinstance(array, tuple):
        tape.linked += array
    elif array is not None:
        tape.payloads.append((first, array))
    tape.stream += (number, *operands)
    tape.places.append(instruction)
    if after > first + 1:
        tape.beyond += range(first, after - 1)
    made = tape.tensors[first:after]
    for t, type in zip(made, types, strict=True):
        t._tape = tape
        t._type = type
    tape.count = after
    return made


write: Callable[..., list[RecordedTensor]] = _write if chosen is None else chosen.write


def writing(
    number: str,
    operands: Sequence[str],
    types: Sequence[str],
    ints: Sequence[str] = (),
    floats: Sequence[str] = (),
    frame: str = "",
    p: str = "",
    linked: Sequence[str] = (),
) -> list[str]:
    """The lines that write a node of at most `AHEAD` results, as code; the results are r0, r1, …

    Args:
        number, operands, types, ints, floats: expressions, of what `write` has under these names.
        frame: of the innermost call that may be the user's; the caller of the function with these lines unless given.
        p: what all names begin with: tape, those of `SCOPE`, and those that are assigned.
        linked: where the value is to be read, as `Recording.linked` has it.
    """
    lines = [
        f"{p}frame = {frame or f'{p}getframe(1)'}",
        f"{p}place = {p}frame.f_lasti if {p}frame.f_code is {p}tape.user_code else {p}tape.place_from({p}frame)",
        f"{p}n = {p}tape.count",
        f"if {p}n > {p}tape.room:",
        f"    {p}tape.more_tensors({p}n)",
        f"    {p}n = {p}tape.count",  # where objects are made, finalisers may run, and record
        f"{p}tape.count = {p}WRITING",
    ]
    data = {"ints": ints, "floats": floats, "linked": linked, "stream": (number, *operands), "places": (f"{p}place",)}
    for name, added in data.items():
        if len(added) == 1 and added[0][0] != "*":
            lines.append(f"{p}tape.{name}.append({added[0]})")
        elif added:
            lines.append(f"{p}tape.{name}.extend(({', '.join(added)},))")
    values = [f"{p}n + {k}" if k else f"{p}n" for k in range(len(types))]
    lines += [f"{p}tape.beyond.append({value})" for value in values[:-1]]
    for k, (value, type) in enumerate(zip(values, types, strict=True)):
        lines += [f"{p}r{k} = {p}tape.tensors[{value}]", f"{p}r{k}._tape = {p}tape", f"{p}r{k}._type = {type}"]
    return [*lines, f"{p}tape.count = {p}n + {len(types)}"]


def compiled(header: str, lines: Sequence[str], scope: dict[str, Any]) -> Any:
    """The function with this header and body; it counts as the library's own."""
    scope["__name__"] = __name__
    exec(compile("\n    ".join([header, *lines]), f"{PACKAGE}<recording>", "exec"), scope)
    return scope[header.removeprefix("def ").partition("(")[0]]


write_known: Any = compiled(
    "def write_known(tape, known, operands, frame):",
    [*writing("known[0]", ["*operands"], ["known[1]"], frame="frame"), "return r0"],
    dict(SCOPE),
)
"""Write a node of one result whose signature's number and type this tape knows; it is recorded by this frame."""
