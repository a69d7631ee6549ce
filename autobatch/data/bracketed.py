"""Trees in brackets, `(label child child)` and `(label word)`, as in the Penn and the Stanford Sentiment Treebanks.

Input: a text file, plain or compressed (.gz, .xz), UTF-8. Output: `Tree`s, one after the other; no more than one line
and one tree are held. Words and labels end at ASCII blanks and brackets only: a no-break space belongs to its word.
Brackets within the text are written -LRB- and -RRB-. A tree may go over several lines if its further lines are
indented. O(length).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

from ..base.errors import AutobatchError, message
from .files import lines_of
from .trees import Tree

__all__ = ["TreeFormatError", "class_label", "parse_trees", "read_trees"]

# An opening bracket with its label and, if the node is a whole leaf, its word; a closing bracket; a word by itself.
_TOKEN = re.compile(r"\([ \t\r\n]*([^ \t\r\n()]*)(?:[ \t\r\n]+([^ \t\r\n()]+)[ \t\r\n]*(\)))?|(\))|([^ \t\r\n()]+)")
_TEXT, _LEAF, _WORD = 1, 3, 5


class TreeFormatError(AutobatchError, ValueError):
    """A tree in a file is malformed. Names the file, the line and the column, what was expected and what came.

    Attributes:
        source: name of the file.
        line, column: where, both counted from 1, columns in characters.

    >>> try:
    ...     list(parse_trees(["(3 (2 good) (2 old film))"]))
    ... except TreeFormatError as error:
    ...     print(error)
    read_trees: malformed tree in <text>, line 1, column 20
      expected ")", got "film"
      repair: a leaf is written (label word), with one word
    """

    def __init__(self, source: str, line: int, column: int, expected: str, got: str, repair: str) -> None:
        super().__init__(
            message(
                f"read_trees: malformed tree in {source}, line {line}, column {column}",
                expected=expected,
                got=got,
                repair=repair,
            )
        )
        self.source, self.line, self.column = source, line, column

    def __reduce__(self) -> tuple[Any, ...]:
        return _same_error, (self.args[0], self.source, self.line, self.column)


def _same_error(message: str, source: str, line: int, column: int) -> TreeFormatError:
    error = TreeFormatError(source, line, column, "", "", "")
    error.args = (message,)
    return error


def class_label(text: str) -> int:
    """The label of a tree as the number of a class: digits only. ValueError for any other text.

    >>> class_label("3")
    3
    """
    if not (text.isascii() and text.isdigit()):
        raise ValueError("a class label is written in digits, as in (3 (2 good) (2 film))")
    return int(text)


def read_trees(path: str | os.PathLike[str], label: Callable[[str], Any] = class_label) -> Iterator[Tree]:
    """Read the bracketed trees of a file, plain, .gz or .xz, one at a time.

    Arguments:
        path: the file; its last suffix says whether and how it is compressed.
        label: makes a label of its text, raising ValueError if it cannot. For grammatical labels pass `str`; it also
            takes the empty label of the outer bracket in the Penn Treebank, `( (S ...))`.

    Raises:
        TreeFormatError: a malformed tree, or bytes that are not UTF-8 or not what the suffix says.
        OSError: the file cannot be opened or read.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "trees.txt")
    ...     _ = path.write_text("(3 (2 good) (2 film))\\n(1 dull)\\n")
    ...     trees = list(read_trees(path))
    >>> [tree.label for tree in trees], trees[0].right.word
    ([3, 1], 'film')
    """
    lines = lines_of(path, lambda *where_and_what: TreeFormatError(str(path), *where_and_what))
    yield from parse_trees(lines, label, source=str(path))


def parse_trees(
    lines: Iterable[str], label: Callable[[str], Any] = class_label, source: str = "<text>"
) -> Iterator[Tree]:
    """The bracketed trees of `lines`, which come from `source` if an error must name it; else as `read_trees`.

    >>> [tree.n_nodes for tree in parse_trees(["(3 (2 good) (2 film))", "(1 dull)"])]
    [3, 1]
    """
    reader = _Reader(label, source)
    for number, line in enumerate(lines, start=1):
        yield from reader.read_line(number, line)
    reader.end()


class _Open:
    """A bracket that is open: what its node holds so far."""

    __slots__ = ("children", "column", "label", "line", "word")

    def __init__(self, label: Any, line: int, column: int) -> None:
        self.label, self.line, self.column = label, line, column
        self.word: str | None = None
        self.children: list[Tree] = []


class _Reader:
    """The brackets open at this point, outermost first, and where the last line with text ended."""

    def __init__(self, label: Callable[[str], Any], source: str) -> None:
        self._label, self._source = label, source
        self._labels: dict[str, Any] = {}
        self._open: list[_Open] = []
        self._last_end = (1, 1)

    def read_line(self, number: int, line: str) -> Iterator[Tree]:
        opened, labels = self._open, self._labels
        if opened and line.startswith("("):
            self.end("the next tree, at the start of a line")
        kind, end = None, 0
        for token in _TOKEN.finditer(line):
            kind, end = token.lastindex, token.end()
            if kind in (_TEXT, _LEAF):
                text, word = token.group(1, 2)
                if opened and opened[-1].word is not None:
                    self._fail(number, token.start(), '")"', '"("', "a node has one word or children, not both")
                if text in labels:
                    made = labels[text]
                else:
                    made = labels[text] = self._made_label(number, token, text)
                if kind == _TEXT:
                    opened.append(_Open(made, number, token.start() + 1))
                    continue
                tree = Tree(made, word)
            elif kind == _WORD:
                self._take_word(number, token)
                continue
            else:
                tree = self._close(number, token)
            if opened:
                opened[-1].children.append(tree)
            else:
                yield tree
        if kind is not None:
            self._last_end = (number, end + 1)

    def end(self, got: str = "the end of the file") -> None:
        """There is nothing more for the tree that is being read: an error unless all brackets are closed."""
        if self._open:
            last = self._open[-1]
            expected = f'")" for the bracket opened at line {last.line}, column {last.column}'
            line, column = self._last_end
            repair = "close every bracket; indent the further lines of a tree"
            raise TreeFormatError(self._source, line, column, expected, got, repair)

    def _made_label(self, number: int, token: re.Match[str], text: str) -> Any:
        try:
            return self._label(text)
        except ValueError as error:
            start = token.start(1)
            came = text or token.string[start:].strip()[:1]
            self._fail(number, start, "a label", f'"{came}"' if came else "the end of the line", str(error))

    def _take_word(self, number: int, token: re.Match[str]) -> None:
        node, got = (self._open[-1] if self._open else None), f'"{token.group()}"'
        if node is None:
            self._fail(number, token.start(), '"("', got, "every tree stands in brackets")
        if node.children:
            self._fail(number, token.start(), '"(" or ")"', got, "a node has one word or children, not both")
        if node.word is not None:
            self._fail(number, token.start(), '")"', got, "a leaf is written (label word), with one word")
        node.word = token.group()

    def _close(self, number: int, token: re.Match[str]) -> Tree:
        if not self._open:
            self._fail(number, token.start(), '"("', '")"', "remove the bracket, or open it")
        node = self._open.pop()
        if node.word is None and not node.children:
            self._fail(number, token.start(), 'a word or "("', '")"', "a leaf is written (label word), with one word")
        return Tree(node.label, node.word, node.children)

    def _fail(self, number: int, start: int, expected: str, got: str, repair: str) -> NoReturn:
        raise TreeFormatError(self._source, number, start + 1, expected, got, repair)
