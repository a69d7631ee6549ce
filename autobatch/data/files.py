"""Lines of text files, plain or compressed, and the error that names one."""

from __future__ import annotations

import gzip
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..base.errors import AutobatchError, message

__all__ = ["DataFormatError", "lines_of", "numbered_lines"]


class DataFormatError(AutobatchError, ValueError):
    """A file is not in the format of its reader. Names the file and the line, what was expected and what came.

    Attributes:
        source: name of the file.
        line: where, counted from 1.

    >>> issubclass(ab.data.DataFormatError, ValueError)
    True
    """

    def __init__(self, reader: str, source: str, line: int, expected: str, got: str, repair: str = "") -> None:
        what = f"{reader}: malformed line {line} in {source}"
        super().__init__(message(what, expected=expected, got=got, repair=repair))
        self.source, self.line = source, line

    def __reduce__(self) -> tuple[Any, ...]:
        return _same_error, (self.args[0], self.source, self.line)


def _same_error(text: str, source: str, line: int) -> DataFormatError:
    error = DataFormatError("", source, line, "", "")
    error.args = (text,)
    return error


Fault = Callable[[int, int, str, str, str], Exception]
"""(line, column, what was expected, what came, repair) → the error to raise."""


def lines_of(path: str | os.PathLike[str], fault: Fault) -> Iterator[str]:
    """The lines of a file in UTF-8, plain, .gz or .xz, with their ends, without a byte order mark.

    Raises `fault(...)` for bytes that are not UTF-8, or not what the suffix says; OSError.
    """
    openers: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}
    number = 0
    with openers.get(Path(path).suffix, open)(path, "rb") as file:
        try:
            for line in file:
                number += 1
                yield line.decode("utf-8").removeprefix("\ufeff" if number == 1 else "")
        except UnicodeDecodeError as error:
            column = 1 + len(error.object[: error.start].decode("utf-8"))
            got = f"byte 0x{error.object[error.start]:02x}"
            raise fault(number, column, "UTF-8 text", got, "convert the file to UTF-8") from error
        except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
            expected, repair = "compressed data as the file's suffix says", "fetch the file again, or rename it"
            raise fault(number + 1, 1, expected, str(error), repair) from error


def numbered_lines(path: str | os.PathLike[str], reader: str) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each line of a file, as `lines_of`, without the line's end.

    Raises DataFormatError in the name of this reader.
    """

    def fault(line: int, column: int, expected: str, got: str, repair: str) -> Exception:
        return DataFormatError(reader, str(path), line, expected, got, repair)

    for number, line in enumerate(lines_of(path, fault), start=1):
        yield number, line.rstrip("\r\n")
