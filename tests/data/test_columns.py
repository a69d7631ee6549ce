"""Column files and CoNLL-U."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import pytest

from autobatch.data import DataFormatError, read_columns, read_conllu

CONLLU = """\
# sent_id = 1
# text = Don't go!
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\tVB\tMood=Imp\t3\taux\t_\t_
2\tn't\tnot\tPART\t_\t_\t3\tadvmod\t_\t_
3\tgo\tgo\tVERB\t_\t_\t0\troot\t_\tSpaceAfter=No
3.1\tnow\tnow\t_\t_\t_\t_\t_\t_\t_
4\t!\t!\tPUNCT\t_\t_\t3\tpunct\t_\t_

1\t_\t_\tPUNCT\t_\t_\t_\t_\t_\t_
"""


def test_sentences_of_conllu(tmp_path: Path) -> None:
    path = tmp_path / "words.conllu.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write(CONLLU)
    first, second = read_conllu(path)
    assert first.metadata == {"sent_id": "1", "text": "Don't go!"}
    assert first.column("form") == ("Do", "n't", "go", "!")
    assert first.column("head") == (3, 3, 0, 3)
    assert first.column("xpos") == ("VB", "", "", "") and first.tokens[2].misc == "SpaceAfter=No"
    assert first.column("id") == (1, 2, 3, 4)
    assert len(second) == 1 and second.tokens[0].form == second.tokens[0].lemma == "_" and second.tokens[0].head == -1


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("2\tn't", "5\tn't", "line 5 in .*\n  expected word 2, got '5'"),
        (
            "\t3\taux",
            " 3\taux",
            "line 4 in .*\n  expected 10 columns, got 9: .*\n  repair: separate the columns by tabs",
        ),
        ("\t0\troot", "\tx\troot", "line 6 in .*\n  expected the number of a head, or _, got 'x'"),
        ("\t0\troot", "\t7\troot", "expected a head from 0 to 4, got 7 of word 3"),
    ],
)
def test_a_malformed_line_of_conllu_is_named(old: str, new: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "words.conllu"
    path.write_text(CONLLU.replace(old, new), "utf-8")
    with pytest.raises(DataFormatError, match=problem) as caught:
        list(read_conllu(path))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert caught.value.source == str(path)


def test_columns_of_sentences(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("-DOCSTART- O\n\nAnn  B-PER\nsleeps O\n   \n\nno\u00a0break O\r\n", "utf-8")
    with pytest.raises(DataFormatError, match=r"line 7 in .*\n  expected 2 columns, got 3"):
        list(read_columns(path))
    path.write_text("-DOCSTART- O\n\nAnn\tB-PER\nsleeps\tO\n   \n\nno\u00a0break\tO\r\n", "utf-8")
    assert list(read_columns(path, separator="\t")) == [
        (("Ann", "sleeps"), ("B-PER", "O")),
        (("no\u00a0break",), ("O",)),
    ]
    path.write_text("", "utf-8")
    assert list(read_columns(path)) == []


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(b"Ann O\n\xff O\n")
    with pytest.raises(DataFormatError, match=r"line 2 in .*\n  expected UTF-8 text, got byte 0xff"):
        list(read_columns(path))
    path = tmp_path / "words.txt.gz"
    path.write_bytes(b"Ann O\n")
    with pytest.raises(DataFormatError, match="expected compressed data as the file's suffix says"):
        list(read_columns(path))
