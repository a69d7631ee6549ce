"""Reading bracketed trees: what is accepted, and how what is not is named."""

from __future__ import annotations

import gzip
import lzma
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from autobatch.data import Tree, TreeFormatError, parse_trees, read_trees

# Where data sets are that the project does not bring along; tests that need one are skipped without it.
DATA = Path(os.environ.get("AUTOBATCH_DATA") or Path(__file__).parents[2].parent / "shared" / "data")

TEXT = "(3 (2 good) (2 film))\n(1 dull)\n"
TREES = [Tree(3, None, [Tree(2, "good"), Tree(2, "film")]), Tree(1, "dull")]


def parse(text: str, **options: Any) -> list[Tree]:
    return list(parse_trees(text.splitlines(keepends=True), **options))


@pytest.mark.parametrize(("suffix", "opener"), [(".txt", open), (".txt.gz", gzip.open), (".xz", lzma.open)])
def test_plain_and_compressed_files_hold_the_same_trees(tmp_path: Path, suffix: Any, opener: Any) -> None:
    path = tmp_path / f"trees{suffix}"
    with opener(path, "wb") as file:
        file.write(TEXT.encode())
    assert list(read_trees(path)) == TREES
    assert list(read_trees(str(path))) == TREES


def test_trees_come_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "trees.txt"
    path.write_text(TEXT + "broken")
    reader = read_trees(path)
    assert [next(reader), next(reader)] == TREES
    with pytest.raises(TreeFormatError):
        next(reader)


@pytest.mark.parametrize("text", ["", "\n", "  \n\t\r\n"])
def test_a_file_without_trees_gives_none(text: Any) -> None:
    assert parse(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "(3 (2 good) (2 film)) (1 dull)",
        "(3(2 good)(2 film))(1 dull)",
        "  ( 3 ( 2\tgood ) (2 film ) )\r\n\r\n(1 dull)\r\n",
        "(3\n  (2 good)\n  (2 film)\n)\n(1\n dull\n )",
        "(3 (2 good)\n   (2 film))\n(1 dull)",
    ],
)
def test_blanks_and_line_ends_are_free_where_further_lines_are_indented(text: Any) -> None:
    assert parse(text) == TREES


@pytest.mark.parametrize("blank", ["\u00a0", "\u2028", "\u0085", "\x0b", "\x0c", "\x1c", "\u3000"])
def test_words_end_at_ascii_blanks_and_brackets_only(tmp_path: Path, blank: Any) -> None:
    path = tmp_path / "trees.txt"
    path.write_bytes(f"(2 8{blank}1\\/2)\n(1 a)\n".encode())
    assert [tree.word for tree in read_trees(path)] == [f"8{blank}1\\/2", "a"]


def test_a_node_may_have_any_number_of_children() -> None:
    (tree,) = parse("(0 (1 (2 a)) (1 (2 b) (2 c) (2 d)))")
    assert [len(node.children) for node in tree] == [0, 1, 0, 0, 0, 3, 2]


def test_labels_are_made_by_the_given_function() -> None:
    (tree,) = parse("( (S (NP (DT the) (NN cat))\n     (VP sat)))", label=str)
    assert [node.label for node in tree] == ["DT", "NN", "NP", "VP", "S", ""]


# Text, line and column of the fault, what was expected, what came.
MALFORMED = [
    ("(3 (2 good) (2 old film))", 1, 20, '")"', '"film"'),
    ("(3 (2 a) b)", 1, 10, '"(" or ")"', '"b"'),
    ("(2 a (1 b))", 1, 6, '")"', '"("'),
    ("(2 a(1 b))", 1, 5, '")"', '"("'),
    ("(2 a)\nword", 2, 1, '"("', '"word"'),
    ("(2 a) )", 1, 7, '"("', '")"'),
    ("(2)", 1, 3, 'a word or "("', '")"'),
    ("(3 (2 a) (2 ))", 1, 13, 'a word or "("', '")"'),
    ("()", 1, 2, "a label", '")"'),
    ("(x a)", 1, 2, "a label", '"x"'),
    ("(-1 a)", 1, 2, "a label", '"-1"'),
    ("(\u0663 a)", 1, 2, "a label", '"\u0663"'),
    ("( (1 b))", 1, 3, "a label", '"("'),
    ("(", 1, 2, "a label", "the end of the line"),
    ("(2 (1 a)", 1, 9, '")" for the bracket opened at line 1, column 1', "the end of the file"),
    ("(3 (2 a)\n\n  (2 b", 3, 7, '")" for the bracket opened at line 3, column 3', "the end of the file"),
    ("(2 a)\n(2 (1 a) (1 b)\n(3 c)", 2, 15, '")" for the bracket opened at line 2, column 1', "the next tree"),
]


@pytest.mark.parametrize(("text", "line", "column", "expected", "got"), MALFORMED)
def test_malformed_trees_are_named_by_file_line_and_column(
    tmp_path: Path, text: Any, line: Any, column: Any, expected: Any, got: Any
) -> None:
    path = tmp_path / "trees.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TreeFormatError) as caught:
        list(read_trees(path))
    error = caught.value
    assert (error.source, error.line, error.column) == (str(path), line, column)
    first, second, third = str(error).splitlines()
    assert first == f"read_trees: malformed tree in {path}, line {line}, column {column}"
    assert second.startswith(f"  expected {expected}, got {got}")
    assert third.startswith("  repair: ")


def test_the_error_is_a_value_error_that_can_be_pickled() -> None:
    with pytest.raises(ValueError, match="malformed tree in <text>, line 1, column 4") as caught:
        parse("(2 )")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.line, copy.column) == (str(caught.value), 1, 4)


def test_bytes_that_are_not_utf8_are_named_by_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "trees.txt"
    path.write_bytes("(1 a)\n(2 é ".encode() + b"\xff)")
    with pytest.raises(TreeFormatError, match="line 2, column 6\n  expected UTF-8 text, got byte 0xff"):
        list(read_trees(path))


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
@pytest.mark.parametrize("fault", ["cut short", "not compressed"])
def test_files_that_are_not_what_their_suffix_says(tmp_path: Path, suffix: Any, fault: Any) -> None:
    path = tmp_path / f"trees{suffix}"
    compressed = {".gz": gzip.compress, ".xz": lzma.compress}[suffix](TEXT.encode() * 100)
    path.write_bytes(compressed[:-20] if fault == "cut short" else TEXT.encode())
    with pytest.raises(TreeFormatError, match="expected compressed data as the file's suffix says"):
        list(read_trees(path))


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "trees.txt"
    path.write_text("(1 a)\n", "utf-8-sig")
    assert [str(tree) for tree in read_trees(path)] == ["(1 a)"]


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_trees(tmp_path / "none.txt"))


@pytest.mark.skipif(not (DATA / "sst").is_dir(), reason="the Stanford Sentiment Treebank is not here")
@pytest.mark.parametrize(("split", "n_trees"), [("dev", 1101), ("test", 2210)])
def test_the_stanford_sentiment_treebank_reads_back_to_the_byte(split: Any, n_trees: Any) -> None:
    (path,) = (DATA / "sst").glob(f"{split}.txt*")
    trees = list(read_trees(path))
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    with opener(path, "rb") as file:
        assert "".join(f"{tree}\n" for tree in trees).encode() == file.read()
    assert len(trees) == n_trees
    assert all(len(node.children) in (0, 2) and 0 <= node.label < 5 for tree in trees for node in tree)
