"""Sentences of files with one word a line and an empty line between sentences: columns of any kind, and CoNLL-U."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .files import DataFormatError, numbered_lines

__all__ = ["ConlluSentence", "ConlluToken", "read_columns", "read_conllu"]


def read_columns(
    path: str | os.PathLike[str], separator: str | None = None, skip: str = "-DOCSTART-"
) -> Iterator[tuple[tuple[str, ...], ...]]:
    """Read the sentences of a column file, such as CoNLL-2003's: of each its columns, words and tags, say.

    Arguments:
        path: the file, plain, .gz or .xz.
        separator: between two columns; any blanks where it is None.
        skip: lines that begin with it are as empty ones.

    Raises DataFormatError where a line has more or fewer columns than the one before it; OSError.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "words.txt")
    ...     _ = path.write_text("Ann B-PER\\nsleeps O\\n\\nYes O\\n")
    ...     sentences = list(read_columns(path))
    >>> words, tags = sentences[0]
    >>> words, tags, len(sentences)
    (('Ann', 'sleeps'), ('B-PER', 'O'), 2)
    """
    rows: list[list[str]] = []
    n_columns = 0
    for number, line in numbered_lines(path, "read_columns"):
        if not line.strip() or (skip and line.startswith(skip)):
            if rows:
                yield tuple(zip(*rows, strict=True))
            rows = []
            continue
        row = line.split(separator)
        if n_columns and len(row) != n_columns:
            raise DataFormatError("read_columns", str(path), number, f"{n_columns} columns", f"{len(row)}: {line!r}")
        n_columns = len(row)
        rows.append(row)
    if rows:
        yield tuple(zip(*rows, strict=True))


class ConlluToken(NamedTuple):
    """A word of CoNLL-U, with the names of its columns; `id` and `head` are numbers, head 0 is the root. An empty
    column, written `_`, is an empty string, as head -1.

    >>> ab.data.ConlluToken(1, "Cats", "cat", "NOUN", "", "", 2, "nsubj", "", "").head
    2
    """

    id: int
    form: str
    lemma: str
    upos: str
    xpos: str
    feats: str
    head: int
    deprel: str
    deps: str
    misc: str


@dataclass(frozen=True, slots=True)
class ConlluSentence:
    """A sentence.

    Attributes:
        tokens: its words, numbered from 1 in this order.
        metadata: what stands in its comments as `name = value`, such as `text`.

    >>> token = ab.data.ConlluToken(1, "Go", "go", "VERB", "", "", 0, "root", "", "")
    >>> ab.data.ConlluSentence((token,), {"text": "Go"}).tokens[0].form
    'Go'
    """

    tokens: tuple[ConlluToken, ...]
    metadata: dict[str, str]

    def column(self, name: str) -> tuple[str | int, ...]:
        """One column: of each word its `form`, say."""
        return tuple(getattr(token, name) for token in self.tokens)

    def __len__(self) -> int:
        return len(self.tokens)


def read_conllu(path: str | os.PathLike[str]) -> Iterator[ConlluSentence]:
    """Read the sentences of a CoNLL-U file at `path` (Nivre et al., "Universal Dependencies v2", 2020), plain, .gz or
    .xz. Ranges of words (`1-2`) and empty nodes (`1.1`) are left out.

    Raises DataFormatError for lines without ten columns, numbers that do not count up, and heads outside of the
    sentence; OSError.

    >>> import pathlib, tempfile
    >>> lines = ["# text = It rains", "1 It it PRON _ _ 2 expl _ _", "2 rains rain VERB _ _ 0 root _ _"]
    >>> text = "\\n".join([lines[0], *(line.replace(" ", "\\t") for line in lines[1:])])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "words.conllu")
    ...     _ = path.write_text(text)
    ...     [sentence] = read_conllu(path)
    >>> sentence.column("form"), sentence.column("head"), sentence.metadata
    (('It', 'rains'), (2, 0), {'text': 'It rains'})
    """
    tokens: list[ConlluToken] = []
    metadata: dict[str, str] = {}
    first = number = 0
    for number, line in numbered_lines(path, "read_conllu"):
        if not line.strip():
            if tokens:
                yield _sentence(tokens, metadata, str(path), first)
            tokens, metadata = [], {}
        elif line.startswith("#"):
            name, _, value = line[1:].partition("=")
            metadata[name.strip()] = value.strip()
        else:
            first = first if tokens else number
            token = _token(line, len(tokens) + 1, str(path), number)
            if token is not None:
                tokens.append(token)
    if tokens:
        yield _sentence(tokens, metadata, str(path), first)


def _token(line: str, wanted: int, source: str, number: int) -> ConlluToken | None:
    columns = line.split("\t")
    if len(columns) != 10:
        repair = "separate the columns by tabs"
        raise DataFormatError("read_conllu", source, number, "10 columns", f"{len(columns)}: {line!r}", repair)
    id, form, lemma, upos, xpos, feats, head, deprel, deps, misc = columns
    if "-" in id or "." in id:
        return None
    if id != str(wanted):
        raise DataFormatError("read_conllu", source, number, f"word {wanted}", f"{id!r}")
    if head != "_" and not (head.isascii() and head.isdigit()):
        raise DataFormatError("read_conllu", source, number, "the number of a head, or _", f"{head!r}")
    others = ("" if text == "_" else text for text in (upos, xpos, feats, deprel, deps, misc))
    upos, xpos, feats, deprel, deps, misc = others
    lemma = "" if lemma == "_" and form != "_" else lemma
    return ConlluToken(wanted, form, lemma, upos, xpos, feats, -1 if head == "_" else int(head), deprel, deps, misc)


def _sentence(tokens: list[ConlluToken], metadata: dict[str, str], source: str, first: int) -> ConlluSentence:
    for k, token in enumerate(tokens):
        if token.head > len(tokens):
            expected, got = f"a head from 0 to {len(tokens)}", f"{token.head} of word {token.id}"
            raise DataFormatError("read_conllu", source, first + k, expected, got)
    return ConlluSentence(tuple(tokens), metadata)
