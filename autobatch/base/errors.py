"""Every error the library raises on purpose, and the form of its message.

A message says the operation, what was expected, what came, where the user recorded it, and the repair:

    OpTypeError: matmul: inner sizes differ
      expected f[n, m] @ f[m], got f32[7, 64] @ f32[32]
      recorded at model.py:41 in compose
      repair: pass w.T, or check the width of the input
"""

from __future__ import annotations

import os
import sys
from types import CodeType, FrameType
from typing import TypeVar

import numpy as np
from greenlet import getcurrent

from .tracebacks import LIBRARY, hide_library

E = TypeVar("E", bound=Exception)

_NOT_THE_USERS = (*LIBRARY, os.path.dirname(np.__file__) + os.sep)


class AutobatchError(Exception):
    """Base of all errors that the library raises because of what it was given.

    Its traceback ends at the user's line; with `AUTOBATCH_TRACEBACK=full` in the environment it shows the library, too.

    >>> try:
    ...     ab.ones(2) + ab.ones(3)
    ... except ab.AutobatchError as error:
    ...     print(type(error).__name__)
    OpTypeError
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        hide_library(self, sys._getframe(1))


class OpTypeError(AutobatchError, TypeError, ValueError):
    """Shapes, dtypes or ranks that an op does not take.

    Repair: what the last line of the message says.

    >>> w = ab.ones((4, 2))
    >>> ab.ones(2) @ w
    Traceback (most recent call last):
    autobatch.errors.OpTypeError: matmul: inner sizes differ...
    >>> (ab.ones(2) @ w.T).shape
    (4,)
    """


class OpIndexError(AutobatchError, IndexError):
    """An index outside its axis or table.

    Repair: a vocabulary has a number for what it does not know; make the table one row larger.

    >>> nn.Embedding(3, 2)[3]
    Traceback (most recent call last):
    autobatch.errors.OpIndexError: ...
    """

    node = -1
    """The recorded node that met it, if the one-by-one loop found it, else -1."""


class CellError(AutobatchError, TypeError):
    """Something that is not possible while a cell is traced, such as forcing a value or branching on one.

    Repair: name the number in `@ab.cell(static=...)`, decide with `ab.where`, or leave out the decorator.

    >>> @ab.cell
    ... def positive(x):
    ...     return x if x.sum() > 0 else -x
    >>> positive(ab.ones(2))
    Traceback (most recent call last):
    autobatch.errors.CellError: ...
    >>> @ab.cell
    ... def positive(x):
    ...     return ab.where(x.sum() > 0, x, -x)
    >>> positive(ab.ones(2)).tolist()
    [1.0, 1.0]
    """


class RecordingError(AutobatchError, RuntimeError):
    """A tensor or recording used after it ended, from another thread, or with changed parameters.

    Repair: force it before, return it from `ab.map`, or go on with `x.detach()`.

    >>> w = ab.Parameter([1.0])
    >>> loss = (w * ab.tensor([2.0])).sum()
    >>> loss.backward()
    >>> (loss * 2.0).numpy()
    Traceback (most recent call last):
    autobatch.errors.RecordingError: ...
    >>> float(loss.detach() * 2.0)
    4.0
    """


class NonFiniteError(AutobatchError, FloatingPointError):
    """The first NaN or infinity under `autobatch.check_finite`.

    >>> with ab.check_finite():
    ...     float(ab.log(ab.tensor(-1.0)))
    Traceback (most recent call last):
    autobatch.errors.NonFiniteError: ...
    """


class BackendError(AutobatchError, RuntimeError):
    """A backend that is unknown, missing, or not where the operands live.

    >>> ab.set_backend("abacus")
    Traceback (most recent call last):
    autobatch.errors.BackendError: ...
    """


class DeviceMemoryError(AutobatchError, MemoryError):
    """A device is out of memory for a recording; its memory is released, and smaller recordings still run.

    Repair: smaller minibatches, or `ab.map(..., at_once=n)`.

    >>> issubclass(ab.errors.DeviceMemoryError, MemoryError)
    True
    """


class MissingExtraError(AutobatchError, ImportError):
    """An optional package is needed; the message names the extra that brings it.

    >>> issubclass(ab.errors.MissingExtraError, ImportError)
    True
    """


class CacheWarning(UserWarning):
    """The kernel cache on disk cannot be used as it is; what is compiled is right, but it may be compiled again.

    >>> import warnings
    >>> warnings.filterwarnings("ignore", category=ab.errors.CacheWarning)
    >>> warnings.filters.pop(0)[0]
    'ignore'
    """


class CompilerBug(Exception):
    """A bug of the library: an invariant between two stages is violated.

    Please report it, with the message. `batched=False` and `ab.set_backend("numpy")` are ways around most.

    >>> issubclass(ab.errors.CompilerBug, ab.AutobatchError)
    False
    """


def message(what: str, *, expected: str = "", got: str = "", where: str = "", repair: str = "") -> str:
    """Format the parts of an error; empty parts are left out.

    >>> print(message("matmul: inner sizes differ", expected="f[n, m] @ f[m]", got="f32[7, 64] @ f32[32]"))
    matmul: inner sizes differ
      expected f[n, m] @ f[m], got f32[7, 64] @ f32[32]
    """
    lines = [what]
    wanted = ", ".join(part for part in (expected and f"expected {expected}", got and f"got {got}") if part)
    lines += [
        f"  {part}" for part in (wanted, where and f"recorded at {where}", repair and f"repair: {repair}") if part
    ]
    return "\n".join(lines)


def user_line() -> str:
    """`file:line in function` of the innermost frame outside the library, or an empty string."""
    return line_of(*user_place())


def user_place() -> tuple[CodeType | None, int]:
    """Code object and instruction of the innermost frame outside the library and NumPy."""
    frame = users_frame(sys._getframe(1))
    return (None, 0) if frame is None else (frame.f_code, frame.f_lasti)


def users_frame(frame: FrameType | None) -> FrameType | None:
    """The innermost frame outside the library and NumPy from this one outwards, through the greenlets that wait for
    this one."""
    running = getcurrent()
    while True:
        while frame is not None:
            if not of_library[frame.f_code.co_filename]:
                return frame
            frame = frame.f_back
        outer = getattr(running, "caller", None) or running.parent
        if outer is None:
            return None
        running, frame = outer, outer.gr_frame


class _OfLibrary(dict[str, bool]):
    def __missing__(self, file: str) -> bool:
        self[file] = found = file.startswith(_NOT_THE_USERS)
        return found


of_library = _OfLibrary()
"""Whether a file is of the library or of NumPy."""


def line_of(code: CodeType | None, instruction: int) -> str:
    """Resolve a code object and instruction offset, kept while recording, to `file:line in function`."""
    if code is None:
        return ""
    return f"{_short_name(code.co_filename)}:{line_number(code, instruction)} in {code.co_name}"


def line_number(code: CodeType, instruction: int) -> int:
    """The line of an instruction."""
    for start, end, number in code.co_lines():
        if start <= instruction < end and number is not None:
            return number
    return code.co_firstlineno


def _short_name(file: str) -> str:
    """The last part of a path; of a cell of a notebook its number, such as `In [5]`."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    named = None if shell is None else shell.compile.format_code_name(file)
    return os.path.basename(file) if named is None else named[1].replace("[", " [")


def user_error(kind: type[E], what: str, *, expected: str = "", got: str = "", repair: str = "") -> E:
    """An error at the user's current line."""
    return kind(message(what, expected=expected, got=got, where=user_line(), repair=repair))


class _Readable(str):
    """A text that KeyError, which shows the `repr` of what it is given, shows as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def key_error(what: str, *, expected: str = "", got: str = "", repair: str = "") -> KeyError:
    """A KeyError whose message is shown in lines.

    >>> print(key_error("history: there is no such name", expected="loss", got="los"))
    history: there is no such name
      expected loss, got los
    """
    return KeyError(_Readable(message(what, expected=expected, got=got, repair=repair)))


def op_error(op: str, what: str, *, expected: str = "", got: str = "", repair: str = "") -> OpTypeError:
    """An `OpTypeError` of an op at the user's current line."""
    return user_error(OpTypeError, f"{op}: {what}", expected=expected, got=got, repair=repair)
